"""Checks of a request that cost no time: before a network is loaded and before a file is read."""

import tempfile
from collections.abc import Sequence

from etils import epath

from kdpose_jax import buckets, files
from kdpose_jax.errors import UserError, require
from kdpose_jax.keypoints import gaps, rates
from kdpose_jax.poses.writers import table
from kdpose_jax.predict.request import Request

PAGE = "html"
USUAL_FORMATS = ("npz", PAGE)
FOLDER = "poses"  # of the outputs, where --out names none


def outputs_of(request: Request) -> tuple[epath.Path, str | None, tuple[str, ...]]:
    """Finds out where the outputs go.

    Returns:
      The folder; the name of the files without their suffix, None for that of the input; and the
      names of the formats.

    Raises:
      UserError: `--out` ends like a file of another format, or does not fit `--to`.
    """
    place = files.absolute(request.out or FOLDER)
    ending = place.suffix.removeprefix(".").lower()
    known = (*table.FORMATS, PAGE)
    if not ending.isalnum() or not ending[0].isalpha() or place.is_dir():
        return place, None, request.formats or USUAL_FORMATS
    if ending not in known:
        raise UserError(
            f"--out is '{request.out}', and .{ending} is not a format that is written: let it end "
            f"in {', '.join(known)}, or give a folder whose name has no ending."
        )
    if request.formats not in ((), (ending,)):
        raise UserError(
            f"--out is the file '{request.out}', and --to names formats: give a folder with --out, "
            "or leave --to out."
        )
    return place.parent, place.stem, (ending,)


def check_values(request: Request, formats: Sequence[str]) -> None:
    """Checks what can be checked before the network is loaded and a file is read.

    Raises:
      UserError: a value is out of range.
    """
    for name in formats:
        require("--to", name, (*table.FORMATS, PAGE))
    table.check_options([name for name in formats if name != PAGE], request.writing)
    gaps.check_settings(request.lifting.gap, request.lifting.score)
    if request.lifting.rate is not None:
        rates.require_rate(request.lifting.rate, "--rate")
    if request.kind == "video" and buckets.is_bucket(request.out):
        raise UserError(
            f"--out is '{request.out}', and a detector's keypoints are kept beside the outputs: "
            "give a folder of a disk with --video."
        )
    if request.reading["fps"] is not None:
        rates.require_rate(request.reading["fps"], "--fps")


def require_place(folder: epath.Path) -> None:
    """Sees whether the folder of the outputs can be written, or made. It is not made yet.

    Raises:
      UserError: it cannot.
    """
    buckets.check_access(folder, writes=True)
    if buckets.is_bucket(folder):
        return
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(
            f"--out: the folder '{folder}' cannot be written ({error.strerror}): give another one."
        ) from error
