"""Which example stands where: a pure function of (seed, epoch, position), so that resuming is arithmetic."""

import functools

import numpy as np


@functools.lru_cache(maxsize=2)  # a batch may lie across two epochs
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """An exact global shuffle: a permutation of `range(count)`, `[count]`, the same on every machine."""
    permutation = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
    permutation.setflags(write=False)
    return permutation


def batch_examples(
    seed: int, step: int, batch: int, count: int, host: int = 0, hosts: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The examples that one host feeds at one step.

    Positions run on over the epochs: step s reads positions s*batch to (s+1)*batch - 1, and position p is entry
    p % count of epoch p // count. So every example is read once per epoch, none is dropped at its end, and the global
    batch does not depend on the number of hosts.

    Args:
      seed: seed of the run.
      step: step number, from 0.
      batch: global batch size; a multiple of `hosts`.
      count: number of examples.
      host: this host.
      hosts: number of hosts.

    Returns:
      Example numbers `[batch / hosts]`, and the epoch that each is read in, of the same shape.
    """
    share = batch // hosts
    positions = step * batch + host * share + np.arange(share)
    epochs, places = np.divmod(positions, count)
    examples = np.empty(share, np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        examples[chosen] = epoch_order(seed, int(epoch), count)[places[chosen]]
    return examples, epochs
