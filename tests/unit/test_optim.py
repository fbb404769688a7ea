"""Learning rates by table, and the optimiser against AdamW written out in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import mesh_of

from kdpose_jax.contracts import Group, Method
from kdpose_jax.errors import UserError
from kdpose_jax.train import optim, state
from kdpose_jax.train.step import build_step

BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-6


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax's Adam raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def rate_of(schedule, *, steps=100, steps_per_epoch=10.0, warmup_epochs=0.0):
    return optim.learning_rate(
        schedule=schedule,
        learning_rate=2e-3,
        decay_per_epoch=0.9,
        drop_epochs=(3.0, 7.5),
        drop_factor=0.1,
        final_learning_rate=1e-5,
        warmup_epochs=warmup_epochs,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
    )


@pytest.mark.parametrize("warmup_epochs", [0.0, 1.5])
@pytest.mark.parametrize("steps_per_epoch", [10.0, 7.5])
@pytest.mark.parametrize("schedule", optim.SCHEDULES)
def test_rates_of_a_run(schedule, steps_per_epoch, warmup_epochs):
    rate = rate_of(schedule, steps_per_epoch=steps_per_epoch, warmup_epochs=warmup_epochs)
    warmup = warmup_epochs * steps_per_epoch
    expected = []
    for step in range(121):  # beyond the end, where a cosine stays at its final rate
        if schedule == "epoch_decay":
            value = 2e-3 * 0.9 ** math.floor(step / steps_per_epoch)
        elif schedule == "steps":
            value = 2e-3 * 0.1 ** sum(step >= epoch * steps_per_epoch for epoch in (3.0, 7.5))
        else:
            progress = min(max((step - warmup) / (100 - warmup), 0.0), 1.0)
            value = 1e-5 + (2e-3 - 1e-5) * (1 + math.cos(math.pi * progress)) / 2
        expected.append(value * (min((step + 1) / warmup, 1.0) if warmup else 1.0))
    np.testing.assert_allclose(
        jax.jit(jax.vmap(rate))(jnp.arange(121)), expected, rtol=1e-4, atol=1e-9
    )
    np.testing.assert_allclose(
        [rate(step) for step in (0, 37)], [expected[0], expected[37]], rtol=1e-4
    )


def test_landmarks_of_the_schedules():
    decay, cosine = rate_of("epoch_decay"), rate_of("cosine", warmup_epochs=2.0)
    np.testing.assert_allclose(
        [decay(0), decay(9), decay(10), decay(99)], [2e-3, 2e-3, 1.8e-3, 2e-3 * 0.9**9], rtol=1e-5
    )
    np.testing.assert_allclose(
        [cosine(0), cosine(9), cosine(19), cosine(60)],
        [1e-4, 1e-3, 2e-3, (2e-3 + 1e-5) / 2],
        rtol=1e-5,
    )
    np.testing.assert_allclose(cosine(100), 1e-5, rtol=1e-4)
    drops = rate_of("steps")
    np.testing.assert_allclose(
        [drops(29), drops(30), drops(74), drops(75), drops(99)],
        [2e-3, 2e-4, 2e-4, 2e-5, 2e-5],
        rtol=1e-5,
    )


def test_unknown_schedule_is_refused():
    with pytest.raises(
        UserError,
        match=r"^optim.schedule is 'linear': use one of epoch_decay, cosine, steps\.$",
    ):
        rate_of("linear")


class AdamW:
    """Loshchilov and Hutter's AdamW with decoupled decay, as torch has it, for one array."""

    def __init__(self, value):
        self.value, self.first, self.second, self.count = np.asarray(value, np.float64), 0.0, 0.0, 0

    def step(self, gradient, rate, decay):
        self.count += 1
        self.first = BETA1 * self.first + (1 - BETA1) * gradient
        self.second = BETA2 * self.second + (1 - BETA2) * gradient**2
        corrected = self.first / (1 - BETA1**self.count), self.second / (1 - BETA2**self.count)
        self.value = self.value * (1 - rate * decay) - rate * corrected[0] / (
            np.sqrt(corrected[1]) + EPSILON
        )


PARAMS = {
    "student": {
        "head": {"kernel": (3, 2), "bias": (2,)},
        "block_1": {"kernel": (2, 2)},
        "block_10": {"kernel": (2,)},
    },
    "projectors": {"layer_1": {"kernel": (2, 3)}},
    "temperature": (),
}
# First match wins: `block_1/` must not take block_10, and the projector's kernel is not a head's.
GROUPS = (
    Group("temperature", learning_rate_factor=10.0, plain_sgd=True),
    Group("^student/block_1/", learning_rate_factor=0.5),
    Group("projectors", weight_decay=0.0),
    Group("kernel|projectors", weight_decay=0.3),
)
WANTED = {  # factor, decay, plain
    "student/head/kernel": (1.0, 0.3, False),
    "student/head/bias": (1.0, 0.05, False),
    "student/block_1/kernel": (0.5, 0.05, False),
    "student/block_10/kernel": (1.0, 0.3, False),
    "projectors/layer_1/kernel": (1.0, 0.0, False),
    "temperature": (10.0, None, True),
}


def named(tree):
    return {
        jax.tree_util.keystr(where, simple=True, separator="/"): leaf
        for where, leaf in jax.tree.leaves_with_path(tree)
    }


def build(rate, *, groups=(), clip_norm=0.0):
    return optim.build_optimizer(
        rate,
        weight_decay=0.05,
        beta1=BETA1,
        beta2=BETA2,
        epsilon=EPSILON,
        clip_norm=clip_norm,
        groups=groups,
    )


@pytest.mark.parametrize("clip_norm", [0.0, 0.5], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("groups", [(), GROUPS], ids=["one group", "groups"])
def test_optimiser_against_numpy(groups, clip_norm):
    generator = np.random.default_rng(0)
    params = jax.tree.map(
        lambda shape: generator.normal(size=shape).astype(np.float32),
        PARAMS,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    oracles = {name: AdamW(value) for name, value in named(params).items()}
    assert oracles.keys() == WANTED.keys()
    rate = rate_of("epoch_decay", steps_per_epoch=2.0)
    optimizer = build(rate, groups=groups, clip_norm=clip_norm)
    opt_state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for step in range(8):
        gradients = jax.tree.map(
            lambda leaf: generator.normal(size=leaf.shape).astype(np.float32), params
        )
        updates, opt_state = update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
        norm = math.sqrt(
            sum(np.square(g, dtype=np.float64).sum() for g in jax.tree.leaves(gradients))
        )
        scale = min(1.0, clip_norm / norm) if clip_norm else 1.0
        assert norm > 0.5
        now = 2e-3 * 0.9 ** (step // 2)
        for name, gradient in named(gradients).items():
            factor, decay, plain = WANTED[name] if groups else (1.0, 0.05, False)
            if plain:
                oracles[name].value = oracles[name].value - now * factor * scale * gradient
            else:
                oracles[name].step(scale * gradient.astype(np.float64), now * factor, decay)
    for name, value in named(params).items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, oracles[name].value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_small_gradients_are_not_clipped():
    """Clipping limits the norm and never raises it."""
    params = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
    gradients = {"a": jnp.full(3, 0.01), "b": jnp.full(2, -0.02)}
    group = (Group("", plain_sgd=True),)
    plain, clipped = (build(lambda step: 1.0, groups=group, clip_norm=clip) for clip in (0.0, 1.0))
    results = [
        optimizer.update(gradients, optimizer.init(params), params)[0]
        for optimizer in (plain, clipped)
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)
    np.testing.assert_allclose(results[0]["a"], -gradients["a"])


def quadratic(noise):
    """A method that pulls one vector to its examples.

    With noise, its loss shows the key of the step.
    """

    def loss(params, model_state, frozen, batch, key, step):
        drawn = jax.random.normal(key) if noise else 0.0
        total = jnp.mean(jnp.square(params["student"][None] - batch["target"])) + drawn
        return total, ({"loss": (total, jnp.ones(()))}, {"steps": model_state["steps"] + 1})

    def init(key, batch):
        return {"student": jax.random.normal(key, (4,))}, {"steps": jnp.zeros(())}, {}

    def predict(params, model_state, batch):
        return params["student"]

    return Method(init=init, loss=loss, predict=predict, predict_with_flip=predict)


def run_steps(method, steps, *, ema_decay=0.0, current=None):
    batch, key = {"target": jnp.ones((2, 4))}, jax.random.key(3)
    optimizer = build(lambda step: 0.1, groups=(Group("", plain_sgd=True),))
    if current is None:
        current = state.create(
            method, optimizer, batch, key, with_ema=ema_decay > 0, mesh=mesh_of(1), fsdp=False
        )
    function = build_step(
        method,
        optimizer,
        ema_decay=ema_decay,
        accumulate=1,
        statistics_per_device=False,
        layout=state.layout(current),
    )
    losses, history = [], [np.asarray(current.params["student"])]
    for _ in range(steps):
        current, metrics = function(current, {}, batch, key)
        losses.append(float(metrics["loss"][0]))
        history.append(np.asarray(current.params["student"]))
    return current, losses, history, metrics


def test_step_descends_and_counts():
    current, losses, history, metrics = run_steps(quadratic(noise=False), 3)
    expected = history[0].astype(np.float64)
    for step, loss in enumerate(losses):
        np.testing.assert_allclose(loss, np.square(expected - 1).mean(), rtol=1e-5)
        gradient = 2 * (expected - 1) / 4
        expected = expected - 0.1 * gradient
        np.testing.assert_allclose(history[step + 1], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"][0], np.linalg.norm(gradient), rtol=1e-5)
    assert int(current.step) == 3 and float(current.model_state["steps"]) == 3
    assert current.ema is None and current.evaluated_params is current.params


def test_average_starts_as_a_plain_mean():
    """Share 1/11, 2/12, 3/13, ... until the decay of the settings is reached."""
    current, _, history, _ = run_steps(quadratic(noise=False), 6, ema_decay=0.25)
    mean = history[0].astype(np.float64)
    for taken, value in enumerate(history[1:], 1):
        share = min(0.25, taken / (taken + 10))
        mean = share * mean + (1 - share) * value
    np.testing.assert_allclose(current.ema["student"], mean, rtol=1e-5)
    assert current.evaluated_params is current.ema and np.abs(mean - history[-1]).max() > 1e-3


def test_key_of_a_step_is_a_function_of_its_number():
    """A run that goes on after step 2 draws what the whole run drew; no two steps draw the same."""
    whole = run_steps(quadratic(noise=True), 4)[1]
    half, first, _, _ = run_steps(quadratic(noise=True), 2)
    _, second, _, _ = run_steps(quadratic(noise=True), 2, current=half)
    assert first + second == whole
    clean = run_steps(quadratic(noise=False), 4)[1]
    assert len(set(np.round(np.subtract(whole, clean), 4))) == 4
