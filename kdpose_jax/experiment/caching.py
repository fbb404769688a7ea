"""Targets that never change during training, computed once per example."""

import dataclasses
from collections.abc import Callable
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

    @property
    def unit(self) -> tuple[str, int]:
        return self.source.unit

    def gather(self, examples: np.ndarray, passes: np.ndarray | None = None) -> Batch:
        return {**self.source.gather(examples, passes), **{name: array[examples] for name, array in self.targets.items()}}


def with_cached_targets(
    method: Method, frozen: Any, source: Source, config: ConfigDict, mesh: jax.sharding.Mesh, show: Callable[[str], None]
) -> Source:
    """The training source, with the method's cached targets where it has any."""
    if method.cached_targets is None:
        return source
    compute = jax.jit(method.cached_targets)
    names = sorted(jax.eval_shape(method.cached_targets, frozen, source.gather(np.arange(1))))
    show(f"caching {', '.join(names)} of {len(source)} training examples")
    targets = runner.predict_all(
        lambda params, _, arrays: compute(params, arrays),
        frozen,
        {},
        source,
        batch=sharding.evaluation_batch(config.eval.batch, mesh),
        sharding=sharding.over_batch(mesh),
    )
    return CachedSource(source, targets)
