"""Finds frames in a user's array where persons should be."""

import numpy as np

_APART = 0.5  # neighbours in time are closer than this share of the distance of two persons


def holds_frames(points: np.ndarray) -> bool:
    """Tells whether the first axis of points `[P, T, J, D]` is time, and the second the persons.

    There are more frames than persons then, and a joint's next place along the first axis is much
    nearer than its next place along the second.
    """
    if not points.shape[0] > points.shape[1] > 1:
        return False
    first, second = (_step(points, axis) for axis in (0, 1))
    return first < _APART * second


def _step(points: np.ndarray, axis: int) -> float:
    """Returns the median distance of neighbours along an axis; 0 if none are known."""
    steps = np.abs(np.diff(points.astype(np.float64), axis=axis)).sum(axis=-1)
    known = steps[np.isfinite(steps)]
    return float(np.median(known)) if known.size else 0.0
