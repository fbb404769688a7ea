"""Times inference beside the PyTorch references, where --peers names them, and beside our teacher.

Ours is the compiled prediction of an evaluation: the network and what makes poses of its output.
The references run eagerly and without gradient, up to the network's output. A student's call has
its keyframes, its network and its upsampling.
"""

import argparse
import functools
import pathlib

from benchmarks import command, networks
from benchmarks.turns import Case, Contest

# Frames, width, depth.
TEACHER = (243, 512, 8)
LIFTERS = (TEACHER, (81, 256, 8), (81, 128, 4), (27, 128, 4))
CROPS = (32, 64)  # pixels
PICTURE_BATCHES = (1, 16)
STUDENTS = ("S-B", "S-S", "S-XS")


def cases(options: argparse.Namespace) -> list[Case]:
    """Lists the networks."""
    listed = [
        Case(
            f"MixSTE {frames}/{width}/{depth}, batch 1",
            functools.partial(lifting, options.peers, frames, width, depth),
        )
        for frames, width, depth in LIFTERS
    ]
    listed += [
        Case(
            f"HRNet-W32 SimDR {size} px, batch {batch}",
            functools.partial(pictures, options.peers, size, batch),
        )
        for size in CROPS
        for batch in PICTURE_BATCHES
    ]
    return listed + [
        Case(f"SCJD {name} beside its teacher", functools.partial(student, name))
        for name in STUDENTS
    ]


def lifting(folder: pathlib.Path | None, frames: int, width: int, depth: int) -> Contest:
    """Readies a MixSTE and one window, beside the reference in a folder if one is given."""
    ours, flops = networks.predictor(networks.lifting_run(frames, width, depth, 1), 1)
    theirs = None
    if folder is not None:
        from benchmarks import peers  # imports PyTorch

        theirs = peers.mixste_prediction(folder, frames, width, depth, batch=1)
    return Contest(ours, examples=frames, unit="frames", theirs=theirs, flops=flops)


def pictures(folder: pathlib.Path | None, size: int, batch: int) -> Contest:
    """Readies an HRNet and a batch, beside the reference in a folder if one is given."""
    run, theirs = networks.picture_run(size, batch), None
    ours, flops = networks.predictor(run, batch)
    if folder is not None:
        from benchmarks import peers

        ratio = run.config.data.split_ratio
        theirs = peers.hrnet_prediction(folder, size, ratio, batch=batch)
    return Contest(ours, examples=batch, unit="persons", theirs=theirs, flops=flops)


def student(name: str) -> Contest:
    """Readies a student and its teacher, one window of 243 frames each."""
    ours, flops = networks.predictor(networks.student_run(name), 1)
    theirs, _ = networks.predictor(networks.lifting_run(*TEACHER, 1), 1)
    return Contest(
        ours, examples=TEACHER[0], unit="frames", theirs=theirs, beside="our teacher", flops=flops
    )


COMMAND = command.Command(
    name="inference",
    about=__doc__,
    cases=cases,
    columns=lambda options: [*command.COMPUTED, *command.COMPARED],
    measure=command.timed,
    beside_peers=True,
)

if __name__ == "__main__":
    command.main(COMMAND)
