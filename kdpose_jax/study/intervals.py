"""Computes how far a difference between two networks may be chance, by the bootstrap.

Source: Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

DRAWS = 2000
PERCENT = (2.5, 97.5)


def of_difference(
    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> tuple[float, float] | None:
    """Computes the 95 % interval of the mean difference of two networks over seeds.

    Every draw takes as many seeds and as many test examples as there are, with replacement. Both
    networks and all seeds of a draw have the same examples. Examples are drawn within their group,
    so that every group keeps its weight.

    Args:
      pairs: for each seed, the `ExampleScores` of the first network and of the second, as
        results.json has them.

    Returns:
      The lowest and the highest difference, first minus second; None if the networks were not
      scored on the same examples, or on fewer than two.
    """
    first = pairs[0][0] if pairs else {"sums": ()}
    if len(first["sums"]) < 2:
        return None
    if any(
        one[key] != first[key] for pair in pairs for one in pair for key in ("counts", "groups")
    ):
        return None
    generator = np.random.default_rng(0)
    drawn = _drawn(np.asarray(first["groups"], int), generator)
    counts = np.asarray(first["counts"], float)
    figures = [[_figures(one["sums"], counts, drawn) for one in pair] for pair in pairs]
    differences = np.array([ours - theirs for ours, theirs in figures])  # [seeds, draws]
    seeds = generator.integers(0, len(pairs), (len(pairs), DRAWS))
    low, high = np.percentile(np.take_along_axis(differences, seeds, 0).mean(0), PERCENT)
    return float(low), float(high)


def _drawn(
    groups: Int[np.ndarray, " N"], generator: np.random.Generator
) -> list[tuple[Int[np.ndarray, " members"], Float[np.ndarray, "draws members"]]]:
    """Draws examples: for each group, its members and how often each of them is in each draw."""
    drawn = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        equally = np.full(len(members), 1 / len(members))
        often = generator.multinomial(len(members), equally, DRAWS)
        drawn.append((members, often.astype(float)))
    return drawn


def _figures(
    sums: Sequence[float],
    counts: Float[np.ndarray, " N"],
    drawn: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Float[np.ndarray, " draws"]:
    """Computes a network's figure in every draw: see `ExampleScores`."""
    values = np.asarray(sums, float)
    of_groups = [(often @ values[own]) / (often @ counts[own]) for own, often in drawn]
    return np.mean(of_groups, axis=0)
