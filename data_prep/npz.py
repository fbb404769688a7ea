"""VideoPose3D's and P-STMO's npz files, whose dictionaries are pickled: read without running what a pickle may hold."""

import collections
import io
import os
import zipfile
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import load_pickle


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, with which Python 3 stores bytes in pickles of protocol 2 and less."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r} in a pickled array")
    return text.encode("latin1")


def _allowed_names() -> dict[tuple[str, str], Any]:
    """What a pickled dictionary of arrays may name, by the module paths of numpy 1 and numpy 2."""
    reconstruct = np.array(0.0).__reduce__()[0]
    scalar = np.float64(0.0).__reduce__()[0]
    from_buffer = np.zeros(1).__reduce_ex__(5)[0]
    allowed = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode_latin1,
        ("collections", "OrderedDict"): collections.OrderedDict,
    }
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray", "_reconstruct"] = reconstruct
        allowed[f"{core}.multiarray", "scalar"] = scalar
        allowed[f"{core}.numeric", "_frombuffer"] = from_buffer
    for module in ("builtins", "__builtin__"):
        for kind in (list, dict, tuple, int, float, str, bytearray):
            allowed[module, kind.__name__] = kind
    return allowed


_ALLOWED = _allowed_names()


def read_pickled_npz(path: str, keys: tuple[str, ...]) -> list[Any]:
    """Reads objects that are stored as 0-d object arrays (`np.savez(path, positions_3d=dictionary)`).

    Args:
      path: npz file.
      keys: the entries to read.

    Returns:
      One object per key; arrays inside are numpy's.

    Raises:
      UserError: not a zip file, a missing key, an entry that is not one pickled object, a damaged entry, foreign code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            missing = [key for key in keys if f"{key}.npy" not in names]
            if missing:
                found = ", ".join(name.removesuffix(".npy") for name in names) or "nothing"
                raise UserError(f"'{path}' lacks the key '{missing[0]}' (it holds {found}): give a file in the layout of its name.")
            objects = []
            for key in keys:
                # Read as a whole: zipfile compares the checksum at a member's end, which a pickle need not reach.
                objects.append(_read_object(io.BytesIO(archive.read(f"{key}.npy")), f"'{path}' ({key})"))
            return objects
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise UserError(f"'{path}' is not a whole npz file ({error}): copy or download it again.") from error


def _read_object(member: BinaryIO, place: str) -> Any:
    """The object of one npy member."""
    try:
        version = npy_format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"npy version {version}")
        read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, _, dtype = read_header(member)
    except ValueError as error:
        raise UserError(f"{place} is damaged ({error}): copy or download it again.") from error
    if shape != () or not dtype.hasobject:
        raise UserError(
            f"{place} is a {dtype} array of shape {shape} where one pickled dictionary must be: give a file in the layout of its name."
        )
    # latin1: files pickled by Python 2 hold array bytes as str.
    value = load_pickle(member, _ALLOWED, place, encoding="latin1")
    if isinstance(value, np.ndarray) and value.shape == () and value.dtype.hasobject:
        value = value.item()
    return value


def require_file(path: str, expected: list[str]) -> None:
    """Raises UserError, with the list of files expected in the folder, if `path` is not a file."""
    if not os.path.isfile(path):
        raise UserError(
            f"'{path}' does not exist; expected in '{os.path.dirname(path)}': {', '.join(expected)} (VideoPose3D's layout; its DATASETS.md "
            "says where to get them): put them there or give another --source."
        )
