"""Batches ahead of the loop and padded evaluation batches."""

import itertools
import threading

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from kdpose_jax.data import order
from kdpose_jax.data.batches import TrainBatches, evaluation_batches, to_global
from kdpose_jax.errors import StalledError
from kdpose_jax.evaluate.runner import predict_all


class Numbers:
    """A source whose example n is the number 10 n."""

    def __init__(self, count, broken_at=None):
        self.count, self.broken_at = count, broken_at

    def __len__(self):
        return self.count

    unit = ("numbers", 1)

    def gather(self, examples, passes=None):
        if self.broken_at in examples:
            raise OSError("the source broke")
        passes = np.full(len(examples), -1) if passes is None else passes
        return {"value": 10.0 * np.asarray(examples, np.float32), "pass": passes.astype(np.int32)}


def over_batch(devices):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    return NamedSharding(mesh, PartitionSpec("data"))


@pytest.mark.parametrize("first_step", [0, 5])
def test_training_batches_follow_the_order_from_any_step(first_step):
    batches = TrainBatches(
        Numbers(7), seed=3, batch=4, first_step=first_step, sharding=over_batch(2), patience=60.0
    )
    try:
        for step in range(first_step, first_step + 6):
            batch = next(batches)
            expected, passes = order.batch_examples(3, step, 4, 7)
            np.testing.assert_array_equal(batch["pass"], passes)
            np.testing.assert_array_equal(batch["example"], expected)
            np.testing.assert_array_equal(batch["value"], 10.0 * expected)
            assert batches.waited >= 0
    finally:
        batches.close()


@pytest.mark.parametrize("devices", [1, 4])
def test_a_batch_lies_on_its_devices_with_the_values_and_types_of_the_host(devices):
    generator = np.random.default_rng(0)
    batch = {
        "image": generator.integers(0, 256, (4, 3, 3, 3), np.uint8),
        "joints": generator.standard_normal((4, 5, 2), np.float32),
        "mask": np.array([True, False, True, True]),
    }
    place = over_batch(devices)
    placed = to_global(batch, place)
    assert set(placed) == set(batch)
    for name, array in placed.items():
        assert array.sharding == place and array.dtype == batch[name].dtype
        np.testing.assert_array_equal(array, batch[name])
        assert [shard.data.shape[0] for shard in array.addressable_shards] == [
            4 // devices
        ] * devices


def test_an_error_of_the_source_reaches_the_loop():
    batches = TrainBatches(
        Numbers(5, broken_at=2),
        seed=0,
        batch=5,
        first_step=0,
        sharding=over_batch(1),
        patience=60.0,
    )
    with pytest.raises(OSError, match="the source broke"):
        next(batches)
    batches.close()


def test_a_source_that_hangs_ends_the_run_with_a_sentence(monkeypatch):
    hangs = threading.Event()

    class Hanging(Numbers):
        def gather(self, examples, passes=None):
            if 2 in examples:
                hangs.wait()
            return super().gather(examples, passes)

    monkeypatch.setattr("kdpose_jax.data.batches.SECONDS_TO_CLOSE", 0.1)
    first = int(
        np.flatnonzero(order.batch_examples(0, 0, 5, 5)[0] == 2)[0]
    )  # the step of one example each that reads number 2
    batches = TrainBatches(
        Hanging(5), seed=0, batch=1, first_step=0, sharding=over_batch(1), patience=0.5
    )
    with pytest.raises(
        StalledError,
        match=rf"No batch came for 0.5 s at step {first}, .*raise train.patience_seconds",
    ):
        for _ in range(6):
            next(batches)
    batches.close()  # returns, although the thread hangs
    hangs.set()


def test_close_ends_a_thread_that_waits_for_room(monkeypatch):
    monkeypatch.setattr("kdpose_jax.data.batches.BATCHES_AHEAD", 1)
    batches = TrainBatches(
        Numbers(5), seed=0, batch=5, first_step=0, sharding=over_batch(1), patience=60.0
    )
    next(batches)
    batches.close()
    assert not batches._thread.is_alive()


@pytest.mark.parametrize(
    ("count", "batch", "devices"), [(1, 4, 4), (8, 4, 2), (9, 4, 2), (13, 8, 8)]
)
def test_evaluation_sees_every_example_once_in_order(count, batch, devices):
    seen = []
    for arrays in evaluation_batches(Numbers(count), batch, over_batch(devices)):
        assert arrays["value"].shape == (batch,)
        seen.append(np.asarray(arrays["example"])[np.asarray(arrays["mask"])])
    np.testing.assert_array_equal(list(itertools.chain(*seen)), np.arange(count))
    predicted = predict_all(
        lambda params, state, arrays: arrays["value"] + params,
        1.0,
        {},
        Numbers(count),
        batch=batch,
        sharding=over_batch(devices),
    )
    np.testing.assert_array_equal(predicted, 10.0 * np.arange(count) + 1)
    tree = predict_all(
        lambda params, state, arrays: {"a": (arrays["value"],), "b": arrays["pass"]},
        1.0,
        {},
        Numbers(count),
        batch=batch,
        sharding=over_batch(devices),
    )
    np.testing.assert_array_equal(tree["a"][0], 10.0 * np.arange(count))
    np.testing.assert_array_equal(tree["b"], np.full(count, -1))  # evaluation augments nothing
