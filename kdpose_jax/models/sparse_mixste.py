"""MixSTE on sparse keyframes, with its output brought back to all frames: SCJD's student.

The mechanics are this project's design from the paper's abstract (inferred):
docs/methods/scjd.md#student to docs/methods/scjd.md#upsampling.
"""

from typing import TypedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdpose_jax.models import keyframes as grid
from kdpose_jax.models.mixste import MixSTE, MixSTEFeatures

SELECTIONS = ("uniform", "correlated")
UPSAMPLINGS = ("linear_pose", "linear_feat", "learned", "cross_attn")
ENDS = ("hold", "extrapolate")


class SparseFeatures(TypedDict):
    """What the sparse network shows beside its prediction.

    Attributes:
      network: the features of MixSTE on the K keyframes.
      keyframes: frame numbers, `[K]`, or `[B, K]` where they are chosen per window.
      matrix: the linear operator from keyframes to frames, `[F, K]` or `[B, F, K]`.
    """

    network: MixSTEFeatures
    keyframes: Int[Array, "*B K"]
    matrix: Float[Array, "*B F K"]


class SparseMixSTE(nn.Module):
    """Gathers keyframes, lifts them, and recovers the dense sequence.

    Attributes:
      network: MixSTE for K frames.
      frames: frames F of the dense window.
      stride: r, one keyframe in r frames.
      offsets: keyframe offsets it is used with; the first is the one for evaluation.
      selection: `uniform` keyframes or the most `correlated` frame of every group.
      upsampling: `linear_pose` interpolates poses, `linear_feat` the last embeddings, `learned` applies a trained
        matrix to poses, `cross_attn` recovers embeddings by attention.
      ends: outside the keyframes, `hold` the value or `extrapolate` it.
    """

    network: MixSTE
    frames: int
    stride: int
    offsets: tuple[int, ...]
    selection: str
    upsampling: str
    ends: str

    def setup(self):
        if self.upsampling == "learned":
            self.upsampler = grid.LearnedMatrix(self.frames, self.stride, self.offsets, self.ends)
        elif self.upsampling == "cross_attn":
            self.upsampler = grid.CrossAttentionRecovery(self.frames, self.network.heads)

    def __call__(
        self,
        keypoints_2d: Float[Array, "B F J 2"],
        offset: Int[Array, ""] | int | None = None,
        deterministic: bool = True,
    ) -> tuple[Float[Array, "B F J 3"], SparseFeatures]:
        """Lifts a dense window from its keyframes.

        Args:
          keypoints_2d: the dense window, screen units; only its keyframes are lifted.
          offset: o of the keyframe grid, may be traced; None is the one for evaluation.
          deterministic: no stochastic depth.

        Returns:
          The pose at all F frames, metres, and the features.
        """
        offset = jnp.asarray(self.offsets[0] if offset is None else offset, jnp.int32)
        count = self.network.frames
        keyframes = offset + self.stride * jnp.arange(count, dtype=jnp.int32)
        if self.selection == "correlated":
            keyframes = grid.most_correlated(keypoints_2d, self.stride, self.offsets[0])
        features = self.network.encode(take_frames(keypoints_2d, keyframes), deterministic)
        if self.upsampling == "learned":
            matrix = self.upsampler(offset)
        else:
            matrix = grid.interpolation_matrix(keyframes, self.frames, self.ends)
        last = features["temporal"][-1]
        if self.upsampling == "cross_attn":
            pose = self.network.decode(self.upsampler(last))
        elif self.upsampling == "linear_feat":
            pose = self.network.decode(grid.upsample(matrix, last))
        else:
            pose = grid.upsample(matrix, self.network.decode(last))
        return pose, SparseFeatures(network=features, keyframes=keyframes, matrix=matrix)


def take_frames(values: Float[Array, "B F ..."], frames: Int[Array, "*B K"]) -> Float[Array, "B K ..."]:
    """Picks frames: the same ones in every window (`[K]`) or per window (`[B, K]`), clipped to the window."""
    if frames.ndim == 1:
        return jnp.take(values, frames, axis=1, mode="clip")
    return jax.vmap(lambda window, chosen: jnp.take(window, chosen, axis=0, mode="clip"))(values, frames)
