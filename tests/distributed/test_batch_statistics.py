"""Devices that each take the statistics of their share make the mean of what each share alone
gives. The oracle is one device that gets one share after another, without a mesh.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import example_batch, mesh_of, recording, run_of

from benchmarks import hlo
from kdpose_jax.contracts import Method
from kdpose_jax.experiment.run import build
from kdpose_jax.methods.loss_terms import as_metrics
from kdpose_jax.models import initial
from kdpose_jax.models.layers import BatchNorm
from kdpose_jax.train import sharding, state
from kdpose_jax.train.step import build_step

DEVICES, EXAMPLES, WIDTH = 4, 16, 3
SHARE = EXAMPLES // DEVICES


def normalised(*, noise):
    """Mean squared error of a weighted sum of normalised inputs, and of what is drawn."""
    norm = BatchNorm()

    def init(key, batch):
        variables = initial.variables(norm, key, batch["x"], train=False)
        params = {"norm": variables["params"], "weights": jnp.arange(1.0, WIDTH + 1)}
        return {"student": params}, {"batch_stats": variables["batch_stats"]}, {}

    def loss(params, model_state, frozen, batch, key, step):
        student = params["student"]
        outputs, updated = norm.apply(
            {"params": student["norm"], **model_state},
            batch["x"],
            train=True,
            mutable=["batch_stats"],
        )
        drawn = noise * jax.random.normal(key, batch["y"].shape)
        error = jnp.square(jnp.tanh(outputs) @ student["weights"] - batch["y"] + drawn)
        metrics = as_metrics({"loss": error, "drawn": drawn})
        return error.mean(), (metrics, {"batch_stats": updated["batch_stats"]})

    def predict(params, model_state, batch):
        return batch["x"] @ params["student"]["weights"]

    return Method(init=init, loss=loss, predict=predict, predict_with_flip=predict)


def batch_of_numbers():
    """Shares of different places and sizes, so that their statistics differ."""
    generator = np.random.default_rng(0)
    place = np.repeat(np.arange(DEVICES), SHARE)[:, None]
    return {
        "x": (place + (1 + place) * generator.normal(size=(EXAMPLES, WIDTH))).astype(np.float32),
        "y": generator.normal(size=EXAMPLES).astype(np.float32),
    }


def stepped(method, batch, frozen, *, per_device, devices=DEVICES, parts=1):
    """One step: (state before it, after it with its gradients, metrics, program)."""
    mesh = mesh_of(devices)
    everywhere = sharding.replicated(mesh)
    optimizer = optax.chain(recording(), optax.sgd(0.1))
    batch = jax.device_put(batch, sharding.over_batch(mesh))
    key = jax.device_put(jax.random.key(4), everywhere)
    current = state.create(method, optimizer, batch, key, with_ema=False, mesh=mesh, fsdp=False)
    before = jax.tree.map(np.asarray, current)
    step = build_step(
        method,
        optimizer,
        ema_decay=0.0,
        accumulate=parts,
        statistics_per_device=per_device,
        layout=state.layout(current),
    )
    arguments = (current, jax.device_put(frozen, everywhere), batch, key)
    program = step.lower(*arguments).compile()
    after, metrics = program(*arguments)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(after))
    return before, jax.tree.map(np.asarray, after), jax.tree.map(float, metrics), program.as_text()


def of_shares(method, before, frozen, batch, *, parts=1):
    """What the shares give one after another on one device.

    (mean gradient, summed metrics, mean statistics), reduced in float64.
    """
    gradient = jax.jit(jax.grad(method.loss, has_aux=True))
    key, grads, metrics, states = jax.random.fold_in(jax.random.key(4), 0), [], [], []
    for device in range(DEVICES):
        share = {name: array[device * SHARE :][:SHARE] for name, array in batch.items()}
        own, model_state = jax.random.fold_in(key, device), before.model_state
        keys = [own] if parts == 1 else jax.random.split(own, parts)
        for part in range(parts):
            cut = {name: array[part::parts] for name, array in share.items()}
            found, (values, model_state) = gradient(
                before.params, model_state, frozen, cut, keys[part], before.step
            )
            grads.append(found)
            metrics.append(values)
        states.append(model_state)
    over = lambda reduce, trees: jax.tree.map(  # noqa: E731
        lambda *leaves: reduce(np.asarray(leaves, np.float64), axis=0), *trees
    )
    return over(np.mean, grads), over(np.sum, metrics), over(np.mean, states)


def assert_same(found, expected, rtol):
    """Compares trees; beside `rtol`, differences are measured by the largest value."""
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for (where, wanted), value in zip(
        jax.tree.leaves_with_path(expected), jax.tree.leaves(found), strict=True
    ):
        np.testing.assert_allclose(
            value, wanted, rtol=rtol, atol=1e-6 * largest, err_msg=jax.tree_util.keystr(where)
        )


def differ(first, second):
    """The largest difference, relative to the largest value."""
    pairs = [*zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)]
    return max(np.abs(one - two).max() for one, two in pairs) / max(
        np.abs(one).max() for one, _ in pairs
    )


@pytest.mark.parametrize("parts", [1, 2])
def test_the_step_is_the_mean_of_the_shares(parts):
    """Every device draws for itself, and its parts move its running statistics in turn."""
    method, batch = normalised(noise=1.0), batch_of_numbers()
    before, after, metrics, _ = stepped(method, batch, {}, per_device=True, parts=parts)
    grads, sums, statistics = of_shares(method, before, {}, batch, parts=parts)
    assert_same(after.opt_state[0], grads, 1e-6)
    assert_same(after.model_state, statistics, 1e-6)
    for name, (total, count) in sums.items():
        assert metrics[name][1] == count == EXAMPLES
        np.testing.assert_allclose(metrics[name][0], total, rtol=1e-5, err_msg=name)
    _, whole, _, _ = stepped(method, batch, {}, per_device=False, parts=parts)
    assert differ(whole.opt_state[0], after.opt_state[0]) > 0.1
    assert differ(whole.model_state, after.model_state) > 0.1


def test_one_device_takes_the_step_of_the_batch():
    method, batch = normalised(noise=1.0), batch_of_numbers()
    apart, whole = (
        stepped(method, batch, {}, per_device=per_device, devices=1)[1:3]
        for per_device in (True, False)
    )
    jax.tree.map(np.testing.assert_array_equal, apart, whole)


def exchanges(program):
    """Counts what the devices exchange, by kind. Loops count as often as they run."""
    return {kind: count for kind, (count, _) in hlo.parse(program).collectives().items()}


def test_devices_meet_once_however_many_parts_there_are():
    method, batch = normalised(noise=1.0), batch_of_numbers()
    one, four = (
        exchanges(stepped(method, batch, {}, per_device=True, parts=parts)[3]) for parts in (1, 4)
    )
    assert one == four == {"all-reduce": 1}


@functools.cache
def distilled():
    """A step of CDKD with teacher and adapters: (method, batch, teacher, result of `stepped`)."""
    config = run_of("cdkd", "demo", "student").config
    built = build(run_of("cdkd", "demo", "student"), 64)
    batch = jax.tree.map(np.asarray, example_batch(config, EXAMPLES))
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(built.method.init, jax.random.key(0), batch)[2]
    frozen = jax.tree.map(
        lambda leaf: generator.uniform(0.05, 0.15, leaf.shape).astype(leaf.dtype), shapes
    )
    return built.method, batch, frozen, stepped(built.method, batch, frozen, per_device=True)


def test_cdkd_takes_the_mean_of_the_shares():
    method, batch, frozen, (before, after, metrics, _) = distilled()
    grads, sums, statistics = of_shares(method, before, frozen, batch)
    assert_same(after.opt_state[0], grads, 1e-5)
    assert_same(after.model_state, statistics, 1e-5)
    for name, (total, count) in sums.items():
        assert metrics[name][1] == count
        np.testing.assert_allclose(metrics[name][0], total, rtol=1e-5, err_msg=name)


def test_devices_meet_once_in_a_step_of_cdkd():
    """With the statistics of the whole batch they meet 96 times, in every normalisation."""
    assert exchanges(distilled()[3][3]) == {"all-reduce": 1}
