"""3D pose lifting from sparse keyframes: SCJD's student on its task.

The keyframe grid is inferred: docs/methods/scjd.md#keyframes.
"""

from typing import Any

import jax

from kdpose_jax.codecs.keyframes import KeyframeGrid
from kdpose_jax.contracts import Batch, Group, Task
from kdpose_jax.errors import UserError
from kdpose_jax.methods import lifting
from kdpose_jax.methods.lifters import build_mixste
from kdpose_jax.methods.task import require
from kdpose_jax.models import sparse_mixste, upsampling
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.models.sparse_mixste import SparseMixSTE
from kdpose_jax.skeletons import Skeleton, find_skeleton


def init_teacher(network: MixSTE, key: jax.Array, batch: Batch) -> dict[str, Any]:
    """The variables of a dense teacher, as a run freezes them."""
    return {"params": network.init(key, batch["keypoints_2d"])["params"], "state": {}}


def build_task(config: Any, stage: str) -> Task:
    """The task of the sparse student.

    Args:
      config: the locked config; reads `data` (skeleton, joints, frames) and the stage's block (network, input, loss).
      stage: name of the block that is trained.

    Returns:
      The task; its features are `SparseFeatures`, and every call of `apply` draws the offset where phases are augmented.

    Raises:
      UserError: options that do not fit together.
    """
    skeleton = find_skeleton(config.data.skeleton, config.data.joints)
    trained, evaluated = (
        build_student(config, stage, skeleton, training=training) for training in (True, False)
    )

    def init(key, batch):
        return trained.init(key, batch["keypoints_2d"])["params"], {}

    def apply(params, state, batch, key):
        offset = None
        if len(trained.offsets) > 1:
            offset = jax.random.randint(jax.random.fold_in(key, 1), (), 0, trained.grid.stride)
        predicted, features = trained.apply(
            {"params": params},
            batch["keypoints_2d"],
            offset,
            deterministic=False,
            rngs={"drop_path": jax.random.fold_in(key, 0)},
        )
        return predicted, features, state

    loss = lifting.task_loss(
        config[stage].loss, skeleton, config.data.frames, place=f"{stage}.loss"
    )
    return Task(init, apply, loss, *lifting.predictors(evaluated.apply, skeleton))


def groups(config: Any, stage: str) -> tuple[Group, ...]:
    """The optimiser groups of the student."""
    # Decay would pull the rows of a learned matrix below the sum 1 that they start with, and so shrink poses.
    return (
        (Group("student/upsampler/matrix", weight_decay=0.0),)
        if config[stage].input.upsampling == "learned"
        else ()
    )


def build_student(config: Any, stage: str, skeleton: Skeleton, *, training: bool) -> SparseMixSTE:
    """The sparse student from its config block."""
    options, grid = config[stage].input, keyframe_grid(config, stage)
    place = f"{stage}.input"
    for name, value, allowed in (
        ("selection", options.selection, sparse_mixste.SELECTIONS),
        ("upsampling", options.upsampling, upsampling.UPSAMPLINGS),
        ("ends", options.ends, upsampling.ENDS),
    ):
        require(f"{place}.{name}", value, allowed)
    offsets = (grid.offset,)
    if options.phase_augmentation and grid.has_equal_phases:
        if options.selection == "correlated":
            raise UserError(
                f"{place}.phase_augmentation has no meaning for correlated keyframes: switch it off."
            )
        offsets += tuple(other for other in range(grid.stride) if other != grid.offset)
    if options.upsampling in ("learned", "cross_attn") and options.selection == "correlated":
        raise UserError(
            f"{place}.upsampling '{options.upsampling}' needs {place}.selection 'uniform': it has no time stamps."
        )
    if options.upsampling == "cross_attn" and len(offsets) > 1:
        raise UserError(
            f"{place}.upsampling 'cross_attn' is not told the phase of its keyframes: set {place}.phase_augmentation=False."
        )
    network = build_mixste(
        config[stage].network,
        joints=skeleton.num_joints,
        frames=grid.count,
        training=training,
        place=f"{stage}.network",
    )
    return SparseMixSTE(
        network=network,
        grid=grid,
        offsets=offsets,
        selection=options.selection,
        upsampling=options.upsampling,
        ends=options.ends,
    )


def keyframe_grid(config: Any, stage: str) -> KeyframeGrid:
    """The keyframes that a stage reads in evaluation, from its `input` block.

    Raises:
      UserError: a stride or an offset that the window does not have.
    """
    options = config[stage].input
    try:
        return KeyframeGrid.from_options(config.data.frames, options.stride, options.offset)
    except ValueError as error:
        raise UserError(f"{stage}.input.{error}.") from error


def keyframe_notes(config: Any, stage: str) -> tuple[str, ...]:
    """Warns where the keyframe grid is not symmetric (docs/methods/scjd.md#keyframes)."""
    grid, frames = keyframe_grid(config, stage), config.data.frames
    if grid.has_equal_phases and grid.stride % 2:
        return ()
    first, last = grid.keyframes[[0, -1]]
    centre = "is" if grid.mask[(frames - 1) // 2] else "is not"
    drawn = config[stage].input.phase_augmentation and not grid.has_equal_phases
    phases = ", and phase augmentation is off" if drawn else ""
    return (
        f"warning: {stage}.input.stride {grid.stride} is even or does not divide data.frames {frames}: {grid.count} "
        f"keyframes {first} to {last}, and the centre frame {(frames - 1) // 2} {centre} one of them{phases}.",
    )


def layer_map(student_depth: int, teacher_depth: int) -> tuple[int, ...]:
    """Teacher layer for every student layer, 0-based: l(m) = m L_T / L_S, rounded.

    Written from 1 in docs/methods/scjd.md#layer-map.
    """
    ratio = teacher_depth / student_depth
    return tuple(max(1, int((layer + 1) * ratio + 0.5)) - 1 for layer in range(student_depth))
