"""What a motion file holds once its skeleton has been posed, and the lines of text that it comes in."""

import dataclasses
import os
import re
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import bounds

_BYTE_ORDER_MARK = "\ufeff".encode().decode("latin-1")
_NAN = re.compile(r"[+-]?(1\.#(IND|QNAN|SNAN)\d*|nan\(\w*\))", re.IGNORECASE)  # as Windows programs print it


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """One file's motion.

    Attributes:
      joints: name -> column of `positions` and `rotations`.
      positions: in the file's unit and axes, NaN in frames that hold NaN, `[F, N, 3]`.
      rotations: what turns a joint's own axes into the file's, one `Rotation` of F per joint.
      fps: frames per second; None where the file does not say.
      metres: length of the file's unit; None where the file does not say.
    """

    joints: dict[str, int]
    positions: np.ndarray
    rotations: list[Rotation]
    fps: float | None
    metres: float | None


def turn(axes: str, degrees: np.ndarray) -> Rotation:
    """Turns about the file's x, y and z, one after the other: the first letter's first.

    Args:
      axes: of "xyz", any number and order.
      degrees: `[F, len(axes)]`.

    Returns:
      F rotations.
    """
    rotation = Rotation.identity(len(degrees))
    for column, axis in enumerate(axes):
        rotation = Rotation.from_euler(axis, degrees[:, [column]], degrees=True) * rotation
    return rotation


def read_lines(path: str) -> list[str]:
    """The lines of a text file, stripped.

    Raises:
      UserError: it cannot be read, or is too large.
    """
    try:
        size = os.path.getsize(path)
        if size > bounds.TEXT:
            raise UserError(f"'{path}' has {size:,} bytes, and at most {bounds.TEXT:,} are read: cut it into several files.")
        with open(path, encoding="latin-1") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror}): check the file.") from error
    return [lines[0].removeprefix(_BYTE_ORDER_MARK), *lines[1:]] if lines else lines


def require_size(path: str, frames: int, joints: int) -> None:
    """Raises UserError if a clip is too large to be posed."""
    if joints > bounds.JOINTS or frames * joints > bounds.PLACES:
        raise UserError(
            f"'{path}' has {frames:,} frames of {joints:,} joints, and at most {bounds.JOINTS:,} joints and {bounds.PLACES:,} places are "
            "read: cut it into several files."
        )


def fault(path: str, line: int, what: str) -> UserError:
    """The error for a line, counted from 0 here and from 1 for the reader."""
    return UserError(f"'{path}', line {line + 1}: {what}: correct the file or take it out of the folder.")


def number(word: str) -> float:
    """A value of a line of motion, which may be NaN.

    Raises:
      ValueError: it is no number.
    """
    if "_" in word:  # which `float` would read over
        raise ValueError
    return float("nan") if _NAN.fullmatch(word) else float(word)


def numbers(path: str, line: int, words: Sequence[str], count: int, what: str) -> np.ndarray:
    """So many finite numbers of a line.

    Raises:
      UserError: there are more or fewer, or one is no finite number.
    """
    if len(words) != count:
        raise fault(path, line, f"{what} has {len(words)} values where {count} are needed")
    try:
        values = np.asarray(words, np.float64)
    except ValueError:
        values = np.full(count, np.nan)
    if not np.isfinite(values).all():
        raise fault(path, line, f"{what} is '{' '.join(words)[:60]}' where finite numbers are needed")
    return values
