"""Converts published PyTorch weights to our trees.

It reads the file, finds the state in it, and renames the tensors.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypedDict

import numpy as np
from etils import epath

from kdpose_jax.errors import UserError
from kdpose_jax.pytorch import weight_file
from kdpose_jax.pytorch.hrnet import convert_hrnet_state, convert_imagenet_state
from kdpose_jax.pytorch.mixste import convert_hourglass_mixste_state, convert_mixste_state
from kdpose_jax.pytorch.poseformer_v2 import convert_poseformer_v2_state
from kdpose_jax.pytorch.state import convert_state
from kdpose_jax.pytorch.videopose3d import convert_videopose3d_state


class _Published(NamedTuple):
    """Holds a network's map, a tensor that it has once, and its name in errors."""

    convert: Callable[[Mapping[str, np.ndarray]], Any]
    anchor: str
    called: str


# Lifting networks that have no running statistics -> their maps.
LIFTERS = {
    "mixste": _Published(convert_mixste_state, "Spatial_pos_embed", "a MixSTE network"),
    "mixste_hot": _Published(
        convert_hourglass_mixste_state, "Spatial_pos_embed", "a MixSTE network of HoT"
    ),
    "poseformer_v2": _Published(
        convert_poseformer_v2_state, "Spatial_pos_embed", "a PoseFormerV2 network"
    ),
}
_VIDEOPOSE3D = _Published(convert_videopose3d_state, "expand_conv.weight", "a VideoPose3D network")
_HRNET = _Published(convert_hrnet_state, "transition1.0.0.weight", "an HRNet pose network")
_IMAGENET = _Published(convert_imagenet_state, "transition1.0.0.weight", "an HRNet backbone")


# Config fields on which a network's function depends, but which its weights need not show, in
# words.
UNSHOWN = {
    "teacher.network.heads": "the number of its attention heads",
    "teacher.network.dense_pairs": "behind how many of its pairs of blocks it is pruned",
    "teacher.network.neighbours": "how many neighbours its pruning looks at",
    "teacher.network.causal": "whether it is causal",
    "data.frames": "how many frames it reads",
    "teacher.input.size": "how large its square pictures are (published networks of COCO read "
    "256x192 or 384x288, not squares)",
    "data.skeleton": "the order of its joints",
}

# Network -> the presets' option that names pretrained weights, if there is one.
PRESET_OPTIONS = {"hrnet": "imagenet"}


class ImportedNetwork(TypedDict):
    """Holds a network from a file.

    Attributes:
      params: float32 numpy tree in the layout of our network.
      state: {} or {"batch_stats": tree}.
      sizes: the network's sizes, as far as its weights show them.
      notes: sentences that say what was left out of the file or converted.
    """

    params: dict[str, Any]
    state: dict[str, Any]
    sizes: dict[str, Any]
    notes: tuple[str, ...]


def import_network(name: str, path: epath.PathLike) -> ImportedNetwork:
    """Reads a file of PyTorch weights for one of our networks.

    Args:
      name: the architecture, as in a config's `network.name`.
      path: a file of `torch.save` or safetensors; the network's state may stand at any depth, its
        names under any prefix.

    Returns:
      The network.

    Raises:
      UserError: the file is of another kind, or holds another network. The message names the first
        tensors that are missing, left over or of a wrong shape.
    """
    if name in LIFTERS:
        (params, sizes), notes = _convert(path, LIFTERS[name])
        return ImportedNetwork(params=_as_float32(params), state={}, sizes=sizes, notes=notes)
    if name == "videopose3d":
        (params, batch_stats, sizes), notes = _convert(path, _VIDEOPOSE3D)
    elif name == "hrnet":
        (params, batch_stats, sizes), notes = _convert(path, _HRNET)
        sizes = _square(sizes, path)
    else:
        known = ", ".join(sorted([*LIFTERS, "videopose3d", "hrnet"]))
        raise UserError(f"No PyTorch weights can be read for network '{name}': use one of {known}.")
    state = {"batch_stats": _as_float32(batch_stats)}
    return ImportedNetwork(params=_as_float32(params), state=state, sizes=sizes, notes=notes)


def _square(sizes: Mapping[str, Any], path: epath.PathLike) -> dict[str, Any]:
    """Returns the sizes that the weights show, with the picture's side as one number.

    Raises:
      UserError: the pictures are not square.
    """
    shown = {key: value for key, value in sizes.items() if value is not None}
    if "size" in shown:
        width, height = shown["size"]
        if width != height:
            raise UserError(
                f"The PyTorch file {path} reads pictures of {width}x{height} pixels: give a "
                f"network of square ones."
            )
        shown["size"] = width
    return shown


def import_pretrained(name: str, path: epath.PathLike) -> dict[str, Any]:
    """Reads the part of a network that is published pretrained.

    It is HRNet's ImageNet backbone, or a whole lifting network.

    Args:
      name: see `import_network`.
      path: see `import_network`.

    Returns:
      {"params", "state"}: parts of the network's trees.

    Raises:
      UserError: see `import_network`.
    """
    if name == "hrnet":
        params, batch_stats = import_imagenet_hrnet(path)
        return {"params": {"backbone": params}, "state": {"batch_stats": {"backbone": batch_stats}}}
    whole = import_network(name, path)
    return {"params": whole["params"], "state": whole["state"]}


def import_hrnet(path: epath.PathLike) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Reads a pose network, SimDR or heatmap, that HRNet's, SimCC's or CDKD's code wrote.

    Returns:
      (params, batch_stats, sizes): see `convert_hrnet_state`; in float32.

    Raises:
      UserError: see `import_network`.
    """
    (params, batch_stats, sizes), _ = _convert(path, _HRNET)
    return _as_float32(params), _as_float32(batch_stats), sizes


def import_imagenet_hrnet(path: epath.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the backbone of an HRNet trained on ImageNet, without its classifier.

    Returns:
      (params, batch_stats): the entries `backbone` in a `pose_net.PoseNet`'s trees, float32.

    Raises:
      UserError: see `import_network`.
    """
    (params, batch_stats, _), _ = _convert(path, _IMAGENET)
    return _as_float32(params), _as_float32(batch_stats)


def _convert(path: epath.PathLike, published: _Published) -> tuple[Any, tuple[str, ...]]:
    """Reads a file, finds the network in it and converts its state.

    Raises:
      UserError: see `import_network`; the message names the file.
    """
    held = weight_file.read_torch_file(path)
    try:
        return convert_state(
            held, published.convert, anchor=published.anchor, network=published.called
        )
    except UserError as error:
        raise UserError(f"The PyTorch file {path} cannot be used: {error}") from error


def _as_float32(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _as_float32(value) for name, value in tree.items()}
    return np.asarray(tree, np.float32)
