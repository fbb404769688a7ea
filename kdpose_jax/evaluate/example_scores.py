"""Holds the first figure of a table example by example, so that its uncertainty can be computed."""

from collections.abc import Hashable, Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float, Int


class ExampleScores(TypedDict):
    """What each test example adds to the first figure of the table.

    The figure is the mean over groups of sum(`sums`) / sum(`counts`). An example is what was drawn
    at once from the world: a person, or a take with all its cameras.

    Attributes:
      sums: `[N]`, in the figure's unit.
      counts: how many frames or joints each of them sums up, `[N]`, at least 1.
      groups: number of each example's group, `[N]`, from 0. Groups have equal weights.
    """

    sums: Float[np.ndarray, " N"]
    counts: Int[np.ndarray, " N"]
    groups: Int[np.ndarray, " N"]


def collect(
    sums: Float[np.ndarray, " parts"],
    counts: Int[np.ndarray, " parts"],
    examples: Sequence[Hashable],
    groups: Sequence[Hashable] | None = None,
) -> ExampleScores:
    """Adds up parts of the same example, and leaves out examples of which nothing counts.

    Args:
      sums: the sum over what counts in each part.
      counts: how much counts in each part.
      examples: the example that each part belongs to.
      groups: the group that each part belongs to; None for one group. An example that belongs to
        several groups counts as one example in each.
    """
    named = list(zip(groups or [0] * len(examples), examples, strict=True))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(named))}
    rows = np.array([numbers[name] for name in named], int)
    of_groups = {group: number for number, group in enumerate(dict.fromkeys(groups or [0]))}
    added = np.bincount(rows, np.asarray(sums, float), len(numbers))
    counted = np.bincount(rows, np.asarray(counts, float), len(numbers)).astype(int)
    belongs = np.array([of_groups[group] for group, _ in numbers], int)
    keep = counted > 0
    return ExampleScores(sums=added[keep], counts=counted[keep], groups=belongs[keep])


def of_persons(correct: Int[np.ndarray, "N J"], labelled: Int[np.ndarray, "N J"]) -> ExampleScores:
    """Collects percentages of correct joints, person by person."""
    everybody = range(len(correct))
    return collect(100 * correct.sum(-1), labelled.sum(-1), everybody)
