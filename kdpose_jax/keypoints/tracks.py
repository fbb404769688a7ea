"""2D keypoints as a user's file has them, whatever its format: what every reader returns."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Track:
    """The keypoints of one person in a video.

    Attributes:
      name: the person's identity in the file, or the number that tracking gave.
      frames: numbers of the frames with this person, from 0 and rising, `[T]` int64.
      points: where the joints are, `[T, K, 2]` float32, pixels; NaN where a joint was not found.
        Readers return views of one array with all persons.
      scores: the detector's scores, `[T, K]` float32; 1 where the file has none, 0 where a joint
        was not found.
    """

    name: str
    frames: np.ndarray
    points: np.ndarray
    scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class Keypoints:
    """The keypoints of a video.

    Attributes:
      tracks: the persons, in the file's order.
      joints: names of the K joints, in the order of the arrays.
      layout: the name of the joints' layout, such as `coco_17`.
      size: width and height of the video, pixels; None if the file does not say.
      fps: frames per second; None if the file does not say.
      length: number of the video's frames, with those in which nobody was found.
      format: the name of the format that was read, such as `alphapose`.
      notes: sentences on what was assumed, left out or converted, each with its count.
    """

    tracks: tuple[Track, ...]
    joints: tuple[str, ...]
    layout: str
    size: tuple[int, int] | None
    fps: float | None
    length: int
    format: str
    notes: tuple[str, ...]
