"""Takes sparse keyframes from a dense window: SCJD's input downsampling.

The design is ours, from the paper's abstract (docs/methods/scjd.md#keyframes).
"""

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
    if frames.ndim == 1:
        return jnp.take(values, frames, axis=axis, mode="clip")
    take = jax.vmap(lambda window, numbers: jnp.take(window, numbers, axis=axis - 1, mode="clip"))
    return take(values, frames)


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
