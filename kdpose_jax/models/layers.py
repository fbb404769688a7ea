"""Layers that several networks share, initialised and normalised as in PyTorch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdpose_jax.models import initial

# PyTorch's momentum of 0.1 is the share of the new batch.
_BATCH_SHARE = 0.1
_EPSILON = 1e-5


class Linear(nn.Module):
    """A dense layer with PyTorch's default initialisation: uniform in +-1/sqrt(fan_in).

    Attributes:
      features: output channels.
      dtype: compute type; None promotes from the parameters (float32) and the input.
    """

    features: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, inputs: Float[Array, "*S C"]) -> Float[Array, "*S D"]:
        start = initial.uniform(inputs.shape[-1] ** -0.5)
        kernel = self.param("kernel", start, (inputs.shape[-1], self.features))
        bias = self.param("bias", start, (self.features,))
        inputs, kernel, bias = nn.dtypes.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        return affine(inputs, kernel, bias)


@jax.custom_vjp
def affine(
    inputs: Float[Array, "*S C"], kernel: Float[Array, "C D"], bias: Float[Array, " D"]
) -> Float[Array, "*S D"]:
    """Computes `inputs @ kernel + bias`. Its gradient has a form of its own for the CPU."""
    return inputs @ kernel + jnp.expand_dims(bias, range(inputs.ndim - 1))


def _forward(inputs: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return affine(inputs, kernel, bias), (inputs, kernel)


def _backward(
    kept: tuple[Array, Array], gradient: Float[Array, "*S D"]
) -> tuple[Array, Array, Array]:
    """Returns the gradients of inputs, kernel and bias."""
    return jax.lax.platform_dependent(*kept, gradient, cpu=_gradients_of_rows, default=_gradients)


def _gradients(
    inputs: Float[Array, "*S C"], kernel: Float[Array, "C D"], gradient: Float[Array, "*S D"]
) -> tuple[Array, Array, Array]:
    leading = tuple(range(inputs.ndim - 1))
    of_kernel = jnp.tensordot(inputs, gradient, (leading, leading))
    return gradient @ kernel.T, of_kernel, gradient.sum(leading)


def _gradients_of_rows(inputs: Array, kernel: Array, gradient: Array) -> tuple[Array, Array, Array]:
    """Computes `_gradients` with the leading axes as one.

    XLA's products of more axes copy their operands on the CPU. On a TPU it is the other way round.
    """
    rows, gradients = (array.reshape(-1, array.shape[-1]) for array in (inputs, gradient))
    of_inputs, of_kernel, of_bias = _gradients(rows, kernel, gradients)
    return of_inputs.reshape(inputs.shape), of_kernel, of_bias


affine.defvjp(_forward, _backward)


class DropPath(nn.Module):
    """Stochastic depth: drops an example's residual branch at random and scales the others up.

    Attributes:
      rate: probability of dropping a branch.
    """

    rate: float

    @nn.compact
    def __call__(self, branch: Float[Array, "N S C"], deterministic: bool) -> Float[Array, "N S C"]:
        if deterministic or self.rate == 0.0:
            return branch
        shape = (branch.shape[0], 1, 1)
        keep = jax.random.bernoulli(self.make_rng("drop_path"), 1 - self.rate, shape)
        scaled = branch / jnp.asarray(1 - self.rate, branch.dtype)
        return jnp.where(keep, scaled, jnp.zeros((), branch.dtype))


class BatchNorm(nn.Module):
    """Batch normalisation over all axes except the last, in float32.

    As in PyTorch, the batch is normalised by its biased variance, and the running variance is moved
    by the unbiased one. Flax's module uses one variance for both. The batch is the global one, over
    all devices, or a device's share (`train.batch_statistics`).
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
                unbiased = variance * (count / max(count - 1, 1))  # a single value has variance 0
                old = 1 - _BATCH_SHARE
                running_mean.value = old * running_mean.value + _BATCH_SHARE * mean
                running_variance.value = old * running_variance.value + _BATCH_SHARE * unbiased
        factor = scale * jax.lax.rsqrt(variance + _EPSILON)
        leading = range(inputs.ndim - 1)
        centred = values - jnp.expand_dims(mean, leading)
        outputs = centred * jnp.expand_dims(factor, leading) + jnp.expand_dims(bias, leading)
        return outputs.astype(inputs.dtype)
