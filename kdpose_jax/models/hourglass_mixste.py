"""HoT on MixSTE: after a few pairs of blocks a few representative frames stand for the window; at the end all are recovered.

Source: Li et al., Hourglass Tokenizer for Efficient Transformer-Based 3D Human Pose Estimation, CVPR 2024, and its released code
(docs/methods/lifting.md#hot); the clustering by density peaks is Rodriguez and Laio, Science 2014.
Parameter names are ours; `torch_import` maps the published ones onto them.
"""

from typing import TypedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.models.sparse_mixste import take_frames
from kdpose_jax.models.upsampling import CrossAttentionRecovery


class HourglassFeatures(TypedDict):
    """What a forward pass shows beside its prediction.

    Attributes:
      kept: the frames that stand for the window, rising, `[B, K]`.
      pruned: joint embeddings of these frames after the last pair, `[B, K, J, C]`.
      recovered: joint embeddings of all frames, `[B, F, J, C]`.
    """

    kept: Int[Array, "B K"]
    pruned: Float[Array, "B K J C"]
    recovered: Float[Array, "B F J C"]


def distances(tokens: Float[Array, "B F C"]) -> Float[Array, "B F F"]:
    """Euclidean distance of every pair of frames over the root of C, in float32 or wider; exactly 0 from a frame to itself."""
    tokens = tokens.astype(jnp.promote_types(tokens.dtype, jnp.float32))
    centred = tokens - tokens.mean(1, keepdims=True)  # the squares below lose less to rounding
    products = jnp.einsum("bfc,bgc->bfg", centred, centred, precision="highest")
    lengths = jnp.einsum("bff->bf", products)
    squared = lengths[:, :, None] + lengths[:, None] - 2 * products
    return jnp.sqrt(jnp.maximum(squared, 0)) / tokens.shape[-1] ** 0.5


def representative_frames(
    gap: Float[Array, "B F F"], count: int, neighbours: int
) -> Int[Array, "B K"]:
    """The frames at the peaks of density: dense themselves, and far from every denser one.

    A frame's density is `exp(-mean squared distance to its nearest frames)`, itself included; its score is density times the distance
    to the nearest denser frame (the largest distance of all where none is). The released code breaks ties by noise of 1e-6 on the
    density; here the earlier of two equal frames counts as the denser one, so that one of them stands for both and nothing is random.

    Args:
      gap: distance of every pair of frames, symmetric, 0 on the diagonal.
      count: K.
      neighbours: nearest frames that the density looks at.

    Returns:
      Frame numbers, rising.
    """
    frames = gap.shape[-1]
    nearest = -jax.lax.top_k(-gap, neighbours)[0]
    density = jnp.exp(-jnp.mean(jnp.square(nearest), axis=-1))  # [B, F]
    order = jnp.arange(frames)
    own, other = density[:, :, None], density[:, None, :]
    denser = (other > own) | ((other == own) & (order[None, None, :] < order[None, :, None]))
    isolation = jnp.where(denser, gap, gap.max((1, 2), keepdims=True)).min(-1)
    _, chosen = jax.lax.top_k(isolation * density, count)
    return jnp.sort(chosen, axis=-1)


class HourglassMixSTE(nn.Module):
    """The network: MixSTE, whose later pairs see K of the F frames.

    Attributes:
      network: MixSTE for F frames.
      dense_pairs: pairs of blocks that see all frames, at least 1.
      kept_frames: K.
      neighbours: nearest frames that the density of a frame looks at.
    """

    network: MixSTE
    dense_pairs: int
    kept_frames: int
    neighbours: int

    def setup(self):
        self.kept_position = self.param(
            "kept_position", nn.initializers.zeros, (1, self.kept_frames, self.network.width)
        )
        self.recovery = CrossAttentionRecovery(self.network.frames, self.network.heads)

    def __call__(
        self, keypoints_2d: Float[Array, "B F J 2"], deterministic: bool = True
    ) -> tuple[Float[Array, "B F J 3"], HourglassFeatures]:
        """Lifts a window.

        Args:
          keypoints_2d: joints in screen units.
          deterministic: no stochastic depth; otherwise an rng named `drop_path` is read.

        Returns:
          The pose in metres, root-relative camera coordinates, and the features.
        """
        tokens = self.network.embed(keypoints_2d)
        for layer in range(self.dense_pairs):
            tokens, _, _ = self.network.pair(layer, tokens, deterministic)
        gap = distances(
            jax.lax.stop_gradient(tokens.mean(2))
        )  # [B, F, C], the mean over the joints
        kept = representative_frames(gap, self.kept_frames, self.neighbours)
        tokens = take_frames(tokens, kept) + self.kept_position[:, :, None].astype(
            tokens.dtype
        )  # [B, K, J, C]
        for layer in range(self.dense_pairs, self.network.depth):
            tokens, _, _ = self.network.pair(layer, tokens, deterministic)
        recovered = self.recovery(tokens.astype(jnp.promote_types(tokens.dtype, jnp.float32)))
        return self.network.decode(recovered), HourglassFeatures(
            kept=kept, pruned=tokens, recovered=recovered
        )
