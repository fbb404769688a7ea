"""Converts Human3.6M, or another set in VideoPose3D's npz layout, to sequence records.

Layout: docs/methods/lifting.md#human36m.
"""

import dataclasses
import os
import re
from typing import Any

import numpy as np

from data_prep import cameras, fitting, npz, records
from data_prep.cameras import Camera
from data_prep.takes import Detections, Takes2D, Takes3D, read_detections, read_positions
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.files import sha256
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.untrusted.documents import load_json

H36M = "h36m"
H36M_SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
H36M_TEST_SUBJECTS = ("S9", "S11")
# This take's mocap is corrupt. Everybody leaves it out (VideoPose3D, prepare_data_h36m.py).
H36M_CORRUPT_TAKE = ("S11", "Directions")
# The published numbers: takes per subject, and frames per split in four views (VideoPose3D's and
# everybody's).
H36M_TAKES = {subject: 29 if subject == "S11" else 30 for subject in H36M_SUBJECTS}
H36M_FRAMES = {"train": 1_559_752, "test": 543_344}
# A take's 2D may have this many frames more or less than its 3D, or this share of them, because
# videos run a few frames longer.
SPARE_FRAMES, SPARE_SHARE = 10, 0.05
FPS_RANGE = (1.0, 2000.0)


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Describes one camera's view of one take.

    `keypoints_2d` `[F, J, 2]` pixels or None (then projected), `pose_world` `[F, J, 3]` metres.
    """

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
    """Names the files for one conversion."""

    name: str
    positions: str
    keypoints: str | None  # None if there is no file; projections are then computed
    cameras: str
    test_subjects: tuple[str, ...] | None


def convert(
    source: str,
    out: str,
    keypoints: str,
    cameras_file: str | None,
    test_subjects: tuple[str, ...] | None,
    fps: float,
    workers: int,
) -> records.Summary:
    """Converts a folder with `data_3d_<name>.npz` and `data_2d_<name>_<keypoints>.npz`.

    Args:
      source: the folder.
      out: folder for the records.
      keypoints: the detector in the 2D file's name; "gt" is computed from the 3D if it has no file.
      cameras_file: camera table; None for Human3.6M's own or another set's `cameras.json` in
        `source`.
      test_subjects: names of the test subjects; None for Human3.6M's S9 and S11, or those that
        another set's `meta.json` in `source` names.
      fps: the files' frames per second.
      workers: number of processes.

    Returns:
      The summary.

    Raises:
      UserError: a file is missing or wrong, or `out` cannot be used.
    """
    if not FPS_RANGE[0] <= fps <= FPS_RANGE[1]:  # also refuses NaN
        raise UserError(
            f"--fps is {fps:g}: give the frames per second of the files, from {FPS_RANGE[0]:g} "
            f"to {FPS_RANGE[1]:g}."
        )
    files = _find_files(source, keypoints, cameras_file, test_subjects)
    paths = [path for path in (files.positions, files.keypoints, files.cameras) if path is not None]
    sources = {os.path.basename(path): sha256(path) for path in paths}
    settings = {
        "name": files.name,
        "keypoints": keypoints,
        "fps": fps,
        "test_subjects": None if files.test_subjects is None else list(files.test_subjects),
    }
    return records.write_recordset(
        out, schema.SEQUENCES, sources, settings, lambda: _load(files, keypoints, fps), workers
    )


def _find_files(
    source: str, keypoints: str, cameras_file: str | None, test_subjects: tuple[str, ...] | None
) -> _Source:
    """Finds the input files by VideoPose3D's names."""
    if not os.path.isdir(source):
        raise UserError(
            f"--source '{source}' is not a folder: give the folder that holds data_3d_h36m.npz."
        )
    found = [name for name in sorted(os.listdir(source)) if re.fullmatch(r"data_3d_\w+\.npz", name)]
    if len(found) > 1:
        raise UserError(f"'{source}' holds {' and '.join(found)}: keep one data set per folder.")
    name = found[0][len("data_3d_") : -len(".npz")] if found else H36M
    expected = [f"data_3d_{name}.npz", f"data_2d_{name}_{keypoints}.npz"]
    positions, detections = (os.path.join(source, file) for file in expected)
    npz.require_file(positions, expected)
    if not os.path.isfile(detections):
        others = [
            file for file in sorted(os.listdir(source)) if file.startswith(f"data_2d_{name}_")
        ]
        if keypoints != "gt":
            raise UserError(
                f"'{detections}' does not exist; expected in '{source}': {', '.join(expected)}; "
                f"the 2D files there are {', '.join(others) or 'none'}: put the file there, or "
                "choose with --keypoints NAME (gt needs no file)."
            )
        detections = None
    if cameras_file is None:
        own = os.path.join(source, "cameras.json")
        cameras_file = cameras.H36M_TABLE if name == H36M else own
        if not os.path.isfile(cameras_file):
            raise UserError(
                f"'{own}' does not exist: data set '{name}' needs its own camera table, there or "
                f"as --cameras FILE."
            )
    elif not os.path.isfile(cameras_file):
        raise UserError(
            f"--cameras '{cameras_file}' does not exist: give a JSON file (its layout: "
            f"data_prep/cameras.py)."
        )
    if test_subjects is None:
        test_subjects = (
            H36M_TEST_SUBJECTS
            if name == H36M
            else _test_subjects_of_meta(os.path.join(source, "meta.json"))
        )
    return _Source(name, positions, detections, cameras_file, test_subjects)


def _test_subjects_of_meta(path: str) -> tuple[str, ...] | None:
    """Reads the test subjects that a `meta.json` names; None if there is no such file.

    They are under `test_subjects`, or under `subjects` with a `split` each.
    """
    if not os.path.isfile(path):
        return None
    try:
        meta = load_json(path)
        if "test_subjects" in meta:
            return tuple(str(subject) for subject in meta["test_subjects"])
        return tuple(
            subject for subject, entry in meta["subjects"].items() if entry["split"] == "test"
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"'{path}' names no test subjects ({type(error).__name__}: {error}): give "
            f"--test-subjects S1,S2."
        ) from error


def _load(files: _Source, keypoints: str, fps: float) -> records.Recordset:
    """Reads the files, pairs each take with its views, and checks that they fit."""
    positions = read_positions(files.positions)
    poses, notes = positions.takes, list(positions.notes)
    left_out = _leave_out(files, poses)
    detections = None if files.keypoints is None else read_detections(files.keypoints)
    tables = cameras.read_cameras(files.cameras)
    test_subjects = _check_test_subjects(files, poses)
    if detections is not None:
        left_out += _check_pairs(files, poses, detections.takes)
        notes += detections.notes
    fitting.check_bodies(
        ((subject, pose) for subject, takes in poses.items() for pose in takes.values()),
        f"'{files.positions}'",
    )
    findings = fitting.Findings(f"'{files.keypoints or files.positions}'", f"'{files.cameras}'")
    items: dict[str, list[View]] = {split: [] for split in schema.SPLITS}
    changed: dict[str, list[int]] = {}
    for subject in sorted(poses, key=_natural):
        if subject not in tables:
            raise UserError(
                f"Camera table '{files.cameras}' has no cameras for subject '{subject}' (it has "
                f"{', '.join(tables)}): give a table with --cameras."
            )
        for take in sorted(poses[subject], key=_natural):
            table, pose = tables[subject], poses[subject][take]
            given = [None] * len(table) if detections is None else detections.takes[subject][take]
            views, without = _views(files, subject, take, fps, pose, given, table, changed)
            left_out += without
            items["test" if subject in test_subjects else "train"] += views
            for view in views:
                findings.add(_pair(view, table))
    for split, views in items.items():
        if not views:
            raise UserError(
                f"'{files.positions}' leaves no take for the split '{split}' (subjects "
                f"{', '.join(poses)}; test subjects {', '.join(test_subjects)}): give other "
                "--test-subjects."
            )
    notes += _judge(files, detections, findings)
    notes += [
        f"{what.format(max(frames))} (views: {len(frames):,})" for what, frames in changed.items()
    ]
    notes += _compare_with_release(files, poses, items)
    described = {"fps": fps, "notes": notes}
    return records.Recordset(
        schema.SEQUENCES,
        H36M_17.name,
        keypoints,
        False,
        items,
        make_record,
        left_out,
        described,
        {},
    )


def _views(
    files: _Source,
    subject: str,
    take: str,
    fps: float,
    pose: np.ndarray,
    given: list[np.ndarray | None],
    table: list[Camera],
    changed: dict[str, list[int]],
) -> tuple[list[View], list[str]]:
    """Returns one take's views, and sentences about views without 2D.

    2D and 3D are cut to the shorter one. `changed` gets the number of frames that each view lost.
    """
    place = f"'{files.keypoints}', subject '{subject}', take '{take}'"
    if len(given) != len(table):
        raise UserError(
            f"{place} has {len(given)} views where the camera table '{files.cameras}' has "
            f"{len(table)} cameras: give the table of these views with --cameras."
        )
    if files.keypoints is None:
        return [
            View(subject, take, index, fps, None, pose, camera)
            for index, camera in enumerate(table)
        ], []
    views, without, short = [], [], []
    for index, (view, camera) in enumerate(zip(given, table, strict=True)):
        if view is None:
            without.append(f"{subject} {take} camera {index}: no 2D")
            continue
        more = len(view) - len(pose)
        spare = max(SPARE_FRAMES, int(SPARE_SHARE * len(pose)))
        ratio = len(view) / len(pose)
        if more > spare or ratio > 1.9:
            raise UserError(
                f"{place}, camera {index}: {len(view)} frames of 2D for {len(pose)} of "
                f"3D{_rates(ratio)}."
            )
        if more < -spare or ratio < 0.6:
            short.append(
                f"{place}, camera {index}: {len(view)} frames of 2D for {len(pose)} of "
                f"3D{_rates(ratio)}."
            )
            without.append(
                f"{subject} {take} camera {index}: {len(view)} frames of 2D for {len(pose)} of 3D"
            )
            continue
        frames = min(len(view), len(pose))
        if more:
            which, other = ("2D", "3D") if more > 0 else ("3D", "2D")
            changed.setdefault(
                f"the {which} has up to {{}} frames more than the {other}, which are cut", []
            ).append(abs(more))
        views.append(View(subject, take, index, fps, view[:frames], pose[:frames], camera))
    if short and not views:
        raise UserError(short[0])
    return views, without


def _rates(ratio: float) -> str:
    """Ends the sentence about numbers of frames that do not match."""
    for times, words in ((2, "twice"), (3, "three times"), (4, "four times"), (5, "five times")):
        for value, which in ((ratio, "2D"), (1 / ratio, "3D")):
            if abs(value / times - 1) < 0.05:
                return (
                    f", a ratio of {ratio:.2f}: the {which} seems to have {words} the other's "
                    "frames per second; bring both to one rate"
                )
    return (
        f", a ratio of {ratio:.2f}, which is more than the few frames that videos run longer: give "
        "the files of one release"
    )


def _pair(view: View, table: list[Camera]) -> fitting.Pair:
    """Makes what `fitting` checks."""
    some = view.pose_world[fitting.sample(view.frames)]
    others = {}
    for index, camera in enumerate(table):
        if index != view.index:
            others["camera", f"the projection of camera {index}"] = _project(some, camera)[0]
    for words, camera in cameras.other_readings(view.camera).items():
        others["reading", f"another reading of the table: {words}"] = _project(some, camera)[0]
    pixels, local = _project(view.pose_world, view.camera)
    size = (view.camera.width, view.camera.height)
    clipped = cameras.clips(local)
    return fitting.Pair(
        view.subject,
        view.take,
        view.index,
        view.keypoints_2d,
        pixels,
        local[..., 2],
        clipped,
        others,
        size,
        True,
    )


def _project(pose_world: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Projects world coordinates to pixels `[F, J, 2]` and camera axes `[F, J, 3]`, float64."""
    pose = cameras.world_to_camera(
        pose_world.astype(np.float64), camera.orientation, camera.translation
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return cameras.project_to_2d(pose, camera.intrinsic), pose


def _judge(files: _Source, detections: Detections | None, findings: fitting.Findings) -> list[str]:
    """Returns notes about 2D and metadata that do not fit.

    Raises:
      UserError: the 2D is certainly wrong; or the metadata names other joints than Human3.6M's, and
        the 2D does not show otherwise.
    """
    layout = "" if detections is None else detections.layout
    if not layout:
        findings.refuse()
        return findings.notes()
    said = f"the metadata of '{files.keypoints}' names {layout}"
    wanted = f"Human3.6M's {H36M_17.num_joints} joints are needed"
    if findings.typical > fitting.LIMIT or any(
        fit.kind in ("order", "scale") for fit in findings.fits
    ):
        order = next((fit for fit in findings.fits if fit.kind == "order"), None)
        fits = f"; its joints fit the projected 3D in {order.cause}" if order else ""
        raise UserError(
            f"{said}, and {wanted}; in that order its joints are {findings.typical:.0%} of the "
            f"person's size from the projected 3D{fits}: give a file with Human3.6M's joints."
        )
    findings.refuse()
    return [
        f"{said}; its joints fit the 3D in Human3.6M's order ({findings.typical:.1%} of a "
        "person's size) and are read so",
        *findings.notes(),
    ]


def _compare_with_release(
    files: _Source, poses: Takes3D, items: dict[str, list[View]]
) -> list[str]:
    """Returns notes if Human3.6M's numbers of takes and frames differ from the published ones."""
    if files.name != H36M:
        return []
    few = [
        f"{subject} {len(poses[subject])}"
        for subject in H36M_SUBJECTS
        if subject in poses and len(poses[subject]) != H36M_TAKES[subject]
    ]
    notes = (
        [f"takes: {', '.join(few)}, where Human3.6M has 30 of each subject (29 of S11)"]
        if few
        else []
    )
    if not few and len(poses) == len(H36M_SUBJECTS) and files.test_subjects == H36M_TEST_SUBJECTS:
        for split, frames in H36M_FRAMES.items():
            here = sum(view.frames for view in items[split])
            notes += (
                [f"{split}: {here:,} frames where Human3.6M has {frames:,}"]
                if here != frames
                else []
            )
    return notes


def make_record(view: View) -> dict[str, Any]:
    """Makes a record of `schema.sequence_features` from a view.

    World coordinates become camera coordinates in metres. If the view has no 2D, they are projected
    with distortion.
    """
    camera = view.camera
    pose = cameras.world_to_camera(
        view.pose_world.astype(np.float64), camera.orientation, camera.translation
    )
    pixels = (
        cameras.project_to_2d(pose, camera.intrinsic)
        if view.keypoints_2d is None
        else view.keypoints_2d
    )
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
    """Returns a take's action for scores: "Sitting 1" -> "Sitting", "walk_03" -> "walk"."""
    return re.sub(r"_\d+$", "", take.split(" ")[0])


def _leave_out(files: _Source, poses: Takes3D) -> list[str]:
    """Removes Human3.6M's corrupt take from `poses`.

    Returns what is not in the data set, and why.
    """
    left_out = []
    if files.name == H36M:
        subject, take = H36M_CORRUPT_TAKE
        if subject in poses and poses[subject].pop(take, None) is not None:
            left_out.append(f"{subject} {take}: corrupt take")
        left_out += [
            f"{subject}: not in {os.path.basename(files.positions)}"
            for subject in H36M_SUBJECTS
            if subject not in poses
        ]
    return left_out


def _check_test_subjects(files: _Source, poses: Takes3D) -> tuple[str, ...]:
    """Returns the test subjects; raises UserError if they are unknown or absent."""
    found = ", ".join(sorted(poses, key=_natural))
    if files.test_subjects is None:
        raise UserError(
            f"Data set '{files.name}' has no split of its own: name its test subjects with "
            f"--test-subjects (found: {found})."
        )
    if files.name == H36M and files.test_subjects == H36M_TEST_SUBJECTS:
        # A missing take is in left_out.
        return tuple(subject for subject in files.test_subjects if subject in poses)
    unknown = [subject for subject in files.test_subjects if subject not in poses]
    if unknown:
        raise UserError(
            f"Test subject '{unknown[0]}' is not in '{files.positions}' (found: {found}): correct "
            f"--test-subjects."
        )
    return files.test_subjects


def _check_pairs(files: _Source, poses: Takes3D, detections: Takes2D) -> list[str]:
    """Removes takes without 2D from `poses`; returns what only one file has.

    Raises:
      UserError: a subject with 3D has no 2D.
    """
    extra = sorted(set(detections) - set(poses), key=_natural)
    left_out = [f"{', '.join(extra)}: 2D without 3D"] if extra else []
    for subject in sorted(poses, key=_natural):
        there = set(detections[subject]) if subject in detections else set()
        both = there & set(poses[subject])
        if not both:
            other = (
                f"takes {', '.join(sorted(there, key=_natural)[:5])}"
                if there
                else f"subjects {', '.join(sorted(detections, key=_natural))}"
            )
            raise UserError(
                f"'{files.keypoints}' has no 2D of subject '{subject}' and its takes "
                f"({', '.join(sorted(poses[subject], key=_natural)[:5])}), "
                f"which '{files.positions}' has (there: {other}): give the 2D file of this "
                "release, or remove the subject from the 3D."
            )
        known = H36M_CORRUPT_TAKE if files.name == H36M else None
        for take in sorted(there ^ both, key=_natural):
            left_out += [f"{subject} {take}: 2D without 3D"] if (subject, take) != known else []
        for take in sorted(set(poses[subject]) - both, key=_natural):
            left_out.append(f"{subject} {take}: 3D without 2D")
            del poses[subject][take]
    return left_out


def _natural(name: str) -> list[tuple[int, str]]:
    """Makes a sort key by which S5 comes before S11."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
