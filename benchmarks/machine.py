"""Measures what this machine can do, and how much of it other programs take. Linux."""

import dataclasses
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from kdpose_jax.errors import UserError

PROCESSES = pathlib.Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
SIDE = 2048  # of the matrices
NUMBERS = 2**26  # float32 values that are read and written: far more than a cache holds
TRIES = 7
SAMPLE = 0.5  # seconds for which the load is watched before and after a case
DISTURBED = 0.1  # cores; other programs that take more are mentioned
IDLE = 0.2  # cores; a turn begins once the last turn's threads take less
PATIENCE = 3.0  # seconds that a turn waits for that


def limit_cores(count: int) -> None:
    """Keeps this process and what it starts on some of its cores.

    JAX must not have started its devices, as it starts a thread for each core then.

    Raises:
      UserError: the process has fewer cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(cores):
        raise UserError(f"--threads is {count}: use 1 to {len(cores)}, the cores of this process.")
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores[:count])


def processor() -> str:
    """Returns the processor's name."""
    lines = (PROCESSES / "cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "a processor without a name"


@dataclasses.dataclass(frozen=True)
class Clocks:
    """Seconds at one moment.

    Attributes:
      now: the time.
      busy: processor time of all programs since the start of the machine.
      own: processor time of this process and its children.
    """

    now: float
    busy: float
    own: float

    @classmethod
    def read(cls) -> "Clocks":
        """Reads the clocks of the machine and of all processes."""
        return cls(time.perf_counter(), busy_seconds(), own_seconds())

    def others(self, later: "Clocks") -> float:
        """Computes how many cores other programs took until a later moment, on average."""
        taken = (later.busy - self.busy) - (later.own - self.own)
        return max(0.0, taken / (later.now - self.now))


def busy_seconds() -> float:
    """Reads the processor time of all programs. It includes what other machines stole."""
    user, nice, system, _, _, interrupts, soft, stolen = map(
        int, (PROCESSES / "stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + interrupts + soft + stolen) / TICKS


def own_seconds() -> float:
    """Reads the processor time of this process and its children, also of those that have ended."""
    parents, ticks = {}, {}
    for entry in PROCESSES.iterdir():
        if entry.name.isdigit():
            try:
                # The name of a program, in brackets, may contain anything.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            parents[int(entry.name)] = int(fields[1])
            ticks[int(entry.name)] = sum(map(int, fields[11:15]))
    family, found = set(), {os.getpid()}
    while found:
        family |= found
        found = {child for child, parent in parents.items() if parent in found} - family
    return sum(ticks[process] for process in family if process in ticks) / TICKS


class Watch:
    """Watches the load during a block of code, and a moment before and after it.

    Attributes:
      others: cores that other programs took, by "before", "during" and "after".
    """

    def __init__(self) -> None:
        self.others: dict[str, float] = {}

    def __enter__(self) -> "Watch":
        self._pause("before")
        self._start = Clocks.read()
        return self

    def __exit__(self, *error: object) -> None:
        self.others["during"] = round(self._start.others(Clocks.read()), 2)
        self._pause("after")

    def _pause(self, name: str) -> None:
        wait_until_idle()
        start = Clocks.read()
        time.sleep(SAMPLE)
        self.others[name] = round(start.others(Clocks.read()), 2)


def disturbance(others: dict[str, float]) -> str:
    """Says when other programs took a noticeable part of the machine; "" for a quiet one."""
    told = [f"{cores:.1f} {when}" for when, cores in others.items() if cores > DISTURBED]
    return f"others took {', '.join(told)} (cores)" if told else ""


def wait_until_idle() -> None:
    """Waits until the threads and children of this process have finished, for a few seconds."""
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        start = Clocks.read()
        time.sleep(0.2)
        stop = Clocks.read()
        if stop.own - start.own < IDLE * (stop.now - start.now):
            return


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Bounds on what a program can reach here.

    Attributes:
      gflops: rate of a matrix product in float32, 1e9 FLOP/s.
      gbytes: rate of reading and writing the memory, 1e9 bytes/s.
    """

    gflops: float
    gbytes: float


def roofline() -> Roofline:
    """Measures the best of several products and of several passes through the memory, by JAX."""
    square = jnp.asarray(np.random.default_rng(0).standard_normal((SIDE, SIDE)), jnp.float32)
    product = jax.jit(lambda left, right: jnp.matmul(left, right, precision="highest"))
    scale = jax.jit(lambda array: array * 0.5, donate_argnums=0)  # in place
    array = jnp.ones(NUMBERS, jnp.float32)
    jax.block_until_ready((product(square, square), array := scale(array)))
    products, passes = [], []
    for _ in range(TRIES):
        start = time.perf_counter()
        jax.block_until_ready(product(square, square))
        middle = time.perf_counter()
        array = jax.block_until_ready(scale(array))
        products.append(middle - start)
        passes.append(time.perf_counter() - middle)
    return Roofline(2 * SIDE**3 / min(products) / 1e9, 2 * 4 * NUMBERS / min(passes) / 1e9)
