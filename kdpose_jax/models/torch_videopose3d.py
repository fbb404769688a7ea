"""The released VideoPose3D's tensors, by name, as parameters of ours (facebookresearch/VideoPose3D, `TemporalModel.state_dict()`)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.models.torch_names import Entry, axes_of, batch_norm, pointwise, rename, without_counters

_NETWORK = "a VideoPose3D network"
_CONVOLUTION_AXES = (2, 1, 0)  # [out, in, frames] -> [frames, in, out]


def convert_videopose3d_state(state: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Renames and transposes the tensors of a VideoPose3D network, dense or strided; dtypes stay as they are.

    Args:
      state: PyTorch name -> array, without prefix.

    Returns:
      (params, batch_stats, sizes): trees in the layout of `videopose3d.VideoPose3D`, and its `joints`, `width`, `filters` and, their
      product, `frames`. Whether it is causal leaves no trace in weights: the caller has to know it.

    Raises:
      UserError: a tensor is missing, left over, of a wrong shape, not real numbers or not finite.
    """
    width, inputs, first = axes_of(state, "expand_conv.weight", 3, _NETWORK)
    blocks = len({name.split(".")[1] for name in state if name.startswith("layers_conv.")}) // 2
    filters = (first, *(axes_of(state, f"layers_conv.{2 * block}.weight", 3, _NETWORK)[2] for block in range(blocks)))
    if inputs % 2:
        raise UserError(f"its tensor 'expand_conv.weight' reads {inputs} values a frame, and joints have two each: use another checkpoint.")
    sizes = {"joints": inputs // 2, "width": width, "filters": filters, "frames": math.prod(filters)}
    entries = list(_entries(sizes))
    tree = rename(without_counters(state, entries), entries, _NETWORK)
    return tree["params"], tree["batch_stats"], sizes


def _entries(sizes: Mapping[str, Any]) -> Iterator[Entry]:
    """Every tensor of a VideoPose3D network of these sizes."""
    joints, width, (first, *filters) = sizes["joints"], sizes["width"], sizes["filters"]
    yield from _layer("expand_conv", "expand_bn", "expand", 2 * joints, width, first)
    for block, reach in enumerate(filters):
        for number, ours, kernel in ((2 * block, "temporal", reach), (2 * block + 1, "pointwise", 1)):
            yield from _layer(f"layers_conv.{number}", f"layers_bn.{number}", f"block_{block}_{ours}", width, width, kernel)
    yield from pointwise("shrink", ("params", "shrink"), width, 3 * joints)


def _layer(conv: str, norm: str, ours: str, inputs: int, outputs: int, kernel: int) -> Iterator[Entry]:
    """The tensors of a `videopose3d.TemporalLayer`, running statistics included."""
    yield Entry(f"{conv}.weight", (outputs, inputs, kernel), ("params", ours, "conv", "kernel"), _CONVOLUTION_AXES)
    yield from batch_norm(norm, (ours, "norm"), outputs)
