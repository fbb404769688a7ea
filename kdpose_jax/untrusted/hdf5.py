"""HDF5 files of users, as which MATLAB saves with -v7.3."""

import math
import os
from typing import Any

import numpy as np

from kdpose_jax.untrusted import bounds


def load_hdf5(path: str | os.PathLike, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Reads some arrays of numbers.

    Args:
      path: the file.
      names: of the arrays, at its top.

    Returns:
      Those of them that are there, in the file's order of axes (the reverse of MATLAB's).

    Raises:
      OSError: it cannot be read.
      ValueError: no such file, damaged, something else than numbers stored in the file itself, or
        larger than `bounds` allows.
    """
    import h5py  # starts a library of its own

    found, left = {}, min(bounds.unpacked(os.path.getsize(path)), bounds.HDF5)
    try:
        with h5py.File(path, "r") as file:
            for name in names:
                if file.id.links.exists(name.encode()):
                    found[name], left = _read(h5py, file, name, left)
    except (KeyError, RuntimeError, TypeError) as error:  # what h5py makes of damage
        raise ValueError(" ".join(str(error).split())) from None
    return found


def _read(h5py: Any, file: Any, name: str, left: int) -> tuple[np.ndarray, int]:
    """One array, and how many bytes may still be read."""
    # Before h5py looks at what it is: a link can lead into other files.
    linked = file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD
    entry = None if linked else file[name]
    if (
        not isinstance(entry, h5py.Dataset)
        or entry.dtype.kind not in "fiu"
        or entry.external
        or entry.is_virtual
    ):
        raise ValueError(f"'{name}' is no array of numbers in the file itself")
    # A part is read as a whole, however little of it is wanted.
    size = max(entry.nbytes, math.prod(entry.chunks or ()) * entry.dtype.itemsize)
    if size > left:
        raise ValueError(f"'{name}' claims {size:,} bytes, and {left:,} are left of what is read")
    return entry[()], left - size
