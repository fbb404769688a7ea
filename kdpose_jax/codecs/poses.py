"""Converts poses to what lifting networks see: screen units, root-relative metres, mirrored.

Every function takes NumPy or JAX arrays.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

Array = np.ndarray | jnp.ndarray


def normalize_screen(pixels: Array, width: int, height: int) -> Array:
    """Converts pixels to screen units: x in [-1, 1], y on the same scale.

    Source: VideoPose3D, camera.py; docs/methods/lifting.md#normalisation.

    Args:
      pixels: points, `[..., 2]`, pixels.
      width: width of the picture, pixels.
      height: height of the picture, pixels.

    Returns:
      The points, `[..., 2]`, screen units.
    """
    return pixels / width * 2 - _corner(pixels, width, height)


def denormalize_screen(points: Array, width: int, height: int) -> Array:
    """Converts screen units to pixels, the inverse of `normalize_screen`. `[..., 2]` in and out."""
    return (points + _corner(points, width, height)) * width / 2


def _corner(points: Array, width: int, height: int) -> np.ndarray:
    return np.asarray([1, height / width], points.dtype).reshape((1,) * (points.ndim - 1) + (2,))


def root_relative(pose: Array, root: int) -> Array:
    """Subtracts the root joint, which becomes exactly zero. `[..., J, 3]` in and out, any unit."""
    return pose - pose[..., root : root + 1, :]


def zero_root(pose: Array, root: int) -> Array:
    """Sets the root joint to zero and leaves the others. `[..., J, 3]` in and out.

    HoT and STCFormer do so in evaluation.
    """
    keep = np.ones((pose.shape[-2], 1), pose.dtype)
    keep[root] = 0
    return pose * keep.reshape((1,) * (pose.ndim - 2) + keep.shape)


def flip(coordinates: Array, flip_permutation: Sequence[int]) -> Array:
    """Mirrors 3D joints relative to the root, or 2D joints in screen units.

    x is negated, and left and right change places.

    Args:
      coordinates: `[..., J, 2 or 3]`.
      flip_permutation: `Skeleton.flip_permutation`, `[J]`.

    Returns:
      An array of the same shape.
    """
    sign = np.ones(coordinates.shape[-1], coordinates.dtype)
    sign[0] = -1
    swapped = coordinates[..., np.asarray(flip_permutation), :]
    return swapped * sign.reshape((1,) * (coordinates.ndim - 1) + sign.shape)
