"""Poses as lifting networks see them: screen units, root-relative metres, mirrored. Every function takes numpy or jax arrays."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

Array = np.ndarray | jnp.ndarray


def normalize_screen(pixels: Array, width: int, height: int) -> Array:
    """Pixels -> screen units: x in [-1, 1], y by the same scale (VideoPose3D, camera.py).

    See docs/methods/lifting.md#normalisation.

    Args:
      pixels: `[..., 2]`, pixels.
      width: picture width, pixels.
      height: picture height, pixels.

    Returns:
      `[..., 2]`, screen units.
    """
    return pixels / width * 2 - _corner(pixels, width, height)


def denormalize_screen(points: Array, width: int, height: int) -> Array:
    """Screen units -> pixels: the inverse of `normalize_screen`. `[..., 2]` in, `[..., 2]` out."""
    return (points + _corner(points, width, height)) * width / 2


def _corner(points: Array, width: int, height: int) -> np.ndarray:
    return np.asarray([1, height / width], points.dtype).reshape((1,) * (points.ndim - 1) + (2,))


def root_relative(pose: Array, root: int) -> Array:
    """Subtracts the root joint, which becomes exactly zero. `[..., J, 3]` in and out, any unit."""
    return pose - pose[..., root : root + 1, :]


def zero_root(pose: Array, root: int) -> Array:
    """Sets the root joint to zero and leaves the others (HoT, STCFormer: evaluation). `[..., J, 3]` in and out."""
    keep = np.ones((pose.shape[-2], 1), pose.dtype)
    keep[root] = 0
    return pose * keep.reshape((1,) * (pose.ndim - 2) + keep.shape)


def flip(coordinates: Array, flip_permutation: Sequence[int]) -> Array:
    """Mirrors root-relative 3D or screen-unit 2D joints: x is negated, left and right are swapped.

    Args:
      coordinates: `[..., J, 2 or 3]`.
      flip_permutation: `Skeleton.flip_permutation`, `[J]`.

    Returns:
      The same shape.
    """
    sign = np.ones(coordinates.shape[-1], coordinates.dtype)
    sign[0] = -1
    return coordinates[..., np.asarray(flip_permutation), :] * sign.reshape(
        (1,) * (coordinates.ndim - 1) + sign.shape
    )


def flip_intrinsics(intrinsics: Array) -> Array:
    """Mirrors a camera to match `flip`: c_x and p_1 are negated (VideoPose3D, generators.py).

    Args:
      intrinsics: f_x f_y c_x c_y k_1 k_2 k_3 p_1 p_2 in screen units, `[..., 9]`.

    Returns:
      The same shape.
    """
    sign = np.ones(9, intrinsics.dtype)
    sign[[2, 7]] = -1
    return intrinsics * sign.reshape((1,) * (intrinsics.ndim - 1) + sign.shape)
