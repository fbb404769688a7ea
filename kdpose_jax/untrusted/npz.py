"""Reads numpy's npz and npy files, whose objects are pickled, without running what they hold."""

import io
import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import archives, bounds
from kdpose_jax.untrusted.arrays import load_arrays

_KINDS = "biufUS"  # numpy's letters of numbers and texts
_ENDING = ".npy"  # of an array's file in the archive


def names_in(path: str) -> tuple[str, ...]:
    """Returns the names of the arrays in an npz file.

    Raises:
      UserError: the file is not a zip file, or is one of other files.
    """
    try:
        with open(path, "rb") as file:
            archive, _ = archives.open_archive(file)
            files = archive.namelist()
    except Exception as error:  # zipfile can raise almost anything
        raise _not_whole(path, error) from error
    names = tuple(name.removesuffix(_ENDING) for name in files if name.endswith(_ENDING))
    if files and not names:
        raise UserError(
            f"'{path}' is a zip archive of other files than arrays (the first is "
            f"'{files[0][:60]}'): unpack it, and give what was in it."
        )
    return names


def read_npz(path: str, keys: Collection[str], *, arrays: bool = True) -> dict[str, Any]:
    """Reads some entries of an npz file.

    Args:
      path: the file.
      keys: the entries to read.
      arrays: whether an entry may be an array of numbers or texts. Otherwise each must be one
        pickled object.

    Returns:
      Key -> numpy's array of numbers or texts, or the object of an entry that `np.savez` pickled,
      such as a dictionary.

    Raises:
      UserError: the file is not a zip file, a key is missing, or an entry is damaged or holds
        foreign code.
    """
    try:
        with open(path, "rb") as file:
            archive, size = archives.open_archive(file)
            names = archive.namelist()
            missing = [key for key in keys if f"{key}.npy" not in names]
            if missing:
                found = ", ".join(name.removesuffix(".npy") for name in names) or "nothing"
                raise UserError(
                    f"'{path}' lacks the key '{missing[0]}' (it holds {found}): give a file in "
                    f"the layout of its name."
                )
            members = {
                key: archives.read_entry(
                    archive, archive.getinfo(f"{key}.npy"), bounds.unpacked(size)
                )
                for key in keys
            }
    except UserError:
        raise
    except Exception as error:  # zipfile can raise almost anything
        raise _not_whole(path, error) from error
    return {
        key: _read_value(content, f"'{path}' ({key})", arrays) for key, content in members.items()
    }


def read_npy(path: str) -> Any:
    """Reads an npy file: numpy's array of numbers or texts, or the object that it pickles.

    Raises:
      UserError: the file is damaged, is larger than `bounds.LARGEST_ENTRY` or holds foreign code.
    """
    with open(path, "rb") as file:
        size = archives.size_of(file)
        if size > bounds.LARGEST_ENTRY:
            raise UserError(
                f"'{path}' has {size:,} bytes, and at most {bounds.LARGEST_ENTRY:,} are read: "
                f"split it."
            )
        content = file.read()
    return _read_value(content, f"'{path}'", arrays=True)


def _not_whole(path: str, error: Exception) -> UserError:
    return UserError(f"'{path}' is not a whole npz file ({error}): copy or download it again.")


def _read_value(content: bytes, place: str, arrays: bool) -> Any:
    """Reads one npy member."""
    member = io.BytesIO(content)
    try:
        version = npy_format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"npy version {version}")
        read_header = (
            npy_format.read_array_header_1_0
            if version == (1, 0)
            else npy_format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read_header(member)
        if arrays and dtype.kind not in _KINDS and not dtype.hasobject:
            raise UserError(
                f"{place} holds values of type {str(dtype)[:60]} where numbers must be: save them "
                f"as numbers, such as with astype('float32')."
            )
        if arrays and not dtype.hasobject:
            return _numbers(content, member.tell(), shape, is_fortran, dtype)
    except UserError:
        raise
    except Exception as error:  # the header is a Python literal
        raise UserError(f"{place} is damaged ({error}): copy or download it again.") from error
    if not arrays and (shape != () or not dtype.hasobject):
        raise UserError(
            f"{place} is a {dtype} array of shape {shape} where one pickled dictionary must be: "
            f"give a file in the layout of its name."
        )
    value = load_arrays(member, len(content), place)
    if isinstance(value, np.ndarray) and value.shape == () and value.dtype.hasobject:
        value = value.item()
    return value


def _numbers(
    content: bytes, start: int, shape: tuple[int, ...], is_fortran: bool, dtype: np.dtype
) -> np.ndarray:
    """Returns an array of numbers or texts, on the bytes that were read."""
    if len(shape) > bounds.DIMENSIONS or min(shape, default=0) < 0:
        raise ValueError(f"a {dtype} array of shape {shape}")
    expected = math.prod(shape) * dtype.itemsize
    if len(content) - start != expected:
        raise ValueError(f"{len(content) - start:,} bytes where {expected:,} must be")
    flat = np.frombuffer(content, dtype, math.prod(shape), start) if expected else np.zeros(0)
    return flat.astype(dtype, copy=False).reshape(shape, order="F" if is_fortran else "C")
