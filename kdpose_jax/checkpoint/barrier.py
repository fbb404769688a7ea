"""Where processes wait for each other, however long it takes."""

import itertools

from orbax.checkpoint import multihost

# A process that died is found by its missing heartbeat, not here: what the others wait for may take hours.
SECONDS = 7 * 24 * 3600
_NUMBERS = itertools.count()  # a name may be waited at once only; all processes wait in the same order


def wait_for_all(name: str) -> None:
    """Returns when every process has called it; through jax's coordination service, not through the devices.

    A collective would do, were it not that gloo, which joins CPU processes, gives up where one is 30 s late for their first.
    """
    multihost.get_barrier_sync_fn()(key=f"kdpose {next(_NUMBERS)} {name}", timeout_ms=1000 * SECONDS)
