"""Converts the released PoseFormerV2's tensors to our parameters.

Source: QitaoZhao/PoseFormerV2, `PoseTransformerV2.state_dict()`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kdpose_jax.pytorch.renaming import (
    Entry,
    axes_of,
    linear,
    norm,
    pointwise,
    rename,
    transformer_block,
)

_NETWORK = "a PoseFormerV2 network"


def convert_poseformer_v2_state(
    state: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Renames and transposes PoseFormerV2's tensors; dtypes stay as they are.

    Args:
      state: PyTorch name -> array, without prefix.

    Returns:
      (params, sizes): a tree in the layout of `poseformer_v2.PoseFormerV2`, and its `joints`,
      `width`, `depth`, `mlp_ratio`, `kept_frames` and `kept_coefficients`. Weights show neither the
      number of heads nor the window's length. The caller has to know them.

    Raises:
      UserError: a tensor is missing, left over, of a wrong shape, not real numbers or not finite.
    """
    _, joints, width = axes_of(state, "Spatial_pos_embed", 3, _NETWORK)
    _, kept_frames, _ = axes_of(state, "Temporal_pos_embed", 3, _NETWORK)
    _, kept_coefficients, _ = axes_of(state, "Temporal_pos_embed_", 3, _NETWORK)
    hidden, _ = axes_of(state, "Spatial_blocks.0.mlp.fc1.weight", 2, _NETWORK)
    sizes = {
        "joints": joints,
        "width": width,
        "depth": len({name.split(".")[1] for name in state if name.startswith("Spatial_blocks.")}),
        "mlp_ratio": hidden / width,
        "kept_frames": kept_frames,
        "kept_coefficients": kept_coefficients,
    }
    return rename(state, _entries(sizes), _NETWORK), sizes


def _entries(sizes: Mapping[str, Any]) -> Iterator[Entry]:
    """Yields every tensor of a PoseFormerV2 with these sizes."""
    joints, width = sizes["joints"], sizes["width"]
    kept_frames, kept_coefficients, whole = (
        sizes["kept_frames"],
        sizes["kept_coefficients"],
        joints * width,
    )
    yield from linear("Joint_embedding", ("joint_embedding",), 2, width)
    yield from linear("Freq_embedding", ("coefficient_embedding",), 2 * joints, whole)
    yield Entry("Spatial_pos_embed", (1, joints, width), ("spatial_position",))
    yield Entry("Temporal_pos_embed", (1, kept_frames, whole), ("temporal_position",))
    yield Entry("Temporal_pos_embed_", (1, kept_coefficients, whole), ("coefficient_position",))
    for layer in range(sizes["depth"]):
        hidden = round(sizes["mlp_ratio"] * width)
        yield from transformer_block(
            f"Spatial_blocks.{layer}", (f"spatial_block_{layer}",), width, hidden
        )
        yield from _mixed_block(
            f"blocks.{layer}", (f"mixed_block_{layer}",), whole, round(sizes["mlp_ratio"] * whole)
        )
    yield from norm("Spatial_norm", ("spatial_norm",), width)
    yield from norm("Temporal_norm", ("temporal_norm",), whole)
    yield from pointwise("weighted_mean", ("coefficient_mean",), kept_coefficients, 1)
    yield from pointwise("weighted_mean_", ("frame_mean",), kept_frames, 1)
    yield from norm("head.0", ("head_norm",), 2 * whole)
    yield from linear("head.1", ("head",), 2 * whole, 3 * joints)


def _mixed_block(name: str, path: tuple[str, ...], width: int, hidden: int) -> Iterator[Entry]:
    """Yields the tensors of a `poseformer_v2.MixedBlock`."""
    yield from norm(f"{name}.norm1", (*path, "norm_attention"), width)
    yield from linear(f"{name}.attn.qkv", (*path, "attention", "qkv"), width, 3 * width)
    yield from linear(f"{name}.attn.proj", (*path, "attention", "out"), width, width)
    for ours, norm_name, mlp in (("plain", "norm2", "mlp1"), ("frequency", "norm3", "mlp2")):
        yield from norm(f"{name}.{norm_name}", (*path, f"norm_{ours}"), width)
        yield from linear(f"{name}.{mlp}.fc1", (*path, f"mlp_{ours}", "hidden"), width, hidden)
        yield from linear(f"{name}.{mlp}.fc2", (*path, f"mlp_{ours}", "out"), hidden, width)
