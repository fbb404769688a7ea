"""A convolution with batch normalisation, initialised and padded as in PyTorch's HRNet."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdpose_jax.models import initial
from kdpose_jax.models.layers import BatchNorm


def convolution_init() -> nn.initializers.Initializer:
    """Initialises the kernels of every convolution: normal with deviation 0.001.

    See docs/methods/pose2d.md#initialisation.
    """
    return initial.normal(0.001)


class ConvNorm(nn.Module):
    """A convolution without bias, zero-padded by half its kernel, then batch normalisation.

    Attributes:
      features: output channels.
      kernel: side of the kernel, 1 or 3.
      stride: 1, or 2 to halve both sides.
      dtype: compute type of the convolution; None promotes from the parameters and the input.
    """

    features: int
    kernel: int
    stride: int = 1
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, inputs: Float[Array, "B H W C"], train: bool) -> Float[Array, "B h w D"]:
        border = self.kernel // 2
        # Flax's "SAME" would pad (0, 1) for stride 2, which shifts the picture.
        padding = ((border, border), (border, border))
        outputs = nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=(self.stride, self.stride),
            padding=padding,
            use_bias=False,
            kernel_init=convolution_init(),
            dtype=self.dtype,
            name="conv",
        )(inputs)
        return BatchNorm(name="norm")(outputs, train)
