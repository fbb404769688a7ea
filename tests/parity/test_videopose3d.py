"""Our VideoPose3D with imported weights against the released network (files videopose3d_* of the
golden folder).
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import close, golden_files, part, precision, single_slack

from kdpose_jax.losses.lifting import weighted_joint_error
from kdpose_jax.models.videopose3d import VideoPose3D
from kdpose_jax.pytorch.videopose3d import choose_reading, convert_videopose3d_state

FILES = golden_files("videopose3d_*")
# The README: float64 to 1e-9; float32 to ten times what the reference is off its own float64 twin,
# which a file shows by its `output/` and `output64/`, and which is for the values on the way 2.7e-7
# and for gradients 2.3e-6 of the largest value in the worst file.
FLOAT64_RELATIVE = 1e-9
FLOAT32_RELATIVE = 2.7e-6
GRADIENT_RELATIVE = 2.3e-5


@functools.cache
def load(path):
    """(arrays, our network, its parameters and running statistics) of one golden file."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    config = json.loads(str(arrays["config"][0]))["config"]
    if config["num_joints_in"] != config["num_joints_out"] or config["in_features"] != 2:
        pytest.skip(
            "a network whose joints out are not those in, in the plane: this program has none"
        )
    params, batch_stats, sizes = convert_videopose3d_state(part(arrays, "param/"))
    network = VideoPose3D(
        joints=config["num_joints_in"],
        filters=tuple(config["filter_widths"]),
        width=config["channels"],
        dropout=config["dropout"],
        causal=config["causal"],
        dense_kernels=config["dense"],
    )
    assert network.receptive_field == config["receptive_field"]
    sizes |= choose_reading(sizes.pop("readings"), network.receptive_field)[0]
    assert sizes.pop("frames") == network.receptive_field
    assert sizes == {name: getattr(network, name) for name in sizes}, (
        "the importer reads other sizes off the weights"
    )
    return arrays, network, {"params": params, "batch_stats": batch_stats}


def inputs(path, dtype, *names):
    """Variables and inputs in one precision."""
    arrays, _, variables = load(path)
    return jax.tree.map(
        lambda array: jnp.asarray(array, dtype),
        (variables, *(arrays[f"input/{name}"] for name in names)),
    )


@functools.cache
def forward(path, dtype):
    """{name of the recorded output: pose}, and the features of the dense form, numpy arrays."""
    arrays, network, _ = load(path)

    def run(variables, sequence, windows):
        pose, features = network.apply(variables, sequence)
        strided, strided_features = network.apply(variables, windows)
        # One frame more than the receptive field makes the network dense: its first prediction is
        # that of the window.
        dense, _ = network.apply(variables, jnp.concatenate([windows, windows[:, -1:]], axis=1))
        needed = [network.receptive_field // reach for reach in np.cumprod(network.filters)]
        computed = [hidden.shape[1] for hidden in strided_features["hidden"]]
        assert network.dense_kernels or computed == needed, (
            "the strided form computes more than it needs"
        )
        return {
            "pose": pose,
            "pose_windows_strided": strided,
            "pose_windows": dense[:, :1],
        }, features

    def run_sequence(variables, sequence):
        pose, features = network.apply(variables, sequence)
        return {"pose": pose}, features

    with precision(dtype):
        if "input/windows" not in arrays:
            return jax.tree.map(np.asarray, jax.jit(run_sequence)(*inputs(path, dtype, "pose2d")))
        return jax.tree.map(np.asarray, jax.jit(run)(*inputs(path, dtype, "pose2d", "windows")))


@pytest.mark.parametrize("path", FILES)
def test_poses(path):
    """Every recorded one: of a sequence, and of windows by the strided and the dense form."""
    arrays, _, _ = load(path)
    recorded = part(arrays, "output64/")
    assert "pose" in recorded
    for name, wanted in recorded.items():
        double, single = (forward(path, dtype)[0][name] for dtype in (np.float64, np.float32))
        assert double.dtype == np.float64 and single.dtype == np.float32
        close(double, wanted, FLOAT64_RELATIVE, name)
        close(single, arrays[f"output/{name}"], single_slack(arrays, "output", 1e-6), name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", FILES)
def test_values_on_the_way(path, dtype):
    arrays, _, _ = load(path)
    hidden = forward(path, dtype)[1]["hidden"]
    recorded = {name: value.swapaxes(1, 2) for name, value in part(arrays, "inter/").items()}
    ours = {"expand_bn": hidden[0], "shrink_input": hidden[-1]}
    assert recorded and recorded.keys() <= ours.keys()
    if "expand_bn" in recorded:
        # Recorded in front of the ReLU.
        recorded["expand_bn"] = np.maximum(recorded["expand_bn"], 0)
    for name, value in recorded.items():
        close(ours[name], value, single_slack(arrays, "output", FLOAT32_RELATIVE), name)


def trained(path):
    """Whether a file has a training run."""
    with np.load(path, allow_pickle=False) as file:
        return "train/loss" in file.files


TRAINED = [file for file in FILES if file.values[0] is None or trained(file.values[0])] or [
    pytest.param(
        None,
        marks=pytest.mark.skip(reason="no golden file videopose3d_* with a training run"),
        id="absent",
    )
]


@pytest.mark.parametrize("path", TRAINED)
def test_training_float64(path):
    """Pose, loss, gradients and running statistics of a step on batch statistics."""
    arrays, network, _ = load(path)

    def loss(params, batch_stats, keypoints_2d, pose_3d):
        (pose, _), state = network.apply(
            {"params": params, "batch_stats": batch_stats},
            keypoints_2d,
            deterministic=False,
            mutable=["batch_stats"],
        )
        error = weighted_joint_error(pose, pose_3d, np.ones(network.joints)).mean()
        return error, (pose, state["batch_stats"])

    with precision(np.float64):
        variables, *batch = inputs(path, np.float64, "pose2d", "pose3d")
        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (error, (pose, after)), gradient = jax.tree.map(
            np.asarray, step(variables["params"], variables["batch_stats"], *batch)
        )
    close(pose, arrays["train64/pose"], FLOAT64_RELATIVE, "pose")
    close(error, arrays["train64/loss"], FLOAT64_RELATIVE, "loss")
    state = part(arrays, "param/")
    expected, _, _ = convert_videopose3d_state(state | part(arrays, "grad/"))
    _, statistics, _ = convert_videopose3d_state(state | part(arrays, "train64/state_after/"))
    for wanted, ours, relative in (
        (expected, gradient, GRADIENT_RELATIVE),
        (statistics, after, FLOAT64_RELATIVE),
    ):
        for (where, value), leaf in zip(
            jax.tree.leaves_with_path(wanted), jax.tree.leaves(ours), strict=True
        ):
            close(leaf, value, relative, jax.tree_util.keystr(where))
