"""Lists the kernels that take a program's time, from a trace by JAX's profiler."""

import collections
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax


def longest(call: Callable[[], object], calls: int, count: int) -> list[dict[str, Any]]:
    """Traces some calls, and sums the time of each kernel.

    On a CPU, XLA's operations take the place of kernels. A loop there counts what it contains, so
    that shares add up to more than 1.

    Args:
      call: runs the program once, and returns when it is done.
      calls: number of traced calls.
      count: the largest number of kernels to return.

    Returns:
      The longest kernels, the longest first: name, milliseconds and launches in one call, and share
      of the time of all kernels.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                call()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        trace = jax.profiler.ProfileData.from_file(str(path))
    seconds: collections.Counter[str] = collections.Counter()
    launches: collections.Counter[str] = collections.Counter()
    for event in events(trace, jax.default_backend() == "gpu"):
        seconds[event.name] += event.duration_ns / 1e9
        launches[event.name] += 1
    return [
        {
            "name": name,
            "ms": 1000 * taken / calls,
            "launches": launches[name] / calls,
            "share": taken / seconds.total(),
        }
        for name, taken in seconds.most_common(count)
    ]


def events(trace: Any, on_gpu: bool) -> Iterator[Any]:
    """Yields what ran on a GPU's streams, or the operations of XLA on a CPU.

    Kernels in a CUDA graph lack the name of their operation, and have their own name.
    """
    for plane in trace.planes:
        for line in plane.lines:
            # The other lines of a GPU's plane, if there are any, sum the same kernels up. The
            # host's lines have the operations too, while they are launched.
            if on_gpu:
                if plane.name.startswith("/device:GPU:") and line.name.startswith("Stream #"):
                    yield from line.events
            else:
                for event in line.events:
                    if any(name == "hlo_op" for name, _ in event.stats):
                        yield event
