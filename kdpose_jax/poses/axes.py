"""Axes of poses: the camera's, in which networks predict, and those of programs for motion.

The vertical of the camera counts as the vertical of the world: a camera that looks down or up tilts
the poses, and nothing in a video's keypoints says by how much.
"""

import numpy as np

# Name -> what its x, y and z are. The first letters are the values of a user's flag.
AXES = {
    "camera": "x right, y down, z away from the camera",
    "y_up": "x to the camera's right, y up, z towards the camera",
    "z_up": "x towards the camera, y to the camera's right, z up",
}


def to_y_up(points: np.ndarray) -> np.ndarray:
    """Turns points `[..., 3]` from the camera's axes to `y_up`, which BVH and TRC have.

    A person who faces the camera faces along z, as the characters of BVH files do.
    """
    return points * np.asarray([1, -1, -1], points.dtype)


def to_z_up(points: np.ndarray) -> np.ndarray:
    """Turns points `[..., 3]` from the camera's axes to `z_up`, which C3D and data sets have.

    The order of the axes is the one in which motion files with y up become records.
    """
    return to_y_up(points)[..., [2, 0, 1]]


def to_camera(points: np.ndarray, axes: str) -> np.ndarray:
    """Turns points `[..., 3]` from the named axes to the camera's."""
    if axes == "camera":
        return points
    return to_y_up(points[..., [1, 2, 0]] if axes == "z_up" else points)


def recognised_axes(up: np.ndarray) -> str | None:
    """Finds the axes in which people stand upright.

    Args:
      up: a vector from the lower to the upper body in every frame, `[T, 3]`; NaN where unknown.

    Returns:
      The name in `AXES`; None if the vectors point along none of their upward axes.
    """
    length = np.linalg.norm(up, axis=-1, keepdims=True)
    known = (np.isfinite(length) & (length > 0))[:, 0]
    if not known.any():
        return None
    x, y, z = np.median(up[known] / length[known], axis=0)
    # Within 45 degrees of the axis. The camera's y points down.
    upward = {"camera": -y, "y_up": y, "z_up": z}
    name = max(upward, key=lambda one: upward[one])
    return name if upward[name] > np.sqrt(0.5) else None
