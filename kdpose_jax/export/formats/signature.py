"""Says what an exported function takes and returns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# Examples `[B, ...]` float32 -> the outputs in their order, each `[B, ...]` float32.
Runner = Callable[[np.ndarray], tuple[np.ndarray, ...]]


class Signature(NamedTuple):
    """The input and the outputs of an exported function. All are float32.

    Attributes:
      input_name: the name of the input.
      input_shape: the shape of one example, without the batch.
      output_names: the names of the outputs, in their order.
    """

    input_name: str
    input_shape: tuple[int, ...]
    output_names: tuple[str, ...]


class Functions(NamedTuple):
    """One network as functions that can be exported.

    Attributes:
      examples: a batch `[B, *input_shape]` float32 -> a tuple of the outputs, as the network is
        written; formats write it plainly.
      videos: for lifters, videos of any length with their context, `[B, T, J, 2]`, -> a tuple with
        poses `[B, T - context, J, 3]`; None for pictures.
      context: number of frames that a video has beside those that are predicted.
    """

    examples: Callable[[Any], tuple[Any, ...]]
    videos: Callable[[Any], tuple[Any, ...]] | None
    context: int
