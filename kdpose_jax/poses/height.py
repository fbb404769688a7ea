"""Scales poses to a person's height, which no video shows."""

from collections.abc import Sequence

import numpy as np

from kdpose_jax.errors import UserError

HEIGHTS = (0.3, 2.8)  # metres; from a newborn child to beyond the tallest
_TOPS = ("head", "head_top")
# The ankle's height over the floor as a share of the body's height: R. Drillis and R. Contini, Body
# Segment Parameters, Technical Report 1166.03, New York University, 1966. It is quoted from D. A.
# Winter, Biomechanics and Motor Control of Human Movement, 4th edition, Wiley, 2009, figure 4.1 on
# page 83 (doi:10.1002/9780470549148).
ANKLE = 0.039


def check_height(height: float | None) -> None:
    """Raises UserError if the value of --height is not the height of a person in metres."""
    if height is None or HEIGHTS[0] <= height <= HEIGHTS[1]:
        return
    centimetres = height / 100
    hint = (
        f"write {centimetres:g} for {height:g} cm"
        if HEIGHTS[0] <= centimetres <= HEIGHTS[1]
        else f"give metres, from {HEIGHTS[0]:g} to {HEIGHTS[1]:g}"
    )
    raise UserError(f"--height is {height:g}: {hint}.")


def height_bones(joints: Sequence[str], parents: Sequence[int]) -> list[tuple[float, int]]:
    """Lists the bones whose lengths add up to the height: both legs, and from the root to the head.

    Args:
      joints: names of the joints.
      parents: parent index of every joint, -1 for the root.

    Returns:
      (share, joint at the bone's lower end in the tree); a leg's bones count half each.

    Raises:
      UserError: the layout lacks a joint that is needed.
    """
    names = list(joints)
    top = next((name for name in _TOPS if name in names), None)
    legs = [f"{side}_{part}" for side in ("left", "right") for part in ("knee", "ankle")]
    missing = [name for name in legs if name not in names] + ([] if top else ["head"])
    chain = [] if top is None else _to_root(names.index(top), parents)
    if missing or not chain:
        what = f"no joint '{missing[0]}'" if missing else "no bones between their joints"
        raise UserError(
            f"--height needs the legs and the top of the head, and these poses have {what}: leave "
            "--height out, or use a network with the joints of h36m_17 or mpii_16."
        )
    return [(1.0, joint) for joint in chain] + [(0.5, names.index(name)) for name in legs]


def _to_root(joint: int, parents: Sequence[int]) -> list[int]:
    """Lists the joint and those above it in the tree, without the root."""
    chain: list[int] = []
    while parents[joint] >= 0 and len(chain) < len(parents):
        chain.append(joint)
        joint = parents[joint]
    return chain


def estimated_height(pose_3d: np.ndarray, joints: Sequence[str], parents: Sequence[int]) -> float:
    """Estimates how tall a person stands, from the lengths of bones.

    It is the sum of the median lengths of the bones from the ankles (the mean of both legs) to the
    top of the head, and the height of the ankles over the floor as a share of it (`ANKLE`).

    Args:
      pose_3d: `[T, J, 3]` metres; NaN where there is none.
      joints, parents: as for `height_bones`.

    Returns:
      The height in metres; 0 if no frame has the joints or all lie in one point.

    Raises:
      UserError: the layout lacks a joint that is needed.
    """
    total = 0.0
    for share, joint in height_bones(joints, parents):
        length = np.linalg.norm(pose_3d[:, joint] - pose_3d[:, parents[joint]], axis=-1)
        length = length[np.isfinite(length)]
        total += share * float(np.median(length)) if len(length) else 0.0
    return total / (1 - ANKLE)
