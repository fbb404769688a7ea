"""From keyframes back to all frames of a window: SCJD's upsampling.

It is a design derived from the paper's abstract, not the paper's equations:
docs/methods/scjd.md#upsampling.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdpose_jax.codecs.keyframes import KeyframeGrid
from kdpose_jax.models.attention import Linear

UPSAMPLINGS = ("linear_pose", "linear_feat", "learned", "cross_attn")
ENDS = ("hold", "extrapolate")


def interpolation_matrix(
    keyframes: Int[Array | np.ndarray, "*B K"], frames: int, ends: str
) -> Float[Array, "*B F K"]:
    """The linear operator U from values at keyframes to values at all frames of a window.

    Between two keyframes the value is interpolated by time; rows sum to 1.

    Args:
      keyframes: rising frame numbers.
      frames: frames F of the window.
      ends: before the first and behind the last keyframe, `hold` the value or `extrapolate` linearly.

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
    left = jnp.clip(jnp.sum(at <= time, axis=-1) - 1, 0, count - 2)[
        ..., None
    ]  # the keyframe at or before t
    begin = jnp.take_along_axis(jnp.broadcast_to(at, left.shape[:-1] + (count,)), left, axis=-1)
    end = jnp.take_along_axis(jnp.broadcast_to(at, left.shape[:-1] + (count,)), left + 1, axis=-1)
    share = (time - begin) / (end - begin)
    column = jnp.arange(count).reshape((1,) * (at.ndim - 1) + (count,))
    return jnp.where(column == left, 1 - share, 0.0) + jnp.where(column == left + 1, share, 0.0)


def upsample(
    matrix: Float[Array, "*M F K"], values: Float[Array, "B K J C"]
) -> Float[Array, "B F J C"]:
    """Applies U: one matrix for the whole batch or one per example."""
    equation = "fk,bkjc->bfjc" if matrix.ndim == 2 else "bfk,bkjc->bfjc"
    return jnp.einsum(equation, matrix.astype(values.dtype), values)


class LearnedMatrix(nn.Module):
    """U as a trained matrix that starts at the linear one, one per phase of the keyframe grid.

    Attributes:
      grid: the keyframes for evaluation.
      offsets: the offsets o it is used with (all of 0..r-1 with phase augmentation).
      ends: of the linear matrix it starts from.
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
    """Recovers all frames from keyframe features, per joint: learned queries attend to the keyframes.

    Source: the recovery of HoT (Li et al., CVPR 2024, released code): zero-initialised queries, separate linear
    maps with bias, a residual onto the queries.

    Attributes:
      frames: frames F to recover.
      heads: attention heads.
    """

    frames: int
    heads: int

    @nn.compact
    def __call__(self, tokens: Float[Array, "B K J C"]) -> Float[Array, "B F J C"]:
        batch, _, joints, width = tokens.shape
        queries = self.param("queries", nn.initializers.zeros, (1, self.frames, width)).astype(
            tokens.dtype
        )

        def split(values: Array) -> Array:  # [..., S, C] -> [..., A, S, C/A]
            return values.reshape(*values.shape[:-1], self.heads, width // self.heads).swapaxes(
                -3, -2
            )

        keys = split(Linear(width, name="key")(tokens.swapaxes(1, 2)))  # [B, J, A, K, C/A]
        values = split(Linear(width, name="value")(tokens.swapaxes(1, 2)))
        asked = split(Linear(width, name="query")(queries))[None]  # [1, 1, A, F, C/A]
        logits = jnp.einsum("xyafc,bjakc->bjafk", asked, keys) * (width // self.heads) ** -0.5
        mixed = jnp.einsum("bjafk,bjakc->bjfac", nn.softmax(logits, axis=-1), values)
        mixed = Linear(width, name="out")(mixed.reshape(batch, joints, self.frames, width))
        return (queries[None] + mixed).swapaxes(1, 2)  # [B, J, F, C] -> [B, F, J, C]
