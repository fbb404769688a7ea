"""The mesh and where arrays lie on it."""

import jax
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


def check_batch(name: str, batch: int, mesh: Mesh) -> None:
    """Refuses a global batch that the devices cannot share equally."""
    if batch < 1 or batch % mesh.size:
        raise UserError(f"{name} is {batch}, and {mesh.size} devices share it: use a multiple of {mesh.size}.")
