"""Small files written whole or not at all, and folders that one process at a time writes into. Imports only `errors` of the package."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator

from etils import epath

from kdpose_jax.errors import UserError

LOCK_FILE = ".lock"
# What file systems answer that cannot lock.
_UNLOCKABLE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def is_local(path: epath.PathLike) -> bool:
    """Whether a path is one of this machine's file system rather than a bucket's, such as gs://bucket/run."""
    return "://" not in os.fspath(path)


def write_atomically(path: epath.PathLike, content: bytes) -> None:
    """Writes a small file whole or not at all, on the disk when this returns; an object of a bucket is never seen in parts.

    Args:
      path: the file; its folder exists, and no other process writes it.
      content: its bytes.

    Raises:
      UserError: it cannot be written; an older file of this name is unharmed.
    """
    path = epath.Path(path)
    try:
        if not is_local(path):
            path.write_bytes(content)
            return
        temporary = path.parent / f".{path.name}.partial"
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(
            f"{path} could not be written ({error.strerror or error}): free space and give the same command again, or choose another "
            "folder."
        ) from error


def sync_folder(folder: epath.PathLike) -> None:
    """Has the names in a local folder on the disk, where its file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def held(folder: epath.PathLike, show: Callable[[str], None]) -> Iterator[None]:
    """Holds a folder for this process, so that no second run writes into it; let go when the process ends, however it does.

    A folder that cannot be locked (a bucket, some network file systems) is used all the same, and said to be unprotected.

    Args:
      folder: made if needed.
      show: prints one line.

    Raises:
      UserError: another process holds it; names the process and its machine.
    """
    folder = epath.Path(folder)
    if not is_local(folder):
        show(f"note: {folder} cannot be locked: see to it that no other run writes there")
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(folder, show)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is held, and so never another's
            os.unlink(folder / LOCK_FILE)
            os.rmdir(folder)  # only where nothing came of it: no trace of a command that was refused
        os.close(descriptor)


def _lock(folder: epath.Path, show: Callable[[str], None]) -> int:
    """A descriptor that holds the folder for as long as it is open."""
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(os.pread(descriptor, 4096, 0))
        os.close(descriptor)
        raise UserError(f"'{folder}' is in use by {holder}: wait until it ends or stop it, or use another folder.") from None
    except OSError as error:
        if error.errno not in _UNLOCKABLE:
            raise
        show(f"note: {folder} cannot be locked ({error.strerror}): see to it that no other run writes there")
        return descriptor
    if os.fstat(descriptor).st_nlink == 0:  # the holder before was just removing it
        os.close(descriptor)
        folder.mkdir(parents=True, exist_ok=True)
        return _lock(folder, show)
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(about).encode(), 0)
    return descriptor


def _holder(content: bytes) -> str:
    """Who holds a lock, from its file, in words."""
    try:
        about = json.loads(content)
        return f"process {about['pid']} on {about['host']} since {about['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
