"""The 2D task.

Normalised crops, losses from the config's block, predictions with and without flip, refused
options.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from kdpose_jax.codecs import keypoints_2d
from kdpose_jax.errors import UserError
from kdpose_jax.losses import keypoints_2d as losses
from kdpose_jax.skeletons import MPII_16
from kdpose_jax.tasks import pose2d

NETWORK = {
    "name": "hrnet",
    "width": 4,
    "stem_width": 4,
    "blocks": 1,
    "modules": (1,),
    "head": "simdr",
    "head_start": "uniform",
    "compute": "float32",
    "remat": False,
}


def small_config(**network):
    return ConfigDict(
        {
            "data": {"skeleton": "mpii_16", "joints": 16, "split_ratio": 3.0},
            "student": {
                "network": {**NETWORK, **network},
                "input": {"size": 32},
                "loss": {"form": "mean", "smoothing": 0.1, "sigma": 1.5, "scale": 2.0},
            },
            "decode": {
                "flip_shift": "exact",
                "coordinate": "argmax",
                "score": "max",
                "merge": "probabilities",
            },
        }
    )


def batch_of(seed=0, count=2):
    generator = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(generator.integers(0, 256, (count, 32, 32, 3)), jnp.uint8),
        "joints": jnp.asarray(generator.uniform(-4, 36, (count, 16, 2)), jnp.float32),
        "joint_weight": jnp.asarray(generator.integers(0, 2, (count, 16)), jnp.float32),
    }


@pytest.fixture(scope="module", params=["simdr", "heatmap"])
def scene(request):
    """A task, its config, a batch, variables away from their start, and the network's plain
    prediction.
    """
    config = small_config(head=request.param)
    task, batch = pose2d.build_task(config, "student"), batch_of()
    params, state = jax.jit(task.init)(jax.random.key(0), batch)
    network = pose2d.network_of(config, "student", training=False)
    _, features = jax.jit(network.apply)(
        {"params": params, **state}, pose2d.normalize(batch["image"])
    )
    factor = 1 / features["joint_maps"].std()  # HRNet starts with maps of next to nothing
    params = {
        **params,
        "final_layer": jax.tree.map(lambda leaf: factor * leaf, params["final_layer"]),
    }
    apply = jax.jit(
        lambda image: network.apply({"params": params, **state}, pose2d.normalize(image))[0]
    )
    return config, task, batch, params, state, apply


def test_images_are_normalised():
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    wanted = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(pose2d.normalize(jnp.asarray(image)), wanted, rtol=1e-5, atol=1e-6)


def test_training_updates_the_statistics(scene):
    _, task, batch, params, state, _ = scene
    prediction, features, updated = jax.jit(task.apply)(params, state, batch, jax.random.key(0))
    assert features["joint_maps"].shape == (2, 16, 8, 8)
    assert {leaf.dtype for leaf in jax.tree.leaves((prediction, features))} == {
        np.dtype(np.float32)
    }
    assert jax.tree.structure(updated) == jax.tree.structure(state) and set(state) == {
        "batch_stats"
    }
    assert any(
        np.any(old != new)
        for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(updated), strict=True)
    )


def test_predictions(scene):
    """Both against numpy's codec on the plain network, the mirrored picture flipped by hand."""
    config, task, batch, params, state, apply = scene
    plain, mirrored = (
        jax.tree.map(np.asarray, apply(image))
        for image in (batch["image"], batch["image"][:, :, ::-1])
    )
    swap = np.asarray(MPII_16.flip_permutation)
    if config.student.network.head == "heatmap":
        back = mirrored["heatmap"][:, swap, :, ::-1]
        back = np.concatenate([back[..., :1], back[..., :-1]], -1)
        wanted = [
            keypoints_2d.decode_heatmaps(maps, size=(32, 32), quarter=True)
            for maps in (plain["heatmap"], (plain["heatmap"] + back) / 2)
        ]
    else:

        def softmax(values):
            return np.exp(values) / np.exp(values).sum(-1, keepdims=True)

        back = mirrored["x"][:, swap, ::-1]
        back = (
            softmax(np.concatenate([back[..., 2:], back[..., -2:]], -1)),
            softmax(mirrored["y"][:, swap]),
        )
        both = (softmax(plain["x"]), softmax(plain["y"]))
        wanted = [
            keypoints_2d.decode(*pair, split_ratio=3.0, coordinate="argmax", score="max")
            for pair in (both, [(one + two) / 2 for one, two in zip(both, back, strict=True)])
        ]
    for predict, (joints, scores) in zip(
        (task.predict, task.predict_with_flip), wanted, strict=True
    ):
        found = jax.jit(predict)(params, state, {"image": batch["image"]})
        np.testing.assert_allclose(found["scores"], scores, rtol=1e-4, atol=1e-7)
        # Two cells of nearly the same height may change places.
        assert (np.abs(found["joints"] - joints) < 1e-4).mean() > 0.95


@pytest.mark.parametrize("form", losses.FORMS)
def test_loss_of_logits(form):
    """Weights of joints outside the crop are 0, and the scale multiplies."""
    config, batch = small_config(), batch_of()
    config.student.loss.form = form
    generator = np.random.default_rng(1)
    prediction = {
        axis: jnp.asarray(generator.normal(size=(2, 16, 96)), jnp.float32) for axis in "xy"
    }
    options = {"block": config.student.loss, "size": (32, 32), "split_ratio": 3.0}
    total, terms = pose2d.pose_loss(prediction, batch, **options)
    joints, weight = (np.asarray(batch[name], np.float64) for name in ("joints", "joint_weight"))
    both = 0.0
    for axis, logits in enumerate(prediction.values()):
        log_p = np.asarray(logits, np.float64)
        log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
        place = joints[..., axis] * 3
        if form.endswith("gaussian"):
            y = (
                np.exp(-((np.arange(96) - place[..., None]) ** 2) / (2 * 1.5**2))
                / (1.5 * np.sqrt(2 * np.pi))
                + 1e-300
            )
        else:
            y = np.where(np.arange(96) == np.clip(np.round(place), 0, 95)[..., None], 0.9, 0.1 / 95)
        both = both + (y * (np.log(y) - log_p)).sum(-1)
    inside = ((np.round(joints * 3) >= 0) & (np.round(joints * 3) < 96)).all(-1)
    assert (inside < weight).any()
    weight = (
        weight if form.endswith("gaussian") else weight * inside
    )  # its labels reach in from 4.5 pixels outside
    wanted = {"mean": (weight * both).mean(1), "sum": (weight * both).sum(1)}
    wanted["mean_gaussian"] = wanted["mean"]
    wanted["norm"] = wanted["gaussian"] = wanted["mean"] / 96
    np.testing.assert_allclose(total, 2.0 * wanted[form], rtol=1e-4)
    np.testing.assert_allclose(
        terms["divergence_x"] + terms["divergence_y"], wanted["mean"], rtol=1e-4
    )


def test_loss_of_heatmaps():
    config, batch = small_config(), batch_of()
    predicted = np.random.default_rng(1).normal(size=(2, 16, 8, 8)).astype(np.float32)
    target, weight = keypoints_2d.to_heatmaps(
        np.asarray(batch["joints"]),
        np.asarray(batch["joint_weight"]),
        size=(32, 32),
        heatmap_size=(8, 8),
        sigma=1.5,
    )
    total, terms = pose2d.pose_loss(
        {"heatmap": jnp.asarray(predicted)},
        batch,
        block=config.student.loss,
        size=(32, 32),
        split_ratio=3.0,
    )
    wanted = 0.5 * (weight[..., None, None] * (predicted - target) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(terms["heatmap_error"], wanted, rtol=1e-5)
    np.testing.assert_allclose(total, 2 * wanted, rtol=1e-5)


def test_reads():
    assert pose2d.reads(small_config(), "student", training=True) == {"views": {"image": 32}}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("student.network.name", "vit", "hrnet"),
        ("student.network.head", "dense", "student.network.head"),
        ("student.network.compute", "int8", "bfloat16"),
        ("student.network.width", 0, "at least 1"),
        ("student.input.size", 48, "multiple of 32"),
        ("student.loss.form", "kl", "student.loss.form"),
        ("student.loss.smoothing", 1.0, "below 1"),
        ("student.loss.scale", 0.0, "above 0"),
        ("decode.flip_shift", "two", "decode.flip_shift"),
        ("decode.score", "mean", "decode.score"),
        ("data.split_ratio", 2.5, "use 'one'"),
        ("data.split_ratio", 2.01, "data.split_ratio"),
    ],
)
def test_refused(path, value, words):
    config = small_config()
    with config.ignore_type():
        config.update_from_flattened_dict({path: value})
    with pytest.raises(UserError, match=words) as error:
        pose2d.build_task(config, "student")
    assert str(error.value).endswith(".")


def test_heatmaps_have_no_expectation():
    config = small_config(head="heatmap")
    config.decode.coordinate = "expectation"
    with pytest.raises(UserError, match="argmax"):
        pose2d.build_task(config, "student")
