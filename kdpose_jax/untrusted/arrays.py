"""Reads numpy's arrays inside pickles.

numpy trusts what it unpickles, so their headers are checked before numpy sees them.
"""

import collections
import math
import re
import sys
from typing import Any, BinaryIO

import numpy as np

from kdpose_jax.untrusted import bounds
from kdpose_jax.untrusted.pickles import StandIn, load_pickle

_NUMBERS = "biuf"


def load_arrays(file: BinaryIO, size: int, place: str) -> Any:
    """Loads one pickle of dictionaries, lists, plain values and numpy arrays.

    The arrays hold numbers or objects. numpy 1 or 2 may have written them, under Python 2 or 3.

    Args:
      file: open binary file, positioned at the pickle.
      size: size of the file, bytes.
      place: names the file in an error.

    Returns:
      The object.

    Raises:
      UserError: see `load_pickle`.
    """
    # Files that Python 2 pickled hold the bytes of arrays as str, which latin1 keeps.
    return load_pickle(file, _allowed(_Budget(bounds.SHARING * size)), place, encoding="latin1")


class _Budget:
    """Counts the bytes that may still be made from what a pickle holds.

    A pickle can ask for the same bytes again and again.
    """

    def __init__(self, size: int):
        self._left = size

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("arrays that claim more than the file has")


class _Type:
    """Builds a dtype: numbers, objects and, for scalars, texts."""

    def __init__(self, code: str, *unused: Any):
        if not isinstance(code, str) or not re.fullmatch(r"[biuf]\d{1,2}|O[48]?|[US]\d{1,9}", code):
            raise ValueError(f"an array of type {str(code)[:20]}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _, order, *fields = state[:5]
        if order not in ("<", ">", "=", "|") or fields != [None] * 3:
            raise ValueError("an array of a compound type")
        if order in "<>":
            self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """Builds an array, which is empty until its state is set."""

    budget: _Budget

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        _require_shape(shape)
        if not isinstance(kind, _Type) or kind.dtype.kind not in _NUMBERS + "O":
            raise ValueError("an array of something else than numbers and objects")
        if not isinstance(content, list if kind.dtype.hasobject else bytes | bytearray | str):
            raise ValueError(f"an array whose content is a {type(content).__name__}")
        count = math.prod(shape)
        if len(content) != count * (1 if kind.dtype.hasobject else kind.dtype.itemsize):
            raise ValueError(f"an array of shape {list(shape)} with {len(content)} bytes")
        self.budget.spend(count * kind.dtype.itemsize)
        state = (1, shape, kind.dtype, bool(fortran), content)
        super().__setstate__(state)  # type: ignore[arg-type]  # the stubs ask for NumPy's bool


def _require_shape(shape: Any) -> None:
    proper = isinstance(shape, tuple) and len(shape) <= bounds.DIMENSIONS
    if not proper or not all(type(length) is int and 0 <= length < 2**40 for length in shape):
        raise ValueError("an array without a proper shape")


def _allowed(budget: _Budget) -> dict[tuple[str, str], Any]:
    """Lists what a pickle of arrays may name, by the module paths of numpy 1 and numpy 2."""
    kind = type("_Array", (_Array,), {"budget": budget})

    def reconstruct(*unused: Any) -> np.ndarray:
        return np.ndarray.__new__(kind, 0)

    def scalar(of: Any, content: Any = None) -> Any:
        dtype, raw = of.dtype, content.encode("latin1") if isinstance(content, str) else content
        if dtype.hasobject or len(raw) != dtype.itemsize:
            raise ValueError(f"a number of type {dtype} with {len(raw)} bytes")
        if dtype.kind == "U":
            return raw.decode("utf-32-be" if dtype.str[0] == ">" else "utf-32-le").rstrip("\0")
        return raw.rstrip(b"\0") if dtype.kind == "S" else np.frombuffer(raw, dtype)[0]

    def from_buffer(content: Any, of: Any, shape: Any, order: Any) -> np.ndarray:
        _require_shape(shape)
        if of.dtype.kind not in _NUMBERS or order not in ("C", "F"):
            raise ValueError("an array of something else than numbers")
        return np.frombuffer(content, of.dtype).reshape(shape, order=order)

    def encode(text: Any, encoding: Any) -> bytes:
        """Stands for `_codecs.encode`.

        Python 3 stores bytes with it in pickles of protocol 2 and below.
        """
        if encoding != "latin1":
            raise ValueError(f"encoding {encoding!r} in a pickled array")
        budget.spend(len(text))
        return text.encode("latin1")

    def ordered(pairs: Any = ()) -> dict[Any, Any]:
        budget.spend(len(pairs) * sys.getsizeof((None, None)))
        return collections.OrderedDict(pairs)

    allowed = {
        ("numpy", "ndarray"): StandIn(reconstruct),
        ("numpy", "dtype"): StandIn(_Type),
        ("_codecs", "encode"): StandIn(encode),
        ("collections", "OrderedDict"): StandIn(ordered),
    }
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray", "_reconstruct"] = StandIn(reconstruct)
        allowed[f"{core}.multiarray", "scalar"] = StandIn(scalar)
        allowed[f"{core}.numeric", "_frombuffer"] = StandIn(from_buffer)
    return allowed
