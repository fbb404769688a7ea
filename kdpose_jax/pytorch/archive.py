"""Reads files that `torch.save` writes since PyTorch 1.6, zip archives without compression.

`<name>/data.pkl` has the objects, and `<name>/data/<key>` the bytes of a storage.
"""

import io
import sys
import zipfile
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.pytorch.objects import Objects, StorageType
from kdpose_jax.untrusted import archives


def read_archive(file: Any, size: int, place: str) -> Any:
    """Reads one file from its start.

    Args:
      file: open binary file.
      size: size of the file, bytes.
      place: names the file in an error.

    Raises:
      UserError: the archive is of another kind, has objects that could run code, or claims more
        than its size allows.
      Exception: almost any kind, if the file is damaged.
    """
    return _Archive(zipfile.ZipFile(archives.Clipped(file, size)), size, place).load()


class _Archive(Objects):
    """Reads one open archive."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int, place: str):
        super().__init__(file_size, place)
        self._archive = archive
        self._bytes_read = 0
        self._entries: dict[str, bytes] = {}
        self._storages: dict[tuple[str, np.dtype], np.ndarray] = {}
        self._names = frozenset(archive.namelist())
        self._folder = self._find_folder()
        self._byte_order = self._read_byte_order()

    def load(self) -> Any:
        """Loads all objects."""
        return self.load_objects(io.BytesIO(self._entry("data.pkl")))

    def _find_folder(self) -> str:
        """Returns the name that all entries begin with.

        Raises:
          UserError: torch.save did not write the archive; the message says what it is.
        """
        pickles = [name for name in self._names if name.split("/")[1:] == ["data.pkl"]]
        inside = {name.split("/")[1] for name in self._names if "/" in name}
        if len(pickles) == 1 and "code" not in inside:
            return pickles[0].removesuffix("data.pkl")
        if pickles:
            what, remedy = (
                "a program of TorchScript",
                "save the network's state_dict() with torch.save",
            )
        elif self._names and all(name.endswith(".npy") for name in self._names):
            what = "an archive of numpy arrays"
            remedy = "write it with safetensors.numpy.save_file(dict(numpy.load(FILE)), NEW_FILE)"
        else:
            what, remedy = (
                "a zip archive without data.pkl",
                "name a file written by torch.save, or unpack it first",
            )
        raise UserError(
            f"{self._place} is {what}, and files of torch.save and safetensors are read: {remedy}."
        )

    def _read_byte_order(self) -> str:
        if self._folder + "byteorder" not in self._names:  # files from before PyTorch 2.1
            return "little"
        order = self._entry("byteorder").decode("latin1").strip()
        if order not in ("little", "big"):
            raise self.refused(f"the byte order '{order[:20]}'")
        return order

    def _entry(self, name: str) -> bytes:
        """Returns the bytes of one entry, at most as many as the file has."""
        info = self._archive.getinfo(self._folder + name)
        self._bytes_read += info.file_size
        if info.compress_type != zipfile.ZIP_STORED or self._bytes_read > self._file_size:
            raise self.refused(f"a compressed or overlapping entry '{name}'")
        return archives.read_entry(self._archive, info, self._file_size)

    def storage(self, identity: Any) -> np.ndarray:
        """Resolves a persistent id: ("storage", type, key, former device, number of values)."""
        match identity:
            case ("storage", StorageType(dtype=dtype), str(key), str(), int(count)) if count >= 0:
                pass
            case _:
                raise self.refused("a reference that is not a storage")
        if (key, dtype) not in self._storages:
            self._storages[key, dtype] = self._storage_values(key, dtype)
        values = self._storages[key, dtype]
        if count > values.size:
            raise self.refused(
                f"a storage '{key}' of {count} {dtype.name} values, of which only {values.size} "
                "are there"
            )
        return values[:count]

    def _storage_values(self, key: str, dtype: np.dtype) -> np.ndarray:
        """Returns a storage as a flat read-only array in this machine's byte order."""
        if key not in self._entries:
            if f"{self._folder}data/{key}" not in self._names:
                raise self.refused(f"a tensor whose storage '{key}' is missing")
            self._entries[key] = self._entry(f"data/{key}")
        values = np.frombuffer(
            self._entries[key], dtype, count=len(self._entries[key]) // dtype.itemsize
        )
        if self._byte_order != sys.byteorder:
            values = values.byteswap()
            values.flags.writeable = False
        return values
