"""Makes the mesh, and decides where arrays lie on it."""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from kdpose_jax.errors import UserError
from kdpose_jax.processes import wait_for_all

# Bytes. Every device keeps a copy of smaller arrays, which costs less than collecting their parts.
SMALLEST_SHARED = 2**20


def make_mesh() -> Mesh:
    """Makes a mesh of all devices on one axis, `data`, process after process.

    In this order a host's share of a batch is consecutive examples. `jax.make_mesh` would order
    devices by their place in the machine, where those of two hosts may take turns. The axis is
    Auto: Linen modules with reshapes and transposes fail under jax's default, Explicit.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that every device copies: parameters, states, metrics."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of batches, whose first axis is cut over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def layout(tree: Any, mesh: Mesh, *, fsdp: bool, shared_axes: Sequence[tuple[str, int]]) -> Any:
    """Decides where every array of a training state lies.

    Args:
      tree: arrays or their descriptions: a state, or a part of one.
      mesh: the devices.
      fsdp: whether the devices share large arrays instead of each keeping a copy.
      shared_axes: (path pattern, axis) of arrays to cut along that axis. The first match counts.
        The paths of averages and of the optimiser's moments end in the path of their parameter.
        Other arrays are cut along the largest axis that the devices can share equally, the last
        of equals. So are arrays whose given axis cannot be shared equally.

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
    """Returns the axis along which devices share an array, None if each keeps a copy.

    `layout` says which axis that is.
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
    """Returns the evaluation batch of all devices together.

    Every device has the same share and runs the same program. Scores therefore do not depend on the
    number of devices.
    """
    return per_device * mesh.size


def check_batch(name: str, batch: int, accumulate: int, mesh: Mesh) -> None:
    """Refuses a global batch that cannot be cut into equal parts for all devices."""
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
    """Computes a first sum over all devices while every process is there.

    Gloo, which connects CPU processes, makes its connections in the first sum. It would wait only
    30 s for a process that compiles more slowly.
    """
    if jax.process_count() > 1:
        wait_for_all("first sum")
        ones = jax.make_array_from_process_local_data(
            over_batch(mesh), np.ones(jax.local_device_count(), np.float32)
        )
        jax.block_until_ready(
            jax.jit(lambda values: values.sum(), out_shardings=replicated(mesh))(ones)
        )
