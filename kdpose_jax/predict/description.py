"""Says what a network reads and returns, in plain values that travel with exported files."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kdpose_jax.codecs.keyframes import KeyframeGrid
from kdpose_jax.errors import UserError
from kdpose_jax.experiment.run import Run, reads
from kdpose_jax.skeletons import SKELETONS, Skeleton

LIFTER, PICTURES = "lifter", "pictures"
KINDS = (LIFTER, PICTURES)


@dataclasses.dataclass(frozen=True)
class Description:
    """What a user of a network must know.

    Attributes:
      name: the network's name, such as `student`.
      kind: `lifter` for 2D keypoints to 3D poses, or `pictures` for crops to 2D keypoints.
      skeleton: the name of the joints' layout, a key of `SKELETONS`.
      frames: number of frames that one predicted frame depends on; 1 for pictures.
      predicted: number F of frames that a call predicts at once; 1 for pictures.
      before: number of frames in front of them that are only read.
      after: number of frames behind them that are only read.
      keyframe_stride: r, where a lifter reads every r-th frame; 1 reads all.
      keyframe_offset: the first frame of a window that is read.
      keyframe_selection: `uniform`, or `correlated` if each window chooses its own keyframes.
      side: side S of the square crops, pixels; 0 for a lifter.
      fingerprint: identifies the network's variables by their values.
    """

    name: str
    kind: str
    skeleton: str
    frames: int
    predicted: int
    before: int
    after: int
    keyframe_stride: int
    keyframe_offset: int
    keyframe_selection: str
    side: int
    fingerprint: str

    @property
    def layout(self) -> Skeleton:
        """The joints' layout."""
        return SKELETONS[self.skeleton]

    @property
    def window(self) -> int:
        """Number N of frames in a window that the network is given."""
        return self.before + self.predicted + self.after

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: `(N, J, 2)` for a lifter, `(S, S, 3)` for pictures."""
        if self.kind == LIFTER:
            return self.window, self.layout.num_joints, 2
        return self.side, self.side, 3

    @property
    def input_name(self) -> str:
        """The name of the network's input in exported files."""
        return "keypoints_2d" if self.kind == LIFTER else "image"

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the network's outputs in exported files."""
        return ("pose_3d",) if self.kind == LIFTER else ("joints", "scores")


def describe(run: Run, fingerprint: str) -> Description:
    """Describes a network from its run.

    Raises:
      UserError: the run's config has no layout of joints that this version knows.
    """
    config, what = run.config, reads(run, training=False)
    if config.data.skeleton not in SKELETONS:
        raise UserError(
            f"The network's layout of joints is '{config.data.skeleton}', and this version knows "
            f"{', '.join(SKELETONS)}: use the version that trained it."
        )
    shared: dict[str, Any] = {
        "name": run.name,
        "skeleton": config.data.skeleton,
        "fingerprint": fingerprint,
    }
    if "views" in what:
        return Description(
            kind=PICTURES,
            frames=1,
            predicted=1,
            before=0,
            after=0,
            keyframe_stride=1,
            keyframe_offset=0,
            keyframe_selection="uniform",
            side=what["views"]["image"],
            **shared,
        )
    stride, offset, selection = 1, 0, "uniform"
    if "input" in run.block and "stride" in run.block.input:
        options = run.block.input
        grid = KeyframeGrid.from_options(config.data.frames, options.stride, options.offset)
        stride, offset, selection = grid.stride, grid.offset, options.selection
    return Description(
        kind=LIFTER,
        frames=config.data.frames,
        predicted=what["frames"],
        before=what["context"][0],
        after=what["context"][1],
        keyframe_stride=stride,
        keyframe_offset=offset,
        keyframe_selection=selection if stride > 1 else "uniform",
        side=0,
        **shared,
    )


def from_dict(values: Any, place: str) -> Description:
    """Reads a description that was stored as plain values.

    Args:
      values: the result of `dataclasses.asdict`, from a user's file.
      place: the file, for error messages.

    Raises:
      UserError: a field is missing, or its value is not one that this version knows.
    """
    fields = {field.name: field.type for field in dataclasses.fields(Description)}
    if not isinstance(values, Mapping):
        raise UserError(f"'{place}' does not describe a network: export it again.")
    for name, kind in fields.items():
        if name not in values or type(values[name]) is not kind:
            found = repr(values[name]) if name in values else "absent"
            raise UserError(
                f"'{place}' does not describe a network of this version ({name} is {found:.60}): "
                "export it again with this version."
            )
    known = Description(**{name: values[name] for name in fields})
    right = (
        known.kind in KINDS
        and known.skeleton in SKELETONS
        and min(known.frames, known.predicted, known.keyframe_stride) > 0
        and min(known.before, known.after, known.keyframe_offset, known.side) >= 0
        and (known.side > 0) == (known.kind == PICTURES)
    )
    if not right:
        raise UserError(
            f"'{place}' contradicts itself ({known!r:.300}): export it again with this version."
        )
    return known
