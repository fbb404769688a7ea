"""Finds what a forward pass leaves in memory for its backward pass, from the traced program.

A compiler stores the results of products, convolutions, reductions and loops, and the sums in which
a residual branch joins its trunk. What follows from these value by value, such as norms and
activations, it computes again where it is read.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from kdpose_jax.evaluate.cost import jaxprs

# Primitives whose results are stored. All others are computed again from what is stored.
STORED = (
    "dot_general",
    "conv_general_dilated",
    "reduce_sum",
    "reduce_max",
    "cumsum",
    "sort",
    "gather",
    "while",
    "scan",
    "cond",
    "remat2",
    "checkpoint",
    "pallas_call",
)
# Values that a device stores together: it fills the channels of convolutions up to a multiple.
LANES = {"tpu": 128}
SPREAD = "broadcast_in_dim"  # makes a bias as large as what it is added to
PRODUCTS = ("dot_general", "conv_general_dilated")


def stored_bytes(traced: ClosedJaxpr, platform: str) -> int:
    """Counts the bytes that the outputs of a program keep in memory, beside its arguments.

    Args:
      traced: the program, whose outputs are what the backward pass reads.
      platform: kind of the devices, `cpu`, `gpu` or `tpu`.
    """
    total, _ = _walk_back(traced.jaxpr, set(_variables(traced.jaxpr.outvars)), platform)
    return total


def largest_product(traced: ClosedJaxpr, platform: str) -> int:
    """Counts the bytes of the largest result of a product or convolution, on the way forward."""
    return max(
        (
            array_bytes(value.aval, eqn.primitive.name, platform)
            for eqn in _equations(traced.jaxpr, platform)
            if eqn.primitive.name in PRODUCTS
            for value in eqn.outvars
        ),
        default=0,
    )


def array_bytes(aval: Any, primitive: str, platform: str) -> int:
    """Counts the bytes of an array, of a shape and type, that a primitive makes on a platform."""
    if not hasattr(aval, "shape") or jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key):
        return 0
    shape = list(aval.shape)
    if primitive == "conv_general_dilated" and len(shape) == 4:
        lanes = LANES.get(platform, 1)
        shape[-1] = math.ceil(shape[-1] / lanes) * lanes
    return math.prod(shape) * aval.dtype.itemsize


def _walk_back(jaxpr: Jaxpr, wanted: set[Any], platform: str) -> tuple[int, set[Any]]:
    """Follows wanted values back to what is stored.

    Returns:
      The bytes of what is stored, and everything that was passed on the way.
    """
    total, wanted = 0, set(wanted)
    spread = {value for eqn in jaxpr.eqns if eqn.primitive.name == SPREAD for value in eqn.outvars}
    for eqn in reversed(jaxpr.eqns):
        results = [value for value in eqn.outvars if value in wanted]
        if not results:
            continue
        name, (inner, given) = eqn.primitive.name, _inner(eqn, platform)
        if inner is None and (name in STORED or (name == "add" and _joins(eqn, spread))):
            total += sum(array_bytes(value.aval, name, platform) for value in results)
        elif inner is not None:
            ends = [
                end
                for end, value in zip(inner.outvars, eqn.outvars, strict=True)
                if value in wanted
            ]
            added, reached = _walk_back(inner, set(_variables(ends)), platform)
            total += added
            pairs = zip(inner.invars, given, strict=True)
            wanted.update(_variables(outer for within, outer in pairs if within in reached))
        else:
            wanted.update(_variables(eqn.invars))
    return total, wanted


def _joins(eqn: Any, spread: set[Any]) -> bool:
    """Returns whether an addition has two operands of full size, as a residual sum has."""
    whole = [
        value
        for value in _variables(eqn.invars)
        if value.aval.shape == eqn.outvars[0].aval.shape and value not in spread
    ]
    return len(whole) == 2


def _inner(eqn: Any, platform: str) -> tuple[Any, Any]:
    """Returns the program that an equation calls once, and the program's arguments.

    Of programs for several platforms it is the platform's, or the last, which is for all that are
    not named. It is None where nothing is called, and where the results are stored whatever makes
    them.
    """
    if platforms := eqn.params.get("branches_platforms"):
        chosen = next((n for n, names in enumerate(platforms) if names and platform in names), -1)
        return eqn.params["branches"][chosen].jaxpr, eqn.invars[1:]
    if eqn.primitive.name in STORED:
        return None, ()
    called = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    return getattr(called, "jaxpr", called), eqn.invars


def _equations(jaxpr: Jaxpr, platform: str) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        yield eqn
        if eqn.params.get("branches_platforms"):
            yield from _equations(_inner(eqn, platform)[0], platform)
            continue
        if eqn.primitive.name == "pallas_call":  # its products stay on the chip
            continue
        for called in jaxprs([*eqn.params.values()]):
            yield from _equations(called, platform)


def _variables(values: Any) -> list[Any]:
    return [value for value in values if not isinstance(value, Literal)]
