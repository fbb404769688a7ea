"""Published PyTorch weights -> our trees: reads the file, finds the state in it, and renames its tensors."""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import numpy as np
from etils import epath

from kdpose_jax.errors import UserError
from kdpose_jax.models import torch_file
from kdpose_jax.models.torch_hrnet import convert_hrnet_state, convert_imagenet_state
from kdpose_jax.models.torch_mixste import convert_hourglass_mixste_state, convert_mixste_state
from kdpose_jax.models.torch_names import find_state
from kdpose_jax.models.torch_poseformer_v2 import convert_poseformer_v2_state
from kdpose_jax.models.torch_videopose3d import convert_videopose3d_state

# Lifting networks without running statistics -> their maps.
LIFTERS = {
    "mixste": convert_mixste_state,
    "mixste_hot": convert_hourglass_mixste_state,
    "poseformer_v2": convert_poseformer_v2_state,
}


class ImportedNetwork(TypedDict):
    """A network from a file.

    Attributes:
      params: float32 numpy tree in the layout of our network.
      state: {} or {"batch_stats": tree}.
      sizes: what the weights show of the network's sizes; one that they do not show is absent.
    """

    params: dict[str, Any]
    state: dict[str, Any]
    sizes: dict[str, Any]


def import_network(name: str, path: epath.PathLike) -> ImportedNetwork:
    """Reads a checkpoint of PyTorch for one of our networks.

    Args:
      name: of the architecture, as in `network.name` of a config.
      path: a file of `torch.save` with the network's state under `model_pos`, `model`, `state_dict` or at the top, its names with or
        without the data-parallel prefix.

    Returns:
      The network.

    Raises:
      UserError: not such a file, or not such a network; names the first tensors that are missing, left over or of a wrong shape.
    """
    if name in LIFTERS:
        params, sizes = _convert(path, LIFTERS[name])
        return ImportedNetwork(params=_as_float32(params), state={}, sizes=sizes)
    if name == "videopose3d":
        params, batch_stats, sizes = _convert(path, convert_videopose3d_state)
        return ImportedNetwork(params=_as_float32(params), state={"batch_stats": _as_float32(batch_stats)}, sizes=sizes)
    if name == "hrnet":
        params, batch_stats, sizes = import_hrnet(path)
        if sizes["size"] is not None:
            width, height = sizes["size"]
            if width != height:
                raise UserError(f"The PyTorch file {path} reads pictures of {width}x{height} pixels: give a network of square ones.")
            sizes = {**sizes, "size": width}
        return ImportedNetwork(
            params=params,
            state={"batch_stats": batch_stats},
            sizes={key: value for key, value in sizes.items() if value is not None},
        )
    known = ", ".join(sorted([*LIFTERS, "videopose3d", "hrnet"]))
    raise UserError(f"No PyTorch weights can be read for network '{name}': use one of {known}.")


def import_pretrained(name: str, path: epath.PathLike) -> dict[str, Any]:
    """Reads the part of a network that is published pretrained: HRNet's ImageNet backbone, or the whole of a lifting network.

    Args:
      name: as of `import_network`.
      path: as of `import_network`.

    Returns:
      {"params", "state"}: parts of the trees that the network has.

    Raises:
      UserError: as of `import_network`.
    """
    if name == "hrnet":
        params, batch_stats = import_imagenet_hrnet(path)
        return {"params": {"backbone": params}, "state": {"batch_stats": {"backbone": batch_stats}}}
    whole = import_network(name, path)
    return {"params": whole["params"], "state": whole["state"]}


def import_mixste(path: epath.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads MixSTE's checkpoint.

    Returns:
      (params, sizes): as of `torch_mixste.convert_mixste_state`, in float32.

    Raises:
      UserError: as of `import_network`.
    """
    params, sizes = _convert(path, convert_mixste_state)
    return _as_float32(params), sizes


def import_hrnet(path: epath.PathLike) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Reads a pose network of HRNet's, SimCC's or CDKD's code, SimDR or heatmap.

    Returns:
      (params, batch_stats, sizes): as of `torch_hrnet.convert_hrnet_state`, in float32.

    Raises:
      UserError: as of `import_network`.
    """
    params, batch_stats, sizes = _convert(path, convert_hrnet_state)
    return _as_float32(params), _as_float32(batch_stats), sizes


def import_imagenet_hrnet(path: epath.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the backbone of an HRNet that was trained on ImageNet; what classifies is left out.

    Returns:
      (params, batch_stats): float32, what a `pose_net.PoseNet` has under `backbone` in either tree.

    Raises:
      UserError: as of `import_network`.
    """
    params, batch_stats, _ = _convert(path, convert_imagenet_state)
    return _as_float32(params), _as_float32(batch_stats)


def _convert(path: epath.PathLike, convert: Callable[[Mapping[str, np.ndarray]], Any]) -> Any:
    """Reads a file and converts its state.

    Raises:
      UserError: names the file.
    """
    state = find_state(torch_file.read_torch_file(path), str(path))
    try:
        return convert(state)
    except UserError as error:
        raise UserError(f"The PyTorch file {path} cannot be used: {error}") from error


def _as_float32(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _as_float32(value) for name, value in tree.items()}
    return np.asarray(tree, np.float32)
