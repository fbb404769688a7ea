"""Takes sparse keyframes from a dense window: SCJD's input downsampling.

The design is ours, from the paper's abstract (docs/methods/scjd.md#keyframes).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdpose_jax.codecs.keyframes import KeyframeGrid


def take_frames(
    values: Float[Array, "B ..."], frames: Int[Array, "*B K"], axis: int = 1
) -> Float[Array, "B ..."]:
    """Picks the same frames in every window (`[K]`), or other frames in each (`[B, K]`).

    Frames outside the window are clipped to it.

    Args:
      values: dense values, whose F frames lie along an axis.
      frames: numbers of the frames to take.
      axis: the axis of the frames; not 0.

    Returns:
      The values with K frames along that axis.
    """
    frames = jnp.clip(frames, 0, values.shape[axis] - 1)
    by_index, by_product = (partial(form, axis=axis) for form in (_by_index, _by_product))
    return jax.lax.platform_dependent(values, frames, tpu=by_product, default=by_index)


def _by_index(values: Array, frames: Array, axis: int) -> Array:
    if frames.ndim == 1:
        return jnp.take(values, frames, axis=axis, mode="clip")
    return jax.vmap(partial(jnp.take, axis=axis - 1, mode="clip"))(values, frames)


def _by_product(values: Array, frames: Array, axis: int) -> Array:
    """Multiplies by a matrix of ones and zeros, exactly.

    A TPU gathers along its first axes alone, so that a gather copies all values into that order.
    """
    numbers = jnp.expand_dims(jnp.arange(values.shape[axis]), range(frames.ndim))
    chosen = (frames[..., None] == numbers).astype(values.dtype)
    leading, of = "bcde"[:axis], "bkf" if frames.ndim == 2 else "kf"
    return jnp.einsum(
        f"{leading}f...,{of}->{leading}k...", values, chosen, precision=jax.lax.Precision.HIGHEST
    )


def most_correlated(keypoints_2d: Float[Array, "B F J 2"], grid: KeyframeGrid) -> Int[Array, "B K"]:
    """Picks in every group of r frames the one with the smallest summed distance to the others.

    A group is the r frames around a uniform keyframe, cut off at the window's ends.

    Args:
      keypoints_2d: the dense windows.
      grid: the uniform keyframes.

    Returns:
      Frame numbers, rising in every window.
    """
    frames = grid.frames
    members = grid.groups  # [K, r]
    inside = (members >= 0) & (members < frames)
    members = np.clip(members, 0, frames - 1)
    group = keypoints_2d[:, members]  # [B, K, r, J, 2]
    difference = group[:, :, :, None] - group[:, :, None]  # [B, K, r, r, J, 2]
    apart = jnp.linalg.norm(difference, axis=-1).mean(-1)  # [B, K, r, r]
    summed = jnp.sum(jnp.where(inside[None, :, None, :], apart, 0.0), axis=-1)
    choice = jnp.argmin(jnp.where(inside[None], summed, jnp.inf), axis=-1)  # [B, K]
    return jnp.take_along_axis(jnp.asarray(members)[None], choice[..., None], axis=-1)[..., 0]
