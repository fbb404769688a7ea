"""3D pose lifting: networks from their config blocks, the task loss of MixSTE, predictions with and without flip."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kdpose_jax.codecs import poses
from kdpose_jax.errors import UserError
from kdpose_jax.losses.lifting import lifting_loss
from kdpose_jax.methods.api import Batch
from kdpose_jax.methods.task import COMPUTE_TYPES, Task, require
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.skeletons import Skeleton, find_skeleton


def reads(config: Any) -> dict[str, Any]:
    """What a batch holds, as keyword arguments of the reader: windows of so many frames."""
    return {"frames": config.data.frames}


def build_task(config: Any) -> Task:
    """The task of a dense lifting network, which reads every frame.

    Args:
      config: the locked config; reads `data.skeleton`, `data.frames`, `student.network` and `student.loss`.

    Returns:
      The task; its network has no state.
    """
    skeleton = find_skeleton(config.data.skeleton, config.data.joints)
    options = {"joints": skeleton.num_joints, "frames": config.data.frames, "place": "student.network"}
    trained = build_mixste(config.student.network, training=True, **options)
    evaluated = build_mixste(config.student.network, training=False, **options)

    def init(key, batch):
        return trained.init(key, batch["keypoints_2d"])["params"], {}

    def apply(params, state, batch, key):
        predicted, features = trained.apply(
            {"params": params}, batch["keypoints_2d"], deterministic=False, rngs={"drop_path": key}
        )
        return predicted, features, state

    return Task(init, apply, task_loss(config.student.loss, skeleton), *predictors(evaluated.apply, skeleton))


def task_loss(block: Any, skeleton: Skeleton) -> Callable[[jax.Array, Batch], tuple[jax.Array, dict[str, jax.Array]]]:
    """The three-term loss from its config block: (prediction `[B, F, J, 3]`, batch) -> (total `[B]`, terms)."""
    joint_weights = np.asarray(skeleton.loss_weights)

    def loss(predicted, batch):
        return lifting_loss(
            predicted,
            batch["pose_3d"],
            joint_weights=joint_weights,
            smoothness_weight=block.smoothness,
            velocity_weight=block.velocity,
        )

    return loss


def predictors(apply: Callable, skeleton: Skeleton) -> tuple[Callable, Callable]:
    """(predict, predict_with_flip) of a lifting network: (params, state, batch) -> `[B, F, J, 3]` metres, root at zero.

    Args:
      apply: ({"params"}, keypoints `[B, F, J, 2]`) -> (prediction, features), in evaluation mode.
      skeleton: the joints.
    """

    def predict(params, state, batch):
        predicted, _ = apply({"params": params}, batch["keypoints_2d"])
        return poses.zero_root(predicted, skeleton.root)

    return predict, flip_averaged(predict, skeleton.flip_permutation)


def flip_averaged(predict: Callable, flip_permutation: tuple[int, ...]) -> Callable:
    """Test-time flip: the mean of the prediction and the un-flipped prediction on the flipped input (spec/scjd.md 5.2)."""

    def averaged(params, state, batch):
        mirrored = {**batch, "keypoints_2d": poses.flip(batch["keypoints_2d"], flip_permutation)}
        back = poses.flip(predict(params, state, mirrored), flip_permutation)
        return (predict(params, state, batch) + back) / 2

    return averaged


def build_mixste(network: Any, *, joints: int, frames: int, training: bool, place: str) -> MixSTE:
    """MixSTE from a `network` block.

    Args:
      network: config block: width, depth, heads, mlp_ratio, drop_path, compute, remat.
      joints: number of joints.
      frames: number of frames that it reads.
      training: compute in the block's type; otherwise in float32.
      place: name of the block in errors.

    Returns:
      The module.

    Raises:
      UserError: a value that no network can have.
    """
    if network.name != "mixste":
        raise UserError(f"{place}.name is '{network.name}': the lifting network is 'mixste'.")
    require(f"{place}.compute", network.compute, tuple(COMPUTE_TYPES))
    if network.heads < 1 or network.width % network.heads:
        raise UserError(f"{place}.width {network.width} is no multiple of {place}.heads {network.heads}: change one.")
    if min(network.depth, frames, network.width) < 1:
        raise UserError(f"{place} has depth {network.depth}, width {network.width} and {frames} frames: use at least 1.")
    if network.mlp_ratio <= 0:
        raise UserError(f"{place}.mlp_ratio is {network.mlp_ratio}: use a number above 0.")
    if not 0 <= network.drop_path < 1:
        raise UserError(f"{place}.drop_path is {network.drop_path}: use a probability from 0 to below 1.")
    return MixSTE(
        joints=joints,
        frames=frames,
        width=network.width,
        depth=network.depth,
        heads=network.heads,
        mlp_ratio=network.mlp_ratio,
        drop_path=network.drop_path,
        dtype=COMPUTE_TYPES[network.compute] if training else None,
        remat=network.remat and training,
    )
