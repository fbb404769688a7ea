"""Published PyTorch weights -> our parameter trees, one map of names per network; every tensor is used exactly once."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from kdpose_jax.errors import UserError
from kdpose_jax.models import torch_file

# Where training scripts keep the state of the network: MixSTE and VideoPose3D, other lifters, Lightning.
_STATE_KEYS = ("model_pos", "model", "state_dict")
_DATA_PARALLEL_PREFIX = "module."


class _Entry(NamedTuple):
    """One tensor: its PyTorch name and shape, our path, and whether it is a matrix to transpose (PyTorch keeps [out, in])."""

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]
    transpose: bool = False


def import_mixste(path: epath.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a MixSTE checkpoint of PyTorch.

    Args:
      path: a file of `torch.save` with the network's state under `model_pos`, `model`, `state_dict` or at the top, its names with or
        without the data-parallel prefix.

    Returns:
      (params, sizes): float32 numpy tree in the layout of `mixste.MixSTE`, and its `frames`, `joints`, `width`, `depth` and
      `mlp_ratio`. The number of heads leaves no trace in weights: the caller has to know it.

    Raises:
      UserError: not such a file, or not such a network; names the first tensors that are missing, left over or of a wrong shape.
    """
    state = _network_state(torch_file.read_torch_file(path), str(path))
    try:
        params, sizes = convert_mixste_state(state)
    except UserError as error:
        raise UserError(f"The PyTorch file {path} cannot be used: {error}") from error
    return _as_float32(params), sizes


def convert_mixste_state(state: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Renames and transposes the tensors of a MixSTE network; dtypes stay as they are.

    Args:
      state: PyTorch name -> array, without prefix (JinluZhang1126/MixSTE, `MixSTE2.state_dict()`).

    Returns:
      (params, sizes), as of `import_mixste`.

    Raises:
      UserError: a tensor is missing, left over, of a wrong shape, not real numbers or not finite.
    """
    sizes = _mixste_sizes(state)
    entries = {entry.name: entry for entry in _mixste_entries(sizes)}
    _require_same_names(state.keys(), entries.keys())
    params: dict[str, Any] = {}
    for entry in entries.values():
        array = state[entry.name]
        if array.shape != entry.shape:
            raise UserError(
                f"its tensor '{entry.name}' has shape {list(array.shape)} where a MixSTE network of these sizes has "
                f"{list(entry.shape)}; name the checkpoint of a MixSTE network."
            )
        if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
            raise UserError(f"its tensor '{entry.name}' holds {array.dtype.name} where weights are floating-point numbers.")
        if not np.isfinite(array).all():
            raise UserError(f"its tensor '{entry.name}' holds values that are not finite; use another checkpoint.")
        node = params
        for key in entry.path[:-1]:
            node = node.setdefault(key, {})
        node[entry.path[-1]] = array.T if entry.transpose else array
    return params, sizes


def _mixste_sizes(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Reads the sizes off the tensors that show them.

    Raises:
      UserError: one of these is missing or has another number of axes.
    """
    spatial = _axes_of(state, "Spatial_pos_embed", 3)  # [1, J, C]
    temporal = _axes_of(state, "Temporal_pos_embed", 3)  # [1, F, C]
    hidden = _axes_of(state, "STEblocks.0.mlp.fc1.weight", 2)  # [hidden, C]
    depth = len({name.split(".")[1] for name in state if name.startswith("STEblocks.")})
    width = spatial[2]
    if 0 in (*spatial, *temporal, *hidden):
        raise UserError("it has tensors without values; name the checkpoint of a MixSTE network.")
    return {"frames": temporal[1], "joints": spatial[1], "width": width, "depth": depth, "mlp_ratio": hidden[0] / width}


def _mixste_entries(sizes: Mapping[str, Any]) -> Iterator[_Entry]:
    """Every tensor of a MixSTE network of these sizes (spec: the layers of MixSTE2)."""
    width, hidden = sizes["width"], round(sizes["mlp_ratio"] * sizes["width"])
    yield from _linear("Spatial_patch_to_embedding", ("joint_embedding",), 2, width)
    yield _Entry("Spatial_pos_embed", (1, sizes["joints"], width), ("spatial_position",))
    yield _Entry("Temporal_pos_embed", (1, sizes["frames"], width), ("temporal_position",))
    for kind, ours in (("STEblocks", "spatial_block"), ("TTEblocks", "temporal_block")):
        for layer in range(sizes["depth"]):
            name, path = f"{kind}.{layer}", (f"{ours}_{layer}",)
            yield from _norm(f"{name}.norm1", (*path, "norm_attention"), width)
            yield from _linear(f"{name}.attn.qkv", (*path, "attention", "qkv"), width, 3 * width)
            yield from _linear(f"{name}.attn.proj", (*path, "attention", "out"), width, width)
            yield from _norm(f"{name}.norm2", (*path, "norm_mlp"), width)
            yield from _linear(f"{name}.mlp.fc1", (*path, "mlp_hidden"), width, hidden)
            yield from _linear(f"{name}.mlp.fc2", (*path, "mlp_out"), hidden, width)
    yield from _norm("Spatial_norm", ("spatial_norm",), width)
    yield from _norm("Temporal_norm", ("temporal_norm",), width)
    yield from _norm("head.0", ("head_norm",), width)
    yield from _linear("head.1", ("head",), width, 3)


def _linear(name: str, path: tuple[str, ...], inputs: int, outputs: int) -> Iterator[_Entry]:
    yield _Entry(f"{name}.weight", (outputs, inputs), (*path, "kernel"), transpose=True)
    yield _Entry(f"{name}.bias", (outputs,), (*path, "bias"))


def _norm(name: str, path: tuple[str, ...], width: int) -> Iterator[_Entry]:
    yield _Entry(f"{name}.weight", (width,), (*path, "scale"))
    yield _Entry(f"{name}.bias", (width,), (*path, "bias"))


def _axes_of(state: Mapping[str, np.ndarray], name: str, axes: int) -> tuple[int, ...]:
    if name not in state:
        raise UserError(f"it has no tensor '{name}'; name the checkpoint of a MixSTE network.")
    if state[name].ndim != axes:
        raise UserError(f"its tensor '{name}' has shape {list(state[name].shape)} where {axes} axes are expected.")
    return state[name].shape


def _require_same_names(found, expected) -> None:
    """Refuses tensors that are missing or left over.

    Raises:
      UserError: names the first of them.
    """
    for names, problem in ((sorted(expected - found), "lacks"), (sorted(found - expected), "has, beyond a MixSTE network,")):
        if names:
            more = "" if len(names) <= 3 else f" and {len(names) - 3} more"
            raise UserError(f"it {problem} {names[:3]}{more}; name the checkpoint of an unchanged MixSTE network.")


def _network_state(checkpoint: Any, place: str) -> dict[str, np.ndarray]:
    """The dictionary of tensors inside a checkpoint, its names without the data-parallel prefix.

    Raises:
      UserError: there is none, or it holds something that is no tensor.
    """
    state = checkpoint
    if isinstance(checkpoint, dict):
        state = next((checkpoint[key] for key in _STATE_KEYS if key in checkpoint), checkpoint)
    if not isinstance(state, dict) or not state or not all(isinstance(name, str) for name in state):
        raise UserError(
            f"The PyTorch file {place} has no network state (looked for {', '.join(_STATE_KEYS)} and at the top): save the "
            "network's state_dict()."
        )
    strangers = [name for name, value in state.items() if not isinstance(value, np.ndarray)]
    if strangers:
        raise UserError(f"The PyTorch file {place} has '{strangers[0]}' among its weights, which is no tensor: save a state_dict().")
    if all(name.startswith(_DATA_PARALLEL_PREFIX) for name in state):
        return {name.removeprefix(_DATA_PARALLEL_PREFIX): value for name, value in state.items()}
    return dict(state)


def _as_float32(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _as_float32(value) for name, value in tree.items()}
    return np.asarray(tree, np.float32)
