"""Files of `torch.save` before PyTorch 1.6, which the published weights of 2018 to 2020 are.

Five pickles (a magic number, the version of the format, the machine, the objects, the keys of the
storages) and then, in the order of the keys, each storage as its number of values (64 bits) and its
bytes.
"""

import struct
import sys
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.pytorch.objects import Objects, StorageType
from kdpose_jax.untrusted import archives
from kdpose_jax.untrusted.pickles import load_pickle

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_SAVE_AGAIN = (
    "save it again where PyTorch is installed, with "
    "torch.save(torch.load(FILE, map_location='cpu', weights_only=True), NEW_FILE)"
)


def read_legacy(file: Any, size: int, place: str) -> Any:
    """Reads one file, from its start.

    Args:
      file: open binary file.
      size: its bytes.
      place: what to call it in an error.

    Raises:
      UserError: of another version or byte order, with objects that could run code, damaged, or
        with claims that do not fit its size.
    """
    return _Legacy(file, size, place).load()


class _Legacy(Objects):
    """One open file.

    A storage is allocated when a pickle names it, by what the file can still hold, and filled
    behind the pickles.
    """

    def __init__(self, file: Any, file_size: int, place: str):
        super().__init__(file_size, place)
        self._file = archives.Clipped(file, file_size)
        self._bytes_named = 0
        self._storages: dict[str, np.ndarray] = {}

    def load(self) -> Any:
        """All objects."""
        self._read_header()
        objects = self.load_objects(self._file)
        keys = self._plain()
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise self.refused("a list of storages that is not one")
        if len(keys) != len(self._storages) or set(keys) != self._storages.keys():
            raise self.refused(f"{len(keys)} storages for tensors in {len(self._storages)}")
        for key in keys:
            self._fill(key)
        return objects

    def _plain(self) -> Any:
        """The next pickle, in which no global may occur."""
        return load_pickle(self._file, {}, self._place)

    def _read_header(self) -> None:
        """The three pickles in front of the objects.

        Raises:
          UserError: another version, or a machine whose bytes stand the other way round.
        """
        magic, version, machine = self._plain(), self._plain(), self._plain()
        if magic != _MAGIC or version != _VERSION:
            raise UserError(
                f"{self._place} is in a version of PyTorch's format that is not known here: "
                f"{_SAVE_AGAIN}."
            )
        if not isinstance(machine, dict) or machine.get("little_endian") not in (True, False):
            raise self.refused("a description of its machine that is not one")
        if machine["little_endian"] != (sys.byteorder == "little"):
            raise UserError(
                f"{self._place} was written on a machine of another byte order: {_SAVE_AGAIN}."
            )

    def storage(self, identity: Any) -> np.ndarray:
        """Resolves a persistent id.

        ("storage", type, key, device, number of values, part of another).
        """
        match identity:
            case ("storage", StorageType(dtype=dtype), str(key), str(), int(count), None) if (
                count >= 0
            ):
                pass
            case ("storage", StorageType(), str(), str(), int(), tuple()):
                raise UserError(
                    f"{self._place} holds storages that are parts of others: {_SAVE_AGAIN}."
                )
            case ("module", *_):
                raise UserError(
                    f"{self._place} holds a whole network with its program, which is not run: save "
                    "the network's state_dict() alone, "
                    "where the file comes from."
                )
            case _:
                raise self.refused("a reference that is no storage")
        if key not in self._storages:
            self._bytes_named += 8 + count * dtype.itemsize
            if self._bytes_named > self._file_size:
                raise self.refused(
                    f"a storage '{key}' of {count} {dtype.name} values, which it is too small for"
                )
            self._storages[key] = np.zeros(count, dtype)
        values = self._storages[key]
        if (values.dtype, values.size) != (dtype, count):
            raise self.refused(f"a storage '{key}' of two types or sizes")
        return values

    def _fill(self, key: str) -> None:
        """Reads the values of the next storage.

        Raises:
          UserError: they are of another number, or the file ends before them.
        """
        values, head = self._storages[key], self._file.read(8)
        if len(head) != 8 or struct.unpack("<q", head)[0] != values.size:
            raise self.refused(
                f"a storage '{key}' of another size than its tensors say, or ends before it"
            )
        content = self._file.read(values.nbytes)
        if len(content) != values.nbytes:
            raise UserError(
                f"{self._place} is truncated or damaged (it ends in storage '{key}'): copy or "
                "download it again."
            )
        values.view(np.uint8)[:] = np.frombuffer(content, np.uint8)
