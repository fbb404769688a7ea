"""Scaled dot-product attention, in the form that suits the device.

All forms compute `softmax(query key^T / sqrt(D)) value` for each head, and differ by rounding.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdpose_jax.models import attending_tpu
from kdpose_jax.precision import float32_or_wider


@functools.partial(jax.jit, static_argnums=(1, 2))  # layers of one shape are traced once
def attend(qkv: Float[Array, "B T S QKV"], heads: int, axis: int) -> Float[Array, "B T S C"]:
    """Mixes the values of tokens that lie along one axis.

    Args:
      qkv: queries, keys and values side by side, each with its heads side by side.
      heads: number A of heads; divides C.
      axis: -2 if the S tokens of each row attend to each other, -3 if the T tokens of each column
        do.

    Returns:
      The mixed values, heads side by side.
    """
    forms: dict[str, Callable[..., Array]] = {"cpu": _attend_on_cpu, "default": _attend}
    if attending_tpu.fits(qkv.shape, qkv.dtype, axis):
        forms["tpu"] = attending_tpu.attend
    chosen = {name: functools.partial(form, heads=heads, axis=axis) for name, form in forms.items()}
    return jax.lax.platform_dependent(qkv, **chosen)


def probabilities(
    qkv: Float[Array, "B T S QKV"], heads: int, axis: int
) -> Float[Array, "B N A L L"]:
    """Computes the softmax of the logits, in float32 or wider.

    Args:
      qkv: as for `attend`.
      heads: as for `attend`.
      axis: as for `attend`.

    Returns:
      The probabilities; rows are queries. N and L are T and S for axis -2, and S and T for axis -3.
    """
    query, key, _ = (_by_head(part, heads, axis) for part in jnp.split(qkv, 3, axis=-1))
    logits = (query @ key.swapaxes(-1, -2)) * query.shape[-1] ** -0.5
    softmax = jax.nn.softmax(float32_or_wider(logits), axis=-1)
    batch, attending = qkv.shape[0], softmax.shape[-1]
    return softmax.reshape(batch, -1, heads, attending, attending)


def _attend(qkv: Array, heads: int, axis: int) -> Array:
    """Computes `attend` as it is written."""
    value = _by_head(qkv[..., -(qkv.shape[-1] // 3) :], heads, axis)
    softmax = probabilities(qkv, heads, axis).astype(value.dtype)
    mixed = softmax.reshape(-1, *softmax.shape[-2:]) @ value
    return _side_by_side(mixed, qkv.shape, axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _attend_on_cpu(qkv: Array, heads: int, axis: int) -> Array:
    """Computes `attend`, written for what XLA 0.10.2 does with products of many small matrices.

    Such a product takes more than one core only if arithmetic follows it that the compiler cannot
    move in front of it: here its factor, behind a barrier. It is fast only if the contracted axis
    of its left operand is the last: operands are turned while they are small, and barriers keep
    the compiler from turning the large ones instead. A pass over the logits costs as much as their
    product: the softmax's divisor is applied to the mixed values, and in the gradient to theirs.
    """
    return _forward(qkv, heads, axis)[0]


def _forward(qkv: Array, heads: int, axis: int) -> tuple[Array, tuple[Array, ...]]:
    query, key, value = (_by_head(part, heads, axis) for part in jnp.split(qkv, 3, axis=-1))
    logits = (_copied(query) @ _turned(key)) * _scale(query)
    logits = float32_or_wider(logits)
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    divisor = weights.sum(-1, keepdims=True).astype(qkv.dtype)
    weights = weights.astype(qkv.dtype)
    mixed = (weights @ _copied(value)) / divisor
    return _side_by_side(mixed, qkv.shape, axis), (qkv, weights, divisor, mixed)


def _backward(
    heads: int, axis: int, kept: tuple[Array, ...], of_mixed: Float[Array, "B T S C"]
) -> tuple[Array]:
    """Returns the gradient of `qkv`, from what `_forward` keeps."""
    qkv, weights, divisor, mixed = kept
    query, key, value = (_by_head(part, heads, axis) for part in jnp.split(qkv, 3, axis=-1))
    scale = _scale(query)
    gradient = _by_head(of_mixed, heads, axis) / divisor
    of_value = (_turned(gradient / query.shape[-1] ** -0.5) @ weights) * scale
    of_logits = gradient @ _turned(value) - (gradient * mixed).sum(-1, keepdims=True)
    of_logits = of_logits * weights
    of_query, of_key = (of_logits @ _copied(key)) * scale, (_turned(query) @ of_logits) * scale
    gradients = (of_query, of_key.swapaxes(1, 2), of_value.swapaxes(1, 2))
    parts = [_side_by_side(part, qkv.shape, axis) for part in gradients]
    return (jnp.concatenate(parts, axis=-1),)


_attend_on_cpu.defvjp(_forward, _backward)


def _scale(query: Float[Array, "N L D"]) -> Float[Array, ""]:
    return jax.lax.optimization_barrier(jnp.asarray(query.shape[-1] ** -0.5, query.dtype))


def _copied(values: Array) -> Array:
    """Has the values in memory in the order of their axes."""
    return jax.lax.optimization_barrier(values)


def _turned(values: Float[Array, "N L D"]) -> Float[Array, "N D L"]:
    """Turns matrices, in memory too."""
    return _copied(values.swapaxes(1, 2))


def _by_head(tokens: Float[Array, "B T S C"], heads: int, axis: int) -> Float[Array, "N L D"]:
    """Gives each head its rows, of the tokens that attend to each other."""
    batch, rows, columns, width = tokens.shape
    split = tokens.reshape(batch, rows, columns, heads, width // heads)
    order = (0, 1, 3, 2, 4) if axis == -2 else (0, 2, 3, 1, 4)
    return split.transpose(order).reshape(-1, tokens.shape[axis], width // heads)


def _side_by_side(
    values: Float[Array, "N L D"], shape: tuple[int, ...], axis: int
) -> Float[Array, "B T S C"]:
    """Puts heads side by side again, for tokens of a shape `[B, T, S, ...]`."""
    batch, rows, columns, _ = shape
    others = rows if axis == -2 else columns
    split = values.reshape(batch, others, -1, *values.shape[1:])
    order = (0, 1, 3, 2, 4) if axis == -2 else (0, 3, 1, 2, 4)
    return split.transpose(order).reshape(batch, rows, columns, -1)
