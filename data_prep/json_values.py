"""Reads users' JSON files and the numbers in them, and names what is wrong."""

import os
import re
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted.documents import load_json


def read_json(path: str, option: str) -> Any:
    """Reads a JSON file; raises UserError if it is absent or malformed.

    Args:
      path: the file.
      option: the option that names another file, for messages.
    """
    if not os.path.isfile(path):
        raise UserError(
            f"'{path}' does not exist: put it there, give {option}, or leave its split out with "
            f"--splits."
        )
    try:
        return load_json(path)
    except (ValueError, OSError) as error:
        raise UserError(
            f"'{path}' cannot be read as JSON ({type(error).__name__}: {error}): copy or download "
            f"it again."
        ) from error


def as_whole(value: Any) -> int | None:
    """Reads `value` as an integer of 64 bits; None if it is not one.

    Annotation tools write ids as texts of digits, and 18 as 18.0. Up to 2^53 these are exact. True
    is not a number.
    """
    if isinstance(value, str) and re.fullmatch("-?[0-9]{1,40}", value):
        value = int(value)
    elif isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def whole_number(value: Any, place: str) -> int:
    """Reads an integer by `as_whole`; raises UserError that begins with `place`."""
    number = as_whole(value)
    if number is None:
        raise UserError(
            f"{place} is {str(value)[:60]!r} where a whole number must be: repair the file or "
            f"download it again."
        )
    return number


def numbers(value: Any, shape: tuple[int, ...], place: str) -> np.ndarray:
    """Reads float64 numbers below ten million; raises UserError that begins with `place`.

    `shape` is the shape that `value` must have.
    """
    try:
        array = np.asarray(value)
        # A text of digits is not a number.
        array = array.astype(np.float64) if array.dtype.kind in "iuf" else np.zeros(0)
    except (TypeError, ValueError):
        array = np.zeros(0)
    # The comparison is also false for NaN.
    if array.shape != shape or not (np.abs(array) < 1e7).all():
        shown = "one number" if shape == () else f"{list(shape)} numbers"
        raise UserError(
            f"{place} is {str(value)[:60]!r} where {shown} must be: repair the file or download "
            f"it again."
        )
    return array
