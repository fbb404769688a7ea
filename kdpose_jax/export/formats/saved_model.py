"""TensorFlow's SavedModel by jax2tf, for TensorFlow Serving and programs that use TensorFlow."""

import pathlib

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.export.formats.signature import Functions, Runner, Signature
from kdpose_jax.export.plain import EVERYWHERE, plainly

PLATFORMS = ("cpu", "cuda", "tpu")
TO_WRITE = {"tensorflow": "tensorflow"}
TO_RUN = TO_WRITE
# What such a file consists of. Others of TensorFlow's operations read and write files.
ALLOWED = frozenset(
    (
        "AssignVariableOp",
        "Const",
        "Identity",
        "MergeV2Checkpoints",
        "NoOp",
        "Pack",
        "PartitionedCall",
        "Placeholder",
        "PreventGradient",
        "ReadVariableOp",
        "RestoreV2",
        "SaveV2",
        "Select",
        "ShardedFilename",
        "StatefulPartitionedCall",
        "StaticRegexFullMatch",
        "StringJoin",
        "VarHandleOp",
        "XlaCallModule",
    )
)


def write(
    functions: Functions, signature: Signature, path: pathlib.Path, examples: np.ndarray
) -> None:
    """Writes a folder, whose batch is symbolic.

    Args:
      functions: the network.
      signature: what it takes and returns.
      path: the folder.
      examples: not used; other formats calibrate with them.
    """
    import tensorflow as tf
    from jax.experimental import jax2tf

    examples_of = plainly(functions.examples, EVERYWHERE)

    def named(given):
        return dict(zip(signature.output_names, examples_of(given), strict=True))

    converted = jax2tf.convert(
        named,
        polymorphic_shapes=["b, ..."],
        with_gradient=False,
        native_serialization_platforms=PLATFORMS,
    )
    specification = tf.TensorSpec(
        [None, *signature.input_shape], tf.float32, name=signature.input_name
    )
    call = tf.function(converted, autograph=False, input_signature=[specification])
    module = tf.Module()
    module.call = call
    tf.saved_model.save(module, str(path), signatures={"serving_default": call})


def run(path: pathlib.Path, signature: Signature) -> Runner:
    """Opens a folder.

    Raises:
      UserError: it is damaged, or has operations that no export of ours has.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        graph = saved.meta_graphs[0].graph_def
        nodes = [graph.node, *(function.node_def for function in graph.library.function)]
        foreign = {node.op for part in nodes for node in part} - ALLOWED
        if foreign:
            raise UserError(
                f"'{path}' has operations that no export of this program has "
                f"({', '.join(sorted(foreign)[:5])}): export the network again."
            )
        call = tf.saved_model.load(str(path)).signatures["serving_default"]
        taken = call.structured_input_signature[1]
        shapes = {name: tuple(one.shape[1:]) for name, one in taken.items()}
    except UserError:
        raise
    except Exception as error:  # a parser may raise anything here
        raise UserError(
            f"'{path}' cannot be read as a SavedModel ({' '.join(str(error).split())[:200]}): "
            "export the network again."
        ) from error

    if shapes != {signature.input_name: signature.input_shape}:
        raise UserError(f"'{path}' is another function than its .json describes: export it again.")

    def compute(examples: np.ndarray) -> tuple[np.ndarray, ...]:
        try:
            outputs = call(**{signature.input_name: tf.constant(examples.astype(np.float32))})
        except tf.errors.OpError as error:
            raise UserError(
                f"'{path}' cannot be run by TensorFlow {tf.__version__} "
                f"({' '.join(error.message.split())[:200]}): use another --format, or another "
                "version of TensorFlow."
            ) from error
        return tuple(outputs[name].numpy() for name in signature.output_names)

    return compute
