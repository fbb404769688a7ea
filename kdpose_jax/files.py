"""Paths that a user may give, of a disk or of a bucket (`gs://`), and small files written whole or not at all. Imports only `errors` and
`buckets`.
"""

import contextlib
import errno
import os

from etils import epath

from kdpose_jax import buckets
from kdpose_jax.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def absolute(path: epath.PathLike) -> epath.Path:
    """The absolute form of a path, `~` filled in; a bucket's is absolute already.

    Raises:
      UserError: a storage that is neither a disk nor a bucket of Google Cloud Storage.
    """
    text = os.fspath(path)
    if buckets.is_bucket(text):
        return epath.Path(text)
    if "://" in text:
        raise UserError(f"'{text}' is in a storage that is not known here: use a folder of a disk, or gs://BUCKET/FOLDER.")
    return epath.Path(text).expanduser().resolve()


def write_atomically(path: epath.PathLike, data: bytes) -> None:
    """Writes a small file, of which nobody ever sees a part: neither another process, nor one after a kill or a power cut.

    On a disk it is written under a temporary name and renamed; in a bucket an object appears when its last byte has arrived.

    Args:
      path: the file, in a folder that exists.
      data: what is to be in it.

    Raises:
      UserError: it cannot be written; an older file of this name is unharmed.
    """
    path = epath.Path(path)
    if buckets.is_bucket(path):
        with buckets.one_sentence(path):
            path.write_bytes(data)
        return
    temporary = partial_name(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if not isinstance(error, OSError):
            raise
        why = "the disk is full" if error.errno in DISK_FULL else error.strerror or error
        raise UserError(
            f"'{path}' could not be written ({why}): free space or choose another folder, then give the same command again; what was "
            "written before is whole."
        ) from error


def partial_name(path: epath.PathLike) -> epath.Path:
    """The name under which a file is written until it is whole; two processes of a machine never share one."""
    path = epath.Path(path)
    return path.parent / f".{path.name}.{os.getpid()}.partial"


def is_partial(name: str) -> bool:
    """Whether a killed process left this file."""
    return name.startswith(".") and name.endswith(".partial")
