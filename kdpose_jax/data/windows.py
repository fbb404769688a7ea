"""Windows over sequences: where they start, and gathering them with VideoPose3D's edge padding."""

import dataclasses

import numpy as np


def centred_starts(frames: int, length: int, stride: int) -> np.ndarray:
    """Window starts for training: the fewest windows that cover a sequence, centred on it.

    With stride = length these are MixSTE's (and VideoPose3D's) chunks; with another stride HoT's windows
    (docs/methods/lifting.md#windows). Starts may be negative and windows may end behind
    the sequence: the edge is replicated.

    Args:
      frames: length of the sequence.
      length: frames of a window.
      stride: frames between two starts.

    Returns:
      Starts, `[W]`.
    """
    count = max(0, -(-(frames - length) // stride)) + 1
    span = (count - 1) * stride + length
    return np.arange(count) * stride - (span - frames) // 2


def evaluation_starts(frames: int, length: int) -> np.ndarray:
    """Window starts for evaluation (MixSTE, eval_data_prepare): end to end, the last one aligned to the end.

    A sequence shorter than a window gives one window, which replicates the last frame.
    """
    starts = np.arange(max(1, -(-frames // length))) * length
    starts[-1] = max(0, min(starts[-1], frames - length))
    return starts


def evaluation_counts(frames: int, length: int, windows: str) -> np.ndarray:
    """How often each frame of each evaluation window is scored, `[W, length]` booleans.

    Args:
      frames: length of the sequence.
      length: frames of a window.
      windows: `compat`, MixSTE's protocol: every frame of every window counts, so that the overlap of the last two
        windows counts twice and padding counts too; `exact`: every real frame counts once.
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
    """Windows over sequences that lie end to end in flat arrays.

    Attributes:
      offset: where the window's sequence begins in the flat arrays, `[W]`.
      frames: how long that sequence is, `[W]`.
      start: first frame of the window in its sequence, may be negative, `[W]`.
      length: frames of a window.
    """

    offset: np.ndarray
    frames: np.ndarray
    start: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.start)

    def rows(self, chosen: np.ndarray, before: int = 0, after: int = 0) -> np.ndarray:
        """Rows of the flat arrays that make up the chosen windows, edges replicated.

        Args:
          chosen: window numbers, `[B]`.
          before: frames of context in front of each window (the receptive field of a strided network).
          after: frames of context behind it.

        Returns:
          Row numbers, `[B, before + length + after]`.
        """
        position = self.start[chosen][:, None] + np.arange(-before, self.length + after)
        np.clip(position, 0, self.frames[chosen][:, None] - 1, out=position)
        position += self.offset[chosen][:, None]
        return position
