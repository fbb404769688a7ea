"""Reads files of weights as numpy arrays, without PyTorch and without running code.

A file's first bytes tell its kind, whatever its name is: a zip archive (`torch.save` since PyTorch
1.6), a row of pickles (`torch.save` before it) or safetensors. Each kind's reader has a file of its
own.
"""

import struct
from collections.abc import Callable
from typing import Any

from etils import epath

from kdpose_jax.errors import UserError
from kdpose_jax.pytorch.archive import read_archive
from kdpose_jax.pytorch.legacy import read_legacy
from kdpose_jax.pytorch.safetensors import read_safetensors
from kdpose_jax.untrusted import archives

_HEAD = 512
# Files from before 1.6 begin with the number 0x1950A86A20F9469CFC6C, in a binary or a text pickle.
_MAGIC = (bytes.fromhex("6cfc 9c46 f920 6aa8 5019"), b"119547037146038801333356")
_KNOWN = "files of torch.save and safetensors are read"
# Other files that people hand over: first bytes, what the file is, and what to do.
_OTHERS = (
    (b"\x1f\x8b", "is compressed by gzip", "unpack it first (gunzip, or tar -xzf)"),
    (
        b"\x89HDF",
        "is an HDF5 file, as Keras writes weights",
        "give the PyTorch weights of the network",
    ),
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS, not the weights",
        "get them with 'git lfs pull'",
    ),
    (b"<", "begins like a web page", "download the weights again, from their own link"),
    (b"{", "begins like JSON text", "name the weights, or the folder of a run"),
    (
        b"\x80",
        "is a pickle that torch.save did not write",
        "save it with torch.save as a dictionary of tensors",
    ),
)


def read_torch_file(path: epath.PathLike) -> Any:
    """Reads a file of weights.

    Args:
      path: the file, under any name.

    Returns:
      The saved objects, usually nested dictionaries. Tensors and parameters are read-only numpy
      arrays. Objects that nobody needs are `Skipped`.

    Raises:
      UserError: the file is absent, is in another format, is damaged, has objects that could run
        code, or claims more than its size allows.
    """
    file_path = epath.Path(path)
    if file_path.is_dir():
        raise UserError(
            f"{file_path} is a folder, and weights are read from a file: name the file in it."
        )
    if not file_path.is_file():
        raise UserError(f"There is no file {file_path} to read weights from: check the path.")
    with file_path.open("rb") as file:
        size = archives.size_of(file)
        read = _reader_of(file.read(_HEAD), size, str(file_path))
        file.seek(0)
        try:
            return read(file, size, str(file_path))
        except UserError:
            raise
        except Exception as error:  # zipfile can raise almost anything
            what = " ".join(str(error).split())
            raise UserError(
                f"{file_path} is truncated or damaged ({what}): copy or download it again."
            ) from error


def _reader_of(head: bytes, size: int, place: str) -> Callable[[Any, int, str], Any]:
    """Chooses a file's reader by its first bytes.

    Raises:
      UserError: the kind is not read; the message says what the file looks like.
    """
    if head.startswith(b"PK"):
        return read_archive
    if any(magic in head[:48] for magic in _MAGIC):
        return read_legacy
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8:
        return read_safetensors
    if not head:
        raise UserError(f"{place} is empty: copy or download it again.")
    if head[257:262] == b"ustar":
        raise UserError(
            f"{place} is a tar archive, as PyTorch wrote them before version 0.2, or as files are "
            "packed: unpack it, or save it again with torch.save where PyTorch is installed."
        )
    for start, what, remedy in _OTHERS:
        if head.lstrip().startswith(start):
            raise UserError(f"{place} {what}, and {_KNOWN}: {remedy}.")
    raise UserError(f"{place} is not a file of weights (it begins with {_shown(head)}): {_KNOWN}.")


def _shown(head: bytes) -> str:
    """Shows the first bytes, as text if they are text."""
    start = head[:16]
    if all(32 <= byte < 127 for byte in start):
        return f"'{start.decode('ascii')}'"
    return f"the bytes {start[:8].hex(' ')}"
