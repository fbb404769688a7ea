"""Builds lifting networks from their config blocks, and says which frames each one reads."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from kdpose_jax.errors import UserError, require
from kdpose_jax.models.hourglass_mixste import HourglassMixSTE
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.models.poseformer_v2 import PoseFormerV2
from kdpose_jax.models.videopose3d import VideoPose3D
from kdpose_jax.tasks.task import COMPUTE_TYPES


class Span(NamedTuple):
    """Frames per prediction.

    Attributes:
      predicted: number of frames that are predicted.
      before: number of context frames before them that are only read.
      after: number of context frames after them that are only read.
    """

    predicted: int
    before: int
    after: int


def span(network: ConfigDict, frames: int, *, training: bool) -> Span:
    """Returns the frames that a network predicts at once, and the context that it reads.

    Args:
      network: the `network` config block.
      frames: `data.frames`, the number of frames that one predicted frame depends on.
      training: True for a training example, False for an example to evaluate.
    """
    if network.name == "poseformer_v2":
        predicted = network.predicted_frames if training else 1
        return Span(predicted, (frames - 1) // 2, frames // 2)
    if network.name == "videopose3d":
        predicted = network.predicted_frames if training else network.evaluated_frames
        if network.causal:
            return Span(predicted, frames - 1, 0)
        return Span(predicted, (frames - 1) // 2, (frames - 1) // 2)
    return Span(frames, 0, 0)


def build_lifter(
    network: ConfigDict, *, joints: int, frames: int, training: bool, place: str
) -> nn.Module:
    """Builds a lifting network from its `network` block.

    Args:
      network: the `network` config block; its `name` decides which other fields it has.
      joints: number J of joints.
      frames: `data.frames`, the number of frames that one predicted frame depends on.
      training: True to compute in the block's type, False to compute in float32.
      place: name of the block in error messages.

    Returns:
      A module: (keypoints `[B, N, J, 2]`, deterministic) -> (pose `[B, F, J, 3]`, features). `span`
      gives F, and N is F with the context.

    Raises:
      UserError: the network cannot have one of the values.
    """
    require(f"{place}.name", network.name, BUILDERS)
    build = BUILDERS[network.name]
    return build(network, joints=joints, frames=frames, training=training, place=place)


def build_mixste(
    network: ConfigDict, *, joints: int, frames: int, training: bool, place: str
) -> MixSTE:
    """Builds MixSTE. Arguments and errors are as in `build_lifter`.

    The block has width, depth, heads, mlp_ratio, drop_path, compute, remat, scan and
    joint_position_std.
    """
    if network.name != "mixste":
        raise UserError(f"{place}.name is '{network.name}': the lifting network is 'mixste'.")
    return _mixste(network, joints, frames, training, place)


def build_hourglass_mixste(
    network: ConfigDict, *, joints: int, frames: int, training: bool, place: str
) -> HourglassMixSTE:
    """Builds HoT on MixSTE. Arguments and errors are as in `build_lifter`.

    The block has the fields of `build_mixste`, and dense_pairs, kept_frames and neighbours.
    """
    inner = _mixste(network, joints, frames, training, place)
    if not 1 <= network.dense_pairs <= network.depth:
        raise UserError(
            f"{place}.dense_pairs is {network.dense_pairs}: use 1 to {place}.depth, which is "
            f"{network.depth}."
        )
    for name in ("kept_frames", "neighbours"):
        if not 1 <= network[name] <= frames:
            raise UserError(
                f"{place}.{name} is {network[name]}: use 1 to data.frames, which is {frames}."
            )
    return HourglassMixSTE(
        network=inner,
        dense_pairs=network.dense_pairs,
        kept_frames=network.kept_frames,
        neighbours=network.neighbours,
    )


def build_poseformer_v2(
    network: ConfigDict, *, joints: int, frames: int, training: bool, place: str
) -> PoseFormerV2:
    """Builds PoseFormerV2. Arguments and errors are as in `build_lifter`.

    The block has the fields of `build_mixste` without scan and joint_position_std, and kept_frames,
    kept_coefficients and predicted_frames.
    """
    _check_predicted(network, place)
    if not 1 <= network.kept_frames <= frames or network.kept_frames % 2 == 0:
        raise UserError(
            f"{place}.kept_frames is {network.kept_frames}: use an odd number up to data.frames, "
            f"which is {frames}."
        )
    if not 1 <= network.kept_coefficients <= frames:
        raise UserError(
            f"{place}.kept_coefficients is {network.kept_coefficients}: use 1 to data.frames, "
            f"which is {frames}."
        )
    return PoseFormerV2(
        joints=joints,
        frames=frames,
        kept_frames=network.kept_frames,
        kept_coefficients=network.kept_coefficients,
        **_transformer(network, frames, training, place),
    )


def build_videopose3d(
    network: ConfigDict, *, joints: int, frames: int, training: bool, place: str
) -> VideoPose3D:
    """Builds VideoPose3D. Arguments and errors are as in `build_lifter`.

    The block has filters, dense_kernels, width, dropout, causal, predicted_frames, evaluated_frames
    and compute.
    """
    _check_predicted(network, place)
    filters = tuple(network.filters)
    require(f"{place}.compute", network.compute, COMPUTE_TYPES)
    if not filters or min(filters) < 1 or math.prod(filters) % 2 == 0:
        raise UserError(f"{place}.filters is {filters}: use odd numbers of frames.")
    if math.prod(filters) != frames:
        raise UserError(
            f"{place}.filters {filters} see {math.prod(filters)} frames, and data.frames is "
            f"{frames}: change one of them."
        )
    if min(network.width, network.evaluated_frames) < 1:
        raise UserError(
            f"{place} has width {network.width} and evaluated_frames {network.evaluated_frames}: "
            "use at least 1."
        )
    if not 0 <= network.dropout < 1:
        raise UserError(
            f"{place}.dropout is {network.dropout}: use a probability from 0 to below 1."
        )
    return VideoPose3D(
        joints=joints,
        filters=filters,
        width=network.width,
        dropout=network.dropout,
        causal=network.causal,
        dense_kernels=network.dense_kernels,
        dtype=COMPUTE_TYPES[network.compute] if training else None,
    )


# `network.name` -> what builds it.
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "mixste": build_mixste,
    "mixste_hot": build_hourglass_mixste,
    "poseformer_v2": build_poseformer_v2,
    "videopose3d": build_videopose3d,
}


def _check_predicted(network: ConfigDict, place: str) -> None:
    """Checks the number of frames that a training example predicts."""
    if network.predicted_frames < 1:
        raise UserError(
            f"{place}.predicted_frames is {network.predicted_frames}: use 1, as published, or more."
        )


def _mixste(network: ConfigDict, joints: int, frames: int, training: bool, place: str) -> MixSTE:
    """Builds MixSTE, alone or as a part of another network."""
    options = _transformer(network, frames, training, place)
    if network.joint_position_std < 0:
        raise UserError(
            f"{place}.joint_position_std is {network.joint_position_std}: use 0, as released, or a "
            "larger number."
        )
    return MixSTE(
        joints=joints,
        frames=frames,
        scan=network.scan,
        joint_position_std=network.joint_position_std,
        **options,
    )


def _transformer(network: ConfigDict, frames: int, training: bool, place: str) -> dict[str, Any]:
    """Checks the fields that all transformers have, and returns them as keyword arguments."""
    require(f"{place}.compute", network.compute, COMPUTE_TYPES)
    if network.heads < 1 or network.width % network.heads:
        raise UserError(
            f"{place}.width {network.width} is not a multiple of {place}.heads {network.heads}: "
            "change one of them."
        )
    if min(network.depth, frames, network.width) < 1:
        raise UserError(
            f"{place} has depth {network.depth}, width {network.width} and {frames} frames: use at "
            "least 1 of each."
        )
    if network.mlp_ratio <= 0:
        raise UserError(f"{place}.mlp_ratio is {network.mlp_ratio}: use a number above 0.")
    if not 0 <= network.drop_path < 1:
        raise UserError(
            f"{place}.drop_path is {network.drop_path}: use a probability from 0 to below 1."
        )
    return {
        "width": network.width,
        "depth": network.depth,
        "heads": network.heads,
        "mlp_ratio": network.mlp_ratio,
        "drop_path": network.drop_path,
        "dtype": COMPUTE_TYPES[network.compute] if training else None,
        "remat": network.remat and training,
    }
