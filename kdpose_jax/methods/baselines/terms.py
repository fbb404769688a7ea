"""Resolves the options of the baselines and computes their distillation terms."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from kdpose_jax.contracts import Batch, Tree
from kdpose_jax.errors import UserError, require
from kdpose_jax.methods.baselines import losses
from kdpose_jax.models.keyframes import take_frames
from kdpose_jax.models.layers import Linear
from kdpose_jax.models.mixste import MixSTE, MixSTEFeatures
from kdpose_jax.models.sparse_mixste import SparseFeatures
from kdpose_jax.skeletons import Skeleton
from kdpose_jax.tasks import sparse_lifting

MAPS = ("activations", "matrices")


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Everything that the terms read, resolved from the config once.

    Attributes:
      options: the `distill` config block.
      skeleton: the joints.
      teacher: the dense teacher.
      layers: teacher layer for each student layer, in proportion to the depths.
      guided_layer: the student layer that the hint guides.
      regressor: r, from the student's width to the teacher's.
    """

    options: ConfigDict
    skeleton: Skeleton
    teacher: MixSTE
    layers: tuple[int, ...]
    guided_layer: int
    regressor: Linear

    @property
    def active(self) -> bool:
        """Whether any term has a weight."""
        return any(self.options.weights.values())


def build_distillation(config: ConfigDict, skeleton: Skeleton) -> Distillation:
    """Resolves and checks the `distill` block.

    Raises:
      UserError: an option is out of range, or options do not fit together.
    """
    options = config.distill
    network, teacher = config.student.network, config.teacher.network
    if "input" not in config.student:
        raise UserError(
            f"method is 'baselines', and student.network.name is '{network.name}': its losses "
            "compare features on keyframes, which student mixste alone has."
        )
    stride, layer = config.student.input.stride, options.hints.layer
    require("distill.attention.maps", options.attention.maps, MAPS)
    if not -1 <= layer < network.depth:
        raise UserError(
            f"distill.hints.layer is {layer}: use 0 to {network.depth - 1}, the student's layers, "
            "or -1 for the middle one."
        )
    if options.relations.angle < 0:
        raise UserError(f"distill.relations.angle is {options.relations.angle}: use at least 0.")
    keyframes = sparse_lifting.keyframe_grid(config, "student").count
    if options.weights.relations and keyframes < 3:
        raise UserError(
            f"student.input.stride {stride} leaves {keyframes} keyframes, which make no angle: use "
            "a smaller one, or set distill.weights.relations to 0."
        )
    return Distillation(
        options=options,
        skeleton=skeleton,
        teacher=sparse_lifting.build_teacher(config, skeleton),
        layers=sparse_lifting.layer_map(network.depth, teacher.depth),
        guided_layer=(network.depth - 1) // 2 if layer == -1 else layer,
        regressor=Linear(teacher.width),
    )


def distillation_terms(
    distillation: Distillation,
    params: Tree,
    frozen: Tree,
    batch: Batch,
    predicted: Float[Array, "B F J 3"],
    features: SparseFeatures,
) -> dict[str, Float[Array, " B"]]:
    """Computes the unweighted terms, by the name of their weight; skips terms without a weight.

    Args:
      distillation: the resolved options.
      params: the run's parameters, with `regressor` if hints have a weight.
      frozen: the run's frozen variables, with `teacher`.
      batch: the dense windows.
      predicted: the student's poses, metres.
      features: the student's features.
    """
    weights, options = distillation.options.weights, distillation.options
    pose, taught = sparse_lifting.ask_teacher(
        distillation.teacher, frozen, jnp.asarray(batch["keypoints_2d"])
    )
    student = features["network"]
    teacher = jax.tree.map(lambda dense: take_frames(dense, features["keyframes"]), taught)
    terms: dict[str, Any] = {}
    if weights.output:
        terms["output"] = losses.output_loss(
            predicted, pose, np.asarray(distillation.skeleton.loss_weights)
        )
    if weights.hints:
        layer = distillation.guided_layer
        guided: Any = distillation.regressor.apply(
            {"params": params["regressor"]}, student["temporal"][layer]
        )
        terms["hints"] = losses.hint_loss(guided, teacher["temporal"][distillation.layers[layer]])
    if weights.attention:
        maps = attention_maps(student, options.attention.maps)
        target_maps = attention_maps(teacher, options.attention.maps)
        per_layer = [
            losses.attention_loss(maps[layer], target_maps[teacher_layer])
            for layer, teacher_layer in enumerate(distillation.layers)
        ]
        terms["attention"] = sum(per_layer) / len(per_layer)
    if weights.relations:
        by_distance, by_angle = losses.relation_losses(
            _flat(student["temporal"][-1]), _flat(teacher["temporal"][-1])
        )
        terms["relations"] = by_distance + options.relations.angle * by_angle
    return terms


def attention_maps(network: MixSTEFeatures, maps: str) -> list[Float[Array, "B K P"]]:
    """Lists a map for every layer, which says where in a frame the layer looks.

    Args:
      network: features of MixSTE.
      maps: `activations` takes the joints' activations (P is J); `matrices` takes the attention
        between joints, averaged over heads (P is J J).
    """
    if maps == "activations":
        return [losses.activation_map(embeddings) for embeddings in network["temporal"]]
    return [_flat(matrices.mean(2)) for matrices in network["spatial_attention"]]


def _flat(values: Float[Array, "B K J _"]) -> Float[Array, "B K P"]:
    """Joins the last two axes: [B, K, J, C] -> [B, K, JC]."""
    return values.reshape(*values.shape[:2], -1)
