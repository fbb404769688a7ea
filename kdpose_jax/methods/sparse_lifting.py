"""3D pose lifting from sparse keyframes: SCJD's student on its task.

The keyframe grid is inferred: docs/methods/scjd.md#keyframes.
"""

from typing import Any

import jax

from kdpose_jax.errors import UserError
from kdpose_jax.methods import lifting
from kdpose_jax.methods.api import Batch, Group
from kdpose_jax.methods.lifters import build_mixste
from kdpose_jax.methods.task import Task, require
from kdpose_jax.models import keyframes as grid
from kdpose_jax.models import sparse_mixste
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.models.sparse_mixste import SparseMixSTE
from kdpose_jax.skeletons import Skeleton, find_skeleton


def init_teacher(network: MixSTE, key: jax.Array, batch: Batch) -> dict[str, Any]:
    """The variables of a dense teacher, as a run freezes them."""
    return {"params": network.init(key, batch["keypoints_2d"])["params"], "state": {}}


def build_task(config: Any) -> Task:
    """The task of the sparse student.

    Args:
      config: the locked config; reads `data` (skeleton, joints, frames) and `student` (network, input, loss).

    Returns:
      The task; its features are `SparseFeatures`, and every call of `apply` draws the offset where phases are augmented.

    Raises:
      UserError: options that do not fit together.
    """
    skeleton = find_skeleton(config.data.skeleton, config.data.joints)
    trained, evaluated = (build_student(config, skeleton, training=training) for training in (True, False))

    def init(key, batch):
        return trained.init(key, batch["keypoints_2d"])["params"], {}

    def apply(params, state, batch, key):
        offset = None
        if len(trained.offsets) > 1:
            offset = jax.random.randint(jax.random.fold_in(key, 1), (), 0, trained.stride)
        predicted, features = trained.apply(
            {"params": params},
            batch["keypoints_2d"],
            offset,
            deterministic=False,
            rngs={"drop_path": jax.random.fold_in(key, 0)},
        )
        return predicted, features, state

    loss = lifting.task_loss(config.student.loss, skeleton, config.data.frames)
    return Task(init, apply, loss, *lifting.predictors(evaluated.apply, skeleton))


def groups(chosen: Any) -> tuple[Group, ...]:
    """The optimiser groups of the student, from its `input` block."""
    # Decay would pull the rows of a learned matrix below the sum 1 that they start with, and so shrink poses.
    return (Group("student/upsampler/matrix", weight_decay=0.0),) if chosen.upsampling == "learned" else ()


def build_student(config: Any, skeleton: Skeleton, *, training: bool) -> SparseMixSTE:
    """The sparse student from its config block."""
    chosen, frames = config.student.input, config.data.frames
    offset = first_offset(frames, chosen)
    place = "student.input"
    for name, value, allowed in (
        ("selection", chosen.selection, sparse_mixste.SELECTIONS),
        ("upsampling", chosen.upsampling, sparse_mixste.UPSAMPLINGS),
        ("ends", chosen.ends, sparse_mixste.ENDS),
    ):
        require(f"{place}.{name}", value, allowed)
    offsets = (offset,)
    if has_phases(frames, chosen):
        if chosen.selection == "correlated":
            raise UserError(f"{place}.phase_augmentation has no meaning for correlated keyframes: switch it off.")
        offsets += tuple(o for o in range(chosen.stride) if o != offset)
    if chosen.upsampling in ("learned", "cross_attn") and chosen.selection == "correlated":
        raise UserError(f"{place}.upsampling '{chosen.upsampling}' needs {place}.selection 'uniform': it has no time stamps.")
    if chosen.upsampling == "cross_attn" and len(offsets) > 1:
        raise UserError(
            f"{place}.upsampling 'cross_attn' is not told the phase of its keyframes: set {place}.phase_augmentation=False."
        )
    network = build_mixste(
        config.student.network,
        joints=skeleton.num_joints,
        frames=grid.count_keyframes(frames, chosen.stride, offset),
        training=training,
        place="student.network",
    )
    return SparseMixSTE(
        network=network,
        frames=frames,
        stride=chosen.stride,
        offsets=offsets,
        selection=chosen.selection,
        upsampling=chosen.upsampling,
        ends=chosen.ends,
    )


def has_phases(frames: int, chosen: Any) -> bool:
    """Whether training draws the offset: only where every phase has equally many keyframes."""
    return chosen.phase_augmentation and frames % chosen.stride == 0


def first_offset(frames: int, chosen: Any) -> int:
    """The offset o for evaluation: as configured, or the centred one where it is -1."""
    if not 1 <= chosen.stride <= frames:
        raise UserError(f"student.input.stride is {chosen.stride}: use 1 to data.frames, which is {frames}.")
    offset = grid.centred_offset(chosen.stride) if chosen.offset == -1 else chosen.offset
    if not 0 <= offset < chosen.stride:
        raise UserError(f"student.input.offset is {chosen.offset}: use 0 to {chosen.stride - 1}, or -1 for the centre.")
    return offset


def keyframe_notes(frames: int, chosen: Any) -> tuple[str, ...]:
    """Warns where the keyframe grid is not symmetric (docs/methods/scjd.md#keyframes)."""
    if frames % chosen.stride == 0 and chosen.stride % 2:
        return ()
    keyframes = grid.uniform_grid(frames, chosen.stride, first_offset(frames, chosen))
    centre = "is" if (frames - 1) // 2 in keyframes else "is not"
    phases = ", and phase augmentation is off" if chosen.phase_augmentation and frames % chosen.stride else ""
    return (
        f"warning: student.input.stride {chosen.stride} is even or does not divide data.frames {frames}: {len(keyframes)} "
        f"keyframes {keyframes[0]} to {keyframes[-1]}, and the centre frame {(frames - 1) // 2} {centre} one of them{phases}.",
    )


def layer_map(student_depth: int, teacher_depth: int) -> tuple[int, ...]:
    """Teacher layer for every student layer, 0-based: l(m) = m L_T / L_S, rounded.

    Written from 1 in docs/methods/scjd.md#layer-map.
    """
    ratio = teacher_depth / student_depth
    return tuple(max(1, int((layer + 1) * ratio + 0.5)) - 1 for layer in range(student_depth))
