"""Scores 2D poses by PCK and OKS, and suppresses duplicate detections.

Everything is computed on the host in float64. Equations: docs/methods/pose2d.md#pckh,
docs/methods/pose2d.md#coco-evaluation.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

Array = np.ndarray

# Number of detections in one picture that COCO scores.
MOST_PER_PICTURE = 20


def relative_errors(
    predicted: Float[Array, "N J 2"], target: Float[Array, "N J 2"], length: Float[Array, " N"]
) -> Float[Array, "N J"]:
    """Computes the distance of every joint over a length of its person (head size, torso).

    Args:
      predicted: predicted joints, pixels.
      target: true joints, pixels.
      length: length of each person, pixels, above 0.

    Raises:
      ValueError: shapes do not fit, or a length is not above 0.
    """
    if (
        predicted.shape != target.shape
        or predicted.ndim != 3
        or predicted.shape[-1] != 2
        or length.shape != predicted.shape[:1]
    ):
        raise ValueError(
            f"predicted {predicted.shape}, target {target.shape} and length {length.shape} do not "
            "fit [N, J, 2] and [N]"
        )
    if not (length > 0).all():
        person = np.argmin(length > 0)
        raise ValueError(f"length {length[person]} of person {person} must be above 0")
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
    """Computes the percentage of correct keypoints, whose error is at most the threshold.

    Source: HRNet and SimCC, mpii.py.

    Args:
      errors: the errors from `relative_errors`.
      counted: whether each joint is labelled; the errors of other joints may have any value.
      threshold: the largest error of a correct joint, in the unit of the errors.
      groups: title -> joints, whose percentages are averaged with equal weights.
      mean_over: joints of "Mean", whose percentages are weighted by their counts.

    Returns:
      Title -> percentage, "Mean" last; None if no joint counts.
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
    sigmas: Float[Array, " J"],
) -> Float[Array, "*pairs"]:
    """Computes OKS, the mean over the joints that count of exp(-d^2 / (2 area (2 sigma)^2)).

    It is 0 if no joint counts (COCO; docs/methods/pose2d.md#coco-evaluation).

    Args:
      squared_distance: squared distance d^2 of every joint, square pixels.
      area: area of the person, square pixels.
      counted: whether each joint counts.
      sigmas: the skeleton's `oks_sigmas`.
    """
    area = np.asarray(area, np.float64)[..., None] + np.spacing(1)
    squared_distance = np.asarray(squared_distance, np.float64)
    variance = (2 * np.asarray(sigmas, np.float64)) ** 2
    likeness = np.exp(-squared_distance / variance / area / 2)
    count = counted.sum(-1)
    return np.where(counted, likeness, 0).sum(-1) / np.maximum(count, 1)


def pose_similarity(
    joints: Float[Array, "N J 2"], areas: Float[Array, " N"], sigmas: Float[Array, " J"]
) -> Float[Array, "N N"]:
    """Computes OKS between every two predicted poses, over all joints.

    The area is the mean of the two areas. Source: HRNet, nms.py.

    Args:
      joints: predicted joints, pixels.
      areas: area of each person, square pixels.
      sigmas: the skeleton's `oks_sigmas`.
    """
    joints, areas = np.asarray(joints, np.float64), np.asarray(areas, np.float64)
    squared = np.sum((joints[:, None] - joints[None]) ** 2, axis=-1)  # [N, N, J]
    area = (areas[:, None] + areas[None]) / 2
    return object_keypoint_similarity(squared, area, np.ones(squared.shape, bool), sigmas)


def rescore(
    box_scores: Float[Array, " N"], joint_scores: Float[Array, "N J"], joint_threshold: float
) -> Float[Array, " N"]:
    """Multiplies a person's box score with the mean score of the joints above the threshold.

    The result is 0 if no joint is above it. Source: HRNet, coco.py.
    """
    joint_scores = np.asarray(joint_scores, np.float64)
    confident = joint_scores > joint_threshold
    mean = np.where(confident, joint_scores, 0).sum(-1) / np.maximum(confident.sum(-1), 1)
    return np.asarray(box_scores, np.float64) * mean


def suppress(
    similarity: Float[Array, "N N"], scores: Float[Array, " N"], threshold: float
) -> Int[Array, " kept"]:
    """Keeps persons by falling score, unless they are too similar to one that is already kept.

    Source: HRNet, nms.py.

    Args:
      similarity: OKS of poses or overlap of boxes.
      scores: scores of the persons. Of two equal scores the later one comes first, as in the
        reference.
      threshold: the largest similarity of two persons that are both kept.

    Returns:
      Indices of the persons that are kept, by falling score.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    kept: list[int] = []
    while order.size:
        first, order = order[0], order[1:]
        kept.append(first)
        order = order[similarity[first, order] <= threshold]
    return np.array(kept, int)


def suppress_softly(
    similarity: Float[Array, "N N"], scores: Float[Array, " N"], threshold: float
) -> Int[Array, " kept"]:
    """Keeps up to 20 persons; each one lowers the scores of similar persons.

    The factor is exp(-similarity^2 / threshold). The lowered scores decide only which persons are
    kept. Source: HRNet, `soft_oks_nms`.

    Args:
      similarity: OKS of poses.
      scores: scores of the persons.
      threshold: width of the Gaussian.

    Returns:
      Indices of the persons that are kept, in the order in which they are picked.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    kept: list[int] = []
    lowered = np.array(scores, np.float64)
    while order.size and len(kept) < MOST_PER_PICTURE:
        first, order = order[0], order[1:]
        kept.append(first)
        lowered[order] *= np.exp(-(similarity[first, order] ** 2) / threshold)
        order = order[np.argsort(lowered[order], kind="stable")[::-1]]
    return np.array(kept, int)
