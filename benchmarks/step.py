"""Times training steps, beside the PyTorch references where --peers names them.

A step is that of a run: loss, gradient, optimiser and metrics in one compiled program, on a batch
that lies on the device. The references take theirs eagerly, with the same sizes, loss terms and
optimiser.
"""

import argparse
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
    listed = []
    for sizes in LIFTERS:
        frames, width, depth = sizes

        def lifting(sizes: tuple[int, int, int] = sizes) -> Contest:
            theirs = None
            if options.peers is not None:
                from benchmarks import peers

                theirs = peers.mixste_step(options.peers, *sizes, batch=LIFTING_BATCH)
            return contest(networks.lifting_run(*sizes, LIFTING_BATCH), theirs)

        listed.append(Case(f"MixSTE {frames}/{width}/{depth}, batch {LIFTING_BATCH}", lifting))
    for size in CROPS:

        def pictures(size: int = size) -> Contest:
            run, theirs = networks.picture_run(size, PICTURE_BATCH), None
            if options.peers is not None:
                from benchmarks import peers

                theirs = peers.hrnet_step(
                    options.peers, size, run.config.data.split_ratio, batch=PICTURE_BATCH
                )
            return contest(run, theirs)

        listed.append(Case(f"HRNet-W32 SimDR {size} px, batch {PICTURE_BATCH}", pictures))
    for name, config in (("SCJD", scjd), ("CDKD", cdkd)):
        for stage in ("teacher", "student"):

            def demo(config=config, stage: str = stage) -> Contest:
                return contest(networks.run_of(config.get_config("demo"), stage), None)

            listed.append(Case(f"{name} demo, {stage}", demo))
    return listed


def contest(run: Run, theirs: Callable[[], object] | None) -> Contest:
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
    columns=lambda options: [
        command.OURS,
        command.RATE,
        command.COMPUTE,
        command.FIRST,
        *(command.COMPARED if options.peers is not None else ()),
    ],
    measure=command.timed,
)

if __name__ == "__main__":
    command.main(COMMAND)
