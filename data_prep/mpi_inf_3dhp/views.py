"""Makes views of MPI-INF-3DHP's sequences, in Human3.6M's joints, and what is checked of them."""

import dataclasses
from typing import Any

import numpy as np

from data_prep import fitting
from kdpose_jax.errors import UserError

TEST_FPS = 25.0  # nominal; no file says it, and nothing here depends on it
SIDE = 2048  # side of the studio's square pictures, pixels
LARGEST = 1e9  # millimetres or pixels
OUTDOORS = {"TS5": (1920, 1080), "TS6": (1920, 1080)}
# P-STMO keeps 17 of the 28 joints, which the test files have too. The second row is the index of
# Human3.6M's joints among the 17. Their head is Human3.6M's neck or nose, and their neck is its
# thorax.
RAW_TO_NPZ = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
NPZ_TO_H36M = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Holds one camera's view of one sequence.

    `keypoints_2d` is `[F, 17, 2]` pixels and `pose_3d` `[F, 17, 3]` metres, with Human3.6M's
    joints.
    """

    subject: str
    take: str
    camera: int
    fps: float
    size: tuple[int, int]
    keypoints_2d: np.ndarray
    pose_3d: np.ndarray
    valid: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.valid)


def view_of(
    subject: str,
    take: str,
    camera: int,
    fps: float,
    pixels: np.ndarray,
    pose: np.ndarray,
    valid: np.ndarray,
    place: str,
) -> View:
    """Makes a view from P-STMO's 17 joints in pixels and millimetres."""
    if len(pixels) != len(pose):
        raise UserError(
            f"{place}: {len(pixels)} frames of 2D and {len(pose)} of 3D: copy or download the "
            f"file again."
        )
    if np.abs(pose).max() < 50:
        raise UserError(
            f"{place}: no coordinate exceeds {np.abs(pose).max():.1f}, so these seem to be "
            f"metres: give millimetres."
        )
    order = list(NPZ_TO_H36M)
    metres = (pose[:, order] / 1000).astype(np.float32)
    size = OUTDOORS[subject] if subject in OUTDOORS else (SIDE, SIDE)
    return View(
        subject, take, camera, fps, size, pixels[:, order].astype(np.float32), metres, valid
    )


def numbers_of(value: Any, shape: tuple[int | None, ...], place: str) -> np.ndarray:
    """Reads float64 numbers that a body or a picture may have, and checks their shape.

    None in the shape stands for any length except zero.
    """
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    fits = array.ndim == len(shape) and all(
        size == want or (want is None and size)
        for size, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("frames" if want is None else str(want) for want in shape)
        raise UserError(
            f"{place}: shape {list(array.shape)} where [{wanted}] is needed: copy or download the "
            f"file again."
        )
    bad = ~(np.abs(array) < LARGEST)  # also finds NaN
    if bad.any():
        frame = np.argwhere(bad)[0][0]
        raise UserError(
            f"{place}: NaN, infinite or beyond {LARGEST:,.0f} in frame {frame}: copy or download "
            f"the file again."
        )
    return array


def pair_of(view: View, same: list[View]) -> fitting.Pair:
    """Makes what `fitting` checks, from the frames that count.

    `same` are the other cameras' views of the sequence.
    """
    counted = np.flatnonzero(view.valid) if view.valid.any() else np.arange(view.frames)
    some = counted[fitting.sample(len(counted))]
    others = {
        ("camera", f"the 3D of camera {other.camera}"): _plane(other.pose_3d[some])
        for other in same
        if other.frames == view.frames
    }
    pose = view.pose_3d[counted]
    nothing = np.zeros(pose.shape[:2], bool)  # these files have no projection that could be clipped
    return fitting.Pair(
        view.subject,
        view.take,
        view.camera,
        view.keypoints_2d[counted],
        _plane(pose),
        pose[..., 2],
        nothing,
        others,
        view.size,
        False,
    )


def _plane(pose: np.ndarray) -> np.ndarray:
    """Computes x/z and y/z of `[F, J, 3]`.

    This is the picture without focal length and centre, which the files lack.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return pose[..., :2].astype(np.float64) / pose[..., 2:]
