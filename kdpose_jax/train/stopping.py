"""When to stop because the machine is about to be taken away: the same answer on all processes."""

import jax
from jax.experimental import multihost_utils

from kdpose_jax.errors import Preempted


class StopSign:
    """SIGTERM to any of the connected processes, turned into a moment at which all of them stop.

    jax's preemption service catches the signal, asks every process how often it has called this, and has all of them answer yes at the
    first call that none of them has made yet. So every process must make the same calls in the same order. Processes that are
    not connected (`--distributed=off`) are never asked.
    """

    def __init__(self):
        self._calls = 0  # the service numbers moments, and steps start anew with every network
        self._stops = False

    def __call__(self) -> bool:
        """Whether to stop here and now; once yes, always yes."""
        if jax.distributed.is_initialized() and not self._stops:
            self._calls += 1
            self._stops = multihost_utils.reached_preemption_sync_point(self._calls)
        return self._stops

    def obey(self) -> None:
        """Stops between two pieces of work, where nothing is unsaved.

        Raises:
          Preempted: some process was asked to stop.
        """
        if self():
            raise Preempted("what is finished is saved")
