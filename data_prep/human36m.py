"""Human3.6M, or any other set in VideoPose3D's npz layout, -> sequence records.

Layout: docs/methods/lifting.md#human36m.
"""

import dataclasses
import os
import re
import sys
from typing import Any

import numpy as np

from data_prep import cameras, npz, records
from data_prep.cameras import Camera
from data_prep.takes import Takes2D, Takes3D, read_detections, read_positions
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.untrusted.documents import load_json

H36M = "h36m"
H36M_SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
H36M_TEST_SUBJECTS = ("S9", "S11")
# The mocap of this take is corrupt; everybody leaves it out (VideoPose3D, prepare_data_h36m.py).
H36M_CORRUPT_TAKE = ("S11", "Directions")
# Detectors are wrong by about 0.01 of the picture's width, cameras in the wrong order by far more than this.
MISFIT = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """One camera view of one take: `keypoints_2d` `[F, J, 2]` pixels or None (then projected), `pose_world` `[F, J, 3]` metres."""

    subject: str
    take: str
    index: int
    fps: float
    keypoints_2d: np.ndarray | None
    pose_world: np.ndarray
    camera: Camera

    @property
    def frames(self) -> int:
        return len(self.pose_world)


@dataclasses.dataclass(frozen=True)
class _Source:
    """The files of one conversion."""

    name: str
    positions: str
    keypoints: str | None  # None: no file, the projections are computed
    cameras: str
    test_subjects: tuple[str, ...] | None


def convert(
    source: str, out: str, keypoints: str, cameras_file: str | None, test_subjects: tuple[str, ...] | None, fps: float, workers: int
) -> records.Summary:
    """Converts `data_3d_<name>.npz` and `data_2d_<name>_<keypoints>.npz` of a folder.

    Args:
      source: the folder.
      out: folder for the records.
      keypoints: detector name in the 2D file's name; "gt" is computed from the 3D if it has no file.
      cameras_file: camera table; None: Human3.6M's own, or `cameras.json` in `source` for another set.
      test_subjects: None: S9 and S11 for Human3.6M, or those that `meta.json` in `source` names for another set.
      fps: frames per second of the files.
      workers: processes.

    Returns:
      The summary.

    Raises:
      UserError: a file is missing or wrong, or `out` cannot be used.
    """
    files = _find_files(source, keypoints, cameras_file, test_subjects)
    paths = [path for path in (files.positions, files.keypoints, files.cameras) if path is not None]
    sources = {os.path.basename(path): records.sha256(path) for path in paths}
    settings = {
        "name": files.name, "keypoints": keypoints, "fps": fps,
        "test_subjects": None if files.test_subjects is None else list(files.test_subjects),
    }
    return records.write_recordset(out, schema.SEQUENCES, sources, settings, lambda: _load(files, keypoints, fps), workers)


def _find_files(source: str, keypoints: str, cameras_file: str | None, test_subjects: tuple[str, ...] | None) -> _Source:
    """Finds the input files by VideoPose3D's names."""
    if not os.path.isdir(source):
        raise UserError(f"--source '{source}' is not a folder: give the folder that holds data_3d_h36m.npz.")
    found = [name for name in sorted(os.listdir(source)) if re.fullmatch(r"data_3d_\w+\.npz", name)]
    if len(found) > 1:
        raise UserError(f"'{source}' holds {' and '.join(found)}: keep one data set per folder.")
    name = found[0][len("data_3d_"):-len(".npz")] if found else H36M
    expected = [f"data_3d_{name}.npz", f"data_2d_{name}_{keypoints}.npz"]
    positions, detections = (os.path.join(source, file) for file in expected)
    npz.require_file(positions, expected)
    if not os.path.isfile(detections):
        others = [file for file in sorted(os.listdir(source)) if file.startswith(f"data_2d_{name}_")]
        if keypoints != "gt":
            raise UserError(
                f"'{detections}' does not exist; expected in '{source}': {', '.join(expected)}; the 2D files there are "
                f"{', '.join(others) or 'none'}: put the file there, or choose with --keypoints NAME (gt needs no file)."
            )
        detections = None
    if cameras_file is None:
        own = os.path.join(source, "cameras.json")
        cameras_file = cameras.H36M_TABLE if name == H36M else own
        if not os.path.isfile(cameras_file):
            raise UserError(f"'{own}' does not exist: data set '{name}' needs its own camera table, there or as --cameras FILE.")
    elif not os.path.isfile(cameras_file):
        raise UserError(f"--cameras '{cameras_file}' does not exist: give a JSON file (its layout: data_prep/cameras.py).")
    if test_subjects is None:
        test_subjects = H36M_TEST_SUBJECTS if name == H36M else _test_subjects_of_meta(os.path.join(source, "meta.json"))
    return _Source(name, positions, detections, cameras_file, test_subjects)


def _test_subjects_of_meta(path: str) -> tuple[str, ...] | None:
    """The test subjects that a `meta.json` names: `test_subjects`, or `subjects` with a `split` each; None if there is no such file."""
    if not os.path.isfile(path):
        return None
    try:
        meta = load_json(path)
        if "test_subjects" in meta:
            return tuple(str(subject) for subject in meta["test_subjects"])
        return tuple(subject for subject, entry in meta["subjects"].items() if entry["split"] == "test")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"'{path}' names no test subjects ({type(error).__name__}: {error}): give --test-subjects S1,S2.") from error


def _load(files: _Source, keypoints: str, fps: float) -> records.Recordset:
    """Reads the files and pairs every take with its views."""
    poses = read_positions(files.positions)
    left_out = _leave_out(files, poses)
    detections = None if files.keypoints is None else read_detections(files.keypoints)
    tables = cameras.read_cameras(files.cameras)
    test_subjects = _check_test_subjects(files, poses)
    if detections is not None:
        left_out += _check_pairs(files, poses, detections)
    items: dict[str, list[View]] = {split: [] for split in schema.SPLITS}
    for subject in sorted(poses, key=_natural):
        if subject not in tables:
            raise UserError(
                f"Camera table '{files.cameras}' has no cameras for subject '{subject}' (it has {', '.join(tables)}): "
                "give a table with --cameras."
            )
        for take in sorted(poses[subject], key=_natural):
            views = [None] * len(tables[subject]) if detections is None else detections[subject][take]
            items["test" if subject in test_subjects else "train"] += _views(
                files, subject, take, fps, poses[subject][take], views, tables[subject]
            )
    for split, views in items.items():
        if not views:
            raise UserError(
                f"'{files.positions}' leaves no take for the split '{split}' (subjects {', '.join(poses)}; test subjects "
                f"{', '.join(test_subjects)}): give other --test-subjects."
            )
    _warn_of_misfit(files, items)
    return records.Recordset(schema.SEQUENCES, H36M_17.name, keypoints, False, items, make_record, left_out, {"fps": fps}, {})


def _views(
    files: _Source, subject: str, take: str, fps: float, pose: np.ndarray, views: list[np.ndarray | None], table: list[Camera]
) -> list[View]:
    """One take's views, each with its camera and its 2D cut to the mocap's length (the videos run a few frames longer)."""
    place = f"'{files.keypoints}', subject '{subject}', take '{take}'"
    if len(views) != len(table):
        raise UserError(
            f"{place} has {len(views)} views where the camera table '{files.cameras}' has {len(table)} cameras: "
            "give the table of these views with --cameras."
        )
    for index, view in enumerate(views):
        if view is not None and len(view) < len(pose):
            raise UserError(
                f"{place}, camera {index}: {len(view)} frames of 2D for {len(pose)} of 3D, and 2D may not be shorter: "
                "give the files of one release."
            )
    return [
        View(subject, take, index, fps, None if view is None else view[: len(pose)], pose, camera)
        for index, (view, camera) in enumerate(zip(views, table, strict=True))
    ]


def _warn_of_misfit(files: _Source, items: dict[str, list[View]]) -> None:
    """Says so if the 2D of a subject's first take is far from the projected 3D: the camera table is then hardly the right one."""
    checked = set()
    for view in (view for views in items.values() for view in views):
        if view.keypoints_2d is None or (view.subject, view.index) in checked:
            continue
        checked.add((view.subject, view.index))
        part = dataclasses.replace(view, pose_world=view.pose_world[:100], keypoints_2d=None)
        distance = np.linalg.norm(make_record(part)["keypoints_2d"] - view.keypoints_2d[:100], axis=-1)
        if np.median(distance) > MISFIT * view.camera.width:
            print(
                f"warning: subject '{view.subject}', camera {view.index}: the 2D joints are {np.median(distance):.0f} pixels (median) from "
                f"the projected 3D; are the cameras of '{files.cameras}' these, in this order?", file=sys.stderr,
            )
            return


def make_record(view: View) -> dict[str, Any]:
    """View -> record of `schema.sequence_features`: world -> camera metres, projected with distortion if it has no 2D."""
    camera = view.camera
    pose = cameras.world_to_camera(view.pose_world.astype(np.float64), camera.orientation, camera.translation)
    pixels = cameras.project_to_2d(pose, camera.intrinsic) if view.keypoints_2d is None else view.keypoints_2d
    return {
        "subject": view.subject,
        "action": action_of(view.take),
        "take": view.take,
        "camera": view.index,
        "fps": view.fps,
        "width": camera.width,
        "height": camera.height,
        "keypoints_2d": np.ascontiguousarray(pixels, np.float32),
        "pose_3d": pose.astype(np.float32),
        "frame_mask": np.ones(view.frames, np.bool_),
    }


def action_of(take: str) -> str:
    """What scores are averaged over: "Sitting 1" -> "Sitting", "walk_03" -> "walk"."""
    return re.sub(r"_\d+$", "", take.split(" ")[0])


def _leave_out(files: _Source, poses: Takes3D) -> list[str]:
    """Removes Human3.6M's corrupt take from `poses`; returns what is not in the data set, and why."""
    left_out = []
    if files.name == H36M:
        subject, take = H36M_CORRUPT_TAKE
        if subject in poses and poses[subject].pop(take, None) is not None:
            left_out.append(f"{subject} {take}: corrupt take")
        left_out += [f"{subject}: not in {os.path.basename(files.positions)}" for subject in H36M_SUBJECTS if subject not in poses]
    return left_out


def _check_test_subjects(files: _Source, poses: Takes3D) -> tuple[str, ...]:
    """The test subjects, all present; raises UserError if they are unknown."""
    found = ", ".join(sorted(poses, key=_natural))
    if files.test_subjects is None:
        raise UserError(f"Data set '{files.name}' has no split of its own: name its test subjects with --test-subjects (found: {found}).")
    if files.name == H36M and files.test_subjects == H36M_TEST_SUBJECTS:
        return tuple(subject for subject in files.test_subjects if subject in poses)  # a missing one is in left_out
    unknown = [subject for subject in files.test_subjects if subject not in poses]
    if unknown:
        raise UserError(f"Test subject '{unknown[0]}' is not in '{files.positions}' (found: {found}): correct --test-subjects.")
    return files.test_subjects


def _check_pairs(files: _Source, poses: Takes3D, detections: Takes2D) -> list[str]:
    """Raises UserError unless every take in 3D has its 2D; returns what has only 2D."""
    if set(poses) != set(detections):
        raise UserError(
            f"'{files.positions}' and '{files.keypoints}' hold different subjects ({', '.join(sorted(poses, key=_natural))}; "
            f"{', '.join(sorted(detections, key=_natural))}): give the files of one release."
        )
    left_out = []
    for subject in sorted(poses, key=_natural):
        missing = sorted(set(poses[subject]) - set(detections[subject]), key=_natural)
        if missing:
            raise UserError(
                f"'{files.keypoints}' has no 2D of subject '{subject}', take '{missing[0]}', which '{files.positions}' has: "
                "give the files of one release."
            )
        extra = sorted(set(detections[subject]) - set(poses[subject]), key=_natural)
        known = H36M_CORRUPT_TAKE if files.name == H36M else None
        left_out += [f"{subject} {take}: 2D without 3D" for take in extra if (subject, take) != known]
    return left_out


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts S5 before S11."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
