"""A convolution with batch normalisation, initialised and padded as in PyTorch's HRNet."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdpose_jax.models import initial
from kdpose_jax.models.layers import BatchNorm

# XLA's CPU compiler emits loops instead of a library call in two cases: a kernel with more cells
# than its map, whose operands it swaps, and the gradients of a 1x1 kernel. They take five to
# fifteen times as long as a matrix product.
_KERNEL_CELLS = 9


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
        outputs = nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=(self.stride, self.stride),
            # `convolve` pads by itself. jax2onnx 0.13.0 makes its own operator from these fields
            # and calls no `conv_general_dilated`: flax's "SAME" would shift the map of stride 2.
            padding=self.kernel // 2,
            use_bias=False,
            kernel_init=convolution_init(),
            dtype=self.dtype,
            conv_general_dilated=_convolve_for_flax,
            name="conv",
        )(inputs)
        return BatchNorm(name="norm")(outputs, train)


def _convolve_for_flax(
    inputs: Array, kernel: Array, strides: tuple[int, int], padding: Any, **options: Any
) -> Array:
    del padding, options  # `convolve` has its own, of the same values
    return convolve(inputs, kernel, strides[0])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
@functools.partial(jax.jit, static_argnums=2)
def convolve(
    inputs: Float[Array, "B H W C"], kernel: Float[Array, "k k C D"], stride: int
) -> Float[Array, "B h w D"]:
    """Convolves, zero-padded by half the kernel on every side.

    The CPU takes a matrix product where XLA's convolution is slow there. Other devices always take
    the convolution. Both give the same values up to rounding.

    Args:
      inputs: the map.
      kernel: weights; k is odd.
      stride: distance between two outputs, along both axes.
    """
    return jax.lax.platform_dependent(
        inputs,
        kernel,
        cpu=functools.partial(convolve_on_cpu, stride=stride),
        default=functools.partial(convolve_plainly, stride=stride),
    )


def _forward(inputs: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return convolve(inputs, kernel, stride), (inputs, kernel)


@functools.partial(jax.jit, static_argnums=0)
def _backward(stride: int, operands: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    return jax.lax.platform_dependent(
        *operands,
        cotangent,
        cpu=functools.partial(_gradients_on_cpu, stride=stride),
        default=functools.partial(_gradients, form=convolve_plainly, stride=stride),
    )


def _gradients(
    inputs: Array, kernel: Array, cotangent: Array, *, form: Callable[..., Array], stride: int
) -> tuple[Array, Array]:
    # Both forms are linear, so that their gradients need no value of the forward pass.
    return jax.vjp(functools.partial(form, stride=stride), inputs, kernel)[1](cotangent)


def _gradients_on_cpu(
    inputs: Array, kernel: Array, cotangent: Array, *, stride: int
) -> tuple[Array, Array]:
    # XLA turns both operands of the kernel's gradient. Without barriers it computes them anew in
    # the turned order: on the way back a whole chain of residual blocks for every convolution.
    inputs, cotangent = jax.lax.optimization_barrier((inputs, cotangent))
    return _gradients(inputs, kernel, cotangent, form=convolve_on_cpu, stride=stride)


convolve.defvjp(_forward, _backward)


def convolve_plainly(inputs: Array, kernel: Array, *, stride: int) -> Array:
    """Computes `convolve` as one convolution."""
    border = kernel.shape[0] // 2
    # "SAME" would pad (0, 1) for stride 2, which shifts the picture.
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=(stride, stride),
        padding=((border, border), (border, border)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def convolve_on_cpu(inputs: Array, kernel: Array, *, stride: int) -> Array:
    """Computes `convolve` as a matrix product for the kernels and maps that XLA is slow with."""
    rows, columns = (-(-side // stride) for side in inputs.shape[1:3])
    if kernel.shape[0] == 1 or rows * columns < _KERNEL_CELLS:
        return _multiply_patches(inputs, kernel, stride=stride)
    return convolve_plainly(inputs, kernel, stride=stride)


def _multiply_patches(inputs: Array, kernel: Array, *, stride: int) -> Array:
    """Gathers the values under the kernel of every output, and multiplies them by the kernel.

    Kernel rows and columns that meet nothing but padding are left out: on a map of one cell only
    the kernel's centre is left.
    """
    batch, *sides, _ = inputs.shape
    outputs = [-(-side // stride) for side in sides]
    border = kernel.shape[0] // 2
    axes = []  # for rows and columns: first and last kernel row or column that meets the map
    for axis, (side, count) in enumerate(zip(sides, outputs, strict=True), start=1):
        first = max(0, border - (count - 1) * stride)
        last = min(2 * border, border + side - 1)
        after = max(0, (count - 1) * stride + last - border + 1 - side)
        padding = [(0, 0)] * 4
        padding[axis] = (border - first, after)
        inputs = jnp.pad(inputs, padding)
        axes.append((first, last, count))
    (top, bottom, rows), (left, right, columns) = axes
    patches = [
        inputs[
            :,
            row - top : row - top + (rows - 1) * stride + 1 : stride,
            column - left : column - left + (columns - 1) * stride + 1 : stride,
        ]
        for row in range(top, bottom + 1)
        for column in range(left, right + 1)
    ]
    weights = kernel[top : bottom + 1, left : right + 1]
    # [B, h, w, K C] -> [B h w, K C]: a product of two axes needs no copy in its gradient
    joined = jnp.concatenate(patches, axis=-1).reshape(batch * rows * columns, -1)
    flat = joined @ weights.reshape(-1, weights.shape[-1])
    return flat.reshape(batch, rows, columns, -1)
