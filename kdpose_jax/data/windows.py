"""Places windows in sequences, and gathers them with VideoPose3D's edge padding."""

import dataclasses
import math

import numpy as np

ALIGNMENT = 64  # bytes


def centred_starts(frames: int, length: int, stride: int) -> np.ndarray:
    """Places training windows: the fewest that cover a sequence, centred on it.

    With stride = length these are the chunks of MixSTE and VideoPose3D. With another stride they
    are HoT's windows (docs/methods/lifting.md#windows). Windows may begin before the sequence and
    end after it: the first and last frames are repeated there.

    Args:
      frames: length of the sequence.
      length: frames of a window.
      stride: frames between two starts.

    Returns:
      First frames of the windows, `[W]`.
    """
    count = max(0, -(-(frames - length) // stride)) + 1
    span = (count - 1) * stride + length
    return np.arange(count) * stride - (span - frames) // 2


def evaluation_starts(frames: int, length: int) -> np.ndarray:
    """Places evaluation windows end to end, the last aligned to the end of the sequence, `[W]`.

    Source: MixSTE, eval_data_prepare. A sequence shorter than a window gives one window, which
    repeats the last frame.
    """
    starts = np.arange(max(1, -(-frames // length))) * length
    starts[-1] = max(0, min(starts[-1], frames - length))
    return starts


def evaluation_counts(frames: int, length: int, windows: str) -> np.ndarray:
    """Tells which frames of each evaluation window are scored, `[W, length]` booleans.

    Args:
      frames: length of the sequence.
      length: frames of a window.
      windows: `compat` is MixSTE's protocol: every frame of every window counts, so the overlap of
        the last two windows counts twice, and padding counts too. With `exact`, every real frame
        counts once.
    """
    starts = evaluation_starts(frames, length)
    counts = np.ones((len(starts), length), bool)
    if windows == "exact":
        position = starts[:, None] + np.arange(length)
        previous_end = np.concatenate([[0], starts[:-1] + length])
        counts = (position < frames) & (position >= previous_end[:, None])
    return counts


@dataclasses.dataclass(frozen=True)
class Windows:
    """W windows over sequences that are end to end in flat arrays.

    Attributes:
      offset: where the sequence of each window begins in the flat arrays, `[W]`.
      frames: length of that sequence, `[W]`.
      start: first frame of each window in its sequence, may be negative, `[W]`.
      length: frames of a window.
    """

    offset: np.ndarray
    frames: np.ndarray
    start: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.start)

    def rows(self, numbers: np.ndarray, before: int = 0, after: int = 0) -> np.ndarray:
        """Finds the rows of the flat arrays for some windows, with the edges repeated.

        Args:
          numbers: numbers of the windows, `[B]`.
          before: frames of context before each window, for networks with a receptive field.
          after: frames of context after it.

        Returns:
          Row numbers, `[B, before + length + after]`.
        """
        position = self.start[numbers][:, None] + np.arange(-before, self.length + after)
        np.clip(position, 0, self.frames[numbers][:, None] - 1, out=position)
        position += self.offset[numbers][:, None]
        return position


def take_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Gathers rows into memory that XLA's CPU device can use without copying it first.

    Args:
      array: `[N, ...]`.
      rows: numbers from 0 to N - 1, `[B, F]`.

    Returns:
      `[B, F, ...]`.
    """
    shape = (*rows.shape, *array.shape[1:])
    size = math.prod(shape) * array.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    taken = memory[start : start + size].view(array.dtype).reshape(shape)
    # All rows exist, and checking them before writing would need a further array.
    return np.take(array, rows, axis=0, out=taken, mode="clip")
