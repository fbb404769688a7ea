"""Computes PCKh, the share of joints within a part of the head size.

See docs/methods/pose2d.md#pckh.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from kdpose_jax.evaluate.metrics import keypoints_2d

# SimCC and CDKD publish the entry at 0.10 as PCKh@0.1. HRNet's released code reads the one at 0.11,
# and so does its published figure.
THRESHOLDS = (0.5, 0.1, 0.11)
GROUPS = {
    "Head": (9,),
    "Shoulder": (13, 12),
    "Elbow": (14, 11),
    "Wrist": (15, 10),
    "Hip": (3, 2),
    "Knee": (4, 1),
    "Ankle": (5, 0),
}
MEAN_OVER = (0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15)  # all except pelvis and thorax


def score(
    predicted: Float[np.ndarray, "N 16 2"],
    joints: Float[np.ndarray, "N 16 2"],
    labelled: Bool[np.ndarray, "N 16"],
    head_size: Float[np.ndarray, " N"],
    missed: Int[np.ndarray, "16"],
) -> dict[str, dict[str, float | None]]:
    """Computes PCKh at each of `THRESHOLDS`.

    Args:
      predicted: predicted joints, pixels.
      joints: true joints, pixels.
      labelled: whether each joint is labelled; others do not count.
      head_size: head size of each person, pixels, above 0.
      missed: how often each joint is labelled on persons without a prediction; it counts as wrong.

    Returns:
      Threshold as text -> {joint group and "Mean": percent, None if nothing is labelled}.

    Raises:
      ValueError: shapes do not fit, or a head size is not above 0.
    """
    errors = keypoints_2d.relative_errors(predicted, joints, head_size)
    wrong = np.arange(missed.max())[:, None] < missed  # as many rows as the most missed joint needs
    errors = np.concatenate([errors, np.full(wrong.shape, np.inf)])
    labelled = np.concatenate([labelled, wrong])
    return {
        f"{threshold:g}": keypoints_2d.pck(
            errors, labelled, threshold, groups=GROUPS, mean_over=MEAN_OVER
        )
        for threshold in THRESHOLDS
    }
