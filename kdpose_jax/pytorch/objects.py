"""Loads pickled objects with tensors, which every file from `torch.save` holds.

A pickled tensor calls a rebuild function on a storage. Claims in a file allocate nothing: a storage
is bytes that are really there, and a tensor is a view into its storage.
"""

import abc
import collections
import math
import sys
from typing import Any

import ml_dtypes
import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import bounds
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
# Training scripts keep these beside the weights, and nobody needs them: a numpy generator's state
# (VideoPose3D, MixSTE), learning rates as numpy scalars, settings and histories (Lightning,
# MMPose). They are skipped, whatever they are called with.
_UNNEEDED = (
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.random", "__RandomState_ctor"),
    ("numpy.random._pickle", "__randomstate_ctor"),
    ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._mt19937", "MT19937"),
    ("_codecs", "encode"),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ),
    *(
        ("torch", name)
        for name in (
            "Size",
            "device",
            "float64",
            "float32",
            "float16",
            "bfloat16",
            "int64",
            "int32",
            "int16",
            "int8",
            "uint8",
            "bool",
        )
    ),
    ("torch.serialization", "_get_layout"),
    ("argparse", "Namespace"),
    ("collections", "defaultdict"),
    ("collections", "deque"),
    ("collections", "Counter"),
    *(
        (module, name)
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "dict", "list", "int", "slice")
    ),
    *(
        ("pathlib", name)
        for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    ),
    *(
        (f"pathlib.{module}", name)
        for module in ("_local", "_abc")
        for name in ("PosixPath", "WindowsPath")
    ),
    *(
        (f"{package}.{module}", "AttributeDict")
        for package, module in (
            ("pytorch_lightning.utilities", "parsing"),
            ("lightning.pytorch.utilities", "parsing"),
            ("lightning_fabric.utilities", "data"),
            ("lightning.fabric.utilities", "data"),
        )
    ),
    *(
        (f"{package}.{module}", name)
        for package, module, name in (
            ("mmengine.logging", "history_buffer", "HistoryBuffer"),
            ("mmengine.config", "config", "ConfigDict"),
            ("mmcv.utils", "config", "ConfigDict"),
            ("yacs", "config", "CfgNode"),
        )
    ),
)


class Skipped:
    """Stands for an object that nobody needs, and swallows its content."""

    def __init__(self, *unused: Any):
        pass

    def __setstate__(self, unused: Any) -> None:
        pass

    def __setitem__(self, unused_key: Any, unused_value: Any) -> None:
        pass

    def append(self, unused: Any) -> None:
        """Swallows an item of a list."""

    def extend(self, unused: Any) -> None:
        """Swallows items of a list."""

    def add(self, unused: Any) -> None:
        """Swallows an item of a set."""


class StorageType:
    """Stands for a storage's type; a pickle can name it and cannot change it."""

    def __init__(self, dtype: Any):
        self.dtype = np.dtype(dtype)

    def __setstate__(self, unused: Any) -> None:
        raise ValueError("a pickle that alters what it names")


class Objects(abc.ABC):
    """Loads the objects of one open file, and bounds what they claim by its size."""

    def __init__(self, file_size: int, place: str):
        self._file_size = file_size
        self._place = place
        self._bytes_claimed = 0

    @abc.abstractmethod
    def storage(self, identity: Any) -> np.ndarray:
        """Returns the flat array for a persistent id in the pickle."""

    def load_objects(self, file: Any) -> Any:
        """Loads the pickle at a file's position.

        Raises:
          UserError: see `load_pickle`; or a tensor lies outside its storage.
        """
        allowed: dict[tuple[str, str], Any] = dict.fromkeys(_UNNEEDED, Skipped)
        for name, dtype in _STORAGE_DTYPES.items():
            allowed["torch", name] = allowed["torch.storage", name] = StorageType(dtype)
        allowed |= {
            ("collections", "OrderedDict"): StandIn(self._ordered),
            ("torch._utils", "_rebuild_tensor"): StandIn(self._tensor),  # before PyTorch 0.4
            ("torch._utils", "_rebuild_tensor_v2"): StandIn(self._tensor),
            ("torch._utils", "_rebuild_parameter"): StandIn(lambda tensor, *unused: tensor),
        }
        return load_pickle(
            file,
            allowed,
            self._place,
            persistent_load=self.storage,
            remedy="save the network's state_dict() alone, where the file comes from",
        )

    def refused(self, what: str) -> UserError:
        """Makes the error for a file whose parts do not fit together."""
        return UserError(
            f"{self._place} holds {what}: it is damaged or made up, and was not loaded; get it "
            "from its original source."
        )

    def _tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, *unused: Any
    ) -> np.ndarray:
        """Stands for torch's `_rebuild_tensor_v2`.

        It returns a strided view that lies inside its storage.
        """
        proper = (
            isinstance(storage, np.ndarray)
            and storage.ndim == 1
            and isinstance(size, tuple)
            and isinstance(stride, tuple)
        )
        if (
            not proper
            or not len(size) == len(stride) <= bounds.DIMENSIONS
            or not _all_counts((offset, *size, *stride))
        ):
            raise self.refused("a tensor without a proper storage, offset, size and stride")
        count = math.prod(size)
        if count == 0:
            return np.zeros(size, storage.dtype)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if last >= storage.size or count > storage.size:
            raise self.refused(
                f"a tensor of size {list(size)} and stride {list(stride)} in a storage of "
                f"{storage.size} values"
            )
        self._claim(count * storage.itemsize)
        steps = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)

    def _ordered(self, pairs: Any = ()) -> dict[Any, Any]:
        """Stands for `collections.OrderedDict`, which copies its argument."""
        self._claim(len(pairs) * sys.getsizeof((None, None)))
        return collections.OrderedDict(pairs)

    def _claim(self, size: int) -> None:
        """Counts the bytes that objects ask for; they may ask for a storage several times."""
        self._bytes_claimed += size
        if self._bytes_claimed > bounds.SHARING * self._file_size:
            raise self.refused("tensors that share their storages again and again")


def _all_counts(values: tuple) -> bool:
    return all(type(value) is int and value >= 0 for value in values)
