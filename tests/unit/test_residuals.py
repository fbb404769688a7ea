"""What a forward pass keeps for its backward pass, counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from kdpose_jax.experiment import residuals

ROWS, WIDTH = 10, 8
ARRAY = ROWS * WIDTH * 4  # bytes in float32


def normalised(x):
    """A layer norm without parameters."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True))


def block(x, kernel):
    """A residual block, as in a transformer."""
    return x + jnp.tanh(normalised(x) @ kernel + jnp.ones(WIDTH))


def block_twice(x, kernel):
    return block(block(x, kernel), kernel)


def attention(x, kernel):
    """Tokens that are queries, keys and values at once."""
    tokens = x @ kernel
    return jax.nn.softmax(tokens @ tokens.T) @ tokens


def in_a_loop(x, kernel):
    return jax.lax.scan(lambda x, _: (jnp.tanh(x @ kernel), None), x, length=5)[0]


def stored(function, dtype=jnp.float32):
    x, kernel = jnp.ones((ROWS, WIDTH), dtype), jnp.ones((WIDTH, WIDTH), dtype)

    def forward(x, kernel):
        return jax.vjp(lambda kernel: function(x, kernel).sum(), kernel)[1]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return residuals.stored_bytes(jax.make_jaxpr(forward)(x, kernel), "cpu")


STATISTICS = 2 * ROWS * 4  # mean and mean square of each row


@pytest.mark.parametrize(
    "function, least, most",
    [
        # The product, from which bias and tanh follow. The norm follows from the argument and its
        # statistics.
        (block, ARRAY, ARRAY + STATISTICS),
        # The second norm follows from the sum that ends the first block. Its product and the first.
        (block_twice, 3 * ARRAY, 3 * ARRAY + 2 * STATISTICS),
        # The tokens, the logits, and their largest value and sum in each row. The last product is
        # not read.
        (attention, ARRAY + ROWS * ROWS * 4, ARRAY + ROWS * ROWS * 4 + STATISTICS),
        # A loop cannot compute again what went round, so that all that it keeps is counted: what
        # entered each round, for the kernel's gradient, and one or two arrays for that of tanh.
        (in_a_loop, 10 * ARRAY, 15 * ARRAY),
    ],
)
def test_what_is_stored(function, least, most):
    assert least <= stored(function) <= most
    assert stored(function, jnp.bfloat16) < stored(function)


def convolve(image, kernel):
    return jax.lax.conv_general_dilated(
        image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def convolve_by_platform(image, kernel):
    """The same, where the CPU might have a program of its own."""
    return jax.lax.platform_dependent(image, kernel, cpu=convolve, default=convolve)


convolve_by_platform.defvjp(
    lambda *operands: (convolve_by_platform(*operands), operands),
    lambda operands, towards: jax.vjp(convolve, *operands)[1](towards),
)


@pytest.mark.parametrize("platform, channels", [("cpu", 48), ("tpu", 128)])
@pytest.mark.parametrize("form", [convolve, convolve_by_platform])
def test_a_tpu_fills_up_the_channels_of_convolutions(form, platform, channels):
    image, kernel = jnp.ones((2, 16, 16, 3)), jnp.ones((3, 3, 3, 48))

    def forward(image, kernel):
        return jax.vjp(lambda kernel: jnp.tanh(form(image, kernel)), kernel)[1]

    traced = jax.make_jaxpr(forward)(image, kernel)
    assert residuals.stored_bytes(traced, platform) == 2 * 16 * 16 * channels * 4
    assert residuals.largest_product(traced, platform) == 2 * 16 * 16 * channels * 4
