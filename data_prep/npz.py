"""Reads VideoPose3D's and P-STMO's npz files, whose dictionaries are pickled.

Nothing that a pickle may hold is run.
"""

import io
import os
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import archives, bounds
from kdpose_jax.untrusted.arrays import load_arrays


def read_pickled_npz(path: str, keys: tuple[str, ...]) -> list[Any]:
    """Reads objects that are stored as 0-d object arrays.

    `np.savez(path, positions_3d=dictionary)` stores them so.

    Args:
      path: npz file.
      keys: the entries to read.

    Returns:
      One object per key; arrays inside are numpy's.

    Raises:
      UserError: the file is not a zip file, a key is missing, or an entry is damaged, is not one
        pickled object or holds foreign code.
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
            members = [
                archives.read_entry(archive, archive.getinfo(f"{key}.npy"), bounds.unpacked(size))
                for key in keys
            ]
    except UserError:
        raise
    except Exception as error:  # zipfile can raise almost anything
        raise UserError(
            f"'{path}' is not a whole npz file ({error}): copy or download it again."
        ) from error
    return [
        _read_object(member, f"'{path}' ({key})") for key, member in zip(keys, members, strict=True)
    ]


def _read_object(content: bytes, place: str) -> Any:
    """Reads the object in one npy member."""
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
        shape, _, dtype = read_header(member)
    except Exception as error:  # the header is a Python literal
        raise UserError(f"{place} is damaged ({error}): copy or download it again.") from error
    if shape != () or not dtype.hasobject:
        raise UserError(
            f"{place} is a {dtype} array of shape {shape} where one pickled dictionary must be: "
            f"give a file in the layout of its name."
        )
    value = load_arrays(member, len(content), place)
    if isinstance(value, np.ndarray) and value.shape == () and value.dtype.hasobject:
        value = value.item()
    return value


def require_file(path: str, expected: list[str]) -> None:
    """Raises UserError with the list of expected files if `path` is not a file."""
    if not os.path.isfile(path):
        raise UserError(
            f"'{path}' does not exist; expected in '{os.path.dirname(path)}': "
            f"{', '.join(expected)} (VideoPose3D's layout; its DATASETS.md "
            "says where to get them): put them there or give another --source."
        )
