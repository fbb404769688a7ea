"""A step on 8 devices is the step on one.

The same losses from the same batches, and a state that lies on all of them.
"""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from tiny import example_batch, mesh_of, run_of

from kdpose_jax.errors import UserError
from kdpose_jax.experiment.run import build
from kdpose_jax.train import sharding, state
from kdpose_jax.train.step import build_step

EXAMPLES, STEPS = 8, 3


@functools.cache
def train(devices):
    """Three steps with stochastic depth, phase augmentation and an average.

    (losses and norms, the last state, the batch).
    """
    run = run_of("scjd", "demo", "student")
    config = run.config
    config.student.network.drop_path, config.student.network.depth = 0.2, 2
    config.student.input.phase_augmentation = True
    built = build(run, 64)
    method, optimizer = built.method, built.optimizer
    mesh = mesh_of(devices)
    everywhere = sharding.replicated(mesh)
    key = jax.device_put(jax.random.key(1), everywhere)
    batches = [
        jax.device_put(example_batch(config, EXAMPLES, seed), sharding.over_batch(mesh))
        for seed in range(STEPS)
    ]
    collected = []
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer power
        current = state.create(
            method, optimizer, batches[0], key, with_ema=True, mesh=mesh, fsdp=False
        )
        generator = np.random.default_rng(0)
        shapes = jax.eval_shape(method.init, key, batches[0])[2]
        teacher = jax.tree.map(
            lambda leaf: generator.normal(size=leaf.shape).astype(leaf.dtype), shapes
        )
        frozen = jax.device_put(teacher, everywhere)
        step = build_step(
            method,
            optimizer,
            ema_decay=0.9,
            accumulate=1,
            statistics_per_device=False,
            layout=state.layout(current),
        )
        for batch in batches:
            current, metrics = step(current, frozen, batch, key)
            collected.append(jax.tree.map(float, metrics))
    return collected, current, batches[-1], step._cache_size()


@pytest.fixture(scope="module")
def on_one():
    return train(1)


@pytest.fixture(scope="module")
def on_eight():
    if jax.device_count() < 8:
        pytest.skip(f"needs 8 devices, and there are {jax.device_count()}")
    return train(8)


def test_losses_are_those_of_one_device(on_one, on_eight):
    for single, several in zip(on_one[0], on_eight[0], strict=True):
        assert single.keys() == several.keys()
        for name, (total, count) in single.items():
            assert several[name][1] == count == (1 if name == "gradient_norm" else EXAMPLES)
            np.testing.assert_allclose(
                several[name][0], total, rtol=1e-6 if name == "loss" else 1e-5, err_msg=name
            )
    losses = [metrics["loss"][0] for metrics in on_one[0]]
    assert len(set(losses)) == STEPS


def test_parameters_are_those_of_one_device(on_one, on_eight):
    for name in ("params", "ema"):
        pairs = zip(
            jax.tree.leaves(getattr(on_one[1], name)),
            jax.tree.leaves(getattr(on_eight[1], name)),
            strict=True,
        )
        for single, several in pairs:
            # Adam moves a parameter whose gradient is round-off by up to the learning rate, 2e-3,
            # either way.
            difference = np.abs(np.asarray(single) - np.asarray(several))
            assert np.median(difference) < 1e-6 and difference.max() < 2 * STEPS * 2e-3


def test_the_batch_is_shared_and_the_state_replicated(on_eight):
    _, current, batch, programs = on_eight
    for leaf in jax.tree.leaves(batch):
        assert len(leaf.sharding.device_set) == 8 and not leaf.sharding.is_fully_replicated
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {EXAMPLES // 8}
    for where, leaf in jax.tree.leaves_with_path(current):
        assert len(leaf.sharding.device_set) == 8 and leaf.sharding.is_fully_replicated, (
            jax.tree_util.keystr(where)
        )
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert all(np.array_equal(copy, copies[0]) for copy in copies)
    assert programs == 1, (
        "the state comes back in another layout, so the second step was compiled again"
    )


def test_mesh_has_all_devices_on_one_axis():
    mesh = sharding.make_mesh()
    assert mesh.axis_names == ("data",) and mesh.size == jax.device_count()
    assert sharding.replicated(mesh) == NamedSharding(mesh, PartitionSpec())
    assert sharding.over_batch(mesh) == NamedSharding(mesh, PartitionSpec("data"))


@pytest.mark.parametrize("batch", [0, 4, 12])
def test_batch_that_cannot_be_shared_is_refused(batch):
    mesh = mesh_of(8)
    sharding.check_batch("train.batch", 16, 1, mesh)
    with pytest.raises(
        UserError, match=f"^train.batch is {batch}, and 8 devices share it: use a multiple of 8.$"
    ):
        sharding.check_batch("train.batch", batch, 1, mesh)
