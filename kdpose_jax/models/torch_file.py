"""Reads files of `torch.save` without PyTorch and without running code: tensors become numpy arrays.

The format (PyTorch 1.6 and later): a zip archive of uncompressed entries, `<name>/data.pkl` with the objects, in which a tensor is a
call of a rebuild function on a storage, and `<name>/data/<key>` with the bytes of a storage. Nothing is allocated by what the file
claims: a storage is an entry that is really there, and a tensor is a view into its storage.
"""

import collections
import io
import math
import sys
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import archives, bounds
from kdpose_jax.untrusted.pickles import StandIn, load_pickle

_STORAGE_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
    "UntypedStorage": np.uint8,
}
# Checkpoints of VideoPose3D and MixSTE keep the state of their numpy generator, and learning rates may be numpy scalars. Nobody needs
# them, so that they are read over: each stands for nothing, whatever it is called with.
_NUMPY_NAMES = (
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.random", "__RandomState_ctor"),
    ("numpy.random._pickle", "__randomstate_ctor"),
    ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._mt19937", "MT19937"),
    ("_codecs", "encode"),
    *((f"numpy.{core}.{module}", name) for core in ("core", "_core") for module, name in (
        ("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))),
)  # fmt: skip
_LEGACY_MAGIC = bytes.fromhex("8002 8a0a 6cfc 9c46 f920 6aa8 5019 2e")  # a pickle of 0x1950A86A20F9469CFC6C


class Skipped:
    """Stands for an object that is no tensor and is not needed; swallows the arguments and the state that it is pickled with."""

    def __init__(self, *unused: Any):
        pass

    def __setstate__(self, unused: Any) -> None:
        pass


class _StorageType:
    """What a pickle names for the type of a storage. It cannot change it."""

    def __init__(self, dtype: Any):
        self.dtype = np.dtype(dtype)

    def __setstate__(self, unused: Any) -> None:
        raise ValueError("a pickle that alters what it names")


def read_torch_file(path: epath.PathLike) -> Any:
    """Reads a checkpoint that `torch.save` wrote.

    Args:
      path: the file (`.bin`, `.pth`, `.pt`).

    Returns:
      What was saved, usually nested dictionaries: tensors and parameters as read-only numpy arrays, numpy objects as `Skipped`.

    Raises:
      UserError: no such file, another format, damaged, with objects that could run code, or with claims that do not fit its size.
    """
    file_path = epath.Path(path)
    if not file_path.is_file():
        raise UserError(f"There is no file {file_path} to read PyTorch weights from: check the path.")
    with file_path.open("rb") as file:
        head = file.read(len(_LEGACY_MAGIC))
        if head == _LEGACY_MAGIC:
            raise UserError(
                f"{file_path} is in PyTorch's format from before version 1.6, which is not read here: save it again where PyTorch is "
                "installed, with torch.save(torch.load(FILE, map_location='cpu', weights_only=False), NEW_FILE), if you trust its source."
            )
        if not head.startswith(b"PK"):
            raise UserError(f"{file_path} is no PyTorch checkpoint (no zip archive): name a file written by torch.save.")
        try:
            return _Archive(*archives.open_archive(file), str(file_path)).load()
        except UserError:
            raise
        except Exception as error:  # zipfile raises almost anything
            raise UserError(f"{file_path} is truncated or damaged ({error}): copy or download it again.") from error


class _Archive:
    """One open checkpoint; keeps count of what it claims against the size of the file."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int, place: str):
        self._archive = archive
        self._place = place
        self._file_size = file_size
        self._bytes_read = 0
        self._bytes_claimed = 0
        self._entries: dict[str, bytes] = {}
        self._storages: dict[tuple[str, np.dtype], np.ndarray] = {}
        self._names = frozenset(archive.namelist())
        pickles = [name for name in self._names if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise UserError(f"{place} is no PyTorch checkpoint (a zip archive without data.pkl): name a file written by torch.save.")
        self._folder = pickles[0].removesuffix("data.pkl")
        self._byte_order = self._read_byte_order()

    def load(self) -> Any:
        allowed: dict[tuple[str, str], Any] = dict.fromkeys(_NUMPY_NAMES, Skipped)
        for name, dtype in _STORAGE_DTYPES.items():
            allowed["torch", name] = allowed["torch.storage", name] = _StorageType(dtype)
        allowed |= {
            ("collections", "OrderedDict"): StandIn(self._ordered),
            ("torch._utils", "_rebuild_tensor_v2"): StandIn(self._tensor),
            ("torch._utils", "_rebuild_parameter"): StandIn(lambda tensor, *unused: tensor),
            ("torch", "Size"): Skipped,
            ("torch", "device"): Skipped,
        }
        return load_pickle(io.BytesIO(self._entry("data.pkl")), allowed, self._place, persistent_load=self._storage)

    def _read_byte_order(self) -> str:
        if self._folder + "byteorder" not in self._names:  # files from before PyTorch 2.1
            return "little"
        order = self._entry("byteorder").decode("latin1").strip()
        if order not in ("little", "big"):
            raise self._refused(f"the byte order '{order[:20]}'")
        return order

    def _entry(self, name: str) -> bytes:
        """The bytes of one entry, which cannot be more than the file has."""
        info = self._archive.getinfo(self._folder + name)
        self._bytes_read += info.file_size
        if info.compress_type != zipfile.ZIP_STORED or self._bytes_read > self._file_size:
            raise self._refused(f"a compressed or overlapping entry '{name}'")
        return archives.read_entry(self._archive, info, self._file_size)

    def _storage(self, identity: Any) -> np.ndarray:
        """Resolves a persistent id: ("storage", type, key, device it was on, number of values)."""
        match identity:
            case ("storage", _StorageType(dtype=dtype), str(key), str(), int(count)) if count >= 0:
                pass
            case _:
                raise self._refused("a reference that is no storage")
        if (key, dtype) not in self._storages:
            self._storages[key, dtype] = self._storage_values(key, dtype)
        values = self._storages[key, dtype]
        if count > values.size:
            raise self._refused(f"a storage '{key}' of {count} {dtype.name} values, of which only {values.size} are there")
        return values[:count]

    def _storage_values(self, key: str, dtype: np.dtype) -> np.ndarray:
        """The whole entry of a storage as a flat read-only array in this machine's byte order."""
        if key not in self._entries:
            if f"{self._folder}data/{key}" not in self._names:
                raise self._refused(f"a tensor whose storage '{key}' is missing")
            self._entries[key] = self._entry(f"data/{key}")
        values = np.frombuffer(self._entries[key], dtype, count=len(self._entries[key]) // dtype.itemsize)
        if self._byte_order != sys.byteorder:
            values = values.byteswap()
            values.flags.writeable = False
        return values

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *unused: Any) -> np.ndarray:
        """Stands for `torch._utils._rebuild_tensor_v2`: a strided view into a storage, all of it inside."""
        proper = isinstance(storage, np.ndarray) and storage.ndim == 1 and isinstance(size, tuple) and isinstance(stride, tuple)
        if not proper or not len(size) == len(stride) <= bounds.DIMENSIONS or not _all_counts((offset, *size, *stride)):
            raise self._refused("a tensor without a proper storage, offset, size and stride")
        count = math.prod(size)
        if count == 0:
            return np.zeros(size, storage.dtype)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if last >= storage.size or count > storage.size:
            raise self._refused(f"a tensor of size {list(size)} and stride {list(stride)} in a storage of {storage.size} values")
        self._claim(count * storage.itemsize)
        steps = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)

    def _ordered(self, pairs: Any = ()) -> dict[Any, Any]:
        """Stands for `collections.OrderedDict`, which copies what it is called with."""
        self._claim(len(pairs) * sys.getsizeof((None, None)))
        return collections.OrderedDict(pairs)

    def _claim(self, size: int) -> None:
        """Counts the bytes that objects ask for, which may be those of a storage several times."""
        self._bytes_claimed += size
        if self._bytes_claimed > bounds.SHARING * self._file_size:
            raise self._refused("tensors that share their storages again and again")

    def _refused(self, what: str) -> UserError:
        return UserError(f"{self._place} holds {what}: it is damaged or made up, and was not loaded; get it from its original source.")


def _all_counts(values: tuple) -> bool:
    return all(type(value) is int and value >= 0 for value in values)
