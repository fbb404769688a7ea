"""Computes PCK and AUC of root-relative 3D poses, MPI-INF-3DHP's measures.

Everything is computed on the host in float64, in millimetres.
See docs/methods/lifting.md#mpi-inf-3dhp-protocol.
"""

from typing import TypedDict

import numpy as np
from jaxtyping import Float

from kdpose_jax.evaluate.metrics import poses_3d

Array = np.ndarray

PCK_THRESHOLD = 150.0
DECIMALS = 9  # of an error in mm; further ones are round-off
# One of the 31 thresholds is 0, within which no joint lies. A perfect AUC is 100 * 30 / 31.
AUC_THRESHOLDS = np.arange(0.0, 151.0, 5.0)
# The official joint groups (P-STMO, test_util/*.m) in the order of H36M_17. They leave out pelvis,
# spine and 3DHP's head.
GROUPS = {
    "head": (10,),
    "neck": (8,),
    "shoulders": (14, 11),
    "elbows": (15, 12),
    "wrists": (16, 13),
    "hips": (1, 4),
    "knees": (2, 5),
    "ankles": (3, 6),
}
JOINTS = tuple(sorted(joint for group in GROUPS.values() for joint in group))


class PartScores(TypedDict):
    """Holds the scores of some frames, in millimetres and percent."""

    frames: int
    mpjpe_mm: float
    pck: float
    auc: float
    pck_by_group: dict[str, float]
    auc_by_group: dict[str, float]


def errors_mm(
    predicted: Float[Array, "*any J 3"], target: Float[Array, "*any J 3"]
) -> Float[Array, "*any J"]:
    """Computes the distance of every joint from its place in mm, from poses in metres.

    The thresholds are strict, so a joint that lies at one must not pass it by round-off. Converting
    to metres and back adds less than a nanometre, which is rounded off here.
    """
    return np.round(1000 * poses_3d.joint_errors(predicted, target), DECIMALS)


def pck(errors: Float[Array, "*any"]) -> float:
    """Computes the percentage of joints that are strictly nearer than 150 mm."""
    return float(100 * np.mean(errors < PCK_THRESHOLD))


def auc(errors: Float[Array, "*any"]) -> float:
    """Averages the percentage of joints strictly within each of 31 thresholds, 0 to 150 mm."""
    return float(100 * np.mean([np.mean(errors < threshold) for threshold in AUC_THRESHOLDS]))


def score(errors: Float[Array, "N 17"]) -> PartScores:
    """Computes all measures of some frames.

    Args:
      errors: distance of every joint of H36M_17 from its place, mm; at least one frame.

    Returns:
      MPJPE over 17 joints, one of which is the root with error zero; PCK and AUC over the 14 joints
      of `GROUPS`.
    """
    return PartScores(
        frames=len(errors),
        mpjpe_mm=float(errors.mean()),
        pck=pck(errors[:, JOINTS]),
        auc=auc(errors[:, JOINTS]),
        pck_by_group={name: pck(errors[:, joints]) for name, joints in GROUPS.items()},
        auc_by_group={name: auc(errors[:, joints]) for name, joints in GROUPS.items()},
    )
