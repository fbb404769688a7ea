"""What methods share about tasks: the student's variables and compute types."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from kdpose_jax.contracts import Batch, Tree

# `network.compute` -> the type that layers compute in; None, for Flax, is the type of their inputs.
COMPUTE_TYPES = {"float32": None, "bfloat16": jnp.dtype(jnp.bfloat16)}


def student_state(model_state: Tree) -> Tree:
    """Returns the batch statistics of a run's student; {} if its network has none."""
    return model_state["student"] if "student" in model_state else {}


def for_student(function: Callable[[Tree, Tree, Batch], Any]) -> Callable[[Tree, Tree, Batch], Any]:
    """Turns a function of one network's variables into one of a run's, applied to its student.

    Args:
      function: takes (params, state, batch) of one network.

    Returns:
      A function of a run's (params, model_state, batch).
    """

    def apply_to_student(params: Tree, model_state: Tree, batch: Batch) -> Any:
        return function(params["student"], student_state(model_state), batch)

    return apply_to_student
