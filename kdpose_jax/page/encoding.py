"""Packs poses into the small JSON that `player.js` reads.

Coordinates are little-endian int16 in base64, in steps of a length that the page states. Missing
values are -32768.
"""

import base64
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from kdpose_jax.poses.predicted import Poses, PosesOfPerson

MISSING = -32768
LARGEST = 32767
# What a page may hold before it leaves out frames; base64 makes 4 characters of 3 bytes.
PAGE_BYTES = 4_500_000
# Anything farther away is not a pose: a network diverged, or a detector found nonsense.
FARTHEST_M, FARTHEST_SIZES = 100.0, 10.0
FINEST_M, FINEST_PX = 0.001, 0.1

Overlay = Literal["teacher", "truth"]


@dataclasses.dataclass(frozen=True)
class Steps:
    """The lengths that integers of a page count.

    Attributes:
      metres: the step of 3D coordinates.
      pixels: the step of 2D coordinates.
      score: the step of scores.
    """

    metres: float
    pixels: float
    score: float


def display_stride(frames: int, joints: int, lifts: bool, overlays: int) -> int:
    """Returns k, where a page shows every k-th frame so that it stays below `PAGE_BYTES`.

    Args:
      frames: number of frames of all persons.
      joints: number of joints.
      lifts: whether the poses are 3D.
      overlays: how many further poses (a teacher's, the truth) are shown with them.
    """
    bytes_a_joint = (6 if lifts else 0) + 4 + 1 + 1 / 8 + overlays * (10 if lifts else 4)
    needed = frames * joints * bytes_a_joint * 4 / 3
    return max(1, int(np.ceil(needed / PAGE_BYTES)))


def encode(
    poses: Poses, overlays: Mapping[Overlay, Poses], stride: int
) -> tuple[dict[str, Any], list[str]]:
    """Packs poses, and others of the same frames, for the page.

    Args:
      poses: the network's poses in the frames of the page: those of the video whose number
        divides by `stride`.
      overlays: poses of the same persons, frames and joints to show with them.
      stride: k, where the page has every k-th frame of the video.

    Returns:
      What `player.js` calls a scene, and sentences on what was left out.

    Raises:
      ValueError: an overlay has other persons, frames or joints, or the size is not known.
    """
    for name, other in overlays.items():
        _check_same(poses, other, name)
    if poses.size is None:
        raise ValueError("poses of a video whose size is not known cannot be shown")
    everything = [poses, *overlays.values()]
    bound_px = FARTHEST_SIZES * max(poses.size)
    persons = [person for one in everything for person in one.persons]
    steps = Steps(
        metres=_step((one.pose_3d for one in persons), FINEST_M, FARTHEST_M),
        pixels=_step((one.keypoints_2d for one in persons), FINEST_PX, bound_px),
        score=max(1.0, *(_largest(one.scores) for one in poses.persons), 0.0) / 250,
    )
    scene = {
        "joints": list(poses.joints),
        "parents": list(map(int, poses.parents)),
        "root": int(poses.root),
        "fps": float(poses.fps),
        "size": [int(side) for side in poses.size],
        "stride": stride,
        "frames": -(-poses.length // stride),
        "keyframe_stride": int(poses.keyframe_stride),
        "keyframe_offset": int(poses.keyframe_offset),
        **dataclasses.asdict(steps),
        "persons": [
            _person(
                person,
                {name: other.persons[number] for name, other in overlays.items()},
                steps,
                bound_px,
                stride,
            )
            for number, person in enumerate(poses.persons)
        ],
    }
    return scene, _notes(persons, stride, bound_px)


def _person(
    person: PosesOfPerson,
    overlays: Mapping[Overlay, PosesOfPerson],
    steps: Steps,
    bound_px: float,
    stride: int,
) -> dict[str, Any]:
    def lengths(values: np.ndarray | None, step: float, farthest: float) -> str | None:
        return None if values is None else _integers(values, step, farthest)

    def coordinates(one: PosesOfPerson) -> dict[str, str | None]:
        return {
            "pose_3d": lengths(one.pose_3d, steps.metres, FARTHEST_M),
            "keypoints_2d": lengths(one.keypoints_2d, steps.pixels, bound_px),
        }

    packed: dict[str, Any] = {
        "name": person.name,
        "first": person.first_frame // stride,  # of the page's frames
        "frames": len(person.valid),
        **coordinates(person),
        "scores": _scores(person.scores, steps.score),
        "seen": _text(np.packbits(person.seen.astype(bool), bitorder="little")),
    }
    for name, other in overlays.items():
        packed[name] = coordinates(other)
        # A teacher mostly reads the same keypoints.
        if np.array_equal(other.keypoints_2d, person.keypoints_2d, equal_nan=True):
            packed[name]["keypoints_2d"] = None
    return packed


def _check_same(poses: Poses, other: Poses, name: str) -> None:
    def shape(one: Poses) -> tuple[Any, ...]:
        return one.joints, [
            (person.first_frame, person.keypoints_2d.shape, person.pose_3d is None)
            for person in one.persons
        ]

    if shape(poses) != shape(other):
        raise ValueError(f"the {name}'s poses are of other persons, frames or joints")


def _within(values: np.ndarray, farthest: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.isfinite(values) & (np.abs(values) <= farthest)


def _largest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0


def _step(arrays: Iterable[np.ndarray | None], finest: float, farthest: float) -> float:
    """Finds the finest step of 1, 2, 5, 10 ... times `finest` whose integers fit 16 bits."""
    reach = max(
        (_largest(np.abs(one[_within(one, farthest)])) for one in arrays if one is not None),
        default=0.0,
    )
    for factor in (1, 2, 5, 10, 20, 50):
        if reach <= LARGEST * finest * factor:
            return finest * factor
    return reach / LARGEST  # a picture of a hundred thousand pixels


def _integers(values: np.ndarray, step: float, farthest: float) -> str:
    kept = _within(values, farthest).all(-1, keepdims=True)
    rounded = np.where(kept, np.rint(np.where(kept, values, 0.0) / step), MISSING)
    return _text(rounded.astype("<i2"))


def _scores(scores: np.ndarray, step: float) -> str:
    known = np.isfinite(scores)
    return _text(np.where(known, np.rint(np.where(known, scores, 0).clip(0) / step), 255))


def _text(values: np.ndarray) -> str:
    data = values if values.dtype == np.dtype("<i2") else values.astype(np.uint8)
    return base64.b64encode(data.tobytes()).decode("ascii")


def _notes(persons: list[PosesOfPerson], stride: int, bound_px: float) -> list[str]:
    notes = []
    if stride > 1:
        notes.append(
            f"The video is long: this page has one frame in {stride:,}, so that it stays below "
            f"{PAGE_BYTES / 1e6:g} MB."
        )
    far = {
        f"{FARTHEST_M:g} m from the root": [
            (one.pose_3d, FARTHEST_M) for one in persons if one.pose_3d is not None
        ],
        f"{bound_px:,.0f} pixels": [(one.keypoints_2d, bound_px) for one in persons],
    }
    for where, arrays in far.items():
        count = sum(
            int((~_within(array, bound) & ~np.isnan(array)).any(-1).sum())
            for array, bound in arrays
        )
        if count:
            notes.append(f"Left out: {count:,} positions of joints beyond {where}, or infinite.")
    return notes
