"""Intervals of differences, beside their closed forms."""

import numpy as np
import pytest

from kdpose_jax.evaluate import example_scores
from kdpose_jax.study import intervals


def scores(sums, counts=None, groups=None):
    number = len(sums)
    counts = np.ones(number) if counts is None else counts
    groups = np.zeros(number) if groups is None else groups
    return {
        "sums": list(sums),
        "counts": np.asarray(counts, int).tolist(),
        "groups": np.asarray(groups, int).tolist(),
    }


def test_of_one_group_it_is_the_normal_one_of_paired_differences():
    generator = np.random.default_rng(1)
    theirs = generator.normal(50, 20, 400)  # what both networks share cancels
    ours = theirs + generator.normal(-1, 3, 400)
    low, high = intervals.of_difference([(scores(ours), scores(theirs))])
    difference = ours - theirs
    error = 1.96 * difference.std() / 20
    assert low == pytest.approx(difference.mean() - error, abs=0.15 * error)
    assert high == pytest.approx(difference.mean() + error, abs=0.15 * error)


def test_examples_weigh_by_what_they_count_and_groups_equally():
    # Examples of one group differ by as much, so that no draw changes its difference.
    ours = scores([30, 90, 7], counts=[10, 30, 1], groups=[0, 0, 1])
    theirs = scores([20, 60, 2], counts=[10, 30, 1], groups=[0, 0, 1])
    assert intervals.of_difference([(ours, theirs)]) == pytest.approx((3.0, 3.0))  # (1 + 5) / 2


def test_seeds_are_drawn_too():
    nobody = scores([0.0] * 4)
    pairs = [(scores([seed] * 4), nobody) for seed in (1.0, 2.0, 6.0)]
    low, high = intervals.of_difference(pairs)
    # Of the 27 draws of three seeds one is 1, 1, 1 and one is 6, 6, 6: 3.7 % each.
    assert (low, high) == pytest.approx((1.0, 6.0))


def test_networks_that_were_scored_on_other_examples_are_not_compared():
    ours = scores([1.0, 2.0])
    assert intervals.of_difference([]) is None
    assert intervals.of_difference([(scores([1.0]), scores([2.0]))]) is None
    for other in (scores([1.0, 2.0, 3.0]), scores([1.0, 2.0], counts=[1, 2])):
        assert intervals.of_difference([(ours, other)]) is None
        assert intervals.of_difference([(ours, ours), (ours, other)]) is None


def test_parts_of_an_example_are_one_and_empty_ones_are_left_out():
    found = example_scores.collect(
        np.array([1.0, 2.0, 4.0, 8.0, 16.0]),
        np.array([1, 1, 1, 0, 3]),
        ["take a", "take b", "take a", "take c", "take a"],
        groups=["walk", "walk", "walk", "walk", "sit"],
    )
    assert found["sums"].tolist() == [5.0, 2.0, 16.0]
    assert found["counts"].tolist() == [2, 1, 3]
    assert found["groups"].tolist() == [0, 0, 1]
