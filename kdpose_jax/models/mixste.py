"""MixSTE: a 2D-to-3D lifter for sequences, of alternating spatial and temporal blocks.

Source: Zhang et al., MixSTE, CVPR 2022, and its released code (docs/methods/lifting.md#mixste).
Parameter names are ours; `torch_import` maps the published ones onto them.
"""

from typing import TypedDict

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdpose_jax.models import initial
from kdpose_jax.models.attention import TransformerBlock
from kdpose_jax.models.layers import Linear


class MixSTEFeatures(TypedDict):
    """What a forward pass returns beside its prediction, with one entry per layer l.

    Attributes:
      spatial: joint embeddings after spatial block l and its norm, L x `[B, F, J, C]`.
      temporal: joint embeddings after temporal block l and its norm, L x `[B, F, J, C]`.
      spatial_attention: probabilities of spatial block l, L x `[B, F, A, J, J]`, rows are queries.
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
    joint_position_std: float = 0.0

    def setup(self):
        block = nn.remat(TransformerBlock, static_argnums=(2,)) if self.remat else TransformerBlock
        rates = [float(rate) for rate in np.linspace(0, self.drop_path, self.depth)]
        options = {"heads": self.heads, "mlp_ratio": self.mlp_ratio, "dtype": self.dtype}
        self.joint_embedding = Linear(self.width, dtype=self.dtype)
        start = nn.initializers.zeros
        if self.joint_position_std:
            start = initial.normal(self.joint_position_std)
        self.spatial_position = self.param("spatial_position", start, (1, self.joints, self.width))
        self.temporal_position = self.param(
            "temporal_position", nn.initializers.zeros, (1, self.frames, self.width)
        )
        self.spatial_block = [block(drop_path=rate, **options) for rate in rates]
        self.temporal_block = [block(drop_path=rate, **options) for rate in rates]
        self.spatial_norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)
        self.temporal_norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)
        self.head_norm = nn.LayerNorm(epsilon=1e-5)  # torch's default here, unlike the norms above
        self.head = Linear(3)

    def encode(
        self, keypoints_2d: Float[Array, "B F J 2"], deterministic: bool = True
    ) -> MixSTEFeatures:
        """Runs all blocks.

        Args:
          keypoints_2d: joints in screen units.
          deterministic: True switches stochastic depth off; False reads an rng named `drop_path`.

        Returns:
          The features; `decode` takes `temporal[-1]`.
        """
        tokens = self.embed(keypoints_2d)
        spatial, temporal, spatial_attention = [], [], []
        for layer in range(self.depth):
            tokens, after_spatial, probabilities = self.pair(layer, tokens, deterministic)
            spatial.append(after_spatial)
            spatial_attention.append(probabilities)
            temporal.append(tokens)
        return MixSTEFeatures(
            spatial=tuple(spatial),
            temporal=tuple(temporal),
            spatial_attention=tuple(spatial_attention),
        )

    def embed(self, keypoints_2d: Float[Array, "B F J 2"]) -> Float[Array, "B F J C"]:
        """Embeds joints and adds their spatial position, for the first pair."""
        tokens = self.joint_embedding(keypoints_2d)
        return tokens + self.spatial_position[None].astype(tokens.dtype)

    def pair(
        self, layer: int, tokens: Float[Array, "B F J C"], deterministic: bool
    ) -> tuple[Float[Array, "B F J C"], Float[Array, "B F J C"], Float[Array, "B F A J J"]]:
        """Runs the spatial and the temporal block of pair `layer`.

        Returns:
          The pair's output, the output of its spatial block, and the spatial attention.
        """
        batch, frames, joints, width = tokens.shape
        tokens = tokens.reshape(batch * frames, joints, width)
        tokens, probabilities = self.spatial_block[layer](tokens, deterministic)
        spatial = self.spatial_norm(tokens).reshape(batch, frames, joints, width)
        # [B, F, J, C] -> [BJ, F, C]
        tokens = spatial.swapaxes(1, 2).reshape(batch * joints, frames, width)
        if layer == 0:
            tokens = tokens + self.temporal_position.astype(tokens.dtype)
        tokens, _ = self.temporal_block[layer](tokens, deterministic)
        temporal = self.temporal_norm(tokens).reshape(batch, joints, frames, width).swapaxes(1, 2)
        return temporal, spatial, probabilities.reshape(batch, frames, self.heads, joints, joints)

    def decode(self, tokens: Float[Array, "B F J C"]) -> Float[Array, "B F J 3"]:
        """Applies the regression head: joint embeddings of any number of frames -> metres."""
        dtype = jnp.promote_types(tokens.dtype, jnp.float32)
        return self.head(self.head_norm(tokens.astype(dtype)))

    def __call__(
        self, keypoints_2d: Float[Array, "B F J 2"], deterministic: bool = True
    ) -> tuple[Float[Array, "B F J 3"], MixSTEFeatures]:
        """Lifts a window.

        Args:
          keypoints_2d: joints in screen units.
          deterministic: True switches stochastic depth off; False reads an rng named `drop_path`.

        Returns:
          The pose in metres, root-relative camera coordinates, and the features. The root is not
          forced to zero.
        """
        features = self.encode(keypoints_2d, deterministic)
        return self.decode(features["temporal"][-1]), features
