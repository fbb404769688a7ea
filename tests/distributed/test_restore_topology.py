"""A checkpoint is restored onto any number of devices, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from kdpose_jax.checkpoint import loading
from kdpose_jax.checkpoint.manager import Checkpoints

OPTIMISER = optax.adamw(1e-3)


def make_mesh(devices: int) -> jax.sharding.Mesh:
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def initial_state() -> dict:
    keys = jax.random.split(jax.random.key(5), 2)
    params = {
        "student": {
            "kernel": jax.random.normal(keys[0], (16, 24)),
            "bias": jax.random.normal(keys[1], (24,)),
        }
    }
    opt_state = OPTIMISER.init(params)
    opt_state = jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), opt_state)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    return {
        "step": jnp.asarray(7, jnp.int32),
        "params": params,
        "model_state": {},
        "opt_state": opt_state,
        "ema": half,
    }


def shardings(tree, mesh):
    """Matrices split over their first axis, everything else replicated."""

    def sharding(leaf):
        return NamedSharding(
            mesh, PartitionSpec("data") if len(leaf.shape) == 2 else PartitionSpec()
        )

    return jax.tree.map(sharding, tree)


def on_mesh(tree, mesh):
    """The abstract tree to restore onto `mesh`."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        shardings(tree, mesh),
    )


def save(directory, state):
    checkpoints = Checkpoints(
        directory,
        keep_latest=1,
        keep_best=0,
        best_metric="mpjpe_mm",
        best_is_lowest=True,
        asynchronous=True,
    )
    checkpoints.save(7, state, {"method": "scjd"}, None)
    checkpoints.close()


def restore(directory, abstract_state):
    checkpoints = Checkpoints(
        directory,
        keep_latest=1,
        keep_best=0,
        best_metric="mpjpe_mm",
        best_is_lowest=True,
        asynchronous=True,
    )
    state, _ = checkpoints.restore(abstract_state)
    checkpoints.close()
    return state


def assert_same_bits(tree, expected, devices):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    for leaf, other in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        assert len(leaf.sharding.device_set) == devices
        assert leaf.dtype == other.dtype
        assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_restore_on_fewer_devices_and_back(tmp_path, devices):
    state = initial_state()
    all_devices, few_devices = make_mesh(8), make_mesh(devices)
    save(tmp_path / "wide", jax.device_put(state, shardings(state, all_devices)))
    few = restore(tmp_path / "wide", on_mesh(state, few_devices))
    assert_same_bits(few, state, devices)
    assert few["params"]["student"]["kernel"].addressable_shards[0].data.shape == (
        16 // devices,
        24,
    )
    save(tmp_path / "narrow", few)
    assert_same_bits(restore(tmp_path / "narrow", on_mesh(state, all_devices)), state, 8)


@pytest.mark.parametrize("devices", [1, 2])
def test_teacher_of_eight_devices_is_loaded_on_fewer(tmp_path, devices):
    state = initial_state()
    save(tmp_path / "checkpoints", jax.device_put(state, shardings(state, make_mesh(8))))
    wanted = on_mesh(state["params"], make_mesh(devices))
    step = loading.explicit(f"{tmp_path}/latest")
    variables, _, _ = loading.load_variables(step, {"params": wanted}, prefer_ema=False)
    assert_same_bits(variables["params"], state["params"], devices)
    assert loading.fingerprint(variables["params"]) == loading.fingerprint(state["params"])
