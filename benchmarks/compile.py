"""Times what comes before the first step of every preset: tracing, lowering and compiling.

Nothing is run, and no weights are made. The second start compiles the same step again from JAX's
persistent cache, in a new folder for each row. The full-size presets of CDKD take long on a CPU:
choose with --only.
"""

import argparse
import contextlib
import importlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import command, machine, networks
from kdpose_jax.experiment import pipeline
from kdpose_jax.experiment.run import Run
from kdpose_jax.train import sharding

PRESETS = {
    "scjd": ("demo", "mocap", "h36m", "3dhp"),
    "cdkd": ("demo", "pictures", "mpii32", "mpii64", "coco32", "coco64"),
}
STAGES = ("teacher", "student")
PARTS = ("tracing", "lowering", "compiling")


class Step(NamedTuple):
    """A row: the run whose step is compiled."""

    name: str
    run: Run


def cases(options: argparse.Namespace) -> list[Step]:
    """Lists every preset's teacher and student."""
    return [
        Step(f"{file}:{preset} {run.name}", run)
        for file, presets in PRESETS.items()
        for preset in presets
        for run in pipeline.planned_runs(
            importlib.import_module(f"configs.{file}").get_config(preset)
        )
        if run.name in STAGES
    ]


def measure(case: Step, options: argparse.Namespace) -> dict[str, Any]:
    """Compiles a step without and with what the persistent cache holds."""
    with machine.Watch() as watch, tempfile.TemporaryDirectory() as cache:
        with persistent_cache(cache):
            first, second = seconds_to_start(case.run), seconds_to_start(case.run)
    return {
        "case": case.name,
        **{f"{part}_s": seconds for part, seconds in first.items()},
        "first_start_s": sum(first.values()),
        "second_start_s": sum(second.values()),
        "others": watch.others,
    }


@contextlib.contextmanager
def persistent_cache(folder: str) -> Iterator[None]:
    """Lets JAX keep all that it compiles in a folder, for a block of code."""
    wanted = {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in wanted}
    try:
        for name, value in wanted.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # JAX looks for a folder once
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def seconds_to_start(run: Run) -> dict[str, float]:
    """Builds a run's step and compiles it for this machine's devices, as a new process would."""
    jax.clear_caches()
    moments = [time.perf_counter()]
    mesh = sharding.make_mesh()
    traced = networks.traced_step(run, mesh, networks.share_of(run, mesh.size))
    moments.append(time.perf_counter())
    lowered = traced.lower()
    moments.append(time.perf_counter())
    lowered.compile()
    moments.append(time.perf_counter())
    return dict(zip(PARTS, np.diff(moments).tolist(), strict=True))


def seconds(name: str) -> command.Column:
    """Makes the column of one time."""
    return command.Column(f"{name.replace('_', ' ')} s", lambda row: f"{row[f'{name}_s']:.1f}")


COMMAND = command.Command(
    name="compile",
    about=__doc__,
    cases=cases,
    columns=lambda options: [seconds(name) for name in (*PARTS, "first_start", "second_start")],
    measure=measure,
    in_turns=False,
)

if __name__ == "__main__":
    command.main(COMMAND)
