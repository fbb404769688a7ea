"""Decides how much the distillation terms count at a step, and which layers they compare.

Inferred: docs/methods/scjd.md#schedule, docs/methods/scjd.md#layer-map.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def ramp(step: Int[Array, ""], warmup_steps: int) -> Float[Array, ""]:
    """Rises linearly from 0 to 1 over the warm-up, and stays at 1.

    Args:
      step: number of steps taken so far.
      warmup_steps: length of the warm-up; 0 for none.
    """
    if not warmup_steps:
        return jnp.ones((), jnp.float32)
    return jnp.minimum(jnp.asarray(step, jnp.float32) / warmup_steps, 1.0)


def last_third(depth: int) -> tuple[int, ...]:
    """Returns the last third of the layers, at least the last one, counted from 0."""
    return tuple(range(depth - max(1, depth // 3), depth))
