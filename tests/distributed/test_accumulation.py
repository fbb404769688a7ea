"""A batch in parts takes the step of the whole batch, against closed forms in numpy, on eight
devices.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import mesh_of

from kdpose_jax.contracts import Method
from kdpose_jax.errors import UserError
from kdpose_jax.methods.loss_terms import as_metrics
from kdpose_jax.train import sharding, state
from kdpose_jax.train.step import build_step

DEVICES, EXAMPLES, WIDTH, RATE, MOMENTUM, DECAY = 8, 32, 3, 0.1, 0.9, 0.5


def least_squares(*, noise):
    """Mean squared error of x w + noise.

    Its state counts calls and keeps the mean of x that it saw last, as batch norm's would.
    """

    def loss(params, model_state, frozen, batch, key, step):
        drawn = noise * jax.random.normal(key)
        error = jnp.square(batch["x"] @ params["student"] - batch["y"] + drawn)
        seen = {"calls": model_state["calls"] + 1, "mean": batch["x"].mean(0), "noise": drawn}
        return error.mean(), (as_metrics({"loss": error}), seen)

    def init(key, batch):
        return (
            {"student": jnp.zeros(WIDTH)},
            {"calls": jnp.zeros(()), "mean": jnp.zeros(WIDTH), "noise": jnp.zeros(())},
            {},
        )

    def predict(params, model_state, batch):
        return batch["x"] @ params["student"]

    return Method(init=init, loss=loss, predict=predict, predict_with_flip=predict)


def batch_of(step):
    generator = np.random.default_rng(step)
    return {
        "x": generator.normal(size=(EXAMPLES, WIDTH)).astype(np.float32),
        "y": generator.normal(size=EXAMPLES).astype(np.float32),
    }


@functools.cache
def compiled(parts, noise):
    """The method, its optimiser and its step."""
    rate = lambda step: RATE / (1 + jnp.asarray(step, jnp.float32))  # noqa: E731
    method, optimizer = least_squares(noise=noise), optax.sgd(rate, momentum=MOMENTUM)
    layout = state.layout(new_state(method, optimizer))
    return (
        method,
        optimizer,
        build_step(
            method,
            optimizer,
            ema_decay=DECAY,
            accumulate=parts,
            statistics_per_device=False,
            layout=layout,
        ),
    )


def new_state(method, optimizer):
    """At step 0."""
    return state.create(
        method, optimizer, on_devices(0), key(), with_ema=True, mesh=mesh_of(DEVICES), fsdp=False
    )


def on_devices(step):
    """The batch of a step."""
    return jax.device_put(batch_of(step), sharding.over_batch(mesh_of(DEVICES)))


def key():
    """The root key."""
    return jax.device_put(jax.random.key(4), sharding.replicated(mesh_of(DEVICES)))


def take_steps(parts, steps, *, noise=0.0, current=None):
    """The state after some steps, and their metrics."""
    method, optimizer, step = compiled(parts, noise)
    current, collected = new_state(method, optimizer) if current is None else current, []
    for number in range(int(current.step), int(current.step) + steps):
        current, metrics = step(current, {}, on_devices(number), key())
        collected.append(jax.tree.map(float, metrics))
    return current, collected


def oracle(steps):
    """(weights, their average, losses, norms) of momentum with a falling rate, in float64."""
    weights = average = momentum = np.zeros(WIDTH)
    losses, norms = [], []
    for step in range(steps):
        x, y = (array.astype(np.float64) for array in batch_of(step).values())
        error = x @ weights - y
        gradient = 2 * x.T @ error / EXAMPLES
        momentum = gradient + MOMENTUM * momentum
        weights = weights - RATE / (1 + step) * momentum
        decay = min(DECAY, (step + 1) / (step + 11))
        average = decay * average + (1 - decay) * weights
        losses.append(np.square(error).mean())
        norms.append(np.linalg.norm(gradient))
    return weights, average, losses, norms


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_take_the_step_of_the_whole(parts):
    """Schedule, momentum, average, step count and metrics go by steps, not by parts."""
    current, metrics = take_steps(parts, 3)
    weights, average, losses, norms = oracle(3)
    np.testing.assert_allclose(current.params["student"], weights, rtol=2e-6)
    np.testing.assert_allclose(current.ema["student"], average, rtol=2e-6)
    assert int(current.step) == 3
    for found, loss, norm in zip(metrics, losses, norms, strict=True):
        assert found["loss"][1] == EXAMPLES and found["gradient_norm"][1] == 1
        np.testing.assert_allclose(found["loss"][0] / EXAMPLES, loss, rtol=1e-6)
        np.testing.assert_allclose(found["gradient_norm"][0], norm, rtol=1e-6)


def test_state_and_noise_go_by_parts():
    """Batch statistics see one part after another, and every part draws for itself."""
    current, _ = take_steps(4, 1, noise=1.0)
    assert float(current.model_state["calls"]) == 4
    # Of the last part.
    np.testing.assert_allclose(
        current.model_state["mean"], batch_of(0)["x"][3::4].mean(0), rtol=1e-5
    )
    of_step = jax.random.fold_in(jax.random.key(4), 0)
    drawn = [float(jax.random.normal(part)) for part in jax.random.split(of_step, 4)]
    np.testing.assert_allclose(float(current.model_state["noise"]), drawn[-1], rtol=1e-6)
    assert len(set(drawn)) == 4


def test_resumed_run_is_the_same_to_the_bit():
    whole, _ = take_steps(4, 4, noise=1.0)
    half, _ = take_steps(4, 2, noise=1.0)
    resumed, _ = take_steps(4, 2, noise=1.0, current=half)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.tree.map(np.asarray, whole),
        jax.tree.map(np.asarray, resumed),
    )


def test_no_example_moves_to_another_device():
    """The only thing that devices tell each other are sums.

    A part has its share of every device's examples.
    """
    method, optimizer, step = compiled(4, 0.0)
    program = step.lower(new_state(method, optimizer), {}, on_devices(0), key()).compile().as_text()
    assert "all-reduce" in program
    assert not re.findall(r"= \S+ (all-gather|all-to-all|collective-permute)", program)


def test_batch_that_cannot_be_cut_is_refused():
    mesh = mesh_of(DEVICES)
    sharding.check_batch("student.train.batch", 32, 4, mesh)
    with pytest.raises(
        UserError,
        match="^student.train.batch is 16, and 8 devices share it in 4 parts: use a multiple of "
        "32.$",
    ):
        sharding.check_batch("student.train.batch", 16, 4, mesh)
    with pytest.raises(UserError, match="^student.train.accumulate is 0: use at least 1.$"):
        sharding.check_batch("student.train.batch", 16, 0, mesh)
