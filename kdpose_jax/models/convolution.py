"""A convolution with batch normalisation, initialised, padded and counted as in PyTorch's HRNet."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# PyTorch's momentum 0.1 is the share of the new batch.
_BATCH_SHARE = 0.1
_EPSILON = 1e-5


def convolution_init() -> nn.initializers.Initializer:
    """Kernels of every convolution: normal with deviation 0.001.

    See docs/methods/pose2d.md#initialisation.
    """
    return nn.initializers.normal(0.001)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, in float32.

    The running variance takes the unbiased variance of the batch, as PyTorch's does, while the normalisation takes the biased one
    (Flax's own module has one for both). Across devices the batch is the global one: the mean of a sharded array is its mean.
    """

    @nn.compact
    def __call__(self, inputs: Float[Array, "*S C"], train: bool) -> Float[Array, "*S C"]:
        channels = inputs.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_variance = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        values = inputs.astype(scale.dtype)
        mean, variance = running_mean.value, running_variance.value
        if train:
            over = tuple(range(inputs.ndim - 1))
            mean, variance = values.mean(over), values.var(over)
            if not self.is_initializing():
                count = values.size // channels
                unbiased = variance * (count / max(count - 1, 1))  # a single value has no spread: it counts as 0
                running_mean.value = (1 - _BATCH_SHARE) * running_mean.value + _BATCH_SHARE * mean
                running_variance.value = (1 - _BATCH_SHARE) * running_variance.value + _BATCH_SHARE * unbiased
        factor = scale * jax.lax.rsqrt(variance + _EPSILON)
        mean, factor, bias = (jnp.expand_dims(row, range(inputs.ndim - 1)) for row in (mean, factor, bias))
        return ((values - mean) * factor + bias).astype(inputs.dtype)


class ConvNorm(nn.Module):
    """A convolution without bias, zero-padded by half its kernel on both sides, then batch normalisation.

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
        outputs = nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=(self.stride, self.stride),
            padding=((border, border), (border, border)),  # "SAME" pads (0, 1) for stride 2 and so shifts the picture
            use_bias=False,
            kernel_init=convolution_init(),
            dtype=self.dtype,
            name="conv",
        )(inputs)
        return BatchNorm(name="norm")(outputs, train)
