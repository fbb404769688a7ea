"""Reads P-STMO's npz files of MPI-INF-3DHP."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from data_prep import npz
from data_prep.mpi_inf_3dhp.release import CAMERAS, SEQUENCES, TEST_SEQUENCES
from data_prep.mpi_inf_3dhp.views import TEST_FPS, View, numbers_of, view_of
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_17


def read_training(path: str, left_out: list[str]) -> Iterator[View]:
    """Yields the views in P-STMO's dict["S1 Seq1"] = [dict["0"] = {data_2d, data_3d}, fps].

    `left_out` gets views that are None or empty.
    """
    for sequence, value in _entries(path):
        place = f"'{path}', sequence '{sequence}'"
        name = tuple(sequence.split(" "))
        if (
            name not in SEQUENCES
            or not isinstance(value, (list, tuple))
            or len(value) != 2
            or not isinstance(value[0], dict)
        ):
            raise UserError(
                f"{place} is not one of S1 Seq1 to S8 Seq2 with its cameras and fps: give "
                f"P-STMO's file."
            )
        views, (subject, take) = value[0], name
        for camera in CAMERAS:
            at = f"{place}, camera {camera}"
            if str(camera) in views and _is_hole(views[str(camera)]):
                left_out.append(f"{subject} {take} camera {camera}: no 2D or no 3D")
                continue
            arrays = _arrays(
                views[str(camera)] if str(camera) in views else None, ("data_2d", "data_3d"), at
            )
            yield view_of(
                subject,
                take,
                camera,
                float(SEQUENCES[name][1]),
                *arrays,
                np.ones(len(arrays[0]), np.bool_),
                at,
            )


def read_test(path: str) -> Iterator[View]:
    """Yields the views in P-STMO's dict["TS1"] = {data_2d, data_3d, valid}."""
    for name, value in _entries(path):
        place = f"'{path}', sequence '{name}'"
        if name not in TEST_SEQUENCES:
            raise UserError(
                f"{place} is not one of {', '.join(TEST_SEQUENCES)}: give P-STMO's file."
            )
        pixels, pose, valid = _arrays(value, ("data_2d", "data_3d", "valid"), place)
        yield view_of(name, name, 0, TEST_FPS, pixels, pose, valid != 0, place)


def _is_hole(entry: Any) -> bool:
    """Tells whether a view, its 2D or its 3D is None or empty."""
    if entry is None:
        return True
    parts = [
        entry[name] for name in ("data_2d", "data_3d") if isinstance(entry, dict) and name in entry
    ]
    return any(part is None or (isinstance(part, np.ndarray) and part.size == 0) for part in parts)


def _entries(path: str) -> list[tuple[str, Any]]:
    """Returns the entries in one of P-STMO's files, sorted like the official folders."""
    (content,) = npz.read_pickled_npz(path, ("data",))
    if not isinstance(content, dict) or not content:
        raise UserError(f"'{path}' does not hold a dictionary of sequences: give P-STMO's file.")
    if not all(isinstance(name, str) for name in content):
        raise UserError(f"'{path}' has sequences without a name: give P-STMO's file.")
    return sorted(content.items())


def _arrays(entry: Any, names: tuple[str, ...], place: str) -> list[np.ndarray]:
    """Returns a view's data_2d `[F, 17, 2]`, data_3d `[F, 17, 3]` and, if named, valid `[F]`."""
    missing = [name for name in names if not isinstance(entry, dict) or name not in entry]
    if missing:
        raise UserError(f"{place} lacks {missing[0]}: give P-STMO's file.")
    joints = H36M_17.num_joints
    arrays = [
        numbers_of(entry[name], (None, joints, axes), f"{place}, {name}")
        for name, axes in (("data_2d", 2), ("data_3d", 3))
    ]
    if "valid" in names:
        valid = (
            entry["valid"].reshape(-1) if isinstance(entry["valid"], np.ndarray) else entry["valid"]
        )
        arrays.append(numbers_of(valid, (len(arrays[0]),), f"{place}, valid"))
    return arrays
