"""Resolves SCJD's options, and computes the teacher's targets and the distillation terms.

The paper's equations were not available. Forms and options are inferred
(docs/methods/scjd.md#joint-embedding to docs/methods/scjd.md#temporal-consistency).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from kdpose_jax.contracts import Batch, Tree
from kdpose_jax.errors import UserError, require
from kdpose_jax.methods.scjd import losses, pairs, schedule
from kdpose_jax.methods.scjd.adapters import EmbeddingProjectors
from kdpose_jax.models.mixste import MixSTE, MixSTEFeatures
from kdpose_jax.skeletons import Skeleton
from kdpose_jax.tasks import sparse_lifting


@dataclasses.dataclass(frozen=True)
class Live:
    """What the terms need that compare features with a teacher who is asked in every step.

    Attributes:
      teacher: the dense teacher.
      layers: teacher layer for each student layer.
      embedding_layers: student layers that DJED compares.
      reach: w, the number of context frames to either side of a keyframe.
      projectors: phi.
    """

    teacher: MixSTE
    layers: tuple[int, ...]
    embedding_layers: tuple[int, ...]
    reach: int
    projectors: EmbeddingProjectors


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Everything that the distillation terms read, resolved from the config once.

    Attributes:
      options: the `distill` config block.
      skeleton: the joints.
      live: what embedding and attention need; None if neither has a weight.
    """

    options: ConfigDict
    skeleton: Skeleton
    live: Live | None


def is_active(config: ConfigDict) -> bool:
    """Returns whether any term has a weight."""
    return any(config.distill.weights.values())


def build_distillation(config: ConfigDict, skeleton: Skeleton) -> Distillation:
    """Resolves and checks the `distill` block.

    Raises:
      UserError: an option is out of range, options do not fit together, or a term has a weight that
        the two networks do not have.
    """
    options = config.distill
    pairs.require_terms(options, pairs.student_of(config), pairs.teacher_of(config))
    for name, value, allowed in (
        ("embedding.context", options.embedding.context, losses.CONTEXTS),
        ("embedding.feature", options.embedding.feature, ("spatial", "temporal")),
        ("attention.kind", options.attention.kind, losses.ATTENTION_KINDS),
        ("attention.heads", options.attention.heads, ("mean", "each")),
        ("attention.gather", options.attention.gather, ("keyframe", "context")),
    ):
        require(f"distill.{name}", value, allowed)
    check_ranges(options)
    live = None
    if options.weights.embedding or options.weights.attention:
        live = build_live(config, skeleton)
    return Distillation(options=options, skeleton=skeleton, live=live)


def check_ranges(options: ConfigDict) -> None:
    """Checks the numbers of the `distill` block.

    Raises:
      UserError: a number is out of its range.
    """
    for name, value, lowest in (
        ("embedding.reach", options.embedding.reach, -1),
        ("temporal.velocity", options.temporal.velocity, 0),
        ("temporal.correlation", options.temporal.correlation, 0),
        ("warmup_epochs", options.warmup_epochs, 0),
    ):
        if not value >= lowest:
            raise UserError(f"distill.{name} is {value}: use at least {lowest}.")
    temperature, decay = options.embedding.temperature, options.decay_fraction
    if not temperature > 0:
        raise UserError(f"distill.embedding.temperature is {temperature}: use a number above 0.")
    if not 0 <= decay <= 1:
        raise UserError(f"distill.decay_fraction is {decay}: use a share from 0 to 1.")


def build_live(config: ConfigDict, skeleton: Skeleton) -> Live:
    """Resolves what embedding and attention need. Errors are as in `build_distillation`."""
    options = config.distill
    network, teacher = config.student.network, config.teacher.network
    same_heads = (network.heads, network.width) == (teacher.heads, teacher.width)
    if options.attention.heads == "each" and not same_heads:
        raise UserError(
            "distill.attention.heads 'each' needs equal heads and widths, and the student has "
            f"{network.heads} x {network.width}, the teacher {teacher.heads} x {teacher.width}: "
            "use 'mean'."
        )
    layers = tuple(options.embedding.layers) or schedule.last_third(network.depth)
    if not all(0 <= layer < network.depth for layer in layers):
        raise UserError(
            f"distill.embedding.layers is {layers}: the student has layers 0 to "
            f"{network.depth - 1}."
        )
    reach = options.embedding.reach
    return Live(
        teacher=sparse_lifting.build_teacher(config, skeleton),
        layers=teacher_layers(config),
        embedding_layers=layers,
        reach=config.student.input.stride if reach == -1 else reach,
        projectors=EmbeddingProjectors(teacher.width, layers),
    )


def teacher_layers(config: ConfigDict) -> tuple[int, ...]:
    """Returns the teacher layer for each student layer: as configured, or in proportion."""
    student, teacher = config.student.network.depth, config.teacher.network.depth
    layers = tuple(config.distill.layer_map)
    if not layers:
        return sparse_lifting.layer_map(student, teacher)
    if len(layers) != student or not all(0 <= layer < teacher for layer in layers):
        raise UserError(
            f"distill.layer_map is {layers}: name one of the teacher's layers 0 to {teacher - 1} "
            f"for each of the student's {student} layers, or leave it empty."
        )
    return layers


def distillation_terms(
    distillation: Distillation,
    params: Tree,
    frozen: Tree,
    batch: Batch,
    predicted: Float[Array, "B F J 3"],
    features: Any,
) -> dict[str, Float[Array, " B"]]:
    """Computes the unweighted terms, by the name of their weight; skips terms without a weight.

    Args:
      distillation: the resolved options.
      params: the run's parameters, with `projectors` if the embedding term has a weight.
      frozen: the run's frozen variables, with `teacher` if embedding or attention has a weight.
      batch: the windows, with `teacher_pose_3d` if the temporal term has a weight.
      predicted: the student's poses in all frames that it predicts, metres.
      features: the student's features; `SparseFeatures` if embedding or attention has a weight.

    Returns:
      Name -> `[B]`.
    """
    weights, options, live = distillation.options.weights, distillation.options, distillation.live
    terms = {}
    if live is not None:
        keyframes, student = features["keyframes"], features["network"]
        _, taught = sparse_lifting.ask_teacher(
            live.teacher,
            frozen,
            jnp.asarray(batch["keypoints_2d"]),
            keyframes if options.attention.gather == "keyframe" else None,
        )
        if weights.embedding:
            terms["embedding"] = embedding_term(
                live, options.embedding, params, batch, keyframes, student, taught
            )
        if weights.attention:
            terms["attention"] = attention_term(distillation, live, keyframes, student, taught)
    if weights.temporal:
        terms["temporal"] = losses.temporal_loss(
            predicted,
            jnp.asarray(batch["teacher_pose_3d"]),
            np.asarray(distillation.skeleton.loss_weights),
            options.temporal.velocity,
            options.temporal.correlation,
            jnp.asarray(batch["pose_3d"]) if options.temporal.gate else None,
        )
    return terms


def embedding_term(
    live: Live,
    options: ConfigDict,
    params: Tree,
    batch: Batch,
    keyframes: Int[Array, "*B K"],
    student: Mapping[str, Any],
    taught: Mapping[str, Any],
) -> Float[Array, " B"]:
    """Computes DJED, the mean over its layers, from the `MixSTEFeatures` of both networks.

    `options` is the block `distill.embedding`.
    """
    omega = None
    if options.motion_weight:
        keypoints_2d = jnp.asarray(batch["keypoints_2d"])
        omega = losses.motion_weights(keypoints_2d, keyframes, live.reach)
    embedded = {layer: student[options.feature][layer] for layer in live.embedding_layers}
    projected: Any = live.projectors.apply({"params": params["projectors"]}, embedded)
    total: Any = 0.0  # without a type of its own: the sum has the type of its terms
    for layer in live.embedding_layers:
        embeddings = taught[options.feature][live.layers[layer]]
        weights = context_of(live, options, embeddings, keyframes)
        context = losses.gather_context(embeddings, weights)
        total = total + losses.embedding_loss(projected[layer], context, omega)
    return total / len(live.embedding_layers)


def attention_term(
    distillation: Distillation,
    live: Live,
    keyframes: Int[Array, "*B K"],
    student: MixSTEFeatures,
    taught: MixSTEFeatures,
) -> Float[Array, " B"]:
    """Computes AJAD, the mean over all student layers, from the features of both networks."""
    options = distillation.options.attention
    adjacent = losses.adjacency(distillation.skeleton.hops(), options.kind)
    total: Any = 0.0  # without a type of its own: the sum has the type of its terms
    for layer, attention in enumerate(student["spatial_attention"]):
        target = taught["spatial_attention"][live.layers[layer]]
        if options.heads == "mean":
            attention = attention.mean(2, keepdims=True)
            target = target.mean(2, keepdims=True)
        if options.gather == "context":
            embeddings = taught["spatial"][live.layers[layer]]
            weights = context_of(live, distillation.options.embedding, embeddings, keyframes)
            # The weights belong to the query joint: [B, F, A, J, J] -> [B, F, J, A, J].
            target = losses.gather_context(target.swapaxes(2, 3), weights).swapaxes(2, 3)
        total = total + losses.attention_loss(attention, target, adjacent, options.kind)
    return total / len(student["spatial_attention"])


def context_of(
    live: Live,
    options: ConfigDict,
    embeddings: Float[Array, "B F J C"],
    keyframes: Int[Array, "*B K"],
) -> Float[Array, "B K J F"]:
    """Computes alpha, the weights of the frames around each keyframe, by `distill.embedding`."""
    return losses.context_weights(
        embeddings,
        keyframes,
        context=options.context,
        reach=live.reach,
        temperature=options.temperature,
    )
