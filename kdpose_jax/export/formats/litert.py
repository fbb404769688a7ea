"""LiteRT (TFLite) from StableHLO by litert-converter, with float32, float16 or int8 weights.

The converter's bindings are not documented for JAX. litert-torch 0.10.0 makes the same calls.
"""

import contextlib
import io
import pathlib
from typing import Any

import jax
import numpy as np
from jax import export

from kdpose_jax.errors import UserError
from kdpose_jax.export.formats.signature import Functions, Runner, Signature
from kdpose_jax.export.plain import plainly

TO_WRITE = {"litert_converter": "litert-converter"}
TO_QUANTIZE = TO_WRITE | {"litert_quantizer": "litert-quantizer"}
TO_RUN = {"ai_edge_litert": "ai-edge-litert"}
SIGNATURE = "serving_default"


def write(
    functions: Functions, signature: Signature, path: pathlib.Path, examples: np.ndarray
) -> None:
    """Writes a file with float32 weights. It takes one example a call.

    Args:
      functions: the network.
      signature: what it takes and returns.
      path: the file.
      examples: not used; `write_int8` calibrates with them.
    """
    from litert_converter.mlir import ir, passmanager
    from litert_converter.mlir._mlir_libs import converter_api_ext as api
    from litert_converter.mlir.dialects import stablehlo

    given = jax.ShapeDtypeStruct((1, *signature.input_shape), np.float32)
    function = plainly(functions.examples, {"gelu": _gelu})
    exported = export.export(jax.jit(function), platforms=["cpu"])(given)
    context = ir.Context()
    api.prepare_mlir_context(context)
    with context:
        module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        api.set_signature(
            module.operation,
            signature_name=SIGNATURE,
            input_names=[signature.input_name],
            output_names=list(signature.output_names),
        )
        config = api.ConvertToTFLConfig()
        config.model_origin_framework = "JAX"
        config.unsafe_fuse_dynamic_shaped_broadcast = True
        api.run_convert_to_tfl_passes(module, passmanager.PassManager(), config)
        path.write_bytes(api.export_flatbuffer_to_bytes(module.operation))


def _gelu(values: Any) -> Any:
    """Computes the exact GELU by a composite for which LiteRT has one operator in place of 60."""
    inner = jax.lax.composite(
        lambda given, approximate: jax.nn.gelu(given, approximate=False), name="aten.gelu.default"
    )
    return inner(values, approximate="none")


def write_float16(
    functions: Functions, signature: Signature, path: pathlib.Path, examples: np.ndarray
) -> None:
    """Writes a file with float16 weights, computed in float32; see `write`."""
    from litert_quantizer import qtyping

    def prepare(quantizer: Any) -> None:
        weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        quantizer.update_quantization_recipe(
            regex=".*",
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            algorithm_key="float_casting",
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=weights,
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
        )

    _quantize(functions, signature, path, examples, prepare)


def write_int8_dynamic(
    functions: Functions, signature: Signature, path: pathlib.Path, examples: np.ndarray
) -> None:
    """Writes a file with int8 weights, and quantises activations as they come; see `write`."""
    from litert_quantizer import recipe

    def prepare(quantizer: Any) -> None:
        quantizer.load_quantization_recipe(recipe.dynamic_wi8_afp32())

    _quantize(functions, signature, path, examples, prepare)


def write_int8(
    functions: Functions, signature: Signature, path: pathlib.Path, examples: np.ndarray
) -> None:
    """Writes a file whose layers with weights, dense and convolutional, compute in int8.

    All else stays float32: input and outputs, sums, normalisation, softmax, GELU and the products
    of attention. Where all operators are int8, the demo's lifter loses three times as much.

    Args:
      functions: the network.
      signature: what it takes and returns.
      path: the file.
      examples: training examples `[n, *input_shape]`, whose smallest and largest activations decide
        the scales.
    """
    from litert_quantizer import qtyping

    def prepare(quantizer: Any) -> None:
        for layer in (qtyping.TFLOperationName.FULLY_CONNECTED, qtyping.TFLOperationName.CONV_2D):
            quantizer.add_static_config(
                regex=".*", operation_name=layer, activation_num_bits=8, weight_num_bits=8
            )

    _quantize(functions, signature, path, examples, prepare, calibrated=True)


def _quantize(
    functions: Functions,
    signature: Signature,
    path: pathlib.Path,
    examples: np.ndarray,
    prepare: Any,
    calibrated: bool = False,
) -> None:
    from litert_quantizer import quantizer

    exact = path.with_name(f"{path.name}.float32")
    write(functions, signature, exact, examples)
    try:
        # It prints a progress bar and a report.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            quantized = quantizer.Quantizer(str(exact))
            prepare(quantized)
            found = None
            if calibrated:
                found = _extremes(quantized, exact, signature, examples)
            result = quantized.quantize(found) if calibrated else quantized.quantize()
            path.write_bytes(bytes(result.quantized_model))
    finally:
        exact.unlink()


def _extremes(
    quantized: Any, exact: pathlib.Path, signature: Signature, examples: np.ndarray
) -> Any:
    """Finds the smallest and the largest value of every activation.

    `Quantizer.calibrate` takes moving averages of them, which cut off rare large values: 106 mm in
    place of 80 for the demo's student. It has no argument for this.
    """
    from litert_quantizer import calibrator
    from litert_quantizer.utils import qsv_utils

    found = calibrator.Calibrator(
        exact.read_bytes(),
        mode=calibrator.CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
        qsv_update_func=qsv_utils.min_max_update,
    )
    given = [{signature.input_name: one[None].astype(np.float32)} for one in examples]
    found.calibrate({SIGNATURE: given}, quantized._recipe_manager)
    return found.get_model_qsvs()


def run(path: pathlib.Path, signature: Signature) -> Runner:
    """Opens a file, which runs on one core, one example a call.

    Raises:
      UserError: it is damaged, or another network.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        runner = Interpreter(str(path), num_threads=1).get_signature_runner(SIGNATURE)
        taken = runner.get_input_details()[signature.input_name]
        shape = tuple(map(int, taken["shape"]))
        given = runner.get_output_details()
        types = {
            np.dtype(one["dtype"])
            for one in (taken, *(given[name] for name in signature.output_names))
        }
    except Exception as error:  # a parser may raise anything here
        raise UserError(
            f"'{path}' cannot be read by LiteRT ({' '.join(str(error).split())[:200]}): export the "
            "network again."
        ) from error

    if shape != (1, *signature.input_shape) or types != {np.dtype(np.float32)}:
        raise UserError(f"'{path}' is another function than its .json describes: export it again.")

    def compute(examples: np.ndarray) -> tuple[np.ndarray, ...]:
        rows: list[list[np.ndarray]] = [[] for _ in signature.output_names]
        for example in examples.astype(np.float32):
            outputs = runner(**{signature.input_name: example[None]})
            for column, name in zip(rows, signature.output_names, strict=True):
                column.append(outputs[name])
        return tuple(np.concatenate(column) for column in rows)

    return compute
