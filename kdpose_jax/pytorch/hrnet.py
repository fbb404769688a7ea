"""Converts the released HRNet's tensors to our parameters and running statistics.

Source: SimCC's and CDKD's code; docs/methods/pose2d.md#hrnet.

The trees are laid out for `pose_net.PoseNet`. Their entry `backbone` is laid out for `hrnet.HRNet`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kdpose_jax.codecs.keypoints_2d import count_bins
from kdpose_jax.errors import UserError
from kdpose_jax.models.hrnet import BOTTLENECK_EXPANSION, BOTTLENECKS, STRIDE
from kdpose_jax.pytorch.renaming import (
    CONVOLUTION_AXES,
    Entry,
    axes_of,
    batch_norm,
    linear,
    rename,
    without_counters,
)

_NETWORK = "an HRNet pose network"
_BACKBONE = "an HRNet backbone"
# These tensors follow the backbone in networks that classify pictures. Such networks also compute
# all outputs of the last module.
_CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")


def convert_hrnet_state(
    state: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Renames and transposes a pose network's tensors; dtypes stay as they are.

    Args:
      state: PyTorch name -> array, without prefix (`PoseHighResolutionNet.state_dict()`).

    Returns:
      (params, batch_stats, sizes): trees in the layout of `pose_net.PoseNet`, and its `width`,
      `stem_width`, `blocks`, `modules`, `joints`, `head`, `split_ratio` and `size` (width, height).
      A heatmap network's weights do not show the last two, which are None then.

    Raises:
      UserError: a tensor is missing, left over, of a wrong shape, not real numbers or not finite.
    """
    sizes = _backbone_sizes(state, _NETWORK)
    joints = axes_of(state, "final_layer.weight", 4, _NETWORK)[0]
    sizes |= {"joints": joints, "head": "heatmap", "split_ratio": None, "size": None}
    entries = list(_backbone_entries(sizes))
    if any(name.startswith("mlp_head_") for name in state):
        columns, cells = axes_of(state, "mlp_head_x.weight", 2, _NETWORK)
        rows, _ = axes_of(state, "mlp_head_y.weight", 2, _NETWORK)
        size, split_ratio = _input_size(columns, rows, cells)
        sizes |= {"head": "simdr", "split_ratio": split_ratio, "size": size}
        entries += linear("mlp_head_x", ("params", "head", "x"), cells, columns)
        entries += linear("mlp_head_y", ("params", "head", "y"), cells, rows)
    entries.append(
        Entry(
            "final_layer.weight",
            (joints, sizes["width"], 1, 1),
            ("params", "final_layer", "kernel"),
            CONVOLUTION_AXES,
        )
    )
    entries.append(Entry("final_layer.bias", (joints,), ("params", "final_layer", "bias")))
    tree = rename(without_counters(state, entries), entries, _NETWORK)
    return tree["params"], tree["batch_stats"], sizes


def convert_imagenet_state(
    state: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Converts the backbone of a network that classifies pictures or locates joints.

    The head is left out.

    Args:
      state: PyTorch name -> array, without prefix.

    Returns:
      (params, batch_stats, sizes): trees in the layout of `hrnet.HRNet`, and its `width`,
      `stem_width`, `blocks` and `modules`.

    Raises:
      UserError: a tensor is missing, left over, of a wrong shape, not real numbers or not finite.
    """
    sizes = _backbone_sizes(state, _BACKBONE)
    last = f"stage4.{sizes['modules'][-1] - 1}.fuse_layers."
    unused = (*_CLASSIFIER, *(f"{last}{output}." for output in (1, 2, 3)))
    kept = {name: array for name, array in state.items() if not name.startswith(unused)}
    entries = list(_backbone_entries(sizes))
    tree = rename(without_counters(kept, entries), entries, _BACKBONE)
    return tree["params"]["backbone"], tree["batch_stats"]["backbone"], sizes


def _backbone_sizes(state: Mapping[str, np.ndarray], network: str) -> dict[str, Any]:
    """Reads the sizes off the tensors that show them.

    Raises:
      UserError: a tensor is missing or has another number of axes.
    """
    stem_width = axes_of(state, "conv1.weight", 4, network)[0]
    width = axes_of(state, "transition1.0.0.weight", 4, network)[0]
    for stage in (2, 3, 4):
        axes_of(state, f"stage{stage}.0.branches.0.0.conv1.weight", 4, network)
    modules = tuple(_count(state, f"stage{stage}.") for stage in (2, 3, 4))
    return {
        "width": width,
        "stem_width": stem_width,
        "blocks": _count(state, "stage2.0.branches.0."),
        "modules": modules,
    }


def _count(state: Mapping[str, np.ndarray], prefix: str) -> int:
    """Counts the numbers that follow a prefix."""
    return len(
        {name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)}
    )


def _input_size(columns: int, rows: int, cells: int) -> tuple[tuple[int, int], float]:
    """Computes the input size and the bins per pixel k of a SimDR head.

    The head has W k and H k bins, and maps of W/4 x H/4 cells.

    Raises:
      UserError: no input size gives these numbers.
    """
    area = 16 * cells
    for width in range(STRIDE, area // STRIDE + 1, STRIDE):
        height = area // width
        ratio = max(columns / width, rows / height)
        if (
            width * height == area
            and height % STRIDE == 0
            and count_bins((width, height), ratio) == (columns, rows)
        ):
            return (width, height), ratio
    raise UserError(
        f"its SimDR head has {columns} and {rows} bins for maps of {cells} cells, which no input "
        f"with sides that are multiples of {STRIDE} has; name the checkpoint of {_NETWORK}."
    )


def _backbone_entries(sizes: Mapping[str, Any]) -> Iterator[Entry]:
    """Yields every tensor of a backbone with these sizes."""
    stem, width = sizes["stem_width"], sizes["width"]
    yield from _conv_norm("conv1", "bn1", ("stem_0",), 3, stem, 3)
    yield from _conv_norm("conv2", "bn2", ("stem_1",), stem, stem, 3)
    wide = BOTTLENECK_EXPANSION * stem
    for block in range(BOTTLENECKS):
        name, ours, inputs = f"layer1.{block}", f"layer1_{block}", wide if block else stem
        yield from _conv_norm(f"{name}.conv1", f"{name}.bn1", (ours, "first"), inputs, stem, 1)
        yield from _conv_norm(f"{name}.conv2", f"{name}.bn2", (ours, "second"), stem, stem, 3)
        yield from _conv_norm(f"{name}.conv3", f"{name}.bn3", (ours, "third"), stem, wide, 1)
        if inputs != wide:
            yield from _conv_norm(
                f"{name}.downsample.0", f"{name}.downsample.1", (ours, "shortcut"), inputs, wide, 1
            )
    yield from _conv_norm("transition1.0.0", "transition1.0.1", ("transition1_0",), wide, width, 3)
    for stage, modules in enumerate(sizes["modules"], start=2):
        name = f"transition{stage - 1}.{stage - 1}.0"
        inputs = wide if stage == 2 else width * 2 ** (stage - 2)
        path = (f"transition{stage - 1}_{stage - 1}",)
        yield from _conv_norm(f"{name}.0", f"{name}.1", path, inputs, width * 2 ** (stage - 1), 3)
        for module in range(modules):
            outputs = 1 if stage == 4 and module == modules - 1 else stage
            yield from _module_entries(
                f"stage{stage}.{module}", f"stage{stage}_{module}", sizes, stage, outputs
            )


def _module_entries(
    name: str, ours: str, sizes: Mapping[str, Any], branches: int, outputs: int
) -> Iterator[Entry]:
    """Yields every tensor of one module.

    These are the blocks of its branches, and the layers from branch j to output i.
    """
    widths = [sizes["width"] * 2**branch for branch in range(branches)]
    for branch, width in enumerate(widths):
        for block in range(sizes["blocks"]):
            theirs = f"{name}.branches.{branch}.{block}"
            path = (ours, f"branch_{branch}_block_{block}")
            yield from _conv_norm(
                f"{theirs}.conv1", f"{theirs}.bn1", (*path, "first"), width, width, 3
            )
            yield from _conv_norm(
                f"{theirs}.conv2", f"{theirs}.bn2", (*path, "second"), width, width, 3
            )
    for target in range(outputs):
        for source in range(branches):
            theirs = f"{name}.fuse_layers.{target}.{source}"
            fuse = f"fuse_{target}_{source}"
            if source > target:
                yield from _conv_norm(
                    f"{theirs}.0", f"{theirs}.1", (ours, fuse), widths[source], widths[target], 1
                )
            for step in range(target - source):
                width = widths[target] if step == target - source - 1 else widths[source]
                steps = f"{theirs}.{step}"
                yield from _conv_norm(
                    f"{steps}.0", f"{steps}.1", (ours, f"{fuse}_{step}"), widths[source], width, 3
                )


def _conv_norm(
    conv: str, norm: str, path: tuple[str, ...], inputs: int, outputs: int, kernel: int
) -> Iterator[Entry]:
    """Yields the tensors of a convolution without bias, and of its batch norm with statistics."""
    path = ("backbone", *path)
    yield Entry(
        f"{conv}.weight",
        (outputs, inputs, kernel, kernel),
        ("params", *path, "conv", "kernel"),
        CONVOLUTION_AXES,
    )
    yield from batch_norm(norm, (*path, "norm"), outputs)
