"""Upsamples from keyframes to all frames of a window, for SCJD.

The design is ours, from the paper's abstract (docs/methods/scjd.md#upsampling).
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdpose_jax.codecs.keyframes import KeyframeGrid
from kdpose_jax.models.layers import Linear

UPSAMPLINGS = ("linear_pose", "linear_feat", "learned", "cross_attn")
ENDS = ("hold", "extrapolate")


def interpolation_matrix(
    keyframes: Int[Array | np.ndarray, "*B K"], frames: int, ends: str
) -> Float[Array, "*B F K"]:
    """Builds the linear operator U from values at keyframes to values at all frames.

    Between two keyframes, U interpolates linearly in time. Its rows sum to 1.

    Args:
      keyframes: rising frame numbers.
      frames: number F of frames in the window.
      ends: before the first and after the last keyframe, `hold` the value or `extrapolate` it
        linearly.

    Returns:
      The matrix M, `U(z)_t = sum_k M[t, k] z_k`.
    """
    at = jnp.asarray(keyframes, jnp.float32)[..., None, :]  # [..., 1, K]
    count = at.shape[-1]
    time = jnp.arange(frames, dtype=jnp.float32).reshape((1,) * (at.ndim - 2) + (frames, 1))
    if count == 1:
        return jnp.ones(jnp.broadcast_shapes(at.shape, time.shape), jnp.float32)
    if ends == "hold":
        time = jnp.clip(time, at[..., :1], at[..., -1:])
    # The keyframe at or before each frame, [..., F, 1].
    left = jnp.clip(jnp.sum(at <= time, axis=-1) - 1, 0, count - 2)[..., None]
    at_each_frame = jnp.broadcast_to(at, left.shape[:-1] + (count,))
    begin = jnp.take_along_axis(at_each_frame, left, axis=-1)
    end = jnp.take_along_axis(at_each_frame, left + 1, axis=-1)
    share = (time - begin) / (end - begin)
    column = jnp.arange(count).reshape((1,) * (at.ndim - 1) + (count,))
    return jnp.where(column == left, 1 - share, 0.0) + jnp.where(column == left + 1, share, 0.0)


def upsample(
    matrix: Float[Array, "*M F K"], values: Float[Array, "B K J C"]
) -> Float[Array, "B F J C"]:
    """Applies U, one matrix for the whole batch or one per example."""
    equation = "fk,bkjc->bfjc" if matrix.ndim == 2 else "bfk,bkjc->bfjc"
    return jnp.einsum(equation, matrix.astype(values.dtype), values)


class LearnedMatrix(nn.Module):
    """Trains U as a matrix that starts as linear interpolation, one for each offset.

    Attributes:
      grid: the keyframes in evaluation.
      offsets: the offsets o that it is used with; all of 0..r-1 with phase augmentation.
      ends: what the initial matrix does outside the keyframes, `hold` or `extrapolate`.
    """

    grid: KeyframeGrid
    offsets: tuple[int, ...]
    ends: str

    @nn.compact
    def __call__(self, offset: Int[Array, ""]) -> Float[Array, "F K"]:
        def linear(_):
            grids = np.stack([self.grid.shifted(offset) for offset in self.offsets])
            return interpolation_matrix(jnp.asarray(grids), self.grid.frames, self.ends)

        matrices = self.param("matrix", linear)  # [phases, F, K]
        return matrices[jnp.argmax(jnp.asarray(self.offsets) == offset)]


class CrossAttentionRecovery(nn.Module):
    """Recovers all frames from keyframe features, by learned queries that attend to them.

    Each joint is recovered by itself. Queries start at zero, the linear maps are separate and have
    biases, and the result is added to the queries. Source: the recovery of HoT (Li et al., CVPR
    2024, released code).

    Attributes:
      frames: number F of frames to recover.
      heads: number A of attention heads.
    """

    frames: int
    heads: int

    @nn.compact
    def __call__(self, tokens: Float[Array, "B K J C"]) -> Float[Array, "B F J C"]:
        batch, _, joints, width = tokens.shape
        queries = self.param("queries", nn.initializers.zeros, (1, self.frames, width))
        queries = queries.astype(tokens.dtype)
        depth = width // self.heads

        def split(values: Array) -> Array:
            """Splits the heads: `[..., S, C]` -> `[..., A, S, C/A]`."""
            return values.reshape(*values.shape[:-1], self.heads, depth).swapaxes(-3, -2)

        keys = split(Linear(width, name="key")(tokens.swapaxes(1, 2)))  # [B, J, A, K, C/A]
        values = split(Linear(width, name="value")(tokens.swapaxes(1, 2)))
        query = split(Linear(width, name="query")(queries))[None]  # [1, 1, A, F, C/A]
        logits = jnp.einsum("xyafc,bjakc->bjafk", query, keys) * depth**-0.5
        mixed = jnp.einsum("bjafk,bjakc->bjfac", nn.softmax(logits, axis=-1), values)
        mixed = Linear(width, name="out")(mixed.reshape(batch, joints, self.frames, width))
        return (queries[None] + mixed).swapaxes(1, 2)  # [B, J, F, C] -> [B, F, J, C]
