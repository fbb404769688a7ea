"""Defines the keyframe grid: which frames of a dense window a sparse network reads.

The grid is our design (docs/methods/scjd.md#keyframes).
"""

import dataclasses

import jax
import numpy as np

CENTRED = -1  # the offset that stands for the centred grid in a config


@dataclasses.dataclass(frozen=True)
class KeyframeGrid:
    """The frames o, o + r, o + 2 r, ... of a window.

    Attributes:
      frames: number F of frames in the window.
      stride: r, the distance between two keyframes, from 1 to F.
      offset: o, the first keyframe, from 0 to r - 1.
    """

    frames: int
    stride: int
    offset: int

    @classmethod
    def from_options(cls, frames: int, stride: int, offset: int) -> "KeyframeGrid":
        """Makes the grid from a config's numbers; the offset `CENTRED` stands for (r - 1) // 2.

        Raises:
          ValueError: the stride or the offset is out of range; the message says which.
        """
        if not 1 <= stride <= frames:
            raise ValueError(f"stride is {stride}: use 1 to data.frames, which is {frames}")
        if not CENTRED <= offset < stride:
            raise ValueError(f"offset is {offset}: use 0 to {stride - 1}, or -1 for the centre")
        return cls(frames, stride, (stride - 1) // 2 if offset == CENTRED else offset)

    @property
    def count(self) -> int:
        """Number of keyframes, K = floor((F - 1 - o) / r) + 1."""
        return (self.frames - 1 - self.offset) // self.stride + 1

    @property
    def keyframes(self) -> np.ndarray:
        """Frame numbers of the keyframes, s_k = o + r k, `[K]`."""
        return self.offset + self.stride * np.arange(self.count)

    @property
    def mask(self) -> np.ndarray:
        """Whether each frame of the window is a keyframe, `[F]`."""
        return np.isin(np.arange(self.frames), self.keyframes)

    @property
    def groups(self) -> np.ndarray:
        """Numbers of r frames around each keyframe, `[K, r]`; some may be outside the window."""
        first = self.keyframes - (self.stride - 1) // 2
        return first[:, None] + np.arange(self.stride)

    @property
    def has_equal_phases(self) -> bool:
        """Whether every offset gives the same number of keyframes."""
        return self.frames % self.stride == 0

    def shifted(self, offset: int | jax.Array) -> np.ndarray | jax.Array:
        """Returns K keyframes that start at another offset, which may be traced, `[K]` int32."""
        return offset + self.stride * np.arange(self.count, dtype=np.int32)
