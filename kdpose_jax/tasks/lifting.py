"""The task of 3D pose lifting: its losses, and predictions with and without flip.

`lifting_networks` builds networks that read every frame, `sparse_lifting` those on keyframes.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from kdpose_jax.codecs import poses
from kdpose_jax.contracts import Batch, Task
from kdpose_jax.errors import UserError
from kdpose_jax.losses.lifting import lifting_loss, weighted_joint_error
from kdpose_jax.models import initial
from kdpose_jax.models.sparse_mixste import SparseMixSTE
from kdpose_jax.skeletons import Skeleton, find_skeleton
from kdpose_jax.tasks import lifting_networks, sparse_lifting


def reads(config: ConfigDict, stage: str, *, training: bool) -> dict[str, Any]:
    """Says what a batch holds: the windows to predict, and the frames around them.

    Returns:
      Keyword arguments of the reader and of the protocol.
    """
    span = lifting_networks.span(config[stage].network, config.data.frames, training=training)
    return {"frames": span.predicted, "context": (span.before, span.after)}


def build_task(config: ConfigDict, stage: str) -> Task:
    """Builds the task of a lifting network.

    Args:
      config: the locked config; reads `data` (skeleton, joints, frames) and the stage's block
        (network, loss, and `input` if it reads keyframes).
      stage: name of the block that is trained.

    Returns:
      The task. It predicts the frames that `reads` names. Its features are those of the network,
      `SparseFeatures` on keyframes. With phase augmentation, each call of `apply` draws an offset.

    Raises:
      UserError: the network cannot have one of the options, or options do not fit together.
    """
    skeleton = find_skeleton(config.data.skeleton, config.data.joints)
    trained, evaluated = (
        build_network(config, stage, skeleton, training=training) for training in (True, False)
    )
    span = lifting_networks.span(config[stage].network, config.data.frames, training=True)

    def init(key, batch):
        variables = initial.variables(trained, key, batch["keypoints_2d"])
        return variables.pop("params"), variables

    def apply(params, state, batch, key):
        offset = ()
        if isinstance(trained, SparseMixSTE):
            offset, key = sparse_lifting.draw_offset(trained, key)
        (predicted, features), state = trained.apply(
            {"params": params, **state},
            batch["keypoints_2d"],
            *offset,
            deterministic=False,
            rngs={"drop_path": key, "dropout": key},  # a network reads one of them
            mutable=list(state),
        )
        return predicted, features, state

    loss = task_loss(config[stage].loss, skeleton, span.predicted, place=f"{stage}.loss")
    return Task(init, apply, loss, *predictors(evaluated.apply, skeleton))


def build_network(
    config: ConfigDict, stage: str, skeleton: Skeleton, *, training: bool
) -> nn.Module:
    """Builds a stage's network: on keyframes if its block has `input`, else on every frame.

    Raises:
      UserError: the network cannot have one of the options, or options do not fit together.
    """
    if "input" in config[stage]:
        return sparse_lifting.build_student(config, stage, skeleton, training=training)
    return lifting_networks.build_lifter(
        config[stage].network,
        joints=skeleton.num_joints,
        frames=config.data.frames,
        training=training,
        place=f"{stage}.network",
    )


def task_loss(
    block: ConfigDict, skeleton: Skeleton, frames: int, *, place: str
) -> Callable[[jax.Array, Batch], tuple[jax.Array, dict[str, jax.Array]]]:
    """Builds the loss from its config block.

    Windows have MixSTE's three terms. A single frame has the plain MPJPE, with which VideoPose3D
    and PoseFormerV2 are trained.

    Args:
      block: the `loss` config block, which weighs two of the three terms: smoothness, velocity.
      skeleton: the joints.
      frames: number F of predicted frames.
      place: name of the block in error messages.

    Returns:
      (prediction `[B, F, J, 3]`, batch) -> (total `[B]`, the terms `[B]` by name).

    Raises:
      UserError: a term has a weight that a single frame does not have.
    """
    if frames == 1 and (block.smoothness or block.velocity):
        raise UserError(
            f"{place} has smoothness {block.smoothness} and velocity {block.velocity}, and a "
            "single frame is predicted, which has neither: set both to 0."
        )
    joint_weights = np.asarray(skeleton.loss_weights)

    def window_loss(predicted, batch):
        return lifting_loss(
            predicted,
            batch["pose_3d"],
            joint_weights=joint_weights,
            smoothness_weight=block.smoothness,
            velocity_weight=block.velocity,
        )

    def frame_loss(predicted, batch):
        error = weighted_joint_error(predicted, batch["pose_3d"], np.ones_like(joint_weights))
        return error, {"joint_error": error}

    return frame_loss if frames == 1 else window_loss


def predictors(apply: Callable, skeleton: Skeleton) -> tuple[Callable, Callable]:
    """Makes the predictors of a lifting network, without and with test-time flip.

    Args:
      apply: the network in evaluation mode: (its variables, keypoints `[B, N, J, 2]`) ->
        (prediction `[B, F, J, 3]`, features).
      skeleton: the joints.

    Returns:
      (predict, predict_with_flip). Each is (params, state, batch) -> `[B, F, J, 3]`, metres, with
      the root at zero.
    """

    @jax.jit  # so that all that predict trace the network once
    def predict(params, state, batch):
        predicted, _ = apply({"params": params, **state}, batch["keypoints_2d"])
        return poses.zero_root(predicted, skeleton.root)

    return predict, flip_averaged(predict, skeleton.flip_permutation)


def flip_averaged(predict: Callable, flip_permutation: tuple[int, ...]) -> Callable:
    """Averages a prediction with the prediction on the mirrored input, mirrored back.

    See docs/methods/lifting.md#test-time-flip.
    """

    def averaged(params, state, batch):
        mirrored = {**batch, "keypoints_2d": poses.flip(batch["keypoints_2d"], flip_permutation)}
        back = poses.flip(predict(params, state, mirrored), flip_permutation)
        return (predict(params, state, batch) + back) / 2

    return averaged
