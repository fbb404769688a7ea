"""Converts Human3.6M, or another set in VideoPose3D's npz layout, to sequence records.

Layout: docs/methods/lifting.md#human36m.
"""

import argparse
import os
import re
from typing import Any

import numpy as np

from data_prep import cameras, fitting, flags, held_out, records
from data_prep.human36m import pairing, release
from data_prep.human36m.files import (
    H36M,
    H36M_TEST_SUBJECTS,
    H36M_VAL_SUBJECTS,
    Source,
    find_files,
)
from data_prep.human36m.pairing import View, natural
from data_prep.takes import Detections, Takes3D, read_detections, read_positions
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.files import sha256
from kdpose_jax.skeletons import H36M_17

HELP = "VideoPose3D's npz files, of Human3.6M or of another set"
FPS_RANGE = (1.0, 1000.0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    flags.add_source(parser, "folder with data_3d_<name>.npz and data_2d_<name>_<keypoints>.npz")
    parser.add_argument(
        "--keypoints",
        default="gt",
        help="2D file to use, e.g. cpn_ft_h36m_dbb; gt is computed if it has no file",
    )
    parser.add_argument(
        "--cameras",
        dest="cameras_file",
        metavar="FILE",
        help="camera table (JSON); default: Human3.6M's, or SOURCE/cameras.json",
    )
    parser.add_argument(
        "--test-subjects", type=flags.names, help="for example S9,S11 (the default for Human3.6M)"
    )
    flags.add_val_subjects(parser, "S8", "S8 for Human3.6M, else what meta.json names")
    parser.add_argument(
        "--fps",
        type=flags.Number(float, *FPS_RANGE),
        default=50.0,
        help="frames per second of the files",
    )


def expected_files(settings: dict[str, Any]) -> str:
    """Names the raw files that a conversion with these settings reads."""
    detections = f"data_2d_<name>_{settings['keypoints']}.npz"
    return f"data_3d_<name>.npz and {detections} in VideoPose3D's layout"


def convert(
    source: str,
    out: str,
    keypoints: str,
    cameras_file: str | None,
    test_subjects: tuple[str, ...] | None,
    val_subjects: tuple[str, ...] | None,
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
      val_subjects: names of the training subjects that are held out for validation; None for
        Human3.6M's S8, or those that another set's `meta.json` names, or else drawn ones.
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
    files = find_files(source, keypoints, cameras_file, test_subjects, val_subjects)
    paths = [path for path in (files.positions, files.keypoints, files.cameras) if path is not None]
    sources = {os.path.basename(path): sha256(path) for path in paths}
    settings = {
        "name": files.name,
        "keypoints": keypoints,
        "fps": fps,
        "test_subjects": None if files.test_subjects is None else list(files.test_subjects),
        "val_subjects": None if files.val_subjects is None else list(files.val_subjects),
    }
    return records.write_recordset(
        out, schema.SEQUENCES, sources, settings, lambda: _load(files, keypoints, fps), workers
    )


def _load(files: Source, keypoints: str, fps: float) -> records.Recordset:
    """Reads the files, pairs each take with its views, and checks that they fit."""
    positions = read_positions(files.positions)
    poses, notes = positions.takes, list(positions.notes)
    left_out = release.leave_out(files, poses)
    detections = None if files.keypoints is None else read_detections(files.keypoints)
    tables = cameras.read_cameras(files.cameras)
    test_subjects = _check_test_subjects(files, poses)
    val_subjects = _val_subjects(files, poses, test_subjects)
    if detections is not None:
        left_out += pairing.check_takes(files, poses, detections.takes)
        notes += detections.notes
    fitting.check_bodies(
        ((subject, pose) for subject, takes in poses.items() for pose in takes.values()),
        f"'{files.positions}'",
    )
    findings = fitting.Findings(f"'{files.keypoints or files.positions}'", f"'{files.cameras}'")
    views, without, cut = pairing.pair_takes(files, poses, detections, tables, fps)
    for view in views:
        findings.add(pairing.pair_of(view, tables[view.subject]))
    train = [view for view in views if view.subject not in test_subjects]
    test = [view for view in views if view.subject in test_subjects]
    for split, own in (("train", train), ("test", test)):
        if not own:
            raise UserError(
                f"'{files.positions}' leaves no take for the split '{split}' (subjects "
                f"{', '.join(poses)}; test subjects {', '.join(test_subjects)}): give other "
                "--test-subjects."
            )
    items, missing = held_out.split_views(train, test, val_subjects)
    notes += [*_judge(files, detections, findings), *cut, *release.compare(files, poses, items)]
    notes += missing
    return records.Recordset(
        schema.SEQUENCES,
        H36M_17.name,
        keypoints,
        False,
        items,
        make_record,
        {},
        [*left_out, *without],
        {"fps": fps, "notes": notes},
        {},
    )


def _check_test_subjects(files: Source, poses: Takes3D) -> tuple[str, ...]:
    """Returns the test subjects; raises UserError if they are unknown or absent."""
    found = ", ".join(sorted(poses, key=natural))
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


def _val_subjects(
    files: Source, poses: Takes3D, test_subjects: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Returns the named validation subjects, Human3.6M's if they are there, or None to draw them.

    Raises:
      UserError: see `held_out.check_subjects`.
    """
    train = [subject for subject in poses if subject not in test_subjects]
    if files.val_subjects is None and files.name == H36M:
        named = tuple(subject for subject in H36M_VAL_SUBJECTS if subject in train)
        return named if named and len(named) < len(train) else None
    held_out.check_subjects(files.val_subjects, train, test_subjects)
    return files.val_subjects


def _judge(files: Source, detections: Detections | None, findings: fitting.Findings) -> list[str]:
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
