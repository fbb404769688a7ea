"""Handles paths that a user may give, small files, and folders that one process holds.

Paths are of a disk or of a bucket (`gs://`). Small files are written completely or not at all. Only
one process at a time writes into a held folder. Imports only `errors` and `buckets`.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, BinaryIO, TypeVar

from etils import epath

from kdpose_jax import buckets
from kdpose_jax.errors import UserError

LOCK_FILE = ".lock"
# A process that has written nothing into an unfinished file for this long counts as gone.
SECONDS_UNTIL_DEAD = 3600.0
# Answers of file systems that cannot lock.
_UNLOCKABLE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
# Files that are read at once. A bucket takes its time to answer, and hashing uses several cores.
AT_ONCE = 8
_BLOCK_BYTES = 8 * 2**20  # read at once for a checksum; in a bucket each read is a request
Name = TypeVar("Name")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sentence(error: OSError) -> str | None:
    """Makes the sentence for a file that cannot be used or a disk that is full.

    It is None if the error names no file. Then it is a bug and not a user's mistake.
    """
    if error.errno in DISK_FULL:
        place = error.filename or "while writing"
        return (
            f"The disk is full ({place}): free some space and give the same command again; what "
            "was written before is whole."
        )
    if not error.filename:
        return None
    return f"'{error.filename}' cannot be used: {error.strerror}; check the path and its rights."


def absolute(path: epath.PathLike) -> epath.Path:
    """Makes a path absolute and fills in `~`. A bucket's path is absolute already.

    Raises:
      UserError: the storage is neither a disk nor a bucket of Google Cloud Storage.
    """
    text = os.fspath(path)
    if buckets.is_bucket(text):
        return epath.Path(text)
    if "://" in text:
        raise UserError(
            f"'{text}' is in a storage that is not known here: use a folder of a disk, or "
            f"gs://BUCKET/FOLDER."
        )
    return epath.Path(home_filled_in(text)).resolve()


def absolute_or_empty(path: str) -> str:
    """Makes a path absolute, so that it is valid from any folder. An empty path stays empty.

    Raises:
      UserError: as for `absolute`.
    """
    return str(absolute(path)) if path else path


def home_filled_in(text: str) -> str:
    """Fills in `~` or `~USER` at the beginning of a path.

    A shell does so only for words that do not begin with a flag.

    Raises:
      UserError: there is no such user.
    """
    filled = os.path.expanduser(text)
    if filled.startswith("~"):
        user = text.split("/")[0]
        raise UserError(
            f"'{text}' begins with '{user}', and there is no such user: write ./{text} for a "
            f"folder of that name."
        )
    return filled


def write_atomically(path: epath.PathLike, data: bytes) -> None:
    """Writes a small file completely or not at all, even if the power fails.

    No other process sees a part of it. On a disk it is written under a temporary name and renamed.
    In a bucket an object appears when its last byte has arrived.

    Args:
      path: the file, in a folder that exists.
      data: the content.

    Raises:
      UserError: the file cannot be written. An older file of this name stays as it was.
    """
    path = epath.Path(path)
    if buckets.is_bucket(path):
        with buckets.one_sentence(path):
            path.write_bytes(data)
        return
    with written_whole(path) as file:
        file.write(data)


@contextlib.contextmanager
def written_whole(path: epath.PathLike) -> Iterator[BinaryIO]:
    """Opens a file of any size that is written completely or not at all.

    It appears under its name when the block ends without an error, as `write_atomically` describes.
    For a bucket it is made on the disk and copied.

    Args:
      path: the file, in a folder that exists.

    Yields:
      The file, open for bytes. It can seek.

    Raises:
      UserError: the file cannot be written. An older file of this name stays as it was.
    """
    path = epath.Path(path)
    if buckets.is_bucket(path):
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            with buckets.one_sentence(path), path.open("wb") as target:
                shutil.copyfileobj(file, target, _BLOCK_BYTES)
        return
    temporary = partial_name(path)
    try:
        with open(temporary, "wb") as file:
            with contextlib.suppress(OSError):  # by which `remove_dead` knows that it is written
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if not isinstance(error, OSError):
            raise
        why = "the disk is full" if error.errno in DISK_FULL else error.strerror or error
        raise UserError(
            f"'{path}' could not be written ({why}): free space or choose another folder, then "
            "give the same command again; what was written before is whole."
        ) from error


def remove_dead(folder: epath.PathLike, beginning: str) -> None:
    """Deletes what killed processes left of files that `written_whole` was writing.

    Several processes may be writing into the folder. A file that is being written is locked.

    Args:
      folder: the folder, of a disk.
      beginning: what the names of the files begin with.
    """
    for left in epath.Path(folder).iterdir():
        if not (left.name.startswith(f".{beginning}") and _is_partial(left.name)):
            continue
        with contextlib.suppress(OSError), open(left, "rb") as file:  # it may be gone by now
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def write_json(path: epath.PathLike, content: Any, *, indent: int | None = 1) -> None:
    """Writes a JSON file completely or not at all.

    Args:
      path: the file, in a folder that exists.
      content: the content.
      indent: spaces before a line of one level; None writes all in one line, for large files.

    Raises:
      UserError: the file cannot be written.
      ValueError: the content has NaN or infinity, which JSON lacks.
    """
    text = json.dumps(content, indent=indent, allow_nan=False)
    write_atomically(path, (text if indent is None else f"{text}\n").encode())


def sha256(path: epath.PathLike) -> str:
    """Computes a file's checksum in hexadecimal digits."""
    checksum = hashlib.sha256()
    with epath.Path(path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum.update(block)
    return checksum.hexdigest()


def checksums(paths: Mapping[Name, epath.PathLike]) -> dict[Name, str]:
    """Computes the checksums of several files at once: their names -> hexadecimal digits."""
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(paths, pool.map(sha256, paths.values()), strict=True))


def sync_folder(folder: epath.PathLike) -> None:
    """Puts the names in a local folder onto the disk, if its file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def partial_name(path: epath.PathLike) -> epath.Path:
    """Makes a new name, under which a file is written until it is complete.

    Process numbers alone would not tell the hosts of a pod apart, nor the containers of a machine.
    """
    path = epath.Path(path)
    return path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial"


def is_leftover(name: str) -> bool:
    """Returns whether a name is a lock's or an unfinished file's, which a kill may leave."""
    return name == LOCK_FILE or _is_partial(name)


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(".partial")


def _remove_partial(folder: epath.Path, younger: bool) -> None:
    """Deletes unfinished files that killed processes left in a folder.

    Args:
      folder: the folder, which need not exist.
      younger: whether to delete files younger than `SECONDS_UNTIL_DEAD` too. A live process may be
        writing them.
    """
    if not folder.is_dir():
        return
    with contextlib.suppress(OSError):  # a file may be gone by now
        for entry in [entry for entry in folder.iterdir() if _is_partial(entry.name)]:
            if younger or entry.stat().mtime < time.time() - SECONDS_UNTIL_DEAD:
                entry.unlink()


@contextlib.contextmanager
def held(
    folder: epath.PathLike, show: Callable[[str], None], below: Sequence[str] = ()
) -> Iterator[None]:
    """Holds a folder for this process, so that no second run writes into it.

    The folder is released when the process ends in any way. Unfinished files of killed processes
    are deleted, since nobody else writes there now. A folder that cannot be locked (a bucket, some
    network file systems) is used too, and a line says that it is unprotected. There only files
    older than `SECONDS_UNTIL_DEAD` are deleted.

    Args:
      folder: the folder, which is made if needed.
      show: prints one line.
      below: names of folders in it that only its holder writes into.

    Raises:
      UserError: another process holds the folder. The sentence names it and its machine.
    """
    folder = epath.Path(folder)
    if buckets.is_bucket(folder):
        show(f"note: {folder} cannot be locked: see to it that no other run writes there")
        _remove_partial(folder, younger=False)
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, locked = _lock(folder, show)
    try:
        for name in ("", *below):
            _remove_partial(folder / name, younger=locked)
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is held, so it is never another's lock
            os.unlink(folder / LOCK_FILE)
            # Works only if the folder is empty: a refused command leaves no trace.
            os.rmdir(folder)
        os.close(descriptor)


def tidy(folder: epath.PathLike, below: Sequence[str] = ()) -> None:
    """Deletes unfinished files that a killed process left in a complete folder.

    Nothing happens if a live process holds the folder, or if it cannot be written.

    Args:
      folder: the folder, which exists.
      below: as for `held`.
    """
    folder = epath.Path(folder)
    places = [place for name in ("", *below) if (place := folder / name).is_dir()]
    if any(is_leftover(entry.name) for place in places for entry in place.iterdir()):
        with contextlib.suppress(OSError, UserError), held(folder, lambda _: None, below):
            pass


def _lock(folder: epath.Path, show: Callable[[str], None]) -> tuple[int, bool]:
    """Opens a descriptor that holds the folder while it is open.

    Returns:
      (descriptor, whether it holds the folder).
    """
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(os.pread(descriptor, 4096, 0))
        os.close(descriptor)
        raise UserError(
            f"'{folder}' is in use by {holder}: wait until it ends or stop it, or use another "
            f"folder."
        ) from None
    except OSError as error:
        if error.errno not in _UNLOCKABLE:
            raise
        show(
            f"note: {folder} cannot be locked ({error.strerror}): see to it that no other run "
            f"writes there"
        )
        return descriptor, False
    if os.fstat(descriptor).st_nlink == 0:  # the holder before has just removed it
        os.close(descriptor)
        folder.mkdir(parents=True, exist_ok=True)
        return _lock(folder, show)
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(about).encode(), 0)
    return descriptor, True


def _holder(content: bytes) -> str:
    """Says who holds a lock, from its file."""
    try:
        about = json.loads(content)
        return f"process {about['pid']} on {about['host']} since {about['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
