"""Times training steps, beside the PyTorch references where --peers names them.

A step is that of a run: loss, gradient, optimiser and metrics in one compiled program, on a batch
that lies on the device. The references take theirs eagerly, with the same sizes, loss terms and
optimiser.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable

import jax

from benchmarks import command, networks
from benchmarks.turns import Case, Contest
from configs import cdkd, scjd
from kdpose_jax.experiment.run import Run

# Frames, width, depth.
LIFTERS = ((27, 512, 8), (81, 256, 8), (81, 128, 4), (27, 128, 4))
LIFTING_BATCH = 4
CROPS = (32, 64)  # pixels
PICTURE_BATCH = 16


def cases(options: argparse.Namespace) -> list[Case]:
    """Lists the steps."""
    listed = [
        Case(
            f"MixSTE {frames}/{width}/{depth}, batch {LIFTING_BATCH}",
            functools.partial(lifting, options.peers, frames, width, depth),
        )
        for frames, width, depth in LIFTERS
    ]
    listed += [
        Case(
            f"HRNet-W32 SimDR {size} px, batch {PICTURE_BATCH}",
            functools.partial(pictures, options.peers, size),
        )
        for size in CROPS
    ]
    return listed + [
        Case(
            f"{name} demo, {stage}",
            functools.partial(contest, networks.run_of(config.get_config("demo"), stage)),
        )
        for name, config in (("SCJD", scjd), ("CDKD", cdkd))
        for stage in ("teacher", "student")
    ]


def lifting(folder: pathlib.Path | None, frames: int, width: int, depth: int) -> Contest:
    """Readies a step of MixSTE, beside the reference in a folder if one is given."""
    theirs = None
    if folder is not None:
        from benchmarks import peers  # imports PyTorch

        theirs = peers.mixste_step(folder, frames, width, depth, batch=LIFTING_BATCH)
    return contest(networks.lifting_run(frames, width, depth, LIFTING_BATCH), theirs)


def pictures(folder: pathlib.Path | None, size: int) -> Contest:
    """Readies a step of HRNet, beside the reference in a folder if one is given."""
    run, theirs = networks.picture_run(size, PICTURE_BATCH), None
    if folder is not None:
        from benchmarks import peers

        ratio = run.config.data.split_ratio
        theirs = peers.hrnet_step(folder, size, ratio, batch=PICTURE_BATCH)
    return contest(run, theirs)


def contest(run: Run, theirs: Callable[[], object] | None = None) -> Contest:
    """Readies a run's step."""
    batch = networks.random_batch(run, run.block.train.batch)
    training = networks.start(run, batch)
    return Contest(
        ours=lambda: jax.block_until_ready(training.advance(batch)),
        theirs=theirs,
        examples=run.block.train.batch,
        unit="windows" if "keypoints_2d" in batch else "persons",
        flops=training.count_flops(batch),
    )


COMMAND = command.Command(
    name="step",
    about=__doc__,
    cases=cases,
    columns=lambda options: [*command.COMPUTED, *command.reference_columns(options)],
    measure=command.timed,
    beside_peers=True,
)

if __name__ == "__main__":
    command.main(COMMAND)
