"""Runs calls in worker processes, and shows how far they are."""

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import tqdm

from kdpose_jax.errors import UserError

SECONDS_BETWEEN_LINES = 10.0
# A worker that is told to end waits so long for its parent, which says why.
SECONDS_OF_THE_PARENT = 1.0
# (top-level function, arguments of each call) -> (number of a call, its result), as calls finish.
RunCalls = Callable[[Callable[..., Any], list[tuple[Any, ...]]], Iterator[tuple[int, Any]]]


@contextlib.contextmanager
def pool(count: int) -> Iterator[RunCalls]:
    """Opens worker processes, and yields a function that runs calls in them.

    With one worker the calls run in this process. After an error the calls that have not begun are
    dropped, and those that have begun are waited for.

    Args:
      count: number of processes.

    Raises:
      UserError: a worker process was ended from outside.
    """
    if count <= 1:
        yield lambda function, calls: (
            (number, function(*call)) for number, call in enumerate(calls)
        )
        return
    # spawn, because a forked process can hang if JAX or TensorFlow has started threads.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        count, mp_context=context, initializer=end_with_parent
    ) as executor:
        try:
            yield lambda function, calls: _as_finished(executor, function, calls)
        except BaseException as error:
            executor.shutdown(wait=True, cancel_futures=True)
            if not isinstance(error, concurrent.futures.process.BrokenProcessPool):
                raise
            raise UserError(
                "A worker process was ended from outside (out of memory?): run the same command "
                "again with fewer --workers."
            ) from error


def _as_finished(
    executor: concurrent.futures.Executor,
    function: Callable[..., Any],
    calls: list[tuple[Any, ...]],
) -> Iterator[tuple[int, Any]]:
    futures = {executor.submit(function, *call): number for number, call in enumerate(calls)}
    for future in concurrent.futures.as_completed(futures):
        yield futures[future], future.result()


def end_with_parent() -> None:
    """Makes a worker process end when its parent ends, in whatever way.

    Otherwise a killed run's workers would stay for ever.
    """
    # All processes on a terminal get Ctrl-C, but only the parent answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # likewise
    # Both the pool and whoever ends the whole group send this signal. The parent answers first.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parent = multiprocessing.parent_process().sentinel

    def watch() -> None:
        multiprocessing.connection.wait([parent])
        os._exit(1)

    def answer() -> None:
        signal.sigwait({signal.SIGTERM})
        multiprocessing.connection.wait([parent], SECONDS_OF_THE_PARENT)
        os._exit(1)

    for function in (watch, answer):
        threading.Thread(target=function, daemon=True, name="parent").start()


@contextlib.contextmanager
def progress(total: int, done: int, unit: str, verb: str) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes the amount that is `verb` (written, read), in `unit`.

    It shows a bar on a terminal, and otherwise prints a line now and then.
    """
    with tqdm.tqdm(
        total=total, initial=done, unit=f" {unit}", unit_scale=True, disable=not sys.stderr.isatty()
    ) as bar:
        state = {"done": done, "line": time.monotonic()}

        def advance(written: int) -> None:
            state["done"] += written
            bar.update(written)
            if bar.disable and time.monotonic() - state["line"] > SECONDS_BETWEEN_LINES:
                state["line"] = time.monotonic()
                print(f"{state['done']:,} of {total:,} {unit} {verb}", flush=True)

        yield advance
