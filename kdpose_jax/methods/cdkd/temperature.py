"""ETHT, easy-to-hard training: a learnable temperature whose gradient is reversed ever more strongly.

CTKD's, as used by CDKD (arXiv 2405.11448) and its released code; docs/methods/cdkd.md#temperature.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

REVERSALS = {"reversed": (0.0, -1.0), "release": (1.0, 0.0)}


def reversal_strength(
    step: Int[Array, ""], *, kind: str, loops: float | int, steps: int, steps_per_epoch: float
) -> Float[Array, ""]:
    """lambda, what the gradient of the temperature is multiplied by: a half cosine over the loops, then constant.

    The references move it once per epoch; here it follows every step, and is theirs where an epoch ends.

    Args:
      step: steps taken so far.
      kind: `reversed`: from 0 to -1 (CTKD); `release`: from +1 to 0, which reverses nothing (CDKD's released code).
      loops: epochs until the end value; 0: all of the run.
      steps: length of the run.
      steps_per_epoch: need not be whole.
    """
    first, last = REVERSALS[kind]
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
    """T = start + reach sigmoid(tau), whose gradient reaches tau multiplied by lambda.

    Args:
      tau: the parameter.
      strength: lambda.
      start: lowest temperature.
      reach: how far it can rise.
      limit: tau is read as if cut to +-limit; the gradient passes as if it were not, so that tau can come back.
      trained: False stops the gradient.
    """
    value = jax.lax.stop_gradient(jnp.clip(tau, -limit, limit))
    if trained:
        scaled = strength.astype(tau.dtype) * tau
        value = value + (
            scaled - jax.lax.stop_gradient(scaled)
        )  # adds exactly 0 and a gradient of lambda
    return start + reach * jax.nn.sigmoid(value)
