"""What a task is to the methods: one network, its loss, and its predictions. `lifting` and `pose2d` build one each."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from kdpose_jax.contracts import Batch, Tree
from kdpose_jax.errors import UserError

# What `network.compute` may say -> the type that layers compute in, as flax takes it: None is that of their inputs.
COMPUTE_TYPES = {"float32": None, "bfloat16": jnp.dtype(jnp.bfloat16)}


def student_state(model_state: Tree) -> Tree:
    """The batch statistics of a run's student; {} where its network has none."""
    return model_state["student"] if "student" in model_state else {}


def for_student(function: Callable[[Tree, Tree, Batch], Any]) -> Callable[[Tree, Tree, Batch], Any]:
    """A function of one network's (params, state, batch) -> the same of a run's (params, model_state, batch), by its student alone."""

    def of_run(params: Tree, model_state: Tree, batch: Batch) -> Any:
        return function(params["student"], student_state(model_state), batch)

    return of_run


def require(place: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuses a value that is none of the allowed ones."""
    if value not in allowed:
        raise UserError(f"{place} is '{value}': set it to one of {sorted(allowed)}.")
