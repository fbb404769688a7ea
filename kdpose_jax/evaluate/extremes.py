"""Finds the test examples that a network does best and worst, to look at.

They are for the eye. No score is computed from them.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from kdpose_jax.codecs import crops
from kdpose_jax.data.persons import Persons, PersonSource
from kdpose_jax.evaluate.metrics.poses_3d import joint_errors
from kdpose_jax.skeletons import Skeleton

CLIP_FRAMES = 150  # 3 s of Human3.6M
# A clip with fewer frames that count is too short to judge.
_FEWEST = 10


@dataclasses.dataclass(frozen=True)
class Motion3D:
    """A sequence with its prediction.

    Attributes:
      name: the sequence, as "subject/take/camera" where it has cameras.
      action: what is done; empty if that is not known.
      predicted: `[T, J, 3]`, metres, root-relative.
      target: likewise.
      keypoints_2d: what the network read, `[T, J, 2]`, screen units.
      counts: whether each frame is scored, `[T]`.
    """

    name: str
    action: str
    predicted: np.ndarray
    target: np.ndarray
    keypoints_2d: np.ndarray
    counts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Clip:
    """Some seconds of a test sequence.

    Attributes:
      motion: these frames alone.
      first_frame: number of the clip's first frame in the sequence.
      error: MPJPE over the frames that count, mm.
    """

    motion: Motion3D
    first_frame: int
    error: float


@dataclasses.dataclass(frozen=True)
class Crop:
    """A person in a test picture.

    Attributes:
      name: the photograph's file, and the person's number.
      picture: what the network saw, `[S, S, 3]` uint8 RGB.
      predicted: `[J, 2]`, pixels of `picture`.
      target: `[J, 2]`, pixels of `picture`; NaN where a joint is not labelled.
      error: mean distance of the labelled joints, percent of the side of `picture`, so that
        networks that read crops of different sizes compare.
    """

    name: str
    picture: np.ndarray
    predicted: np.ndarray
    target: np.ndarray
    error: float


@dataclasses.dataclass(frozen=True)
class Extremes:
    """What is worth looking at.

    Attributes:
      skeleton: the joints.
      unit: the unit of errors.
      by_joint: name of a joint -> its mean error over the whole test set. Joints that nobody
        labelled are missing.
      worst: the examples with the largest errors, the worst first.
      best: those with the smallest errors, the best first.
    """

    skeleton: Skeleton
    unit: str
    by_joint: Mapping[str, float]
    worst: tuple[Clip | Crop, ...]
    best: tuple[Clip | Crop, ...]


def of_motion(sequences: Iterable[Motion3D], skeleton: Skeleton, count: int) -> Extremes:
    """Cuts sequences into clips of `CLIP_FRAMES`, and finds the best and the worst ones.

    Of one take, which several cameras may have seen, at most one clip is among the worst and one
    among the best. Otherwise they would all show the same moment.

    Args:
      sequences: the test set. They are read one by one.
      skeleton: the joints.
      count: how many of each to return; fewer if there are fewer.
    """
    sums, frames = np.zeros(skeleton.num_joints), 0
    worst: list[Clip] = []
    best: list[Clip] = []
    for sequence in sequences:
        errors = 1000 * joint_errors(sequence.predicted, sequence.target)
        sums += errors[sequence.counts].sum(0)
        frames += int(sequence.counts.sum())
        clips = list(_clips(sequence, errors.mean(-1)))
        worst = _ranked([*worst, *clips], count, sign=-1)
        best = _ranked([*best, *clips], count, sign=1)
    by_joint = {} if not frames else dict(zip(skeleton.joints, sums / frames, strict=True))
    return Extremes(skeleton, "mm", by_joint, tuple(worst), tuple(best))


def _clips(sequence: Motion3D, errors: np.ndarray) -> Iterator[Clip]:
    for start in range(0, len(errors), CLIP_FRAMES):
        part = slice(start, start + CLIP_FRAMES)
        counts = sequence.counts[part]
        if counts.sum() < min(_FEWEST, len(errors)) or not counts.any():
            continue
        arrays = {
            name: getattr(sequence, name)[part]
            for name in ("predicted", "target", "keypoints_2d", "counts")
        }
        yield Clip(
            motion=dataclasses.replace(sequence, **arrays),
            first_frame=start,
            error=float(errors[part][counts].mean()),
        )


def _ranked(clips: list[Clip], count: int, sign: int) -> list[Clip]:
    """Returns the first clips by error, and of one take the first alone."""
    chosen: dict[str, Clip] = {}
    for clip in sorted(clips, key=lambda clip: sign * clip.error):
        chosen.setdefault(take_of(clip.motion.name), clip)
    return list(chosen.values())[:count]


def take_of(sequence: str) -> str:
    """Names the take of a sequence: "subject/take" of "subject/take/camera"."""
    return sequence.rpartition("/")[0] or sequence


def of_pictures(
    source: PersonSource,
    persons: Persons,
    side: int,
    predicted: np.ndarray,
    count: int,
) -> Extremes:
    """Finds the persons whose joints are found best and worst.

    Args:
      source: their crops.
      persons: the persons; those without a labelled joint are passed over.
      side: side of the crops, pixels.
      predicted: the joints in crop pixels, `[N, J, 2]`.
      count: how many of each to return; fewer if there are fewer.
    """
    everybody = np.arange(len(persons))
    affine = crops.crop_affine(persons.center, persons.scale, np.zeros(len(persons)), (side, side))
    target = crops.transform_points(persons.joints[everybody].astype(np.float64), affine)
    errors = np.linalg.norm(predicted - target, axis=-1) * 100 / side
    errors = np.where(persons.visible, errors, np.nan)
    labelled = np.flatnonzero(persons.visible.any(-1))
    means = np.nanmean(errors[labelled], axis=-1)
    order = labelled[np.argsort(means, kind="stable")]
    target[~np.asarray(persons.visible, bool)] = np.nan

    def crops_of(chosen: np.ndarray) -> tuple[Crop, ...]:
        if not len(chosen):
            return ()
        pictures = source.gather(chosen)["image"]
        return tuple(
            Crop(
                name=f"{persons.file[number]}, person {persons.person_id[number]}",
                picture=np.asarray(picture),
                predicted=np.asarray(predicted[number], np.float64),
                target=target[number],
                error=float(np.nanmean(errors[number])),
            )
            for number, picture in zip(chosen, pictures, strict=True)
        )

    seen = np.flatnonzero(persons.visible.any(0))
    by_joint = {
        persons.skeleton.joints[joint]: float(np.nanmean(errors[:, joint])) for joint in seen
    }
    # Nobody is among the best and the worst.
    half = len(order) // 2
    worst, best = order[::-1][: min(count, len(order) - half)], order[: min(count, half)]
    return Extremes(persons.skeleton, "% of the crop", by_joint, crops_of(worst), crops_of(best))
