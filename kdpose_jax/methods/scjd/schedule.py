"""Decides how much the distillation terms count at a step, and which layers they compare.

Inferred: docs/methods/scjd.md#schedule, docs/methods/scjd.md#layer-map.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def ramp(
    step: Int[Array, ""], *, warmup_steps: int, steps: int, decay_fraction: float
) -> Float[Array, ""]:
    """Rises linearly from 0 to 1 over the warm-up, and falls linearly to 0 at the run's end.

    Args:
      step: number of steps taken so far.
      warmup_steps: length of the warm-up; 0 for none.
      steps: length of the run.
      decay_fraction: the share of the run over which it falls; 0 for none.
    """
    now = jnp.asarray(step, jnp.float32)
    factor = jnp.ones((), jnp.float32)
    if warmup_steps:
        factor = factor * jnp.minimum(now / warmup_steps, 1.0)
    if decay_fraction:
        factor = factor * jnp.clip((steps - now) / (decay_fraction * steps), 0.0, 1.0)
    return factor


def last_third(depth: int) -> tuple[int, ...]:
    """Returns the last third of the layers, at least the last one, counted from 0."""
    return tuple(range(depth - max(1, depth // 3), depth))
