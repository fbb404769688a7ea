"""Runs a network over examples of a source, each exactly once, on any number of devices."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, Int

from kdpose_jax.contracts import Batch, Predict, Source
from kdpose_jax.data.batches import evaluation_batches


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Gathers only some of another source's examples.

    Attributes:
      source: the other source.
      examples: numbers of its examples, `[N]`.
    """

    source: Source
    examples: np.ndarray

    @property
    def unit(self) -> tuple[str, int]:
        """Says what an example consists of."""
        return self.source.unit

    def __len__(self) -> int:
        return len(self.examples)

    def gather(self, examples: np.ndarray, passes: np.ndarray | None = None) -> Batch:
        """Returns the arrays of some of these examples; see `contracts.Source`."""
        return self.source.gather(self.examples[examples], passes)


def evenly_spread(usable: Bool[np.ndarray, " examples"], count: int) -> Int[np.ndarray, " N"]:
    """Picks examples for a light evaluation, evenly spread over the usable ones.

    Args:
      usable: whether each example has something to score.
      count: how many to pick; 0, or more than are usable, picks all of them.

    Returns:
      Numbers of the examples.
    """
    numbers = np.flatnonzero(usable)
    count = min(count or len(numbers), len(numbers))
    return numbers[np.unique(np.linspace(0, len(numbers) - 1, count).astype(int))]


def predict_all(
    predict: Predict,
    params: Any,
    model_state: Any,
    source: Source,
    *,
    batch: int,
    sharding: jax.sharding.Sharding,
) -> Any:
    """Predicts on all examples, in their order.

    Args:
      predict: compiled (params, model_state, batch) -> an array `[batch, ...]` or a tree of them.
      params: the run's parameters.
      model_state: the run's batch statistics.
      source: the N examples.
      batch: global batch size; the last batch is padded, and the padding is dropped.
      sharding: how the batch axis is spread over the devices.

    Returns:
      The same tree with arrays `[N, ...]`, on every host.
    """
    collected = []
    for arrays in evaluation_batches(source, batch, sharding):
        mask = arrays.pop("mask")
        outputs = predict(params, model_state, arrays)
        if jax.process_count() > 1:
            outputs, mask = multihost_utils.process_allgather((outputs, mask), tiled=True)
        keep = np.asarray(mask)
        collected.append(jax.tree.map(lambda array, keep=keep: np.asarray(array)[keep], outputs))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *collected)
