"""Stores networks with random parameters as runs, without training them."""

import pathlib

import jax
import numpy as np
from tiny import example_batch, run_of

from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.experiment import configs
from kdpose_jax.experiment.run import Run, build

STEP = 7


def store(folder: pathlib.Path, run: Run, seed: int = 0) -> str:
    """Writes a checkpoint of a run with random parameters.

    Args:
      folder: the run's folder.
      run: the run, such as `tiny.run_of` makes.
      seed: decides the parameters.

    Returns:
      The folder.
    """
    built = build(run, 64)
    batch = example_batch(run.config, stage=run.stage)
    generator = np.random.default_rng(seed)

    def drawn(path, leaf):  # scales and variances are about one, everything else about zero
        name = str(path[-1])
        noise = 0.2 * generator.normal(size=leaf.shape)
        near_one = "scale" in name or "var" in name
        return jax.numpy.asarray(np.abs(1 + noise) if near_one else noise, leaf.dtype)

    params, state, _ = jax.eval_shape(built.method.init, jax.random.key(0), batch)
    params, state = jax.tree.map_with_path(drawn, (params, state))
    checkpoints = Checkpoints(
        folder / "checkpoints",
        keep_latest=1,
        keep_best=1,
        best_metric="score",
        best_is_lowest=True,
        asynchronous=False,
    )
    meta = {
        "config": configs.as_dict(built.run.config),
        "method": run.method_name,
        "stage": run.stage,
        "teachers": {},
    }
    state_of_run = {"params": params, "model_state": state, "ema": None}
    checkpoints.save(STEP, state_of_run, meta, {"score": 1.0})
    checkpoints.close()
    return str(folder)


def store_preset(folder: pathlib.Path, file: str, preset: str, name: str, seed: int = 0) -> str:
    """Writes a checkpoint of one run of a preset at tiny size, with random parameters."""
    return store(folder, run_of(file, preset, name), seed)
