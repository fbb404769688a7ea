"""Pickles inside files that users hand us, read without running any code. Imports only `errors`."""

import contextlib
import pickle
import pickletools
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from kdpose_jax.errors import UserError


class _AllowedNamesUnpickler(pickle.Unpickler):
    """Resolves a global only if the caller listed it: nothing else can be called while loading."""

    def __init__(self, file: BinaryIO, allowed: Mapping[tuple[str, str], Any], place: str, **options: Any):
        super().__init__(file, **options)
        self._allowed = allowed
        self._place = place

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise UserError(
                f"{self._place} holds a pickled '{module}.{name}', which is no array data and could run code; "
                "it was not loaded: get the file from its original source."
            ) from None


def load_pickle(
    file: BinaryIO, allowed: Mapping[tuple[str, str], Any], place: str, persistent_load=None, **options: Any
) -> Any:
    """Loads one pickle in which only listed globals may occur.

    Args:
      file: open binary file, positioned at the pickle.
      allowed: (module, name) -> the object that stands for it.
      place: what to call the file in an error.
      persistent_load: resolves persistent ids (PyTorch storages), None if there may be none.
      **options: passed to `pickle.Unpickler` (for example `encoding="latin1"`).

    Returns:
      The object.

    Raises:
      UserError: a global that is not listed, or a damaged pickle.
    """
    _refuse_memo_bomb(file, place)
    unpickler = _AllowedNamesUnpickler(file, allowed, place, **options)
    if persistent_load is not None:
        unpickler.persistent_load = persistent_load
    with _damage(place):
        return unpickler.load()


def _refuse_memo_bomb(file: BinaryIO, place: str) -> None:
    """Refuses a memo index that no pickle of this length needs: nine bytes could ask for gigabytes of memo table."""
    start = file.tell()
    with _damage(place):
        for code, argument, position in pickletools.genops(file):
            if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument) > position:
                raise ValueError(f"memo index {argument} in its first {position} bytes")
    file.seek(start)


@contextlib.contextmanager
def _damage(place: str) -> Iterator[None]:
    """A malformed pickle can raise almost anything."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        what = " ".join(str(error).split())
        raise UserError(f"{place} is damaged ({type(error).__name__}: {what}): copy or download it again.") from error
