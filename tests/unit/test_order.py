"""The order of examples is arithmetic on (seed, epoch, position)."""

import numpy as np
import pytest

from kdpose_jax.data import order


def read(seed, first, steps, batch, count, hosts=1):
    """What all hosts together read from step `first` on, `[steps, batch]`."""
    return np.stack(
        [
            np.concatenate(
                [
                    order.batch_examples(seed, step, batch, count, host, hosts)[0]
                    for host in range(hosts)
                ]
            )
            for step in range(first, first + steps)
        ]
    )


@pytest.mark.parametrize(("count", "batch"), [(12, 4), (10, 4), (7, 7), (5, 8), (1, 3), (13, 1)])
def test_every_epoch_reads_every_example_once(count, batch):
    """Also where an epoch ends within a batch, and where a batch is longer than an epoch."""
    epochs = 4
    examples = read(3, 0, -(-epochs * count // batch), batch, count).reshape(-1)
    for epoch in range(epochs):
        assert sorted(examples[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_positions_run_on():
    """Step s reads positions s b to s b + b - 1, position p is entry p % n of epoch p // n."""
    count, batch, seed = 10, 4, 5
    for step in range(12):
        positions = range(step * batch, (step + 1) * batch)
        expected = [
            order.epoch_order(seed, position // count, count)[position % count]
            for position in positions
        ]
        examples, passes = order.batch_examples(seed, step, batch, count)
        assert examples.tolist() == expected
        assert passes.tolist() == [position // count for position in positions]


@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
def test_the_global_batch_does_not_depend_on_the_hosts(hosts):
    np.testing.assert_array_equal(read(1, 0, 9, 8, 19, hosts), read(1, 0, 9, 8, 19))


def test_resuming_is_arithmetic():
    whole = read(2, 0, 20, 6, 17)
    np.testing.assert_array_equal(read(2, 13, 7, 6, 17), whole[13:])


def test_epochs_and_seeds_differ():
    orders = {tuple(order.epoch_order(seed, epoch, 40)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert tuple(range(40)) not in orders


def test_shuffle_is_uniform():
    """Every example stands at every place about equally often (6 standard deviations)."""
    epochs, count = 3000, 5
    places = np.array([order.epoch_order(0, epoch, count) for epoch in range(epochs)])
    for place in range(count):
        seen = np.bincount(places[:, place], minlength=count)
        assert np.abs(seen - epochs / count).max() < 6 * np.sqrt(epochs / count)


def test_the_order_stays_what_it_was():
    """Checkpoints resume into this order.

    Another generator would repeat some examples and miss others.
    """
    assert order.epoch_order(0, 0, 10).tolist() == [0, 7, 8, 6, 9, 5, 1, 3, 2, 4]
    assert order.epoch_order(7, 3, 10).tolist() == [8, 4, 5, 3, 6, 0, 9, 7, 1, 2]
    assert order.batch_examples(7, 5, 4, 10)[0].tolist() == [1, 7, 2, 9]


def test_an_epochs_order_cannot_be_changed():
    with pytest.raises(ValueError):
        order.epoch_order(0, 0, 10)[0] = 1
