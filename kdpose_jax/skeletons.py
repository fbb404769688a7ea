"""Joint names, flip pairs, bones and adjacency per data set.

Plain data, imports nothing from the package but its error.
"""

import dataclasses

import numpy as np

from kdpose_jax.errors import UserError, require


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """A joint layout.

    Attributes:
      name: the key in `SKELETONS`, stored in records and checkpoints.
      joints: joint names in array order.
      parents: parent index of every joint, -1 for the root of the tree.
      left: joints of the left side, in the order of their partners in `right`.
      right: joints of the right side.
      root: the joint that root-relative poses are relative to.
      loss_weights: the weight of every joint in the task loss.
      upper_body: joints of the upper half, for half-body augmentation; () where there is none.
      oks_sigmas: how far apart annotators place each joint, for OKS; () where no one measured it.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    root: int
    loss_weights: tuple[float, ...]
    upper_body: tuple[int, ...]
    oks_sigmas: tuple[float, ...]

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) of every bone, in the order of the children."""
        return tuple((parent, child) for child, parent in enumerate(self.parents) if parent >= 0)

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """Index that swaps left and right: `pose[..., flip_permutation, :]`."""
        permutation = list(range(self.num_joints))
        for left, right in zip(self.left, self.right, strict=True):
            permutation[left], permutation[right] = right, left
        return tuple(permutation)

    def hops(self) -> np.ndarray:
        """Counts the bones between every two joints, `[J, J]` integers."""
        distance = np.full((self.num_joints, self.num_joints), self.num_joints)
        np.fill_diagonal(distance, 0)
        for parent, child in self.bones:
            distance[parent, child] = distance[child, parent] = 1
        for middle in range(self.num_joints):  # Floyd-Warshall
            distance = np.minimum(distance, distance[:, middle, None] + distance[None, middle, :])
        return distance


H36M_17 = Skeleton(
    name="h36m_17",
    joints=(
        "hip",
        "right_hip",
        "right_knee",
        "right_ankle",
        "left_hip",
        "left_knee",
        "left_ankle",
        "spine",
        "thorax",
        "neck",
        "head",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "right_shoulder",
        "right_elbow",
        "right_wrist",
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    left=(4, 5, 6, 11, 12, 13),
    right=(1, 2, 3, 14, 15, 16),
    root=0,
    # MixSTE, run.py: w_mpjpe (docs/methods/lifting.md#task-loss).
    loss_weights=(
        1.0,
        1.0,
        2.5,
        2.5,
        1.0,
        2.5,
        2.5,
        1.0,
        1.0,
        1.0,
        1.5,
        1.5,
        4.0,
        4.0,
        1.5,
        4.0,
        4.0,
    ),
    upper_body=(),
    oks_sigmas=(),
)

MPII_16 = Skeleton(
    name="mpii_16",
    joints=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "pelvis",
        "thorax",
        "upper_neck",
        "head_top",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
    ),
    parents=(1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 7, 7, 13, 14),
    left=(3, 4, 5, 13, 14, 15),
    right=(2, 1, 0, 12, 11, 10),
    root=6,
    loss_weights=(1.0,) * 16,
    upper_body=(7, 8, 9, 10, 11, 12, 13, 14, 15),  # HRNet, mpii.py
    oks_sigmas=(),
)

COCO_17 = Skeleton(
    name="coco_17",
    joints=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    # COCO's own edges as far as they make a tree: without those between the eyes, the shoulders and
    # the hips.
    parents=(-1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    left=(1, 3, 5, 7, 9, 11, 13, 15),
    right=(2, 4, 6, 8, 10, 12, 14, 16),
    root=0,
    # The weights of HRNet's coco.py (1.2 and 1.5 for limbs) are switched off in its configurations
    # (docs/methods/pose2d.md#simdr-labels).
    loss_weights=(1.0,) * 17,
    upper_body=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),  # HRNet, coco.py
    # pycocotools, cocoeval.py: Params.setKpParams.
    oks_sigmas=(
        0.026,
        0.025,
        0.025,
        0.035,
        0.035,
        0.079,
        0.079,
        0.072,
        0.072,
        0.062,
        0.062,
        0.107,
        0.107,
        0.087,
        0.087,
        0.089,
        0.089,
    ),
)

SKELETONS = {skeleton.name: skeleton for skeleton in (H36M_17, MPII_16, COCO_17)}

# The 17 of Human3.6M's 32 joints that VideoPose3D keeps, in the order of H36M_17.
H36M_32_TO_17 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)


def find_skeleton(name: str, joints: int) -> Skeleton:
    """Returns the skeleton that a config names.

    Raises:
      UserError: there is none of this name, or it has another number of joints.
    """
    require("data.skeleton", name, SKELETONS)
    if SKELETONS[name].num_joints != joints:
        raise UserError(
            f"data.joints is {joints} and skeleton {name} has {SKELETONS[name].num_joints}: set "
            f"it to that."
        )
    return SKELETONS[name]
