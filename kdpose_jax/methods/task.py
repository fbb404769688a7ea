"""What a task is to the methods: one network, its loss, and its predictions. `lifting` and `pose2d` build one each."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from kdpose_jax.methods.api import Batch, Tree


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
