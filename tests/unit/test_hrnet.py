"""HRNet and its heads.

Sizes, normalisation, gradients and compute types, on a network of a few channels.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

from kdpose_jax.codecs.keypoints_2d import count_bins
from kdpose_jax.models import initial
from kdpose_jax.models.convolution import ConvNorm
from kdpose_jax.models.hrnet import HRNet, upsample_nearest
from kdpose_jax.models.layers import BatchNorm
from kdpose_jax.models.pose_net import PoseNet
from kdpose_jax.models.simdr_head import SimDRHead

WIDTH, HEIGHT, J, C = 64, 32, 3, 4
NETWORK = PoseNet(
    joints=J,
    size=(WIDTH, HEIGHT),
    width=C,
    stem_width=C,
    blocks=1,
    modules=(1, 1, 1),
    split_ratio=2.0,
)
IMAGES = np.random.default_rng(0).normal(size=(3, HEIGHT, WIDTH, 3)).astype(np.float32)


def shapes_of(network, batch=1):
    """Abstract variables of a network and what it returns."""
    columns, rows = network.size
    images = jax.ShapeDtypeStruct((batch, rows, columns, 3), jnp.float32)
    outputs, variables = jax.eval_shape(
        functools.partial(network.init_with_output, train=False), jax.random.key(0), images
    )
    return outputs, nn.meta.unbox(variables)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# docs/methods/pose2d.md#parameter-counts: (network, its parameters, those of its backbone).
# M is MPII and C is COCO; the number is the side of the student that belongs to it.
W32, W48 = 28_535_552, 63_594_912
PUBLISHED = {
    "heatmap MPII": (PoseNet(joints=16, size=(256, 256), head="heatmap"), 28_536_080, W32),
    "heatmap COCO": (PoseNet(joints=17, size=(256, 256), head="heatmap"), 28_536_113, W32),
    "student M32": (PoseNet(joints=16, size=(32, 32), split_ratio=2.0), 28_544_400, W32),
    "student M64": (PoseNet(joints=16, size=(64, 64), split_ratio=3.0), 28_634_768, W32),
    "student C32": (PoseNet(joints=17, size=(32, 32), split_ratio=2.0), 28_544_433, W32),
    "student C64": (PoseNet(joints=17, size=(64, 64), width=48, split_ratio=3.0), 63_694_433, W48),
    "teacher M32": (PoseNet(joints=16, size=(256, 256), split_ratio=2.0), 32_731_408, W32),
    "teacher M64": (PoseNet(joints=16, size=(256, 256), split_ratio=3.0), 34_829_072, W32),
    "teacher C32": (PoseNet(joints=17, size=(256, 256), split_ratio=2.0), 32_731_441, W32),
    "teacher C64": (
        PoseNet(joints=17, size=(256, 256), width=48, split_ratio=3.0),
        69_888_737,
        W48,
    ),
}


# Tracing a whole backbone takes a second: these have it, for every width and every size of the
# input.
WITH_BACKBONE = ("student M32", "student C64", "teacher M64")


def without_backbone(call, arguments, options, context):
    """An interceptor of Flax: gives HRNet's output without its layers."""
    if not isinstance(context.module, HRNet) or context.method_name != "__call__":
        return call(*arguments, **options)
    batch, rows, columns, _ = arguments[0].shape
    return jnp.zeros((batch, rows // 4, columns // 4, context.module.width))


@pytest.mark.parametrize("name", PUBLISHED)
def test_number_of_parameters_and_shapes(name):
    """The published sizes (docs/methods/pose2d.md#parameter-counts): maps of 8, 16 or 64 cells."""
    network, parameters, of_backbone = PUBLISHED[name]
    if name in WITH_BACKBONE:
        (prediction, features), variables = shapes_of(network, batch=2)
        assert count(variables["params"]["backbone"]) == of_backbone
    else:
        with nn.intercept_methods(without_backbone):
            (prediction, features), variables = shapes_of(network, batch=2)
        assert "backbone" not in variables["params"]
        parameters -= of_backbone
    assert count(variables["params"]) == parameters
    side = {32: 8, 64: 16, 256: 64}[network.size[0]]
    assert features["joint_maps"].shape == (2, network.joints, side, side)
    if network.head == "heatmap":
        assert {key: value.shape for key, value in prediction.items()} == {
            "heatmap": (2, network.joints, side, side)
        }
    else:
        bins = round(network.size[0] * network.split_ratio)
        assert {key: value.shape for key, value in prediction.items()} == dict.fromkeys(
            "xy", (2, network.joints, bins)
        )


@functools.cache
def variables():
    """Away from the initialisation, in which running statistics and norms change nothing."""
    _, abstract = shapes_of(NETWORK)
    generator = np.random.default_rng(1)

    def draw(where, leaf):
        name = where[-1].key
        if name == "kernel":
            return generator.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        return (
            generator.uniform(0.5, 1.5, leaf.shape)
            if name in ("scale", "var")
            else 0.3 * generator.normal(size=leaf.shape)
        )

    return jax.tree.map(
        lambda array: array.astype(np.float32), jax.tree_util.tree_map_with_path(draw, abstract)
    )


@functools.cache
def evaluate(dtype=None):
    """A compiled evaluation-mode pass."""
    network = dataclasses.replace(NETWORK, dtype=dtype)
    return jax.jit(
        lambda variables, images: network.apply(
            variables, images, train=False, mutable=["batch_stats"]
        )
    )


def training_loss(params, batch_stats, images, remat=False):
    """(a linear function of the logits, running statistics) in training mode."""
    network = dataclasses.replace(NETWORK, remat=remat)
    generator = np.random.default_rng(2)
    towards = {
        name: generator.normal(size=(3, J, 2 * side)).astype(np.float32)
        for name, side in (("x", WIDTH), ("y", HEIGHT))
    }
    variables = {"params": params, "batch_stats": batch_stats}
    (prediction, _), state = network.apply(variables, images, train=True, mutable=["batch_stats"])
    return sum(jnp.sum(prediction[name] * towards[name]) for name in "xy"), state["batch_stats"]


@functools.cache
def training_pass():
    """((loss, running statistics), gradient) of one training-mode pass, and its program."""
    given = variables()["params"], variables()["batch_stats"], IMAGES
    traced = jax.jit(jax.value_and_grad(training_loss, has_aux=True)).trace(*given)
    return jax.tree.map(np.asarray, traced.lower().compile()(*given)), str(traced.jaxpr)


def test_evaluation_changes_no_statistics_and_reads_them():
    (prediction, features), state = evaluate()(variables(), IMAGES)
    assert prediction["x"].shape == (3, J, 2 * WIDTH) and prediction["y"].shape == (
        3,
        J,
        2 * HEIGHT,
    )
    assert features["joint_maps"].shape == (3, J, HEIGHT // 4, WIDTH // 4)
    jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], variables()["batch_stats"])
    shifted = variables() | {
        "batch_stats": jax.tree.map(lambda leaf: leaf + 0.1, variables()["batch_stats"])
    }
    (other, _), _ = evaluate()(shifted, IMAGES)
    assert np.abs(other["x"] - prediction["x"]).max() > 1e-2


def test_training_updates_all_statistics():
    ((_, batch_stats), _), _ = training_pass()
    for (where, before), after in zip(
        jax.tree.leaves_with_path(variables()["batch_stats"]),
        jax.tree.leaves(batch_stats),
        strict=True,
    ):
        assert np.isfinite(after).all() and np.abs(after - before).max() > 1e-4, (
            jax.tree_util.keystr(where)
        )


def test_gradients_reach_every_parameter():
    (_, gradient), _ = training_pass()
    for where, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 1e-4, jax.tree_util.keystr(where)


def test_remat_changes_nothing_but_memory():
    """Loss and statistics are the same, and every module is recomputed in the program of the
    gradient.
    """
    (plain, _), program = training_pass()
    given = variables()["params"], variables()["batch_stats"], IMAGES
    recomputing = functools.partial(training_loss, remat=True)
    loss, batch_stats = jax.jit(recomputing)(*given)
    np.testing.assert_allclose(loss, plain[0], rtol=1e-4)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), batch_stats, plain[1]
    )
    recomputed = str(jax.make_jaxpr(jax.grad(recomputing, has_aux=True))(*given))
    assert "remat" not in program and recomputed.count("remat") >= sum(NETWORK.modules)


def test_an_example_alone_is_the_example_in_a_batch():
    (together, _), _ = evaluate()(variables(), IMAGES)
    (alone, _), _ = evaluate()(variables(), IMAGES[1:2])
    for name in "xy":
        np.testing.assert_allclose(
            alone[name][0], together[name][1], rtol=0, atol=1e-4 * np.abs(together[name]).max()
        )


def test_bfloat16_computes_only():
    """Parameters, statistics, maps and logits are float32, the backbone is bfloat16, and the result
    is near the float32 one.
    """
    network = dataclasses.replace(NETWORK, dtype=jnp.dtype(jnp.bfloat16))
    _, abstract = shapes_of(network)
    assert {leaf.dtype for leaf in jax.tree.leaves(abstract)} == {jnp.dtype(jnp.float32)}
    _, state = jax.eval_shape(
        functools.partial(network.apply, capture_intermediates=True), variables(), IMAGES
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(state["intermediates"]["backbone"])} == {
        jnp.dtype(jnp.bfloat16)
    }
    (single, features), _ = evaluate()(variables(), IMAGES)
    (half, half_features), _ = evaluate(jnp.dtype(jnp.bfloat16))(variables(), IMAGES)
    for name, wanted in (single | features).items():
        ours = (half | half_features)[name]
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(
            ours, wanted, rtol=0, atol=0.05 * np.abs(wanted).max(), err_msg=name
        )
        assert (np.asarray(ours) != np.asarray(wanted)).any()


@pytest.mark.parametrize("size", [(64, 64), (32, 64), (48, 32)])
def test_images_of_another_size_are_refused(size):
    """Also where both agree on a size whose quarter cannot be halved three times."""
    network = dataclasses.replace(NETWORK, size=(48, 32)) if size == (48, 32) else NETWORK
    with pytest.raises(
        ValueError,
        match=f"{size[0]}x{size[1]} pixels do not fit a network of size "
        f"{network.size[0]}x{network.size[1]}",
    ):
        network.apply(variables(), jnp.zeros((1, size[1], size[0], 3)))


def test_unknown_heads_are_refused():
    with pytest.raises(ValueError, match="head 'simcc': use one of simdr, heatmap"):
        dataclasses.replace(NETWORK, head="simcc").apply(variables(), jnp.asarray(IMAGES))


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 2, 4), (1, 4)])
def test_batch_norm_against_numpy(shape):
    """Normalises by the biased variance and remembers the unbiased one, a tenth of it per batch.

    A single value has none.
    """
    generator = np.random.default_rng(3)
    inputs = jnp.asarray(generator.normal(2.0, 3.0, size=shape), jnp.float32)
    scale, bias, mean = generator.normal(size=(3, 4)).astype(np.float32)
    variance = generator.uniform(0.5, 2.0, 4).astype(np.float32)
    given = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": variance},
    }
    outputs, state = BatchNorm().apply(given, inputs, True, mutable=["batch_stats"])
    still = BatchNorm().apply(given, inputs, False)
    inputs = np.asarray(inputs)
    rows = inputs.reshape(-1, 4).astype(np.float64)
    unbiased = rows.var(axis=0, ddof=1) if len(rows) > 1 else 0.0
    wanted = (inputs - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-5) * scale + bias
    np.testing.assert_allclose(outputs, wanted, atol=1e-5)
    np.testing.assert_allclose(
        state["batch_stats"]["mean"], 0.9 * mean + 0.1 * rows.mean(axis=0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        state["batch_stats"]["var"], 0.9 * variance + 0.1 * unbiased, rtol=1e-5
    )
    np.testing.assert_allclose(
        still, (inputs - mean) / np.sqrt(variance + 1e-5) * scale + bias, rtol=1e-4, atol=1e-5
    )


def test_initialisation():
    """Convolutions normal with deviation 0.001, biases 0, norms 1 and 0, linear layers uniform
    within 1 / sqrt(fan in).
    """
    _, abstract = shapes_of(NETWORK)
    kinds = {
        tuple(key.key for key in path[-2:])
        for path, _ in jax.tree.leaves_with_path(abstract["params"]["backbone"])
    }
    assert kinds == {
        ("conv", "kernel"),
        ("norm", "scale"),
        ("norm", "bias"),
    }  # all of it is the module that is drawn here
    drawn = initial.variables(
        ConvNorm(32, 3), jax.random.key(0), jnp.zeros((2, 4, 4, 32)), train=True
    )
    np.testing.assert_allclose(np.std(drawn["params"]["conv"]["kernel"]), 1e-3, rtol=0.03)
    assert np.abs(np.mean(drawn["params"]["conv"]["kernel"])) < 5e-5
    for tree, name, value in (
        ("params", "scale", 1),
        ("params", "bias", 0),
        ("batch_stats", "mean", 0),
        ("batch_stats", "var", 1),
    ):
        np.testing.assert_array_equal(drawn[tree]["norm"][name], np.full(32, value, np.float32))
    with nn.intercept_methods(without_backbone):
        tree = initial.variables(
            dataclasses.replace(NETWORK, joints=200),
            jax.random.key(1),
            jnp.asarray(IMAGES),
            train=True,
        )["params"]
    np.testing.assert_allclose(np.std(tree["final_layer"]["kernel"]), 1e-3, rtol=0.1)
    assert not tree["final_layer"]["bias"].any()
    bound = (WIDTH * HEIGHT // 16) ** -0.5
    for leaf in jax.tree.leaves(tree["head"]):
        assert 0.9 * bound < np.abs(leaf).max() <= bound
        np.testing.assert_allclose(np.std(leaf), bound / np.sqrt(3), rtol=0.15)


def test_upsampling_repeats():
    values = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    expected = np.kron(values, np.ones((1, 4, 4, 1), np.float32))
    np.testing.assert_array_equal(upsample_nearest(jnp.asarray(values), 4), expected)


def test_head_reads_a_map_row_by_row():
    maps = jnp.asarray(np.random.default_rng(4).normal(size=(2, J, 2, 5)), jnp.float32)
    head = SimDRHead((6, 7))
    weights = initial.variables(head, jax.random.key(0), maps)["params"]
    prediction = head.apply({"params": weights}, maps)
    for axis, bins in (("x", 6), ("y", 7)):
        kernel = np.asarray(weights[axis]["kernel"]).reshape(2, 5, bins)
        expected = np.einsum("bjrc,rcm->bjm", np.asarray(maps), kernel) + np.asarray(
            weights[axis]["bias"]
        )
        np.testing.assert_allclose(prediction[axis], expected, atol=1e-5)


def test_marginal_head_starts_as_the_interpolated_sum_of_the_other_axis():
    maps = np.zeros((1, J, 4, 8), np.float32)
    rows, columns = np.arange(J) % 4, (3 * np.arange(J) + 1) % 8
    maps[0, np.arange(J), rows, columns] = 1.0  # one cell per joint
    head = SimDRHead((24, 8), "marginal")
    weights = initial.variables(head, jax.random.key(0), jnp.asarray(maps))
    prediction = head.apply(weights, jnp.asarray(maps))
    for axis, cells, bins, where in (("x", 8, 24, columns), ("y", 4, 8, rows)):
        positions = (np.arange(bins) + 0.5) * cells / bins - 0.5
        expected = np.stack(
            [np.interp(positions, np.arange(cells), np.eye(cells)[cell]) for cell in where]
        )
        np.testing.assert_allclose(
            prediction[axis][0], expected, atol=0.05
        )  # five deviations of the noise
        np.testing.assert_array_equal(np.argmax(prediction[axis][0], 1) * cells // bins, where)
        kernel = np.asarray(weights["params"][axis]["kernel"])
        noise = kernel.reshape(4, 8, bins) - kernel.reshape(4, 8, bins).mean(
            0 if axis == "x" else 1, keepdims=True
        )
        np.testing.assert_allclose(
            noise.std(), 0.01 * np.sqrt(3 / 4 if axis == "x" else 7 / 8), rtol=0.15
        )


@pytest.mark.parametrize(
    ("size", "ratio", "expected"),
    [
        ((32, 32), 2.0, (64, 64)),
        ((192, 256), 3.0, (576, 768)),
        ((96, 64), 2.3, (220, 147)),
        ((96, 64), 220 / 96, (220, 146)),
        ((96, 160), 241 / 96, (241, 401)),
    ],
)
def test_number_of_bins(size, ratio, expected):
    assert count_bins(size, ratio) == expected


def test_a_network_of_fewer_stages_is_the_beginning_of_a_whole_one():
    whole, short = HRNet(C, C, 1, (1, 1, 1)), HRNet(C, C, 1, (1,))
    images = jnp.asarray(IMAGES)
    variables = initial.variables(whole, jax.random.key(0), images, train=True)

    def part(tree, like):
        return {
            name: part(tree[name], like[name]) if isinstance(like[name], dict) else tree[name]
            for name in like
        }

    beginning = part(
        variables,
        networks.shapes_of(short, images, train=True),
    )
    assert count(beginning) < 0.3 * count(variables)
    captured = lambda module, _: module.name == "stage2_0"  # noqa: E731
    _, state = whole.apply(
        variables,
        images,
        True,
        capture_intermediates=captured,
        mutable=["batch_stats", "intermediates"],
    )
    branches = state["intermediates"]["stage2_0"]["__call__"][0]
    found, _ = short.apply(beginning, images, True, mutable=["batch_stats"])
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(found, branches[0], rtol=1e-5, atol=1e-6)
