"""What a run will hold in each device's memory, from shapes alone.

Nothing is allocated and nothing compiled.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdpose_jax.contracts import Batch, Method
from kdpose_jax.errors import UserError
from kdpose_jax.train import sharding

RESERVE = 0.92  # share of a device's memory that a run may plan with
ROOT = pathlib.Path("/")


@dataclasses.dataclass(frozen=True)
class Bytes:
    """Bytes on one device.

    Attributes:
      parameters: trained ones and their moving average, batch statistics.
      gradients: as large as the trained parameters.
      optimizer: the optimiser's state.
      teachers: frozen networks.
      activations: what the forward pass keeps for the backward pass, and the batch.
    """

    parameters: int
    gradients: int
    optimizer: int
    teachers: int
    activations: int

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {size_text(value)}" for name, value in dataclasses.asdict(self).items()
        )
        return f"{size_text(self.total)} per device: {parts}"


def estimate(
    method: Method,
    optimizer: optax.GradientTransformation,
    example: Batch,
    *,
    batch: int,
    accumulate: int,
    devices: int,
    with_ema: bool,
    fsdp: bool,
) -> Bytes:
    """The bytes that training holds at the end of a step's forward pass.

    Transient buffers of the compiler are not in it, nor is what it saves by fusing; the truth lies
    within tens of per cent.

    Args:
      method: what is trained.
      optimizer: its optimiser.
      example: a batch of any size, for shapes.
      batch: global batch size.
      accumulate: parts that it is computed in.
      devices: that share it.
      with_ema: an average of the parameters is kept.
      fsdp: the devices share large arrays of the state (`sharding.layout`).
    """
    share = math.ceil(batch / (devices * accumulate))
    arrays: Mapping[str, Any] = example
    shapes = {
        name: jax.ShapeDtypeStruct((share, *array.shape[1:]), array.dtype)
        for name, array in arrays.items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, model_state, frozen = jax.eval_shape(method.init, key, shapes)
    opt_state = jax.eval_shape(optimizer.init, params)

    def residuals(params: Any, model_state: Any, frozen: Any, shapes: Batch, key: jax.Array) -> Any:
        step = jnp.zeros((), jnp.int32)

        def loss(params: Any) -> Any:
            teachers = jax.lax.stop_gradient(frozen)
            return method.loss(params, model_state, teachers, shapes, key, step)

        return jax.vjp(loss, params, has_aux=True)[1]

    def on_one(tree: Any) -> int:
        return size_of(parts_of(tree, devices, method.shared_axes)) if fsdp else size_of(tree)

    kept = size_of(jax.eval_shape(residuals, params, model_state, frozen, shapes, key))
    trained = on_one(params)
    return Bytes(
        parameters=trained * (2 if with_ema else 1) + on_one(model_state),
        gradients=trained * (2 if accumulate > 1 else 1),  # the sum so far beside those of the part
        optimizer=on_one(opt_state),
        teachers=size_of(frozen),
        # The backward pass reads the parameters too.
        activations=max(0, kept - size_of(params)) + size_of(shapes) * accumulate,
    )


def parts_of(tree: Any, devices: int, shared_axes: Sequence[tuple[str, int]]) -> Any:
    """Descriptions of what one of several devices holds of every array that they share."""

    def part(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
        axis = sharding.shared_axis(
            jax.tree_util.keystr(path, simple=True, separator="/"), leaf, devices, shared_axes
        )
        shape = [
            length // devices if place == axis else length
            for place, length in enumerate(leaf.shape)
        ]
        return jax.ShapeDtypeStruct(tuple(shape), leaf.dtype)

    return jax.tree.map_with_path(part, tree)


def require_room(name: str, needed: Bytes, device: jax.Device) -> None:
    """Refuses a run that cannot fit.

    Raises:
      UserError: it needs more than the device has.
    """
    available = memory_of(device)
    if available is not None and needed.total > RESERVE * available:
        raise UserError(
            f"The {name} needs about {needed}; the {device.device_kind} has "
            f"{size_text(available)}: use more devices, a smaller "
            "train.batch, train.accumulate, train.fsdp, network.remat, or smaller adapters (see "
            "the config)."
        )


def memory_of(device: jax.Device) -> int | None:
    """Bytes of a device's memory.

    Of the machine's, shared out, where the devices are CPUs; None where it is not told.
    """
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    if device.platform == "cpu":
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return min([physical, *control_group_limits(ROOT)]) // jax.local_device_count()
    return None


def control_group_limits(root: pathlib.Path) -> list[int]:
    """The memory limits that Linux has set on this process, as containers and batch systems do:
    more of it is killed, not refused.

    Args:
      root: of the file system.

    Returns:
      Bytes, of every control group that the process is in and of those above it (version 2:
      memory.max; 1: memory.limit_in_bytes).
    """
    limits = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount, file = (
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            if controllers
            else ("sys/fs/cgroup", "memory.max")
        )
        # Inside a container the path may be the host's, which does not exist there, and the group
        # itself be mounted at the top.
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            try:
                text = (root / mount).joinpath(*parts[:depth], file).read_text().strip()
            except OSError:
                continue
            limits += [int(text)] if text.isdigit() else []  # "max": none
    return limits


def size_of(tree: Any) -> int:
    """Bytes of all arrays (or their descriptions) in a tree; keys count nothing."""
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
        if hasattr(leaf, "shape") and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    )


def size_text(count: float) -> str:
    """Bytes in the largest unit that leaves a whole digit: 3 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
