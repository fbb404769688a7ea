"""Reads users' HDF5 files, which MATLAB saves with -v7.3."""

import math
import os
from typing import Any

import numpy as np

from kdpose_jax.untrusted import bounds


def load_hdf5(path: str | os.PathLike, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Reads some arrays of numbers from a file.

    Args:
      path: the file.
      names: names of arrays at the file's top level.

    Returns:
      The arrays that the file has, in its order of axes (the reverse of MATLAB's).

    Raises:
      OSError: the file cannot be read.
      ValueError: the file is not HDF5, is damaged, is larger than `bounds` allows, or holds
        something else than numbers stored in the file itself.
    """
    import h5py  # here, because it starts a library of its own

    found, left = {}, min(bounds.unpacked(os.path.getsize(path)), bounds.HDF5)
    try:
        with h5py.File(path, "r") as file:
            for name in names:
                if file.id.links.exists(name.encode()):
                    found[name], left = _read(h5py, file, name, left)
    except (KeyError, RuntimeError, TypeError) as error:  # what h5py raises for damage
        raise ValueError(" ".join(str(error).split())) from None
    return found


def _read(h5py: Any, file: Any, name: str, left: int) -> tuple[np.ndarray, int]:
    """Returns one array, and how many bytes may still be read."""
    # This check comes before h5py opens the object, because a link can lead into other files.
    linked = file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD
    entry = None if linked else file[name]
    if (
        not isinstance(entry, h5py.Dataset)
        or entry.dtype.kind not in "fiu"
        or entry.external
        or entry.is_virtual
    ):
        raise ValueError(f"'{name}' is not an array of numbers in the file itself")
    # h5py reads a whole chunk, however little of it is wanted.
    size = max(entry.nbytes, math.prod(entry.chunks or ()) * entry.dtype.itemsize)
    if size > left:
        raise ValueError(f"'{name}' claims {size:,} bytes, and {left:,} are left of what is read")
    return entry[()], left - size
