"""The table of formats, what a user may ask for, and whether that can be met."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import BinaryIO

from kdpose_jax.errors import UserError, require
from kdpose_jax.poses import height, trajectory
from kdpose_jax.poses.predicted import Poses
from kdpose_jax.poses.writers import to_bvh, to_c3d, to_csv, to_json, to_npz, to_trc
from kdpose_jax.poses.writers.spool import Recording


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
      write: writes a recording into an open file and returns notes.
      for_each: whether every person gets a file. `write` is given one person then.
      only_3d: whether it cannot hold joints in pictures.
      remarks: whether the file holds the network, the notes and the like itself. Otherwise they
        stand in FILE.json beside it.
      unit: the unit of its 3D poses.
      axes: the axes of its 3D poses, a key of `axes.AXES`.
    """

    write: Callable[[BinaryIO, Recording], tuple[str, ...]]
    for_each: bool
    only_3d: bool
    remarks: bool
    unit: str
    axes: str


# In the order in which they are written: BVH may refuse a person, and the others are there then.
# write, for_each, only_3d, remarks, unit, axes
FORMATS = {
    "npz": Format(to_npz.write, False, False, True, "metres", "camera"),
    "json": Format(to_json.write, False, False, True, "metres", "camera"),
    "csv": Format(to_csv.write, False, False, False, "metres", "camera"),
    "trc": Format(to_trc.write, True, True, False, "metres", "y_up"),
    "c3d": Format(to_c3d.write, True, True, True, "millimetres", "z_up"),
    "bvh": Format(to_bvh.write, True, True, False, "centimetres", "y_up"),
}
FASTEST = 10_000  # frames per second


@dataclasses.dataclass(frozen=True)
class WritingOptions:
    """What a user may ask for beside the formats.

    Attributes:
      height: the person's height, metres, to which poses are scaled; None leaves them.
      root: the rule for the root, one of `trajectory.ROOTS`.
      focal: focal length, pixels, for the root `camera`; None otherwise.
      frames: (first, end) of the frames to write, the end excluded; None writes all.
    """

    height: float | None
    root: str
    focal: float | None
    frames: tuple[int, int] | None


def check_options(formats: Sequence[str], options: WritingOptions) -> None:
    """Checks what can be checked before any file is read.

    Raises:
      UserError: a format is unknown, or an option is out of range.
    """
    for name in formats:
        require("--format", name, FORMATS)
    trajectory.check_root(options.root, options.focal)
    height.check_height(options.height)
    if options.frames is not None and not 0 <= options.frames[0] < options.frames[1]:
        start, stop = options.frames
        raise UserError(
            f"--frames is '{start}:{stop}': give the first frame, counted from 0, and the frame "
            "behind the last one, such as 0:100."
        )


def check(formats: Sequence[str], options: WritingOptions, about: Poses, has_3d: bool) -> None:
    """Checks what can be checked before the first prediction.

    Args:
      formats: names of formats.
      options: what the user asks for.
      about: the joints, the rate and the size; its persons are not looked at.
      has_3d: whether the network predicts 3D poses.

    Raises:
      UserError: a format is unknown or cannot hold the poses, or an option cannot be met.
    """
    check_options(formats, options)
    for name in formats:
        if FORMATS[name].only_3d and not has_3d:
            raise UserError(
                f"--format {name} holds 3D poses, and the network '{about.network}' finds joints "
                "in pictures: use npz, json or csv."
            )
    if not 0 < about.fps <= FASTEST:
        raise UserError(
            f"--fps is {about.fps:g}: give the frames per second, above 0 and at most {FASTEST:,}."
        )
    if not has_3d and (options.height is not None or options.root != "given"):
        flag = "--height" if options.height is not None else "--root"
        raise UserError(
            f"{flag} is for 3D poses, and the network '{about.network}' finds joints in pictures: "
            f"leave {flag} out."
        )
    if options.height is not None:
        height.height_bones(about.joints, about.parents)
    if options.root == "camera" and about.size is None:
        raise UserError(
            "--root camera needs the size of the video, and the file does not say it: add --size "
            "WIDTHxHEIGHT."
        )
    if "bvh" in formats:
        to_bvh.check_tree(about.joints, about.parents)
