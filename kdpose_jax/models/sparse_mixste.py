"""SCJD's student: MixSTE on sparse keyframes, with its output upsampled to all frames.

The design is ours, from the paper's abstract, inferred (docs/methods/scjd.md#student to
docs/methods/scjd.md#upsampling).
"""

from typing import TypedDict

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdpose_jax.codecs.keyframes import KeyframeGrid
from kdpose_jax.models import upsampling
from kdpose_jax.models.keyframes import most_correlated, take_frames
from kdpose_jax.models.mixste import MixSTE, MixSTEFeatures

SELECTIONS = ("uniform", "correlated")


class SparseFeatures(TypedDict):
    """What the sparse network returns beside its prediction.

    Attributes:
      network: the features of MixSTE on the K keyframes.
      keyframes: frame numbers, `[K]`, or `[B, K]` if each window has its own.
      matrix: the linear operator from keyframes to frames, `[F, K]` or `[B, F, K]`.
    """

    network: MixSTEFeatures
    keyframes: Int[Array, "*B K"]
    matrix: Float[Array, "*B F K"]


class SparseMixSTE(nn.Module):
    """Takes keyframes, lifts them, and recovers the dense sequence.

    Attributes:
      network: MixSTE for K frames.
      grid: the keyframes of the dense window in evaluation.
      offsets: the keyframe offsets that the network is used with; the first one is the grid's.
      selection: `uniform` keyframes, or the most `correlated` frame of each group.
      upsampling: `linear_pose` interpolates poses, `linear_feat` interpolates the last embeddings,
        `learned` applies a trained matrix to poses, `cross_attn` recovers embeddings by attention.
      ends: before the first and after the last keyframe, `hold` the value or `extrapolate` it.
    """

    network: MixSTE
    grid: KeyframeGrid
    offsets: tuple[int, ...]
    selection: str
    upsampling: str
    ends: str

    def setup(self):
        if self.upsampling == "learned":
            self.upsampler = upsampling.LearnedMatrix(self.grid, self.offsets, self.ends)
        elif self.upsampling == "cross_attn":
            self.upsampler = upsampling.CrossAttentionRecovery(self.grid.frames, self.network.heads)

    def __call__(
        self,
        keypoints_2d: Float[Array, "B F J 2"],
        offset: Int[Array, ""] | int | None = None,
        deterministic: bool = True,
    ) -> tuple[Float[Array, "B F J 3"], SparseFeatures]:
        """Lifts a dense window from its keyframes.

        Args:
          keypoints_2d: the dense window, screen units; only its keyframes are lifted.
          offset: offset o of the keyframe grid, may be traced; None takes the grid's own.
          deterministic: True switches stochastic depth off; False reads an rng named `drop_path`.

        Returns:
          The pose at all F frames, metres, and the features.
        """
        offset = jnp.asarray(self.grid.offset if offset is None else offset, jnp.int32)
        keyframes = jnp.asarray(self.grid.shifted(offset))
        if self.selection == "correlated":
            keyframes = most_correlated(keypoints_2d, self.grid)
        features = self.network.encode(take_frames(keypoints_2d, keyframes), deterministic)
        if self.upsampling == "learned":
            matrix = self.upsampler(offset)
        else:
            matrix = upsampling.interpolation_matrix(keyframes, self.grid.frames, self.ends)
        last = features["temporal"][-1]
        if self.upsampling == "cross_attn":
            pose = self.network.decode(self.upsampler(last))
        elif self.upsampling == "linear_feat":
            pose = self.network.decode(upsampling.upsample(matrix, last))
        else:
            pose = upsampling.upsample(matrix, self.network.decode(last))
        return pose, SparseFeatures(network=features, keyframes=keyframes, matrix=matrix)
