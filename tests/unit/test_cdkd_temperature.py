"""The temperature, its reversal and its schedule against docs/methods/cdkd.md#temperature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdpose_jax.methods.cdkd import losses
from kdpose_jax.methods.cdkd.temperature import reversal_strength, temperature

OPTIONS = {"start": 1.0, "reach": 20.0, "limit": 6.0, "trained": True}
STEPS_PER_EPOCH = 4.0


RELEASE, REVERSED = (1.0, 0.0), (0.0, -1.0)


def strength(epoch, ends, loops):
    step = jnp.asarray(int(epoch * STEPS_PER_EPOCH))
    return reversal_strength(
        step,
        ends=ends,
        loops=loops,
        steps=210 * int(STEPS_PER_EPOCH),
        steps_per_epoch=STEPS_PER_EPOCH,
    )


# docs/methods/cdkd.md#temperature: epoch, the release's lambda, CTKD's over 210 epochs and over 10.
@pytest.mark.parametrize(
    ("epoch", "release", "long", "short"),
    [
        (0, 1, 0, 0),
        (5, 0.999, -0.001, -0.5),
        (10, 0.994, -0.006, -1),
        (105, 0.5, -0.5, -1),
        (210, 0, -1, -1),
    ],
)
def test_table_of_the_spec(epoch, release, long, short):
    for ends, loops, wanted in (
        (RELEASE, 0, release),
        (RELEASE, 210, release),
        (REVERSED, 0, long),
        (REVERSED, 10, short),
    ):
        np.testing.assert_allclose(strength(epoch, ends, loops), wanted, atol=6e-4)


def test_it_stays_at_its_end():
    for ends in (RELEASE, REVERSED, (0.9, 0.1)):
        np.testing.assert_allclose(strength(300, ends, 10), ends[1], atol=1e-6)


# 0.1 + 0.8 (1 + cos(pi e / 40)) / 2, by hand.
@pytest.mark.parametrize(
    ("epoch", "wanted"), [(0, 0.9), (10, 0.782843), (20, 0.5), (30, 0.217157), (40, 0.1), (60, 0.1)]
)
def test_other_ends(epoch, wanted):
    np.testing.assert_allclose(strength(epoch, (0.9, 0.1), 40), wanted, atol=1e-6)


def test_first_temperature():
    np.testing.assert_allclose(
        temperature(jnp.asarray(1.0), jnp.asarray(-0.3), **OPTIONS), 15.621172, rtol=1e-7
    )


@pytest.mark.parametrize("factor", [-1.0, -0.25, 0.0, 1.0])
def test_gradient_is_multiplied(factor):
    """By lambda, whatever its sign, and the value is the same."""
    tau = 0.37
    value, gradient = jax.value_and_grad(
        lambda tau: temperature(tau, jnp.asarray(factor), **OPTIONS)
    )(jnp.asarray(tau))
    sigmoid = 1 / (1 + np.exp(-tau))
    np.testing.assert_allclose(value, 1 + 20 * sigmoid, rtol=1e-6)
    np.testing.assert_allclose(gradient, factor * 20 * sigmoid * (1 - sigmoid), rtol=1e-5)


def test_untrained_has_no_gradient():
    options = {**OPTIONS, "trained": False}
    value, gradient = jax.value_and_grad(
        lambda tau: temperature(tau, jnp.asarray(-1.0), **options)
    )(jnp.asarray(1.0))
    np.testing.assert_allclose(value, 15.621172, rtol=1e-7)
    assert gradient == 0


@pytest.mark.parametrize("tau", [50.0, -50.0])
def test_limit(tau):
    """Beyond the limit the temperature stands still, and a gradient still leads back."""
    value, gradient = jax.value_and_grad(lambda tau: temperature(tau, jnp.asarray(1.0), **OPTIONS))(
        jnp.asarray(tau)
    )
    np.testing.assert_allclose(value, 1 + 20 / (1 + np.exp(-np.sign(tau) * 6)), rtol=1e-6)
    assert gradient > 0


@pytest.mark.parametrize(("factor", "sign"), [(-1.0, 1), (1.0, -1)])
def test_reversed_descent_makes_it_harder(factor, sign):
    """With lambda = -1 a step of plain gradient descent raises the alignment loss.

    With the release's +1 it lowers it.
    """
    generator = np.random.default_rng(0)
    student = {axis: jnp.asarray(generator.normal(size=(2, 3, 8)), jnp.float32) for axis in "xy"}
    teacher = {
        axis: jnp.asarray(3 * generator.normal(size=(2, 3, 32)), jnp.float32) for axis in "xy"
    }
    options = {
        "grouping": "floor",
        "order": "temper_then_sum",
        "reduction": "mean",
        "weight": None,
        "target_gradient": True,
    }

    def loss(tau):
        heat = temperature(tau, jnp.asarray(factor), **OPTIONS)
        return losses.alignment_loss(student, teacher, heat, **options).mean()

    tau = jnp.asarray(-2.0)
    before, gradient = jax.value_and_grad(loss)(tau)
    assert abs(gradient) > 1e-4
    after = loss(tau - 0.1 * gradient / abs(gradient))
    assert np.sign(after - before) == sign
