"""Reads gt_valid.mat, the official file for PCKh (docs/methods/pose2d.md#head-boxes).

It has the joints and head boxes of MPII's test persons.
"""

import dataclasses

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted.matlab import load_matlab

# The file's joint names, in the skeleton's order.
JOINTS = (
    "rank",
    "rkne",
    "rhip",
    "lhip",
    "lkne",
    "lank",
    "pelv",
    "thor",
    "neck",
    "head",
    "rwri",
    "relb",
    "rsho",
    "lsho",
    "lelb",
    "lwri",
)
FIELDS = ("dataset_joints", "jnt_missing", "pos_gt_src", "headboxes_src")
HEAD_FACTOR = 0.6  # times the head box's diagonal is PCKh's unit of length (SC_BIAS)


@dataclasses.dataclass(frozen=True, eq=False)
class HeadBoxes:
    """Holds N test persons from the official file.

    Attributes:
      joints: photograph pixels, from 0, `[N, 16, 2]`.
      labelled: whether each joint counts, `[N, 16]`.
      head_size: 0.6 times the head box's diagonal, pixels, `[N]`.
    """

    joints: np.ndarray
    labelled: np.ndarray
    head_size: np.ndarray

    def samples(self, places: np.ndarray) -> "HeadBoxes":
        """Returns some of the persons."""
        return HeadBoxes(self.joints[places], self.labelled[places], self.head_size[places])


def read(path: str, remedy: str) -> HeadBoxes:
    """Reads gt_valid.mat, whose pixels count from 1.

    Args:
      path: the file, MATLAB 5.
      remedy: tells the user what else to do, for messages.

    Returns:
      The file's persons.

    Raises:
      UserError: the file is absent or not MATLAB 5, its arrays or joints are not MPII's, or a head
        box has no size.
    """
    remedy = f"give the gt_valid.mat of MPII's annotations as HRNet hands them out, or {remedy}"
    try:
        content = load_matlab(path, FIELDS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"'{path}' cannot be read as a MATLAB file ({type(error).__name__}: {error}): {remedy}."
        ) from error
    lacking = [name for name in FIELDS if name not in content]
    if lacking:
        raise UserError(f"'{path}' lacks {', '.join(lacking)}: {remedy}.")
    names, missing, joints, boxes = (content[name] for name in FIELDS)
    missing, joints, boxes = (
        array if isinstance(array, np.ndarray) else np.empty(0, "U")
        for array in (missing, joints, boxes)
    )
    count = missing.shape[-1] if missing.ndim else 0
    shapes = [array.shape for array in (missing, joints, boxes)]
    if shapes != [(16, count), (16, 2, count), (2, 2, count)] or any(
        array.dtype.kind not in "fiu" for array in (missing, joints, boxes)
    ):
        raise UserError(
            f"'{path}' holds arrays of shapes {shapes} instead of [16, N], [16, 2, N] and [2, 2, "
            f"N]: {remedy}."
        )
    if not (np.isfinite(joints).all(1)[missing == 0].all() and np.isfinite(boxes).all()):
        raise UserError(f"'{path}' holds poses that are NaN or infinite: {remedy}.")
    found = tuple(names) if isinstance(names, list) else ()
    if found != JOINTS:
        raise UserError(f"'{path}' has the joints {found}, not MPII's in their order: {remedy}.")
    sizes = HEAD_FACTOR * np.linalg.norm(boxes[1].astype(np.float64) - boxes[0], axis=0)
    if not (sizes > 0).all():
        raise UserError(
            f"The head box of sample {np.argmin(sizes > 0)} in '{path}' has no size: {remedy}."
        )
    return HeadBoxes(
        joints=joints.transpose(2, 0, 1).astype(np.float64) - 1,
        labelled=missing.T == 0,
        head_size=sizes,
    )
