"""HoT on MixSTE: later blocks see only representative frames, and the end recovers all.

Source: Li et al., Hourglass Tokenizer for Efficient Transformer-Based 3D Human Pose Estimation,
CVPR 2024, and its released code (docs/methods/lifting.md#hot). The clustering by density peaks is
from Rodriguez and Laio, Science 2014. Parameter names are ours; `pytorch.mixste` maps the published
ones onto them.
"""

from typing import TypedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdpose_jax.models.keyframes import take_frames
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.models.upsampling import CrossAttentionRecovery
from kdpose_jax.precision import float32_or_wider


class HourglassFeatures(TypedDict):
    """What a forward pass returns beside its prediction.

    Attributes:
      kept: numbers of the representative frames, rising, `[B, K]`.
      pruned: joint embeddings of these frames after the last pair, `[B, K, J, C]`.
      recovered: joint embeddings of all frames, `[B, F, J, C]`.
    """

    kept: Int[Array, "B K"]
    pruned: Float[Array, "B K J C"]
    recovered: Float[Array, "B F J C"]


def distances(tokens: Float[Array, "B F C"]) -> Float[Array, "B F F"]:
    """Computes the Euclidean distance of every pair of frames over the root of C.

    It is computed in float32 or wider, and is exactly 0 from a frame to itself.
    """
    tokens = float32_or_wider(tokens)
    centred = tokens - tokens.mean(1, keepdims=True)  # so that the squares round less
    products = jnp.einsum("bfc,bgc->bfg", centred, centred, precision="highest")
    lengths = jnp.einsum("bff->bf", products)
    squared = lengths[:, :, None] + lengths[:, None] - 2 * products
    return jnp.sqrt(jnp.maximum(squared, 0)) / tokens.shape[-1] ** 0.5


def representative_frames(
    gap: Float[Array, "B F F"], count: int, neighbours: int
) -> Int[Array, "B K"]:
    """Picks the frames at the peaks of density, far from every denser frame.

    A frame's density is `exp(-mean squared distance to its nearest frames)`, itself included. Its
    score is its density times the distance to the nearest denser frame, or times the largest
    distance of all if there is no denser frame. The released code breaks ties by noise of 1e-6 on
    the density. Here the earlier of two equal frames counts as denser, so nothing is random.

    Args:
      gap: distance of every pair of frames, symmetric, 0 on the diagonal.
      count: number K of frames to pick.
      neighbours: number of nearest frames that the density averages over.

    Returns:
      Frame numbers, rising.
    """
    frames = gap.shape[-1]
    nearest = -jax.lax.top_k(-gap, neighbours)[0]
    density = jnp.exp(-jnp.mean(jnp.square(nearest), axis=-1))  # [B, F]
    order = jnp.arange(frames)
    this, other = density[:, :, None], density[:, None, :]
    denser = (other > this) | ((other == this) & (order[None, None, :] < order[None, :, None]))
    isolation = jnp.where(denser, gap, gap.max((1, 2), keepdims=True)).min(-1)
    _, peaks = jax.lax.top_k(isolation * density, count)
    return jnp.sort(peaks, axis=-1)


class HourglassMixSTE(nn.Module):
    """MixSTE whose later pairs of blocks see K of the F frames.

    Attributes:
      network: MixSTE for F frames.
      dense_pairs: number of pairs of blocks that see all frames, at least 1.
      kept_frames: number K of frames that the other pairs see.
      neighbours: number of nearest frames that the density averages over.
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
          deterministic: True switches stochastic depth off; False reads an rng named `drop_path`.

        Returns:
          The pose in metres, root-relative camera coordinates, and the features.
        """
        tokens = self.network.embed(keypoints_2d)
        _, seen, _ = self.network.run(range(self.dense_pairs), tokens, deterministic)
        tokens = seen[-1].swapaxes(1, 2)  # [B, J, F, C] -> [B, F, J, C]
        frame_tokens = jax.lax.stop_gradient(tokens.mean(2))  # [B, F, C]
        kept = representative_frames(distances(frame_tokens), self.kept_frames, self.neighbours)
        position = self.kept_position[:, :, None].astype(tokens.dtype)
        tokens = (take_frames(tokens, kept) + position).swapaxes(1, 2)  # [B, J, K, C]
        sparse = range(self.dense_pairs, self.network.depth)
        if sparse:
            tokens = self.network.run(sparse, tokens, deterministic)[1][-1]
        tokens = tokens.swapaxes(1, 2)
        recovered = self.recovery(float32_or_wider(tokens))
        return self.network.decode(recovered), HourglassFeatures(
            kept=kept, pruned=tokens, recovered=recovered
        )
