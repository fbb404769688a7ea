"""PoseFormerV2: lifts one frame, from central frames of a window and low frequencies of all.

Source: Zhao et al., PoseFormerV2, CVPR 2023, and its released code
(docs/methods/lifting.md#poseformerv2). Parameter names are ours; `pytorch.poseformer_v2` maps the
published ones onto them.
"""

import operator
from typing import Any, TypedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdpose_jax.models.attention import SelfAttention, TransformerBlock
from kdpose_jax.models.layers import Drops, LayerNorm, Linear, draw_drops, dropped, gelu
from kdpose_jax.precision import float32_or_wider


class PoseFormerV2Features(TypedDict):
    """What a forward pass returns beside its prediction.

    Attributes:
      joints: joint embeddings of the K central frames after the spatial blocks and their norm,
        `[B, K, J, C]`.
      coefficients: the first N coefficients of every coordinate's cosine transform over the window,
        `[B, N, 2J]`.
      tokens: N coefficients, then K frames, after each mixed block, L x `[B, N+K, JC]`.
    """

    joints: Float[Array, "B K J C"]
    coefficients: Float[Array, "B N D"]
    tokens: tuple[Float[Array, "B S E"], ...]


def cosine_transform(length: int) -> Float[np.ndarray, "T T"]:
    """Builds the DCT-II without norm: row k gives `X_k = 2 sum_t x_t cos(pi k (t + 1/2) / T)`."""
    order, time = np.arange(length), np.arange(length) + 0.5
    return 2 * np.cos(np.pi / length * np.outer(order, time))


def inverse_cosine_transform(length: int) -> Float[np.ndarray, "T T"]:
    """Builds the inverse of `cosine_transform`.

    `x_t = (X_0 / 2 + sum_{k>0} X_k cos(pi k (t + 1/2) / T)) / T`.
    """
    inverse = cosine_transform(length).T / (2 * length)
    inverse[:, 0] /= 2
    return inverse


def along_time(
    matrix: Float[np.ndarray, "R T"], values: Float[Array, "B T E"]
) -> Float[Array, "B R E"]:
    """Applies a transform over time, in float32 or wider."""
    values = float32_or_wider(values)
    return jnp.einsum("rt,bte->bre", jnp.asarray(matrix, values.dtype), values)


def windows(keypoints_2d: Float[Array, "B N J 2"], length: int) -> Float[Array, "W length J 2"]:
    """Cuts every window of `length` frames out of the input; those of one example are in a row."""
    batch, frames, joints, _ = keypoints_2d.shape
    count = frames - length + 1  # may be a symbol, in an exported program
    rows = jnp.arange(count)[:, None] + jnp.arange(length)[None]  # [F, length]
    cut = jnp.take(keypoints_2d, rows, axis=1, mode="clip")  # [B, F, length, J, 2]
    return cut.reshape(batch * count, length, joints, 2)


class MLP(nn.Module):
    """Two linear layers with the exact (erf) GELU between them.

    Attributes:
      hidden: number of channels between the two layers.
      frequencies: True applies the layers to the cosine transform over the tokens, and transforms
        the result back.
      dtype: compute type.
    """

    hidden: int
    frequencies: bool
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, tokens: Float[Array, "B S E"]) -> Float[Array, "B S E"]:
        length, dtype = tokens.shape[1], tokens.dtype
        if self.frequencies:
            tokens = along_time(cosine_transform(length), tokens)
        hidden = Linear(self.hidden, dtype=self.dtype, name="hidden")(tokens)
        hidden = gelu(hidden)
        tokens = Linear(tokens.shape[-1], dtype=self.dtype, name="out")(hidden)
        if self.frequencies:
            tokens = along_time(inverse_cosine_transform(length), tokens).astype(dtype)
        return tokens


class MixedBlock(nn.Module):
    """Self-attention over all tokens, then one MLP on their first half and one on their second.

    The second MLP works in the frequency domain. As released, the tokens are halved by number. With
    as many coefficients as frames, the first half is the coefficients and the second the frames.

    Attributes:
      heads: number of attention heads.
      mlp_ratio: hidden width of the MLPs over the tokens' width.
      dtype: compute type.
    """

    heads: int
    mlp_ratio: float
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, tokens: Float[Array, "B S E"], drops: Drops = None) -> Float[Array, "B S E"]:
        normed = LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm_attention")(tokens)
        attention = SelfAttention(self.heads, dtype=self.dtype, name="attention")
        mixed, _ = attention(normed[:, None])  # one row of tokens
        tokens = tokens + dropped(mixed[:, 0], drops, 0)
        half, hidden = tokens.shape[1] // 2, round(tokens.shape[2] * self.mlp_ratio)
        parts = []
        halves = ("plain", tokens[:, :half]), ("frequency", tokens[:, half:])
        for number, (name, part) in enumerate(halves, 1):
            normed = LayerNorm(epsilon=1e-6, dtype=self.dtype, name=f"norm_{name}")(part)
            changed = MLP(hidden, name == "frequency", self.dtype, name=f"mlp_{name}")(normed)
            parts.append(part + dropped(changed, drops, number))
        return jnp.concatenate(parts, axis=1)


class PoseFormerV2(nn.Module):
    """The network. It predicts the central frame (frames - 1) // 2 of its window.

    Attributes:
      joints: number J of joints.
      frames: number of frames in the window.
      kept_frames: number K of central frames that are seen in full; odd.
      kept_coefficients: number N of the window's lowest frequencies.
      width: number C of channels per joint.
      depth: number L of spatial blocks, and of mixed blocks.
      heads: number of attention heads; divides C.
      mlp_ratio: hidden width of the MLPs over the width of their input.
      drop_path: drop probability of the last block; it rises linearly from 0 at the first block.
      dtype: compute type; parameters are float32, and transforms and head compute in float32.
      remat: True recomputes the blocks in the backward pass instead of storing their activations.
    """

    joints: int
    frames: int
    kept_frames: int
    kept_coefficients: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float
    drop_path: float
    dtype: jnp.dtype | None = None
    remat: bool = False

    @nn.compact
    def __call__(
        self, keypoints_2d: Float[Array, "B N J 2"], deterministic: bool = True
    ) -> tuple[Float[Array, "B F J 3"], PoseFormerV2Features]:
        """Lifts the central frame of each window of `frames` frames within the input.

        Args:
          keypoints_2d: joints in N frames, screen units.
          deterministic: True switches stochastic depth off; False reads an rng named `drop_path`.

        Returns:
          The pose in F = N - frames + 1 frames, metres, root-relative camera coordinates, and the
          features, whose first axis is B F: every window is an example of its own.

        Raises:
          ValueError: the input is shorter than a window.
        """
        if keypoints_2d.shape[1] < self.frames:
            raise ValueError(
                f"{keypoints_2d.shape[1]} frames are fewer than a window of {self.frames}"
            )
        examples, predicted = keypoints_2d.shape[0], keypoints_2d.shape[1] - self.frames + 1
        if predicted != 1:  # the number may be a symbol, in an exported program
            keypoints_2d = windows(keypoints_2d, self.frames)
        batch, frames, joints, _ = keypoints_2d.shape
        kept, coefficients, width = self.kept_frames, self.kept_coefficients, self.width
        rates = np.linspace(0, self.drop_path, self.depth)
        drops: tuple[Drops, Drops] = (None, None)
        if not deterministic and rates.any():
            keys = jax.random.split(self.make_rng("drop_path"))
            drops = (
                draw_drops(keys[0], rates, (2, batch, kept, 1, 1)),
                draw_drops(keys[1], rates, (3, batch, 1, 1)),
            )
        options: dict[str, Any] = {
            "heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
            "dtype": self.dtype,
        }
        spatial_block, mixed_block = TransformerBlock, MixedBlock
        if self.remat:
            spatial_block, mixed_block = nn.remat(TransformerBlock), nn.remat(MixedBlock)

        first = (frames - 1) // 2 - kept // 2
        seen = keypoints_2d[:, first : first + kept]  # [B, K, J, 2]
        spatial = Linear(width, dtype=self.dtype, name="joint_embedding")(seen)
        spatial = spatial + self._position("spatial_position", joints, width, spatial.dtype)[None]
        for layer in range(self.depth):
            block = spatial_block(**options, name=f"spatial_block_{layer}")
            spatial, _ = block(spatial, jax.tree.map(operator.itemgetter(layer), drops[0]))
        spatial = LayerNorm(epsilon=1e-6, dtype=self.dtype, name="spatial_norm")(spatial)

        coordinates = keypoints_2d.reshape(batch, frames, joints * 2)
        lowest = along_time(cosine_transform(frames)[:coefficients], coordinates)  # [B, N, 2J]
        slow = Linear(joints * width, dtype=self.dtype, name="coefficient_embedding")(lowest)
        slow = slow + self._position(
            "coefficient_position", coefficients, joints * width, slow.dtype
        )
        seen = spatial.reshape(batch, kept, joints * width)  # [B, K, J, C] -> [B, K, JC]
        seen = seen + self._position("temporal_position", kept, joints * width, seen.dtype)

        tokens, after = jnp.concatenate([slow, seen], axis=1), []  # [B, N+K, JC]
        for layer in range(self.depth):
            mixed = mixed_block(**options, name=f"mixed_block_{layer}")
            tokens = mixed(tokens, jax.tree.map(operator.itemgetter(layer), drops[1]))
            after.append(tokens)
        tokens = LayerNorm(epsilon=1e-6, dtype=self.dtype, name="temporal_norm")(tokens)
        pose = self._head(tokens).reshape(examples, predicted, joints, 3)
        features = PoseFormerV2Features(
            joints=spatial,
            coefficients=lowest,
            tokens=tuple(after),
        )
        return pose, features

    def _position(self, name: str, length: int, width: int, dtype: jnp.dtype) -> Array:
        return self.param(name, nn.initializers.zeros, (1, length, width)).astype(dtype)

    def _head(self, tokens: Float[Array, "B S E"]) -> Float[Array, "B D"]:
        """Sums coefficients and frames by trained weights, then norm and linear layer, float32."""
        tokens = float32_or_wider(tokens)
        tokens = tokens.swapaxes(1, 2)  # [B, JC, N+K]
        slow = Linear(1, name="coefficient_mean")(tokens[..., : self.kept_coefficients])[..., 0]
        seen = Linear(1, name="frame_mean")(tokens[..., self.kept_coefficients :])[..., 0]
        sums = jnp.concatenate([slow, seen], axis=-1)
        normed = LayerNorm(epsilon=1e-5, name="head_norm")(sums)
        return Linear(self.joints * 3, name="head")(normed)
