"""Handles SIGTERM, Ctrl-C and a closed terminal.

A run that is told to stop saves its state and ends in time.
"""

import atexit
import contextlib
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker

from kdpose_jax.errors import EXIT_CODES


class Stopped(Exception):
    """Tells that the run was told to stop, and that its state is on the disk.

    Attributes:
      code: the exit code to end with.
    """

    def __init__(self, number: int, kept: str):
        super().__init__(f"stopped by {_name(number)}, {kept}: run the same command again to go on")
        self.code = EXIT_CODES[number]


def _name(number: int) -> str:
    names: dict[int, str] = {
        signal.SIGINT: "Ctrl-C",
        signal.SIGHUP: "SIGHUP (the terminal was closed)",
    }
    return names[number] if number in names else signal.Signals(number).name


def _nothing() -> None:
    """Does nothing, because everything is on the disk."""


class Stop:
    """Knows whether the process was told to stop, and decides what then happens.

    It is in one of two states. After `at_once(finish)`, a thread calls `finish` and ends the
    process, whatever the main thread does. That may be minutes of compiling inside C++. This state
    is for work whose results are on the disk or can be made again. After `defer()`, the request
    waits until the main thread asks for it, because memory holds a state that the disk lacks.

    Args:
      kept: text of the message about the work that was done.
    """

    def __init__(self, kept: str = "nothing is lost") -> None:
        self._kept = kept
        self._number: int | None = None
        self._finish: Callable[[], None] | None = _nothing
        self._lock = threading.RLock()
        self._questions = 0

    def requested(self) -> bool:
        """Returns whether a request to stop is waiting.

        Connected processes must all ask equally often, and all get the same answer. Jax's
        preemption service has taken over their SIGTERM, whichever process gets it.
        """
        import jax  # imported late: it takes seconds, and signals are watched from the start
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
        """Makes requests wait until `requested` is called."""
        with self._lock:
            self._finish = None

    def at_once(self, finish: Callable[[], None] = _nothing) -> None:
        """Makes a request end the process as soon as `finish` has returned.

        Raises:
          Stopped: a request was waiting already. `finish` has been called.
        """
        with self._lock:
            self._finish = finish
        if self._number is not None:
            finish()
            raise self.exception()

    def exception(self) -> Stopped:
        """Makes the exception that the main thread raises when it has saved."""
        return Stopped(signal.SIGTERM if self._number is None else self._number, self._kept)

    def receive(self, number: int) -> None:
        """Takes a signal, on the watching thread.

        A second signal changes nothing, except that a second Ctrl-C ends the process unsaved.
        """
        if self._number is not None and number == signal.SIGINT:
            leave(
                "stopped without saving: the same command goes on from the last checkpoint",
                EXIT_CODES[number],
            )
        with self._lock:
            again, self._number = (
                self._number is not None,
                number if self._number is None else self._number,
            )
            if self._finish is not None and not again:
                self._end(number, self._finish)

    def _end(self, number: int, finish: Callable[[], None]) -> None:
        try:
            finish()
        except Exception as error:  # a save that fails must not keep the process from ending
            leave(f"error: {error}", EXIT_CODES[number])
        leave(str(self.exception()), EXIT_CODES[number])


def leave(line: str, code: int) -> None:
    """Ends the process without waiting for the main thread or for a reader that hangs.

    Worker processes are ended first. What multiprocessing has left is removed by its helper.
    """
    try:
        # The main thread loses its workers now. What it says of them is of no use to anybody, and
        # it must not end the process with a code of its own.
        atexit.register(threading.Event().wait)
        if sys.stderr is not None:
            _say_last(line)
        # Its process number is not in the stubs of types.
        helper = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
        known = {helper}
        while started := _children() - known:  # a worker that is just being started too
            known |= started
            for child in started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        for worker in multiprocessing.active_children():  # those of systems that do not tell
            worker.kill()
    finally:  # whatever happens, as the main thread waits for ever
        os._exit(code)


def _say_last(line: str) -> None:
    """Prints a line on stderr, and nothing of this process behind it."""
    with contextlib.suppress(OSError, ValueError):  # of a terminal that was closed
        said, terminal = os.dup(2), sys.stderr.isatty()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        # Behind ^C or half a line of progress.
        os.write(said, (f"\n{line}\n" if terminal else f"{line}\n").encode())
        if sys.stdout is not None:
            sys.stdout.flush()


def _start_helper() -> None:
    """Starts multiprocessing's helper, which removes what a process has left, without its voice.

    A process that ends at once leaves what its main thread was just making. The helper would warn
    of it behind the sentence that the process ends with.
    """
    if sys.stderr is None:  # the process began without one: 2 may be another file
        resource_tracker.ensure_running()
        return
    said = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            resource_tracker.ensure_running()
        finally:
            os.dup2(said, 2)
            os.close(said)


def _children() -> set[int]:
    """Lists the processes that this one has started, where Linux tells."""
    children = set()
    for task in pathlib.Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            children |= set(map(int, task.read_text().split()))
    return children


@contextlib.contextmanager
def watching(kept: str = "nothing is lost") -> Iterator[Stop]:
    """Handles SIGTERM, Ctrl-C and SIGHUP within a block of the main thread.

    Earlier handlers are restored afterwards. In the block, the signals are blocked for the main
    thread and for the processes and threads that it starts. A terminal's Ctrl-C reaches worker
    processes too, but only this process then prints. An ignored SIGHUP stays ignored, as nohup
    requires.

    Args:
      kept: text of the message about the work that was done.
    """
    stop = Stop(kept)
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    heard = {
        number
        for number in EXIT_CODES
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }

    def watch() -> None:
        # Python runs handlers between two of its instructions. The bytes of the wake-up descriptor
        # come at once.
        with open(reading, "rb", buffering=0) as signals:
            while numbers := signals.read(64):
                for number in numbers:
                    if number in heard:
                        stop.receive(number)

    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in heard}
    threading.Thread(target=watch, daemon=True, name="stop").start()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, heard)  # not in the thread, which gets them
    _start_helper()  # which unblocks some of them
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    try:
        yield stop
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(writing)  # ends the thread, which reads the other end
