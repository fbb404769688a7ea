"""Rewrites a traced function so that any format can hold it.

Networks are written for speed on several platforms (`models/attending.py`), with gradients of their
own. A file that runs elsewhere needs neither. The function is traced, and its program is run again
operation by operation:
- of forms for several platforms the default one is taken, as the network is written;
- calls, custom gradients, barriers and scans become the operations in them;
- what depends on parameters alone is computed now: keyframes, interpolation, batch normalisation.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend.core
import numpy as np

# Primitives that call a program, and the name of the parameter that holds it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
# The largest constant, in values, that is computed from smaller ones.
LARGEST_MADE = 2**14
# Jitted functions that a format has an operation for: name -> what takes their place.
Replacements = Mapping[str, Callable[..., Any]]


def gelu(values: Any) -> Any:
    """Computes the exact GELU by operations that every reader of StableHLO knows.

    The networks use `erf`, which jax 0.10 writes as a composite that TensorFlow 2.21 cannot read.
    """
    return jax.nn.gelu(values, approximate=False)


# What formats without an operator of their own replace.
EVERYWHERE: Replacements = {"gelu": gelu}


def plainly(function: Callable[..., Any], replacements: Replacements) -> Callable[..., Any]:
    """Makes a function that does the same with plain operations.

    Args:
      function: any traceable function of arrays.
      replacements: name of a jitted function of one result in it -> what to call instead.
    """

    @functools.wraps(function)
    def rewritten(*arguments: Any) -> Any:
        program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        outputs = _run(program.jaxpr, program.consts, jax.tree.leaves(arguments), replacements)
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return rewritten


def _run(
    program: Any, constants: Sequence[Any], inputs: Sequence[Any], replacements: Replacements
) -> list[Any]:
    """Runs a program's equations one by one, and returns its outputs."""
    values: dict[Any, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jax.extend.core.Literal) else values[atom]

    values.update(zip(program.constvars, constants, strict=True))
    values.update(zip(program.invars, inputs, strict=True))
    for equation in program.eqns:
        taken = [read(atom) for atom in equation.invars]
        values.update(zip(equation.outvars, _do(equation, taken, replacements), strict=True))
    return [read(atom) for atom in program.outvars]


def _do(equation: Any, inputs: list[Any], replacements: Replacements) -> Sequence[Any]:
    """Does what one equation says, on values or on tracers."""
    name, parameters = equation.primitive.name, equation.params
    if name in CALLS:
        if parameters.get("name") in replacements:
            return [replacements[parameters["name"]](*inputs)]
        return _inline(parameters[CALLS[name]], inputs, replacements)
    if name == "cond" and parameters.get("branches_platforms"):
        return _inline(parameters["branches"][-1], inputs[1:], replacements)
    if name == "platform_index" or any(value is None for value in inputs):
        return [None] * len(equation.outvars)  # it chooses among the branches of such a `cond`
    if name == "optimization_barrier":
        return inputs
    if name == "scan":
        return _unrolled(parameters, inputs, replacements)
    options = equation.primitive.get_bind_params(parameters)

    def bind() -> Any:
        return equation.primitive.bind(*inputs, **options)

    if _is_constant(equation, inputs):
        with jax.ensure_compile_time_eval():
            outputs = bind()
        outputs = jax.tree.map(np.asarray, outputs)
    else:
        outputs = bind()
    return outputs if equation.primitive.multiple_results else [outputs]


def _inline(program: Any, inputs: Sequence[Any], replacements: Replacements) -> list[Any]:
    """Runs a program inside of another one."""
    if isinstance(program, jax.extend.core.ClosedJaxpr):
        return _run(program.jaxpr, program.consts, inputs, replacements)
    return _run(program, (), inputs, replacements)


def _unrolled(
    parameters: Mapping[str, Any], inputs: list[Any], replacements: Replacements
) -> list[Any]:
    """Runs a scan step by step: the layers of a network, whose number is small."""
    fixed, carried = parameters["num_consts"], parameters["num_carry"]
    constants, carry = inputs[:fixed], inputs[fixed : fixed + carried]
    sequences, steps = inputs[fixed + carried :], range(parameters["length"])
    # Indexing an array while a function is traced would make an operation of it.
    known = [one if isinstance(one, jax.core.Tracer) else np.asarray(one) for one in sequences]
    collected: list[list[Any]] = []
    for step in reversed(steps) if parameters["reverse"] else steps:
        outputs = _inline(
            parameters["jaxpr"],
            [*constants, *carry, *(sequence[step] for sequence in known)],
            replacements,
        )
        carry = outputs[:carried]
        collected.append(outputs[carried:])
    if parameters["reverse"]:
        collected.reverse()
    stacked = [jax.numpy.stack(column) for column in zip(*collected, strict=True)]
    return [*carry, *stacked]


def _is_constant(equation: Any, inputs: Sequence[Any]) -> bool:
    """Tells whether the outputs depend on constants alone, and are not much larger than those."""
    if any(isinstance(value, jax.core.Tracer) for value in inputs):
        return False
    if equation.primitive.name.startswith("dim"):  # a symbolic dimension as a number
        return False
    made = 0
    for variable in equation.outvars:
        if not all(isinstance(length, int) for length in variable.aval.shape):
            return False
        made += math.prod(variable.aval.shape)
    return made <= max(LARGEST_MADE, sum(np.size(value) for value in inputs))
