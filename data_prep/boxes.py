"""Checks a file's boxes against labelled joints and photographs.

The check asks whether the boxes are what the layout says. Every reader of pictures uses it. A box
counts as the square that its crop is cut from, so one measure serves boxes with corners and sizes
and MPII's centre and scale. Other readings of the same numbers (corners, centres, pixels for units
of 200) are tried beside the layout's own. If nearly all persons fit another reading and not this
one, the file is refused, and the message names the reading.
"""

from collections.abc import Callable

import numpy as np

from kdpose_jax.codecs import crops
from kdpose_jax.errors import UserError

# Numbers `[N, 3 or 4]` as a file states them -> squares `[N, 3]`: centre x, centre y and side,
# pixels.
Reading = Callable[[np.ndarray], np.ndarray]

# A person supports a reading whose square overlaps theirs by at least this much more (intersection
# over union).
LEAD = 0.1
# Shares that a reading must reach to count as what the file means: its overlap, and its part of the
# persons who support a reading.
OVERLAP, AGREEMENT = 0.3, 0.8
# Among fewer persons the lead must be large. The layout's overlap must be below this share of the
# other's.
FEW, CLEAR = 20, 0.6
# From this number of persons on, boxes that do not show most of them are refused without another
# reading.
CERTAIN = 10
BEYOND = 0.1  # share of a photograph's side; detectors' boxes reach beyond it by a few pixels
TINY = 2.0  # pixels; numbers below it are fractions of the photograph


def _square(x: np.ndarray, y: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    return np.stack([x + width / 2, y + height / 2, np.maximum(width, height)], -1)


def _corner(a: np.ndarray) -> np.ndarray:
    return _square(a[:, 0], a[:, 1], a[:, 2], a[:, 3])


# The first entry in each is the layout's own.
BOXES: dict[str, Reading] = {
    "x, y, width, height": _corner,
    "x1, y1, x2, y2": lambda a: _square(a[:, 0], a[:, 1], a[:, 2] - a[:, 0], a[:, 3] - a[:, 1]),
    "centre x, centre y, width, height": lambda a: _square(
        a[:, 0] - a[:, 2] / 2, a[:, 1] - a[:, 3] / 2, a[:, 2], a[:, 3]
    ),
    "y, x, height, width": lambda a: _corner(a[:, [1, 0, 3, 2]]),
    "y1, x1, y2, x2": lambda a: _square(a[:, 1], a[:, 0], a[:, 3] - a[:, 1], a[:, 2] - a[:, 0]),
    "x1, x2, y1, y2": lambda a: _square(a[:, 0], a[:, 2], a[:, 1] - a[:, 0], a[:, 3] - a[:, 2]),
    "centre x, centre y and sizes in units of 200 pixels": lambda a: np.stack(
        [a[:, 0], a[:, 1], crops.UNIT * np.maximum(a[:, 2], a[:, 3])], -1
    ),
}
CENTRES: dict[str, Reading] = {
    "a centre in pixels and a scale in units of 200 pixels": lambda a: a * [1, 1, crops.UNIT],
    "a centre and a scale in pixels": lambda a: a,
    "a centre (y, x) in pixels and a scale in units of 200 pixels": lambda a: (
        a[:, [1, 0, 2]] * [1, 1, crops.UNIT]
    ),
    "a centre and a scale in units of 200 pixels": lambda a: a * crops.UNIT,
    "a corner in pixels and a scale in units of 200 pixels": lambda a: (
        (a + a[:, [2, 2, 2]] * [100, 100, 0]) * [1, 1, crops.UNIT]
    ),
}


def squares_of_joints(joints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Computes the smallest squares around persons' labelled joints, `[N, 3]`.

    A square is NaN if fewer than half of its joints are labelled.

    Args:
      joints: `[N, J, 2]` pixels.
      visible: `[N, J]`.
    """
    low = np.where(visible[..., None], joints, np.inf).min(1)
    high = np.where(visible[..., None], joints, -np.inf).max(1)
    enough = visible.sum(1) >= max(visible.shape[1] / 2, 2)
    low, high = (np.where(enough[:, None], corner, np.nan) for corner in (low, high))
    return _square(*low.T, *(high - low).T)


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Computes intersection over union of squares `[..., 3]`, with broadcast shapes.

    It is 0 if a side is not positive.
    """
    sides = np.maximum(first[..., 2], 0), np.maximum(second[..., 2], 0)
    inner = np.ones(np.broadcast_shapes(first.shape[:-1], second.shape[:-1]))
    for axis in (0, 1):
        low = np.maximum(first[..., axis] - sides[0] / 2, second[..., axis] - sides[1] / 2)
        high = np.minimum(first[..., axis] + sides[0] / 2, second[..., axis] + sides[1] / 2)
        inner = inner * np.maximum(high - low, 0)
    outer = sides[0] ** 2 + sides[1] ** 2 - inner
    return np.divide(inner, outer, out=np.zeros_like(inner), where=outer > 0)


def check_annotated(
    stated: np.ndarray,
    readings: dict[str, Reading],
    joints: np.ndarray,
    visible: np.ndarray,
    sizes: np.ndarray,
    path: str,
) -> list[str]:
    """Checks persons' boxes against their labelled joints and their photographs.

    Args:
      stated: the file's numbers, `[N, 3 or 4]`.
      readings: `BOXES` or `CENTRES`.
      joints: `[N, J, 2]` pixels.
      visible: `[N, J]`.
      sizes: widths and heights of the photographs, `[N, 2]` pixels.
      path: names the file in messages.

    Returns:
      Notes.

    Raises:
      UserError: the numbers mean something else, or joints and photographs do not match.
    """
    if not len(stated):
        return []
    _refuse_fractions(stated, joints, visible, path)
    inside = ((joints > -BEYOND * sizes[:, None]) & (joints < (1 + BEYOND) * sizes[:, None])).all(
        -1
    )
    outside = (visible & ~inside).sum() / max(visible.sum(), 1)
    if outside > 0.5 and len(stated) > 1:
        raise UserError(
            f"'{path}': {100 * outside:.0f} % of the labelled joints lie outside their "
            "photographs: give the photographs of the size for which these annotations are, or "
            "bring the annotations to pixels of these."
        )
    references = squares_of_joints(joints, visible)
    known = np.isfinite(references).all(1)
    scores = np.stack(
        [overlap(read(stated[known]), references[known]) for read in readings.values()]
    )
    notes = _judge(scores, list(readings), path, "labelled joints")
    if readings is BOXES:  # MPII's boxes may reach beyond, as persons do
        notes += _reaching_beyond(stated, sizes, scores, path)
    squares = next(iter(readings.values()))(stated)
    half = np.maximum(squares[:, 2:] * crops.PADDING / 2, 0)
    shown = (np.abs(joints - squares[:, None, :2]) <= half[:, None]).all(-1)
    hidden = visible.any(1) & ((shown & visible).sum(1) < visible.sum(1) / 2)
    return notes + _hiding(int(hidden.sum()), len(stated), path)


def check_detected(
    stated: np.ndarray,
    owners: np.ndarray,
    persons: np.ndarray,
    owners_of_persons: np.ndarray,
    sizes: np.ndarray,
    path: str,
) -> list[str]:
    """Checks a detector's boxes against the annotated persons on their photographs.

    Args:
      stated: the file's numbers x, y, width, height, `[N, 4]`.
      owners: number of each box's photograph, `[N]`.
      persons: annotated boxes that have been checked, `[M, 4]`.
      owners_of_persons: number of each person's photograph, `[M]`.
      sizes: width and height of each box's photograph, `[N, 2]` pixels.
      path: names the file in messages.

    Returns:
      Notes.

    Raises:
      UserError: the numbers mean something else.
    """
    if not len(stated):
        return []
    _refuse_fractions(stated, np.zeros((0, 1, 2)), np.zeros((0, 1), bool), path)
    references, squares = _corner(persons), np.stack([read(stated) for read in BOXES.values()])
    order = np.argsort(owners, kind="stable")
    starts, ends = (
        np.searchsorted(owners[order], owners_of_persons, side) for side in ("left", "right")
    )
    best = [
        overlap(squares[:, order[start:end]], reference).max(1)  # [readings]
        for start, end, reference in zip(starts, ends, references, strict=True)
        if end > start
    ]
    scores = np.stack(best, -1) if best else np.zeros((len(BOXES), 0))
    notes = _judge(scores, list(BOXES), path, "annotated persons") + _reaching_beyond(
        stated, sizes, scores, path
    )
    missed = int((scores[0] < LEAD).sum())
    if missed > len(best) / 2:
        notes.append(
            f"{missed:,} of {len(best):,} annotated persons have no box on them; are these the "
            f"boxes of this data set?"
        )
    return notes


def _refuse_fractions(
    stated: np.ndarray, joints: np.ndarray, visible: np.ndarray, path: str
) -> None:
    """Raises UserError if boxes or joints are given as fractions of the photograph."""
    small = (np.abs(stated) <= TINY).all(1)
    if small.mean() > 0.5:
        raise UserError(
            f"'{path}': {small.sum():,} of {len(small):,} boxes lie in the first {TINY:g} pixels, "
            "as fractions of width and height do: multiply them by the photograph's size."
        )
    labelled = visible.any(-1)
    tiny = labelled & (np.where(visible[..., None], np.abs(joints), 0) <= TINY).all((1, 2))
    if tiny.sum() > labelled.sum() / 2:
        raise UserError(
            f"'{path}': the joints of {tiny.sum():,} of {labelled.sum():,} persons lie in the "
            f"first {TINY:g} pixels, as fractions of width "
            "and height do: multiply them by the photograph's size."
        )


def _judge(scores: np.ndarray, names: list[str], path: str, what: str) -> list[str]:
    """Compares readings by their overlaps `[readings, persons]` with known squares.

    The first reading is the layout's own.
    """
    if not scores.shape[1]:
        return []
    others = scores[1:]
    best = int(np.argmax(others.mean(1)))
    other, own = others[best], scores[0]
    speaking, against = int((other > own + LEAD).sum()), int((own > other + LEAD).sum())
    fits = np.median(other) >= OVERLAP and speaking >= AGREEMENT * (speaking + against)
    is_clear = speaking >= max(FEW, len(own) / 2) or (
        speaking > len(own) / 2 and np.median(own) < CLEAR * np.median(other)
    )
    if speaking and fits and is_clear and len(own) > 1:
        raise UserError(
            f"'{path}': {speaking:,} of {len(own):,} boxes fit the {what} as {names[1 + best]} and "
            f"not as {names[0]}, which this layout has: rewrite them as {names[0]}."
        )
    certain = int(((other > own + 3 * LEAD) & (own < LEAD)).sum())
    if certain:
        return [
            f"{certain:,} of {len(own):,} boxes fit the {what} as {names[1 + best]} and not as "
            f"{names[0]}"
        ]
    return []


def _reaching_beyond(
    stated: np.ndarray, sizes: np.ndarray, scores: np.ndarray, path: str
) -> list[str]:
    """Counts boxes that reach far beyond their photographs, as misread corners do.

    Boxes of whole persons who are only partly in the picture do so too, but they fit. `scores` are
    the overlaps of `BOXES`.
    """
    ends, margin = stated[:, :2] + stated[:, 2:], BEYOND * sizes
    beyond = ((ends > sizes + margin) | (stated[:, :2] < -margin)).any(1)
    count, total = int(beyond.sum()), len(stated)
    as_corners = (stated[:, 2:] <= sizes + margin).all(1) & (stated[:, 2:] > stated[:, :2]).all(1)
    own, corners = (float(np.median(one)) for one in scores[:2]) if scores.shape[1] else (0.0, 0.0)
    if count > 1 and count > total / 3 and (own < OVERLAP or corners > own + LEAD):
        guess = "are they x1, y1, x2, y2? " if as_corners[beyond].mean() > AGREEMENT else ""
        raise UserError(
            f"'{path}': {count:,} of {total:,} boxes reach beyond their photograph by more than a "
            f"tenth of its side: {guess}give x, y, width and height in pixels of these photographs."
        )
    return (
        [
            f"{count:,} of {total:,} boxes reach beyond their photograph by more than a tenth of "
            f"its side"
        ]
        if count
        else []
    )


def _hiding(count: int, total: int, path: str) -> list[str]:
    """Counts persons whose crop does not show them."""
    if not count:
        return []
    said = (
        f"the boxes of {count:,} of {total:,} persons show less than half of their labelled joints"
    )
    if total >= CERTAIN and count > total / 2:
        raise UserError(
            f"'{path}': {said}: give boxes and joints of the same persons, in pixels of the same "
            f"photographs."
        )
    return [said]
