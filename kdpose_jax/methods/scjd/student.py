"""The sparse student from its config block, checked. The keyframe grid is inferred (spec/scjd.md 3.1-3.3)."""

from typing import Any

from kdpose_jax.errors import UserError
from kdpose_jax.methods.lifters import build_mixste
from kdpose_jax.methods.task import require
from kdpose_jax.models import keyframes as grid
from kdpose_jax.models import sparse_mixste
from kdpose_jax.models.sparse_mixste import SparseMixSTE
from kdpose_jax.skeletons import Skeleton


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
    """Warns where the keyframe grid is not symmetric (spec/scjd.md 3.2 and A31)."""
    if frames % chosen.stride == 0 and chosen.stride % 2:
        return ()
    keyframes = grid.uniform_grid(frames, chosen.stride, first_offset(frames, chosen))
    centre = "is" if (frames - 1) // 2 in keyframes else "is not"
    phases = ", and phase augmentation is off" if chosen.phase_augmentation and frames % chosen.stride else ""
    return (
        f"warning: student.input.stride {chosen.stride} is even or does not divide data.frames {frames}: {len(keyframes)} "
        f"keyframes {keyframes[0]} to {keyframes[-1]}, and the centre frame {(frames - 1) // 2} {centre} one of them{phases}.",
    )
