"""What the student is taught: the teacher's targets and the weighted terms, from the resolved options.

The paper's equations were not available: forms and options are inferred
(docs/methods/scjd.md#joint-embedding to docs/methods/scjd.md#temporal-consistency).
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from kdpose_jax.codecs import poses
from kdpose_jax.errors import UserError
from kdpose_jax.methods.lifters import build_mixste
from kdpose_jax.methods.scjd import losses, schedule
from kdpose_jax.methods.scjd.adapters import EmbeddingProjectors
from kdpose_jax.methods.sparse_lifting import layer_map
from kdpose_jax.methods.task import require
from kdpose_jax.models import upsampling
from kdpose_jax.models.keyframes import take_frames
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.skeletons import Skeleton


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Everything that the distillation terms read, resolved from the config once.

    Attributes:
      options: the `distill` config block.
      skeleton: the joints.
      teacher: the dense teacher, for training-time targets.
      layers: teacher layer of every student layer.
      embedding_layers: student layers that DJED joins.
      reach: w, frames of context to either side of a keyframe.
      projectors: phi.
    """

    options: Any
    skeleton: Skeleton
    teacher: MixSTE
    layers: tuple[int, ...]
    embedding_layers: tuple[int, ...]
    reach: int
    projectors: EmbeddingProjectors

    @property
    def active(self) -> bool:
        """Whether any term has a weight."""
        weights = self.options.weights
        return bool(weights.embedding or weights.attention or weights.temporal)


def build_distillation(config: Any, skeleton: Skeleton) -> Distillation:
    """Resolves and checks the `distill` block."""
    options, network, teacher = config.distill, config.student.network, config.teacher.network
    for name, value, allowed in (
        ("embedding.context", options.embedding.context, losses.CONTEXTS),
        ("embedding.feature", options.embedding.feature, ("spatial", "temporal")),
        ("attention.kind", options.attention.kind, losses.ATTENTION_KINDS),
        ("attention.heads", options.attention.heads, ("mean", "each")),
        ("attention.gather", options.attention.gather, ("keyframe", "context")),
    ):
        require(f"distill.{name}", value, allowed)
    if options.attention.heads == "each" and (network.heads, network.width) != (
        teacher.heads,
        teacher.width,
    ):
        raise UserError(
            f"distill.attention.heads 'each' needs equal heads and widths, and the student has {network.heads} x "
            f"{network.width}, the teacher {teacher.heads} x {teacher.width}: use 'mean'."
        )
    layers = tuple(options.embedding.layers) or schedule.last_third(network.depth)
    if not all(0 <= layer < network.depth for layer in layers):
        raise UserError(
            f"distill.embedding.layers is {layers}: the student has layers 0 to {network.depth - 1}."
        )
    for name, value, fits in (
        ("embedding.reach", options.embedding.reach, options.embedding.reach >= -1),
        ("embedding.temperature", options.embedding.temperature, options.embedding.temperature > 0),
        ("warmup_epochs", options.warmup_epochs, options.warmup_epochs >= 0),
        ("decay_fraction", options.decay_fraction, 0 <= options.decay_fraction <= 1),
    ):
        if not fits:
            raise UserError(
                f"distill.{name} is {value}: see the config for what it means and give a value in its range."
            )
    reach = (
        config.student.input.stride if options.embedding.reach == -1 else options.embedding.reach
    )
    return Distillation(
        options=options,
        skeleton=skeleton,
        teacher=build_mixste(
            teacher,
            joints=skeleton.num_joints,
            frames=config.data.frames,
            training=True,
            place="teacher.network",
        ),
        layers=teacher_layers(config),
        embedding_layers=layers,
        reach=reach,
        projectors=EmbeddingProjectors(teacher.width, layers),
    )


def teacher_layers(config: Any) -> tuple[int, ...]:
    """Teacher layer of every student layer: as configured, or in proportion."""
    student, teacher, chosen = (
        config.student.network.depth,
        config.teacher.network.depth,
        tuple(config.distill.layer_map),
    )
    if not chosen:
        return layer_map(student, teacher)
    if len(chosen) != student or not all(0 <= layer < teacher for layer in chosen):
        raise UserError(
            f"distill.layer_map is {chosen}: name one of the teacher's layers 0 to {teacher - 1} for each of the student's "
            f"{student} layers, or leave it empty."
        )
    return chosen


def distillation_terms(
    distillation: Distillation,
    params: Any,
    frozen: Any,
    batch: Any,
    predicted: jax.Array,
    features: Any,
) -> dict[str, jax.Array]:
    """The unweighted terms by the name of their weight, each `[B]`; a term without a weight is not computed."""
    weights, options = distillation.options.weights, distillation.options
    pose, taught = distillation.teacher.apply(
        {"params": frozen["teacher"]["params"]}, batch["keypoints_2d"]
    )
    pose, taught = jax.lax.stop_gradient((pose, taught))
    terms = {}
    keyframes, student = features["keyframes"], features["network"]
    if weights.embedding:
        terms["embedding"] = embedding_term(distillation, params, batch, keyframes, student, taught)
    if weights.attention:
        terms["attention"] = attention_term(distillation, keyframes, student, taught)
    if weights.temporal:
        if options.flip_averaged_targets:
            pose = flip_averaged_pose(distillation, frozen, batch["keypoints_2d"], pose)
        joint_weights = np.asarray(distillation.skeleton.loss_weights)
        truth = batch["pose_3d"] if options.temporal.gate else None
        term = losses.temporal_pose_loss(
            predicted, pose, joint_weights, options.temporal.velocity, truth
        )
        if options.temporal.correlation:
            last = upsampling.upsample(features["matrix"], student["temporal"][-1])
            correlation = losses.correlation_loss(last, taught["temporal"][-1])
            term = term + options.temporal.correlation * correlation
        terms["temporal"] = term
    return terms


def embedding_term(
    distillation: Distillation,
    params: Any,
    batch: Any,
    keyframes: jax.Array,
    student: Any,
    taught: Any,
) -> jax.Array:
    """DJED: mean over its layers, `[B]`."""
    options = distillation.options.embedding
    omega = None
    if options.motion_weight:
        omega = losses.motion_weights(batch["keypoints_2d"], keyframes, distillation.reach)
    chosen = {layer: student[options.feature][layer] for layer in distillation.embedding_layers}
    projected = distillation.projectors.apply({"params": params["projectors"]}, chosen)
    total = 0.0
    for layer in distillation.embedding_layers:
        embeddings = taught[options.feature][distillation.layers[layer]]
        context = losses.gather_context(
            embeddings, keyframes, context_of(distillation, embeddings, keyframes)
        )
        total = total + losses.embedding_loss(projected[layer], context, omega)
    return total / len(distillation.embedding_layers)


def attention_term(
    distillation: Distillation, keyframes: jax.Array, student: Any, taught: Any
) -> jax.Array:
    """AJAD: mean over all student layers, `[B]`."""
    options = distillation.options.attention
    adjacent = losses.adjacency(distillation.skeleton.hops(), options.kind)
    total = 0.0
    for layer, attention in enumerate(student["spatial_attention"]):
        target = taught["spatial_attention"][distillation.layers[layer]]
        if options.heads == "mean":
            attention, target = (maps.mean(2, keepdims=True) for maps in (attention, target))
        if (
            options.gather == "context"
        ):  # the weights belong to the query joint: [B, F, A, J, J] -> [B, F, J, A, J]
            embeddings = taught["spatial"][distillation.layers[layer]]
            weights = context_of(distillation, embeddings, keyframes)
            target = losses.gather_context(target.swapaxes(2, 3), keyframes, weights).swapaxes(2, 3)
        else:
            target = take_frames(target, keyframes)
        total = total + losses.attention_loss(attention, target, adjacent, options.kind)
    return total / len(student["spatial_attention"])


def context_of(
    distillation: Distillation, embeddings: jax.Array, keyframes: jax.Array
) -> jax.Array:
    """alpha of the teacher's embeddings around the keyframes, `[B, K, J, 2 w + 1]`."""
    options = distillation.options.embedding
    return losses.context_weights(
        embeddings,
        keyframes,
        context=options.context,
        reach=distillation.reach,
        temperature=options.temperature,
    )


def flip_averaged_pose(
    distillation: Distillation, frozen: Any, keypoints_2d: jax.Array, pose: jax.Array
) -> jax.Array:
    """P_T averaged with the un-flipped prediction of the flipped input, `[B, F, J, 3]`, no gradient."""
    permutation = distillation.skeleton.flip_permutation
    flipped = poses.flip(keypoints_2d, permutation)
    mirrored, _ = distillation.teacher.apply({"params": frozen["teacher"]["params"]}, flipped)
    return jax.lax.stop_gradient((pose + poses.flip(mirrored, permutation)) / 2)
