"""Brings sequences from one frame rate to another, and back."""

import math

import numpy as np

from kdpose_jax.errors import UserError

# A frame this close to another time, in frames, is at that time.
_SAME = 1e-6
# Rates that a camera can have, frames per second.
_SLOWEST, _FASTEST = 0.01, 100_000.0


def require_rate(fps: float, flag: str) -> None:
    """Refuses a rate that no camera has.

    Args:
      fps: frames per second.
      flag: the flag that gives it.

    Raises:
      UserError: the rate is zero, negative, NaN or beyond any camera's.
    """
    if not (math.isfinite(fps) and _SLOWEST <= fps <= _FASTEST):
        raise UserError(f"{flag} is {fps:g}: give frames per second above 0, such as {flag} 30.")


def is_same(rate: float, wanted: float) -> bool:
    """Tells whether two rates are the same for a network: 29.97 and 30 frames per second are."""
    return math.isclose(rate, wanted, rel_tol=0.005)


def count_at(frames: int, rate: float, wanted: float) -> int:
    """Returns how many frames at `wanted` cover as many frames at `rate`."""
    return math.ceil((frames - 1) * wanted / rate - _SAME) + 1


def resample(
    values: np.ndarray, rate: float, wanted: float, length: int | None = None
) -> np.ndarray:
    """Interpolates a sequence linearly at the times of another rate.

    Both sequences begin at the same time. A frame between two others is NaN where one of them is.
    Behind the last frame its values are kept.

    Args:
      values: the sequence, `[T, ...]` float, T at least 1.
      rate: its frames per second.
      wanted: frames per second of the result.
      length: number of frames of the result. None covers the whole sequence; to come back, give the
        number of frames that there were.

    Returns:
      The sequence, `[length, ...]`, in the type of `values`.

    Raises:
      UserError: a rate is out of range.
    """
    require_rate(rate, "--fps")
    require_rate(wanted, "the network's rate")
    if length is None:
        length = count_at(len(values), rate, wanted)
    times = np.minimum(np.arange(length) * (rate / wanted), len(values) - 1)
    before = np.floor(times + _SAME).astype(np.int64)
    share = np.clip(times - before, 0, None)
    share[share < _SAME] = 0
    after = np.minimum(before + 1, len(values) - 1)
    share = share.reshape((-1,) + (1,) * (values.ndim - 1)).astype(values.dtype)
    between = values[before] * (1 - share) + values[after] * share
    # NaN of the frame behind says nothing about a frame that is hit exactly.
    return np.where(share == 0, values[before], between)
