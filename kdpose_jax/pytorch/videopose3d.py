"""Converts the released VideoPose3D's tensors to our parameters.

Source: facebookresearch/VideoPose3D, `TemporalModel.state_dict()`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.pytorch.renaming import (
    Entry,
    axes_of,
    batch_norm,
    pointwise,
    rename,
    without_counters,
)

_NETWORK = "a VideoPose3D network"
_CONVOLUTION_AXES = (2, 1, 0)  # [out, in, frames] -> [frames, in, out]


def convert_videopose3d_state(
    state: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Renames and transposes VideoPose3D's tensors; dtypes stay as they are.

    Args:
      state: PyTorch name -> array, without prefix.

    Returns:
      (params, batch_stats, sizes): trees in the layout of `videopose3d.VideoPose3D`, and its
      `joints`, `width` and `readings`. Readings are one or two networks that have such kernels,
      each with its `filters`, their product `frames`, and `dense_kernels`. Weights do not show
      whether the network is causal, which the caller has to know.

    Raises:
      UserError: a tensor is missing, left over, of a wrong shape, not real numbers or not finite.
    """
    width, inputs, first = axes_of(state, "expand_conv.weight", 3, _NETWORK)
    blocks = len({name.split(".")[1] for name in state if name.startswith("layers_conv.")}) // 2
    kernels = (
        first,
        *(
            axes_of(state, f"layers_conv.{2 * block}.weight", 3, _NETWORK)[2]
            for block in range(blocks)
        ),
    )
    if inputs % 2:
        raise UserError(
            f"its tensor 'expand_conv.weight' reads {inputs} values a frame, and joints have two "
            "each: use another checkpoint."
        )
    sizes = {"joints": inputs // 2, "width": width, "readings": readings_of(kernels)}
    entries = list(_entries(inputs // 2, width, kernels))
    tree = rename(without_counters(state, entries), entries, _NETWORK)
    return tree["params"], tree["batch_stats"], sizes


def readings_of(kernels: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
    """Lists the networks that have such kernels: dilated ones always, dense ones if possible.

    Let d be the product of the widths before a filter. A dense filter of width w has a weight for
    each of the (w - 1) d + 1 frames that it reaches over. For example, 3, 7, 19 are dense filters
    with widths 3, 3, 3, or dilated filters with widths 3, 7, 19, which see 399 frames.

    Args:
      kernels: number of weights along time in the first convolution and in each block's.

    Returns:
      {"filters", "frames", "dense_kernels"} for each network.
    """
    readings = [{"filters": kernels, "frames": math.prod(kernels), "dense_kernels": False}]
    filters = [kernels[0]]
    for kernel in kernels[1:]:
        reach = math.prod(filters)
        if (kernel - 1) % reach or (kernel - 1) // reach % 2:
            return tuple(readings)
        filters.append((kernel - 1) // reach + 1)
    if tuple(filters) != kernels:
        readings.append(
            {"filters": tuple(filters), "frames": math.prod(filters), "dense_kernels": True}
        )
    return tuple(readings)


def choose_reading(
    readings: tuple[dict[str, Any], ...], frames: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Chooses the network that sees the configured number of frames.

    Args:
      readings: the networks from `readings_of`.
      frames: `data.frames`.

    Returns:
      One of the readings, and a sentence if there was a choice.

    Raises:
      UserError: there are several readings, and none sees this number of frames.
    """
    if len(readings) == 1:
        return readings[0], ()
    kinds = []
    for reading in readings:
        kind = "dense" if reading["dense_kernels"] else "dilated"
        kinds.append(f"{kind} filters {reading['filters']} ({reading['frames']} frames)")
    kernels = ", ".join(map(str, readings[0]["filters"]))
    both = f"kernels of {kernels} frames, which are those of {' and of '.join(kinds)}"
    for reading, kind in zip(readings, kinds, strict=True):
        if reading["frames"] == frames:
            return reading, (f"it has {both}: {kind}, by data.frames, are assumed",)
    options = " or ".join(f"--config.data.frames={reading['frames']}" for reading in readings)
    raise UserError(f"it has {both}, and data.frames is {frames}: say which with {options}.")


def _entries(joints: int, width: int, kernels: tuple[int, ...]) -> Iterator[Entry]:
    """Yields every tensor of a VideoPose3D with these sizes."""
    first, *further = kernels
    yield from _layer("expand_conv", "expand_bn", "expand", 2 * joints, width, first)
    for block, reach in enumerate(further):
        for number, ours, kernel in (
            (2 * block, "temporal", reach),
            (2 * block + 1, "pointwise", 1),
        ):
            yield from _layer(
                f"layers_conv.{number}",
                f"layers_bn.{number}",
                f"block_{block}_{ours}",
                width,
                width,
                kernel,
            )
    yield from pointwise("shrink", ("params", "shrink"), width, 3 * joints)


def _layer(
    conv: str, norm: str, ours: str, inputs: int, outputs: int, kernel: int
) -> Iterator[Entry]:
    """Yields the tensors of a `videopose3d.TemporalLayer`, with its running statistics."""
    yield Entry(
        f"{conv}.weight",
        (outputs, inputs, kernel),
        ("params", ours, "conv", "kernel"),
        _CONVOLUTION_AXES,
    )
    yield from batch_norm(norm, (ours, "norm"), outputs)
