"""Averages the poses of windows that overlap, so that they do not jump where windows meet."""

import numpy as np


def overlapping_starts(frames: int, length: int, stride: int) -> np.ndarray:
    """Lists the starts of windows that overlap by half and cover a video, the last ending with it.

    Args:
      frames: number of the video's frames, at least 1.
      length: number of frames in a window.
      stride: as for `hop`.
    """
    last = max(frames - length, 0)
    return np.unique(np.append(np.arange(0, last + 1, hop(length, stride)), last))


def hop(length: int, stride: int) -> int:
    """Returns how many frames lie between the starts of windows.

    It is half a window, or a little less, so that all windows read the same keyframes.

    Args:
      length: number of frames in a window.
      stride: r, where a window reads every r-th frame.
    """
    return max(stride, length // 2 // stride * stride)


class Blend:
    """A weighted mean of overlapping windows, whose first frames are given out when they are final.

    A frame counts most in the middle of a window, where a network sees what comes before and after.
    """

    def __init__(self, length: int, joints: int):
        """Makes an empty mean.

        Args:
          length: number of frames in a window.
          joints: number of joints.
        """
        place = np.arange(length)
        self._weights = np.minimum(place + 1, length - place).astype(np.float32)[:, None, None]
        self._first = 0  # number of the first frame that was not given out
        self._sum = np.zeros((0, joints, 3), np.float32)
        self._weight = np.zeros((0, 1, 1), np.float32)

    def add(self, start: int, poses: np.ndarray) -> None:
        """Adds the poses `[length, J, 3]` of the window that begins at frame `start`."""
        place = start - self._first
        missing = place + len(poses) - len(self._sum)
        if missing > 0:
            self._sum = np.pad(self._sum, ((0, missing), (0, 0), (0, 0)))
            self._weight = np.pad(self._weight, ((0, missing), (0, 0), (0, 0)))
        self._sum[place : place + len(poses)] += self._weights * poses
        self._weight[place : place + len(poses)] += self._weights

    def take(self, end: int) -> np.ndarray:
        """Gives out the frames before `end`, to which nothing will be added, `[t, J, 3]`."""
        count = end - self._first
        done = self._sum[:count] / self._weight[:count]
        self._sum, self._weight, self._first = self._sum[count:], self._weight[count:], end
        return done
