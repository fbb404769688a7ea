"""Keeps compiled programs in the work directory, so that a second start compiles nothing.

A compiled program is machine code, and a work directory may come from somebody else. The folder's
name therefore depends on a secret of this user: whoever does not know it cannot make a folder that
is read.
"""

import contextlib
import hashlib
import os
import pathlib
import secrets
import zlib

import jax
from etils import epath
from jax.experimental.compilation_cache import compilation_cache

from kdpose_jax import buckets, processes
from kdpose_jax.folders import WorkFolder

SECRET_BYTES = 32
ENTRY = "-cache"  # the end of JAX's file names
ZSTANDARD = b"\x28\xb5\x2f\xfd"  # the beginning of its files


def keep(folder: WorkFolder) -> None:
    """Lets JAX read and write its compiled programs below a work directory.

    Nothing happens in a process whose user has named a folder with JAX_COMPILATION_CACHE_DIR, or if
    process 0 has no place for its secret. All processes must call it.

    Args:
      folder: the work directory, which this run holds.
    """
    named = jax.config.values["jax_compilation_cache_dir"] is not None
    name = ""
    if jax.process_index() == 0 and not named:
        # Without a home folder that can be written, the name stays empty.
        with contextlib.suppress(OSError, RuntimeError):
            name = name_of(folder.path, own_secret())
    if name:
        remove_partial(folder.compiled / name)
    name = processes.first_process_text(name)
    if named or not name:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder.compiled / name))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()  # JAX looks for a folder once, when it first compiles


def remove_partial(folder: epath.Path) -> None:
    """Deletes programs that a killed process did not finish to write.

    JAX would warn of them at every start and never write them again. In a bucket a file is whole or
    not there.
    """
    if buckets.is_bucket(folder) or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.endswith(ENTRY) and not is_whole(path.read_bytes()):
            path.unlink()


def is_whole(content: bytes) -> bool:
    """Returns whether a compressed program has its end.

    JAX writes Zstandard's format where that is installed. Its files are taken for whole.
    """
    if content.startswith(ZSTANDARD):
        return True
    try:
        zlib.decompress(content)
    except zlib.error:
        return False
    return True


def name_of(path: epath.Path, secret: bytes) -> str:
    """Computes the name of the folder of compiled programs that one user reads at one path."""
    return hashlib.sha256(secret + os.fsencode(str(path))).hexdigest()[:32]


def own_secret() -> bytes:
    """Reads this user's secret, which is made when it is first needed.

    Raises:
      OSError: it cannot be read or written.
      RuntimeError: the user has no home folder.
    """
    given = os.environ["XDG_STATE_HOME"] if "XDG_STATE_HOME" in os.environ else ""
    state = pathlib.Path(given) if given else pathlib.Path.home() / ".local" / "state"
    path = state / "kdpose_jax" / "secret"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    if not path.exists():
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
        try:
            os.link(made, path)  # the first of several processes wins
        except FileExistsError:
            pass
        finally:
            made.unlink()
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise OSError(f"'{path}' does not hold {SECRET_BYTES} bytes")
    return secret
