"""Maps of PyTorch's tensor names onto our trees.

Every tensor of a map is used exactly once, or the file is refused.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple

import numpy as np

from kdpose_jax.errors import UserError

# The count of batches that a norm has seen. Nothing reads it while the momentum is a number.
_COUNTER = ".num_batches_tracked"

LINEAR_AXES = (1, 0)  # [out, in] -> [in, out]
CONVOLUTION_AXES = (2, 3, 1, 0)  # [out, in, rows, columns] -> [rows, columns, in, out]


class Entry(NamedTuple):
    """Describes a tensor: its PyTorch name and shape, our path, and our order of its axes.

    Without axes the order stays as it is. An axis that is left out has size 1 and is dropped.
    """

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]
    axes: tuple[int, ...] = ()


def linear(name: str, path: tuple[str, ...], inputs: int, outputs: int) -> Iterator[Entry]:
    """Yields the tensors of a linear layer with bias."""
    yield Entry(f"{name}.weight", (outputs, inputs), (*path, "kernel"), LINEAR_AXES)
    yield Entry(f"{name}.bias", (outputs,), (*path, "bias"))


def pointwise(name: str, path: tuple[str, ...], inputs: int, outputs: int) -> Iterator[Entry]:
    """Yields the tensors of a 1D convolution with kernel 1, which is a linear layer."""
    yield Entry(f"{name}.weight", (outputs, inputs, 1), (*path, "kernel"), LINEAR_AXES)
    yield Entry(f"{name}.bias", (outputs,), (*path, "bias"))


def norm(name: str, path: tuple[str, ...], width: int) -> Iterator[Entry]:
    """Yields the trained tensors of a layer norm or a batch norm."""
    yield Entry(f"{name}.weight", (width,), (*path, "scale"))
    yield Entry(f"{name}.bias", (width,), (*path, "bias"))


def batch_norm(name: str, path: tuple[str, ...], width: int) -> Iterator[Entry]:
    """Yields all tensors of a batch norm.

    Trained tensors are under `params`, and running statistics under `batch_stats`.
    """
    yield from norm(name, ("params", *path), width)
    yield Entry(f"{name}.running_mean", (width,), ("batch_stats", *path, "mean"))
    yield Entry(f"{name}.running_var", (width,), ("batch_stats", *path, "var"))


def without_counters(
    state: Mapping[str, np.ndarray], entries: list[Entry]
) -> dict[str, np.ndarray]:
    """Leaves out the counters of norms that the map knows.

    An unknown norm keeps its counter, which is then left over like its other tensors.
    """
    counters = {
        entry.name.removesuffix(".running_mean") + _COUNTER
        for entry in entries
        if entry.name.endswith(".running_mean")
    }
    return {name: array for name, array in state.items() if name not in counters}


def transformer_block(name: str, path: tuple[str, ...], width: int, hidden: int) -> Iterator[Entry]:
    """Yields the tensors of an `attention.TransformerBlock`, as timm names them."""
    yield from norm(f"{name}.norm1", (*path, "norm_attention"), width)
    yield from linear(f"{name}.attn.qkv", (*path, "attention", "qkv"), width, 3 * width)
    yield from linear(f"{name}.attn.proj", (*path, "attention", "out"), width, width)
    yield from norm(f"{name}.norm2", (*path, "norm_mlp"), width)
    yield from linear(f"{name}.mlp.fc1", (*path, "mlp_hidden"), width, hidden)
    yield from linear(f"{name}.mlp.fc2", (*path, "mlp_out"), hidden, width)


def axes_of(state: Mapping[str, np.ndarray], name: str, axes: int, network: str) -> tuple[int, ...]:
    """Returns the shape of a tensor that shows a network's sizes.

    Args:
      state: PyTorch name -> array.
      name: names the tensor.
      axes: the number of axes that it must have.
      network: names its network ("a MixSTE network") in errors.

    Raises:
      UserError: the tensor is missing, has another number of axes, or has no values.
    """
    if name not in state:
        raise UserError(f"it has no tensor '{name}'; name the checkpoint of {network}.")
    shape = state[name].shape
    if len(shape) != axes:
        raise UserError(
            f"its tensor '{name}' has shape {list(shape)} where {axes} axes are expected; name "
            f"the checkpoint of {network}."
        )
    if 0 in shape:
        raise UserError(f"its tensor '{name}' has no values; name the checkpoint of {network}.")
    return shape


def rename(
    state: Mapping[str, np.ndarray], entries: Iterable[Entry], network: str
) -> dict[str, Any]:
    """Puts each tensor where its entry says, in our order of axes; dtypes stay as they are.

    Args:
      state: PyTorch name -> array.
      entries: describe the network's tensors.
      network: names the network ("a MixSTE network") in errors.

    Returns:
      The tree.

    Raises:
      UserError: a tensor is missing, left over, of a wrong shape, not real numbers or not finite.
    """
    expected = {entry.name: entry for entry in entries}
    _require_same_names(state.keys(), expected.keys(), network)
    tree: dict[str, Any] = {}
    for entry in expected.values():
        array = state[entry.name]
        if array.shape != entry.shape:
            raise UserError(
                f"its tensor '{entry.name}' has shape {list(array.shape)} where {network} of these "
                f"sizes has {list(entry.shape)}; name the checkpoint of {network}."
            )
        if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
            raise UserError(
                f"its tensor '{entry.name}' holds {array.dtype.name} where weights are "
                f"floating-point numbers."
            )
        if not np.isfinite(array).all():
            raise UserError(
                f"its tensor '{entry.name}' holds values that are not finite; use another "
                f"checkpoint."
            )
        node = tree
        for key in entry.path[:-1]:
            node = node.setdefault(key, {})
        assert entry.path[-1] not in node, f"two tensors for {entry.path}"
        node[entry.path[-1]] = _reordered(array, entry.axes) if entry.axes else array
    return tree


def _reordered(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    dropped = [axis for axis in range(array.ndim) if axis not in axes]
    return array.transpose(*axes, *dropped).reshape([array.shape[axis] for axis in axes])


def _require_same_names(found: Set[str], expected: Set[str], network: str) -> None:
    """Refuses tensors that are missing or left over.

    Raises:
      UserError: a tensor is missing or left over; the message names the first ones.
    """
    for names, problem in (
        (sorted(expected - found), "lacks"),
        (sorted(found - expected), f"has, beyond {network},"),
    ):
        if names:
            more = "" if len(names) <= 3 else f" and {len(names) - 3} more"
            raise UserError(
                f"it {problem} {names[:3]}{more}; name the checkpoint of {network}, unchanged."
            )
