"""Runs exported files in their own runtimes and compares them with the network."""

import pathlib
import statistics
import time
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.export.examples import Examples
from kdpose_jax.export.formats import table
from kdpose_jax.export.formats.signature import Runner
from kdpose_jax.predict.description import LIFTER, Description

# The largest difference of a float32 file from the network, in metres and in pixels.
CLOSE = {LIFTER: 1e-4, "pictures": 0.05}
# Of two bins with nearly the same probability, rounding decides which is the highest.
SHARE_OF_TIES = 0.001
LONGEST_S = 2.0  # for timing one network, after its first call
FEWEST, MOST = 5, 200  # timed calls


def measure(
    compute: Runner, reference: tuple[np.ndarray, ...], examples: Examples, about: Description
) -> dict[str, Any]:
    """Compares a network in some form with its reference.

    Args:
      compute: examples `[B, *input_shape]` -> the outputs.
      reference: the outputs of the network itself on `examples.compared`.
      examples: what to run it on.
      about: the network's description.

    Returns:
      `largest_difference` and `mean_difference` of the places, in metres or in pixels;
      `share_moved`, the share of joints that are further away than `CLOSE`; `score`; and
      `milliseconds` of a call with one example.
    """
    places = compute(examples.compared)[0]
    apart = np.abs(places - reference[0]).max(-1)
    if not np.isfinite(apart).all():
        apart = np.where(np.isfinite(apart), apart, np.inf)
    return {
        "largest_difference": float(apart.max()),
        "mean_difference": float(apart.mean()),
        "share_moved": float((apart > CLOSE[about.kind]).mean()),
        "score": examples.score(compute, about),
        "milliseconds": milliseconds(compute, examples.compared[:1]),
    }


def milliseconds(compute: Runner, example: np.ndarray) -> float:
    """Returns the median time of a call, in milliseconds, after a first one that may compile."""
    compute(example)
    seconds: list[float] = []
    while len(seconds) < FEWEST or (sum(seconds) < LONGEST_S and len(seconds) < MOST):
        start = time.perf_counter()
        compute(example)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def refuse_if_apart(name: str, measured: dict[str, Any], about: Description) -> None:
    """Refuses a file that must agree with the network and does not.

    Args:
      name: the format.
      measured: the result of `measure`.
      about: the network's description.

    Raises:
      UserError: it is further away than rounding explains.
    """
    if not np.isfinite(measured["largest_difference"]):
        raise UserError(
            f"--format {name}: the file that was written predicts NaN or infinity, and the network "
            "does not: it was deleted, so use another format."
        )
    allowed = SHARE_OF_TIES if about.kind != LIFTER else 0.0
    if table.FORMATS[name].is_float32 and measured["share_moved"] > allowed:
        raise UserError(
            f"--format {name}: the file that was written strays from the network by up to "
            f"{distance(measured['largest_difference'], about)}: it was deleted, so use another "
            "format."
        )


def distance(value: float, about: Description) -> str:
    """Writes a distance between predictions, which is in metres or in pixels, with its unit."""
    return f"{1000 * value:.2g} mm" if about.kind == LIFTER else f"{value:.2g} px"


def size_of(path: pathlib.Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
