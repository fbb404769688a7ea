"""The initial values of a network: one draw for all, distributed as each parameter says."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from kdpose_jax.models import initial
from kdpose_jax.models.layers import BatchNorm, Linear

CENTRE = np.arange(3000.0).reshape(60, 50)


class Several(nn.Module):
    """Two dense layers of one shape, a normal matrix around another, and batch normalisation."""

    @nn.compact
    def __call__(self, inputs, train=False):
        around = self.param("around", initial.normal(0.25, CENTRE), (2, 60, 50))
        plain = self.param("plain", initial.normal(0.5), (4000,))
        hidden = Linear(70, name="first")(inputs) + Linear(70, name="second")(inputs)
        return BatchNorm(name="norm")(hidden, train) + around.sum() + plain.sum()


def variables(seed, batch=3):
    return initial.variables(Several(), jax.random.key(seed), jnp.zeros((batch, 64)), train=False)


def test_values_have_the_distributions_that_the_parameters_name():
    found = variables(0)
    params = jax.tree.map(np.asarray, found["params"])
    for layer in ("first", "second"):  # fan in 64
        for values in params[layer].values():
            uniform = stats.uniform(-1 / 8, 1 / 4)
            assert stats.kstest(values.reshape(-1), uniform.cdf).pvalue > 1e-3
    for values, deviation in ((params["around"] - CENTRE, 0.25), (params["plain"], 0.5)):
        assert stats.kstest(values.reshape(-1), stats.norm(0, deviation).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(params["norm"]["scale"], np.ones(70))
    np.testing.assert_array_equal(params["norm"]["bias"], np.zeros(70))
    np.testing.assert_array_equal(found["batch_stats"]["norm"]["var"], np.ones(70))


def test_no_two_parameters_share_their_values():
    params = variables(0)["params"]
    pairs = (
        (params["first"]["kernel"], params["second"]["kernel"]),
        (params["around"][0] - CENTRE, params["around"][1] - CENTRE),
        (params["plain"][:3000] / 2, (params["around"][0] - CENTRE).reshape(-1)),
    )
    for one, other in pairs:
        assert abs(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]) < 0.06  # 3 deviations


def test_the_key_decides_and_the_batch_does_not():
    first, again, other = variables(0), variables(0, batch=7), variables(1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jitted = jax.jit(lambda key: initial.variables(Several(), key, jnp.zeros((1, 64))))
    jax.tree.map(
        lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-7),
        first,
        jitted(jax.random.key(0)),
    )
    assert not np.isclose(first["params"]["plain"], other["params"]["plain"]).any()


def test_a_network_is_traced_once_for_any_batch():
    traced = []

    class Traced(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            traced.append(inputs.shape)
            return Linear(3)(inputs)

    network = Traced()
    for batch in (2, 5):
        initial.variables(network, jax.random.key(0), jnp.zeros((batch, 4)))
    jax.eval_shape(
        lambda key, inputs: initial.variables(network, key, inputs),
        jax.random.key(0),
        jnp.zeros((7, 4)),
    )
    assert traced == [(1, 4)]


def test_large_parameters_are_drawn_by_themselves(monkeypatch):
    """They have the same distribution, and are not a part of the others' draw."""
    shared = variables(0)["params"]
    monkeypatch.setattr(initial, "_SHARED_DRAW", 5000)
    alone = variables(0)["params"]
    drawn = np.asarray(alone["around"]) - CENTRE
    assert stats.kstest(drawn.reshape(-1), stats.norm(0, 0.25).cdf).pvalue > 1e-3
    assert np.isclose(drawn, np.asarray(shared["around"]) - CENTRE).mean() < 0.01
    np.testing.assert_array_equal(alone["second"]["kernel"], shared["second"]["kernel"])


def test_a_network_without_its_draw_shows_it():
    """Flax's own `init` leaves NaN, which no result hides."""
    boxed = Several().init(jax.random.key(0), jnp.zeros((1, 64)))
    assert np.isnan(Several().apply(boxed, jnp.zeros((1, 64)))).all()


def test_layers_that_are_repeated_are_refused():
    class Repeated(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            rows = nn.vmap(
                Linear, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=0
            )
            return rows(4)(inputs)

    with pytest.raises(NotImplementedError, match="repeated layers"):
        initial.variables(Repeated(), jax.random.key(0), jnp.zeros((2, 3, 5)))
