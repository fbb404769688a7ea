"""What the processes of a run say to each other, and where they wait for each other."""

import contextlib
import itertools
import re
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from kdpose_jax.errors import UserError

# What a connection says that the other end has closed.
_GONE = re.compile("by peer|broken pipe|socket closed|heartbeat", re.IGNORECASE)

# A process that died is found by its missing heartbeat, not here: what the others wait for may take
# hours.
SECONDS = 7 * 24 * 3600
# A name may be waited at once only; all processes wait in the same order.
_NUMBERS = itertools.count()


def wait_for_all(name: str) -> None:
    """Returns when every process has called it; through jax's coordination service, not through the
    devices.

    A collective would do, were it not that gloo, which joins CPU processes, gives up where one is
    30 s late for their first.
    """
    multihost.get_barrier_sync_fn()(
        key=f"kdpose {next(_NUMBERS)} {name}", timeout_ms=1000 * SECONDS
    )


def lost_process(error: BaseException) -> str | None:
    """The sentence for what the others meet, in their next sum, when a connected process is gone.

    None of any other error.
    """
    if (
        not isinstance(error, jax.errors.JaxRuntimeError)
        or jax.process_count() == 1
        or not _GONE.search(str(error))
    ):
        return None
    return (
        f"Another process of this run is gone ({' '.join(str(error).split())[:200]}): when all "
        f"have ended, give the same command again to "
        "all; it goes on from the last checkpoint."
    )


def whole(array: jax.Array) -> np.ndarray:
    """A batch array of all processes, on each of them."""
    return np.asarray(
        multihost_utils.process_allgather(array, tiled=True) if jax.process_count() > 1 else array
    )


def first_process_says(value: bool) -> bool:
    """Process 0's answer, on every process.

    What only one of them can see must not send them different ways.
    """
    wait_for_all("question to the first process")
    return (
        value
        if jax.process_count() == 1
        else bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))
    )


def all_processes_say(value: bool) -> bool:
    """Whether every process says yes."""
    wait_for_all("question to all processes")
    return (
        value
        if jax.process_count() == 1
        else bool(np.all(multihost_utils.process_allgather(np.asarray(value))))
    )


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """Runs a block on process 0 before the others, which then find its files where the disk is
    shared.

    Raises:
      UserError: on the others, where the block failed on process 0: they need not fail at the same
        themselves.
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
