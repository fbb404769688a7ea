"""The task of 2D pose in crops: networks, SimDR and heatmap losses, predictions with flip.

Forms and constants are those of SimCC's and HRNet's released code (docs/methods/pose2d.md). Options
that are ours are marked.
"""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from kdpose_jax.codecs import keypoints_2d
from kdpose_jax.codecs.keypoints_2d import count_bins
from kdpose_jax.contracts import Task
from kdpose_jax.errors import UserError, require
from kdpose_jax.losses import keypoints_2d as losses
from kdpose_jax.models import initial
from kdpose_jax.models.hrnet import STRIDE
from kdpose_jax.models.pose_net import HEADS, PoseNet
from kdpose_jax.models.simdr_head import HEAD_STARTS
from kdpose_jax.skeletons import find_skeleton
from kdpose_jax.tasks.task import COMPUTE_TYPES

# ImageNet's mean and standard deviation of RGB in [0, 1] (docs/methods/pose2d.md#crops).
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def reads(config: ConfigDict, stage: str, *, training: bool) -> dict[str, Any]:
    """Says what a batch holds: one square crop per person.

    Returns:
      Keyword arguments of the reader and of the protocol.
    """
    return {"views": {"image": config[stage].input.size}}


def build_task(config: ConfigDict, stage: str) -> Task:
    """Builds the task of a network that finds joints in a crop.

    Args:
      config: the locked config; reads `data` (skeleton, joints, split_ratio), the stage's block
        (network, input, loss) and `decode`.
      stage: name of the block that is trained.

    Returns:
      The task. Predictions are {"joints": `[B, J, 2]` pixels of the crop, "scores": `[B, J]`}.

    Raises:
      UserError: the network cannot have one of the options, or options do not fit together.
    """
    block, decode = config[stage], config.decode
    head = block.network.head
    check_decoding(decode, head=head, split_ratio=config.data.split_ratio)
    check_loss(block.loss, place=f"{stage}.loss")
    permutation = find_skeleton(config.data.skeleton, config.data.joints).flip_permutation
    trained = network_of(config, stage, training=True)
    evaluated = network_of(config, stage, training=False)

    def init(key, batch):
        variables = initial.variables(trained, key, normalize(batch["image"]), train=False)
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    def apply(params, state, batch, key):
        (prediction, features), updated = trained.apply(
            {"params": params, **state},
            normalize(batch["image"]),
            train=True,
            mutable=["batch_stats"],
        )
        return prediction, features, {"batch_stats": updated["batch_stats"]}

    def loss(prediction, batch):
        return pose_loss(
            prediction,
            batch,
            block=block.loss,
            size=trained.size,
            split_ratio=config.data.split_ratio,
        )

    @jax.jit  # so that all that predict trace the network once
    def locate(params, state, batch):
        variables = {"params": params, **state}
        prediction, _ = evaluated.apply(variables, normalize(batch["image"]), train=False)
        return prediction

    def predict(params, state, batch):
        prediction = locate(params, state, batch)
        if head == "heatmap":
            return _decode_heatmaps(prediction["heatmap"], size=evaluated.size)
        x = keypoints_2d.probabilities(prediction["x"])
        y = keypoints_2d.probabilities(prediction["y"])
        return _decode(x, y, config)

    def predict_with_flip(params, state, batch):
        plain = locate(params, state, batch)
        mirrored = locate(params, state, {**batch, "image": batch["image"][:, :, ::-1]})
        if head == "heatmap":
            back = keypoints_2d.mirror_heatmaps_back(
                mirrored["heatmap"], flip_permutation=permutation, shift=True
            )
            return _decode_heatmaps((plain["heatmap"] + back) / 2, size=evaluated.size)
        shift = keypoints_2d.flip_shift(decode.flip_shift, config.data.split_ratio)
        back = keypoints_2d.mirror_back(
            mirrored["x"], mirrored["y"], flip_permutation=permutation, shift=shift
        )
        x, y = keypoints_2d.merge_flip((plain["x"], plain["y"]), back, merge=decode.merge)
        return _decode(x, y, config)

    return Task(init, apply, loss, predict, predict_with_flip)


def _decode(x: jax.Array, y: jax.Array, config: ConfigDict) -> dict[str, jax.Array]:
    joints, scores = keypoints_2d.decode(
        x,
        y,
        split_ratio=config.data.split_ratio,
        coordinate=config.decode.coordinate,
        score=config.decode.score,
    )
    return {"joints": joints, "scores": scores}


def _decode_heatmaps(heatmaps: jax.Array, *, size: tuple[int, int]) -> dict[str, jax.Array]:
    """Decodes with HRNet's quarter of a cell, which all its published numbers use."""
    joints, scores = keypoints_2d.decode_heatmaps(heatmaps, size=size, quarter=True)
    return {"joints": joints, "scores": scores}


def normalize(images: jax.Array) -> jax.Array:
    """Normalises uint8 RGB by ImageNet's mean and deviation. `[B, H, W, 3]` in, float32 out."""
    mean = jnp.asarray(MEAN, jnp.float32).reshape(1, 1, 1, 3)
    deviation = jnp.asarray(DEVIATION, jnp.float32).reshape(1, 1, 1, 3)
    return (images.astype(jnp.float32) / 255 - mean) / deviation


def pose_loss(
    prediction: dict[str, jax.Array],
    batch: dict[str, jax.Array],
    *,
    block: ConfigDict,
    size: tuple[int, int],
    split_ratio: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the task loss of a config block, multiplied by the block's `scale`.

    Args:
      prediction: {"x", "y"} logits `[B, J, M]`, or {"heatmap": `[B, J, h, w]`}.
      batch: {"joints": `[B, J, 2]` pixels, "joint_weight": `[B, J]`}.
      block: the `loss` block: form, smoothing, sigma, scale. A heatmap reads only sigma (in cells)
        and scale.
      size: width and height of the crop, pixels.
      split_ratio: k, bins per pixel.

    Returns:
      The total `[B]`, and the terms `[B]`: divergence_x and divergence_y in nats, means over
      joints, or heatmap_error.
    """
    joints, weight = batch["joints"], batch["joint_weight"]
    if "heatmap" in prediction:
        heatmaps = prediction["heatmap"]
        target, weight = keypoints_2d.to_heatmaps(
            joints,
            weight,
            size=size,
            heatmap_size=(heatmaps.shape[-1], heatmaps.shape[-2]),
            sigma=block.sigma,
        )
        error = losses.heatmap_error(heatmaps, target, weight)
        return block.scale * error, {"heatmap_error": error}
    logits_x, logits_y = prediction["x"], prediction["y"]
    if block.form in losses.GAUSSIAN_FORMS:
        target_x, target_y, weight = keypoints_2d.to_gaussians(
            joints, weight, size=size, split_ratio=split_ratio, sigma=block.sigma
        )
        x = losses.divergence(logits_x, target_x)
        y = losses.divergence(logits_y, target_y)
    else:
        bins, weight = keypoints_2d.to_bins(joints, weight, size=size, split_ratio=split_ratio)
        x = losses.smoothed_divergence(logits_x, bins[..., 0], smoothing=block.smoothing)
        y = losses.smoothed_divergence(logits_y, bins[..., 1], smoothing=block.smoothing)
    counts = (logits_x.shape[-1], logits_y.shape[-1])
    total = block.scale * losses.joint_loss(x, y, weight, bins=counts, form=block.form)
    return total, {"divergence_x": (weight * x).mean(1), "divergence_y": (weight * y).mean(1)}


def network_of(config: ConfigDict, stage: str, *, training: bool) -> PoseNet:
    """Builds the network of a stage's block."""
    return build_pose_net(
        config[stage].network,
        joints=find_skeleton(config.data.skeleton, config.data.joints).num_joints,
        size=config[stage].input.size,
        split_ratio=config.data.split_ratio,
        training=training,
        place=stage,
    )


def build_pose_net(
    network: ConfigDict, *, joints: int, size: int, split_ratio: float, training: bool, place: str
) -> PoseNet:
    """Builds PoseNet from a `network` block.

    Args:
      network: the `network` config block: name, width, stem_width, blocks, modules, head,
        head_start, compute, remat.
      joints: number J of joints.
      size: side of the square input, pixels.
      split_ratio: k, bins per pixel.
      training: True to compute in the block's type, False to compute in float32.
      place: name of the stage in error messages.

    Raises:
      UserError: the network cannot have one of the values.
    """
    for name, value, allowed in (
        ("name", network.name, ("hrnet",)),
        ("head", network.head, HEADS),
        ("head_start", network.head_start, HEAD_STARTS),
        ("compute", network.compute, tuple(COMPUTE_TYPES)),
    ):
        require(f"{place}.network.{name}", value, allowed)
    if size < STRIDE or size % STRIDE:
        raise UserError(
            f"{place}.input.size is {size}: use a multiple of {STRIDE} pixels, which HRNet halves "
            "five times."
        )
    bins, _ = count_bins((size, size), split_ratio)
    if split_ratio <= 0 or abs(size * split_ratio - bins) > 1e-6:
        raise UserError(
            f"{place}.input.size {size} times data.split_ratio {split_ratio} is "
            f"{size * split_ratio:g}, which is not a whole number of bins: change one of them."
        )
    if (
        min(network.width, network.stem_width, network.blocks, *network.modules) < 1
        or not 1 <= len(network.modules) <= 3
    ):
        raise UserError(
            f"{place}.network has width {network.width}, stem_width {network.stem_width}, blocks "
            f"{network.blocks} and modules {tuple(network.modules)}: use at least 1 of each, and "
            "one to three numbers of modules."
        )
    return PoseNet(
        joints=joints,
        size=(size, size),
        width=network.width,
        stem_width=network.stem_width,
        blocks=network.blocks,
        modules=tuple(network.modules),
        head=network.head,
        split_ratio=split_ratio,
        head_start=network.head_start,
        dtype=COMPUTE_TYPES[network.compute] if training else None,
        remat=network.remat and training,
    )


def check_decoding(decode: ConfigDict, *, head: str, split_ratio: float) -> None:
    """Refuses a `decode` block with an unknown value or one that the head or bins do not allow."""
    for name, allowed in (
        ("flip_shift", keypoints_2d.FLIP_SHIFTS),
        ("coordinate", keypoints_2d.COORDINATES),
        ("score", keypoints_2d.SCORES),
        ("merge", keypoints_2d.MERGES),
    ):
        require(f"decode.{name}", decode[name], allowed)
    if decode.flip_shift == "exact" and split_ratio % 1:
        raise UserError(
            "decode.flip_shift 'exact' moves by k - 1 bins, and data.split_ratio is "
            f"{split_ratio}: use 'one'."
        )
    if decode.coordinate != "argmax" and head == "heatmap":
        raise UserError(
            f"decode.coordinate is '{decode.coordinate}', which a heatmap head does not have: set "
            "it to 'argmax'."
        )


def check_loss(block: ConfigDict, *, place: str) -> None:
    """Refuses a `loss` block with an unknown form or a number out of range."""
    require(f"{place}.form", block.form, losses.FORMS)
    if not 0 <= block.smoothing < 1:
        raise UserError(f"{place}.smoothing is {block.smoothing}: use a share from 0 to below 1.")
    for name in ("sigma", "scale"):
        if block[name] <= 0:
            raise UserError(f"{place}.{name} is {block[name]}: use a number above 0.")
