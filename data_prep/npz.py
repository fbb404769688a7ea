"""Reads VideoPose3D's and P-STMO's npz files, whose dictionaries are pickled.

Nothing that a pickle may hold is run.
"""

import os
from typing import Any

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import npz


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
    values = npz.read_npz(path, keys, arrays=False)
    return [values[key] for key in keys]


def require_file(path: str, expected: list[str]) -> None:
    """Raises UserError with the list of expected files if `path` is not a file."""
    if not os.path.isfile(path):
        raise UserError(
            f"'{path}' does not exist; expected in '{os.path.dirname(path)}': "
            f"{', '.join(expected)} (VideoPose3D's layout; its DATASETS.md "
            "says where to get them): put them there or give another --source."
        )
