"""Layers that several networks share, initialised and normalised as in PyTorch."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

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


@jax.jit  # so that exports find it by its name
def gelu(inputs: Float[Array, "*S C"]) -> Float[Array, "*S C"]:
    """Computes the exact GELU, `x (1 + erf(x / sqrt(2))) / 2`, as PyTorch does.

    jax.nn.gelu uses erfc, which takes twice the time on a CPU. The choice at -40 changes nothing,
    as the function is 0 there in every type. It keeps XLA's library for CPUs from computing the
    function anew for every block of the product behind it.
    """
    values = 0.5 * inputs * (1 + jax.lax.erf(inputs * jnp.asarray(0.5**0.5, inputs.dtype)))
    return jnp.where(inputs > -40, values, jnp.zeros_like(values))


class LayerNorm(nn.Module):
    """Normalises over the channels, in float32 or wider.

    Attributes:
      epsilon: added to the variance.
      dtype: type of the result; None promotes from the parameters (float32) and the input.
    """

    epsilon: float
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, inputs: Float[Array, "*S C"]) -> Float[Array, "*S C"]:
        scale = self.param("scale", nn.initializers.ones, (inputs.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (inputs.shape[-1],))
        dtype = self.dtype or np.promote_types(inputs.dtype, scale.dtype)
        return normalise(inputs, scale, bias, self.epsilon).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    inputs: Float[Array, "*S C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    epsilon: float,
) -> Float[Array, "*S C"]:
    """Computes `(x - mean) / sqrt(variance + epsilon) * scale + bias` over the last axis.

    Its gradient needs three passes over the input, where that of its definition needs many.
    """
    return _normalise(inputs, scale, bias, epsilon)[0]


def _normalise(
    inputs: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[Array, tuple[Array, ...]]:
    values = _flat(inputs).astype(np.promote_types(inputs.dtype, scale.dtype))
    mean = values.mean(-1, keepdims=True)
    centred = values - mean
    factor = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
    leading = range(values.ndim - 1)
    outputs = centred * factor * jnp.expand_dims(scale, leading) + jnp.expand_dims(bias, leading)
    return outputs.reshape(inputs.shape), (inputs, mean, factor, scale)


def _gradients_of_norm(
    epsilon: float, kept: tuple[Array, ...], gradient: Float[Array, "*S C"]
) -> tuple[Array, Array, Array]:
    """Returns the gradients of inputs, scale and bias."""
    inputs, mean, factor, scale = kept
    gradient = _flat(gradient)
    leading = tuple(range(gradient.ndim - 1))
    normed = (_flat(inputs).astype(mean.dtype) - mean) * factor
    of_normed = gradient * jnp.expand_dims(scale, leading)
    along = (of_normed * normed).mean(-1, keepdims=True)
    of_inputs = (of_normed - of_normed.mean(-1, keepdims=True) - normed * along) * factor
    of_scale, of_bias = (gradient * normed).sum(leading), gradient.sum(leading)
    return of_inputs.reshape(inputs.shape).astype(inputs.dtype), of_scale, of_bias


def _flat(values: Array) -> Array:
    """Makes the axes before the last two one: more than three cost XLA's reductions time on a CPU.

    The last two stay, which are a TPU's tiles.
    """
    return values.reshape(-1, *values.shape[-2:]) if values.ndim > 3 else values


normalise.defvjp(_normalise, _gradients_of_norm)


# Stochastic depth of layers or of one: which residual branches are kept, and what they are
# multiplied by. None drops nothing.
Drops = tuple[Bool[Array, "..."], Float[Array, "..."]] | None


def draw_drops(key: Array, rates: np.ndarray | Sequence[float], shape: tuple[int, ...]) -> Drops:
    """Draws stochastic depth for L layers at once.

    Args:
      key: the key of all draws.
      rates: each layer's probability of dropping a branch.
      shape: the shape of a layer's draws.

    Returns:
      Which branches are kept, `[L, *shape]`, and 1 / (1 - rate), `[L]`.
    """
    rate = jnp.asarray(rates, jnp.float32)
    kept = jnp.expand_dims(1 - rate, range(1, 1 + len(shape)))
    return jax.random.bernoulli(key, kept, (len(rates), *shape)), 1 / (1 - rate)


def dropped(branch: Float[Array, "*S C"], drops: Drops, number: int) -> Float[Array, "*S C"]:
    """Drops or scales a layer's residual branch.

    Args:
      branch: the branch.
      drops: the layer's stochastic depth, for its N branches `[N, ...]`.
      number: the branch's number.
    """
    if drops is None:
        return branch
    kept, factor = drops
    return jnp.where(kept[number], branch * factor.astype(branch.dtype), jnp.zeros_like(branch))


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
