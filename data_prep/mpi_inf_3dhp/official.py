"""Reads the official files of MPI-INF-3DHP."""

import os
from collections.abc import Iterator

import numpy as np

from data_prep import matlab
from data_prep.mpi_inf_3dhp.files import name_of
from data_prep.mpi_inf_3dhp.release import CAMERAS, NUM_CAMERAS, RAW_JOINTS, SEQUENCES
from data_prep.mpi_inf_3dhp.views import RAW_TO_NPZ, TEST_FPS, View, numbers_of, view_of
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_17


def read_training(path: str, pose_source: str, left_out: list[str]) -> Iterator[View]:
    """Yields the views in one annot.mat; `left_out` gets empty ones.

    The file has cells `[14, 1]` with `[F, 56]` pixels and `[F, 84]` millimetres.
    """
    subject, take = name_of(path)
    frames, fps = SEQUENCES[subject, take]
    pixels, poses, numbers = matlab.read_v5(path, ("annot2", pose_source, "cameras"))
    if not isinstance(numbers, np.ndarray) or not np.array_equal(
        numbers.ravel(), np.arange(NUM_CAMERAS)
    ):
        raise UserError(
            f"'{path}': cameras are not the numbers from 0 to {NUM_CAMERAS - 1}: download it again."
        )
    for camera in CAMERAS:
        arrays = []
        for name, cells, axes in (("annot2", pixels, 2), (pose_source, poses, 3)):
            place = f"'{path}', {name}, camera {camera}"
            if not isinstance(cells, list) or len(cells) != NUM_CAMERAS:
                raise UserError(f"{place}: no row of {NUM_CAMERAS} cells: download it again.")
            if np.size(cells[camera]) == 0:
                left_out.append(
                    f"{subject} {take} camera {camera}: no {'2D' if axes == 2 else '3D'}"
                )
                break
            flat = numbers_of(cells[camera], (None, RAW_JOINTS * axes), place)
            arrays.append(flat.reshape(-1, RAW_JOINTS, axes)[:frames, RAW_TO_NPZ])
        else:
            yield view_of(
                subject,
                take,
                camera,
                float(fps),
                *arrays,
                np.ones(len(arrays[0]), np.bool_),
                f"'{path}', camera {camera}",
            )


def read_test(path: str, pose_source: str) -> tuple[View, np.ndarray]:
    """Reads the view in one annot_data.mat (`[F, 1, 17, 2 or 3]`).

    It also returns the activity of each frame, `[F]` from 1.
    """
    name = os.path.basename(os.path.dirname(path))
    pixels, poses, valid, activity = matlab.read_v73(
        path, ("annot2", pose_source, "valid_frame", "activity_annotation")
    )
    arrays = [
        numbers_of(array, (None, 1, H36M_17.num_joints, axes), f"'{path}', {entry}")[:, 0]
        for entry, array, axes in (("annot2", pixels, 2), (pose_source, poses, 3))
    ]
    valid, activity = (
        numbers_of(array, (len(arrays[0]), 1), f"'{path}', {entry}")[:, 0]
        for entry, array in (("valid_frame", valid), ("activity_annotation", activity))
    )
    if activity.min() < 0:
        raise UserError(
            f"'{path}', activity_annotation: the label {activity.min():g}: copy or download the "
            f"file again."
        )
    return view_of(name, name, 0, TEST_FPS, *arrays, valid != 0, f"'{path}'"), activity.astype(int)


def run_lengths(labels: np.ndarray) -> list[list[int]]:
    """Encodes labels `[F]` as [label, number of frames in a row], in order."""
    starts = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1))
    return [
        [int(labels[start]), int(count)]
        for start, count in zip(starts, np.diff(starts, append=len(labels)), strict=True)
    ]
