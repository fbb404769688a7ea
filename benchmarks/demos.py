"""The demos' records, and how long the demos' training waits for data."""

import contextlib
import functools
import os
import sys
import tempfile
import time
from typing import Any, NamedTuple

import jax

from benchmarks import machine, networks
from configs import cdkd, scjd
from data_prep import convert
from data_prep.records import Summary
from kdpose_jax.experiment import modules
from kdpose_jax.experiment.run import reads
from kdpose_jax.report import results
from kdpose_jax.train import loop

WATCHED = 10.0  # seconds of training
DEMOS: dict[str, Any] = {"scjd": scjd, "cdkd": cdkd}


class Demo(NamedTuple):
    """A network of a demo, whose training is watched."""

    name: str
    method: str
    stage: str


@functools.cache
def scratch() -> tempfile.TemporaryDirectory:
    """Makes a folder that is deleted when the program ends."""
    return tempfile.TemporaryDirectory(prefix="kdpose_pipeline_")


def converted(name: str, out: str, **settings: Any) -> Summary:
    """Converts a data set on the cores of this process. What it prints goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        return convert.prepare(name, out, workers=results.host_cores(), **settings)


@functools.cache
def records(method: str) -> str:
    """Makes the records of a demo."""
    converter = DEMOS[method].get_config("demo").data.converter
    out = os.path.join(scratch().name, f"{method}_demo")
    converted(converter.name, out, **converter.settings.to_dict())
    return out


def watch(demo: Demo) -> dict[str, Any]:
    """Trains a demo's network for some seconds as the loop does.

    Returns:
      The row's record. `wait_share` is the share of the time in which the loop waited for data.
    """
    run = networks.run_of(DEMOS[demo.method].get_config("demo"), demo.stage)
    options = run.config.data
    reader = modules.reader(options.reader)
    source = reader.open_training(
        reader.read(records(demo.method), "train"),
        seed=run.config.seed,
        **reads(run, training=True),
        **options.training.to_dict(),
    )
    batch = run.block.train.batch
    training = networks.start(run, networks.random_batch(run, batch))
    batches, _ = networks.delivered(source, batch)
    first_start = time.perf_counter()
    jax.block_until_ready(training.advance(next(batches)))
    first = time.perf_counter() - first_start
    pending, waited = [], 0.0
    with machine.Watch() as load:
        start = time.perf_counter()
        while time.perf_counter() - start < WATCHED:
            example = next(batches)
            waited += batches.waited
            pending.append(training.advance(example))
            if len(pending) > loop.IN_FLIGHT:
                jax.block_until_ready(pending[-1 - loop.IN_FLIGHT])
        jax.block_until_ready(pending[-1])
        seconds = time.perf_counter() - start
    batches.close()
    return {
        "case": demo.name,
        "unit": source.unit[0],
        "beside": None,
        "examples": batch * source.unit[1],
        "flops": 0.0,
        "moved_bytes": 0.0,
        "first_call_s": first,
        "pairs": len(pending),
        "ours_s": seconds / len(pending),
        "theirs_s": None,
        "ratio": None,
        "wait_share": waited / seconds,
        "others": load.others,
    }
