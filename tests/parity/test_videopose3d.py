"""Our VideoPose3D with imported weights against the released network (files videopose3d_* of the golden folder)."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import close, golden_files, part, precision
from tiny import quick_compiles  # noqa: F401 (a fixture)

from kdpose_jax.losses.lifting import weighted_joint_error
from kdpose_jax.models.torch_videopose3d import convert_videopose3d_state
from kdpose_jax.models.videopose3d import VideoPose3D

pytestmark = pytest.mark.usefixtures("quick_compiles")
FILES = golden_files("videopose3d_*")
# The README: float64 to 1e-9; float32 to ten times what the reference is off its own float64 twin, which a file shows by its `output/`
# and `output64/`, and which is for the values on the way 2.7e-7 and for gradients 2.3e-6 of the largest value in the worst file.
FLOAT64_RELATIVE = 1e-9
FLOAT32_RELATIVE = 2.7e-6
GRADIENT_RELATIVE = 2.3e-5


@functools.cache
def load(path):
    """(arrays, our network, its parameters and running statistics) of one golden file."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    config = json.loads(str(arrays["config"][0]))["config"]
    params, batch_stats, sizes = convert_videopose3d_state(part(arrays, "param/"))
    network = VideoPose3D(
        joints=config["num_joints_in"],
        filters=tuple(config["filter_widths"]),
        width=config["channels"],
        dropout=config["dropout"],
        causal=config["causal"],
    )
    assert sizes.pop("frames") == network.receptive_field == config["receptive_field"]
    assert sizes == {name: getattr(network, name) for name in sizes}, "the importer reads other sizes off the weights"
    return arrays, network, {"params": params, "batch_stats": batch_stats}


def inputs(path, dtype, *names):
    """Variables and inputs in one precision."""
    arrays, _, variables = load(path)
    return jax.tree.map(lambda array: jnp.asarray(array, dtype), (variables, *(arrays[f"input/{name}"] for name in names)))


@functools.cache
def forward(path, dtype):
    """{name of the recorded output: pose}, and the features of the dense form, numpy arrays."""
    _, network, _ = load(path)

    def run(variables, sequence, windows):
        pose, features = network.apply(variables, sequence)
        strided, strided_features = network.apply(variables, windows)
        # One frame more than the receptive field makes the network dense: its first prediction is that of the window.
        dense, _ = network.apply(variables, jnp.concatenate([windows, windows[:, -1:]], axis=1))
        needed = [network.receptive_field // reach for reach in np.cumprod(network.filters)]
        assert [hidden.shape[1] for hidden in strided_features["hidden"]] == needed, "the strided form computes more than it needs"
        return {"pose": pose, "pose_windows_strided": strided, "pose_windows": dense[:, :1]}, features

    with precision(dtype):
        return jax.tree.map(np.asarray, jax.jit(run)(*inputs(path, dtype, "pose2d", "windows")))


@pytest.mark.parametrize("name", ["pose", "pose_windows_strided", "pose_windows"])
@pytest.mark.parametrize("path", FILES)
def test_poses(path, name):
    arrays, _, _ = load(path)
    double, single = (forward(path, dtype)[0][name] for dtype in (np.float64, np.float32))
    wanted, wanted_single = arrays[f"output64/{name}"], arrays[f"output/{name}"]
    assert double.dtype == np.float64 and single.dtype == np.float32
    close(double, wanted, FLOAT64_RELATIVE, name)
    np.testing.assert_allclose(single, wanted_single, rtol=0, atol=10 * np.abs(wanted_single - wanted).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", FILES)
def test_values_on_the_way(path, dtype):
    arrays, _, _ = load(path)
    hidden = forward(path, dtype)[1]["hidden"]
    recorded = {name: value.swapaxes(1, 2) for name, value in part(arrays, "inter/").items()}
    assert recorded.keys() == {"expand_bn", "shrink_input"}
    close(hidden[0], np.maximum(recorded["expand_bn"], 0), FLOAT32_RELATIVE, "expand_bn")
    close(hidden[-1], recorded["shrink_input"], FLOAT32_RELATIVE, "shrink_input")


def trained(path):
    """Whether a file has a training run."""
    with np.load(path, allow_pickle=False) as file:
        return "train/loss" in file.files


TRAINED = [file for file in FILES if file.values[0] is None or trained(file.values[0])]


@pytest.mark.parametrize("path", TRAINED)
def test_training_float64(path):
    """Pose, loss, gradients and running statistics of a step on batch statistics."""
    arrays, network, _ = load(path)

    def loss(params, batch_stats, keypoints_2d, pose_3d):
        (pose, _), state = network.apply(
            {"params": params, "batch_stats": batch_stats}, keypoints_2d, deterministic=False, mutable=["batch_stats"]
        )
        error = weighted_joint_error(pose, pose_3d, np.ones(network.joints)).mean()
        return error, (pose, state["batch_stats"])

    with precision(np.float64):
        variables, *batch = inputs(path, np.float64, "pose2d", "pose3d")
        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (error, (pose, after)), gradient = jax.tree.map(np.asarray, step(variables["params"], variables["batch_stats"], *batch))
    close(pose, arrays["train64/pose"], FLOAT64_RELATIVE, "pose")
    close(error, arrays["train64/loss"], FLOAT64_RELATIVE, "loss")
    state = part(arrays, "param/")
    expected, _, _ = convert_videopose3d_state(state | part(arrays, "grad/"))
    _, statistics, _ = convert_videopose3d_state(state | part(arrays, "train64/state_after/"))
    for wanted, ours, relative in ((expected, gradient, GRADIENT_RELATIVE), (statistics, after, FLOAT64_RELATIVE)):
        for (where, value), leaf in zip(jax.tree.leaves_with_path(wanted), jax.tree.leaves(ours), strict=True):
            close(leaf, value, relative, jax.tree_util.keystr(where))
