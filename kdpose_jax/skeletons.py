"""Joint names, flip pairs, bones and adjacency per data set: plain data, imports nothing from the package."""

import dataclasses

import numpy as np


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
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    root: int
    loss_weights: tuple[float, ...]

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
        """Number of bones between every two joints, `[J, J]` integers."""
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
        "hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
        "neck", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    left=(4, 5, 6, 11, 12, 13),
    right=(1, 2, 3, 14, 15, 16),
    root=0,
    # MixSTE, run.py: w_mpjpe (spec/scjd.md 2.4).
    loss_weights=(1.0, 1.0, 2.5, 2.5, 1.0, 2.5, 2.5, 1.0, 1.0, 1.0, 1.5, 1.5, 4.0, 4.0, 1.5, 4.0, 4.0),
)

SKELETONS = {skeleton.name: skeleton for skeleton in (H36M_17,)}

# The 17 of Human3.6M's 32 joints that VideoPose3D keeps, in the order of H36M_17.
H36M_32_TO_17 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
