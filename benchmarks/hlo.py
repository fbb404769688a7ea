"""Reads what a compiled program does out of its text (optimised HLO).

The text names every instruction that the machine executes, with the compiler's own estimate of its
cycles on TPU. A loop's body is counted as often as the loop runs.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# Instructions that hold no array of their own.
WITHOUT_ARRAYS = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call")
# The first pattern that the path of an operation's name contains decides its kind. A path has the
# modules, and `jvp()` where there is none: what the method computes beside its networks.
KINDS = (
    ("spatial attention", r"spatial_block\w*/attention/"),
    ("temporal attention", r"temporal_block\w*/attention/"),
    ("attention", r"/attention/"),
    ("norm", r"norm|Norm"),
    ("MLP", r"mlp|gelu"),
    ("stochastic depth", r"draw_drops|bernoulli"),
    ("convolution", r"[Cc]onv"),
    ("random numbers", r"threefry|random"),
    ("other layers", r"/[A-Z]\w*\."),
    ("loss", r"jvp\("),
    ("optimiser", r""),
)
COPIES = "copies"
BITS = {"pred": 8, "token": 0, "opaque": 0}  # of the types whose name does not tell
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_MOVES = re.compile("copy|transpose")  # names of fusions that only move values
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_LIMIT = re.compile(r"^\s+%?[\w.\-]+ = s32\[\]\S* constant\((\d+)\)")
_CALLED = re.compile(r"(?:body|to_apply|calls|branch_computations)=\{?((?:%?[\w.\-]+(?:, )?)+)\}?")
_NOT_ENTERED = ("fusion", "reduce", "reduce-window", "scatter", "sort", "map", "select-and-scatter")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a computation.

    Attributes:
      name: its name in the program.
      opcode: what it does.
      shape: the text of its result's type.
      path: the name that tracing gave to its operation: modules, transformations, primitive.
      cycles: the compiler's estimate; 0 where there is none.
      called: the computations that it executes.
      condition: the computation that says whether a loop goes on.
      trips: how often it executes them; 0 if it does not say.
    """

    name: str
    opcode: str
    shape: str
    path: str
    cycles: int
    called: tuple[str, ...]
    condition: str
    trips: int

    @property
    def bytes(self) -> int:
        """Bytes of the result, without the padding of tiles."""
        return shape_bytes(self.shape)

    @property
    def kind(self) -> str:
        """The group that its cycles belong to."""
        if self.opcode in ("copy", "transpose") or _MOVES.match(self.name):
            return COPIES
        return next(kind for kind, pattern in KINDS if re.search(pattern, self.path))


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
      executed: every instruction outside fusions, and how often it is executed.
    """

    executed: tuple[tuple[Instruction, int], ...]

    @property
    def counts(self) -> collections.Counter:
        """Number of executed instructions by opcode."""
        found = collections.Counter()
        for instruction, times in self.executed:
            found[instruction.opcode] += times
        return found

    def cycles_by_kind(self) -> collections.Counter:
        """Sums the estimated cycles by kind, the largest first."""
        found = collections.Counter()
        for instruction, times in self.executed:
            if instruction.cycles:
                found[instruction.kind] += times * instruction.cycles
        return collections.Counter(dict(found.most_common()))

    @property
    def loop_factor(self) -> float:
        """How much more the program does than it would if each loop ran once, by cycles.

        XLA's `cost_analysis` counts a loop's body once.
        """
        once = sum(instruction.cycles for instruction, _ in self.executed)
        return sum(times * one.cycles for one, times in self.executed) / once if once else 1.0

    def moves(self, at_least: int) -> int:
        """Counts the copies and transposes that make at least this many bytes."""
        return sum(
            times
            for instruction, times in self.executed
            if instruction.kind == COPIES and instruction.bytes >= at_least
        )

    def collectives(self) -> dict[str, tuple[int, int]]:
        """Finds the exchanges between devices: name -> (number, bytes of their results)."""
        found: dict[str, tuple[int, int]] = {}
        for instruction, times in self.executed:
            name = instruction.opcode.removesuffix("-start")
            if name in COLLECTIVES:
                number, total = found.get(name, (0, 0))
                found[name] = (number + times, total + times * instruction.bytes)
        return found

    def largest_array(self) -> int:
        """Counts the bytes of the largest array that an instruction makes."""
        return max(
            (
                size
                for instruction, _ in self.executed
                if instruction.opcode not in WITHOUT_ARRAYS
                for size in array_bytes(instruction.shape)
            ),
            default=0,
        )


def parse(text: str) -> Program:
    """Reads the text of a compiled program."""
    computations: dict[str, list[Instruction]] = {}
    limits: dict[str, int] = {}  # of loops, in the computations of their conditions
    entry, current = "", ""
    for line in text.splitlines():
        if begins := _COMPUTATION.match(line):
            current = begins[2]
            computations[current] = []
            entry = current if begins[1] else entry
        elif current and (found := _INSTRUCTION.match(line)):
            computations[current].append(_instruction(*found.groups()))
            if limit := _LIMIT.match(line):
                limits[current] = int(limit[1])
    counted = {
        name: [_with_trips(one, limits) for one in instructions]
        for name, instructions in computations.items()
    }
    return Program(tuple(_executed(counted, entry, 1)))


def _with_trips(instruction: Instruction, limits: dict[str, int]) -> Instruction:
    """Reads how often a loop runs from its condition, where the program does not say it.

    The TPU's compiler leaves it out. jax's loops of a fixed length count up from 0.
    """
    if instruction.opcode != "while" or instruction.trips:
        return instruction
    return dataclasses.replace(instruction, trips=limits.get(instruction.condition, 1))


def _instruction(name: str, shape: str, opcode: str, rest: str) -> Instruction:
    path = re.search(r'op_name="([^"]*)"', rest)
    cycles = re.search(r'"estimated_cycles":"(\d+)"', rest)
    condition = re.search(r"condition=%?([\w.\-]+)", rest)
    trips = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', rest)
    called = () if opcode in _NOT_ENTERED or opcode in COLLECTIVES else _CALLED.findall(rest)
    return Instruction(
        name=name,
        opcode=opcode,
        shape=shape,
        path=path[1] if path else "",
        cycles=int(cycles[1]) if cycles else 0,
        called=tuple(one.strip().lstrip("%") for many in called for one in many.split(",")),
        condition=condition[1] if condition else "",
        trips=int(trips[1]) if trips else 0 if opcode == "while" else 1,
    )


def _executed(
    computations: dict[str, list[Instruction]], name: str, times: int
) -> Iterator[tuple[Instruction, int]]:
    for instruction in computations.get(name, ()):
        yield instruction, times
        for called in instruction.called:
            yield from _executed(computations, called, times * instruction.trips)


def array_bytes(shape: str) -> list[int]:
    """Counts the bytes of every array in the text of a type, such as `(f32[8,2]{1,0}, s32[])`."""
    found = []
    for kind, lengths in _ARRAY.findall(shape):
        digits = re.search(r"\d+", kind)
        bits = BITS[kind] if kind in BITS else int(digits[0]) if digits else 0
        found.append(bits * math.prod(int(length) for length in lengths.split(",") if length) // 8)
    return found


def shape_bytes(shape: str) -> int:
    """Counts the bytes of all arrays in the text of a type."""
    return sum(array_bytes(shape))
