"""A skeleton of rigid bones that follows predicted joints, as animation programs need it.

What joints show, and what they do not:

- The pelvis (hips and spine) and the chest (shoulders and neck) have all three angles. Their x axis
  runs from the right joint of the pair to the left one, and y towards the spine or neck.
- Every other bone turns by the shortest rotation from its rest direction. Its twist about itself
  cannot be seen from joints, and is not invented.
- Bones keep one length, the median over time.

A joint with several children gets one more node for each of them, at the same place, as CMU's BVH
files have them at the hips. So every bone can point from where its start comes to lie to where its
end was predicted. This keeps joints near the prediction: with bones in the predicted directions,
differences in length would add up along a limb.

The rest pose stands upright and faces z. Hips, spine, neck and shoulders are where they are in the
median frame. Thighs hang down, and other bones go straight on.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

# A shorter vector has no direction, metres.
SHORTEST = 1e-6


@dataclasses.dataclass(frozen=True)
class Node:
    """A joint of the rig.

    Attributes:
      name: the predicted joint's name, or "PARENT_to_CHILD" for a node that one bone needs.
      parent: index of the parent node, -1 for the root.
      joint: index of the predicted joint at which it lies.
      offset: where it lies from its parent, in the parent's axes, `[3]`, metres.
      target: the predicted joint that it points to; None if it does not turn by itself.
      rest: direction to the target at rest, `[3]`.
      frame: the right, left, lower and upper joint that give all three angles, or None.
    """

    name: str
    parent: int
    joint: int
    offset: np.ndarray
    target: int | None = None
    rest: np.ndarray | None = None
    frame: tuple[int, int, int, int] | None = None


def build_rig(
    joints: Sequence[str], parents: Sequence[int], sample: np.ndarray
) -> tuple[Node, ...]:
    """Builds the rig of one person.

    Args:
      joints: names of the J joints.
      parents: parent index of every joint, -1 for the root.
      sample: poses in which the bones are measured, `[S, J, 3]` metres, y up; those with NaN are
        left out.

    Returns:
      The nodes, parents before their children.
    """
    sample = sample[np.isfinite(sample).all(axis=(1, 2))].astype(np.float64)
    builder = _Builder(list(joints), list(parents), sample)
    builder.add(list(parents).index(-1), -1, np.zeros(3), np.asarray([0.0, 1, 0]), None)
    return tuple(builder.nodes)


class _Builder:
    """Walks down the tree of joints and collects nodes."""

    def __init__(self, joints: list[str], parents: list[int], sample: np.ndarray):
        self.joints, self.parents, self.sample = joints, parents, sample
        self.nodes: list[Node] = []

    def add(
        self,
        joint: int,
        parent: int,
        offset: np.ndarray,
        along: np.ndarray,
        frame: tuple[int, int, int, int] | None,
    ) -> None:
        """Adds a joint and all below it.

        Args:
          joint: the joint.
          parent: its parent node.
          offset: its offset in the parent's axes.
          along: the direction at rest of the bone that leads to it.
          frame: what gives the axes of the nearest turning joint above it.
        """
        children = [child for child, one in enumerate(self.parents) if one == joint]
        own = self._frame(joint, children)
        node = len(self.nodes)
        if len(children) == 1 and own is None:
            rest = self._rest(children[0], along)
            self.nodes.append(
                Node(self.joints[joint], parent, joint, offset, children[0], _unit(rest))
            )
            self.add(children[0], node, rest, _unit(rest), frame)
            return
        self.nodes.append(Node(self.joints[joint], parent, joint, offset, frame=own))
        for child in children:
            rest = self._measured(joint, child, own or frame)
            name = f"{self.joints[joint]}_to_{self.joints[child]}"
            between = len(self.nodes)
            self.nodes.append(Node(name, node, joint, np.zeros(3), child, _unit(rest)))
            self.add(child, between, rest, _unit(rest), own or frame)

    def _frame(self, joint: int, children: list[int]) -> tuple[int, int, int, int] | None:
        """Finds a left and a right child and what is above or below; None if it lacks one."""
        names = {self.joints[child]: child for child in children}
        for name, left in names.items():
            right = names.get(f"right_{name.removeprefix('left_')}")
            if not name.startswith("left_") or right is None:
                continue
            others = [child for child in children if child not in (left, right)]
            if others:
                return right, left, joint, others[0]
            if self.parents[joint] >= 0:
                return right, left, self.parents[joint], joint
        return None

    def _length(self, child: int) -> float:
        bone = self.sample[:, child] - self.sample[:, self.parents[child]]
        return float(np.median(np.linalg.norm(bone, axis=-1)))

    def _rest(self, child: int, along: np.ndarray) -> np.ndarray:
        """Returns the offset at rest of an only child: straight on, and thighs hang down."""
        if self.joints[child].endswith("knee"):
            along = np.asarray([0.0, -1, 0])
        return self._length(child) * along

    def _measured(
        self, joint: int, child: int, frame: tuple[int, int, int, int] | None
    ) -> np.ndarray:
        """Returns the median offset in the axes of a turning joint, with the median length."""
        bone = self.sample[:, child] - self.sample[:, joint]
        if frame is not None:
            rotation, known = axes_of(self.sample, frame)
            bone = np.einsum("tji,tj->ti", rotation[known], bone[known])
        middle = np.median(bone, axis=0) if len(bone) else np.zeros(3)
        return self._length(child) * _unit(middle)


def axes_of(points: np.ndarray, frame: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Computes the axes of a turning joint in every frame.

    Args:
      points: `[T, J, 3]`.
      frame: (right, left, lower, upper) joints.

    Returns:
      rotation: `[T, 3, 3]`, whose columns are the axes; the identity where there are none.
      known: `[T]`; False where the joints lie in one line.
    """
    right, left, lower, upper = frame
    x = points[:, left] - points[:, right]
    width = np.linalg.norm(x, axis=-1, keepdims=True)
    x = x / np.fmax(width, SHORTEST)
    y = points[:, upper] - points[:, lower]
    y = y - (y * x).sum(-1, keepdims=True) * x
    height = np.linalg.norm(y, axis=-1, keepdims=True)
    y = y / np.fmax(height, SHORTEST)
    rotation = np.stack([x, y, np.cross(x, y)], axis=-1)
    known = ((width > SHORTEST) & (height > SHORTEST))[:, 0]
    return np.where(known[:, None, None], rotation, np.eye(3)), known


def shortest_rotation(rest: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Computes the shortest rotations from one direction to others.

    Args:
      rest: `[3]`, of length 1.
      directions: `[T, 3]`, of length 1.

    Returns:
      `[T, 3, 3]`. Half a turn, which has no shortest rotation, is made about an axis that depends
      on `rest` alone.
    """
    axis = np.cross(rest, directions)
    cosine = directions @ rest
    x, y, z = axis.T
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    opposite = cosine < -1 + 1e-12
    factor = 1 / np.where(opposite, 1, 1 + cosine)
    rotation = np.eye(3) + skew + skew @ skew * factor[:, None, None]
    across = _unit(np.cross(rest, np.eye(3)[np.argmin(np.abs(rest))]))
    rotation[opposite] = 2 * np.outer(across, across) - np.eye(3)
    return rotation


@dataclasses.dataclass
class Follower:
    """Turns the rig's nodes so that they follow poses, block after block.

    Attributes:
      rig: the nodes.
      last: the last rotation of every node, `[N, 3, 3]`, which a frame keeps whose joints lie in
        one point.
    """

    rig: tuple[Node, ...]
    last: np.ndarray

    def follow(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Follows the frames that come after those of the call before.

        Args:
          points: `[T, J, 3]` finite, y up.

        Returns:
          local: `[T, N, 3, 3]`, which turn a node's axes into its parent's.
          places: where the nodes come to lie, `[T, N, 3]`.
        """
        frames, count = len(points), len(self.rig)
        local, world = np.empty((2, frames, count, 3, 3))
        places = np.empty((frames, count, 3))
        above = np.broadcast_to(np.eye(3), (frames, 3, 3))
        for index, node in enumerate(self.rig):
            turned = above if node.parent < 0 else world[:, node.parent]
            places[:, index] = points[:, node.joint]
            if node.parent >= 0:
                places[:, index] = places[:, node.parent] + turned @ node.offset
            rotation, known = np.broadcast_to(np.eye(3), (frames, 3, 3)), np.ones(frames, bool)
            if node.frame is not None:
                rotation, known = axes_of(points, node.frame)
                rotation = np.swapaxes(turned, 1, 2) @ rotation
            elif node.target is not None and node.rest is not None:
                predicted = points[:, node.target] - points[:, node.joint]
                bone = points[:, node.target] - places[:, index]
                length = np.linalg.norm(bone, axis=-1)
                known = np.fmin(length, np.linalg.norm(predicted, axis=-1)) > SHORTEST
                bone = bone / np.fmax(length, SHORTEST)[:, None]
                rotation = shortest_rotation(node.rest, np.einsum("tji,tj->ti", turned, bone))
            local[:, index] = self._held(rotation, known, index)
            world[:, index] = turned @ local[:, index]
        return local, places

    def _held(self, rotation: np.ndarray, known: np.ndarray, index: int) -> np.ndarray:
        """Keeps the last known rotation where there is none."""
        before = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
        held = np.where((before >= 0)[:, None, None], rotation[before], self.last[index])
        self.last[index] = held[-1]
        return held


def follower(rig: tuple[Node, ...]) -> Follower:
    """Makes the follower of a rig, at rest."""
    return Follower(rig, np.tile(np.eye(3), (len(rig), 1, 1)))


def _unit(vector: np.ndarray) -> np.ndarray:
    """Returns the direction of a vector; up if it has none."""
    length = np.linalg.norm(vector)
    return vector / length if length > SHORTEST else np.asarray([0.0, 1, 0])
