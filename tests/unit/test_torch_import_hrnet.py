"""HRNet's PyTorch weights.

Every tensor read once and exactly, other files refused in one sentence.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from golden import golden_files
from networks import shapes_of
from torch_states import hrnet_state, mixste_state

from kdpose_jax.errors import UserError
from kdpose_jax.models.pose_net import PoseNet
from kdpose_jax.pytorch import importing

# Of `hrnet_state()`: 128 cells are those of 32 x 64 pixels, with 2 bins a pixel.
SIZES = {
    "width": 4,
    "stem_width": 4,
    "blocks": 1,
    "modules": (1, 1, 2),
    "joints": 3,
    "head": "simdr",
    "split_ratio": 2.0,
    "size": (32, 64),
}


@pytest.fixture(scope="module")
def state():
    return hrnet_state()


def save(path, state):
    torch.save(state, path)
    return path


def in_torch_order(leaf):
    """Our layout -> PyTorch's: linear kernels [in, out], convolutions [rows, columns, in, out]."""
    return leaf.transpose({1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[leaf.ndim])


def assert_same_tensors(trees, state):
    """Every tensor but the counters stands somewhere in the trees, once."""

    def seen(arrays):
        return sorted((array.shape, array.tobytes()) for array in arrays)

    wanted = [
        np.asarray(array)
        for name, array in state.items()
        if not name.endswith("num_batches_tracked")
    ]
    assert seen(in_torch_order(leaf) for leaf in jax.tree.leaves(trees)) == seen(wanted)


def assert_tree_of_network(params, batch_stats, network):
    columns, rows = network.size
    images = jax.ShapeDtypeStruct((1, rows, columns, 3), jnp.float32)
    expected = shapes_of(network, images, train=False)
    found = {"params": params, "batch_stats": batch_stats}
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), dict(expected))


def test_pose_network_is_the_tree_of_ours(tmp_path, state):
    params, batch_stats, sizes = importing.import_hrnet(save(tmp_path / "w.pth", state))
    assert sizes == SIZES
    assert_tree_of_network(params, batch_stats, PoseNet(**sizes))
    assert_same_tensors((params, batch_stats), state)
    head, norm = params["head"], state["stage3.0.fuse_layers.2.0.1.1.running_var"]
    assert np.array_equal(head["x"]["kernel"], state["mlp_head_x.weight"].T) and np.array_equal(
        head["y"]["bias"], state["mlp_head_y.bias"]
    )
    assert np.array_equal(batch_stats["backbone"]["stage3_0"]["fuse_2_0_1"]["norm"]["var"], norm)
    kernel = params["backbone"]["transition2_2"]["conv"]["kernel"]
    assert np.array_equal(kernel, state["transition2.2.0.0.weight"].permute(2, 3, 1, 0))


def test_heatmap_network(tmp_path):
    state = hrnet_state(blocks=2, modules=(1, 2, 1), head=())
    params, batch_stats, sizes = importing.import_hrnet(save(tmp_path / "w.pth", state))
    assert sizes == SIZES | {
        "blocks": 2,
        "modules": (1, 2, 1),
        "head": "heatmap",
        "split_ratio": None,
        "size": None,
    }
    assert_tree_of_network(
        params, batch_stats, PoseNet(**sizes | {"size": (32, 32), "split_ratio": 2.0})
    )
    assert_same_tensors((params, batch_stats), state)


@pytest.mark.parametrize(
    ("head", "size", "ratio"),
    [
        ((96, 96, 64), (32, 32), 3.0),
        ((512, 512, 4096), (256, 256), 2.0),
        ((384, 512, 3072), (192, 256), 2.0),
        ((147, 220, 384), (64, 96), pytest.approx(2.2969, abs=1e-4)),
    ],
)
def test_size_of_the_input_is_read_off_the_head(tmp_path, head, size, ratio):
    _, _, sizes = importing.import_hrnet(save(tmp_path / "w.pth", hrnet_state(head=head)))
    assert (sizes["size"], sizes["split_ratio"]) == (size, ratio)


@pytest.mark.parametrize("path", golden_files("hrnet_*"))
def test_released_states_survive_a_file(tmp_path, path):
    with np.load(path, allow_pickle=False) as file:
        state = {
            name.removeprefix("param/"): torch.from_numpy(file[name])
            for name in file.files
            if name.startswith("param/")
        }
    params, batch_stats, _ = importing.import_hrnet(save(tmp_path / "w.pth", state))
    assert_same_tensors((params, batch_stats), state)


@pytest.mark.parametrize("kind", ["data-parallel", "of a running training", "without counters"])
def test_files_of_training_scripts(tmp_path, state, kind):
    """As SimCC's train.py writes them.

    The last state of a data-parallel network, or all there is at the end of an epoch.
    """
    saved = {f"module.{name}": value for name, value in state.items()}
    if kind == "of a running training":  # its `model` is the network's name
        saved = {
            "epoch": 3,
            "model": "pose_hrnet",
            "state_dict": saved,
            "best_state_dict": state,
            "perf": np.float64(0.5),
        }
    elif kind == "without counters":  # PyTorch before 0.4.1 had none
        saved = {
            name: value for name, value in state.items() if not name.endswith("num_batches_tracked")
        }
    params, batch_stats, sizes = importing.import_hrnet(save(tmp_path / "w.pth", saved))
    assert sizes == SIZES
    assert_same_tensors((params, batch_stats), state)


def imagenet_state():
    """A network that classifies.

    All outputs of the last module, no joints, and what pools the branches.
    """
    state = {
        name: value
        for name, value in hrnet_state(head=()).items()
        if not name.startswith("final_layer")
    }
    wider = hrnet_state(modules=(1, 1, 3), head=())
    unused = {
        name: value
        for name, value in wider.items()
        if name.startswith(tuple(f"stage4.1.fuse_layers.{i}." for i in (1, 2, 3)))
    }
    assert len(unused) > 50
    for name in ("incre_modules.0.0.conv1", "downsamp_modules.1.0", "final_layer.0", "classifier"):
        unused[f"{name}.weight"] = torch.ones(2, 2)
    return state, unused


def test_imagenet_network_without_what_classifies(tmp_path, state):
    backbone, unused = imagenet_state()
    params, batch_stats = importing.import_imagenet_hrnet(
        save(tmp_path / "hrnet_w4.pth", backbone | unused)
    )
    assert_same_tensors((params, batch_stats), backbone)
    pose_params, pose_stats, _ = importing.import_hrnet(save(tmp_path / "pose.pth", state))
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, pose_params["backbone"])
    assert jax.tree.map(np.shape, batch_stats) == jax.tree.map(np.shape, pose_stats["backbone"])


def test_imagenet_network_is_no_pose_network(tmp_path):
    backbone, unused = imagenet_state()
    path = save(tmp_path / "hrnet_w4.pth", backbone | unused)
    with pytest.raises(
        UserError,
        match="no tensor 'final_layer.weight'; name the checkpoint of an HRNet pose network",
    ):
        importing.import_hrnet(path)
    path = save(tmp_path / "odd.pth", backbone | unused | {"attention.weight": torch.ones(2)})
    with pytest.raises(UserError, match=r"has, beyond an HRNet backbone, \['attention.weight'\]"):
        importing.import_imagenet_hrnet(path)


@pytest.mark.parametrize(
    ("name", "replacement", "message"),
    [
        (
            "conv1.weight",
            None,
            "no tensor 'conv1.weight'; name the checkpoint of an HRNet pose network",
        ),
        (
            "stage4.0.branches.0.0.conv1.weight",
            None,
            "no tensor 'stage4.0.branches.0.0.conv1.weight'",
        ),
        (
            "stage2.0.fuse_layers.1.0.0.1.running_mean",
            None,
            r"lacks \['stage2.0.fuse_layers.1.0.0.1.running_mean'\]",
        ),
        ("mlp_head_x.weight", None, "no tensor 'mlp_head_x.weight'"),
        ("mlp_head_y.bias", None, r"lacks \['mlp_head_y.bias'\]"),
        (
            "stage4.1.fuse_layers.1.0.0.0.weight",
            torch.zeros(8, 4, 3, 3),
            r"beyond .*\['stage4.1.fuse_layers.1.0.0.0.weight'\]",
        ),
        (
            "stage3.0.branches.0.1.conv1.weight",
            torch.zeros(4, 4, 3, 3),
            r"beyond .*\['stage3.0.branches.0.1.conv1.weight'\]",
        ),
        ("odd.num_batches_tracked", torch.tensor(1), r"beyond .*\['odd.num_batches_tracked'\]"),
        (
            "transition1.0.0.weight",
            torch.zeros(8, 16, 3, 3),
            r"'transition1.0.1.weight' has shape \[4\] .* \[8\]",
        ),
        (
            "stage2.0.branches.1.0.conv2.weight",
            torch.zeros(8, 8, 1, 1),
            r"conv2.weight' has shape \[8, 8, 1, 1\] .* \[8, 8, 3, 3\]",
        ),
        (
            "mlp_head_y.weight",
            torch.zeros(128, 64),
            r"'mlp_head_y.weight' has shape \[128, 64\] .* \[128, 128\]",
        ),
        ("mlp_head_y.weight", torch.zeros(100, 128), "64 and 100 bins for maps of 128 cells"),
        ("mlp_head_x.weight", torch.zeros(64, 0), "'mlp_head_x.weight' has no values"),
        (
            "final_layer.weight",
            torch.zeros(3, 4),
            r"'final_layer.weight' has shape \[3, 4\] where 4 axes",
        ),
        (
            "layer1.2.bn3.running_var",
            torch.full((16,), torch.nan),
            "'layer1.2.bn3.running_var' holds values that are not finite",
        ),
        ("bn2.bias", torch.zeros(4, dtype=torch.int64), "'bn2.bias' holds int64"),
    ],
)
def test_another_network_is_refused_by_the_first_difference(
    tmp_path, state, name, replacement, message
):
    changed = {key: value for key, value in state.items() if key != name}
    if replacement is not None:
        changed[name] = replacement
    with pytest.raises(UserError, match=f"w.pth cannot be used: .*{message}") as caught:
        importing.import_hrnet(save(tmp_path / "w.pth", changed))
    assert "\n" not in str(caught.value)


def test_networks_by_name(tmp_path, state):
    lifter = importing.import_network(
        "mixste", save(tmp_path / "mixste.bin", {"model_pos": mixste_state()})
    )
    assert lifter["state"] == {} and lifter["sizes"]["frames"] == 5
    assert np.array_equal(lifter["params"]["head"]["bias"], mixste_state()["head.1.bias"])
    with pytest.raises(
        UserError, match="hrnet.pth reads pictures of 32x64 pixels: give a network of square ones"
    ):
        importing.import_network("hrnet", save(tmp_path / "hrnet.pth", state))
    square = hrnet_state(head=(128, 128, 256))
    pose = importing.import_network("hrnet", save(tmp_path / "hrnet.pth", square))
    assert (
        pose["sizes"]["size"] == 64
        and pose["sizes"]["split_ratio"] == 2.0
        and pose["state"].keys() == {"batch_stats"}
    )
    assert_same_tensors((pose["params"], pose["state"]["batch_stats"]), square)
    heatmap = importing.import_network(
        "hrnet", save(tmp_path / "heatmap.pth", hrnet_state(head=()))
    )
    assert "size" not in heatmap["sizes"] and "split_ratio" not in heatmap["sizes"]
    with pytest.raises(UserError, match="'vgg'.* hrnet, mixste, "):
        importing.import_network("vgg", tmp_path / "hrnet.pth")
    with pytest.raises(
        UserError, match="hrnet.pth cannot be used: it has no tensor 'Spatial_pos_embed'"
    ):
        importing.import_network("mixste", tmp_path / "hrnet.pth")
