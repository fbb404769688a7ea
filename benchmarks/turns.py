"""Times two ways of doing the same in turns, and says how they compare.

A turn repeats one of them for some time. Turns alternate, and so does who begins a pair: A B, B A,
A B. Slow changes of the machine then meet both alike.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks import machine


@dataclasses.dataclass(frozen=True)
class Contest:
    """What is timed, ready to run.

    Attributes:
      ours: does the work once, and returns when it is done.
      examples: what one call yields, counted in `unit`.
      unit: names what is counted, in the plural.
      theirs: does the same by other means; None if nothing is compared.
      beside: names the other means.
      flops: floating-point operations of one call of ours; 0: not counted.
      moved: bytes that one call of ours must move; 0: not counted.
      ahead: calls that are made before a turn's clock starts, as they may be prepared already.
      close: ends what `ours` and `theirs` have started.
    """

    ours: Callable[[], Any]
    examples: float
    unit: str
    theirs: Callable[[], Any] | None = None
    beside: str = "PyTorch"
    flops: float = 0.0
    moved: float = 0.0
    ahead: int = 0
    close: Callable[[], None] = lambda: None


class Case(NamedTuple):
    """A row of a table: its name, and what makes it ready."""

    name: str
    prepare: Callable[[], Contest]


class Pair(NamedTuple):
    """Seconds per call in two neighbouring turns; `theirs` is None if nothing is compared."""

    ours: float
    theirs: float | None


def measure(case: Case, pairs: int, seconds: float) -> dict[str, Any]:
    """Prepares a case, times it and sums it up.

    Args:
      case: the case.
      pairs: number of pairs of turns.
      seconds: the least length of a turn.

    Returns:
      A flat record: the case's numbers, `summary` and the load by other programs.
    """
    contest = case.prepare()
    try:
        start = time.perf_counter()
        contest.ours()
        first = time.perf_counter() - start
        with machine.Watch() as watch:
            taken = take_turns(contest, pairs, seconds)
    finally:
        contest.close()
    return {
        "case": case.name,
        "unit": contest.unit,
        "beside": contest.beside if contest.theirs is not None else None,
        "examples": contest.examples,
        "flops": contest.flops,
        "moved_bytes": contest.moved,
        "first_call_s": first,
        **summary(taken),
        "others": watch.others,
    }


def take_turns(contest: Contest, pairs: int, seconds: float) -> list[Pair]:
    """Times pairs of turns."""
    ways = [contest.ours] + ([contest.theirs] if contest.theirs is not None else [])
    calls = [calls_for(way, contest.ahead, seconds) for way in ways]
    taken = []
    for number in range(pairs):
        found = [0.0] * len(ways)
        for place in range(len(ways)) if number % 2 == 0 else reversed(range(len(ways))):
            machine.wait_until_idle()
            found[place] = turn(ways[place], calls[place], contest.ahead)
        taken.append(Pair(found[0], found[1] if len(ways) == 2 else None))
    return taken


def calls_for(way: Callable[[], Any], ahead: int, seconds: float) -> int:
    """Finds how many calls a turn needs. Calls first, as the first calls may be slow."""
    turn(way, 1, ahead)
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds / 4:
        way()
        calls += 1
    return math.ceil(calls * seconds / (time.perf_counter() - start))


def turn(way: Callable[[], Any], calls: int, ahead: int) -> float:
    """Returns the seconds per call of one turn."""
    for _ in range(ahead):
        way()
    start = time.perf_counter()
    for _ in range(calls):
        way()
    return (time.perf_counter() - start) / calls


def summary(taken: Sequence[Pair]) -> dict[str, Any]:
    """Sums pairs up: medians of the turns, and the ratio of each pair.

    A ratio is their time over ours, so that above 1 we are faster.

    Returns:
      ours_s, ours_lowest_s, ours_highest_s; and theirs_s, ratio, ratio_lowest, ratio_highest, which
      are None if nothing is compared.
    """
    ours = [pair.ours for pair in taken]
    theirs = [pair.theirs for pair in taken if pair.theirs is not None]
    ratios = [pair.theirs / pair.ours for pair in taken if pair.theirs is not None]
    return {
        "pairs": len(taken),
        "ours_s": statistics.median(ours),
        "ours_lowest_s": min(ours),
        "ours_highest_s": max(ours),
        "theirs_s": statistics.median(theirs) if theirs else None,
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_lowest": min(ratios, default=None),
        "ratio_highest": max(ratios, default=None),
    }
