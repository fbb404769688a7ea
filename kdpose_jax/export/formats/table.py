"""Lists the formats by their names on the command line."""

import importlib
import importlib.util
import pathlib
import platform
import sys
import types
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kdpose_jax.errors import UserError, require
from kdpose_jax.export.formats.signature import Functions, Runner, Signature

INSTALL = "pip install -r requirements-export.txt, or pip install 'kdpose_jax[export]'"
# Distributions whose wheels do not serve every platform -> where they do.
WHEELS = {
    "litert-converter": (
        (("linux", "x86_64"), ("darwin", "arm64")),
        "Linux on x86-64 and macOS on arm64",
    )
}


class Format(NamedTuple):
    """One kind of file.

    Attributes:
      suffix: the end of its name.
      module: the module of this package that writes and runs it.
      writer: the name of the module's function that writes it.
      needs: the name of the module's table of packages that writing takes.
      is_float32: whether it computes in float32, so that it must agree with the network.
      words: describes it in model cards.
    """

    suffix: str
    module: str
    writer: str
    needs: str
    is_float32: bool
    words: str


FORMATS: Mapping[str, Format] = {
    "stablehlo": Format(
        ".stablehlo",
        "stablehlo",
        "write",
        "TO_WRITE",
        True,
        "StableHLO, float32; any batch, and for lifters any length of video; CPU, CUDA and TPU",
    ),
    "saved_model": Format(
        ".savedmodel",
        "saved_model",
        "write",
        "TO_WRITE",
        True,
        "TensorFlow SavedModel, float32; any batch; CPU, CUDA and TPU",
    ),
    "onnx": Format(".onnx", "onnx", "write", "TO_WRITE", True, "ONNX, float32; any batch"),
    "litert": Format(
        ".tflite", "litert", "write", "TO_WRITE", True, "LiteRT, float32; one example a call"
    ),
    "litert_float16": Format(
        ".float16.tflite",
        "litert",
        "write_float16",
        "TO_QUANTIZE",
        False,
        "LiteRT, float16 weights; one example a call",
    ),
    "litert_int8_dynamic": Format(
        ".int8_dynamic.tflite",
        "litert",
        "write_int8_dynamic",
        "TO_QUANTIZE",
        False,
        "LiteRT, int8 weights (recommended for phones); one example a call",
    ),
    "litert_int8": Format(
        ".int8.tflite",
        "litert",
        "write_int8",
        "TO_QUANTIZE",
        False,
        "LiteRT, dense and convolutional layers in int8, all else float32; one example a call",
    ),
}


def names_in(text: str) -> list[str]:
    """Reads what `--format` says: names with commas between them.

    Raises:
      UserError: one is not a format, or there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"--format names no format: use one or several of {', '.join(FORMATS)}.")
    for name in names:
        require("--format", name, FORMATS)
    return list(dict.fromkeys(names))


def format_of(path: pathlib.Path) -> str | None:
    """Returns the name of the format of a file, by the end of its name; None if it has none."""
    fitting = [name for name, one in FORMATS.items() if path.name.endswith(one.suffix)]
    return max(fitting, key=lambda name: len(FORMATS[name].suffix), default=None)


def require_packages(name: str, *, to_write: bool) -> None:
    """Refuses a format whose packages are not installed.

    Args:
      name: the format.
      to_write: whether files are written, which are run too; else they are run alone.

    Raises:
      UserError: a package is missing. The sentence says how to install it, or where it can be.
    """
    module = _module(name)
    needed = dict(module.TO_RUN)
    if to_write:
        needed = getattr(module, FORMATS[name].needs) | needed
    for imported, distribution in needed.items():
        if importlib.util.find_spec(imported) is not None:
            continue
        place = (sys.platform, platform.machine().lower())
        if distribution in WHEELS and place not in WHEELS[distribution][0]:
            raise UserError(
                f"Format {name} needs {distribution}, which has wheels for "
                f"{WHEELS[distribution][1]}, and this is {place[0]} on {place[1]}: export on such "
                "a machine, or use --format onnx or stablehlo."
            )
        raise UserError(f"Format {name} needs {distribution}, which is not installed: {INSTALL}.")


def write(
    name: str,
    functions: Functions,
    signature: Signature,
    path: pathlib.Path,
    examples: np.ndarray,
) -> None:
    """Writes a network in a format.

    Args:
      name: the format.
      functions: the network.
      signature: what it takes and returns.
      path: the file or the folder.
      examples: training examples `[n, *input_shape]` for formats that calibrate.

    Raises:
      UserError: the network cannot be written in this format.
    """
    getattr(_module(name), FORMATS[name].writer)(functions, signature, path, examples)


def run(name: str, path: pathlib.Path, signature: Signature) -> Runner:
    """Opens a file of a format in the format's own runtime.

    Raises:
      UserError: it cannot be read.
    """
    return _module(name).run(path, signature)


def _module(name: str) -> types.ModuleType:
    return importlib.import_module(f"kdpose_jax.export.formats.{FORMATS[name].module}")
