"""Finds signs that x and y are exchanged in a file, or that y counts upwards."""

from collections.abc import Sequence

import numpy as np

_HEADS = ("head_top", "head", "nose", "neck", "neck_base")
_FEET = ("left_ankle", "right_ankle")
_FEWEST = 10  # poses that say something
_SHARE = 0.9  # of the poses; people who stand and sit now and then lie down


def doubts(values: np.ndarray, joints: Sequence[str]) -> list[str]:
    """Lists what a user should check about the axes.

    Args:
      values: x, y and score of each joint, `[N, K, 3]`, pixels; NaN where a joint was not found.
      joints: names of the K joints.
    """
    heads, feet = ([joints.index(one) for one in part if one in joints] for part in (_HEADS, _FEET))
    if not heads or len(feet) < len(_FEET):
        return []
    # From the middle of the feet to the first joint of a head that the file has.
    across, down = (values[:, heads[0], :2] - values[:, feet, :2].mean(axis=1)).T
    known = np.isfinite(across) & np.isfinite(down)
    if known.sum() < _FEWEST:
        return []
    across, down = across[known], down[known]
    below, beside = (down > np.abs(across)).mean(), (np.abs(across) > np.abs(down)).mean()
    if below > _SHARE:
        return [
            f"Heads are below the feet in {below:.0%} of the poses: if these persons do not stand "
            f"on their hands, y counts upwards in the file, and it must count down from the top of "
            f"the picture (write height - y)."
        ]
    if beside > _SHARE:
        return [
            f"Heads are beside the feet in {beside:.0%} of the poses: if these persons do not lie, "
            f"x and y are exchanged in the file, or the video is turned by a quarter (write x "
            f"before y, of the video as it is seen)."
        ]
    return []
