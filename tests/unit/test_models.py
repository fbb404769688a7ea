"""MixSTE and its blocks.

Sizes, initialisation, stochastic depth, compute types and rematerialisation.
"""

import contextlib
import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import shapes_of

from kdpose_jax.evaluate.cost import count_parameters
from kdpose_jax.models import attending, initial, layers
from kdpose_jax.models.attention import SelfAttention
from kdpose_jax.models.layers import Linear, draw_drops, dropped
from kdpose_jax.models.mixste import MixSTE

B, F, J, C, L, A = 2, 4, 5, 8, 2, 2
NETWORK = MixSTE(joints=J, frames=F, width=C, depth=L, heads=A, mlp_ratio=2.0, drop_path=0.4)


@pytest.fixture(scope="module")
def keypoints_2d():
    return jnp.asarray(np.random.default_rng(0).normal(size=(B, F, J, 2)), jnp.float32)


@functools.cache
def params():
    """Away from the initialisation, so that position terms and norms count."""
    drawn = initial.variables(NETWORK, jax.random.key(0), jnp.zeros((B, F, J, 2)))["params"]
    generator = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.1 * generator.normal(size=leaf.shape).astype(np.float32),
        drawn,
    )


@pytest.fixture(scope="module")
def forward(keypoints_2d):
    pose, features = jax.jit(lambda params: NETWORK.apply({"params": params}, keypoints_2d))(
        params()
    )
    return np.asarray(pose), jax.tree.map(np.asarray, features)


def test_shapes_and_names_of_features(forward):
    pose, features = forward
    assert pose.shape == (B, F, J, 3)
    assert {name: [entry.shape for entry in entries] for name, entries in features.items()} == {
        "spatial": [(B, F, J, C)] * L,
        "temporal": [(B, F, J, C)] * L,
        "spatial_attention": [(B, F, A, J, J)] * L,
    }


@pytest.mark.parametrize("frames", [[0, 2, 3], [[1, 2], [3, 0]]], ids=["shared", "per window"])
def test_attention_in_chosen_frames(keypoints_2d, forward, frames):
    chosen = np.array(frames, np.int32)
    run = jax.jit(lambda points: NETWORK.apply({"params": params()}, points, True, chosen))
    pose, features = run(keypoints_2d)
    np.testing.assert_allclose(pose, forward[0], atol=1e-6)
    for some, whole in zip(
        features["spatial_attention"], forward[1]["spatial_attention"], strict=True
    ):
        for window in range(B):
            wanted = whole[window][chosen if chosen.ndim == 1 else chosen[window]]
            np.testing.assert_allclose(some[window], wanted, atol=1e-6)


def test_attention_rows_sum_to_one(forward):
    for attention in forward[1]["spatial_attention"]:
        assert attention.dtype == np.float32 and (attention > 0).all()
        np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-6)
        assert np.ptp(attention) > 0.1, "uniform attention would hide a wrong axis"


def test_self_attention_against_loops():
    """Queries, keys and values per head; rows are queries, scaled by the root of the width."""
    module, size = SelfAttention(heads=A), C // A
    tokens = jnp.asarray(np.random.default_rng(2).normal(size=(1, 3, J, C)), jnp.float32)
    weights = initial.variables(module, jax.random.key(1), tokens)["params"]
    mixed, qkv = jax.jit(module.apply)({"params": weights}, tokens)
    probabilities = attending.probabilities(qkv, A, -2)
    tokens, weights = (
        np.asarray(tokens),
        jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), weights),
    )
    for n in range(3):
        qkv = tokens[0, n] @ weights["qkv"]["kernel"] + weights["qkv"]["bias"]
        together = np.zeros((J, C))
        for head in range(A):
            query, key, value = (qkv[:, part * C + head * size :][:, :size] for part in range(3))
            for i in range(J):
                share = np.exp([query[i] @ key[j] / np.sqrt(size) for j in range(J)])
                share /= share.sum()
                np.testing.assert_allclose(probabilities[0, n, head, i], share, atol=1e-6)
                together[i, head * size : (head + 1) * size] = share @ value
        np.testing.assert_allclose(
            mixed[0, n], together @ weights["out"]["kernel"] + weights["out"]["bias"], atol=1e-5
        )


@pytest.mark.parametrize(("frames", "width", "depth"), [(243, 512, 8), (27, 64, 2), (9, 16, 1)])
def test_number_of_parameters(frames, width, depth):
    """2 L (8 C^2 + 11 C) + 3 C + (J + T) C + 4 C + 2 C + 3 C + 3 (docs/methods/lifting.md#cost)."""
    network = MixSTE(
        joints=17, frames=frames, width=width, depth=depth, heads=8, mlp_ratio=2.0, drop_path=0.0
    )
    shapes = jax.eval_shape(
        functools.partial(initial.variables, network),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, frames, 17, 2), jnp.float32),
    )
    blocks = 2 * depth * (8 * width**2 + 11 * width)
    assert count_parameters(shapes["params"]) == blocks + (3 + 17 + frames + 4 + 2 + 3) * width + 3


def test_initialisation_is_torchs():
    """Kernels and biases uniform in 1 / sqrt(fan in), norms one and zero, positions zero."""
    wide = dataclasses.replace(NETWORK, width=64, depth=1)
    tree = initial.variables(wide, jax.random.key(2), jnp.zeros((1, F, J, 2)))["params"]
    assert not tree.pop("spatial_position").any() and not tree.pop("temporal_position").any()
    checked = 0
    for where, leaf in jax.tree.leaves_with_path(tree):
        path, leaf = jax.tree_util.keystr(where, simple=True, separator="/"), np.asarray(leaf)
        if "norm" in path:
            assert (leaf == (1 if path.endswith("scale") else 0)).all(), path
            continue
        fan_in = {"joint_embedding": 2, "mlp_out": 128}
        bound = next((size for name, size in fan_in.items() if name in path), 64) ** -0.5
        assert np.abs(leaf).max() <= bound, path
        if (
            leaf.size >= 64
        ):  # a uniform law: reaches its bounds, and its deviation is the bound over sqrt(3)
            assert np.abs(leaf).max() > 0.9 * bound, path
            np.testing.assert_allclose(leaf.std(), bound / np.sqrt(3), rtol=0.25, err_msg=path)
            checked += 1
    assert (
        checked == 2 + 2 * 4 * 2 + 1
    )  # embedding, four linear layers of both blocks, kernel of the head


def test_joints_that_start_told_apart():
    wide = dataclasses.replace(NETWORK, joints=200, width=64, depth=1, joint_position_std=0.7)
    tree = initial.variables(wide, jax.random.key(4), jnp.zeros((1, F, 200, 2)))["params"]
    assert not tree["temporal_position"].any()
    np.testing.assert_allclose(np.std(tree["spatial_position"]), 0.7, rtol=0.05)


@contextlib.contextmanager
def lowered_for(platform):
    """Takes the form of a platform, on the CPU."""

    def chosen(*operands, default, **forms):
        return forms.get(platform, default)(*operands)

    with mock.patch.object(jax.lax, "platform_dependent", chosen):
        yield


def test_linear_is_affine():
    inputs = jnp.asarray(np.random.default_rng(3).normal(size=(2, 3, 4)), jnp.float32)
    module = Linear(6)
    weights = initial.variables(module, jax.random.key(0), inputs)["params"]
    expected = np.asarray(inputs) @ np.asarray(weights["kernel"]) + np.asarray(weights["bias"])
    np.testing.assert_allclose(
        module.apply({"params": weights}, inputs), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_gradients_of_linear(leading, platform):
    """In float64, of the forms of both platforms, as sums over the tokens by their definition."""
    generator = np.random.default_rng(4)
    inputs, towards = (generator.normal(size=(*leading, size)) for size in (5, 6))
    kernel, bias = generator.normal(size=(5, 6)), generator.normal(size=6)

    def pulled(inputs, kernel, bias):
        return jax.vjp(layers.affine, inputs, kernel, bias)[1](jnp.asarray(towards))

    with jax.enable_x64(True), lowered_for(platform):
        found = jax.jit(pulled)(inputs, kernel, bias)
    of_kernel, of_bias = np.zeros((5, 6)), np.zeros(6)
    for token in np.ndindex(leading):
        of_kernel += np.outer(inputs[token], towards[token])
        of_bias += towards[token]
    for one, expected in zip(found, (towards @ kernel.T, of_kernel, of_bias), strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("depth", "rates"), [(4, [0.0, 0.1, 0.2, 0.3]), (2, [0.0, 0.3]), (1, [0.0])]
)
def test_drop_rates_rise_linearly(depth, rates):
    """From 0 to the rate of the config, the same for both blocks of a pair.

    A spatial block drops the branches of single frames, a temporal block those of single joints.
    """
    batch, tokens = 500, jnp.zeros((500, J, F, C))
    positions = {"spatial_position": np.zeros((1, J, C)), "temporal_position": np.zeros((1, F, C))}
    network = dataclasses.replace(NETWORK, depth=depth, drop_path=0.3)
    bound = network.bind({"params": positions}, rngs={"drop_path": jax.random.key(0)})
    drops = bound._draw(range(depth), tokens, deterministic=False)
    assert bound._draw(range(depth), tokens, deterministic=True) == (None, None)
    if depth == 1:
        assert drops == (None, None)
        return
    assert drops[0][0].shape == (depth, 2, batch, 1, F, 1)
    assert drops[1][0].shape == (depth, 2, batch, J, 1, 1)
    for kept, factor in drops:
        np.testing.assert_allclose(factor, 1 / (1 - np.asarray(rates)), rtol=1e-6)
        for layer, rate in enumerate(rates):
            tolerance = 5 * np.sqrt(0.25 / kept[layer].size)
            assert abs(np.mean(~np.asarray(kept[layer])) - rate) <= (tolerance if rate else 0)
    later = bound._draw(range(1, depth), tokens, deterministic=False)
    np.testing.assert_allclose(later[0][1][-1], 1 / (1 - 0.3), rtol=1e-6)


def test_stochastic_depth_keeps_the_mean_and_draws_every_branch_by_itself():
    kept, factor = draw_drops(jax.random.key(0), [0.5, 0.75], (2, 4000, 1))
    branch = jnp.ones((4000, 3))
    for layer in range(2):
        drops = jax.tree.map(lambda values, layer=layer: values[layer], (kept, factor))
        for number in range(2):
            values = np.asarray(dropped(branch, drops, number))
            assert set(np.unique(values)) == {0, 2 + 2 * layer} and abs(values.mean() - 1) < 0.15
            assert (values == values[:, :1]).all()
    assert len({np.asarray(row).tobytes() for row in kept[0]}) == 2
    other, _ = draw_drops(jax.random.key(1), [0.5, 0.75], (2, 4000, 1))
    assert (other != kept).any()
    assert dropped(branch, None, 0) is branch


@functools.cache
def gradient_function(remat, scan=False):
    network = dataclasses.replace(NETWORK, remat=remat, scan=scan)

    def loss(params, keypoints_2d, key):
        pose, features = network.apply(
            {"params": params}, keypoints_2d, deterministic=False, rngs={"drop_path": key}
        )
        return jnp.square(pose).sum() + jnp.square(features["spatial_attention"][-1]).sum()

    return jax.jit(jax.value_and_grad(loss))


def assert_trains_as_the_plain_network(keypoints_2d, key, **options):
    """Asserts the same loss and the same gradients, of all parameters."""
    plain_loss, plain = gradient_function(False)(params(), keypoints_2d, key)
    loss, gradient = gradient_function(**options)(params(), keypoints_2d, key)
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-6)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(plain))
    jax.tree.map(
        lambda ours, wanted: np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5 * largest),
        gradient,
        plain,
    )


def test_remat_changes_nothing_but_memory(keypoints_2d):
    """The same loss and gradients, stochastic depth included.

    And the recomputation is really in the program.
    """
    key = jax.random.key(5)
    assert_trains_as_the_plain_network(keypoints_2d, key, remat=True)
    traces = [
        str(gradient_function(remat).trace(params(), keypoints_2d, key).jaxpr)
        for remat in (False, True)
    ]
    assert "remat" not in traces[0] and traces[1].count("remat") >= 2 * L


@pytest.mark.parametrize("remat", [False, True])
def test_a_loop_changes_nothing_but_the_program(keypoints_2d, remat):
    """The same loss and gradients, stochastic depth included; and the program has a loop."""
    key = jax.random.key(5)
    assert_trains_as_the_plain_network(keypoints_2d, key, remat=remat, scan=True)
    program = str(gradient_function(remat, scan=True).trace(params(), keypoints_2d, key).jaxpr)
    assert "scan[" in program


def test_stochastic_depth_is_on_only_in_training(keypoints_2d, forward):
    other = gradient_function(False)(params(), keypoints_2d, jax.random.key(6))[0]
    assert other != gradient_function(False)(params(), keypoints_2d, jax.random.key(5))[0]
    still = np.square(forward[0]).sum() + np.square(forward[1]["spatial_attention"][-1]).sum()
    assert abs(other - still) > 1e-4 * still


def test_bfloat16_computes_only(keypoints_2d, forward):
    """Parameters, pose and attention are float32, the blocks are bfloat16, and the result is near
    the float32 one.
    """
    network = dataclasses.replace(NETWORK, dtype=jnp.dtype(jnp.bfloat16))
    with jax.numpy_dtype_promotion(
        "standard"
    ):  # flax's norms promote bfloat16 to float32 by themselves
        shapes = shapes_of(network, keypoints_2d)["params"]
        pose, features = jax.jit(lambda params: network.apply({"params": params}, keypoints_2d))(
            params()
        )
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    assert pose.dtype == jnp.float32
    assert {leaf.dtype for leaf in features["spatial"] + features["temporal"]} == {
        jnp.dtype(jnp.bfloat16)
    }
    assert {leaf.dtype for leaf in features["spatial_attention"]} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(pose, forward[0], atol=0.05 * np.abs(forward[0]).max())
    assert (np.asarray(pose) != forward[0]).any()
