"""Which examples of a source a network is run over, and running it over each exactly once, on any number of devices and hosts."""

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
    """Some examples of a source.

    Attributes:
      source: all of them.
      examples: the chosen ones, `[N]`.
    """

    source: Source
    examples: np.ndarray

    @property
    def unit(self) -> tuple[str, int]:
        return self.source.unit

    def __len__(self) -> int:
        return len(self.examples)

    def gather(self, examples: np.ndarray, passes: np.ndarray | None = None) -> Batch:
        return self.source.gather(self.examples[examples], passes)


def evenly_spread(usable: Bool[np.ndarray, "examples"], count: int) -> Int[np.ndarray, "N"]:
    """Chooses examples for a light evaluation.

    Args:
      usable: those that have something to score.
      count: 0 or more than there are: all of them.
    """
    numbers = np.flatnonzero(usable)
    return numbers[
        np.unique(
            np.linspace(0, len(numbers) - 1, min(count or len(numbers), len(numbers))).astype(int)
        )
    ]


def predict_all(
    predict: Predict,
    params: Any,
    model_state: Any,
    source: Source,
    *,
    batch: int,
    sharding: jax.sharding.Sharding,
) -> Any:
    """The predictions of all examples in their order.

    Args:
      predict: compiled (params, model_state, batch) -> an array `[batch, ...]` or a tree of them.
      params: of the network.
      model_state: of the network.
      source: the examples, N.
      batch: global batch size; the last batch is padded and the padding dropped.
      sharding: of the batch axis.

    Returns:
      The tree with arrays `[N, ...]`, on every host.
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
