"""MixSTE: a 2D-to-3D lifter for sequences, of alternating spatial and temporal blocks.

Source: Zhang et al., MixSTE, CVPR 2022, and its released code (docs/methods/lifting.md#mixste).
Parameter names are ours; `pytorch.mixste` maps the published ones onto them.
"""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdpose_jax.models import initial
from kdpose_jax.models.attending import probabilities
from kdpose_jax.models.attention import TransformerBlock
from kdpose_jax.models.keyframes import take_frames
from kdpose_jax.models.layers import Drops, LayerNorm, Linear, draw_drops
from kdpose_jax.precision import float32_or_wider

# Embeddings [B, J, F, C] after the spatial and the temporal block; what the spatial block attends
# by, [B, J, F, 3C].
PairOutputs = tuple[Array, Array, Array]
# Stochastic depth of spatial and temporal blocks; None where no branch is dropped.
PairDrops = tuple[Drops, Drops]


class MixSTEFeatures(TypedDict):
    """What a forward pass returns beside its prediction, with one entry per layer l.

    Attributes:
      spatial: joint embeddings after spatial block l and its norm, L x `[B, F, J, C]`.
      temporal: joint embeddings after temporal block l and its norm, L x `[B, F, J, C]`.
      spatial_attention: probabilities of spatial block l, L x `[B, F, A, J, J]`, rows are queries.
        Some of the F frames if the caller asked for them alone.
    """

    spatial: tuple[Float[Array, "B F J C"], ...]
    temporal: tuple[Float[Array, "B F J C"], ...]
    spatial_attention: tuple[Float[Array, "B F A J J"], ...]


class MixSTE(nn.Module):
    """The network. Position terms are added once, and all layers share their two norms.

    Attributes:
      joints: number J of joints.
      frames: number F of frames.
      width: number C of channels.
      depth: number L of pairs of a spatial and a temporal block.
      heads: number A of attention heads; divides C.
      mlp_ratio: hidden width of the MLPs over C.
      drop_path: drop probability of the last pair; it rises linearly from 0 at the first pair.
      dtype: compute type; parameters are float32, and the head computes in float32.
      remat: True recomputes the blocks in the backward pass instead of storing their activations.
      scan: True runs the pairs behind the first in a loop, which compiles sooner and takes more
        memory.
      joint_position_std: standard deviation of the joints' position terms before training. 0 is as
        released: at first the network distinguishes joints only by their coordinates. Other values
        are ours.
    """

    joints: int
    frames: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float
    drop_path: float
    dtype: jnp.dtype | None = None
    remat: bool = False
    scan: bool = False
    joint_position_std: float = 0.0

    def setup(self):
        block = nn.remat(TransformerBlock) if self.remat else TransformerBlock
        options = {"heads": self.heads, "mlp_ratio": self.mlp_ratio, "dtype": self.dtype}
        self.joint_embedding = Linear(self.width, dtype=self.dtype)
        start = nn.initializers.zeros
        if self.joint_position_std:
            start = initial.normal(self.joint_position_std)
        self.spatial_position = self.param("spatial_position", start, (1, self.joints, self.width))
        self.temporal_position = self.param(
            "temporal_position", nn.initializers.zeros, (1, self.frames, self.width)
        )
        self.spatial_block = [block(axis=-3, **options) for _ in range(self.depth)]
        self.temporal_block = [block(axis=-2, **options) for _ in range(self.depth)]
        self.spatial_norm = LayerNorm(epsilon=1e-6, dtype=self.dtype)
        self.temporal_norm = LayerNorm(epsilon=1e-6, dtype=self.dtype)
        self.head_norm = LayerNorm(epsilon=1e-5)  # torch's default here, unlike the norms above
        self.head = Linear(3)

    def encode(
        self,
        keypoints_2d: Float[Array, "B F J 2"],
        deterministic: bool = True,
        attention_frames: Int[Array, "*B K"] | None = None,
    ) -> MixSTEFeatures:
        """Runs all blocks.

        Args:
          keypoints_2d: joints in screen units.
          deterministic: True switches stochastic depth off; False reads an rng named `drop_path`.
          attention_frames: the frames whose spatial attention the caller reads; None for all. On a
            TPU the probabilities of 17 joints fill a sixth of the memory that they take.

        Returns:
          The features; `decode` takes `temporal[-1]`.
        """
        tokens = self.embed(keypoints_2d)
        spatial, temporal, attending = self.run(range(self.depth), tokens, deterministic)
        if attention_frames is not None:
            attending = tuple(take_frames(qkv, attention_frames, axis=2) for qkv in attending)
        attention = tuple(probabilities(qkv, self.heads, -3) for qkv in attending)
        return MixSTEFeatures(
            spatial=tuple(tokens.swapaxes(1, 2) for tokens in spatial),
            temporal=tuple(tokens.swapaxes(1, 2) for tokens in temporal),
            spatial_attention=attention,
        )

    def embed(self, keypoints_2d: Float[Array, "B F J 2"]) -> Float[Array, "B J F C"]:
        """Embeds joints and adds their spatial position, for the first pair.

        From here to the last block, frames are the last axis but one: long enough to fill a TPU's
        tiles, which 17 joints are not. So no block has to turn its tokens.
        """
        tokens = self.joint_embedding(keypoints_2d.swapaxes(1, 2))
        return tokens + self.spatial_position[:, :, None].astype(tokens.dtype)

    def run(
        self, layers: range, tokens: Float[Array, "B J F C"], deterministic: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...]]:
        """Runs pairs of blocks.

        Args:
          layers: numbers of the pairs, at least one.
          tokens: the first pair's input.
          deterministic: as for `encode`.

        Returns:
          What `_run_pair` returns, of every pair: embeddings after the spatial blocks, embeddings
          after the temporal blocks, and what the spatial blocks attend by.
        """
        drops = self._draw(layers, tokens, deterministic)
        norms = self.spatial_norm, self.temporal_norm
        # The first pair has a position that the others have not.
        one_by_one = layers[:1] if self.scan and not self.is_initializing() else layers
        outputs = []
        for place, layer in enumerate(one_by_one):
            blocks = self.spatial_block[layer], self.temporal_block[layer]
            position = self.temporal_position[:, None] if layer == 0 else None
            own = jax.tree.map(operator.itemgetter(place), drops)
            outputs.append(_run_pair(blocks, norms, tokens, own, position))
            tokens = outputs[-1][1]
        if len(one_by_one) < len(layers):
            outputs += self._in_a_loop(
                layers[1:], tokens, jax.tree.map(operator.itemgetter(slice(1, None)), drops)
            )
        spatial, temporal, attending = zip(*outputs, strict=True)
        return spatial, temporal, attending

    def _draw(
        self, layers: range, tokens: Float[Array, "B J F C"], deterministic: bool
    ) -> PairDrops:
        """Draws stochastic depth for the two branches of every block, `[L, 2, ...]`.

        A spatial block drops branches of single frames, and a temporal block those of single
        joints, as released.
        """
        rates = np.linspace(0, self.drop_path, self.depth)[layers.start : layers.stop]
        if deterministic or not rates.any():
            return None, None
        batch, joints, frames, _ = tokens.shape
        keys = jax.random.split(self.make_rng("drop_path"))
        shapes = (2, batch, 1, frames, 1), (2, batch, joints, 1, 1)
        spatial, temporal = (
            draw_drops(key, rates, shape) for key, shape in zip(keys, shapes, strict=True)
        )
        return spatial, temporal

    def _in_a_loop(
        self, layers: range, tokens: Float[Array, "B J F C"], drops: PairDrops
    ) -> list[PairOutputs]:
        """Runs pairs as `run` does, in a loop whose body is compiled once."""
        spatial, temporal, *norms = (
            module.unbind()[0]
            for module in (
                self.spatial_block[0],
                self.temporal_block[0],
                self.spatial_norm,
                self.temporal_norm,
            )
        )
        of_norms = self.spatial_norm.variables, self.temporal_norm.variables

        def pair(tokens: Array, given: Any) -> tuple[Array, PairOutputs]:
            of_spatial, of_temporal, own = given
            outputs = _run_pair(
                (partial(spatial.apply, of_spatial), partial(temporal.apply, of_temporal)),
                [partial(norm.apply, of) for norm, of in zip(norms, of_norms, strict=True)],
                tokens,
                own,
            )
            return outputs[1], outputs

        variables = [
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *(blocks[n].variables for n in layers))
            for blocks in (self.spatial_block, self.temporal_block)
        ]
        _, stacked = jax.lax.scan(pair, tokens, (*variables, drops))
        return [jax.tree.map(operator.itemgetter(n), stacked) for n in range(len(layers))]

    def decode(self, tokens: Float[Array, "B F J C"]) -> Float[Array, "B F J 3"]:
        """Applies the regression head: joint embeddings of any number of frames -> metres."""
        return self.head(self.head_norm(float32_or_wider(tokens)))

    def __call__(
        self,
        keypoints_2d: Float[Array, "B F J 2"],
        deterministic: bool = True,
        attention_frames: Int[Array, "*B K"] | None = None,
    ) -> tuple[Float[Array, "B F J 3"], MixSTEFeatures]:
        """Lifts a window.

        Args:
          keypoints_2d: joints in screen units.
          deterministic: as for `encode`.
          attention_frames: as for `encode`.

        Returns:
          The pose in metres, root-relative camera coordinates, and the features. The root is not
          forced to zero.
        """
        features = self.encode(keypoints_2d, deterministic, attention_frames)
        return self.decode(features["temporal"][-1]), features


def _run_pair(
    blocks: Sequence[Callable[..., Any]],
    norms: Sequence[Callable[..., Any]],
    tokens: Float[Array, "B J F C"],
    drops: PairDrops,
    position: Float[Array, "1 1 F C"] | None = None,
) -> PairOutputs:
    """Runs a spatial and a temporal block.

    Args:
      blocks: the two blocks.
      norms: the norms behind them.
      tokens: the pair's input.
      drops: those of stochastic depth, for each block.
      position: what is added between the blocks.

    Returns:
      The embeddings after each of the two blocks, and what the spatial block attends by.
    """
    tokens, attending = blocks[0](tokens, drops[0])
    spatial = norms[0](tokens)
    tokens = spatial if position is None else spatial + position.astype(spatial.dtype)
    tokens, _ = blocks[1](tokens, drops[1])
    return spatial, norms[1](tokens), attending
