"""VideoPose3D: temporal convolutions over 2D keypoints, as many frames out as their receptive field fits into the input.

Source: Pavllo et al., 3D human pose estimation in video with temporal convolutions and semi-supervised training, CVPR 2019.
Parameter names are ours; `torch_import` maps the published ones onto them.
"""

import math
from typing import TypedDict

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdpose_jax.models.layers import BatchNorm, Linear

# PyTorch's default for convolutions: uniform in +-1/sqrt(fan_in).
_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class VideoPose3DFeatures(TypedDict):
    """What a forward pass shows beside its prediction.

    Attributes:
      hidden: behind the first layer and behind every block, each shorter than the one before; the last is `[B, F, C]`.
    """

    hidden: tuple[Float[Array, "B _ C"], ...]


class TemporalLayer(nn.Module):
    """Convolution over frames without bias, batch norm, ReLU, dropout; nothing is padded.

    Attributes:
      features: output channels.
      filter: frames that an output sees.
      stride: frames between two outputs.
      dilation: frames between the inputs of an output.
      dropout: probability of dropping a value.
      dtype: compute type of the convolution.
    """

    features: int
    filter: int
    stride: int
    dilation: int
    dropout: float
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, hidden: Float[Array, "B N D"], deterministic: bool) -> Float[Array, "B M C"]:
        hidden = nn.Conv(
            self.features,
            (self.filter,),
            strides=self.stride,
            padding="VALID",
            kernel_dilation=self.dilation,
            use_bias=False,
            kernel_init=_UNIFORM,
            dtype=self.dtype,
            name="conv",
        )(hidden)
        hidden = nn.relu(BatchNorm(name="norm")(hidden, not deterministic))
        return nn.Dropout(self.dropout)(hidden, deterministic=deterministic)


class VideoPose3D(nn.Module):
    """The network, in two forms of one function and one set of parameters.

    Dense, it predicts every frame whose receptive field lies within the input, with dilated convolutions that share what neighbours
    have in common. Given just one receptive field it is strided: it computes nothing that its one frame does not depend on.

    Attributes:
      joints: number of joints J.
      filters: frames that every layer's convolution sees, all odd; their product is the receptive field R.
      width: channels C.
      dropout: probability of dropping a value behind every layer.
      causal: a frame depends on the frames in front of it alone, not on as many on either side.
      dtype: compute type of the convolutions (parameters and norms are float32, the head computes in float32).
    """

    joints: int
    filters: tuple[int, ...]
    width: int
    dropout: float
    causal: bool
    dtype: jnp.dtype | None = None

    @property
    def receptive_field(self) -> int:
        """Frames R that one predicted frame depends on."""
        return math.prod(self.filters)

    @nn.compact
    def __call__(
        self, keypoints_2d: Float[Array, "B N J 2"], deterministic: bool = True
    ) -> tuple[Float[Array, "B F J 3"], VideoPose3DFeatures]:
        """Lifts the frames whose receptive field lies within the input.

        Args:
          keypoints_2d: joints in screen units, N frames.
          deterministic: running statistics and no dropout; otherwise those of the batch, and an rng named `dropout` is read.

        Returns:
          The pose of F = N - R + 1 frames, metres, root-relative camera coordinates, and the features.

        Raises:
          ValueError: the input is shorter than the receptive field.
        """
        batch, frames, joints, _ = keypoints_2d.shape
        if frames < self.receptive_field:
            raise ValueError(
                f"{frames} frames are fewer than the receptive field of {self.receptive_field}"
            )
        strided = frames == self.receptive_field
        hidden = keypoints_2d.reshape(batch, frames, joints * 2)
        hidden = self._layer("expand", self.filters[0], strided, 1)(hidden, deterministic)
        after, dilation = [hidden], self.filters[0]
        for block, width in enumerate(self.filters[1:]):
            changed = self._layer(f"block_{block}_temporal", width, strided, dilation)(
                hidden, deterministic
            )
            changed = self._layer(f"block_{block}_pointwise", 1, strided, 1)(changed, deterministic)
            hidden = (
                _kept(hidden, changed.shape[1], width, strided, dilation, self.causal) + changed
            )
            after.append(hidden)
            dilation *= width
        hidden = hidden.astype(jnp.promote_types(hidden.dtype, jnp.float32))
        pose = Linear(joints * 3, name="shrink")(hidden).reshape(
            batch, -1, joints, 3
        )  # [B, F, 3J] -> [B, F, J, 3]
        return pose, VideoPose3DFeatures(hidden=tuple(after))

    def _layer(self, name: str, width: int, strided: bool, dilation: int) -> TemporalLayer:
        """Consecutive filters of the strided form do not overlap; those of the dense one reach over `dilation` frames."""
        stride, dilation = (width, 1) if strided else (1, dilation)
        return TemporalLayer(
            self.width, width, stride, dilation, self.dropout, self.dtype, name=name
        )


def _kept(
    hidden: Float[Array, "B N C"],
    count: int,
    width: int,
    strided: bool,
    dilation: int,
    causal: bool,
) -> Float[Array, "B F C"]:
    """What a block adds its output to: of the frames that each output sees, the middle one, or the last of a causal network."""
    place = width - 1 if causal else width // 2
    if strided:
        return hidden[:, place::width]
    return hidden[:, place * dilation : place * dilation + count]
