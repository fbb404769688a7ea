"""Brings sequences from one frame rate to another, and back."""

import math
from collections.abc import Iterable, Iterator

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
    return np.concatenate(list(resample_pieces([values], rate, wanted, len(values), length)))


def resample_pieces(
    pieces: Iterable[np.ndarray], rate: float, wanted: float, frames: int, length: int | None = None
) -> Iterator[np.ndarray]:
    """Interpolates a long sequence piece by piece, in bounded memory.

    Args:
      pieces: the sequence in order, cut anywhere, `[t, ...]`.
      rate: as for `resample`.
      wanted: as for `resample`.
      frames: number of frames of all pieces together, at least 1.
      length: as for `resample`.

    Yields:
      The frames `[t, ...]`, t at least 1, as soon as they are known. Together they are what
      `resample` returns.

    Raises:
      UserError: a rate is out of range.
    """
    require_rate(rate, "--fps")
    require_rate(wanted, "the network's rate")
    total = count_at(frames, rate, wanted) if length is None else length
    held: np.ndarray | None = None
    first = done = 0  # number of the first held frame, and of the next frame of the result
    for piece in pieces:
        held = piece if held is None else np.concatenate([held, piece])
        end = first + len(held)
        # A frame of the result is known when the frame behind it is there.
        ready = total if end == frames else min(total, math.floor((end - 1 - 0.01) * wanted / rate))
        if ready > done:
            times = np.minimum(np.arange(done, ready) * (rate / wanted), frames - 1)
            yield _at(held, times - first)
            done = ready
        needed = min(math.floor(done * (rate / wanted)), end - 1)
        held, first = held[needed - first :], needed


def _at(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Interpolates between the frames of `values` at `times`, which count in its frames."""
    before = np.floor(times + _SAME).astype(np.int64)
    share = np.clip(times - before, 0, None)
    share[share < _SAME] = 0
    after = np.minimum(before + 1, len(values) - 1)
    share = share.reshape((-1,) + (1,) * (values.ndim - 1)).astype(values.dtype)
    between = values[before] * (1 - share) + values[after] * share
    # NaN of the frame behind says nothing about a frame that is hit exactly.
    return np.where(share == 0, values[before], between)
