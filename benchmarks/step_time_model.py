"""Computes how long a training step should take on v5e-8 to v5e-256.

Nothing here is measured.

  python -m benchmarks.step_time_model

Counts parameters, multiply-adds and bytes of the full-size runs from shapes alone. Prints the table
in docs/running/pods.md, whose formulas these functions are.
"""

import argparse
import dataclasses
import math

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import networks
from benchmarks.chips import GENERATIONS
from configs import cdkd, scjd
from kdpose_jax.evaluate import cost
from kdpose_jax.experiment import memory
from kdpose_jax.experiment.run import build

CHIPS = (8, 16, 32, 64, 128, 256)
CHIP, HOST_THREADS = GENERATIONS["v5e"], 224 / 8  # of a chip (specification)
# Assumed: bandwidth in bytes/s, seconds per hop, share of the peak that is reached.
LINK_BANDWIDTH, HOP, UTILISATION = 200e9 / 2, 1e-6, 0.4
# Assumed: seconds of one host thread per example (spec: 47,700 windows/s per thread, 505 crops/s
# per core; two crops, two threads per core).
READING = {"sequences": 1 / 47_700, "persons": 4 / 505}


@dataclasses.dataclass(frozen=True)
class Size:
    """Holds a run's size.

    Attributes:
      title: the row's title in the table.
      share: examples per chip.
      parameters: bytes of the trained parameters.
      flops: FLOPs for one example's forward and backward pass, with the teacher's forward pass.
      reading: seconds of a host thread for one example.
      memory: number of chips -> bytes that one of them holds.
    """

    title: str
    share: int
    parameters: int
    flops: float
    reading: float
    memory: dict[int, int]


def size_of(title: str, config: ConfigDict, name: str, share: int, fsdp: bool) -> Size:
    """Computes the size of one run in an experiment.

    A backward pass costs twice its forward pass, and a teacher in distillation has none.
    """
    built = build(networks.run_of(config, name), networks.EXAMPLES)
    method, optimizer, locked = built.method, built.optimizer, built.run.config
    example = networks.abstract_batch(built.run, 1)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, model_state, frozen = jax.eval_shape(method.init, key, example)
    step = jax.ShapeDtypeStruct((), np.int32)
    forward = cost.count_macs(method.loss, params, model_state, frozen, example, key, step).total
    teacher = 0
    if method.teachers:
        taught = size_of("", config, "teacher", share, False)
        teacher = taught.flops / 6
    counted = dict(
        accumulate=1,
        with_ema=built.run.block.train.ema_decay > 0,
        fsdp=fsdp,
        platform="tpu",
    )
    return Size(
        title=title,
        share=share,
        parameters=memory.size_of(params),
        flops=2 * (3 * (forward - teacher) + teacher),
        reading=READING[locked.data.reader],
        memory={
            chips: memory.estimate(
                method, optimizer, example, batch=share * chips, devices=chips, **counted
            ).total
            for chips in (CHIPS if fsdp else CHIPS[:1])
        },
    )


def compute(size: Size) -> float:
    """Computes the seconds for products; every chip has its share of the batch."""
    return size.flops * size.share / (UTILISATION * CHIP.flops)


def update(size: Size, chips: int, fsdp: bool) -> float:
    """Computes the seconds for AdamW.

    It reads gradient, parameter and two moments, and writes three of them.
    """
    return 7 * size.parameters / CHIP.bandwidth / (chips if fsdp else 1)


def exchange(size: Size, chips: int, fsdp: bool) -> float:
    """Computes the seconds for the gradients' sum over a ring in each direction.

    Sharing halves it and adds a collection of the parameters.
    """
    passes = 3 if fsdp else 2
    return passes * (
        chips - 1
    ) / chips * size.parameters / LINK_BANDWIDTH + passes * HOP * 2 * math.sqrt(chips)


def reading(size: Size) -> float:
    """Computes the seconds that the host's threads need for a chip's share."""
    return size.share * size.reading / HOST_THREADS


def main() -> None:
    """Prints one table with the runs and one with their steps."""
    wide = {}
    for kind in ("kron", "dense"):
        wide[kind] = cdkd.get_config("coco64")
        wide[kind].distill.projection.kind = kind
    lifting = scjd.get_config("h36m")
    runs = [
        (size_of("SCJD teacher", lifting, "teacher", 4, False), False),
        (size_of("SCJD student", lifting, "student", 16, False), False),
        (size_of("CDKD teacher, coco64", wide["kron"], "teacher", 32, False), False),
        (size_of("CDKD student, coco64, kron", wide["kron"], "student", 32, False), False),
        (size_of("CDKD student, coco64, dense", wide["dense"], "student", 32, False), False),
        (size_of("CDKD student, coco64, dense, fsdp", wide["dense"], "student", 32, True), True),
    ]
    print(
        "| run | examples per chip | trained parameters | GFLOP per example | GB per chip "
        "|\n|:--|--:|--:|--:|--:|"
    )
    for size, _ in runs:
        held = " to ".join(
            dict.fromkeys(
                f"{size.memory[chips] / 1e9:.1f}" for chips in (min(size.memory), max(size.memory))
            )
        )
        held += "" if max(size.memory.values()) <= CHIP.memory else " (too much)"
        print(
            f"| {size.title} | {size.share} | {size.parameters / 4e6:.1f} M | "
            f"{size.flops / 1e9:,.1f} | {held} |"
        )
    print(
        "\n| run | chips | compute ms | update ms | exchange ms | reading ms | step ms | "
        "efficiency |\n|:--|" + "--:|" * 7
    )
    for size, fsdp in runs:
        for chips in CHIPS:
            parts = (
                compute(size),
                update(size, chips, fsdp),
                exchange(size, chips, fsdp),
                reading(size),
            )
            step = max(sum(parts[:3]), parts[3])
            alone = compute(size) + update(size, 1, False)
            row = " | ".join(f"{1000 * part:.2f}" for part in (*parts, step))
            print(f"| {size.title} | {chips} | {row} | {alone / step:.0%} |")


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m benchmarks.step_time_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    main()
