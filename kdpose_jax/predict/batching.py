"""Divides examples into a few batch sizes, for each of which a network is compiled once."""

from collections.abc import Iterator

import numpy as np

# Each size is compiled once, when it is first needed.
GROWTH = 8


def sizes(largest: int) -> list[int]:
    """Lists the batch sizes that are used: 1, 8, 64, ... up to the largest."""
    listed = [1]
    while listed[-1] * GROWTH <= largest:
        listed.append(listed[-1] * GROWTH)
    return listed


def groups(count: int, largest: int) -> Iterator[tuple[int, int, int]]:
    """Divides examples into calls, none of which is filled up with more than it has.

    Args:
      count: number of examples.
      largest: the largest batch.

    Yields:
      (first example, number of examples, the size of the batch that holds them).
    """
    allowed, first = sizes(largest), 0
    while first < count:
        left = count - first
        size = next((size for size in allowed if size >= left), allowed[-1])
        if size > 2 * left:
            size = max(smaller for smaller in allowed if smaller <= left)
        taken = min(size, left)
        yield first, taken, size
        first += taken


def padded(examples: np.ndarray, size: int) -> np.ndarray:
    """Fills a batch up to `size` by repeating its last example: `[n, ...]` -> `[size, ...]`."""
    missing = size - len(examples)
    if missing == 0:
        return examples
    return np.concatenate([examples, np.repeat(examples[-1:], missing, axis=0)])
