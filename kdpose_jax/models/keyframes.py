"""Sparse keyframes of a dense window: SCJD's input downsampling.

It is a design derived from the paper's abstract, not the paper's equations:
docs/methods/scjd.md#keyframes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdpose_jax.codecs.keyframes import KeyframeGrid


def take_frames(
    values: Float[Array, "B F ..."], frames: Int[Array, "*B K"]
) -> Float[Array, "B K ..."]:
    """Picks frames: the same ones in every window (`[K]`) or per window (`[B, K]`), clipped to the window."""
    if frames.ndim == 1:
        return jnp.take(values, frames, axis=1, mode="clip")
    return jax.vmap(lambda window, chosen: jnp.take(window, chosen, axis=0, mode="clip"))(
        values, frames
    )


def most_correlated(keypoints_2d: Float[Array, "B F J 2"], grid: KeyframeGrid) -> Int[Array, "B K"]:
    """In every group of r frames the frame whose pose is nearest to the group (summed distance over the group).

    The groups are the r frames around the uniform keyframes, cut off at the window's ends.

    Args:
      keypoints_2d: the dense window.
      grid: the uniform keyframes.

    Returns:
      Keyframes, rising in every window.
    """
    frames = grid.frames
    members = grid.groups  # [K, r]
    inside = (members >= 0) & (members < frames)
    members = np.clip(members, 0, frames - 1)
    group = keypoints_2d[:, members]  # [B, K, r, J, 2]
    apart = jnp.linalg.norm(group[:, :, :, None] - group[:, :, None], axis=-1).mean(
        -1
    )  # [B, K, r, r]
    summed = jnp.sum(jnp.where(inside[None, :, None, :], apart, 0.0), axis=-1)
    choice = jnp.argmin(jnp.where(inside[None], summed, jnp.inf), axis=-1)  # [B, K]
    return jnp.take_along_axis(jnp.asarray(members)[None], choice[..., None], axis=-1)[..., 0]
