"""Times inference, beside the PyTorch references where --peers names them, and students beside
their teacher.

Ours is the compiled prediction of an evaluation: the network and what makes poses of its output.
The references run eagerly and without gradient, up to the network's output. A student's call has
its keyframes, its network and its upsampling.
"""

import argparse

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
    listed = []
    for sizes in LIFTERS:
        frames, width, depth = sizes

        def lifting(sizes: tuple[int, int, int] = sizes) -> Contest:
            ours, flops = networks.predictor(networks.lifting_run(*sizes, 1), 1)
            theirs = None
            if options.peers is not None:
                from benchmarks import peers

                theirs = peers.mixste_prediction(options.peers, *sizes, batch=1)
            return Contest(ours, examples=sizes[0], unit="frames", theirs=theirs, flops=flops)

        listed.append(Case(f"MixSTE {frames}/{width}/{depth}, batch 1", lifting))
    for size in CROPS:
        for batch in PICTURE_BATCHES:

            def pictures(size: int = size, batch: int = batch) -> Contest:
                run, theirs = networks.picture_run(size, batch), None
                ours, flops = networks.predictor(run, batch)
                if options.peers is not None:
                    from benchmarks import peers

                    theirs = peers.hrnet_prediction(
                        options.peers, size, run.config.data.split_ratio, batch=batch
                    )
                return Contest(ours, examples=batch, unit="persons", theirs=theirs, flops=flops)

            listed.append(Case(f"HRNet-W32 SimDR {size} px, batch {batch}", pictures))
    return listed + [Case(f"SCJD {name} beside its teacher", student(name)) for name in STUDENTS]


def student(name: str):
    """Makes what readies a student and its teacher, one window of 243 frames each."""

    def prepare() -> Contest:
        ours, flops = networks.predictor(networks.student_run(name), 1)
        theirs, _ = networks.predictor(networks.lifting_run(*TEACHER, 1), 1)
        return Contest(
            ours,
            examples=TEACHER[0],
            unit="frames",
            theirs=theirs,
            beside="our teacher",
            flops=flops,
        )

    return prepare


COMMAND = command.Command(
    name="inference",
    about=__doc__,
    cases=cases,
    columns=lambda options: [
        command.OURS,
        command.RATE,
        command.COMPUTE,
        command.FIRST,
        *command.COMPARED,
    ],
    measure=command.timed,
)

if __name__ == "__main__":
    command.main(COMMAND)
