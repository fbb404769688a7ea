"""Lets the processes of a run tell each other things and wait for each other."""

import contextlib
import itertools
import re
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from kdpose_jax.errors import UserError

# Texts of errors of a connection whose other end is closed.
_GONE = re.compile("by peer|broken pipe|socket closed|heartbeat", re.IGNORECASE)

# The longest wait. It is long because the others may take hours. A dead process is found by its
# missing heartbeat.
SECONDS = 7 * 24 * 3600
# A name can be used for one wait only. All processes wait in the same order.
_NUMBERS = itertools.count()


def wait_for_all(name: str) -> None:
    """Returns when every process has called it.

    It uses jax's coordination service and not a collective on the devices. Gloo, which connects CPU
    processes, gives up if one of them is 30 s late for their first collective.
    """
    multihost.get_barrier_sync_fn()(
        key=f"kdpose {next(_NUMBERS)} {name}", timeout_ms=1000 * SECONDS
    )


def lost_process(error: BaseException) -> str | None:
    """Makes the sentence for the error that the others meet when a process is gone.

    They meet it in their next sum. For any other error it is None.
    """
    if (
        not isinstance(error, jax.errors.JaxRuntimeError)
        or jax.process_count() == 1
        or not _GONE.search(str(error))
    ):
        return None
    return (
        f"Another process of this run is gone ({' '.join(str(error).split())[:200]}): when all "
        "have ended, give the same command again to all; it goes on from the last checkpoint."
    )


def whole(array: jax.Array) -> np.ndarray:
    """Collects a batch array of all processes on each of them."""
    return np.asarray(
        multihost_utils.process_allgather(array, tiled=True) if jax.process_count() > 1 else array
    )


def first_process_says(value: bool) -> bool:
    """Returns process 0's answer on every process.

    Processes that see different files would otherwise take different branches.
    """
    return bool(_of_first_process(np.asarray(value)))


def first_process_text(text: str) -> str:
    """Returns process 0's text on every process. It has at most 64 characters of ASCII."""
    letters = np.frombuffer(text.encode("ascii").ljust(64), np.uint8)
    return _of_first_process(letters).tobytes().decode("ascii").rstrip()


def _of_first_process(value: np.ndarray) -> np.ndarray:
    """Returns process 0's value on every process. All have the same shape and type."""
    wait_for_all("value of the first process")
    if jax.process_count() == 1:
        return value
    return np.asarray(multihost_utils.broadcast_one_to_all(value))


def all_processes_say(value: bool) -> bool:
    """Returns whether every process says yes."""
    wait_for_all("question to all processes")
    return (
        value
        if jax.process_count() == 1
        else bool(np.all(multihost_utils.process_allgather(np.asarray(value))))
    )


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """Runs a block on process 0 before the others, which then find its files on a shared disk.

    Raises:
      UserError: the block failed on process 0. The others raise it, because the block might not
        fail on them.
    """
    if jax.process_index() > 0 and not first_process_says(False):
        raise UserError(
            f"Process {jax.process_index()} stops because process 0 failed: its own output says "
            f"why."
        )
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        if jax.process_index() == 0:
            first_process_says(succeeded)
