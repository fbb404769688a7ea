"""The mesh and where arrays lie on it."""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from kdpose_jax.errors import UserError
from kdpose_jax.processes import wait_for_all

# Bytes; of less than that every device keeps a copy, which costs less than to collect its parts.
SMALLEST_SHARED = 2**20


def make_mesh() -> Mesh:
    """All devices of all processes on one axis, `data`, process after process.

    `jax.make_mesh` would order them by their place in the machine, where the devices of two hosts
    may take turns; in this order a host's share of a batch are consecutive examples. The axis is
    Auto: Linen modules with reshapes and transposes fail under jax's default, Explicit.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device: parameters, states, metrics."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The first axis cut over the devices: batches."""
    return NamedSharding(mesh, PartitionSpec("data"))


def layout(tree: Any, mesh: Mesh, *, fsdp: bool, shared_axes: Sequence[tuple[str, int]]) -> Any:
    """Where every array of a training state lies.

    Args:
      tree: arrays or their descriptions: a state, or a part of one.
      mesh: the devices.
      fsdp: the devices share large arrays instead of each keeping a copy.
      shared_axes: (path pattern, axis) of arrays that are to be cut along that axis; the first
        match counts. Moments of the optimiser and averages have the path of their parameter at
        their own path's end. Other arrays, and those that the devices cannot share equally along
        their axis, are cut along the largest axis that they can, the last of equals.

    Returns:
      The tree with a sharding in the place of every array.
    """

    def place(path: Any, leaf: Any) -> NamedSharding:
        axis = (
            shared_axis(
                jax.tree_util.keystr(path, simple=True, separator="/"), leaf, mesh.size, shared_axes
            )
            if fsdp
            else None
        )
        return (
            replicated(mesh)
            if axis is None
            else NamedSharding(mesh, PartitionSpec(*(None,) * axis, "data"))
        )

    return jax.tree.map_with_path(place, tree)


def shared_axis(
    path: str, leaf: Any, devices: int, shared_axes: Sequence[tuple[str, int]]
) -> int | None:
    """The axis along which so many devices share one array (see `layout`), None where each keeps a
    copy.
    """
    if (
        jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        or math.prod(leaf.shape) * leaf.dtype.itemsize < SMALLEST_SHARED
    ):
        return None
    named = next(
        (axis % len(leaf.shape) for pattern, axis in shared_axes if re.search(pattern, path)), None
    )
    possible = [axis for axis, length in enumerate(leaf.shape) if length % devices == 0]
    if named in possible or not possible:
        return named if possible else None
    return max(possible, key=lambda axis: (leaf.shape[axis], axis))


def evaluation_batch(per_device: int, mesh: Mesh) -> int:
    """The batch of all devices together: the same share for each, so that every device runs the
    same program and scores
    do not depend on how many there are.
    """
    return per_device * mesh.size


def check_batch(name: str, batch: int, accumulate: int, mesh: Mesh) -> None:
    """Refuses a global batch that the devices cannot share equally, in so many parts."""
    if accumulate < 1:
        raise UserError(f"{name.replace('batch', 'accumulate')} is {accumulate}: use at least 1.")
    smallest = mesh.size * accumulate
    if batch < 1 or batch % smallest:
        parts = f" in {accumulate} parts" if accumulate > 1 else ""
        raise UserError(
            f"{name} is {batch}, and {mesh.size} devices share it{parts}: use a multiple of "
            f"{smallest}."
        )


def meet(mesh: Mesh) -> None:
    """A first sum over all devices while every process is there: gloo, which joins CPU processes,
    then has its connections, for which
    it would not wait longer than 30 s for a process that compiles more slowly.
    """
    if jax.process_count() > 1:
        wait_for_all("first sum")
        ones = jax.make_array_from_process_local_data(
            over_batch(mesh), np.ones(jax.local_device_count(), np.float32)
        )
        jax.block_until_ready(
            jax.jit(lambda values: values.sum(), out_shardings=replicated(mesh))(ones)
        )
