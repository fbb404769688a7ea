"""Supervised training of a dense lifting network with the three-term task loss of MixSTE."""

from typing import Any

import numpy as np

from kdpose_jax.codecs import poses
from kdpose_jax.losses.lifting import lifting_loss
from kdpose_jax.methods.api import Method, as_metrics
from kdpose_jax.methods.networks import build_mixste
from kdpose_jax.skeletons import SKELETONS


def build(config: Any) -> Method:
    """Builds the method.

    Args:
      config: the locked config; reads `data.skeleton`, `data.frames`, `student.network` and `student.loss`.

    Returns:
      The method; it has no teacher and no adapters.
    """
    skeleton = SKELETONS[config.data.skeleton]
    options = {"joints": skeleton.num_joints, "frames": config.data.frames, "place": "student.network"}
    trained = build_mixste(config.student.network, training=True, **options)
    evaluated = build_mixste(config.student.network, training=False, **options)
    joint_weights = np.asarray(skeleton.loss_weights)

    def init(key, batch):
        return {"student": trained.init(key, batch["keypoints_2d"])["params"]}, {}, {}

    def loss(params, model_state, frozen, batch, key, step):
        predicted, _ = trained.apply(
            {"params": params["student"]}, batch["keypoints_2d"], deterministic=False, rngs={"drop_path": key}
        )
        total, terms = lifting_loss(
            predicted,
            batch["pose_3d"],
            joint_weights=joint_weights,
            smoothness_weight=config.student.loss.smoothness,
            velocity_weight=config.student.loss.velocity,
        )
        return total.mean(), (as_metrics({"loss": total, **terms}), model_state)

    def predict(params, model_state, batch):
        predicted, _ = evaluated.apply({"params": params["student"]}, batch["keypoints_2d"])
        return poses.zero_root(predicted, skeleton.root)

    return Method(init=init, loss=loss, predict=predict)
