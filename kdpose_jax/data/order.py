"""Decides which example is read when, as a pure function of (seed, epoch, position).

A run that resumes computes where it was; it stores no position.
"""

import functools

import numpy as np


@functools.lru_cache(maxsize=2)  # a batch may extend over two epochs
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Shuffles all examples: a permutation of `range(count)`, `[count]`, equal on every machine."""
    permutation = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
    permutation.setflags(write=False)
    return permutation


def batch_examples(
    seed: int, step: int, batch: int, count: int, host: int = 0, hosts: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Lists the examples that one host reads at one step.

    Positions are counted over all epochs. Step s reads positions s*batch to (s+1)*batch - 1, and
    position p is entry p % count of epoch p // count. So every example is read once per epoch, none
    is dropped at an epoch's end, and the global batch does not depend on the number of hosts.

    Args:
      seed: seed of the run.
      step: step number, from 0.
      batch: global batch size; a multiple of `hosts`.
      count: number of examples.
      host: number of this host.
      hosts: number of hosts.

    Returns:
      Numbers of the examples `[batch / hosts]`, and the epoch that each is read in, of the same
      shape.
    """
    share = batch // hosts
    first = step * batch + host * share
    examples, epochs = np.empty(share, np.int64), np.empty(share, np.int64)
    for epoch in range(first // count, (first + share - 1) // count + 1):
        begin, end = max(first, epoch * count), min(first + share, (epoch + 1) * count)
        here = slice(begin - first, end - first)
        examples[here] = epoch_order(seed, epoch, count)[
            begin - epoch * count : end - epoch * count
        ]
        epochs[here] = epoch
    return examples, epochs
