"""Reads safetensors files: a header's length (64 bits), the header in JSON, the values."""

import math
import struct
from typing import Any

import ml_dtypes
import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import bounds
from kdpose_jax.untrusted.documents import parse_json

# The format is little-endian on every machine.
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": ml_dtypes.bfloat16,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def read_safetensors(file: Any, size: int, place: str) -> dict[str, np.ndarray]:
    """Reads one file from its start.

    Args:
      file: open binary file.
      size: size of the file, bytes.
      place: names the file in an error.

    Returns:
      Name -> read-only array.

    Raises:
      UserError: the header is malformed, numpy lacks a type, or the tensors do not follow one
        another in the file.
    """
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(size - 8, bounds.SAFETENSORS):
        raise _damaged(place, f"a header of {length:,} bytes")
    try:
        header = parse_json(file.read(length))
    except ValueError:
        raise _damaged(place, "a header that is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(place, "a header that is not a dictionary")
    content = file.read(size - 8 - length)
    header.pop("__metadata__", None)
    entries = {name: _entry(entry, name, len(content), place) for name, entry in header.items()}
    position = 0
    for start, end, _, _ in sorted(
        (entry for entry in entries.values()), key=lambda entry: entry[:2]
    ):
        if start != position:
            raise _damaged(
                place, f"{'overlapping tensors' if start < position else 'a gap'} at byte {start:,}"
            )
        position = end
    if position != len(content):
        raise _damaged(place, f"{len(content) - position:,} bytes behind its tensors")
    return {
        name: np.frombuffer(
            content, dtype, count=(end - start) // dtype.itemsize, offset=start
        ).reshape(shape)
        for name, (start, end, dtype, shape) in entries.items()
    }


def _entry(
    entry: Any, name: str, size: int, place: str
) -> tuple[int, int, np.dtype, tuple[int, ...]]:
    """Returns (start, end, type, shape) for one tensor.

    Raises:
      UserError: its description is malformed, or it lies outside the file.
    """
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [start, end]}:
            pass
        case _:
            raise _damaged(place, f"no type, shape and place of '{name}'")
    numbers = all(type(value) is int and value >= 0 for value in (start, end, *shape))
    if not numbers or len(shape) > bounds.DIMENSIONS or not start <= end <= size:
        raise _damaged(
            place, f"a tensor '{name}' of shape {str(shape)[:60]} outside its {size:,} bytes"
        )
    if kind not in _DTYPES:
        raise UserError(
            f"{place} holds '{name}' in type {kind[:20]!r}, which is not read: save it as F32, F16 "
            "or BF16."
        )
    dtype = np.dtype(_DTYPES[kind])
    if math.prod(shape) * dtype.itemsize != end - start:
        raise _damaged(
            place, f"a tensor '{name}' of shape {str(shape)[:60]} in {end - start:,} bytes"
        )
    return start, end, dtype, tuple(shape)


def _damaged(place: str, what: str) -> UserError:
    return UserError(f"{place} is truncated or damaged (it has {what}): copy or download it again.")
