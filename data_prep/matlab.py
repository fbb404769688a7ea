"""Reads variables from users' MATLAB files, and refuses other files in one sentence."""

from collections.abc import Callable
from typing import Any

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted.hdf5 import load_hdf5
from kdpose_jax.untrusted.matlab import load_matlab


def read_v5(path: str, names: tuple[str, ...]) -> list[Any]:
    """Reads variables from a MATLAB 5 file; cells are flat lists.

    Raises:
      UserError: the file is absent or not MATLAB 5, or a variable is missing.
    """
    return _read(load_matlab, "MATLAB 5", path, names)


def read_v73(path: str, names: tuple[str, ...]) -> list[Any]:
    """Reads arrays from a MATLAB 7.3 file.

    Axes are in the file's order, the reverse of MATLAB's.

    Raises:
      UserError: the file is absent or not MATLAB 7.3, or a variable is missing or not an array of
        numbers.
    """
    return _read(load_hdf5, "MATLAB 7.3", path, names)


def _read(
    load: Callable[..., dict[str, Any]], kind: str, path: str, names: tuple[str, ...]
) -> list[Any]:
    try:
        found = load(path, names)
    except (OSError, ValueError) as error:
        what = " ".join(str(error).split())[:200]
        raise UserError(
            f"'{path}' cannot be read as a {kind} file ({what}): copy or download it again."
        ) from error
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"'{path}' lacks the variable '{missing[0]}': give the original file.")
    return [found[name] for name in names]
