"""SAPE against numpy, its kinds and execution modes against each other, and their parameters.

The counts are those of docs/methods/cdkd.md#projector-size.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import shapes_of

from kdpose_jax.methods.cdkd.adapters import (
    KINDS,
    MultiScaleAttention,
    ProjectorEnsemble,
    ScaleAdaptiveProjection,
    products,
    upsampling,
)
from kdpose_jax.methods.cdkd.losses import projection_loss
from kdpose_jax.models import initial

TINY = {"ensemble": 3, "size": 8, "rank": 5, "activation": "relu"}


def maps_of(seed, batch=2, joints=3, side=4):
    return jnp.asarray(
        np.random.default_rng(seed).normal(size=(batch, joints, side, side)), jnp.float32
    )


def count(module, *inputs, **options):
    variables = shapes_of(module, *inputs, **options)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(("joints", "parameters"), [(16, 24_048), (17, 26_960)])
def test_size_of_the_attention(joints, parameters):
    assert count(MultiScaleAttention(4), jnp.zeros((1, joints, 8, 8)), train=False) == parameters


@pytest.mark.parametrize(
    ("joints", "side", "dense"),
    [(16, 8, 201.5), (16, 16, 805.5), (17, 8, 227.5), (17, 16, 909.3)],
    ids=["M32", "M64", "C32", "C64"],
)
def test_size_of_dense_projectors(joints, side, dense):
    options = {"ensemble": 3, "size": 64, "rank": 128, "activation": "relu", "chunked": False}
    found = count(
        ProjectorEnsemble(kind="dense", **options),
        jnp.zeros((1, joints, side, side)),
        jnp.zeros((1, 3, joints)),
    )
    assert round(found / 1e6, 1) == dense


@pytest.mark.parametrize(
    ("kind", "large", "small"),
    [("lowrank", "26.9", "25.8"), ("per_joint", "50.5", "12.8"), ("kron", "3.3", "0.98")],
)
def test_size_of_other_projectors(kind, large, small):
    """`mpii64` and `mpii32` of docs/methods/cdkd.md#projector-kinds."""
    options = {"ensemble": 3, "size": 64, "rank": 128, "activation": "relu", "chunked": False}
    for side, wanted in ((16, large), (8, small)):
        found = count(
            ProjectorEnsemble(kind=kind, **options),
            jnp.zeros((1, 16, side, side)),
            jnp.zeros((1, 3, 16)),
        )
        assert f"{found / 1e6:.{len(wanted.split('.')[1])}f}" == wanted


def test_four_branches_are_three():
    """The reference's form, with the mean of the projections as a fourth one, in numpy."""
    maps = maps_of(0)
    network = ScaleAdaptiveProjection(ProjectorEnsemble(kind="dense", chunked=False, **TINY))
    variables = initial.variables(network, jax.random.key(0), maps, train=False)
    found = jax.jit(lambda v: network.apply(v, maps, False))(variables)
    shares = MultiScaleAttention(4).apply(
        {name: variables[name]["attention"] for name in ("params", "batch_stats")}, maps, False
    )
    shares = np.asarray(shares)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    assert np.ptp(shares, axis=1).min() > 1e-4, "all branches count the same: the test shows little"
    projectors = variables["params"]["projectors"]
    kernel, bias = np.asarray(projectors["kernel"]), np.asarray(projectors["bias"])
    flat = np.asarray(maps).reshape(2, -1)
    three = np.maximum(
        np.einsum("bi,jnia->nbja", flat, kernel) + bias.transpose(1, 0, 2)[:, None], 0
    )  # [N, B, J, A]
    four = np.concatenate([three, three.mean(0, keepdims=True)])
    wanted = np.einsum("bnj,nbja->bja", shares, four)
    np.testing.assert_allclose(np.asarray(found).reshape(2, 3, -1), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_chunked_is_the_same(kind):
    """Values and gradients of every parameter and of the maps."""
    maps, teacher = maps_of(0), maps_of(1, side=8)
    whole, chunked = (
        ScaleAdaptiveProjection(ProjectorEnsemble(kind=kind, chunked=chunked, **TINY))
        for chunked in (False, True)
    )
    variables = initial.variables(whole, jax.random.key(0), maps, train=False)

    def loss(network, params, maps):
        merged, _ = network.apply(
            {**variables, "params": params}, maps, True, mutable=["batch_stats"]
        )
        return projection_loss(merged, teacher).mean()

    answers = [
        jax.jit(
            jax.value_and_grad(lambda p, m, network=network: loss(network, p, m), argnums=(0, 1))
        )(variables["params"], maps)
        for network in (whole, chunked)
    ]
    jax.tree.map(
        lambda one, two: np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-6), *answers
    )
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(answers[0][1][0]["projectors"]))


def test_gradients_of_products():
    """Both gradients of the sum of r (h k) are products too; here in numpy and float64."""
    generator = np.random.default_rng(0)
    hidden, kernel, ramp = (
        generator.normal(size=shape).astype(np.float32)
        for shape in ((3, 2, 5), (3, 5, 7), (3, 2, 7))
    )
    value, (of_hidden, of_kernel) = jax.value_and_grad(
        lambda hidden, kernel: (ramp * products(hidden, kernel)).sum(), argnums=(0, 1)
    )(hidden, kernel)
    hidden, kernel, ramp = (array.astype(np.float64) for array in (hidden, kernel, ramp))
    np.testing.assert_allclose(value, (ramp * (hidden @ kernel)).sum(), rtol=1e-5)
    np.testing.assert_allclose(of_hidden, ramp @ kernel.swapaxes(1, 2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_kernel, hidden.swapaxes(1, 2) @ ramp, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunked", [False, True])
def test_the_gradient_of_a_dense_kernel_has_its_order(chunked):
    """It is a product whose axes nothing exchanges: a TPU would copy gigabytes."""
    maps, weights = maps_of(0), jnp.ones((2, 3, 3))
    network = ProjectorEnsemble(kind="dense", chunked=chunked, **TINY)
    variables = shapes_of(network, maps, weights)
    size = variables["params"]["kernel"].size // (3 if chunked else 1)

    def loss(variables):
        return jnp.square(network.apply(variables, maps, weights)).sum()

    program = str(jax.make_jaxpr(jax.grad(loss))(variables))
    made = re.findall(r"f32\[([\d,]+)\] = (\w+)\[", program)
    large = [kind for shape, kind in made if math.prod(map(int, shape.split(","))) >= size]
    assert "dot_general" in large and "transpose" not in large


def test_chunked_never_makes_all_projections():
    """No array of the chunked program, backward pass included, is as large as all projections
    together.
    """
    maps, teacher = maps_of(0, batch=4), maps_of(1, batch=4, side=16)

    def makes_all(chunked):
        ensemble = ProjectorEnsemble(
            kind="per_joint", ensemble=3, size=16, rank=1, activation="relu", chunked=chunked
        )
        network = ScaleAdaptiveProjection(ensemble)
        variables = shapes_of(network, maps, train=False)

        def loss(params, maps):
            merged, _ = network.apply(
                {**variables, "params": params}, maps, True, mutable=["batch_stats"]
            )
            return projection_loss(merged, teacher).mean()

        variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
        program = str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(variables["params"], maps))
        shapes = [
            sorted(map(int, shape.split(","))) for shape in re.findall(r"f32\[([\d,]+)\]", program)
        ]
        return sorted((3, 3, 4, 256)) in shapes

    assert makes_all(False) and not makes_all(True)


def test_kron_is_a_dense_map():
    """The same outputs as dense projectors whose matrices are numpy's Kronecker products."""
    maps, weights = (
        maps_of(0),
        jnp.asarray(np.random.default_rng(1).uniform(size=(2, 3, 3)), jnp.float32),
    )
    kron, dense = (
        ProjectorEnsemble(kind=kind, chunked=False, **TINY) for kind in ("kron", "dense")
    )
    params = initial.variables(kron, jax.random.key(0), maps, weights)["params"]
    bias = jnp.asarray(np.random.default_rng(2).normal(size=params["bias"].shape), jnp.float32)
    mixing, spatial = (
        np.asarray(params["mixing"]),
        np.asarray(params["kernel"]),
    )  # [N, J, K], [N, C, A]
    matrices = np.stack(
        [np.kron(c, d.T) for c, d in zip(mixing, spatial, strict=True)]
    )  # [N, J A, K C]
    kernel = matrices.reshape(3, 3, 64, 48).transpose(1, 0, 3, 2)  # [J, N, K C, A]
    one = kron.apply({"params": {**params, "bias": bias}}, maps, weights)
    other = dense.apply({"params": {"kernel": jnp.asarray(kernel), "bias": bias}}, maps, weights)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_kron_starts_as_upsampling():
    """Each joint's own map, enlarged, plus noise that differs between the projectors."""
    maps = maps_of(0)
    options = {"ensemble": 1, "size": 8, "rank": 1, "activation": "none", "chunked": False}
    network = ProjectorEnsemble(kind="kron", **options)
    variables = initial.variables(network, jax.random.key(0), maps, jnp.ones((2, 1, 3)))
    found = np.asarray(network.apply(variables, maps, jnp.ones((2, 1, 3)))).reshape(6, -1)
    wanted = (np.asarray(maps).reshape(6, -1) @ upsampling(4, 8)).reshape(6, -1)
    assert min(np.corrcoef(one, two)[0, 1] for one, two in zip(found, wanted, strict=True)) > 0.9
    several = ProjectorEnsemble(kind="kron", **{**options, "ensemble": 3})
    kernel = initial.variables(several, jax.random.key(0), maps, jnp.ones((2, 3, 3)))["params"][
        "kernel"
    ]
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-2


def test_upsampling_reproduces_planes():
    """x at the larger side is r times x at the smaller one, so a ramp becomes a finer ramp, held at
    its end.
    """
    column = np.broadcast_to(np.arange(4.0), (4, 4))
    found = (column.reshape(-1) @ upsampling(4, 16)).reshape(16, 16)
    np.testing.assert_allclose(
        found, np.broadcast_to(np.minimum(np.arange(16) / 4, 3), (16, 16)), atol=1e-12
    )


@pytest.mark.parametrize(("batch", "joints"), [(1, 3), (2, 1), (1, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_single_examples_and_joints(kind, batch, joints):
    """What the reference's squeezes fail on."""
    maps = maps_of(0, batch=batch, joints=joints)
    network = ScaleAdaptiveProjection(ProjectorEnsemble(kind=kind, chunked=False, **TINY))
    variables = initial.variables(network, jax.random.key(0), maps, train=False)
    merged, _ = network.apply(variables, maps, True, mutable=["batch_stats"])
    assert merged.shape == (batch, joints, 8, 8) and np.isfinite(merged).all()


def test_attention_runs_on_batch_statistics():
    """In training mode a change of one example changes the others' weights, and the statistics
    move; else not.
    """
    maps = maps_of(0)
    network = MultiScaleAttention(4)
    variables = initial.variables(network, jax.random.key(0), maps, train=False)
    changed = maps.at[0].multiply(3.0)
    one, updated = network.apply(variables, maps, True, mutable=["batch_stats"])
    two, _ = network.apply(variables, changed, True, mutable=["batch_stats"])
    assert np.abs(one[1] - two[1]).max() > 1e-4
    moved = jax.tree.map(
        lambda old, new: bool(np.any(old != new)), variables["batch_stats"], updated["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))
    np.testing.assert_array_equal(
        network.apply(variables, maps, False)[1], network.apply(variables, changed, False)[1]
    )
