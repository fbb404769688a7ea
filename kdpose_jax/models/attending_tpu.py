"""Attention on TPUs, as kernels that hold all heads of a few sequences on the chip.

No logits, no probabilities and no array with its heads apart goes through the chip's memory: a
kernel reads queries, keys and values as the linear layer left them, and writes the mixed values as
the next one reads them. The gradient computes the probabilities again. jax's own kernels (flash,
splash) are for long sequences, and want heads apart and lengths in multiples of 128.

Tokens that attend along axis -3 share their kernel with those of neighbouring columns: all of them
are one sequence, in which a token attends to its own column only. 17 joints alone would fill a
seventh of the matrix unit.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas
from jax.experimental.pallas import tpu
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

# Bytes. A kernel's memory on the chip is 16 MiB, and its blocks are there twice.
LARGEST_BLOCKS = 7 * 2**20
MASKED = -1e30  # a logit whose probability is 0


def fits(shape: tuple[int, ...], dtype: Any, axis: int) -> bool:
    """Returns whether the kernels hold the blocks of such queries, keys and values.

    Args:
      shape: that of `qkv` in `attend`.
      dtype: its type.
      axis: as for `attend`.
    """
    if dtype not in (jnp.bfloat16, jnp.float32):
        return False
    if not all(isinstance(length, int) for length in shape):  # an export's symbolic batch
        return False
    _, rows, columns, width = shape
    tokens = columns if axis == -2 else rows * _columns(columns, dtype)
    logits = 3 * 4 * tokens * tokens
    return tokens * width * jnp.dtype(dtype).itemsize * 7 // 3 + logits <= LARGEST_BLOCKS


def attend(qkv: Float[Array, "B T S QKV"], heads: int, axis: int) -> Float[Array, "B T S C"]:
    """Computes `attending.attend`."""
    return _attend(qkv, heads, axis, False)


def attend_in_steps(qkv: Array, heads: int, axis: int) -> Array:
    """Computes `attend` on any device, step by step as the kernels say: for tests."""
    return _attend(qkv, heads, axis, True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _attend(qkv: Array, heads: int, axis: int, interpret: bool) -> Array:
    return _forward(qkv, heads, axis, interpret)[0]


def _forward(qkv: Array, heads: int, axis: int, interpret: bool) -> tuple[Array, Array]:
    return _run([qkv], heads, axis, interpret), qkv


def _backward(heads: int, axis: int, interpret: bool, qkv: Array, of_mixed: Array) -> tuple[Array]:
    return (_run([qkv, of_mixed], heads, axis, interpret),)


_attend.defvjp(_forward, _backward)


def _run(arrays: Sequence[Array], heads: int, axis: int, interpret: bool) -> Array:
    """Runs the kernel of the forward pass for `[qkv]`, that of the gradient for two arrays."""

    def run(*arrays: Array) -> Array:
        shape = arrays[0].shape
        if axis == -2:  # every row is a sequence
            arrays = tuple(array.reshape(-1, 1, *array.shape[2:]) for array in arrays)
        outputs = _kernel(*arrays, heads=heads, axis=axis, interpret=interpret)
        return outputs.reshape(*shape[:-1], -1)

    mesh = jax.sharding.get_abstract_mesh()
    if "data" in mesh.auto_axes and mesh.size > 1 and arrays[0].shape[0] % mesh.size == 0:
        # Without it, each device would collect the whole batch for its kernel.
        over_batch = PartitionSpec("data")
        run = jax.shard_map(run, in_specs=over_batch, out_specs=over_batch, check_vma=False)
    return run(*arrays)


def _kernel(*arrays: Array, heads: int, axis: int, interpret: bool) -> Array:
    """Runs a kernel over blocks `[T, columns, ...]` of each example."""
    batch, rows, columns, width = arrays[0].shape
    block = columns if axis == -2 else _columns(columns, arrays[0].dtype)
    steps = pallas.cdiv(columns, block)
    body, outputs = (_mix, width // 3) if len(arrays) == 1 else (_differentiate, width)
    # Products of logits: 2 on the way forward, 5 on the way back.
    products = (2 if len(arrays) == 1 else 5) * 2 * (width // 3) * (rows * block) ** 2
    moved = sum(array.size for array in arrays) + batch * rows * columns * outputs

    def blocks(channels: int) -> pallas.BlockSpec:
        return pallas.BlockSpec((1, rows, block, channels), lambda b, step: (b, 0, step, 0))

    return pallas.pallas_call(
        functools.partial(body, heads=heads, axis=axis, length=columns),
        grid=(batch, steps),
        in_specs=[blocks(array.shape[-1]) for array in arrays],
        out_specs=blocks(outputs),
        out_shape=jax.ShapeDtypeStruct((batch, rows, columns, outputs), arrays[0].dtype),
        compiler_params=tpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=pallas.CostEstimate(
            flops=batch * steps * products,
            transcendentals=batch * steps * heads * (rows * block) ** 2,
            bytes_accessed=moved * arrays[0].dtype.itemsize,
        ),
        interpret=interpret,
        name="attention" if len(arrays) == 1 else "attention_gradient",
    )(*arrays)


def _columns(columns: int, dtype: Any) -> int:
    """Returns how many columns share a block: at most the rows of a tile."""
    return min(columns, 8 * 4 // jnp.dtype(dtype).itemsize)


def _mix(qkv_block: Any, mixed_block: Any, heads: int, axis: int, length: int) -> None:
    """Writes the mixed values of a block."""
    _, rows, columns, width = qkv_block.shape
    qkv = _tokens(qkv_block, length)
    apart = _apart(rows, columns) if axis == -3 else None
    mixed = []
    for query, key, value in _heads(qkv, heads):
        softmax = _softmax(query, key, apart)
        mixed.append(_product(softmax.astype(value.dtype), value, 1, 0).astype(value.dtype))
    mixed_block[0] = jnp.concatenate(mixed, axis=1).reshape(rows, columns, width // 3)


def _differentiate(
    qkv_block: Any, of_mixed_block: Any, of_qkv_block: Any, heads: int, axis: int, length: int
) -> None:
    """Writes the gradient of a block's queries, keys and values."""
    _, rows, columns, width = qkv_block.shape
    qkv, of_mixed = _tokens(qkv_block, length), _tokens(of_mixed_block, length)
    apart = _apart(rows, columns) if axis == -3 else None
    gradients = []
    for (query, key, value), gradient in zip(
        _heads(qkv, heads), jnp.split(of_mixed, heads, axis=1), strict=True
    ):
        softmax = _softmax(query, key, apart)
        of_softmax = _product(gradient, value, 1, 1)
        mean = (softmax * of_softmax).sum(-1, keepdims=True)
        of_logits = softmax * (of_softmax - mean) * query.shape[-1] ** -0.5
        of_logits = of_logits.astype(query.dtype)
        gradients.append(
            (
                _product(of_logits, key, 1, 0),
                _product(of_logits, query, 0, 0),
                _product(softmax.astype(gradient.dtype), gradient, 0, 0),
            )
        )
    parts = [part.astype(qkv.dtype) for of_kind in zip(*gradients, strict=True) for part in of_kind]
    of_qkv_block[0] = jnp.concatenate(parts, axis=1).reshape(rows, columns, width)


def _tokens(block: Any, length: int) -> Float[Array, "N C"]:
    """Reads the tokens of a block. Those behind the array's end, which hold anything, become 0."""
    tokens = block[0]
    rows, columns, width = tokens.shape
    tokens = tokens.reshape(rows * columns, width)
    if length % columns == 0:
        return tokens
    number = jax.lax.broadcasted_iota(jnp.int32, (rows * columns, 1), 0) % columns
    inside = number + pallas.program_id(1) * columns < length
    return jnp.where(inside, tokens, jnp.zeros((), tokens.dtype))


def _apart(rows: int, columns: int) -> Array:
    """Returns which pairs of a block's tokens stand in different columns."""
    tokens = rows * columns
    this, other = (
        jax.lax.broadcasted_iota(jnp.int32, (tokens, tokens), axis) % columns for axis in (0, 1)
    )
    return this != other


def _heads(qkv: Float[Array, "N QKV"], heads: int) -> list[tuple[Array, Array, Array]]:
    """Returns query, key and value of every head, `[N, D]`."""
    parts = jnp.split(qkv, 3 * heads, axis=1)
    return list(zip(parts[:heads], parts[heads : 2 * heads], parts[2 * heads :], strict=True))


def _softmax(query: Array, key: Array, apart: Array | None) -> Float[Array, "N N"]:
    """Computes the probabilities of a head, in float32."""
    logits = _product(query, key, 1, 1) * query.shape[-1] ** -0.5
    if apart is not None:
        logits = jnp.where(apart, MASKED, logits)
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _product(left: Array, right: Array, left_axis: int, right_axis: int) -> Array:
    """Multiplies matrices over an axis of each, and sums in float32."""
    dimensions = (((left_axis,), (right_axis,)), ((), ()))
    return jax.lax.dot_general(left, right, dimensions, preferred_element_type=jnp.float32)
