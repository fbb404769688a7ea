"""Lifts the keypoints of a video, person by person, in blocks of frames."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from kdpose_jax.keypoints import gaps, layouts, persons, rates, sizes
from kdpose_jax.keypoints.gaps import WholeTrack
from kdpose_jax.keypoints.tracks import Keypoints
from kdpose_jax.poses.predicted import Poses, PosesOfPerson
from kdpose_jax.predict import blending
from kdpose_jax.predict.lifter import Lifter
from kdpose_jax.predict.request import LiftingOptions

# The rate of a video whose file does not say it, frames per second, where the network's rate is not
# known either.
USUAL_RATE = 30.0
BLOCK = 4096  # frames of one person that are handed on at once


@dataclasses.dataclass(frozen=True)
class Video:
    """A video that is ready to be lifted.

    Attributes:
      tracks: the persons' keypoints in the network's joints, in every frame.
      about: everything about the poses that will come; its `persons` are empty.
      rate: frames per second that the network reads; None reads the video's frames as they are.
    """

    tracks: tuple[WholeTrack, ...]
    about: Poses
    rate: float | None

    @property
    def frames(self) -> int:
        """Number of frames of all persons."""
        return sum(len(track.valid) for track in self.tracks)


def prepare(keypoints: Keypoints, network: Lifter, options: LiftingOptions, place: str) -> Video:
    """Makes what the network reads of a file's keypoints.

    Args:
      keypoints: the file's content.
      network: the network.
      options: how the keypoints are taken.
      place: names the file in an error.

    Raises:
      UserError: the person is not there, a joint cannot be made, the size is not known, or no frame
        has all joints.
    """
    if options.person is not None:
        keypoints = persons.choose(keypoints, options.person)
    size = sizes.require_size(keypoints.size, place)
    keypoints = layouts.convert(keypoints, network.joints)
    fps, notes = _rate_of(keypoints, options)
    tracks, about_gaps = gaps.fill(keypoints, fps, options.gap, options.score)
    resampled = options.rate is not None and not rates.is_same(fps, options.rate)
    if resampled:
        notes.append(
            f"Keypoints were resampled from {fps:.4g} to the network's {options.rate:.4g} frames "
            "per second, and poses back."
        )
    elif options.rate is None:
        notes.append(
            "The rate that the network was trained at is not known, so that it reads the frames as "
            "they are (--rate tells it)."
        )
    overlaps = options.overlap and network.description.predicted > 1
    if overlaps:
        notes.append(
            f"Windows of {network.description.predicted} frames overlap by half and are averaged "
            "(--nooverlap lays them end to end, as in evaluation)."
        )
    # Keyframes of another rate lie between the video's frames.
    stride, offset = (1, 0) if resampled else _keyframes(tracks, network, options.overlap)
    about = Poses(
        persons=(),
        joints=network.joints,
        parents=network.parents,
        root=network.skeleton.root,
        fps=fps,
        size=size,
        length=keypoints.length,
        network=network.description.name,
        fingerprint=network.fingerprint,
        keyframe_stride=stride,
        keyframe_offset=offset,
        notes=(*network.notes, *keypoints.notes, *about_gaps, *notes),
    )
    return Video(tracks, about, options.rate if resampled else None)


def _keyframes(tracks: tuple[WholeTrack, ...], network: Lifter, overlap: bool) -> tuple[int, int]:
    """Says which frames of the video are read: every r-th one, and which is the first.

    It is (1, 0) if they are not the same for all persons, stretches and windows.
    """
    about = network.description
    hop = blending.hop(about.predicted, about.keyframe_stride) if overlap else about.predicted
    first = {
        (track.first_frame + start + about.keyframe_offset - about.before) % about.keyframe_stride
        for track in tracks
        for start, _ in _stretches(track.valid)
        if track.valid[start]
    }
    fixed = about.keyframe_selection == "uniform" and hop % about.keyframe_stride == 0
    return (about.keyframe_stride, first.pop()) if fixed and len(first) == 1 else (1, 0)


def _rate_of(keypoints: Keypoints, options: LiftingOptions) -> tuple[float, list[str]]:
    """Returns the video's frames per second, and a sentence if they are assumed."""
    if keypoints.fps is not None:
        return keypoints.fps, []
    fps = USUAL_RATE if options.rate is None else options.rate
    whose = "" if options.rate is None else ", the network's rate,"
    return fps, [
        f"The file does not say its frames per second: {fps:.4g}{whose} are assumed (--fps tells "
        "them)."
    ]


def lift(video: Video, network: Lifter, options: LiftingOptions) -> Iterator[Poses]:
    """Lifts a video and yields its poses in blocks, one person after the other.

    A person's frames between two masks are lifted by themselves, as if they were a video.
    """
    for track in video.tracks:
        for first, end in _stretches(track.valid):
            pose = None
            if track.valid[first]:
                pose = _poses(track.points[first:end], video, network, options)
            yield from _blocks(track, first, end, pose, video.about)


def _stretches(valid: np.ndarray) -> list[tuple[int, int]]:
    """Cuts frames where a mask begins or ends: (first, end) of each part."""
    cuts = np.flatnonzero(valid[1:] != valid[:-1]) + 1
    ends = [0, *cuts.tolist(), len(valid)]
    return list(zip(ends[:-1], ends[1:], strict=True))


def _poses(
    points: np.ndarray, video: Video, network: Lifter, options: LiftingOptions
) -> Iterator[np.ndarray]:
    """Lifts frames that follow one another, `[T, J, 2]` pixels -> pieces `[t, J, 3]` metres."""
    size, fps, rate, frames = video.about.size, video.about.fps, video.rate, len(points)
    pieces: Iterable[np.ndarray] = (
        points[start : start + BLOCK] for start in range(0, frames, BLOCK)
    )
    how: dict[str, Any] = {"size": size, "flip": options.flip, "overlap": options.overlap}
    if rate is None:
        return network.blocks(pieces, **how)
    read = rates.resample_pieces(pieces, fps, rate, frames)
    lifted = network.blocks(read, **how)
    return rates.resample_pieces(lifted, rate, fps, rates.count_at(frames, fps, rate), frames)


def _blocks(
    track: WholeTrack, first: int, end: int, pose: Iterator[np.ndarray] | None, about: Poses
) -> Iterator[Poses]:
    """Yields the frames of a track from `first` to `end`, with their poses or masked."""
    if pose is None:
        joints = track.points.shape[1]
        pose = (
            np.full((min(BLOCK, end - start), joints, 3), np.nan, np.float32)
            for start in range(first, end, BLOCK)
        )
    for piece in pose:
        part = slice(first, first + len(piece))
        person = PosesOfPerson(
            name=track.name,
            first_frame=track.first_frame + first,
            pose_3d=piece,
            keypoints_2d=track.points[part],
            scores=track.scores[part],
            seen=track.seen[part],
            valid=track.valid[part],
        )
        yield dataclasses.replace(about, persons=(person,))
        first += len(piece)
