"""Variables of MATLAB files, version 5 and 7.3 (which is HDF5)."""

from typing import Any

import numpy as np

from kdpose_jax.errors import UserError

MAX_NUMBERS = 10**9  # in one variable: a header may claim any size


def read_v5(path: str, names: tuple[str, ...]) -> list[np.ndarray]:
    """Variables of a MATLAB 5 file; cells are object arrays.

    Raises:
      UserError: no such file of MATLAB's, or a variable is missing.
    """
    import scipy.io  # slow to import

    try:
        content = scipy.io.loadmat(path, variable_names=names)
    except Exception as error:  # MATLAB files of strangers raise anything
        raise UserError(f"'{path}' is no MATLAB 5 file ({_words(error)}): copy or download it again.") from error
    _require(path, names, [name for name in content if not name.startswith("__")])
    return [np.asarray(content[name]) for name in names]


def read_v73(path: str, names: tuple[str, ...]) -> list[np.ndarray]:
    """Numeric variables of a MATLAB 7.3 file, in the file's order of axes (the reverse of MATLAB's).

    Raises:
      UserError: no such file of MATLAB's, or a variable is missing or no array of numbers.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _require(path, names, list(file))
            return [_dataset(file[name], name) for name in names]
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"'{path}' is no MATLAB 7.3 file ({_words(error)}): copy or download it again.") from error


def _dataset(entry: Any, name: str) -> np.ndarray:
    if not hasattr(entry, "dtype") or entry.dtype.kind not in "fiu" or entry.size > MAX_NUMBERS:
        raise ValueError(f"{name} is no array of numbers")
    return entry[()]


def _require(path: str, names: tuple[str, ...], found: list[str]) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"'{path}' lacks the variable '{missing[0]}' (it holds {', '.join(found) or 'nothing'}): give the original file.")


def _words(error: Exception) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
