"""Scores of 2D poses: PCK in its forms, OKS, and the suppression of doubles. Host side, float64.

Equations: docs/methods/pose2d.md#pckh, docs/methods/pose2d.md#coco-evaluation.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

Array = np.ndarray

# The detections of one picture that COCO looks at.
MOST_PER_PICTURE = 20


def relative_errors(
    predicted: Float[Array, "N J 2"], target: Float[Array, "N J 2"], length: Float[Array, "N"]
) -> Float[Array, "N J"]:
    """Distance of every joint in units of a length of its person (head size, torso).

    Args:
      predicted: pixels.
      target: pixels.
      length: pixels, above 0.

    Raises:
      ValueError: shapes that do not fit, or a length that is not above 0.
    """
    if (
        predicted.shape != target.shape
        or predicted.ndim != 3
        or predicted.shape[-1] != 2
        or length.shape != predicted.shape[:1]
    ):
        raise ValueError(
            f"predicted {predicted.shape}, target {target.shape} and length {length.shape} do not fit [N, J, 2] and [N]"
        )
    if not (length > 0).all():
        raise ValueError(
            f"length {length[np.argmin(length > 0)]} of person {np.argmin(length > 0)} must be above 0"
        )
    distance = np.linalg.norm(
        np.asarray(predicted, np.float64) - np.asarray(target, np.float64), axis=-1
    )
    return distance / np.asarray(length, np.float64)[:, None]


def pck(
    errors: Float[Array, "N J"],
    counted: Bool[Array, "N J"],
    threshold: float,
    *,
    groups: Mapping[str, Sequence[int]],
    mean_over: Sequence[int],
) -> dict[str, float | None]:
    """Percentage of correct keypoints, those whose relative error is at most the threshold (HRNet and SimCC, mpii.py).

    Args:
      errors: of `relative_errors`.
      counted: joints that are labelled; the errors of others may be anything.
      threshold: in the same unit.
      groups: title -> its joints, whose percentages are averaged with equal weights.
      mean_over: joints of "Mean", whose percentages are weighted by their counts.

    Returns:
      Title -> percentage, "Mean" last; None where no joint counts.
    """
    correct = np.sum((errors <= threshold) & counted, axis=0)  # [J]
    counts = np.sum(counted, axis=0)
    percentages = [
        100.0 * c / n if n else None for c, n in zip(correct.tolist(), counts.tolist(), strict=True)
    ]
    scores: dict[str, float | None] = {}
    for title, joints in groups.items():
        known = [value for joint in joints if (value := percentages[joint]) is not None]
        scores[title] = float(np.mean(known)) if known else None
    over = list(mean_over)
    total = int(counts[over].sum())
    scores["Mean"] = 100.0 * float(correct[over].sum()) / total if total else None
    return scores


def object_keypoint_similarity(
    squared_distance: Float[Array, "*pairs J"],
    area: Float[Array, "*pairs"],
    counted: Bool[Array, "*pairs J"],
    sigmas: Float[Array, "J"],
) -> Float[Array, "*pairs"]:
    """OKS: the mean over the joints that count of exp(-d^2 / (2 area (2 sigma)^2)).

    It is 0 where none counts (COCO; docs/methods/pose2d.md#coco-evaluation).

    Args:
      squared_distance: of every joint, square pixels.
      area: of the person, square pixels.
      counted: joints that count.
      sigmas: of the joints, the skeleton's `oks_sigmas`.
    """
    area = np.asarray(area, np.float64)[..., None] + np.spacing(1)
    likeness = np.exp(
        -np.asarray(squared_distance, np.float64)
        / (2 * np.asarray(sigmas, np.float64)) ** 2
        / area
        / 2
    )
    count = counted.sum(-1)
    return np.where(counted, likeness, 0).sum(-1) / np.maximum(count, 1)


def pose_similarity(
    joints: Float[Array, "N J 2"], areas: Float[Array, "N"], sigmas: Float[Array, "J"]
) -> Float[Array, "N N"]:
    """OKS between every two predicted poses, with the mean of their areas and all joints (HRNet, nms.py).

    Args:
      joints: pixels.
      areas: square pixels.
      sigmas: of the joints.
    """
    joints, areas = np.asarray(joints, np.float64), np.asarray(areas, np.float64)
    squared = np.sum((joints[:, None] - joints[None]) ** 2, axis=-1)  # [N, N, J]
    area = (areas[:, None] + areas[None]) / 2
    return object_keypoint_similarity(squared, area, np.ones(squared.shape, bool), sigmas)


def rescore(
    box_scores: Float[Array, "N"], joint_scores: Float[Array, "N J"], joint_threshold: float
) -> Float[Array, "N"]:
    """Score of a person: its box's score times the mean score of its joints above the threshold, 0 if none is (HRNet, coco.py)."""
    joint_scores = np.asarray(joint_scores, np.float64)
    confident = joint_scores > joint_threshold
    mean = np.where(confident, joint_scores, 0).sum(-1) / np.maximum(confident.sum(-1), 1)
    return np.asarray(box_scores, np.float64) * mean


def suppress(
    similarity: Float[Array, "N N"], scores: Float[Array, "N"], threshold: float
) -> Int[Array, "kept"]:
    """Greedy suppression: by falling score, whoever is more similar than the threshold to none that is kept (HRNet, nms.py).

    Args:
      similarity: OKS of poses or overlap of boxes.
      scores: of the persons; of equal ones the later comes first, as in the reference.
      threshold: of the similarity.

    Returns:
      Indices of those kept, by falling score.
    """
    order, kept = np.argsort(scores, kind="stable")[::-1], []
    while order.size:
        first, order = order[0], order[1:]
        kept.append(first)
        order = order[similarity[first, order] <= threshold]
    return np.array(kept, int)


def suppress_softly(
    similarity: Float[Array, "N N"], scores: Float[Array, "N"], threshold: float
) -> Int[Array, "kept"]:
    """Soft suppression: scores fall by exp(-similarity^2 / threshold) with everyone kept, until 20 are (HRNet, `soft_oks_nms`).

    The lowered scores decide who is kept and nothing else.

    Args:
      similarity: OKS of poses.
      scores: of the persons.
      threshold: width of the Gaussian.

    Returns:
      Indices of those kept, in the order of being kept.
    """
    order, kept = np.argsort(scores, kind="stable")[::-1], []
    lowered = np.array(scores, np.float64)
    while order.size and len(kept) < MOST_PER_PICTURE:
        first, order = order[0], order[1:]
        kept.append(first)
        lowered[order] *= np.exp(-(similarity[first, order] ** 2) / threshold)
        order = order[np.argsort(lowered[order], kind="stable")[::-1]]
    return np.array(kept, int)
