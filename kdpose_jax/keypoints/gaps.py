"""Fills short gaps in tracks linearly in time, and masks long ones. Nothing becomes zero."""

import dataclasses
import math

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import layouts
from kdpose_jax.keypoints.tracks import Keypoints, Track
from kdpose_jax.untrusted import bounds

GAP = 0.5  # seconds, the default of `--gap`
_LISTED = 5  # joints that one sentence names
# A gap of exactly the stated length counts as short, whatever the rounding of its product.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class WholeTrack:
    """The keypoints of one person in every frame from the first to the last.

    Attributes:
      name: the person's name.
      first_frame: number of the first frame in the video, from 0.
      points: where the joints are, `[T, K, 2]` float32, pixels; NaN where masked.
      scores: the detector's scores, `[T, K]` float32; 0 where the detector did not find the joint.
      seen: whether the detector found the joint, `[T, K]`; False where it was interpolated or is
        masked.
      valid: whether all joints are there, found or interpolated, `[T]`.
    """

    name: str
    first_frame: int
    points: np.ndarray
    scores: np.ndarray
    seen: np.ndarray
    valid: np.ndarray


def fill(
    keypoints: Keypoints, fps: float, gap: float = GAP, score: float = 0.0
) -> tuple[tuple[WholeTrack, ...], tuple[str, ...]]:
    """Gives every frame of every track its joints.

    Each joint is interpolated on its own, between the last time that it was found and the next.
    Nothing is extrapolated: before a joint is found for the first time it is masked.

    Args:
      keypoints: the keypoints, of the joints that the network reads.
      fps: frames per second.
      gap: the longest gap that is filled, seconds (`--gap`).
      score: joints with a lower score count as missing (`--score`).

    Returns:
      The tracks, and sentences on the shares of joints that were found, interpolated and masked.

    Raises:
      UserError: an argument is out of range, a track is too long, or no frame has all joints.
    """
    check_settings(gap, score)
    if not (math.isfinite(fps) and fps > 0):
        raise UserError(f"--fps is {fps:g}: give the frames per second of the video, such as 30.")
    longest = math.floor(gap * fps + _ROUNDING)
    tracks = tuple(_fill_track(track, longest, score) for track in keypoints.tracks)
    low = sum(
        int(((track.scores > 0) & (track.scores < score)).sum()) for track in keypoints.tracks
    )
    notes = [f"{low:,} joints with a score below {score:g} count as missing."] if low else []
    if not any(track.valid.any() for track in tracks):
        raise UserError(_no_frame(tracks, keypoints, gap, score))
    return tracks, (*notes, *_shares(tracks, keypoints.joints, gap, fps))


def check_settings(gap: float, score: float) -> None:
    """Checks `--gap` and `--score`, which can be done before any file is read.

    Raises:
      UserError: one of them is out of range.
    """
    if not (math.isfinite(gap) and gap >= 0):
        raise UserError(f"--gap is {gap:g}: give seconds of 0 or more, such as {GAP:g}.")
    if not math.isfinite(score):
        raise UserError(f"--score is {score:g}: give a score such as 0.3.")


def _fill_track(track: Track, longest: int, score: float) -> WholeTrack:
    """Fills one track; `longest` is the length of a gap in frames."""
    first, length = int(track.frames[0]), int(track.frames[-1] - track.frames[0]) + 1
    joints = track.points.shape[1]
    if length * joints > bounds.KEYPOINTS:
        raise UserError(
            f"Person {track.name} is in the video from frame {first} to {int(track.frames[-1])}, "
            f"more than {bounds.KEYPOINTS:,} joints: split the video into parts."
        )
    rows = track.frames - first
    points = np.full((length, joints, 2), np.nan, np.float32)
    scores = np.zeros((length, joints), np.float32)
    seen = np.zeros((length, joints), bool)
    found = np.isfinite(track.points).all(axis=-1) & (track.scores > 0) & (track.scores >= score)
    points[rows], scores[rows], seen[rows] = track.points, track.scores, found
    points[~seen], scores[~seen] = np.nan, 0
    for joint in range(joints):
        _interpolate(points[:, joint], np.flatnonzero(seen[:, joint]), longest)
    valid = np.asarray(np.isfinite(points).all(axis=(1, 2)))
    return WholeTrack(track.name, first, points, scores, seen, valid)


def _interpolate(points: np.ndarray, known: np.ndarray, longest: int) -> None:
    """Fills gaps of at most `longest` frames in `points` `[T, 2]`, in place."""
    if len(known) < 2:
        return
    missing = np.flatnonzero(np.isnan(points[:, 0]))
    after = np.searchsorted(known, missing)
    inside = (after > 0) & (after < len(known))
    missing, after = missing[inside], after[inside]
    left, right = known[after - 1], known[after]
    short = right - left - 1 <= longest
    missing, left, right = missing[short], left[short], right[short]
    share = ((missing - left) / (right - left))[:, None]
    points[missing] = points[left] * (1 - share) + points[right] * share


def _shares(
    tracks: tuple[WholeTrack, ...], joints: tuple[str, ...], gap: float, fps: float
) -> list[str]:
    """Says how much was found, interpolated, and is still missing."""
    total = sum(track.seen.size for track in tracks)
    seen = sum(int(track.seen.sum()) for track in tracks)
    there = sum(int(np.isfinite(track.points[..., 0]).sum()) for track in tracks)
    notes = [
        f"Of {total:,} joints in {sum(len(track.valid) for track in tracks):,} frames, "
        f"{seen / total:.1%} were found, {(there - seen) / total:.1%} were interpolated over gaps "
        f"of up to {gap:g} s ({math.floor(gap * fps + _ROUNDING)} frames), and "
        f"{(total - there) / total:.1%} are still missing."
    ]
    without = sum(int((~track.valid).sum()) for track in tracks)
    if without:
        notes.append(
            f"{without:,} frames have no pose, because joints are missing in them: "
            f"{_worst(tracks, joints)}."
        )
    return notes


def _worst(tracks: tuple[WholeTrack, ...], joints: tuple[str, ...]) -> str:
    """Names the joints that are missing most often, with their shares."""
    masked = np.sum([np.isnan(track.points[..., 0]).sum(axis=0) for track in tracks], axis=0)
    frames = sum(len(track.valid) for track in tracks)
    order = [index for index in np.argsort(-masked, kind="stable") if masked[index]][:_LISTED]
    return ", ".join(f"{joints[index]} in {masked[index] / frames:.0%} of them" for index in order)


def _no_frame(
    tracks: tuple[WholeTrack, ...], keypoints: Keypoints, gap: float, score: float
) -> str:
    """Says why no frame has all joints, and what helps: it depends on the reason."""
    joints = keypoints.joints
    shown = np.any([track.seen.any(axis=0) for track in tracks], axis=0)
    found = np.any([(track.scores > 0).any(axis=0) for track in keypoints.tracks], axis=0)
    never = layouts.listed([joints[index] for index in np.flatnonzero(~found)])
    low = layouts.listed([joints[index] for index in np.flatnonzero(found & ~shown)])
    if never:
        return (
            f"The network reads {len(joints)} joints, and the detector found {never} in no frame: "
            "use a video in which the whole person is seen, or a network whose joints are all seen."
        )
    if low:
        return (
            f"The network reads {len(joints)} joints, and {low} have scores below --score "
            f"{score:g} in all frames: use a lower --score, or a video in which they are seen."
        )
    lower = " or a lower --score" if score > 0 else ""
    return (
        f"No frame has all {len(joints)} joints that the network reads, with --gap {gap:g} "
        f"({_worst(tracks, joints)} are missing): use a larger --gap{lower}, or a video in which "
        "the whole person is seen at once."
    )
