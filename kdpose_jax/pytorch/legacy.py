"""Reads files that `torch.save` wrote before PyTorch 1.6.

The published weights from 2018 to 2020 are such files. A file begins with five pickles: a magic
number, the format's version, the machine, the objects, and the keys of the storages. Then come the
storages in the order of the keys, each as its number of values (64 bits) and its bytes.
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
    "save it again where PyTorch is installed, with torch.save(torch.load(FILE, "
    "map_location='cpu', weights_only=True), NEW_FILE)"
)


def read_legacy(file: Any, size: int, place: str) -> Any:
    """Reads one file from its start.

    Args:
      file: open binary file.
      size: size of the file, bytes.
      place: names the file in an error.

    Raises:
      UserError: the file has another version or byte order, has objects that could run code, is
        damaged, or claims more than its size allows.
    """
    return _Legacy(file, size, place).load()


class _Legacy(Objects):
    """Reads one open file.

    A storage is allocated when a pickle names it, but never larger than the rest of the file. It is
    filled after the pickles have been read.
    """

    def __init__(self, file: Any, file_size: int, place: str):
        super().__init__(file_size, place)
        self._file = archives.Clipped(file, file_size)
        self._bytes_named = 0
        self._storages: dict[str, np.ndarray] = {}

    def load(self) -> Any:
        """Loads all objects."""
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
        """Loads the next pickle, in which no global may occur."""
        return load_pickle(self._file, {}, self._place)

    def _read_header(self) -> None:
        """Reads the three pickles in front of the objects.

        Raises:
          UserError: the file has another version, or its machine has another byte order.
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

        It is ("storage", type, key, device, number of values, part of another).
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
                    "the network's state_dict() alone, where the file comes from."
                )
            case _:
                raise self.refused("a reference that is not a storage")
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
          UserError: the number of values differs, or the file ends before them.
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
