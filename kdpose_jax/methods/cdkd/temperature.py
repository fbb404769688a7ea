"""ETHT, easy-to-hard training: a learned temperature with an increasingly reversed gradient.

Source: CTKD, as used by CDKD (arXiv 2405.11448) and its released code;
docs/methods/cdkd.md#temperature.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def reversal_strength(
    step: Int[Array, ""],
    *,
    ends: tuple[float | int, ...],
    loops: float | int,
    steps: int,
    steps_per_epoch: float,
) -> Float[Array, ""]:
    """Computes lambda, the factor on the temperature's gradient: a half cosine, then constant.

    The references change it once per epoch. Here it changes at every step, and equals theirs where
    an epoch ends.

    Args:
      step: number of steps taken so far.
      ends: lambda at the start and at the end. From 0 to -1 the gradient is reversed ever more
        strongly (CTKD). From 1 to 0, as in CDKD's released code, nothing is reversed.
      loops: number of epochs until the end value; 0 for the whole run.
      steps: length of the run, steps.
      steps_per_epoch: steps per epoch, not necessarily a whole number.
    """
    first, last = ends
    whole = loops * steps_per_epoch if loops else float(steps)
    progress = jnp.clip(jnp.asarray(step, jnp.float32) / max(whole, 1.0), 0.0, 1.0)
    return last + (first - last) * 0.5 * (1 + jnp.cos(np.pi * progress))


def temperature(
    tau: Float[Array, ""],
    strength: Float[Array, ""],
    *,
    start: float,
    reach: float,
    limit: float,
    trained: bool,
) -> Float[Array, ""]:
    """Computes T = start + reach sigmoid(tau); the gradient reaches tau multiplied by lambda.

    Args:
      tau: the parameter.
      strength: lambda.
      start: the lowest temperature.
      reach: how far the temperature can rise above it.
      limit: tau is clipped to +-limit; the gradient ignores the clipping, so that tau can return.
      trained: False stops the gradient.
    """
    value = jax.lax.stop_gradient(jnp.clip(tau, -limit, limit))
    if trained:
        scaled = strength.astype(tau.dtype) * tau
        # Adds exactly 0 to the value, and lambda to the gradient.
        value = value + (scaled - jax.lax.stop_gradient(scaled))
    return start + reach * jax.nn.sigmoid(value)
