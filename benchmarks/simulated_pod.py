"""Compares the losses of one run on 1, 2, 4 and 8 connected processes on this machine.

There are eight CPU devices in all.

  python -m benchmarks.simulated_pod scjd|cdkd [PROCESSES ...]

Starts launch.py as a pod would (docs/running/pods.md), on generated data and tiny networks, and
prints a table. Its columns are the student's losses at some steps, the largest relative difference
from the first row over all steps and networks, test scores, and steps per second relative to the
first row. All processes share this machine's cores. So the last column says what the connections
cost, and nothing about a pod's speed.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

from data_prep import convert

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
DEVICES = 8
EXAMPLES = {"scjd": 336, "cdkd": 48}
STEPS = 6
NETWORKS = {
    "scjd": ("width=8", "depth=1", "heads=2"),
    "cdkd": ("width=4", "stem_width=4", "blocks=1", "modules=(1,)"),
}
SMALL = {
    "scjd": ("--config.data.frames=9",),
    "cdkd": (
        "--config.teacher.input.size=64",
        "--config.student.input.size=32",
        "--config.data.split_ratio=2.0",
    ),
}
SHOWN = (1, 2, 4, 6)


def main(method: str, counts: list[int]) -> None:
    """Makes the data once, runs every number of processes, and prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        records = f"{folder}/records"
        if method == "scjd":
            convert.prepare(
                "synthetic",
                records,
                train_subjects=1,
                test_subjects=1,
                takes=1,
                frames=60,
                workers=1,
            )
        else:
            convert.prepare(
                "people",
                records,
                train_pictures=EXAMPLES[method],
                val_pictures=11,
                test_pictures=11,
                picture_size=96,
                workers=1,
            )
        runs = [
            (count, read(run(method, count, records, pathlib.Path(folder) / f"run{count}")))
            for count in counts
        ]
    first = runs[0][1]
    columns = [f"loss, step {step}" for step in SHOWN]
    columns = ["processes", "devices of each", *columns, "largest difference", "score", "steps/s"]
    print(f"| {' | '.join(columns)} |\n|{'--:|' * len(columns)}")
    for count, (losses, score, rate) in runs:
        difference = max(abs(loss / first[0][where] - 1) for where, loss in losses.items())
        shown = " | ".join(f"{losses['student', step]:.7f}" for step in SHOWN)
        print(
            f"| {count} | {DEVICES // count} | {shown} | {difference:.1e} | {score:.5f} | "
            f"{rate / first[2]:.2f} |",
            flush=True,
        )


def run(method: str, count: int, records: str, workdir: pathlib.Path) -> pathlib.Path:
    """Runs launch.py on `count` processes; returns its work directory."""
    settings = [
        f"--config.{stage}.network.{value}"
        for stage in ("teacher", "student")
        for value in NETWORKS[method]
    ]
    batch, epochs = DEVICES, STEPS * DEVICES / EXAMPLES[method]
    for stage in ("teacher", "student"):
        settings += [
            f"--config.{stage}.train.{value}"
            for value in (f"batch={batch}", f"epochs={epochs}", "log_every_steps=1")
        ]
    settings += [
        "--config.eval.batch=4",
        "--config.eval.latency_runs=1",
        "--config.eval.latency_warmup=1",
    ]
    settings += ["--config.eval.latency_batches=(1,)", "--config.baseline=False", *SMALL[method]]
    command = [
        sys.executable,
        "launch.py",
        f"--config=configs/{method}.py",
        f"--config.data.records={records}",
        *settings,
    ]
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    told = {
        "KDPOSE_COORDINATOR": f"localhost:{port}",
        "KDPOSE_PROCESSES": str(count),
        "JAX_PLATFORMS": "cpu",
    }
    told |= {"JAX_NUM_CPU_DEVICES": str(DEVICES // count), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    started = [
        subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            cwd=REPOSITORY,
            env={**os.environ, **told, "KDPOSE_PROCESS": str(number)},
            stdout=subprocess.DEVNULL,
        )
        for number in range(count)
    ]
    codes = [process.wait() for process in started]
    if any(codes):
        raise SystemExit(f"{count} processes ended with {codes}")
    return workdir


def read(workdir: pathlib.Path) -> tuple[dict[tuple[str, int], float], float, float]:
    """Reads losses by (network, step), the student's first flip score, and its speed.

    The speed is in training steps per second.
    """
    losses, seconds = {}, []
    for network in ("teacher", "student"):
        for line in map(json.loads, (workdir / network / "metrics.jsonl").read_text().splitlines()):
            if "loss" in line:
                losses[network, line["step"]] = line["loss"]
                if "interval_seconds" in line:
                    seconds.append(line["interval_seconds"])
    table = json.loads((workdir / "results.json").read_text())["networks"]["student"]["table"]
    return losses, next(iter(table.values())), len(seconds) / sum(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulated_pod",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("method", choices=sorted(EXAMPLES))
    parser.add_argument(
        "processes",
        nargs="*",
        type=int,
        default=[1, 2, 4, 8],
        help="numbers of processes, which share the eight devices equally (default: 1 2 4 8)",
    )
    options = parser.parse_args()
    if uneven := [count for count in options.processes if count < 1 or DEVICES % count]:
        parser.error(f"{uneven[0]} processes cannot share {DEVICES} devices equally")
    main(options.method, options.processes)
