"""Poses that were predicted, in every frame of a video: what every writer takes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class PosesOfPerson:
    """The poses of one person, in every frame from the person's first to the last.

    Attributes:
      name: the person's identity in the user's file, or the number that tracking gave.
      first_frame: number of the first frame in the video, from 0.
      pose_3d: `[T, J, 3]` float32, metres, relative to the root joint, in the camera's axes (x
        right, y down, z away from the camera); NaN in masked frames. None for a network of
        pictures.
      keypoints_2d: what the network was given or found, `[T, J, 2]` float32, pixels; NaN where
        masked.
      scores: the scores of `keypoints_2d`, `[T, J]` float32.
      seen: whether the file has the joint in the frame, `[T, J]`; False where it was interpolated
        or is masked.
      valid: whether there is a pose in the frame, `[T]`; False in gaps that are too long to
        interpolate.
    """

    name: str
    first_frame: int
    pose_3d: np.ndarray | None
    keypoints_2d: np.ndarray
    scores: np.ndarray
    seen: np.ndarray
    valid: np.ndarray


@dataclasses.dataclass(frozen=True)
class Poses:
    """The poses of a video.

    Attributes:
      persons: the persons.
      joints: names of the J joints, in the order of the arrays.
      parents: parent index of every joint, -1 for the root.
      root: index of the joint that poses are relative to.
      fps: frames per second.
      size: width and height of the video, pixels; None if a file of poses does not say.
      length: number of the video's frames.
      network: the network's name or path.
      fingerprint: identifies the network's parameters.
      keyframe_stride: r, where the network reads every r-th frame; 1 also if that is not known.
      keyframe_offset: number of the first frame in the video that it reads, below the stride. In
        the last window, which ends with the video, it may read others.
      notes: sentences on what was assumed, left out or converted, each with its count.
    """

    persons: tuple[PosesOfPerson, ...]
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    root: int
    fps: float
    size: tuple[int, int] | None
    length: int
    network: str
    fingerprint: str
    keyframe_stride: int
    keyframe_offset: int
    notes: tuple[str, ...]


def thinned(person: PosesOfPerson, stride: int) -> PosesOfPerson:
    """Keeps the frames of the video whose number divides by `stride`; the arrays are copies."""
    start = -person.first_frame % stride
    arrays: dict[str, Any] = {
        field.name: value[start::stride].copy()
        for field in dataclasses.fields(person)
        if isinstance(value := getattr(person, field.name), np.ndarray)
    }
    return dataclasses.replace(person, first_frame=person.first_frame + start, **arrays)


def joined(parts: Sequence[PosesOfPerson]) -> PosesOfPerson:
    """Puts frames of one person behind one another."""
    arrays: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in dataclasses.fields(parts[0])
        if isinstance(getattr(parts[0], field.name), np.ndarray)
    }
    return dataclasses.replace(parts[0], **arrays)
