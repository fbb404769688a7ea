"""Converts the tensors of the released MixSTE, and of HoT on it, to our parameters.

Source: JinluZhang1126/MixSTE, `MixSTE2.state_dict()`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kdpose_jax.pytorch.renaming import Entry, axes_of, linear, norm, rename, transformer_block

_NETWORK = "a MixSTE network"
_HOURGLASS = "a MixSTE network of HoT"


def convert_mixste_state(state: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Renames and transposes MixSTE's tensors; dtypes stay as they are.

    Args:
      state: PyTorch name -> array, without prefix.

    Returns:
      (params, sizes): a tree in the layout of `mixste.MixSTE`, and its `frames`, `joints`, `width`,
      `depth` and `mlp_ratio`. Weights do not show the number of heads, which the caller has to
      know.

    Raises:
      UserError: a tensor is missing, left over, of a wrong shape, not real numbers or not finite.
    """
    sizes = _sizes(state, _NETWORK)
    return rename(state, _entries(sizes), _NETWORK), sizes


def convert_hourglass_mixste_state(
    state: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Renames and transposes the tensors of HoT's MixSTE; dtypes stay as they are.

    Source: NationalGAILab/HoT, `hot_mixste.Model.state_dict()`.

    Args:
      state: PyTorch name -> array, without prefix.

    Returns:
      (params, sizes): a tree in the layout of `hourglass_mixste.HourglassMixSTE`, and the sizes of
      its MixSTE and `kept_frames`. Weights show neither the number of heads nor that of the pairs
      before the pruning. The caller has to know them.

    Raises:
      UserError: a tensor is missing, left over, of a wrong shape, not real numbers or not finite.
    """
    sizes = _sizes(state, _HOURGLASS)
    _, kept_frames, _ = axes_of(state, "pos_embed_token", 3, _HOURGLASS)
    width = sizes["width"]
    entries = [entry._replace(path=("network", *entry.path)) for entry in _entries(sizes)]
    entries.append(Entry("pos_embed_token", (1, kept_frames, width), ("kept_position",)))
    entries.append(Entry("x_token", (1, sizes["frames"], width), ("recovery", "queries")))
    for name, ours in (
        ("linear_q", "query"),
        ("linear_k", "key"),
        ("linear_v", "value"),
        ("proj", "out"),
    ):
        entries += linear(f"cross_attention.{name}", ("recovery", ours), width, width)
    return rename(state, entries, _HOURGLASS), {**sizes, "kept_frames": kept_frames}


def _sizes(state: Mapping[str, np.ndarray], network: str) -> dict[str, Any]:
    """Reads MixSTE's sizes off the tensors that show them.

    Raises:
      UserError: a tensor is missing or has another number of axes.
    """
    _, joints, width = axes_of(state, "Spatial_pos_embed", 3, network)
    _, frames, _ = axes_of(state, "Temporal_pos_embed", 3, network)
    hidden, _ = axes_of(state, "STEblocks.0.mlp.fc1.weight", 2, network)
    depth = len({name.split(".")[1] for name in state if name.startswith("STEblocks.")})
    return {
        "frames": frames,
        "joints": joints,
        "width": width,
        "depth": depth,
        "mlp_ratio": hidden / width,
    }


def _entries(sizes: Mapping[str, Any]) -> Iterator[Entry]:
    """Yields every tensor of a MixSTE with these sizes (source: the layers of MixSTE2)."""
    width, hidden = sizes["width"], round(sizes["mlp_ratio"] * sizes["width"])
    yield from linear("Spatial_patch_to_embedding", ("joint_embedding",), 2, width)
    yield Entry("Spatial_pos_embed", (1, sizes["joints"], width), ("spatial_position",))
    yield Entry("Temporal_pos_embed", (1, sizes["frames"], width), ("temporal_position",))
    for kind, ours in (("STEblocks", "spatial_block"), ("TTEblocks", "temporal_block")):
        for layer in range(sizes["depth"]):
            yield from transformer_block(f"{kind}.{layer}", (f"{ours}_{layer}",), width, hidden)
    yield from norm("Spatial_norm", ("spatial_norm",), width)
    yield from norm("Temporal_norm", ("temporal_norm",), width)
    yield from norm("head.0", ("head_norm",), width)
    yield from linear("head.1", ("head",), width, 3)
