"""Turns coordinates into pixels, and marks the joints that were not found."""

from collections.abc import Sequence

import numpy as np

from kdpose_jax.errors import UserError

# Pixels beyond which a detector's joint means nothing.
_FARTHEST = 1e6
# Units that the coordinates of a format may have.
PIXELS = "pixels"
SHARES = "shares of the picture, from 0 to 1"
SIGNED_SHARES = "shares of the picture, from -1 to 1"
# A joint may lie this far outside the picture, in its size.
_OUTSIDE = 0.05
# Tools that do not write (0, 0) for a joint that was not found write (-1, -1).
_MARK = -1.0
# Coordinates are shares if at least this part of them is as small as shares are, and signed ones if
# more than this part is negative. The others lie outside the picture.
_SMALL, _NEGATIVE = 0.75, 1 / 3
_AT_ONCE = 10_000  # detections that are looked at together, which bounds what comparing them takes


def to_pixels(
    values: np.ndarray, units: Sequence[str], size: tuple[int, int] | None, place: str
) -> list[str]:
    """Turns coordinates in `values` `[N, K, 3]` into pixels, in place; returns what to say.

    Marks of joints that were not found become NaN.
    """
    unit = units[0] if len(units) == 1 else _unit_of(values, units, place)
    if unit != SIGNED_SHARES:  # among signed shares (-1, -1) is OpenPose's (0, 0)
        for part in _parts(values):
            part[(part[..., :2] == _MARK).all(axis=-1), :2] = np.nan
    if unit == PIXELS:
        return []
    if size is None:
        raise UserError(
            f"{place} has {unit}, and the size of the video is not known: give --size, such as "
            f"--size 1920x1080."
        )
    with np.errstate(over="ignore"):
        if unit == SIGNED_SHARES:
            values[..., :2] += 1
            values[..., :2] /= 2
        values[..., :2] *= size
    return [f"Coordinates were {unit}; they are pixels of {size[0]}x{size[1]} now."]


def _unit_of(values: np.ndarray, units: Sequence[str], place: str) -> str:
    """Finds the unit by the range of the coordinates, `[N, K, 3]`."""
    points = values[..., :2][np.isfinite(values[..., :2]).all(axis=-1)]
    if SIGNED_SHARES not in units:
        points = points[(points != _MARK).any(axis=-1)]
    found = points[(points != 0).any(axis=-1)]
    small = (np.abs(found) <= 1 + _OUTSIDE).all(axis=-1)
    if not len(found) or small.mean() < _SMALL:
        return PIXELS
    # Joints that were not found count too: OpenPose writes 0, which its scale moves to -1.
    if SIGNED_SHARES in units and small.all() and points.min() < -_OUTSIDE:
        return SIGNED_SHARES
    if (found < 0).any(axis=-1).mean() > _NEGATIVE:
        raise UserError(
            f"{place} has coordinates between {found.min():.2g} and {found.max():.2g}, which are "
            f"neither pixels nor {SHARES} (normalised by another rule, or metres?): write pixels."
        )
    return SHARES


def mark_missing(values: np.ndarray) -> list[str]:
    """Sets joints that were not found to NaN and their scores to 0, in `values` `[N, K, 3]`.

    They have a score that is not above 0, no coordinates, or lie at exactly (0, 0), where no
    detector finds a joint. `to_pixels` has taken the coordinates of those at (-1, -1).
    """
    far = missing = 0
    for part in _parts(values):
        is_far = (np.abs(part[..., :2]) > _FARTHEST).any(axis=-1)
        is_missing = is_far | ~(np.isfinite(part).all(axis=-1) & (part[..., 2] > 0))
        is_missing |= (part[..., :2] == 0).all(axis=-1)
        part[is_missing] = (np.nan, np.nan, 0)
        far += int(is_far.sum())
        missing += int(is_missing.sum())
    notes = []
    if far:
        notes.append(f"{far:,} joints farther than {_FARTHEST:,.0f} pixels away count as missing.")
    if missing:
        total = values[..., 2].size
        notes.append(
            f"{missing:,} of {total:,} joints ({missing / total:.1%}) are missing in the file."
        )
    return notes


def _parts(values: np.ndarray) -> list[np.ndarray]:
    """Cuts detections `[N, K, 3]` into views that are looked at together."""
    return [values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE)]


def require_inside(values: np.ndarray, size: tuple[int, int] | None, place: str) -> list[str]:
    """Compares joints with the size of the video, which a user may have mistyped."""
    if size is None:
        return []
    found = outside = 0
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for part in _parts(values):
        points = part[..., :2][part[..., 2] > 0]
        found += len(points)
        outside += int(((points < 0) | (points > size)).any(axis=-1).sum())
        low = np.minimum(low, points.min(axis=0, initial=np.inf))
        high = np.maximum(high, points.max(axis=0, initial=-np.inf))
    if not outside:
        return []
    if outside / found > 0.5:
        raise UserError(
            f"{place}: {outside / found:.0%} of the joints lie outside a video of "
            f"{size[0]}x{size[1]} (they are between {low[0]:.0f},{low[1]:.0f} and "
            f"{high[0]:.0f},{high[1]:.0f}): give the size of the video that was detected, such as "
            f"--size 1920x1080."
        )
    return [
        f"{outside:,} of {found:,} joints lie outside the video of {size[0]}x{size[1]}; they were "
        f"kept."
    ]
