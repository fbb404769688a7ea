"""Runs a network over every example of a source exactly once, on any number of devices and hosts."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from kdpose_jax.data.batches import Source, evaluation_batches

Predict = Callable[[Any, Any, dict[str, jax.Array]], Any]


def predict_all(
    predict: Predict, params: Any, model_state: Any, source: Source, *, batch: int, sharding: jax.sharding.Sharding
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
