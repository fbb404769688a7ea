"""StableHLO by `jax.export`: any batch, any length of video, on a CPU, a GPU or a TPU."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import export

from kdpose_jax.errors import UserError
from kdpose_jax.export.formats.signature import Functions, Runner, Signature
from kdpose_jax.export.plain import EVERYWHERE, plainly

PLATFORMS = ("cpu", "cuda", "tpu")
# jax writes and reads an artefact through it, and does not require it.
TO_WRITE = {"flatbuffers": "flatbuffers"}
TO_RUN = TO_WRITE


def write(
    functions: Functions, signature: Signature, path: pathlib.Path, examples: np.ndarray
) -> None:
    """Writes one file for all platforms, whose batch and length of video are symbolic.

    Args:
      functions: the network.
      signature: what it takes and returns.
      path: the file.
      examples: not used; other formats calibrate with them.
    """
    shape: tuple = ("b", *signature.input_shape)
    function = plainly(functions.examples, EVERYWHERE)
    if functions.videos is not None:  # t frames are predicted, at least one
        shape = ("b", f"t + {functions.context}", *signature.input_shape[1:])
        function = functions.videos
    symbolic = export.symbolic_shape(", ".join(map(str, shape)))
    given = {signature.input_name: jax.ShapeDtypeStruct(symbolic, np.float32)}
    exported = export.export(jax.jit(_named(function, signature)), platforms=PLATFORMS)(**given)
    path.write_bytes(exported.serialize())


def _named(
    function: Callable[[Any], tuple[Any, ...]], signature: Signature
) -> Callable[..., dict[str, Any]]:
    """Gives the outputs their names."""

    def call(**given: Any) -> dict[str, Any]:
        outputs = function(given[signature.input_name])
        return dict(zip(signature.output_names, outputs, strict=True))

    call.__name__ = "predict"
    return call


def run(path: pathlib.Path, signature: Signature) -> Runner:
    """Opens a file.

    Raises:
      UserError: it is damaged, or of a version of jax that this one cannot read.
    """
    try:
        exported = export.deserialize(bytearray(path.read_bytes()))
        wanted: Any = jax.tree.structure(((), {signature.input_name: 0}))
        named = wanted == exported.in_tree
        shape = exported.in_avals[0].shape if named else ()
    except Exception as error:  # a parser may raise anything here
        raise UserError(
            f"'{path}' cannot be read by jax {jax.__version__} "
            f"({' '.join(str(error).split())[:200]}): export the network again with this version "
            "(jax reads files up to six months old)."
        ) from error
    # A lifter's frames are symbolic.
    if len(shape) != 4 or tuple(shape[-2:]) != signature.input_shape[-2:]:
        raise UserError(f"'{path}' is another function than its .json describes: export it again.")
    call = jax.jit(exported.call)

    def compute(examples: np.ndarray) -> tuple[np.ndarray, ...]:
        outputs = call(**{signature.input_name: examples.astype(np.float32)})
        return tuple(np.asarray(outputs[name]) for name in signature.output_names)

    return compute
