"""Finds which detections are of one person: by the file's ids, else by where they are."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints.tracking import Association
from kdpose_jax.keypoints.tracks import Keypoints, Track

# An id that stands for two persons in more than this share of its frames says nothing.
_TWICE = 0.1
_CROWD = 500  # persons in one frame
_AT_ONCE = 10_000  # detections whose boxes are computed together
_NAMED = 8  # persons that one sentence lists


@dataclasses.dataclass(frozen=True)
class Detections:
    """The persons that were found in the frames of a video.

    Attributes:
      frames: the frame of each detection, `[N]` int64.
      values: x, y (pixels, NaN where a joint was not found) and score, `[N, K, 3]` float32.
      ids: the identities that the file gives each detection; none, one, or several that it merged.
    """

    frames: np.ndarray
    values: np.ndarray
    ids: Sequence[tuple[str, ...]]


def track(detections: Detections, place: str) -> tuple[tuple[Track, ...], list[str]]:
    """Makes a track of each person.

    Detections are of one person if they have the same id. An id that stands twice in a frame, or
    several ids at once, are resolved by where the person was before. Detections without an id are
    added to the track of an id that they lie next to. Others become tracks of their own, by the
    overlap of boxes from frame to frame.

    Args:
      detections: the detections. Their values are sorted in place by person and frame, and the
        tracks are views of them, so that a long video is held once.
      place: names the file in an error.

    Returns:
      The tracks, in the order in which the persons appear, and sentences on what was resolved.

    Raises:
      UserError: no detection has a joint.
    """
    seen = np.flatnonzero((detections.values[..., 2] > 0).any(axis=-1))
    if not len(seen):
        raise UserError(f"{place} has no joint with a place and a score: give another file.")
    notes = []
    if len(seen) < len(detections.frames):
        notes.append(
            f"{len(detections.frames) - len(seen):,} detections without any joint were left out."
        )
    seen = seen[np.argsort(detections.frames[seen], kind="stable")]
    copies = _copies(detections, seen)
    if copies.any():
        notes.append(
            f"{int(copies.sum()):,} detections stand in the file a second time with the same "
            f"frame, id and joints, and were left out."
        )
        seen = seen[~copies]
    frames = detections.frames[seen]
    ids = [detections.ids[index] for index in seen.tolist()]
    owners, twice = _by_ids(frames, ids)
    if (owners < 0).any():
        _require_few(frames, place)
        boxes = _boxes(detections.values, seen)
        added = Association(frames, boxes, ids, owners).run()
        notes += _what_was_resolved(ids, twice, len(added))
    names, tracks = _names_of(owners, ids), []
    order = np.argsort(owners, kind="stable")
    values = _first(detections.values, seen[order])
    ends = [*(np.flatnonzero(np.diff(owners[order])) + 1).tolist(), len(order)]
    parts = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    for part in sorted(parts, key=lambda part: order[part.start]):
        tracks.append(
            Track(
                names[int(owners[order[part.start]])],
                frames[order[part]],
                values[part, :, :2],
                values[part, :, 2],
            )
        )
    return tuple(tracks), notes


def _copies(detections: Detections, rows: np.ndarray) -> np.ndarray:
    """Finds detections that repeat another one, as in files that somebody merged.

    Args:
      detections: the detections.
      rows: those that have a joint, `[M]`, by frame.

    Returns:
      Whether a detection has the frame, the identities and the joints of one before it, `[M]`.
    """
    weights = np.random.default_rng(0).uniform(1, 2, detections.values.shape[1:])
    parts = np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))
    sums = np.concatenate(
        [np.nansum(detections.values[part] * weights, axis=(1, 2)) for part in parts]
    )
    frames = detections.frames[rows]
    order = np.lexsort((sums, frames))  # stable: copies follow what they repeat
    alike = (np.diff(frames[order]) == 0) & (np.diff(sums[order]) == 0)
    copies = np.zeros(len(rows), bool)
    for place in np.flatnonzero(alike).tolist():
        one, other = rows[order[place]], rows[order[place + 1]]
        copies[order[place + 1]] = detections.ids[one] == detections.ids[other] and np.array_equal(
            detections.values[one], detections.values[other], equal_nan=True
        )
    return copies


def _first(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Moves rows of `values` `[N, K, 3]` to the front, in their order; returns a view of them.

    It goes joint by joint, so that it takes a fraction of the memory of a copy.
    """
    for joint in range(values.shape[1]):
        values[: len(rows), joint] = values[rows, joint]
    return values[: len(rows)]


def _by_ids(frames: np.ndarray, ids: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, int]:
    """Numbers the detections whose id says who they are.

    Returns:
      The number of each detection's person, `[N]`, -1 if it is to be found; and how many detections
      share their frame and their id with another.
    """
    numbers: dict[str, int] = {}
    owners = np.asarray(
        [numbers.setdefault(one[0], len(numbers)) if len(one) == 1 else -1 for one in ids]
    )
    single = np.flatnonzero(owners >= 0)
    if not len(single):
        return owners, 0
    keys = frames[single] * len(numbers) + owners[single]
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    shared = counts[inverse] > 1
    total = np.bincount(owners[single], minlength=len(numbers))
    doubtful = np.bincount(owners[single][shared], minlength=len(numbers))
    worthless = doubtful > _TWICE * total
    owners[single[shared | worthless[owners[single]]]] = -1
    return owners, int(shared.sum())


def _require_few(frames: np.ndarray, place: str) -> None:
    """Refuses crowds: each person is compared with each in the frame before."""
    numbers, counts = np.unique(frames, return_counts=True)
    if counts.max() > _CROWD:
        raise UserError(
            f"{place} has {counts.max():,} persons in frame {numbers[counts.argmax()]}, and at "
            f"most {_CROWD:,} are told apart without ids: raise the detector's threshold, or track "
            f"the persons with it."
        )


def _boxes(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns boxes around the joints that were found: left, top, right, bottom.

    Args:
      values: x, y and score of all detections, `[N, K, 3]`.
      rows: the detections that have a joint, `[M]`.

    Returns:
      The boxes, `[M, 4]`.
    """
    boxes = np.zeros((len(rows), 4))
    for start in range(0, len(rows), _AT_ONCE):
        points = values[rows[start : start + _AT_ONCE], :, :2]
        missing = np.isnan(points)
        boxes[start : start + _AT_ONCE, :2] = np.where(missing, np.inf, points).min(axis=1)
        boxes[start : start + _AT_ONCE, 2:] = np.where(missing, -np.inf, points).max(axis=1)
    return boxes


def _names_of(owners: np.ndarray, ids: Sequence[tuple[str, ...]]) -> dict[int, str]:
    """Names each person by its id; those without one by numbers that no id has."""
    names: dict[int, str] = {}
    used = {one for merged in set(ids) for one in merged}
    votes: dict[int, collections.Counter[str]] = {}
    for owner, one in zip(owners.tolist(), ids, strict=True):
        if len(one) == 1:
            votes.setdefault(owner, collections.Counter())[one[0]] += 1
    free = (str(number) for number in range(1, len(owners) + len(used) + 2))
    given: set[str] = set()
    for owner in dict.fromkeys(owners.tolist()):
        best = votes[owner].most_common(1)[0][0] if owner in votes else None
        if best is None or best in given:
            best = next(name for name in free if name not in used and name not in given)
        names[owner] = best
        given.add(best)
    return names


def _what_was_resolved(ids: Sequence[tuple[str, ...]], twice: int, added: int) -> list[str]:
    """Says how persons were told apart where ids did not do it."""
    merged = sum(len(one) > 1 for one in ids)
    without = sum(not one for one in ids)
    notes = []
    if twice:
        notes.append(
            f"{twice:,} detections share their id with another in the same frame; they were told "
            f"apart by where the person was before."
        )
    if merged:
        notes.append(
            f"{merged:,} detections have several ids at once; the id whose person was nearest was "
            f"taken."
        )
    if without:
        notes.append(
            f"{without:,} of {len(ids):,} detections have no id; they were joined to persons by "
            f"the overlap of boxes from frame to frame."
        )
    if added and (twice or merged):
        notes.append(f"{added:,} persons were added, whom no id names.")
    return notes


def choose(keypoints: Keypoints, name: str) -> Keypoints:
    """Keeps the person that `--person` names.

    Raises:
      UserError: there is no such person.
    """
    kept = tuple(one for one in keypoints.tracks if one.name == name)
    if not kept:
        largest = sorted(keypoints.tracks, key=lambda one: -len(one.frames))[:_NAMED]
        listed = ", ".join(f"{one.name} in {len(one.frames):,} frames" for one in largest)
        more = len(keypoints.tracks) - len(largest)
        raise UserError(
            f"--person {name} is not a person of the file: use one of {listed}"
            + (f" and {more:,} more." if more else ".")
        )
    if len(keypoints.tracks) == 1:
        return keypoints
    note = f"Person {name} was chosen of {len(keypoints.tracks):,}."
    return dataclasses.replace(keypoints, tracks=kept, notes=(*keypoints.notes, note))
