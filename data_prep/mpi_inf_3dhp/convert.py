"""Converts MPI-INF-3DHP, official or in P-STMO's npz files, to sequence records.

Layouts: docs/methods/lifting.md#mpi-inf-3dhp.
"""

import argparse
import os
from typing import Any

from data_prep import fitting, flags, held_out, records
from data_prep.mpi_inf_3dhp import official, pstmo, release
from data_prep.mpi_inf_3dhp.files import LAYOUTS, NPZ, NPZ_FILES, OFFICIAL, Files, find_files
from data_prep.mpi_inf_3dhp.release import CAMERAS, POSE_SOURCES, TRUE_SCALE, UNIVERSAL
from data_prep.mpi_inf_3dhp.views import TEST_FPS, View, pair_of
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError, require
from kdpose_jax.files import sha256
from kdpose_jax.skeletons import H36M_17

HELP = "MPI-INF-3DHP, its own files or P-STMO's npz files"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    flags.add_source(
        parser, "folder with S*/Seq*/annot.mat and TS*/annot_data.mat, or the two npz files"
    )
    parser.add_argument(
        "--layout",
        metavar="NAME",
        help=f"{' or '.join(LAYOUTS)}; default: what is there, the official one first",
    )
    parser.add_argument(
        "--pose-source",
        metavar="NAME",
        default=UNIVERSAL,
        help=f"{UNIVERSAL} (bodies of one size, the protocol's; the default) or {TRUE_SCALE} "
        "(not comparable)",
    )
    flags.add_val_subjects(parser, "S2", "")


def expected_files(settings: dict[str, Any]) -> str:
    """Names the raw files that a conversion with these settings reads."""
    names = " and ".join(NPZ_FILES.values())
    return f"S*/Seq*/annot.mat and TS*/annot_data.mat, or P-STMO's {names}"


def convert(
    source: str,
    out: str,
    layout: str | None,
    pose_source: str,
    val_subjects: tuple[str, ...] | None,
    workers: int,
) -> records.Summary:
    """Converts the official files, or P-STMO's npz files.

    The official files are `S*/Seq*/annot.mat` and `TS*/annot_data.mat`. The others are
    `data_train_3dhp.npz` and `data_test_3dhp.npz`. Both give the same records. Only the official
    files have the test frames' activities, which go into the metadata.

    Args:
      source: the folder.
      out: folder for the records.
      layout: "official" or "npz"; None for the official one if its files exist.
      pose_source: "univ_annot3", or "annot3", which only the official files have.
      val_subjects: names of the training subjects that are held out for validation; None for drawn
        ones.
      workers: number of processes.

    Returns:
      The summary.

    Raises:
      UserError: a file is missing or wrong, or `out` cannot be used.
    """
    require("--pose-source", pose_source, POSE_SOURCES)
    if layout is not None:
        require("--layout", layout, LAYOUTS)
    files = find_files(source, layout)
    if files.layout == NPZ and pose_source != UNIVERSAL:
        raise UserError(
            f"P-STMO's npz files hold {UNIVERSAL} alone: give the official release for "
            f"--pose-source {pose_source}."
        )
    paths = files.train + files.test
    sources = {os.path.relpath(path, source): sha256(path) for path in paths}
    settings = {
        "name": "mpi_inf_3dhp",
        "pose_source": pose_source,
        "val_subjects": None if val_subjects is None else list(val_subjects),
    }
    return records.write_recordset(
        out,
        schema.SEQUENCES,
        sources,
        settings,
        lambda: _load(files, pose_source, val_subjects),
        workers,
    )


def _load(
    files: Files, pose_source: str, val_subjects: tuple[str, ...] | None
) -> records.Recordset:
    """Reads all files, which have 360 MB for the whole data set."""
    activities: dict[str, list[list[int]]] = {}
    left_out: list[str] = []
    if files.layout == OFFICIAL:
        train = [
            view
            for path in files.train
            for view in official.read_training(path, pose_source, left_out)
        ]
        test = []
        for path in files.test:
            view, labels = official.read_test(path, pose_source)
            test.append(view)
            activities[view.subject] = official.run_lengths(labels)
    else:
        train = list(pstmo.read_training(files.train[0], left_out))
        test = list(pstmo.read_test(files.test[0]))
    if not train:
        raise UserError(
            f"'{files.train[0]}' has no 2D or no 3D in any of the cameras "
            f"{', '.join(map(str, CAMERAS))}: download it again."
        )
    items, missing = held_out.split_views(train, test, val_subjects)
    notes = _check(files, train, test) + release.compare_frames(train, test) + missing
    if pose_source == UNIVERSAL:
        notes += release.compare_sizes(train + test)
    return records.Recordset(
        schema.SEQUENCES,
        H36M_17.name,
        "gt",
        False,
        items,
        make_record,
        {},
        left_out + release.missing(train, test),
        {"fps": TEST_FPS, "notes": notes, "activities": activities},
        {},
    )


def _check(files: Files, train: list[View], test: list[View]) -> list[str]:
    """Returns notes about 2D and 3D that do not fit; raises UserError if they certainly do not."""
    findings = fitting.Findings(" and ".join(f"'{path}'" for path in files.train[:1]), "")
    for view in train + test:
        same = [
            other
            for other in train
            if other is not view and (other.subject, other.take) == (view.subject, view.take)
        ]
        findings.add(pair_of(view, same))
    findings.refuse()
    return findings.notes()


def make_record(view: View) -> dict[str, Any]:
    """Makes a record of `schema.sequence_features` from a view.

    Invalid frames stay as context, and do not count.
    """
    return {
        "subject": view.subject,
        "action": view.take,
        "take": view.take,
        "camera": view.camera,
        "fps": view.fps,
        "width": view.size[0],
        "height": view.size[1],
        "keypoints_2d": view.keypoints_2d,
        "pose_3d": view.pose_3d,
        "frame_mask": view.valid,
    }
