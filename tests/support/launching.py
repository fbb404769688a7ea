"""Runs launch.py inside the test process, as a user would from a shell."""

import sys
from unittest import mock

import jax
import numpy as np
from absl.testing import flagsaver
from jax.sharding import AxisType

import launch
from kdpose_jax.checkpoint.loading import explicit, load_variables
from kdpose_jax.experiment import stored_runs
from kdpose_jax.train import sharding

TINY = (
    "--config.data.frames=9",
    "--config.teacher.network.width=16",
    "--config.teacher.network.depth=1",
    "--config.teacher.network.heads=2",
    "--config.student.network.width=8",
    "--config.student.network.depth=1",
    "--config.student.network.heads=2",
    "--config.teacher.train.batch=8",
    "--config.student.train.batch=8",
    "--config.teacher.train.epochs=0.4",
    "--config.student.train.epochs=0.4",
    "--config.teacher.train.save_every_steps=5",
    "--config.student.train.save_every_steps=5",
    "--config.teacher.train.log_every_steps=5",
    "--config.student.train.log_every_steps=5",
    "--config.teacher.train.evaluate_every_epochs=0.2",
    "--config.student.train.evaluate_every_epochs=0.2",
    "--config.eval.batch=16",
    "--config.eval.latency_runs=1",
    "--config.eval.latency_warmup=1",
    "--config.eval.latency_batches=(1,)",
)


def launch_main(*arguments: str, devices: int = 1) -> int:
    """Returns the exit code of `python launch.py ARGUMENTS` on some devices.

    `capsys` captures what it prints.
    """
    words = ["launch.py", *arguments]
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    # Optax mixes integers and floats, which the suite's strict promotion refuses.
    with flagsaver.flagsaver(), jax.numpy_dtype_promotion("standard"):
        with (
            mock.patch.object(sys, "argv", words),
            mock.patch.object(sharding, "make_mesh", lambda: mesh),
        ):
            return launch.main(words)


def final_params(run):
    """Returns a run's last parameters, with averaged ones."""
    stored = stored_runs.run_of_checkpoint(str(run))
    method = stored.method.build(stored.config.lock(), stored.stage)
    batch = {"keypoints_2d": np.zeros((1, stored.config.data.frames, 17, 2), np.float32)}
    params, _, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    everywhere = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), params
    )
    return [
        load_variables(explicit(f"{run}/latest"), {"params": target}, prefer_ema=ema)[0]["params"]
        for ema in (False, True)
    ]
