"""Reads users' MATLAB 5 files.

scipy's reader ends the process at some damaged files, and allocates what a file claims.

The format (MathWorks, "MAT-File Format", level 5): a header of 128 bytes, then elements, each a tag
(type, bytes) and its bytes padded to eight; short ones hold both in eight bytes. A variable is an
element of type 14. A compressed variable lies in an element of type 15.
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from kdpose_jax.untrusted import bounds

_Order = Literal["<", ">"]  # of bytes
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",
}
_CELL, _TEXT, _NUMERIC = 1, 4, range(6, 16)
_COMPLEX = 0x0800
_NESTING = 2  # a cell of texts


def load_matlab(path: str | os.PathLike, names: tuple[str, ...]) -> dict[str, Any]:
    """Reads some variables of a MATLAB 5 file (`-v6` or `-v7`).

    Args:
      path: the file.
      names: names of variables.

    Returns:
      The variables that the file has: arrays of numbers with MATLAB's axes, texts as strings, cells
      as flat lists.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file is not MATLAB 5, is damaged, holds another kind of variable under a name,
        or is larger than `bounds` allows, packed or unpacked.
    """
    size = os.path.getsize(path)
    if size > bounds.MATLAB:
        raise ValueError(f"more than {bounds.MATLAB:,} bytes")
    with open(path, "rb") as file:
        content = file.read()
    orders: dict[bytes, _Order] = {b"IM": "<", b"MI": ">"}
    order = orders.get(content[126:128])
    if order is None or struct.unpack(f"{order}H", content[124:126])[0] >> 8 != 1:
        raise ValueError("no MATLAB 5 file (save it with -v7, or less)")
    found, left = {}, min(bounds.unpacked(size), bounds.MATLAB)
    for kind, element in _elements(content[128:], order):
        if kind == _COMPRESSED:
            unpacked = _unpack(element, left)
            left -= len(unpacked)
            kind, element = next(_elements(unpacked, order), (0, b""))
        if kind == _MATRIX:
            name, value = _variable(element, order, names, 0)
            if name in names:
                found[name] = value
    return found


def _unpack(element: bytes, left: int) -> bytes:
    try:
        unpacked = zlib.decompressobj().decompress(element, left + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(unpacked) > left:
        raise ValueError(f"variables of more than the {left:,} bytes that are left of what is read")
    return unpacked


def _elements(content: bytes, order: _Order) -> Iterator[tuple[int, bytes]]:
    """Yields (type, bytes) of every element, all of them inside `content`."""
    position = 0
    while position < len(content):
        if position + 8 > len(content):
            raise ValueError("it ends within a tag")
        kind, size = struct.unpack_from(f"{order}II", content, position)
        start, short = position + 8, kind >> 16
        if short:
            kind, size, start = kind & 0xFFFF, short, position + 4
        if start + size > len(content) or (short and size > 4):
            raise ValueError(
                f"an element of {size:,} bytes where {len(content) - start:,} are left"
            )
        yield kind, content[start : start + size]
        # The last element need not be padded; compressed ones never are.
        position = start + size if kind == _COMPRESSED else (start + size + 7) // 8 * 8


def _variable(element: bytes, order: _Order, names: tuple[str, ...], depth: int) -> tuple[str, Any]:
    """Returns the name and the value of a variable, None unless it is wanted.

    Members of a cell have no names and are always wanted.
    """
    parts = list(_elements(element, order))
    if len(parts) < 3 or len(parts[0][1]) != 8 or parts[1][0] != 5:
        raise ValueError("a variable without its flags, size and name")
    flags = struct.unpack(f"{order}II", parts[0][1])[0]
    shape = tuple(np.frombuffer(parts[1][1][: len(parts[1][1]) // 4 * 4], f"{order}i4").tolist())
    name = parts[2][1].decode("latin1")
    if depth == 0 and name not in names:
        return name, None
    count = math.prod(shape)
    if not 2 <= len(shape) <= bounds.DIMENSIONS or min(shape) < 0 or count > len(element):
        raise ValueError(f"a variable '{name}' of size {list(shape)} in {len(element):,} bytes")
    kind, content = flags & 0xFF, parts[3:]
    if (
        kind == _CELL
        and depth < _NESTING
        and len(content) == count
        and all(part == _MATRIX for part, _ in content)
    ):
        return name, [_variable(member, order, names, depth + 1)[1] for _, member in content]
    if (kind not in _NUMERIC and kind != _TEXT) or flags & _COMPLEX or len(content) != 1:
        raise ValueError(
            f"a variable '{name}' of class {kind}, where numbers, texts and cells of them are read"
        )
    if kind == _TEXT:
        encoding = {
            16: "utf-8",
            17: f"utf-16-{'le' if order == '<' else 'be'}",
            4: f"utf-16-{'le' if order == '<' else 'be'}",
        }
        return name, content[0][1].decode(
            encoding[content[0][0]] if content[0][0] in encoding else "latin1"
        )
    if content[0][0] not in _TYPES:
        raise ValueError(f"numbers of type {content[0][0]} in '{name}'")
    values = np.frombuffer(content[0][1], np.dtype(_TYPES[content[0][0]]).newbyteorder(order))
    return name, values.astype(values.dtype.newbyteorder("=")).reshape(shape, order="F")
