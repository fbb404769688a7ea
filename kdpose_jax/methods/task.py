"""What a task is to the methods: one network, its loss, and its predictions. `lifting` and `pose2d` build one each."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kdpose_jax.errors import UserError
from kdpose_jax.methods.api import Batch, Tree

# What `network.compute` may say -> the type that layers compute in, as flax takes it: None is that of their inputs.
COMPUTE_TYPES = {"float32": None, "bfloat16": jnp.dtype(jnp.bfloat16)}


@dataclasses.dataclass(frozen=True)
class Task:
    """Pure functions over the variables of one network: `params`, and `state` with its batch statistics ({} without).

    Attributes:
      init: (key, batch) -> (params, state).
      apply: (params, state, batch, key) -> (prediction, features, new state), in training mode.
      loss: (prediction, batch) -> (total `[B]`, the unweighted terms by name, each `[B]`).
      predict: (params, state, batch) -> the canonical prediction, in evaluation mode and float32.
      predict_with_flip: the same, merged with the prediction for the mirrored input.
    """

    init: Callable[[jax.Array, Batch], tuple[Tree, Tree]]
    apply: Callable[[Tree, Tree, Batch, jax.Array], tuple[Any, Any, Tree]]
    loss: Callable[[Any, Batch], tuple[jax.Array, dict[str, jax.Array]]]
    predict: Callable[[Tree, Tree, Batch], Any]
    predict_with_flip: Callable[[Tree, Tree, Batch], Any]


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
