"""Reads keypoints of any detector: the table of formats, and how they are told apart by content."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from kdpose_jax.errors import UserError, require
from kdpose_jax.keypoints import joint_names, layouts, rates, sizes
from kdpose_jax.keypoints.formats import (
    alphapose,
    coco,
    deeplabcut,
    detectron2,
    mediapipe,
    mmpose,
    openpose,
    plain,
    ultralytics,
    videopose3d,
)
from kdpose_jax.keypoints.formats.options import Options
from kdpose_jax.keypoints.formats.probing import Probe, probe
from kdpose_jax.keypoints.tracks import Keypoints


class Format(NamedTuple):
    """A format of keypoints.

    Attributes:
      what: which tool writes it, and as what.
      recognises: whether what a path holds looks like it.
      read: (path, options) -> the keypoints; raises UserError.
    """

    what: str
    recognises: Callable[[Probe], bool]
    read: Callable[[str, Options], Keypoints]


FORMATS = {
    module.NAME: Format(module.WHAT, module.recognises, module.read)
    for module in (
        openpose,
        alphapose,
        detectron2,
        videopose3d,
        mmpose,
        ultralytics,
        coco,
        mediapipe,
        deeplabcut,
        plain,
    )
}
# Formats whose files may hold several videos.
_OF_SEVERAL = (videopose3d.NAME, plain.NAME)


def read_keypoints(
    path: str,
    *,
    format_name: str | None = None,
    joints: str | None = None,
    map_file: str | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    clip: str | None = None,
) -> Keypoints:
    """Reads a file or folder of 2D keypoints.

    Args:
      path: the detector's file or folder.
      format_name: the format, one of `FORMATS` (`--format`); None recognises it by the content.
      joints: the joints' layout (`--joints`); None finds it.
      map_file: a JSON file from the file's names of joints to ours (`--map`); None without it.
      size: width and height of the video, pixels (`--size`); None takes the file's, or those of a
        video or picture beside it.
      fps: frames per second (`--fps`); None takes the file's, or those of a video beside it.
      clip: the video in a file of several (`--clip`).

    Returns:
      The keypoints. `notes` says which format was recognised, and what was assumed.

    Raises:
      UserError: the file cannot be read as any format, or as the one that was asked for.
    """
    if format_name is not None:
        require("--format", format_name, FORMATS)
    if joints is not None:
        layouts.find_layout(joints)
    if fps is not None:
        rates.require_rate(fps, "--fps")
    names = joint_names.read_map(map_file) if map_file is not None else None
    content = probe(path)
    found, notes = _recognise(content, format_name)
    if clip is not None and found not in _OF_SEVERAL:
        raise UserError(f"--clip {clip}: '{path}' ({found}) is of one video: leave --clip out.")
    near = sizes.beside(path) if size is None or fps is None else None
    keypoints = FORMATS[found].read(content.path, Options(joints, names, size, fps, clip, near))
    return dataclasses.replace(keypoints, notes=(*notes, *keypoints.notes))


def is_video(folder: str) -> bool:
    """Tells whether a folder holds the keypoints of one video, with a file for each frame."""
    try:
        content = probe(folder)
    except UserError:
        return False
    return any(one.recognises(content) for one in FORMATS.values())


def _recognise(content: Probe, asked: str | None) -> tuple[str, list[str]]:
    """Returns the name of the format, and sentences on how it was found."""
    path = content.path
    fits = [name for name, one in FORMATS.items() if one.recognises(content)]
    if asked is not None:
        if fits and asked not in fits:
            raise UserError(
                f"--format is {asked}, and '{path}' looks like {' or '.join(fits)} "
                f"({FORMATS[fits[0]].what}): leave --format out."
            )
        return asked, []
    if len(fits) == 1:
        return fits[0], [f"'{path}' was recognised as {fits[0]} by its content."]
    if content.kind == "json" and not any(piece.value for piece in content.pieces):
        raise UserError(
            f"'{path}' has no entries, so the detector found nobody: look at what it wrote, or "
            f"give another file."
        )
    if fits:
        raise UserError(
            f"'{path}' may be {' or '.join(fits)} by its content: give --format {fits[0]} or "
            f"--format {fits[1]}."
        )
    raise UserError(
        f"'{path}' is not recognised as keypoints of any detector: give --format with one of "
        f"{', '.join(FORMATS)}."
    )
