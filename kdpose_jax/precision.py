"""Says in which type heads, losses and norms compute, whatever type the layers have."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def float32_or_wider(values: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Converts values to float32, unless their type is wider, as float64 is."""
    return values.astype(np.promote_types(values.dtype, jnp.float32))
