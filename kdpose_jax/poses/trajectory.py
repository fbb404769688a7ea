"""Where a person is: root-relative poses get a root by a rule that the user chose.

A network predicts poses relative to the root joint, so that nothing in its output says where the
person is. The rules, by the names that a user writes:

- `given`: the root stays where the poses have it, which is the origin for a network. Poses that a
  user brings may have a path, and it is kept.
- `floor`: the lowest joint of every frame stands on the floor. The root moves up and down alone.
  Jumps are lost.
- `camera`: the root lies where the joints project best onto the keypoints, given the focal length.
  It is an estimate. Its depth is proportional to the size of the poses and is as noisy as they are.
"""

import numpy as np

from kdpose_jax.errors import UserError, require

ROOTS = ("given", "floor", "camera")
_LOWEST_WEIGHT = 0.01  # of a keypoint; a detector's score of 0 may stand at an interpolated joint


def check_root(root: str, focal: float | None) -> None:
    """Checks the rule for the root before any work.

    Args:
      root: the value of --root.
      focal: the value of --focal, pixels; None if it was not given.

    Raises:
      UserError: there is no such rule, or the focal length is missing, needless or not positive.
    """
    require("--root", root, ROOTS)
    if root == "camera" and focal is None:
        raise UserError(
            "--root is 'camera', which needs the focal length: add --focal PIXELS (from a "
            "calibration, or the width of the video times the focal length in millimetres divided "
            "by the width of the sensor), or use --root floor."
        )
    if focal is not None and not (np.isfinite(focal) and focal > 0):
        raise UserError(f"--focal is {focal:g}: give the focal length in pixels, above 0.")
    if root != "camera" and focal is not None:
        raise UserError(
            f"--focal is {focal:g}, and --root '{root}' does not use it: add --root camera or "
            "leave --focal out."
        )


def on_floor(pose_3d: np.ndarray) -> np.ndarray:
    """Moves poses `[T, J, 3]` in the camera's axes up or down until their lowest joint is at 0."""
    with np.errstate(invalid="ignore"):
        lowest = np.fmax.reduce(pose_3d[..., 1], axis=-1)  # y points down
    moved = pose_3d.copy()
    moved[..., 1] -= lowest[:, None]
    return moved


def root_path(
    pose_3d: np.ndarray,
    keypoints_2d: np.ndarray,
    scores: np.ndarray,
    focal: float,
    size: tuple[int, int],
) -> np.ndarray:
    """Estimates where root-relative poses stand before the camera.

    The camera is a pinhole whose axis meets the middle of the picture. A joint X at translation t
    projects onto keypoint u if `focal * (X + t)_xy = (u - middle) * (X + t)_z`, which is linear in
    t. The least-squares solution weighs every joint by its score.

    Args:
      pose_3d: `[T, J, 3]` metres, in the camera's axes; NaN where there is none.
      keypoints_2d: `[T, J, 2]` pixels; NaN where there is none.
      scores: `[T, J]`.
      focal: focal length, pixels.
      size: width and height of the picture, pixels.

    Returns:
      The translation of every frame, `[T, 3]` metres; NaN where fewer than two joints are known or
      the solution is behind the camera.
    """
    ray = (keypoints_2d.astype(np.float64) - np.asarray(size) / 2) / focal  # [T, J, 2]
    pose = pose_3d.astype(np.float64)
    known = np.isfinite(np.concatenate([ray, pose], axis=-1)).all(axis=-1)
    ray, pose = np.where(known[..., None], ray, 0), np.where(known[..., None], pose, 0)
    weight = np.where(known, np.fmax(scores, _LOWEST_WEIGHT), 0)
    # Rows [1, 0, -ray_x] and [0, 1, -ray_y] for every joint.
    row = np.concatenate([np.broadcast_to(np.eye(2), (*ray.shape, 2)), -ray[..., None]], axis=-1)
    target = ray * pose[..., 2:] - pose[..., :2]
    normal = np.einsum("tj,tjak,tjal->tkl", weight, row, row)
    right = np.einsum("tj,tjak,tja->tk", weight, row, target)
    path = np.full((len(pose), 3), np.nan)
    solvable = (known.sum(axis=1) >= 2) & (np.abs(np.linalg.det(normal)) > 1e-12)
    path[solvable] = np.linalg.solve(normal[solvable], right[solvable, :, None])[..., 0]
    nearest = np.where(known, pose[..., 2], np.inf).min(axis=1)
    return np.where(path[:, 2:] + nearest[:, None] > 0, path, np.nan)
