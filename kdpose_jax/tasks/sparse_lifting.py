"""Lifting from sparse keyframes, and the dense teacher of such a student.

The keyframe grid is inferred: docs/methods/scjd.md#keyframes.
"""

from typing import Any

import jax
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from kdpose_jax.codecs.keyframes import KeyframeGrid
from kdpose_jax.contracts import Batch, Group, Tree
from kdpose_jax.errors import UserError, require
from kdpose_jax.models import initial, sparse_mixste, upsampling
from kdpose_jax.models.mixste import MixSTE, MixSTEFeatures
from kdpose_jax.models.sparse_mixste import SparseMixSTE
from kdpose_jax.skeletons import Skeleton
from kdpose_jax.tasks.lifting_networks import build_mixste


def build_teacher(config: ConfigDict, skeleton: Skeleton) -> MixSTE:
    """Builds the dense teacher, as it teaches a student of the same windows.

    Raises:
      UserError: the teacher reads keyframes alone, or an option of `teacher.network` is out of
        range.
    """
    if "input" in config.teacher:
        raise UserError(
            f"The teacher '{config.teacher.checkpoint}' reads one frame in "
            f"{config.teacher.input.stride} (teacher.input.stride), and its features of every "
            "frame are needed: give a MixSTE without keyframes."
        )
    return build_mixste(
        config.teacher.network,
        joints=skeleton.num_joints,
        frames=config.data.frames,
        training=True,
        place="teacher.network",
    )


def init_teacher(network: MixSTE, key: jax.Array, batch: Batch) -> dict[str, Any]:
    """Initialises the frozen variables of a dense teacher."""
    variables = initial.variables(network, key, batch["keypoints_2d"])
    return {"params": variables["params"], "state": {}}


def ask_teacher(
    network: MixSTE,
    frozen: Tree,
    keypoints_2d: Float[Array, "B F J 2"],
    attention_frames: Int[Array, "*B K"] | None = None,
) -> tuple[Float[Array, "B F J 3"], MixSTEFeatures]:
    """Computes the teacher's poses (metres) and features in dense windows, without gradient.

    Args:
      network: the teacher.
      frozen: the run's frozen variables, with `teacher`.
      keypoints_2d: the dense windows, screen units.
      attention_frames: the frames whose spatial attention is read; None for all.
    """
    variables = {"params": frozen["teacher"]["params"]}
    answer: Any = network.apply(variables, keypoints_2d, attention_frames=attention_frames)
    return jax.lax.stop_gradient(answer)


def draw_offset(
    network: SparseMixSTE, key: jax.Array
) -> tuple[tuple[Int[Array, ""] | None], jax.Array]:
    """Draws the keyframes' offset of a training step.

    Args:
      network: the network.
      key: the step's key.

    Returns:
      The network's further arguments, which are the offset (None for the grid's own), and the key
      that is left.
    """
    offset = None
    if len(network.offsets) > 1:
        offset = jax.random.randint(jax.random.fold_in(key, 1), (), 0, network.grid.stride)
    return (offset,), jax.random.fold_in(key, 0)


def groups(config: ConfigDict, stage: str) -> tuple[Group, ...]:
    """Returns the optimiser groups of a network, () if it reads every frame."""
    if "input" not in config[stage] or config[stage].input.upsampling != "learned":
        return ()
    # Rows of the learned matrix start with the sum 1. Weight decay would lower it and shrink poses.
    return (Group("student/upsampler/matrix", weight_decay=0.0),)


def build_student(
    config: ConfigDict, stage: str, skeleton: Skeleton, *, training: bool
) -> SparseMixSTE:
    """Builds the sparse student from its config block.

    Raises:
      UserError: an option is out of range, or options do not fit together.
    """
    options = config[stage].input
    if config[stage].network.name != "mixste":
        raise UserError(
            f"{stage}.network.name is '{config[stage].network.name}', and {stage}.input names "
            "keyframes, which mixste alone reads: choose the network by the preset's option "
            "student=."
        )
    grid = keyframe_grid(config, stage)
    place = f"{stage}.input"
    for name, value, allowed in (
        ("selection", options.selection, sparse_mixste.SELECTIONS),
        ("upsampling", options.upsampling, upsampling.UPSAMPLINGS),
        ("ends", options.ends, upsampling.ENDS),
    ):
        require(f"{place}.{name}", value, allowed)
    offsets: tuple[int, ...] = (grid.offset,)
    if options.phase_augmentation and grid.has_equal_phases:
        if options.selection == "correlated":
            raise UserError(
                f"{place}.phase_augmentation has no meaning for correlated keyframes: switch it "
                "off."
            )
        offsets += tuple(other for other in range(grid.stride) if other != grid.offset)
    if options.upsampling in ("learned", "cross_attn") and options.selection == "correlated":
        raise UserError(
            f"{place}.upsampling '{options.upsampling}' needs {place}.selection 'uniform': it has "
            "no time stamps."
        )
    if options.upsampling == "cross_attn" and len(offsets) > 1:
        raise UserError(
            f"{place}.upsampling 'cross_attn' is not told the phase of its keyframes: set "
            f"{place}.phase_augmentation=False."
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


def keyframe_grid(config: ConfigDict, stage: str) -> KeyframeGrid:
    """Returns the keyframes that a stage reads in evaluation, from its `input` block.

    Raises:
      UserError: the stride or the offset is out of range.
    """
    options = config[stage].input
    try:
        return KeyframeGrid.from_options(config.data.frames, options.stride, options.offset)
    except ValueError as error:
        raise UserError(f"{stage}.input.{error}.") from error


def keyframe_notes(config: ConfigDict, stage: str) -> tuple[str, ...]:
    """Warns where the keyframe grid is not symmetric (docs/methods/scjd.md#keyframes)."""
    if "input" not in config[stage]:
        return ()
    grid = keyframe_grid(config, stage)
    frames = config.data.frames
    if grid.has_equal_phases and grid.stride % 2:
        return ()
    first, last = grid.keyframes[[0, -1]]
    centre = (frames - 1) // 2
    is_keyframe = "is" if grid.mask[centre] else "is not"
    lost = config[stage].input.phase_augmentation and not grid.has_equal_phases
    phases = ", and phase augmentation is off" if lost else ""
    return (
        f"warning: {stage}.input.stride {grid.stride} is even or does not divide data.frames "
        f"{frames}: {grid.count} keyframes {first} to {last}, and the centre frame {centre} "
        f"{is_keyframe} one of them{phases}.",
    )


def layer_map(student_depth: int, teacher_depth: int) -> tuple[int, ...]:
    """Returns the teacher layer for each student layer: l(m) = m L_T / L_S, rounded.

    Layers count from 0 here, and from 1 in docs/methods/scjd.md#layer-map.
    """
    ratio = teacher_depth / student_depth
    return tuple(max(1, int((layer + 1) * ratio + 0.5)) - 1 for layer in range(student_depth))
