"""A network that starts from published weights.

What the file has is taken, what it lacks stays as initialised.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ml_collections import ConfigDict
from networks import shapes_of
from tiny import run_of
from torch_states import hrnet_state

from configs import cdkd
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import teachers, weights
from kdpose_jax.models.pose_net import PoseNet
from kdpose_jax.pytorch.importing import import_imagenet_hrnet


@functools.cache
def fresh():
    network = PoseNet(
        joints=3,
        size=(32, 32),
        width=4,
        stem_width=4,
        blocks=1,
        modules=(1, 1, 1),
        head="simdr",
        split_ratio=2.0,
    )
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = shapes_of(network, images, train=False)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 7.0), shapes)
    return {"params": variables["params"], "state": {"batch_stats": variables["batch_stats"]}}


def test_the_backbone_is_filled_in(tmp_path):
    torch.save(hrnet_state(modules=(1, 1, 1), head=()), tmp_path / "imagenet.pth")
    params, batch_stats = import_imagenet_hrnet(tmp_path / "imagenet.pth")
    filled = weights.start_from("hrnet", str(tmp_path / "imagenet.pth"), fresh())
    assert jax.tree.structure(filled) == jax.tree.structure(fresh())
    jax.tree.map(np.testing.assert_array_equal, filled["params"]["backbone"], params)
    jax.tree.map(
        np.testing.assert_array_equal, filled["state"]["batch_stats"]["backbone"], batch_stats
    )
    for part in ("final_layer", "head"):
        assert all(
            (np.asarray(leaf) == 7.0).all() for leaf in jax.tree.leaves(filled["params"][part])
        )


def test_another_width_is_refused(tmp_path):
    torch.save(hrnet_state(width=8, modules=(1, 1, 1), head=()), tmp_path / "wide.pth")
    with pytest.raises(
        UserError, match="wide.pth' has .* where the config's network has"
    ) as caught:
        weights.start_from("hrnet", str(tmp_path / "wide.pth"), fresh())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "named"),
    [("teacher", "--config.teacher.pretrained"), ("baseline", "--config.student.pretrained")],
)
def test_the_field_of_a_file_that_is_not_one_is_named(tmp_path, name, named):
    (tmp_path / "hrnet.pth").write_bytes(b"<html>")
    block = ConfigDict({"pretrained": str(tmp_path / "hrnet.pth"), "network": {"name": "hrnet"}})
    with pytest.raises(
        UserError, match=f"^{named} .or the preset's imagenet=.: .*hrnet.pth begins like a web page"
    ):
        weights.check_pretrained(run_of("cdkd", "demo", name).stage, block, fresh())


def test_the_size_of_pictures_of_a_heatmap_network_is_assumed(tmp_path):
    """A SimDR head shows it, and heatmaps do not."""
    config = cdkd.get_config("coco64")
    order, size = (
        "coco_17, from data.skeleton",
        "384x288, not squares): 256, from teacher.input.size",
    )
    for head, said in (((), [size, order]), ((768, 768, 4096), [order])):
        torch.save(hrnet_state(joints=17, head=head), tmp_path / "w")
        config.teacher.checkpoint = str(tmp_path / "w")
        notes = teachers.adopt_teacher(config)
        assert len(notes) == len(said) and all(
            part in note for part, note in zip(said, notes, strict=True)
        )
    assert config.teacher.input.size == 256 and config.teacher.network.head == "simdr"
