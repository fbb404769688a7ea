"""The forms of a convolution: one per kind of device, with the same values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from kdpose_jax.models import convolution
from kdpose_jax.models.convolution import convolve, convolve_on_cpu, convolve_plainly

# Rows and columns of the map: one cell, one output at stride 2, products at stride 2 alone, and a
# convolution in either case.
MAPS = [(1, 1), (2, 2), (4, 3), (3, 5)]


def sum_over_taps(inputs, kernel, stride):
    """A convolution by its definition, in numpy."""
    border = kernel.shape[0] // 2
    padded = np.pad(inputs, ((0, 0), (border, border), (border, border), (0, 0)))
    rows, columns = inputs.shape[1:3]
    return sum(
        padded[:, i : i + rows : stride, j : j + columns : stride] @ kernel[i, j]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )


def with_gradients(form, stride, inputs, kernel, towards):
    outputs, pull = jax.vjp(functools.partial(form, stride=stride), inputs, kernel)
    return outputs, *pull(towards)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 3])
def test_forms_agree_in_values_and_gradients(side, stride):
    """In float64; the gradients are those that JAX derives for the plain convolution."""
    generator = np.random.default_rng(side + stride)
    for rows, columns in MAPS:
        inputs = generator.normal(size=(2, rows, columns, 3))
        kernel = generator.normal(size=(side, side, 3, 4))
        wanted = sum_over_taps(inputs, kernel, stride)
        given = inputs, kernel, generator.normal(size=wanted.shape)
        with jax.enable_x64(True):
            plain, *others = (
                jax.jit(functools.partial(with_gradients, form, stride))(*given)
                for form in (convolve_plainly, convolve_on_cpu, convolve)
            )
        np.testing.assert_allclose(plain[0], wanted, rtol=1e-9, atol=1e-9)
        for found in others:
            for one, other in zip(found, plain, strict=True):
                assert one.dtype == np.float64
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def gradients(inputs, kernel):
    return jax.grad(lambda *operands: convolve(*operands, 1).sum(), (0, 1))(inputs, kernel)


@pytest.mark.parametrize("function", [functools.partial(convolve, stride=1), gradients])
def test_only_the_cpu_multiplies_patches(function):
    """A program for a TPU or a GPU holds convolutions and no matrix product."""
    operands = jnp.zeros((2, 2, 2, 3)), jnp.zeros((3, 3, 3, 4))
    for platform in ("tpu", "cuda", "cpu"):
        program = export.export(jax.jit(function), platforms=[platform])(*operands).mlir_module()
        assert ("stablehlo.dot_general" in program) == (platform == "cpu")
        assert ("stablehlo.convolution" in program) == (platform != "cpu")


def test_a_kernel_on_one_cell_is_its_centre():
    """The other weights meet only padding: they are not read, and their gradient is zero."""
    inputs = jnp.arange(1.0, 7.0).reshape(2, 1, 1, 3)
    kernel = jnp.full((3, 3, 3, 4), jnp.nan).at[1, 1].set(0.5)
    np.testing.assert_array_equal(convolve(inputs, kernel, 1)[:, 0, 0], [[3.0] * 4, [7.5] * 4])
    gradient = jax.grad(lambda weights: convolve(inputs, weights, 1).sum())(kernel)
    np.testing.assert_array_equal(gradient[1, 1], [[5.0] * 4, [7.0] * 4, [9.0] * 4])
    assert np.count_nonzero(gradient) == 3 * 4


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 3])
def test_the_fields_of_the_layer_describe_it(side, stride, monkeypatch):
    """jax2onnx converts Flax's layer by its fields, and never calls `convolve`."""
    layer = convolution.ConvNorm(4, side, stride)
    generator = np.random.default_rng(side + stride)
    inputs = generator.normal(size=(2, 4, 6, 3)).astype(np.float32)
    kernel = generator.normal(size=(side, side, 3, 4)).astype(np.float32)
    variables = layer.init(jax.random.key(0), inputs, False)
    variables["params"]["conv"]["kernel"] = kernel
    called = []

    def of_flax(*operands, **options):
        called.append(options)
        return jax.lax.conv_general_dilated(*operands, **options)

    monkeypatch.setattr(convolution, "_convolve_for_flax", of_flax)
    found = layer.apply(variables, inputs, False)
    wanted = sum_over_taps(inputs, kernel, stride) / np.sqrt(1 + 1e-5)  # fresh batch statistics
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert len(called) == 1
