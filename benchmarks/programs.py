"""Compiles training steps for devices that may be described only, from shapes alone."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from benchmarks import networks
from kdpose_jax.experiment import memory
from kdpose_jax.experiment.run import Run, build
from kdpose_jax.train import sharding, state


def traced_step(run: Run, mesh: Mesh, share: int) -> jax.stages.Traced:
    """Traces the step of a run for a mesh, ready to be lowered and compiled.

    Args:
      run: the run.
      mesh: the devices.
      share: examples of a batch on each device.
    """
    built = build(run, networks.EXAMPLES)
    options, batch = built.run.block.train, networks.abstract_batch(built.run, share * mesh.size)
    everywhere = sharding.replicated(mesh)
    key = jax.eval_shape(lambda: jax.random.key(0))
    described = state.describe(
        built.method,
        built.optimizer,
        batch,
        with_ema=options.ema_decay > 0,
        mesh=mesh,
        fsdp=options.fsdp,
    )
    step = networks.step_of(built, state.layout(described))
    frozen = jax.eval_shape(lambda key, batch: built.method.init(key, batch)[2], key, batch)
    return step.trace(
        described,
        placed(frozen, everywhere),
        placed(batch, sharding.over_batch(mesh)),
        placed(key, everywhere),
    )


def placed(tree: Any, where: jax.sharding.Sharding) -> Any:
    """Describes arrays that lie on devices."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree)


def estimated_memory(run: Run, devices: int, share: int) -> memory.Bytes:
    """Estimates what the step of a run holds on each TPU, as a run does before it starts."""
    built = build(run, networks.EXAMPLES)
    options = built.run.block.train
    return memory.estimate(
        built.method,
        built.optimizer,
        networks.abstract_batch(built.run, 1),
        batch=share * devices,
        accumulate=options.accumulate,
        devices=devices,
        with_ema=options.ema_decay > 0,
        fsdp=options.fsdp,
        platform="tpu",
    )


def tpu_mesh(topology: str) -> Mesh:
    """Describes the chips of a topology such as `v5e:2x4`. They need not be there; libtpu must."""
    from jax.experimental import topologies

    described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    devices = np.asarray(described.devices).reshape(-1)
    return Mesh(devices, ("data",), axis_types=(AxisType.Auto,))
