"""Holds a motion file's posed skeleton, and reads its lines of text."""

import dataclasses
import json
import os
import re
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import bounds

# Windows programs print NaN like this.
_NAN = re.compile(r"[+-]?(1\.#(IND|QNAN|SNAN)\d*|nan\(\w*\))", re.IGNORECASE)
CUT = "a last frame that is cut off in the middle and was left out"
_DECIMAL_COMMA = re.compile(r"\d,\d")


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """Holds one file's motion.

    Attributes:
      joints: name -> column of `positions` and `rotations`.
      positions: `[F, N, 3]` in the file's unit and axes, NaN in frames that hold NaN.
      rotations: turn a joint's own axes into the file's, one `Rotation` with F entries per joint.
      fps: frames per second; None if the file does not say.
      metres: length of the file's unit; None if the file does not say.
      step: difference between successive frame numbers. The file has 1 / `step` of the rate's
        frames.
      breaks: frames that do not follow the frame before them in time.
      notes: sentence about a departure from the file, or an omission -> how often it occurred.
    """

    joints: dict[str, int]
    positions: np.ndarray
    rotations: list[Rotation]
    fps: float | None
    metres: float | None
    step: int = 1
    breaks: tuple[int, ...] = ()
    notes: dict[str, int] = dataclasses.field(default_factory=dict)


def turn(axes: str, degrees: np.ndarray) -> Rotation:
    """Makes turns about the file's x, y and z, in the order of the letters.

    Args:
      axes: letters from "xyz", in any number and order.
      degrees: angle for each letter, `[F, len(axes)]`.

    Returns:
      F rotations.
    """
    rotation = Rotation.identity(len(degrees))
    for column, axis in enumerate(axes):
        rotation = Rotation.from_euler(axis, degrees[:, [column]], degrees=True) * rotation
    return rotation


def read_lines(path: str) -> list[str]:
    """Reads a text file's lines, stripped.

    The text is UTF-8, UTF-16 or UTF-32, with or without a byte order mark. Any other text counts as
    Latin-1, in which every byte is a letter.

    Raises:
      UserError: the file cannot be read, or is too large.
    """
    try:
        size = os.path.getsize(path)
        if size > bounds.TEXT:
            raise UserError(
                f"'{path}' has {size:,} bytes, and at most {bounds.TEXT:,} are read: cut it into "
                f"several files."
            )
        with open(path, "rb") as file:
            encoding = json.detect_encoding(
                file.read(4)
            )  # by its mark and its zeros; nothing else is specific to JSON
        for one in (encoding, "latin-1"):
            try:
                with open(path, encoding=one) as file:
                    return [line.strip() for line in file]
            except UnicodeError:
                continue
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror}): check the file.") from error
    raise AssertionError("Latin-1 reads everything")


def require_size(path: str, frames: int, joints: int) -> None:
    """Raises UserError if a clip is too large to be posed."""
    if joints > bounds.JOINTS or frames * joints > bounds.PLACES:
        raise UserError(
            f"'{path}' has {frames:,} frames of {joints:,} joints, and at most {bounds.JOINTS:,} "
            f"joints and {bounds.PLACES:,} places are read: cut it into several files."
        )


def fault(path: str, line: int, what: str) -> UserError:
    """Makes the error for a line, which counts from 0 here and from 1 for the user."""
    return UserError(
        f"'{path}', line {line + 1}: {what}: correct the file or take it out of the folder."
    )


def add_note(notes: dict[str, int], sentence: str, count: int) -> None:
    """Adds a count to a note; a count of 0 adds nothing."""
    if count:
        notes[sentence] = count + (notes[sentence] if sentence in notes else 0)


def comma_hint(text: str) -> str:
    """Returns a hint if words are not numbers because of decimal commas."""
    return " (write decimal commas as points)" if _DECIMAL_COMMA.search(text) else ""


def number(word: str) -> float:
    """Reads a value in a line of motion, which may be NaN.

    Raises:
      ValueError: the word is not a number.
    """
    if "_" in word:  # `float` would skip it
        raise ValueError
    return float("nan") if _NAN.fullmatch(word) else float(word)


def numbers(path: str, line: int, words: Sequence[str], count: int, what: str) -> np.ndarray:
    """Reads `count` finite numbers from a line.

    Raises:
      UserError: there are more or fewer, or one is not a finite number.
    """
    if len(words) != count:
        raise fault(path, line, f"{what} has {len(words)} values where {count} are needed")
    try:
        values = np.asarray([number(word) for word in words], np.float64)
    except ValueError:
        values = np.full(count, np.nan)
    if not np.isfinite(values).all():
        text = " ".join(words)
        raise fault(
            path, line, f"{what} is '{text[:60]}' where finite numbers are needed{comma_hint(text)}"
        )
    return values
