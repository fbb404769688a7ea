"""How strongly the distillation terms count at a step, and which layers they join.

Inferred: docs/methods/scjd.md#schedule, docs/methods/scjd.md#layer-map.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def ramp(
    step: Int[Array, ""], *, warmup_steps: int, steps: int, decay_fraction: float
) -> Float[Array, ""]:
    """Rises linearly from 0 to 1 over the warm-up, falls linearly to 0 over the last `decay_fraction` of the run.

    Args:
      step: steps taken so far.
      warmup_steps: 0 for none.
      steps: length of the run.
      decay_fraction: 0 for none.
    """
    now = jnp.asarray(step, jnp.float32)
    factor = jnp.ones((), jnp.float32)
    if warmup_steps:
        factor = factor * jnp.minimum(now / warmup_steps, 1.0)
    if decay_fraction:
        factor = factor * jnp.clip((steps - now) / (decay_fraction * steps), 0.0, 1.0)
    return factor


def last_third(depth: int) -> tuple[int, ...]:
    """The last third of the layers, at least the last one, 0-based."""
    return tuple(range(depth - max(1, depth // 3), depth))
