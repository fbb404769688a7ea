"""Devices that share the large parameters take the same step as devices that each keep a copy, and
hold an eighth of them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec
from networks import shapes_of
from tiny import example_batch, mesh_of, recording, run_of

from kdpose_jax.experiment import memory
from kdpose_jax.experiment.run import build
from kdpose_jax.methods.cdkd.adapters import ProjectorEnsemble
from kdpose_jax.train import sharding, state
from kdpose_jax.train.step import build_step

DEVICES = 8
KERNEL = ("projection", "projectors", "kernel")


@functools.cache
def started():
    """CDKD with dense projectors on 8 devices that share them.

    (method, optimiser, batch, teacher, key, state at step 0, its layout).
    """
    run = run_of("cdkd", "demo", "student")
    config = run.config
    config.distill.projection.kind, config.distill.projection.ensemble = "dense", 1
    built = build(run, 64)
    method, optimizer = built.method, optax.chain(recording(), built.optimizer)
    mesh = mesh_of(DEVICES)
    everywhere = sharding.replicated(mesh)
    batch = jax.device_put(example_batch(config, DEVICES), sharding.over_batch(mesh))
    key = jax.device_put(jax.random.key(0), everywhere)
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(method.init, key, batch)[2]
    frozen = jax.tree.map(
        lambda leaf: generator.uniform(0.05, 0.15, leaf.shape).astype(leaf.dtype), shapes
    )
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer power
        before = state.create(method, optimizer, batch, key, with_ema=False, mesh=mesh, fsdp=True)
    return (
        method,
        optimizer,
        batch,
        jax.device_put(frozen, everywhere),
        key,
        jax.tree.map(np.asarray, before),
        state.layout(before),
    )


@functools.cache
def take_step(fsdp):
    """One step from the same state: (state after it, metrics)."""
    method, optimizer, batch, frozen, key, before, shared = started()
    layout = (
        shared if fsdp else jax.tree.map(lambda _: sharding.replicated(mesh_of(DEVICES)), shared)
    )
    step = build_step(
        method, optimizer, ema_decay=0.0, accumulate=1, statistics_per_device=False, layout=layout
    )
    with jax.numpy_dtype_promotion("standard"):
        after, metrics = step(jax.device_put(before, layout), frozen, batch, key)
    return after, jax.tree.map(float, metrics)


def leaf(tree, path):
    return functools.reduce(lambda node, name: node[name], path, tree)


@pytest.fixture(scope="module", autouse=True)
def enough_devices():
    if jax.device_count() < DEVICES:
        pytest.skip(f"needs {DEVICES} devices, and there are {jax.device_count()}")


def test_the_step_is_the_same():
    before, (whole, metrics), (shared, shared_metrics) = (
        started()[5],
        take_step(False),
        take_step(True),
    )
    for name, (total, count) in metrics.items():
        assert shared_metrics[name][1] == count
        np.testing.assert_allclose(shared_metrics[name][0], total, rtol=1e-6, err_msg=name)
    gradients, shared_gradients = whole.opt_state[0], shared.opt_state[0]
    largest = max(float(np.abs(np.asarray(leaf)).max()) for leaf in jax.tree.leaves(gradients))
    for (where, expected), found in zip(
        jax.tree.leaves_with_path(gradients), jax.tree.leaves(shared_gradients), strict=True
    ):
        np.testing.assert_allclose(
            found, expected, rtol=1e-4, atol=1e-6 * largest, err_msg=jax.tree_util.keystr(where)
        )
    moved = np.asarray(leaf(whole.params, KERNEL)) - leaf(before.params, KERNEL)
    shared_moved = np.asarray(leaf(shared.params, KERNEL)) - leaf(before.params, KERNEL)
    # Adam's first step is the learning rate in the gradient's direction, whatever its size, so that
    # round-off shows at zero alone.
    size = np.abs(np.asarray(leaf(gradients, KERNEL)))
    clear = size > 1e-3 * size.max()
    assert clear.mean() > 0.1 and np.abs(moved[clear]).min() > 0
    np.testing.assert_allclose(shared_moved[clear], moved[clear], rtol=1e-2)


def test_every_device_holds_an_eighth():
    shared, _ = take_step(True)
    joints, ensemble, inputs, area = leaf(started()[5].params, KERNEL).shape
    held = {name: value for name, value in named(shared) if "projection/projectors/kernel" in name}
    assert len(held) == 4  # the parameter, its gradient as recorded, two moments
    for name, value in held.items():
        assert value.sharding.spec == PartitionSpec(None, None, None, "data"), name
        assert [shard.data.shape for shard in value.addressable_shards] == [
            (joints, ensemble, inputs, area // DEVICES)
        ] * DEVICES
        assert {shard.index[-1].start or 0 for shard in value.addressable_shards} == set(
            range(0, area, area // DEVICES)
        )


def test_estimate_is_what_a_device_holds():
    method, optimizer, batch = started()[:3]
    for fsdp in (False, True):
        after, _ = take_step(fsdp)
        with jax.numpy_dtype_promotion("standard"):
            found = memory.estimate(
                method,
                optimizer,
                batch,
                batch=DEVICES,
                accumulate=1,
                devices=DEVICES,
                with_ema=False,
                fsdp=fsdp,
                platform="cpu",
            )
        first = jax.devices()[0]
        held = lambda tree: sum(  # noqa: E731
            shard.data.nbytes
            for value in jax.tree.leaves(tree)
            for shard in value.addressable_shards
            if shard.device == first  # noqa: B023
        )
        assert found.parameters == held((after.params, after.model_state))
        assert found.gradients == held(after.params)
        assert found.optimizer == held(after.opt_state)


@pytest.mark.parametrize("chunked", [False, True])
def test_dense_kernels_are_never_collected(chunked):
    """The devices exchange the maps of the whole batch, which are small, and not their parts of the
    kernel: it would not fit.
    """
    examples, joints, side = 16, 4, 16
    module, mesh = ProjectorEnsemble("dense", 2, side, 1, "relu", chunked), mesh_of(DEVICES)

    def described(*shape):
        return jax.ShapeDtypeStruct(shape, np.float32, sharding=sharding.over_batch(mesh))

    maps, weights = described(examples, joints, 8, 8), described(examples, 2, joints)
    params = shapes_of(module, maps, weights)
    layout = sharding.layout(params, mesh, fsdp=True, shared_axes=(("kernel$", -1),))
    params = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        params,
        layout,
    )

    def gradient(params, maps, weights, target):
        return jax.grad(
            lambda params: jnp.square(module.apply(params, maps, weights) - target).mean()
        )(params)

    compiled = (
        jax.jit(gradient, out_shardings=layout)
        .lower(params, maps, weights, described(examples, joints, side, side))
        .compile()
    )
    kernel = params["params"]["kernel"]
    assert kernel.sharding.spec == PartitionSpec(None, None, None, "data")
    assert compiled.memory_analysis().temp_size_in_bytes < memory.size_of(kernel) / 4


def named(tree):
    return [
        (jax.tree_util.keystr(where, simple=True, separator="/"), value)
        for where, value in jax.tree.leaves_with_path(tree)
    ]


@pytest.mark.parametrize(
    ("path", "shape", "axis"),
    [
        ("student/kernel", (512, 1024), 1),  # the largest
        ("student/kernel", (1024, 512), 0),
        ("student/kernel", (1024, 1024), 1),  # the last of equals
        ("student/kernel", (1025, 512), 1),  # the largest that eight can share
        ("student/kernel", (1025, 1025), None),  # none
        ("student/kernel", (8, 64), None),  # too small
        ("wide/kernel", (4, 2**16, 64), 2),  # as named
        ("mu/wide/kernel", (4, 2**16, 64), 2),  # moments follow their parameter
        ("wide/kernel", (4, 2**16, 63), 1),  # not as named, since 63 cannot be shared
        ("student/step", (), None),
    ],
)
def test_axis_that_is_shared(path, shape, axis):
    leaf = jax.ShapeDtypeStruct(shape, np.float32)
    assert sharding.shared_axis(path, leaf, DEVICES, (("wide/kernel$", -1),)) == axis
