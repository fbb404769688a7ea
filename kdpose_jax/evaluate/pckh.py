"""PCKh, the share of joints within a part of the head's size, and the official file that it is counted against (spec/cdkd.md 11.3)."""

import dataclasses
import os

import numpy as np
from jaxtyping import Bool, Float

from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import metrics_2d
from kdpose_jax.untrusted.matlab import load_matlab

# SimCC and CDKD publish the 0.10 entry as PCKh@0.1; HRNet's released code reads the 0.11 one, and its published figure with it.
THRESHOLDS = (0.5, 0.1, 0.11)
GROUPS = {
    "Head": (9,), "Shoulder": (13, 12), "Elbow": (14, 11), "Wrist": (15, 10), "Hip": (3, 2), "Knee": (4, 1), "Ankle": (5, 0),
}  # fmt: skip
MEAN_OVER = (0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15)  # all but pelvis and thorax
# The names in gt_valid.mat, in the order of the skeleton.
FILE_JOINTS = (
    "rank", "rkne", "rhip", "lhip", "lkne", "lank", "pelv", "thor", "neck", "head", "rwri", "relb", "rsho", "lsho", "lelb", "lwri",
)  # fmt: skip
# Of the diagonal of the head box (SC_BIAS).
HEAD_FACTOR = 0.6


@dataclasses.dataclass(frozen=True)
class OfficialPoses:
    """Test poses as the official file has them.

    Attributes:
      joints: photograph pixels, 1-based, `[N, 16, 2]`.
      labelled: joints that count, `[N, 16]`.
      head_size: 0.6 of the diagonal of the head box, pixels, `[N]`.
    """

    joints: np.ndarray
    labelled: np.ndarray
    head_size: np.ndarray


def score(
    predicted: Float[np.ndarray, "N 16 2"],
    joints: Float[np.ndarray, "N 16 2"],
    labelled: Bool[np.ndarray, "N 16"],
    head_size: Float[np.ndarray, "N"],
) -> dict[str, dict[str, float | None]]:
    """PCKh at every one of `THRESHOLDS`.

    Args:
      predicted: pixels.
      joints: pixels.
      labelled: joints that count.
      head_size: pixels.

    Returns:
      Threshold as text -> {joint group and "Mean": percent, None where nothing is labelled}.

    Raises:
      ValueError: shapes that do not fit, or a head size that is not above 0.
    """
    errors = metrics_2d.relative_errors(predicted, joints, head_size)
    return {
        f"{threshold:g}": metrics_2d.pck(errors, labelled, threshold, groups=GROUPS, mean_over=MEAN_OVER)
        for threshold in THRESHOLDS
    }


def read_official(path: str | os.PathLike) -> OfficialPoses:
    """Reads the official `gt_valid.mat`.

    Args:
      path: the file.

    Raises:
      UserError: no file, none of MATLAB 5, or arrays that are not those of MPII.
    """
    remedy = "give the gt_valid.mat of MPII's annotations as HRNet hands them out"
    wanted = ("dataset_joints", "jnt_missing", "pos_gt_src", "headboxes_src")
    try:
        content = load_matlab(path, wanted)
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read as a MATLAB file ({type(error).__name__}: {error}): {remedy}.") from error
    lacking = [name for name in wanted if name not in content]
    if lacking:
        raise UserError(f"'{path}' lacks {', '.join(lacking)}: {remedy}.")
    names, missing, joints, boxes = (content[name] for name in wanted)
    shapes = [array.shape if isinstance(array, np.ndarray) else () for array in (missing, joints, boxes)]
    count = shapes[0][-1] if shapes[0] else 0
    if shapes != [(16, count), (16, 2, count), (2, 2, count)]:
        raise UserError(f"'{path}' holds arrays of shapes {shapes} instead of [16, N], [16, 2, N] and [2, 2, N]: {remedy}.")
    if not (np.isfinite(joints).all(1)[missing == 0].all() and np.isfinite(boxes).all()):
        raise UserError(f"'{path}' holds poses that are NaN or infinite: {remedy}.")
    found = tuple(names) if isinstance(names, list) else ()
    if found != FILE_JOINTS:
        raise UserError(f"'{path}' has the joints {found}, not MPII's in their order: {remedy}.")
    return OfficialPoses(
        joints=joints.transpose(2, 0, 1).astype(np.float64),
        labelled=missing.T == 0,
        head_size=HEAD_FACTOR * np.linalg.norm(boxes[1].astype(np.float64) - boxes[0], axis=0),
    )


def score_against_file(
    predicted: Float[np.ndarray, "N 16 2"], truth: OfficialPoses, place: str
) -> dict[str, dict[str, float | None]]:
    """PCKh of poses against the official file, as its users count it.

    Args:
      predicted: photograph pixels, 0-based, in the file's order.
      truth: of `read_official`.
      place: what to call the file in an error.

    Returns:
      As `score`.

    Raises:
      UserError: another number of poses than the file has, or a head box without size.
    """
    if predicted.shape != truth.joints.shape:
        raise UserError(
            f"There are {len(predicted)} predicted poses with {predicted.shape[1]} joints and {len(truth.joints)} with 16 in '{place}': "
            "predict the persons of valid.json, all of them and in their order."
        )
    if not (truth.head_size > 0).all():
        raise UserError(f"The head box of person {np.argmin(truth.head_size > 0)} in '{place}' has no size: copy the file again.")
    return score(np.asarray(predicted, np.float64) + 1, truth.joints, truth.labelled, truth.head_size)
