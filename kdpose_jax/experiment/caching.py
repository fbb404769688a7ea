"""Targets that never change during training, computed once per example."""

import dataclasses
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from kdpose_jax.data.batches import Batch, Source
from kdpose_jax.evaluate import runner
from kdpose_jax.methods.api import Method
from kdpose_jax.train import sharding


@dataclasses.dataclass(frozen=True)
class CachedSource:
    """A source whose batches carry further arrays, looked up by example.

    Attributes:
      source: the examples.
      targets: name -> `[N, ...]`.
    """

    source: Source
    targets: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.source)

    def gather(self, examples: np.ndarray) -> Batch:
        return {**self.source.gather(examples), **{name: array[examples] for name, array in self.targets.items()}}


def with_cached_targets(method: Method, frozen: Any, around: Any, config: ConfigDict) -> Source:
    """The training source, with the method's cached targets where it has any."""
    if method.cached_targets is None:
        return around.source
    compute = jax.jit(method.cached_targets)
    names = sorted(jax.eval_shape(method.cached_targets, frozen, around.source.gather(np.arange(1))))
    around.show(f"caching {', '.join(names)} of {len(around.source)} training examples")
    targets = {
        name: runner.predict_all(
            lambda params, _, arrays, name=name: compute(params, arrays)[name],
            frozen,
            {},
            around.source,
            batch=config.eval.batch * around.mesh.size,
            sharding=sharding.over_batch(around.mesh),
        )
        for name in names
    }
    return CachedSource(around.source, targets)
