"""ONNX by jax2onnx: one file with a symbolic batch, whose linear layers are MatMul."""

import contextlib
import io
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.export.formats.signature import Functions, Runner, Signature
from kdpose_jax.export.plain import EVERYWHERE, plainly

TO_WRITE = {"jax2onnx": "jax2onnx", "onnx": "onnx", "onnxsim": "onnxsim"}
TO_RUN = {"onnxruntime": "onnxruntime"}
_HAS_AFFINITY = hasattr(os, "sched_getaffinity")


def write(
    functions: Functions, signature: Signature, path: pathlib.Path, examples: np.ndarray
) -> None:
    """Writes one file.

    Args:
      functions: the network.
      signature: what it takes and returns.
      path: the file.
      examples: not used; other formats calibrate with them.

    Raises:
      UserError: an operator of the network cannot be written.
    """
    import onnx
    import onnxsim
    from jax2onnx import to_onnx

    try:
        with _silence():
            # As a proto: as a file, weights of over 50 MB would go into a second one.
            model = to_onnx(
                plainly(functions.examples, EVERYWHERE),
                [("B", *signature.input_shape)],
                model_name="kdpose_jax",
                return_mode="proto",
            )
            _use_matmul(model.graph)
            model, whole = onnxsim.simplify(model)  # folds batch normalisation into convolutions
    except Exception as error:  # the converter may raise anything here
        raise UserError(
            f"--format onnx: jax2onnx cannot write this network "
            f"({' '.join(str(error).split())[:300]}): use --format stablehlo."
        ) from error
    assert whole, "onnxsim found that its result differs"
    _rename(model.graph, signature)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps jax2onnx 0.13.0 from printing 150 lines, and from warning of plugins without use."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)


def _use_matmul(graph: Any) -> None:
    """Turns each Einsum that is a linear layer into a MatMul, which quantisers look for."""
    weights = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Einsum":
            continue
        equation = next(one.s.decode() for one in node.attribute if one.name == "equation")
        terms, _, out = equation.replace(" ", "").partition("->")
        left, _, right = terms.partition(",")
        linear = len(right) == 2 and left[-1:] == right[0] and out == left[:-1] + right[1]
        if linear and node.input[1] in weights:
            node.op_type = "MatMul"
            del node.attribute[:]


def _rename(graph: Any, signature: Signature) -> None:
    """Gives the input and the outputs their names."""
    names = dict(
        zip(
            [one.name for one in (*graph.input, *graph.output)],
            [signature.input_name, *signature.output_names],
            strict=True,
        )
    )
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
    for node in graph.node:
        for places in (node.input, node.output):
            places[:] = [names.get(name, name) for name in places]


def run(path: pathlib.Path, signature: Signature) -> Runner:
    """Opens a file.

    Raises:
      UserError: it is damaged, or another network.
    """
    import onnxruntime

    try:
        options = onnxruntime.SessionOptions()
        # By itself it starts a thread for each core, of which this process may not have all.
        options.intra_op_num_threads = len(os.sched_getaffinity(0)) if _HAS_AFFINITY else 0
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        shapes = {one.name: tuple(one.shape[1:]) for one in session.get_inputs()}
    except Exception as error:  # a parser may raise anything here
        raise UserError(
            f"'{path}' cannot be read by onnxruntime ({' '.join(str(error).split())[:200]}): "
            "export the network again."
        ) from error
    if shapes != {signature.input_name: signature.input_shape}:
        raise UserError(f"'{path}' is another function than its .json describes: export it again.")

    def compute(examples: np.ndarray) -> tuple[np.ndarray, ...]:
        given = {signature.input_name: examples.astype(np.float32)}
        return tuple(session.run(list(signature.output_names), given))

    return compute
