"""Joins detections to persons from frame to frame, by the overlap of their boxes."""

from collections.abc import Iterable, Sequence

import numpy as np

# A track is continued after at most this many frames without the person.
_FRAMES_APART = 30
# Boxes must overlap by this much (intersection over union), or their centres must be closer than
# half of the larger diagonal.
_OVERLAP, _NEAR = 0.1, 0.5


class Association:
    """Finds the person of each detection that has none, frame by frame."""

    def __init__(
        self,
        frames: np.ndarray,
        boxes: np.ndarray,
        ids: Sequence[tuple[str, ...]],
        owners: np.ndarray,
    ):
        self._boxes, self._ids, self._owners = boxes.tolist(), ids, owners
        starts = np.flatnonzero(np.r_[True, frames[1:] != frames[:-1]])
        self._groups = [
            (int(frames[first]), range(first, last))
            for first, last in zip(starts, [*starts[1:], len(frames)], strict=True)
        ]
        self._known = {
            ids[index][0]: int(owners[index]) for index in np.flatnonzero(owners >= 0).tolist()
        }
        self._next = max(self._known.values(), default=-1) + 1

    def run(self) -> range:
        """Numbers all detections, in place; returns the numbers of tracks that were added."""
        first = self._next
        if self._known:
            self._sweep(self._groups, adds=False)
            self._sweep(self._groups[::-1], adds=False)
        self._sweep(self._groups, adds=True)
        return range(first, self._next)

    def _sweep(self, groups: Iterable[tuple[int, range]], adds: bool) -> None:
        """Goes through the frames; `adds` begins a track for what lies next to no other."""
        last: dict[int, tuple[int, list[float]]] = {}  # track -> its latest frame and box
        for frame, rows in groups:
            own = [row for row in rows if self._owners[row] >= 0]
            free = [row for row in rows if self._owners[row] < 0]
            if free:
                taken = {int(self._owners[row]) for row in own}
                for row, number in self._match(frame, free, last, taken):
                    self._owners[row] = number
            for row in rows:
                if self._owners[row] < 0 and adds:
                    self._owners[row] = self._next
                    self._next += 1
                if self._owners[row] >= 0:
                    last[int(self._owners[row])] = (frame, self._boxes[row])
            if len(last) > len(rows) + 8:  # forgets whom nothing can continue
                last = {
                    number: seen
                    for number, seen in last.items()
                    if abs(frame - seen[0]) <= _FRAMES_APART
                }

    def _match(
        self,
        frame: int,
        free: Sequence[int],
        last: dict[int, tuple[int, list[float]]],
        taken: set[int],
    ) -> list[tuple[int, int]]:
        """Pairs detections with tracks, the nearest ones first."""
        pairs = []
        for row in free:
            named = [self._known[one] for one in self._ids[row] if one in self._known]
            for number, (before, box) in last.items():
                if number in taken or abs(frame - before) > _FRAMES_APART:
                    continue
                likeness = _likeness(self._boxes[row], box)
                if number in named:
                    likeness += 1.0  # one of the ids that the file gives it
                if likeness > 0:
                    pairs.append((-likeness, row, number))
        found, rows = [], set()
        for _, row, number in sorted(pairs):
            if row not in rows and number not in taken:
                found.append((row, number))
                rows.add(row)
                taken.add(number)
        return found


def _likeness(one: Sequence[float], other: Sequence[float]) -> float:
    """Tells how near two boxes are: their overlap, less for those that only lie close together.

    It is 0 for boxes that cannot be of one person.
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    shared = width * height if width > 0 and height > 0 else 0.0
    overlap = shared / (sum(areas) - shared) if shared else 0.0
    if overlap >= _OVERLAP:
        return overlap
    across = max(((box[2] - box[0]) ** 2 + (box[3] - box[1]) ** 2) ** 0.5 for box in (one, other))
    away = (
        (one[0] + one[2] - other[0] - other[2]) ** 2 + (one[1] + one[3] - other[1] - other[3]) ** 2
    ) ** 0.5 / 2
    if away > _NEAR * across:
        return 0.0
    return _OVERLAP * (1 - away / (2 * _NEAR * across)) if across else _OVERLAP
