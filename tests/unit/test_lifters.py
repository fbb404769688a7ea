"""Lifting networks of the literature.

Sizes and cost at full size, the frames they read, values they refuse, PyTorch weights.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ml_collections import ConfigDict
from networks import shapes_of
from torch_states import hourglass_mixste_state, poseformer_v2_state, videopose3d_state

from configs import lifters as experiments
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.cost import count_macs, count_parameters
from kdpose_jax.experiment import teachers
from kdpose_jax.pytorch import importing, videopose3d
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.tasks import lifting, lifting_networks


def network_of(text):
    """(network block, frames) of an experiment of `configs/lifters.py`."""
    config = experiments.get_config(text)
    return config.student.network, config.data.frames


@functools.cache
def cost(text, predicted=None):
    """(parameters, multiply-adds of one example) of a full-size network in evaluation, by shapes
    alone.
    """
    block, frames = network_of(text)
    network = lifting_networks.build_lifter(
        block, joints=17, frames=frames, training=False, place="student.network"
    )
    span = lifting_networks.span(block, frames, training=True)
    read = span.before + (predicted or span.predicted) + span.after
    keypoints_2d = jax.ShapeDtypeStruct((1, read, 17, 2), jnp.float32)
    variables = shapes_of(network, keypoints_2d)
    macs = count_macs(
        lambda variables, keypoints_2d: network.apply(variables, keypoints_2d)[0],
        variables,
        keypoints_2d,
    )
    return count_parameters(variables["params"]), macs


@pytest.mark.parametrize(
    ("text", "millions"),
    [
        ("mixste_hot,data=h36m", "35.00"),
        ("poseformer_v2,data=h36m,frames=27", "14.36"),
        ("videopose3d,data=h36m,frames=27", "8.56"),
        ("videopose3d,data=h36m", "16.95"),
    ],
)
def test_published_parameters(text, millions):
    assert f"{cost(text)[0] / 1e6:.2f}" == millions


def test_cost_of_hot():
    """Published with 17 times the map of the queries, which are the same for every joint.

    See docs/methods/lifting.md#hot.
    """
    _, macs = cost("mixste_hot,data=h36m")
    width, joints, frames, kept = 512, 17, 243, 81
    assert f"{2 * (macs.linear + 16 * frames * width**2) / 1e9:.2f}" == "167.51"
    pairs = 3 * joints * frames * (joints + frames) + 5 * joints * kept * (joints + kept)
    assert (
        macs.attention == 2 * width * (pairs + joints * frames * kept) + frames**2 * width
    )  # distances between frames are the last


@pytest.mark.parametrize(
    ("frames", "kept", "giga", "giga_attention"),
    [(27, 3, "0.05861", "0.0004"), (243, 27, "0.5270", "0.0147")],
)
def test_cost_of_poseformer_v2(frames, kept, giga, giga_attention):
    """Measured by PyTorch's counter, which leaves the cosine transforms out.

    That of the window, and two in each of four blocks.
    """
    _, macs = cost(f"poseformer_v2,data=h36m,frames={frames}")
    transforms = frames * kept * 34 + 4 * 2 * kept**2 * 17 * 32
    assert f"{(macs.linear - transforms) / 1e9:.{len(giga) - 2}f}" == giga
    assert f"{macs.attention / 1e9:.4f}" == giga_attention


def test_cost_of_videopose3d():
    """Dense as measured by PyTorch's counter.

    Strided by hand: every layer has a third of the outputs of the one before.
    """
    assert f"{cost('videopose3d,data=h36m', predicted=1000)[1].total / 1e9:.2f}" == "19.53"
    _, strided = cost("videopose3d,data=h36m")
    assert (
        strided.linear == 81 * 34 * 3 * 1024 + (27 + 9 + 3 + 1) * 4 * 1024**2 + 1024 * 51
        and strided.attention == 0
    )


def test_spans():
    for text, training, evaluation in (
        ("mixste", (27, 0, 0), (27, 0, 0)),
        ("mixste_hot,frames=81", (81, 0, 0), (81, 0, 0)),
        ("poseformer_v2", (1, 13, 13), (1, 13, 13)),
        ("videopose3d", (1, 13, 13), (81, 13, 13)),
    ):
        block, frames = network_of(text)
        assert lifting_networks.span(block, frames, training=True) == training
        assert lifting_networks.span(block, frames, training=False) == evaluation
    block.causal = True
    assert lifting_networks.span(block, frames, training=False) == (81, 26, 0)
    for name, evaluated in (("poseformer_v2", 1), ("videopose3d", 81)):
        block, frames = network_of(name)
        block.predicted_frames = 5
        assert lifting_networks.span(block, frames, training=True) == (5, 13, 13)
        assert lifting_networks.span(block, frames, training=False) == (evaluated, 13, 13)


@pytest.mark.parametrize("name", ["poseformer_v2", "videopose3d"])
def test_several_frames_are_predicted_as_each_one_alone(name):
    """Frame f of an example of 3 + 26 frames depends on the 27 frames from f on."""
    block, frames = network_of(name)
    network = lifting_networks.build_lifter(
        block, joints=17, frames=frames, training=True, place="student.network"
    )
    points = np.random.default_rng(3).normal(size=(2, 29, 17, 2)).astype(np.float32)
    shapes, generator = shapes_of(network, points), np.random.default_rng(4)

    def drawn(leaf):
        return (np.abs(0.3 * generator.normal(size=leaf.shape)) + 0.1).astype(np.float32)

    variables = jax.tree.map(drawn, shapes)
    apply = jax.jit(lambda points: network.apply(variables, points)[0])
    found = apply(points)
    assert found.shape == (2, 3, 17, 3)
    alone = [apply(points[:, first : first + 27])[:, 0] for first in range(3)]
    np.testing.assert_allclose(found, np.stack(alone, 1), rtol=1e-4)
    assert np.ptp(np.asarray(found), axis=1).max() > 1e-2 * np.abs(found).max()
    with pytest.raises(ValueError, match="26 frames are fewer than"):
        network.apply(variables, points[:, :26])


def test_poseformer_v2_sees_the_frames_around_its_own():
    """Of an even window too: a change that leaves the window's mean alone shows where it meets one
    of the kept frames.

    They lie around frame (F - 1) // 2, which is the one behind `before` others.
    """
    block, frames = network_of("poseformer_v2,data=h36m")[0], 10
    block.update({"width": 8, "depth": 1, "heads": 1, "kept_frames": 3, "kept_coefficients": 1})
    network = lifting_networks.build_lifter(
        block, joints=2, frames=frames, training=False, place="student.network"
    )
    generator = np.random.default_rng(0)
    windows = np.repeat(generator.normal(size=(1, frames, 2, 2)), frames, axis=0)
    windows[np.arange(frames), np.arange(frames)] += 1.0
    windows[:, 0] -= 1.0  # the first window is as it was
    keypoints_2d = jnp.asarray(windows, jnp.float32)
    shapes = shapes_of(network, keypoints_2d)
    variables = jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape).astype(np.float32), shapes
    )
    pose, _ = jax.jit(network.apply)(variables, keypoints_2d)
    moved = np.abs(pose - pose[:1]).max((1, 2, 3))
    around = (
        np.abs(np.arange(frames) - lifting_networks.span(block, frames, training=True).before) <= 1
    )
    assert around.sum() == 3 and (moved[around] > 1e-3).all() and (moved[~around] < 1e-5).all()


def test_one_frame_is_scored_by_the_plain_error():
    generator = np.random.default_rng(0)
    predicted, target = generator.normal(size=(2, 3, 1, 17, 3)).astype(np.float32)
    loss = lifting.task_loss(
        ConfigDict({"smoothness": 0.0, "velocity": 0.0}), H36M_17, 1, place="student.loss"
    )
    total, terms = loss(jnp.asarray(predicted), {"pose_3d": jnp.asarray(target)})
    np.testing.assert_allclose(
        total, np.linalg.norm(predicted - target, axis=-1).mean((1, 2)), rtol=1e-6
    )
    assert terms.keys() == {"joint_error"}
    with pytest.raises(
        UserError, match="a single frame is predicted, which has neither: set both to 0"
    ):
        lifting.task_loss(
            ConfigDict({"smoothness": 0.5, "velocity": 0.0}), H36M_17, 1, place="student.loss"
        )


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("mixste_hot", lambda features: features["pruned"]),
        ("poseformer_v2", lambda features: features["tokens"][-1]),
        ("videopose3d", lambda features: features["hidden"][-1]),
    ],
    ids=["mixste_hot", "poseformer_v2", "videopose3d"],
)
def test_compute_types(text, hidden):
    """bfloat16 in training alone; the pose is float32 always."""
    block, frames = network_of(text)
    block.compute = "bfloat16"
    keypoints_2d = jax.ShapeDtypeStruct((1, frames, 17, 2), jnp.float32)
    for training, dtype in ((True, jnp.bfloat16), (False, jnp.float32)):
        network = lifting_networks.build_lifter(
            block, joints=17, frames=frames, training=training, place="student.network"
        )
        # Flax's norms promote bfloat16 to float32 by themselves.
        with jax.numpy_dtype_promotion("standard"):
            variables = shapes_of(network, keypoints_2d)
            pose, features = jax.eval_shape(network.apply, variables, keypoints_2d)
        assert pose.dtype == jnp.float32 and hidden(features).dtype == dtype
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        (
            "mixste",
            {"name": "hot"},
            "student.network.name is 'hot': use one of .*mixste_hot",
        ),
        (
            "mixste_hot",
            {"dense_pairs": 0},
            "dense_pairs is 0: use 1 to student.network.depth, which is 2",
        ),
        ("mixste_hot", {"kept_frames": 28}, "kept_frames is 28: use 1 to data.frames, which is 27"),
        ("mixste_hot", {"neighbours": 0}, "neighbours is 0: use 1 to"),
        (
            "poseformer_v2",
            {"kept_frames": 4},
            "kept_frames is 4: use an odd number up to data.frames, which is 27",
        ),
        (
            "poseformer_v2",
            {"kept_coefficients": 28},
            "kept_coefficients is 28: use 1 to data.frames",
        ),
        ("poseformer_v2", {"heads": 3}, "width 4 is not a multiple of student.network.heads 3"),
        ("videopose3d", {"filters": (3, 4)}, "filters is .3, 4.: use odd numbers of frames"),
        ("videopose3d", {"filters": (3, 3)}, "filters .3, 3. see 9 frames, and data.frames is 27"),
        ("videopose3d", {"evaluated_frames": 0}, "evaluated_frames 0: use at least 1"),
        ("videopose3d", {"dropout": 1.0}, "dropout is 1.0: use a probability"),
        ("videopose3d", {"compute": "half"}, "compute is 'half'"),
    ],
)
def test_values_that_no_network_can_have(text, change, message):
    block, frames = network_of(text)
    block.update(change)
    with pytest.raises(UserError, match=message) as caught:
        lifting_networks.build_lifter(
            block, joints=17, frames=frames, training=True, place="student.network"
        )
    assert "\n" not in str(caught.value)


STATES = {
    "mixste_hot": (
        hourglass_mixste_state,
        {"frames": 5, "joints": 3, "width": 8, "depth": 2, "mlp_ratio": 2.0, "kept_frames": 3},
    ),
    "poseformer_v2": (
        poseformer_v2_state,
        {
            "joints": 3,
            "width": 4,
            "depth": 2,
            "mlp_ratio": 2.0,
            "kept_frames": 3,
            "kept_coefficients": 2,
        },
    ),
    "videopose3d": (
        videopose3d_state,
        {
            "joints": 3,
            "width": 4,
            "readings": ({"filters": (3, 5), "frames": 15, "dense_kernels": False},),
        },
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_published_weights_are_the_tree_of_our_network(tmp_path, name):
    """Every tensor stands somewhere in the trees, once.

    The sizes read off the file build a network with just these trees.
    """
    make, sizes = STATES[name]
    state = make()
    torch.save(
        {"epoch": 3, "model_pos": {f"module.{key}": value for key, value in state.items()}},
        tmp_path / "w.bin",
    )
    imported = importing.import_network(name, tmp_path / "w.bin")
    assert imported["sizes"] == sizes
    block, _ = network_of(name)
    sizes = sizes | (sizes["readings"][0] if "readings" in sizes else {})
    block.update(
        {key: value for key, value in sizes.items() if key in block}
        | ({"heads": 2} if "heads" in block else {})
    )
    frames = sizes["frames"] if "frames" in sizes else 9
    network = lifting_networks.build_lifter(
        block, joints=sizes["joints"], frames=frames, training=False, place="student.network"
    )
    keypoints_2d = jax.ShapeDtypeStruct((1, frames, sizes["joints"], 2), jnp.float32)
    expected = shapes_of(network, keypoints_2d)
    found = {"params": imported["params"], **imported["state"]}
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), dict(expected))
    counted = [
        np.asarray(value) for key, value in state.items() if not key.endswith("num_batches_tracked")
    ]

    def sums(arrays):
        return sorted(math.fsum(np.ravel(array).tolist()) for array in arrays)

    assert sums(jax.tree.leaves(found)) == sums(counted)
    assert (
        importing.import_pretrained(name, tmp_path / "w.bin")["params"].keys()
        == imported["params"].keys()
    )


def test_what_a_weight_file_does_not_tell_is_said():
    skeleton = "joints: h36m_17, from data.skeleton"
    said = {
        "mixste": ("4, from teacher.network.heads", skeleton),
        "mixste_hot": (
            "4, from teacher.network.heads",
            "1, from teacher.network.dense_pairs",
            "2, from teacher.network.neighbours",
            skeleton,
        ),
        "poseformer_v2": ("heads", "reads: 27, from data.frames", skeleton),
        "videopose3d": ("causal: False,", skeleton),
    }
    for name, parts in said.items():
        config = experiments.get_config(name)
        config.teacher.checkpoint = "w.bin"
        notes = teachers.assumptions(config, {"frames": 27} if name != "poseformer_v2" else {})
        assert len(notes) == len(parts) and all(
            part in note for part, note in zip(parts, notes, strict=True)
        )


def dense_by_hand(state, keypoints, reaches):
    """VideoPose3D's forward pass with plain sums.

    Kernels with a weight for every frame, each block added to its middle frame.
    """

    def layer(hidden, conv, norm):
        weight = state[f"{conv}.weight"].double().numpy()  # [out, in, frames]
        count = len(hidden) - weight.shape[2] + 1
        summed = np.stack(
            [
                np.einsum("fi,oif->o", hidden[start : start + weight.shape[2]], weight)
                for start in range(count)
            ]
        )
        mean, var, scale, bias = (
            state[f"{norm}.{name}"].double().numpy()
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return np.maximum((summed - mean) / np.sqrt(var + 1e-5) * scale + bias, 0)

    hidden = layer(keypoints.reshape(len(keypoints), -1), "expand_conv", "expand_bn")
    for block, reach in enumerate(reaches):
        changed = layer(layer(hidden, f"layers_conv.{2 * block}", f"layers_bn.{2 * block}"),
                        f"layers_conv.{2 * block + 1}", f"layers_bn.{2 * block + 1}")  # fmt: skip
        hidden = hidden[reach : reach + len(changed)] + changed
    weight, bias = (
        state["shrink.weight"].double().numpy()[..., 0],
        state["shrink.bias"].double().numpy(),
    )
    return (hidden @ weight.T + bias).reshape(len(hidden), -1, 3)


@pytest.mark.parametrize("frames", [9, 11])
def test_dense_kernels_of_videopose3d(tmp_path, frames):
    """Kernels 3, 7: dense filters of 3, 3, that see 9 frames, against sums written down here."""
    state = videopose3d_state(filters=(3, 7))
    state |= {name: value.abs() for name, value in state.items() if name.endswith("running_var")}
    torch.save(state, tmp_path / "dense.bin")
    imported = importing.import_network("videopose3d", tmp_path / "dense.bin")
    block, _ = network_of("videopose3d")
    reading, notes = videopose3d.choose_reading(imported["sizes"]["readings"], 9)
    assert (
        reading == {"filters": (3, 3), "frames": 9, "dense_kernels": True}
        and "by data.frames" in notes[0]
    )
    block.update({"filters": (3, 3), "dense_kernels": True, "width": 4})
    network = lifting_networks.build_lifter(
        block, joints=3, frames=9, training=False, place="student.network"
    )
    keypoints = np.random.default_rng(1).normal(size=(1, frames, 3, 2)).astype(np.float32)
    pose, _ = network.apply(
        {"params": imported["params"], **imported["state"]}, jnp.asarray(keypoints)
    )
    np.testing.assert_allclose(
        pose[0], dense_by_hand(state, keypoints[0].astype(np.float64), (3,)), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize(("kernels", "wanted"), [
    ((3, 3, 3), [((3, 3, 3), 27, False)]),
    ((3, 5), [((3, 5), 15, False)]),
    ((3, 7), [((3, 7), 21, False), ((3, 3), 9, True)]),
    ((3, 7, 19), [((3, 7, 19), 399, False), ((3, 3, 3), 27, True)]),
    ((3, 7, 3), [((3, 7, 3), 63, False)]),
    ((5, 11, 61), [((5, 11, 61), 3355, False), ((5, 3, 5), 75, True)]),
    ((5, 11, 46), [((5, 11, 46), 2530, False)]),
    ((1, 3), [((1, 3), 3, False)]),
    ((7,), [((7,), 7, False)]),
])  # fmt: skip
def test_kernels_that_two_networks_have(kernels, wanted):
    found = [
        (reading["filters"], reading["frames"], reading["dense_kernels"])
        for reading in videopose3d.readings_of(kernels)
    ]
    assert found == wanted
    if len(found) == 2:
        assert (
            videopose3d.choose_reading(videopose3d.readings_of(kernels), found[0][1])[0]["filters"]
            == kernels
        )
        with pytest.raises(
            UserError,
            match=f"data.frames is 5: say which with --config.data.frames={found[0][1]} or",
        ):
            videopose3d.choose_reading(videopose3d.readings_of(kernels), 5)


def test_a_teacher_of_dense_kernels_is_adopted(tmp_path):
    """By the frames of the config, which a run has to name anyway; other frames are asked for."""
    torch.save({"net": videopose3d_state(joints=17, width=8, filters=(3, 7, 19))}, tmp_path / "w")
    config = experiments.get_config("videopose3d")
    config.teacher.checkpoint = str(tmp_path / "w")
    notes = teachers.adopt_teacher(config)
    assert (
        config.teacher.network.filters == (3, 3, 3)
        and config.teacher.network.dense_kernels
        and config.teacher.network.width == 8
    )
    assert "dense filters (3, 3, 3) (27 frames), by data.frames, are assumed" in notes[0]
    config = experiments.get_config("videopose3d,frames=81")
    config.teacher.checkpoint = str(tmp_path / "w")
    with pytest.raises(
        UserError,
        match=r"^--checkpoint: The PyTorch file .*data.frames=399 or --config.data.frames=27",
    ):
        teachers.adopt_teacher(config, named="--checkpoint")


@pytest.mark.parametrize("name", STATES)
def test_other_weights_are_refused(tmp_path, name):
    state = STATES[name][0]()
    first = min(key for key in state if key.endswith("bias"))
    for changed, message in (
        ({key: value for key, value in state.items() if key != first}, rf"it lacks \['{first}'\]"),
        (
            state | {"more.weight": torch.ones(2)},
            r"it has, beyond a .* network.*, \['more.weight'\]",
        ),
        (state | {first: torch.ones(77)}, f"its tensor '{first}' has shape"),
        (
            state | {first: torch.full_like(state[first], torch.nan)},
            f"its tensor '{first}' holds values that are not finite",
        ),
    ):
        torch.save(changed, tmp_path / "w.bin")
        with pytest.raises(UserError, match=message):
            importing.import_network(name, tmp_path / "w.bin")
