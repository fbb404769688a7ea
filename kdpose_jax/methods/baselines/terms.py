"""What the student is taught: which layers of the teacher meet which of its own, and the terms, from the resolved options."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from kdpose_jax.errors import UserError
from kdpose_jax.methods.baselines import losses
from kdpose_jax.methods.lifters import build_mixste
from kdpose_jax.methods.sparse_lifting import keyframe_grid, layer_map
from kdpose_jax.methods.task import require
from kdpose_jax.models.keyframes import take_frames
from kdpose_jax.models.layers import Linear
from kdpose_jax.models.mixste import MixSTE, MixSTEFeatures
from kdpose_jax.models.sparse_mixste import SparseFeatures
from kdpose_jax.skeletons import Skeleton

MAPS = ("activations", "matrices")


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Everything that the terms read, resolved from the config once.

    Attributes:
      options: the `distill` config block.
      skeleton: the joints.
      teacher: the dense teacher.
      layers: teacher layer of every student layer, in proportion to the depths.
      guided_layer: student layer that the hint guides.
      regressor: r, from the student's width to the teacher's.
    """

    options: Any
    skeleton: Skeleton
    teacher: MixSTE
    layers: tuple[int, ...]
    guided_layer: int
    regressor: Linear

    @property
    def active(self) -> bool:
        """Whether any term has a weight."""
        return any(self.options.weights.values())


def build_distillation(config: Any, skeleton: Skeleton) -> Distillation:
    """Resolves and checks the `distill` block."""
    options, network, teacher = config.distill, config.student.network, config.teacher.network
    frames, stride, layer = config.data.frames, config.student.input.stride, options.hints.layer
    require("distill.attention.maps", options.attention.maps, MAPS)
    if not -1 <= layer < network.depth:
        raise UserError(
            f"distill.hints.layer is {layer}: use 0 to {network.depth - 1}, the student's layers, or -1 for the middle one."
        )
    if options.relations.angle < 0:
        raise UserError(f"distill.relations.angle is {options.relations.angle}: use at least 0.")
    keyframes = keyframe_grid(config, "student").count
    if options.weights.relations and keyframes < 3:
        raise UserError(
            f"student.input.stride {stride} leaves {keyframes} keyframes, which make no angle: use a smaller one, or set "
            "distill.weights.relations to 0."
        )
    return Distillation(
        options=options,
        skeleton=skeleton,
        teacher=build_mixste(
            teacher,
            joints=skeleton.num_joints,
            frames=frames,
            training=True,
            place="teacher.network",
        ),
        layers=layer_map(network.depth, teacher.depth),
        guided_layer=(network.depth - 1) // 2 if layer == -1 else layer,
        regressor=Linear(teacher.width),
    )


def distillation_terms(
    distillation: Distillation,
    params: Any,
    frozen: Any,
    batch: Any,
    predicted: Float[Array, "B F J 3"],
    features: SparseFeatures,
) -> dict[str, Float[Array, "B"]]:
    """The unweighted terms by the name of their weight; a term without a weight is not computed.

    Args:
      distillation: as built.
      params: of the run, its `regressor` where hints have a weight.
      frozen: of the run.
      batch: its dense windows.
      predicted: the student's pose.
      features: the student's.
    """
    weights, options = distillation.options.weights, distillation.options
    pose, taught = distillation.teacher.apply(
        {"params": frozen["teacher"]["params"]}, batch["keypoints_2d"]
    )
    pose, taught = jax.lax.stop_gradient((pose, taught))
    student = features["network"]
    teacher = jax.tree.map(lambda dense: take_frames(dense, features["keyframes"]), taught)
    terms = {}
    if weights.output:
        terms["output"] = losses.output_loss(
            predicted, pose, np.asarray(distillation.skeleton.loss_weights)
        )
    if weights.hints:
        layer = distillation.guided_layer
        guided = distillation.regressor.apply(
            {"params": params["regressor"]}, student["temporal"][layer]
        )
        terms["hints"] = losses.hint_loss(guided, teacher["temporal"][distillation.layers[layer]])
    if weights.attention:
        maps, wanted = (
            attention_maps(network, options.attention.maps) for network in (student, teacher)
        )
        per_layer = [
            losses.attention_loss(maps[layer], wanted[other])
            for layer, other in enumerate(distillation.layers)
        ]
        terms["attention"] = sum(per_layer) / len(per_layer)
    if weights.relations:
        last = (network["temporal"][-1] for network in (student, teacher))
        frames = (
            joints.reshape(*joints.shape[:2], -1) for joints in last
        )  # [B, K, J, C] -> [B, K, JC]
        by_distance, by_angle = losses.relation_losses(*frames)
        terms["relations"] = by_distance + options.relations.angle * by_angle
    return terms


def attention_maps(network: MixSTEFeatures, maps: str) -> list[Float[Array, "B K P"]]:
    """Where every layer looks in a frame: by the `activations` of its joints, or by the `matrices` of its attention, heads averaged."""
    if maps == "activations":
        return [losses.activation_map(embeddings) for embeddings in network["temporal"]]
    found = (matrices.mean(2) for matrices in network["spatial_attention"])
    return [
        matrices.reshape(*matrices.shape[:2], -1) for matrices in found
    ]  # [B, K, J, J] -> [B, K, JJ]
