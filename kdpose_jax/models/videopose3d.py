"""VideoPose3D: temporal convolutions over 2D keypoints.

Source: Pavllo et al., 3D human pose estimation in video with temporal convolutions and
semi-supervised training, CVPR 2019. Parameter names are ours; `pytorch.videopose3d` maps the
published ones onto them.
"""

import math
from typing import TypedDict

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdpose_jax.models import initial
from kdpose_jax.models.layers import BatchNorm, Linear
from kdpose_jax.precision import float32_or_wider


class VideoPose3DFeatures(TypedDict):
    """What a forward pass returns beside its prediction.

    Attributes:
      hidden: features after the first layer and after each block, `[B, _, C]`, shorter each time;
        the last is `[B, F, C]`.
    """

    hidden: tuple[Float[Array, "B _ C"], ...]


class TemporalLayer(nn.Module):
    """A convolution over frames without bias and padding, then batch norm, ReLU and dropout.

    Attributes:
      features: output channels.
      filter: number of frames that an output sees.
      stride: frames between two outputs.
      dilation: frames between two inputs of an output.
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
        # PyTorch's default for convolutions: uniform in +-1/sqrt(fan_in).
        bound = (hidden.shape[-1] * self.filter) ** -0.5
        hidden = nn.Conv(
            self.features,
            (self.filter,),
            strides=self.stride,
            padding="VALID",
            kernel_dilation=self.dilation,
            use_bias=False,
            kernel_init=initial.uniform(bound),
            dtype=self.dtype,
            name="conv",
        )(hidden)
        hidden = nn.relu(BatchNorm(name="norm")(hidden, not deterministic))
        return nn.Dropout(self.dropout)(hidden, deterministic=deterministic)


class VideoPose3D(nn.Module):
    """The network, in a dense and a strided form of one function with the same parameters.

    The dense form predicts every frame whose receptive field is within the input. Its dilated
    convolutions share the work between neighbouring frames. An input of exactly one receptive field
    takes the strided form, which computes only what its one frame depends on.

    Attributes:
      joints: number J of joints.
      filters: number of frames that each layer's convolution sees, all odd; their product is the
        receptive field R.
      width: number C of channels.
      dropout: probability of dropping a value after each layer.
      causal: True if a frame depends only on itself and earlier frames, False if it depends on
        equally many frames on either side.
      dense_kernels: True if a filter has a weight for every frame that it reaches over (the
        released code's `--dense`); such a network has no strided form.
      dtype: compute type of the convolutions; parameters and norms are float32, and the head
        computes in float32.
    """

    joints: int
    filters: tuple[int, ...]
    width: int
    dropout: float
    causal: bool
    dense_kernels: bool
    dtype: jnp.dtype | None = None

    @property
    def receptive_field(self) -> int:
        """Number R of frames that one predicted frame depends on."""
        return math.prod(self.filters)

    @nn.compact
    def __call__(
        self, keypoints_2d: Float[Array, "B N J 2"], deterministic: bool = True
    ) -> tuple[Float[Array, "B F J 3"], VideoPose3DFeatures]:
        """Lifts the frames whose receptive field is within the input.

        Args:
          keypoints_2d: joints in screen units, N frames.
          deterministic: True normalises by the running statistics and switches dropout off. False
            normalises by the batch and reads an rng named `dropout`.

        Returns:
          The pose in F = N - R + 1 frames, metres, root-relative camera coordinates, and the
          features.

        Raises:
          ValueError: the input is shorter than the receptive field.
        """
        batch, frames, joints, _ = keypoints_2d.shape
        if frames < self.receptive_field:
            raise ValueError(
                f"{frames} frames are fewer than the receptive field of {self.receptive_field}"
            )
        strided = frames == self.receptive_field and not self.dense_kernels
        hidden = keypoints_2d.reshape(batch, frames, joints * 2)
        hidden = self._layer("expand", self.filters[0], strided, 1)(hidden, deterministic)
        after, dilation = [hidden], self.filters[0]
        for block, width in enumerate(self.filters[1:]):
            temporal = self._layer(f"block_{block}_temporal", width, strided, dilation)
            pointwise = self._layer(f"block_{block}_pointwise", 1, strided, 1)
            changed = pointwise(temporal(hidden, deterministic), deterministic)
            shortcut = _shortcut(hidden, changed.shape[1], width, strided, dilation, self.causal)
            hidden = shortcut + changed
            after.append(hidden)
            dilation *= width
        hidden = float32_or_wider(hidden)
        pose = Linear(joints * 3, name="shrink")(hidden)
        pose = pose.reshape(batch, -1, joints, 3)  # [B, F, 3J] -> [B, F, J, 3]
        return pose, VideoPose3DFeatures(hidden=tuple(after))

    def _layer(self, name: str, width: int, strided: bool, dilation: int) -> TemporalLayer:
        """Makes a layer with filters side by side (strided) or spread by `dilation` (dense)."""
        stride, dilation = (width, 1) if strided else (1, dilation)
        if self.dense_kernels:
            width, dilation = kernel_of(width, dilation), 1
        return TemporalLayer(
            self.width, width, stride, dilation, self.dropout, self.dtype, name=name
        )


def kernel_of(width: int, dilation: int) -> int:
    """Counts the frames from the first to the last that a dilated filter sees."""
    return (width - 1) * dilation + 1


def _shortcut(
    hidden: Float[Array, "B N C"],
    count: int,
    width: int,
    strided: bool,
    dilation: int,
    causal: bool,
) -> Float[Array, "B F C"]:
    """Takes the frames that a block's output is added to.

    It is the middle one of the frames that each output sees, or the last one if causal.
    """
    place = width - 1 if causal else width // 2
    if strided:
        return hidden[:, place::width]
    return hidden[:, place * dilation : place * dilation + count]
