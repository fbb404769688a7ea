"""Estimates what a run will hold in each device's memory, from shapes alone.

Nothing is allocated, and nothing is compiled.
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
from kdpose_jax.experiment import residuals
from kdpose_jax.train import sharding

RESERVE = 0.92  # largest share of a device's memory that a run may need
ROOT = pathlib.Path("/")


@dataclasses.dataclass(frozen=True)
class Bytes:
    """Bytes on one device.

    Attributes:
      parameters: trained parameters, their moving average and batch statistics.
      gradients: gradients, which are as large as the trained parameters.
      optimizer: the optimiser's state.
      teachers: the frozen networks.
      activations: arrays that the forward pass keeps for the backward pass, and the batch.
      working: the backward pass through the largest product: its result and the gradient of it.
    """

    parameters: int
    gradients: int
    optimizer: int
    teachers: int
    activations: int
    working: int

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
    platform: str,
) -> Bytes:
    """Estimates the bytes that training holds at the end of a step's forward pass.

    `residuals` says what a compiler keeps there. docs/running/compiled.md#memory says what is left
    out.

    Args:
      method: the method to train.
      optimizer: its optimiser.
      example: a batch of any size, for shapes.
      batch: global batch size.
      accumulate: number of parts in which a batch is computed.
      devices: number of devices that share a batch.
      with_ema: whether an average of the parameters is kept.
      fsdp: whether the devices share large arrays of the state (`sharding.layout`).
      platform: kind of the devices, `cpu`, `gpu` or `tpu`.
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

    def forward(params: Any, model_state: Any, frozen: Any, shapes: Batch, key: jax.Array) -> Any:
        step = jnp.zeros((), jnp.int32)

        def loss(params: Any) -> Any:
            teachers = jax.lax.stop_gradient(frozen)
            return method.loss(params, model_state, teachers, shapes, key, step)

        return jax.vjp(loss, params, has_aux=True)[1]

    def on_one(tree: Any) -> int:
        return size_of(parts_of(tree, devices, method.shared_axes)) if fsdp else size_of(tree)

    traced = jax.make_jaxpr(forward)(params, model_state, frozen, shapes, key)
    trained = on_one(params)
    return Bytes(
        parameters=trained * (2 if with_ema else 1) + on_one(model_state),
        gradients=trained * (2 if accumulate > 1 else 1),  # the sum so far, and the part's own
        optimizer=on_one(opt_state),
        teachers=size_of(frozen),
        activations=residuals.stored_bytes(traced, platform) + size_of(shapes) * accumulate,
        working=2 * residuals.largest_product(traced, platform),
    )


def parts_of(tree: Any, devices: int, shared_axes: Sequence[tuple[str, int]]) -> Any:
    """Describes one device's part of every array in a tree."""

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
      UserError: the run needs more memory than the device has.
    """
    available = memory_of(device)
    if available is not None and needed.total > RESERVE * available:
        raise UserError(
            f"The {name} needs about {needed}; the {device.device_kind} has "
            f"{size_text(available)}: use more devices, a smaller train.batch, train.accumulate, "
            "train.fsdp, network.remat, or smaller adapters (see the config)."
        )


def memory_of(device: jax.Device) -> int | None:
    """Returns the bytes of a device's memory, or None if the device does not tell.

    CPU devices share the machine's memory equally.
    """
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    if device.platform == "cpu":
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return min([physical, *control_group_limits(ROOT)]) // jax.local_device_count()
    return None


def control_group_limits(root: pathlib.Path) -> list[int]:
    """Reads the memory limits that Linux has set on this process.

    Containers and batch systems set them. Linux kills a process that goes beyond its limit.

    Args:
      root: root of the file system.

    Returns:
      Bytes, for every control group that the process is in and for those above it (version 2:
      memory.max; version 1: memory.limit_in_bytes).
    """
    limits = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
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
        # Inside a container the path may be the host's, which does not exist there. The group
        # itself may be mounted at the top.
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            try:
                text = (root / mount).joinpath(*parts[:depth], file).read_text().strip()
            except OSError:
                continue
            limits += [int(text)] if text.isdigit() else []  # "max" is not a limit
    return limits


def size_of(tree: Any) -> int:
    """Counts the bytes of all arrays (or their descriptions) in a tree, except random keys."""
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
