"""SIGTERM and Ctrl-C: a run that is told to stop saves what it has and ends in time."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from kdpose_jax.errors import EXIT_CODES


class Stopped(Exception):
    """The run was told to stop, and what it had is on the disk.

    Attributes:
      code: the exit code that is due.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {_name(number)}, nothing is lost: run the same command again to go on")
        self.code = EXIT_CODES[number]


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def _nothing() -> None:
    """All is on the disk."""


class Stop:
    """Whether the process was told to stop, and what happens when it is.

    It is in one of two states. `at_once(finish)`: a thread calls `finish` and ends the process, whatever the main thread is doing,
    which may be minutes of compiling inside C++; this is how everything runs whose results are on the disk or can be made again.
    `defer()`: the request waits until the main thread asks for it, because memory holds what the disk does not.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._finish: Callable[[], None] | None = _nothing
        self._lock = threading.RLock()
        self._questions = 0

    def requested(self) -> bool:
        """Whether a request to stop is waiting: of connected processes, which all ask equally often, the same answer to all.

        There jax's preemption service has taken over SIGTERM, whichever process it comes to.
        """
        import jax  # late: signals are watched for from the start, and importing it takes seconds
        from jax.experimental import multihost_utils

        if self._number is None and jax.process_count() > 1:
            self._questions += 1
            if multihost_utils.reached_preemption_sync_point(self._questions):
                self._number = signal.SIGTERM
        return self._number is not None

    def obey(self) -> None:
        """Ends the run between two pieces of work, where nothing is unsaved.

        Raises:
          Stopped: some process was told to stop.
        """
        if self.requested():
            raise self.exception()

    def defer(self) -> None:
        """From here on a request waits to be asked for."""
        with self._lock:
            self._finish = None

    def at_once(self, finish: Callable[[], None] = _nothing) -> None:
        """From here on a request ends the process as soon as `finish` has returned.

        Raises:
          Stopped: one was waiting already; `finish` has been called.
        """
        with self._lock:
            self._finish = finish
        if self._number is not None:
            finish()
            raise self.exception()

    def exception(self) -> Stopped:
        """What the main thread raises when it has saved."""
        return Stopped(signal.SIGTERM if self._number is None else self._number)

    def receive(self, number: int) -> None:
        """Takes a signal, on a thread of its own; a second one changes nothing, but a second Ctrl-C ends the process unsaved."""
        if self._number is not None and number == signal.SIGINT:
            leave("stopped without saving: the same command goes on from the last checkpoint", EXIT_CODES[number])
        with self._lock:
            again, self._number = self._number is not None, number if self._number is None else self._number
            if self._finish is not None and not again:
                self._end()

    def _end(self) -> None:
        try:
            self._finish()
        except Exception as error:  # a save that fails must not keep the process from ending
            leave(f"error: {error}", EXIT_CODES[self._number])
        leave(str(self.exception()), EXIT_CODES[self._number])


def leave(line: str, code: int) -> None:
    """Ends the process without waiting for anybody: neither for the main thread nor for a reader that hangs."""
    print(line, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


@contextlib.contextmanager
def watching() -> Iterator[Stop]:
    """Handles SIGTERM and Ctrl-C within a block of the main thread; what handled them before does so afterwards."""
    stop = Stop()
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reading, True)

    def watch() -> None:
        # Python runs handlers between two of its instructions; the bytes of the wake-up descriptor come at once.
        with open(reading, "rb", buffering=0) as signals:
            while numbers := signals.read(64):
                for number in numbers:
                    if number in EXIT_CODES:
                        stop.receive(number)

    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in EXIT_CODES}
    threading.Thread(target=watch, daemon=True, name="stop").start()
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(writing)  # ends the thread, which has the other end
