"""Arrays of an npz file whose shapes and types are not known beforehand."""

import dataclasses
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Arrays:
    """The arrays of one file, each checked when it is asked for.

    Attributes:
      path: the file, which errors name.
      content: key -> array, or the object that a pickle held.
    """

    path: str
    content: dict[str, Any]

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def array(self, key: str) -> np.ndarray:
        """Returns an entry as an array of any shape and type.

        Raises:
          UserError: it is a list whose parts have different lengths.
        """
        try:
            return np.asarray(self.content[key])
        except ValueError as error:
            raise UserError(
                f"'{self.path}' ({key}) is a list of unequal parts: store an array."
            ) from error

    def floats(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        """Returns an array as new float32 of a shape, whose first axis may be lacking if it is 1.

        Raises:
          UserError: the array has another shape or does not hold numbers.
        """
        array = self.array(key)
        shapes = [shape, shape[1:]] if shape[0] == 1 else [shape]
        if array.dtype.kind not in "biuf" or array.shape not in shapes:
            raise UserError(
                f"'{self.path}' ({key}) has shape {list(array.shape)} and type {array.dtype}: "
                f"give numbers of shape {list(shape)}, which fit the other arrays."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            return array.reshape(shape).astype(np.float32)

    def integers(self, key: str, count: int, default: int) -> np.ndarray:
        """Returns whole numbers, `[count]` int64; the default for each if the file has none.

        Raises:
          UserError: the array holds something else.
        """
        if key not in self.content:
            return np.full(count, default, np.int64)
        array = self.array(key)
        if array.dtype.kind in "iuf" and array.size == count:
            values = array.reshape(-1).astype(np.float64)
            if (np.abs(values) < 2**31).all() and (values % 1 == 0).all():
                return values.astype(np.int64)
        what = "a whole number" if count == 1 else f"{count} whole numbers"
        raise UserError(f"'{self.path}' ({key}) must be {what}: correct it or leave it out.")

    def integer(self, key: str, default: int) -> int:
        """Returns a whole number; errors are those of `integers`."""
        return int(self.integers(key, 1, default)[0])

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Returns texts; the default if the file has none.

        Letters that UTF-8 cannot hold become question marks.

        Raises:
          UserError: the array holds something else.
        """
        if key not in self.content:
            return default
        array = self.array(key)
        values = array.reshape(-1).tolist()
        if array.dtype.kind == "S":
            values = [value.decode("utf-8", "replace") for value in values]
        if not all(isinstance(value, str) for value in values):
            raise UserError(f"'{self.path}' ({key}) must hold texts: correct it or leave it out.")
        return tuple(value.encode("utf-8", "replace").decode() for value in values)

    def text(self, key: str, default: str) -> str:
        """Returns one text; errors are those of `texts`."""
        return (*self.texts(key, (default,)), default)[0]
