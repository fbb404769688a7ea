"""What a method is to the rest of the program: the contract of every folder beside this file.

`kdpose_jax.methods.NAME.method` has `TASKS`, the tasks that it can train (modules beside this one), `TITLE`, what tables call
it (empty: a method without a teacher), and two functions of the config: `reads` says what a batch must hold, as keyword
arguments of the reader in training and of the protocol in evaluation, and `build` takes the locked config and returns a
`Method`. Of the config every method needs the blocks `data`, `student`, `teacher`, `distill.weights` (all zero: the baseline),
`eval` and `run`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

Tree = Any
Batch = dict[str, jax.Array]
# name -> (sum over examples, number of examples): divided once, when they are reported.
Metrics = dict[str, tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Group:
    """An optimiser group: the parameters whose path matches a pattern.

    Attributes:
      pattern: regular expression, searched in paths such as `student/head/kernel`; the first match of a list wins.
      learning_rate_factor: multiplies the learning rate.
      weight_decay: replaces the run's weight decay; None keeps it.
      plain_sgd: plain gradient descent in place of AdamW.
    """

    pattern: str
    learning_rate_factor: float = 1.0
    weight_decay: float | None = None
    plain_sgd: bool = False


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A network that teaches.

    Attributes:
      name: where it stands in `frozen`.
      checkpoint: its run, or a file of PyTorch weights.
    """

    name: str
    checkpoint: str


@dataclasses.dataclass(frozen=True)
class Method:
    """A method, built from a config: pure functions over three kinds of variables.

    Attributes:
      init: (key, batch) -> (params, model_state, frozen). `params` is a dictionary with `student` and the adapters
        that are trained beside it; `model_state` holds batch statistics; `frozen` holds the teachers by name, and is
        never saved.
      loss: (params, model_state, frozen, batch, key, step) -> (scalar, (metrics, new model_state)). Pure; `step` is
        traced.
      predict: (params, model_state, batch) -> the canonical prediction, by the student alone.
      predict_with_flip: the same, merged with the prediction for the mirrored input (test-time flip).
      terms: what `loss` is called with -> the weighted terms whose sum is the loss, by name, each a scalar; None where
        the loss has no terms to tell apart.
      teachers: the networks in `frozen`; each is {"params", "state"}.
      groups: optimiser groups; parameters outside all of them are trained as the config says.
      shared_axes: (pattern of parameter paths, axis) of large parameters that devices share best along that axis, where the run has
        them share parameters at all (`train.fsdp`).
      cached_targets: (frozen, batch) -> arrays per example that never change during training and that the loss then
        finds in the batch; None where there is nothing to cache.
      notes: what a user should be told before the run starts (one sentence each).
    """

    init: Callable[[jax.Array, Batch], tuple[Tree, Tree, Tree]]
    loss: Callable[[Tree, Tree, Tree, Batch, jax.Array, jax.Array], tuple[jax.Array, tuple[Metrics, Tree]]]
    predict: Callable[[Tree, Tree, Batch], Any]
    predict_with_flip: Callable[[Tree, Tree, Batch], Any]
    terms: Callable[[Tree, Tree, Tree, Batch, jax.Array, jax.Array], dict[str, jax.Array]] | None = None
    teachers: tuple[Teacher, ...] = ()
    groups: tuple[Group, ...] = ()
    shared_axes: tuple[tuple[str, int], ...] = ()
    cached_targets: Callable[[Tree, Batch], Batch] | None = None
    notes: tuple[str, ...] = ()


def as_metrics(per_example: dict[str, jax.Array]) -> Metrics:
    """Per-example values `[B]` -> (sum, count) pairs."""
    return {name: (values.sum(), jax.numpy.asarray(values.size, values.dtype)) for name, values in per_example.items()}


def from_terms(
    all_terms: Callable[[Tree, Tree, Tree, Batch, jax.Array, jax.Array], tuple[dict[str, jax.Array], dict[str, jax.Array], Tree]],
) -> tuple[Callable, Callable]:
    """`Method.loss` and `Method.terms` of a method with several terms.

    Args:
      all_terms: what both are called with -> (the weighted terms by name, whose sum is the loss; further metrics; the new model_state).
        Terms and metrics are `[B]`.

    Returns:
      (loss, terms). The metrics of the loss are `loss`, the further ones, `task`, and `weighted_NAME` of every other term.
    """

    def loss(params, model_state, frozen, batch, key, step):
        weighted, shown, state = all_terms(params, model_state, frozen, batch, key, step)
        total = sum(weighted.values())
        named = {name if name == "task" else f"weighted_{name}": value for name, value in weighted.items()}
        return total.mean(), (as_metrics({"loss": total, **shown, **named}), state)

    def terms(params, model_state, frozen, batch, key, step):
        weighted, _, _ = all_terms(params, model_state, frozen, batch, key, step)
        return {name: value.mean() for name, value in weighted.items()}

    return loss, terms
