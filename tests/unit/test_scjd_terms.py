"""The terms of SCJD as the method wires them.

Every option against a numpy oracle on the networks' own features.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from scjd_scene import ONLY, alpha_oracle, correlation_oracle, normed

from kdpose_jax.methods.scjd import losses
from kdpose_jax.skeletons import H36M_17


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"distill__embedding__context": "mean"},
        {"distill__embedding__context": "keyframe"},
        {"distill__embedding__feature": "temporal", "distill__embedding__reach": 1},
        {"distill__embedding__motion_weight": True},
        {"distill__embedding__layers": (1,), "distill__embedding__reach": 0},
    ],
)
def test_embedding_term(scene, changes):
    """DJED of the last student layer with teacher layer 3, context of one stride either side."""
    found = scene.terms(**ONLY["embedding"], **changes)
    assert found.keys() == {"embedding"}
    feature = changes.get("distill__embedding__feature", "spatial")
    embeddings = scene.taught[feature][2].astype(np.float64)
    context = changes.get("distill__embedding__context", "dynamic")
    reach = 0 if context == "keyframe" else changes.get("distill__embedding__reach", 3)
    alpha = alpha_oracle(
        embeddings, scene.keyframes, "mean" if context == "keyframe" else context, reach
    )
    target = np.einsum("bkjm,bmjc->bkjc", alpha, embeddings)
    projector = scene.params["projectors"]["layer_1"]
    projected = (
        scene.network[feature][1] @ projector["kernel"].astype(np.float64) + projector["bias"]
    )
    squared = ((normed(projected) - normed(target)) ** 2).mean(-1)
    if "distill__embedding__motion_weight" in changes:
        squared = squared * losses.motion_weights(
            scene.batch["keypoints_2d"], jnp.asarray(scene.keyframes), 3
        )
    np.testing.assert_allclose(found["embedding"], squared.mean((1, 2)), rtol=1e-4)


@pytest.mark.parametrize("kind", ["mse", "full"])
@pytest.mark.parametrize("gather", ["keyframe", "context"])
def test_attention_term(scene, kind, gather):
    """AJAD: all student layers, 1 with teacher layer 2 and 2 with 3, heads averaged."""
    found = scene.terms(
        **ONLY["attention"], distill__attention__kind=kind, distill__attention__gather=gather
    )
    assert found.keys() == {"attention"}
    adjacent, expected = losses.adjacency(H36M_17.hops(), kind), 0.0
    for layer, teacher_layer in ((0, 1), (1, 2)):
        target = (
            scene.taught["spatial_attention"][teacher_layer].mean(2).astype(np.float64)
        )  # [B, F, J, J]
        if gather == "context":
            alpha = alpha_oracle(
                scene.taught["spatial"][teacher_layer].astype(np.float64),
                scene.keyframes,
                "dynamic",
                3,
            )
            target = np.einsum("bkim,bmij->bkij", alpha, target)  # the weights of the query joint
            np.testing.assert_allclose(target.sum(-1), 1, atol=1e-5)
        else:
            target = target[:, scene.keyframes]
        ours = scene.network["spatial_attention"][layer].mean(2)
        expected = (
            expected + (adjacent * (ours - target) ** 2).sum((2, 3)).mean(1) / adjacent.sum() / 2
        )
    np.testing.assert_allclose(found["attention"], expected, rtol=1e-4)


def temporal_oracle(scene, velocity, correlation):
    taught = np.asarray(scene.batch["teacher_pose_3d"], np.float64)
    distance = np.linalg.norm(scene.predicted - taught, axis=-1)
    value = (distance * np.asarray(H36M_17.loss_weights)).mean((1, 2))
    steps = np.diff(scene.predicted, axis=1) - np.diff(taught, axis=1)
    return (
        value
        + velocity * np.linalg.norm(steps, axis=-1).mean((1, 2))
        + correlation * correlation_oracle(np.asarray(scene.predicted, np.float64), taught)
    )


@pytest.mark.parametrize(("velocity", "correlation"), [(2.0, 0.1), (0.0, 3.0), (1.5, 0.0)])
def test_temporal_term(scene, velocity, correlation):
    """The distance to the stored poses; the teacher beside the student is not asked for any."""
    found = scene.terms(
        **ONLY["temporal"],
        distill__temporal__velocity=velocity,
        distill__temporal__correlation=correlation,
    )
    assert found.keys() == {"temporal"}
    expected = temporal_oracle(scene, velocity, correlation)
    np.testing.assert_allclose(found["temporal"], expected, rtol=1e-4)


def test_attention_head_by_head(wide):
    """With equal heads and widths the maps may be compared per head, which is more than that of
    their means.
    """
    each, mean = (
        np.asarray(wide.terms(**ONLY["attention"], distill__attention__heads=heads)["attention"])
        for heads in ("each", "mean")
    )
    adjacent, expected = losses.adjacency(H36M_17.hops(), "mse"), 0.0
    for ours, target in zip(
        wide.network["spatial_attention"], wide.taught["spatial_attention"], strict=True
    ):
        expected = (
            expected
            + (adjacent * (ours - target) ** 2).sum((3, 4)).mean((1, 2)) / adjacent.sum() / 3
        )
    np.testing.assert_allclose(each, expected, rtol=1e-4)
    assert (each > mean).all()
