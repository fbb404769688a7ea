"""Counts a network's parameters and multiply-adds (MACs), and measures its latency.

MACs are read off the network's jaxpr, and FLOPs = 2 x MACs. The lifting literature counts linear
layers only (docs/methods/lifting.md#cost), so linear layers and attention products are kept apart.
XLA's own estimate, `compiled.cost_analysis()`, is not used. It counts the body of a scan once,
whatever its length (github.com/jax-ml/jax/issues/18672).
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend.core
from jax.interpreters import partial_eval

from kdpose_jax.contracts import RATE

LONGEST_S = 20.0  # for measuring one batch size, without compiling
FEWEST = 5  # timed calls, if they are quick enough
# The jaxpr does not state how often, or on how many devices, the bodies of these primitives run.
_UNCOUNTABLE = ("while", "shard_map", "pallas_call")


@dataclasses.dataclass(frozen=True)
class Macs:
    """Counts multiply-adds.

    Attributes:
      linear: in linear layers and convolutions (no batch dimension in the product).
      attention: in products of activations with activations (with batch dimensions).
    """

    linear: int
    attention: int

    def __add__(self, other: "Macs") -> "Macs":
        return Macs(self.linear + other.linear, self.attention + other.attention)

    def times(self, count: int) -> "Macs":
        return Macs(count * self.linear, count * self.attention)

    @property
    def total(self) -> int:
        return self.linear + self.attention


def count_parameters(tree: Any) -> int:
    """Counts the values in a tree of arrays or `jax.ShapeDtypeStruct`s."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def count_macs(function: Callable, *abstract_arguments: Any) -> Macs:
    """Counts the multiply-adds of one call by tracing, without computing anything.

    A matrix product counts as attention if it has batch dimensions, and as a linear layer if not.
    `jnp.matmul` drops batch dimensions of size 1, so trace more than one head and one group of
    tokens.

    Args:
      function: any traceable function.
      *abstract_arguments: arrays or `jax.ShapeDtypeStruct`s, or trees of them.

    Returns:
      The count. A scan counts by its length, and a conditional by its costliest branch. Of programs
      for several platforms, the one counts that is for all others, as the network is written. What
      no result depends on is not counted.

    Raises:
      ValueError: a product stands in a loop of unknown length, a `shard_map` or a Pallas kernel.
    """
    if isinstance(function, jax.stages.Wrapped):
        # Compiled functions with options of XLA refuse to be part of another program.
        return macs_of(function.trace(*abstract_arguments).jaxpr.jaxpr)
    return macs_of(jax.make_jaxpr(function)(*abstract_arguments).jaxpr)


def macs_of(jaxpr: Any) -> Macs:
    """Counts the multiply-adds of a traced program, as `count_macs` does."""
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _count(needed)


def _count(jaxpr: Any) -> Macs:
    return sum((_count_equation(equation) for equation in jaxpr.eqns), Macs(0, 0))


def _count_equation(equation: Any) -> Macs:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        return _count_dot(equation)
    if name == "conv_general_dilated":
        return _count_convolution(equation)
    if parameters.get("branches_platforms"):
        return _count(parameters["branches"][-1].jaxpr)
    inner = [_count(jaxpr) for jaxpr in jaxprs([*parameters.values()])]
    if not inner:
        return Macs(0, 0)
    if name == "cond":
        return max(inner, key=lambda macs: macs.total)
    count = sum(inner, Macs(0, 0))
    if name in _UNCOUNTABLE and count.total:
        raise ValueError(
            f"the multiply-adds inside '{name}' cannot be counted: its number of runs is not in "
            f"the program"
        )
    return count.times(parameters["length"]) if name == "scan" else count


def jaxprs(value: Any) -> Iterator[Any]:
    """Yields the programs in the parameters of an equation.

    They belong to jit, remat, custom derivatives, scan and the branches of cond.
    """
    if isinstance(value, jax.extend.core.ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, jax.extend.core.Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from jaxprs(item)


def _count_dot(equation: Any) -> Macs:
    """Multiplies the output's size by the length of the contracted dimensions."""
    (contracted, _), (batch, _) = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    macs = math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    return Macs(0, macs) if batch else Macs(macs, 0)


def _count_convolution(equation: Any) -> Macs:
    """Counts a convolution: every output value sums over a kernel's inputs.

    In a transposed convolution, every input value meets a kernel's outputs.
    """
    picture, kernel = (variable.aval.shape for variable in equation.invars)
    parameters = equation.params
    outputs, inputs = (kernel[axis] for axis in parameters["dimension_numbers"].rhs_spec[:2])
    if math.prod(parameters["lhs_dilation"]) == 1:
        return Macs(math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // outputs, 0)
    # The zeros that dilation puts between the values cost no product.
    return Macs(
        math.prod(picture) * math.prod(kernel) // (inputs * parameters["feature_group_count"]), 0
    )


@dataclasses.dataclass(frozen=True)
class Latency:
    """Holds the wall-clock time of one synchronised call.

    Attributes:
      median_s, lowest_s, highest_s: seconds per call.
      runs: number of timed calls.
    """

    median_s: float
    lowest_s: float
    highest_s: float
    runs: int


def measure_latency(function: Callable, *arguments: Any, warmup: int, runs: int) -> Latency:
    """Times calls one by one, in a bounded time.

    docs/methods/lifting.md#latency asks for 50 warm-up and 200 timed runs. The call that compiles
    is not counted. After it, warm-up calls take at most a quarter of `LONGEST_S`, and timed calls
    take the rest. At least `FEWEST` timed calls are made, unless they take three times `LONGEST_S`.
    A slow call varies little, so one is enough.

    Args:
      function: a jitted function of device-ready arguments; compiled in the warm-up.
      *arguments: its arguments.
      warmup: the largest number of calls before the timed ones, at least 1; the first one compiles.
      runs: the largest number of timed calls, at least 1.

    Returns:
      The times, and the number of timed calls.

    Raises:
      ValueError: `warmup` or `runs` is below 1.
    """
    if warmup < 1 or runs < 1:
        raise ValueError(f"warmup {warmup} and runs {runs} must be 1 or more")

    def call() -> float:
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        return time.perf_counter() - start

    call()
    warming = 0.0
    seconds: list[float] = []
    for _ in range(warmup - 1):
        if warming >= LONGEST_S / 4:
            break
        warming += call()
    for _ in range(runs):
        spent = warming + sum(seconds)
        if seconds and spent >= (LONGEST_S if len(seconds) >= FEWEST else 3 * LONGEST_S):
            break
        seconds.append(call())
    return Latency(statistics.median(seconds), min(seconds), max(seconds), len(seconds))


@dataclasses.dataclass(frozen=True)
class Cost:
    """Holds what one network costs.

    Attributes:
      parameters: number of trained values.
      macs: multiply-adds for one example.
      outputs: what one example yields: the frames of a window, one person of a picture.
      latencies: examples per call -> the call's time.
    """

    parameters: int
    macs: Macs
    outputs: int
    latencies: dict[int, Latency]

    def outputs_per_second(self, batch: int) -> float:
        """Returns outputs per second, by docs/methods/lifting.md#latency, at a batch size."""
        return batch * self.outputs / self.latencies[batch].median_s

    def as_dict(self) -> dict[str, Any]:
        """Returns a flat record for the results file.

        "flops" is 2 x MACs; entries with "linear" leave attention products out.
        """
        record: dict[str, Any] = {
            "parameters": self.parameters,
            "outputs_per_example": self.outputs,
        }
        counts = {
            "linear": self.macs.linear,
            "attention": self.macs.attention,
            "total": self.macs.total,
        }
        for kind, macs in counts.items():
            record[f"macs_{kind}_per_example"] = macs
            record[f"macs_{kind}_per_output"] = macs / self.outputs
            record[f"flops_{kind}_per_example"] = 2 * macs
            record[f"flops_{kind}_per_output"] = 2 * macs / self.outputs
        for batch, latency in self.latencies.items():
            record[f"latency_batch{batch}"] = dataclasses.asdict(latency)
            record[f"{RATE}{batch}"] = self.outputs_per_second(batch)
        return record
