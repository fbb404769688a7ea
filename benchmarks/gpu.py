"""Times full-size training steps in bfloat16 on one GPU, and what they reach of its peak.

SCJD's teacher takes turns with the PyTorch reference, eager and compiled, where --peers names it.
SCJD's student has its longest kernels listed below the table. CDKD's students follow. A step that
fails costs its row only: scripts/gpu_bench.sh starts all of this for a GPU that is lent for
minutes.
"""

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from benchmarks import chips, command, kernels, networks, turns
from configs import cdkd, scjd
from configs.networks import mixste_block
from kdpose_jax.errors import UserError
from kdpose_jax.experiment.run import Run

WINDOWS = 16  # in a batch: 66,096 joints of 243 frames, and room for PyTorch's activations
TRACED = 3  # steps
KERNELS = 10


class Case(NamedTuple):
    """A row.

    Attributes:
      name: names the row.
      preset: names the experiment, for example `scjd:h36m`.
      stage: `teacher` or `student`.
      beside: how the reference computes, `eager` or `compiled`; empty if it takes no turns.
      traced: whether the row lists kernels.
    """

    name: str
    preset: str
    stage: str
    beside: str = ""
    traced: bool = False


class Step(NamedTuple):
    """A step that is ready: the run that it trains, its batch and its state."""

    run: Run
    batch: dict[str, jax.Array]
    training: networks.Training


def cases(options: argparse.Namespace) -> list[Case]:
    """Lists the steps, the ones that compile soonest first.

    Raises:
      UserError: there is no GPU, or PyTorch has none.
    """
    if not options.tiny:
        require_gpu(options.peers is not None)
    teacher = Case("SCJD teacher", "scjd:h36m", "teacher")
    beside = ["eager", "compiled"] if options.peers is not None else []
    return [
        *[teacher._replace(name=f"{teacher.name}, {way}", beside=way) for way in beside],
        *([] if beside else [teacher]),
        Case("SCJD student", "scjd:h36m", "student", traced=True),
        Case("CDKD student 64 px", "cdkd:mpii64", "student"),
        Case("CDKD student 32 px", "cdkd:mpii32", "student"),
    ]


def require_gpu(for_peers: bool) -> None:
    """Refuses a machine without a GPU.

    Args:
      for_peers: whether PyTorch needs it too.

    Raises:
      UserError: there is none.
    """
    found = jax.default_backend()
    if found != "gpu":
        raise UserError(
            f"jax found {found} and no GPU: use a Python with requirements.txt and "
            "jax[cuda13]==0.10.2 on a machine with an NVIDIA GPU, or try it with --tiny."
        )
    if for_peers:
        from benchmarks import peers  # imports PyTorch

        if peers.device() != "cuda":
            raise UserError(
                "--peers is given and PyTorch has no CUDA: install a PyTorch with CUDA, or leave "
                "--peers out."
            )


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Times a step, and lists its kernels if the row has them.

    A step that the device refuses, for example for its memory, makes a row with the reason.
    """
    try:
        contest = functools.partial(ready, case, options)
        row = turns.measure(turns.Case(case.name, contest), options.pairs, command.SECONDS)
        row["mfu"] = share_of_peak(row["flops"] / row["ours_s"])
    except RuntimeError as error:  # XLA's and PyTorch's errors of devices and compilers are
        prepared.cache_clear()
        return {"case": case.name, "failed": reason(error), "others": {}}
    return row | (traced(contest().ours) if case.traced else {})


def traced(call: Callable[[], object]) -> dict[str, Any]:
    """Lists a step's kernels; a machine that lets no program trace costs the list only."""
    try:
        return {"kernels": kernels.longest(call, TRACED, KERNELS)}
    except (RuntimeError, ValueError) as error:  # ValueError: no trace, or more than one
        return {"kernels": [], "untraced": reason(error)}


def reason(error: Exception) -> str:
    """Returns the first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def ready(case: Case, options: argparse.Namespace) -> turns.Contest:
    """Readies a step, beside the reference if the row has it."""
    step, theirs, close = prepared(case.preset, case.stage, options.tiny), None, lambda: None
    config, block = step.run.config, step.run.block
    if case.beside:
        from benchmarks import peers

        size, batch = (block.network.width, block.network.depth), block.train.batch
        way = peers.Way(peers.device(), bfloat16=True, compiled=case.beside == "compiled")
        theirs = peers.mixste_step(options.peers, config.data.frames, *size, batch=batch, way=way)
        close = peers.release
    return turns.Contest(
        ours=lambda: jax.block_until_ready(step.training.advance(step.batch)),
        theirs=theirs,
        beside=f"PyTorch, {case.beside}",
        examples=block.train.batch,
        unit="windows" if config.task == "lifting" else "persons",
        flops=step.training.count_flops(step.batch),
        close=close,
    )


@functools.lru_cache(maxsize=1)  # rows of the same step follow each other, and compile it once
def prepared(preset: str, stage: str, tiny: bool) -> Step:
    """Draws the batch and the first state of a step."""
    run = bfloat16_run(preset, stage, tiny)
    batch = networks.random_batch(run, run.block.train.batch)
    return Step(run, batch, networks.start(run, batch))


def bfloat16_run(preset: str, stage: str, tiny: bool) -> Run:
    """Describes a stage of a preset, with both networks in bfloat16.

    Args:
      preset: names the experiment.
      stage: `teacher` or `student`.
      tiny: whether everything is so small that a CPU compiles and runs it in seconds.
    """
    file, _, name = preset.partition(":")
    if file == "scjd":
        config = scjd.get_config(name)
        config.teacher.train.batch = config.student.train.batch = WINDOWS
    else:
        config = cdkd.get_config(name)
    if tiny:
        shrink(file, config)
    config.teacher.network.compute = config.student.network.compute = "bfloat16"
    return networks.run_of(config, stage)


def shrink(file: str, config: Any) -> None:
    """Makes an experiment of a config file tiny."""
    config.teacher.train.batch = config.student.train.batch = 2
    if file == "scjd":
        config.data.frames = 9
        config.teacher.network = mixste_block(32, 2, heads=8, drop_path=0.1)
        config.student.network = mixste_block(16, 1, heads=8, drop_path=0.1)
    else:
        config.data.split_ratio = 1.0
        config.teacher.input.size, config.student.input.size = 64, 32
        for stage in (config.teacher, config.student):
            stage.network = cdkd.network(8, stem_width=8, blocks=1, modules=(1,))


def share_of_peak(rate: float) -> float | None:
    """Returns what a rate in FLOP/s is of this GPU's peak, or None for an unknown GPU."""
    chip = chips.GPUS.get(jax.devices()[0].device_kind)
    return rate / chip.flops if chip is not None else None


def below(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Writes what does not fit into the table: longest kernels, and why a step failed."""
    for row in rows:
        if "kernels" in row:
            yield f"\n{row['case']}, longest kernels of a step: {row.get('untraced', '')}\n"
            yield "| ms | share | launches | kernel |"
            yield "|--:|--:|--:|:--|"
            for kernel in row["kernels"]:
                numbers = f"{kernel['ms']:.3f} | {kernel['share']:.1%} | {kernel['launches']:.0f}"
                yield f"| {numbers} | {kernel['name']} |"
        if "failed" in row:
            yield f"\n{row['case']} failed: {row['failed']}"


def percent(share: float | None) -> str:
    """Writes a share; "-" for none."""
    return "-" if share is None else f"{share:.1%}"


COLUMNS = [
    command.OURS,
    command.RATE,
    command.Column("TFLOP/s", lambda row: f"{row['flops'] / row['ours_s'] / 1e12:.1f}"),
    command.Column("MFU", lambda row: percent(row["mfu"])),
    command.FIRST,
]

COMMAND = command.Command(
    name="gpu",
    about=__doc__,
    cases=cases,
    columns=lambda options: [*COLUMNS, *command.reference_columns(options)],
    measure=measure,
    beside_peers=True,
    add_options=lambda parser: parser.add_argument(
        "--tiny", action="store_true", help="tiny networks, for a trial on any machine"
    ),
    precision="bfloat16",
    below=below,
)

if __name__ == "__main__":
    command.main(COMMAND)
