"""Sparse keyframes of a dense window, and the way back: SCJD's input downsampling and upsampling.

Both are a design derived from the paper's abstract, not the paper's equations (inferred):
docs/methods/scjd.md#keyframes and docs/methods/scjd.md#upsampling.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdpose_jax.models.attention import Linear


def centred_offset(stride: int) -> int:
    """First keyframe of the centred grid: (r - 1) / 2 for odd r."""
    return (stride - 1) // 2


def count_keyframes(frames: int, stride: int, offset: int) -> int:
    """T_s = floor((T - 1 - o) / r) + 1."""
    return (frames - 1 - offset) // stride + 1


def uniform_grid(frames: int, stride: int, offset: int) -> np.ndarray:
    """Keyframes s_k = o + r k of a window of `frames` frames, `[K]`."""
    return offset + stride * np.arange(count_keyframes(frames, stride, offset))


def most_correlated(keypoints_2d: Float[Array, "B F J 2"], stride: int, offset: int) -> Int[Array, "B K"]:
    """In every group of r frames the frame whose pose is nearest to the group (summed distance over the group).

    The groups are the r frames around the uniform keyframes, cut off at the window's ends.

    Args:
      keypoints_2d: the dense window.
      stride: r.
      offset: o of the uniform grid.

    Returns:
      Keyframes, rising in every window.
    """
    frames = keypoints_2d.shape[1]
    grid = uniform_grid(frames, stride, offset)
    members = grid[:, None] - centred_offset(stride) + np.arange(stride)  # [K, r]
    inside = (members >= 0) & (members < frames)
    members = np.clip(members, 0, frames - 1)
    group = keypoints_2d[:, members]  # [B, K, r, J, 2]
    apart = jnp.linalg.norm(group[:, :, :, None] - group[:, :, None], axis=-1).mean(-1)  # [B, K, r, r]
    summed = jnp.sum(jnp.where(inside[None, :, None, :], apart, 0.0), axis=-1)
    choice = jnp.argmin(jnp.where(inside[None], summed, jnp.inf), axis=-1)  # [B, K]
    return jnp.take_along_axis(jnp.asarray(members)[None], choice[..., None], axis=-1)[..., 0]


def interpolation_matrix(keyframes: Int[Array | np.ndarray, "*B K"], frames: int, ends: str) -> Float[Array, "*B F K"]:
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
    left = jnp.clip(jnp.sum(at <= time, axis=-1) - 1, 0, count - 2)[..., None]  # the keyframe at or before t
    begin = jnp.take_along_axis(jnp.broadcast_to(at, left.shape[:-1] + (count,)), left, axis=-1)
    end = jnp.take_along_axis(jnp.broadcast_to(at, left.shape[:-1] + (count,)), left + 1, axis=-1)
    share = (time - begin) / (end - begin)
    column = jnp.arange(count).reshape((1,) * (at.ndim - 1) + (count,))
    return jnp.where(column == left, 1 - share, 0.0) + jnp.where(column == left + 1, share, 0.0)


def upsample(matrix: Float[Array, "*M F K"], values: Float[Array, "B K J C"]) -> Float[Array, "B F J C"]:
    """Applies U: one matrix for the whole batch or one per example."""
    equation = "fk,bkjc->bfjc" if matrix.ndim == 2 else "bfk,bkjc->bfjc"
    return jnp.einsum(equation, matrix.astype(values.dtype), values)


class LearnedMatrix(nn.Module):
    """U as a trained matrix that starts at the linear one, one per phase of the keyframe grid.

    Attributes:
      frames: frames F of the window.
      stride: r.
      offsets: the offsets o it is used with (all of 0..r-1 with phase augmentation).
      ends: of the linear matrix it starts from.
    """

    frames: int
    stride: int
    offsets: tuple[int, ...]
    ends: str

    @nn.compact
    def __call__(self, offset: Int[Array, ""]) -> Float[Array, "F K"]:
        def linear(_):
            grids = np.stack([uniform_grid(self.frames, self.stride, o) for o in self.offsets])
            return interpolation_matrix(jnp.asarray(grids), self.frames, self.ends)

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
        queries = self.param("queries", nn.initializers.zeros, (1, self.frames, width)).astype(tokens.dtype)

        def split(values: Array) -> Array:  # [..., S, C] -> [..., A, S, C/A]
            return values.reshape(*values.shape[:-1], self.heads, width // self.heads).swapaxes(-3, -2)

        keys = split(Linear(width, name="key")(tokens.swapaxes(1, 2)))  # [B, J, A, K, C/A]
        values = split(Linear(width, name="value")(tokens.swapaxes(1, 2)))
        asked = split(Linear(width, name="query")(queries))[None]  # [1, 1, A, F, C/A]
        logits = jnp.einsum("xyafc,bjakc->bjafk", asked, keys) * (width // self.heads) ** -0.5
        mixed = jnp.einsum("bjafk,bjakc->bjfac", nn.softmax(logits, axis=-1), values)
        mixed = Linear(width, name="out")(mixed.reshape(batch, joints, self.frames, width))
        return (queries[None] + mixed).swapaxes(1, 2)  # [B, J, F, C] -> [B, F, J, C]
