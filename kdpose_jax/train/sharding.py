"""The mesh and where arrays lie on it."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from kdpose_jax.errors import UserError


def make_mesh() -> Mesh:
    """All devices of all processes on one axis, `data`.

    The axis is Auto: Linen modules with reshapes and transposes fail under jax's default, Explicit.
    """
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device: parameters, states, metrics."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The first axis cut over the devices: batches."""
    return NamedSharding(mesh, PartitionSpec("data"))


def evaluation_batch(per_device: int, mesh: Mesh) -> int:
    """The batch of all devices together: the same share for each, so that every device runs the same program and scores
    do not depend on how many there are."""
    return per_device * mesh.size


def check_batch(name: str, batch: int, mesh: Mesh) -> None:
    """Refuses a global batch that the devices cannot share equally."""
    if batch < 1 or batch % mesh.size:
        raise UserError(f"{name} is {batch}, and {mesh.size} devices share it: use a multiple of {mesh.size}.")


def whole(array: jax.Array) -> np.ndarray:
    """A batch array of all processes, on each of them."""
    return np.asarray(multihost_utils.process_allgather(array, tiled=True) if jax.process_count() > 1 else array)


def all_here(what: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def first_process_says(value: bool) -> bool:
    """Process 0's answer, on every process: what only one of them can see must not send them different ways."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """Runs a block on process 0 before the others, which then find its files where the disk is shared.

    Should it fail there, the others run it too and fail by themselves: nobody waits for a process that has gone.
    """
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("first process is done")
    try:
        yield
    finally:
        if jax.process_index() == 0 and jax.process_count() > 1:
            multihost_utils.sync_global_devices("first process is done")
