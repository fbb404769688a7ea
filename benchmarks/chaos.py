"""Kills runs at random moments, and compares them bit for bit with undisturbed runs.

  make chaos, or
  python -m benchmarks.chaos [--kills 100] [--processes 1,2] [--methods scjd,cdkd] [--side_by_side
  2] [--seed 0] [--folder DIR]

Every run generates its data, trains teacher, baseline and student, evaluates and reports, of SCJD
and of CDKD in turn, at the sizes of `benchmarks/chaos_config.py`, first as one process each, then
as two that are connected; SIGTERM and one SIGKILL in eight go to one of these alone, once they are
connected. It is killed (SIGKILL; one time in eight SIGTERM, which must end it with exit code 75
within 15 s, of two processes 60) a drawn time after each start, and started again by the same
command until it is done. Then these must be equal to the undisturbed run's: every array of every
checkpoint, the steps kept, metrics.jsonl and examples.jsonl line for line (timings left out),
gradients.json, scores. The files must be those of the undisturbed run: nothing half-written or of
the kills may be left. Prints kills by stage and what differed; exits with 1 if anything did.

Runs are forked from this process, which has imported everything: a start costs a second rather than
ten.
"""

import argparse
import collections
import dataclasses
import json
import math
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from typing import Any

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
METHODS = ("scjd", "cdkd")
NETWORKS = ("teacher", "baseline", "student")
TIMINGS = ("_per_second", "_seconds")
# Files with random names: Orbax's data, and TensorBoard's files, one for each start.
DRAWN = re.compile(r"(.*/checkpoints/[0-9]+/state/.*d/)[0-9a-f]{32}|(.*/tensorboard/).*")
# Connected processes agree to stop between two steps, so they wait for compilation
# (docs/running/pods.md). Here four processes compile on two cores.
SECONDS_AFTER_SIGTERM = {1: 15.0, 2: 60.0}
SECONDS_AT_MOST = 3600.0
# A start is disturbed within this share of the undisturbed run's length, compilation included. A
# run's first start is disturbed anywhere in the length. One later start in four is disturbed within
# half of it. Otherwise few runs would be disturbed in their last stages.
LATEST, LATEST_OF_A_QUARTER, LATEST_OF_THE_FIRST = 0.25, 0.5, 1.0


def main() -> int:
    """Runs the plan; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs to survive, in all")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    parser.add_argument(
        "--processes",
        type=lambda text: list(map(int, text.split(","))),
        default=[1, 2],
        help="of a run",
    )
    parser.add_argument("--side_by_side", type=int, default=2, help="runs at a time")
    parser.add_argument("--kills_per_run", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder",
        default="",
        help="for the runs; default: a temporary one, deleted when all is well",
    )
    options = parser.parse_args()
    folder = pathlib.Path(options.folder or tempfile.mkdtemp(prefix="kdpose_chaos_")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    set_environment(folder)
    preload()
    started, report, target = time.monotonic(), Report(), 0.0
    # Slower runs are killed less often.
    shares = [2 / (1 + processes) for processes in options.processes]
    for share, processes in zip(shares, options.processes, strict=True):
        home = folder / f"of_{processes}"
        home.mkdir(exist_ok=True)
        lengths = {method: undisturbed(method, home, processes) for method in options.methods}
        target += options.kills * share / sum(shares)
        survive(options, math.ceil(target - 1e-9), processes, home, lengths, report)
    report.show(time.monotonic() - started)
    if not report.differences and not options.folder:
        shutil.rmtree(folder)
    return 1 if report.differences else 0


@dataclasses.dataclass
class Report:
    """Collects what happened.

    It has (signal, processes, method, stage) -> how often, the number of compared runs, and what
    differed.
    """

    signals: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    inside_a_save: int = 0
    runs: int = 0
    differences: list[str] = dataclasses.field(default_factory=list)

    def kills(self) -> int:
        return sum(count for (name, *_), count in self.signals.items() if name == "SIGKILL")

    def show(self, seconds: float) -> None:
        """Prints the table."""
        print(f"{'signal':8s} {'processes':9s} {'method':6s} {'stage':22s} times")
        for (name, processes, method, stage), count in sorted(self.signals.items()):
            print(f"{name:8s} {processes:9d} {method:6s} {stage:22s} {count:5d}")
        others = sum(self.signals.values()) - self.kills()
        print(
            f"{self.kills()} SIGKILLs and {others} SIGTERMs in {self.runs} runs, "
            f"{self.inside_a_save} of them while a checkpoint was "
            f"being written, {seconds / 60:.1f} minutes, {len(self.differences)} differences"
        )
        for line in self.differences:
            print(f"  {line}")


class Run:
    """Starts one run's processes again and again with the same command."""

    def __init__(
        self, method: str, workdir: pathlib.Path, processes: int, generator: random.Random
    ):
        self.method, self.workdir, self._processes, self._generator = (
            method,
            workdir,
            processes,
            generator,
        )
        self.log = workdir.with_suffix(".log")
        self.signals = 0
        self._pids: dict[int, int] = {}  # pid -> exit status, -1 while the process runs
        self._deadline, self._from = 0.0, 0

    def start(self, seconds: float) -> None:
        """Starts the processes, to be disturbed after some seconds."""
        port = free_port()
        self._from = self.log.stat().st_size if self.log.exists() else 0
        self._pids = {self._fork(index, port): -1 for index in range(self._processes)}
        self._deadline = time.monotonic() + seconds

    def running(self) -> bool:
        """Tells whether any process runs."""
        for pid, status in self._pids.items():
            if status < 0 and os.waitpid(pid, os.WNOHANG)[0]:
                self._pids[pid] = 0
        return -1 in self._pids.values()

    def due(self) -> bool:
        """Tells whether it is time to disturb the run."""
        return time.monotonic() >= self._deadline

    def finish(self) -> float:
        """Runs to the end undisturbed; returns the seconds that it took."""
        started = time.monotonic()
        self.start(SECONDS_AT_MOST)
        codes = self._wait(SECONDS_AT_MOST)
        if any(codes):
            raise SystemExit(f"{self.workdir} ended with {codes}:\n{self.log.read_text()[-3000:]}")
        return time.monotonic() - started

    def disturb(self, report: Report) -> None:
        """Sends the run a signal, and waits until all processes are gone."""
        number = signal.SIGTERM if self._generator.random() < 1 / 8 else signal.SIGKILL
        stage, saving = self.stage(), any(self.workdir.glob("*/*/*.orbax-checkpoint-tmp*"))
        # The signal goes to all processes or to one. Then the others must end by
        # themselves. JAX takes a minute for this if one was killed.
        one = (
            self._processes > 1
            and stage != "start"
            and (number == signal.SIGTERM or self._generator.random() < 1 / 8)
        )
        victims = [self._generator.choice(list(self._pids))] if one else list(self._pids)
        for pid in victims:
            os.kill(pid, number)
        sent = time.monotonic()
        codes = self._wait(
            SECONDS_AFTER_SIGTERM[min(2, self._processes)] if number == signal.SIGTERM else 120.0
        )
        self.signals += 1
        report.signals[signal.Signals(number).name, self._processes, self.method, stage] += 1
        report.inside_a_save += saving
        if number == signal.SIGTERM and not set(codes) <= {75, 0}:
            report.differences.append(
                f"{self.workdir.name}, {stage}: exit codes {codes} {time.monotonic() - sent:.1f} "
                f"s after SIGTERM"
            )
        if (
            number == signal.SIGKILL
            and not one
            and not all(code in (-signal.SIGKILL, 0) for code in codes)
        ):
            report.differences.append(
                f"{self.workdir.name}, {stage}: ended by itself with {codes}: "
                f"{self.log.read_text()[-300:]}"
            )

    def stage(self) -> str:
        """Returns the stage that the run reports."""
        with self.log.open() as file:
            file.seek(self._from)
            lines = [line for line in file.read().splitlines() if line.strip()]
        found = "start"
        for line in lines:
            word = line.split()[0]
            if word == "devices":
                found = "data"
            elif word in NETWORKS and ("step" in line or "goes on" in line or "compiled" in line):
                found = f"training {word}"
            elif word in ("evaluating", "caching"):
                found = f"{word} {line.split()[1].split('/')[-1]}"
            elif line.startswith("| network"):
                found = "report"
            elif word == "data":
                found = "setting up"
        return found

    def _fork(self, index: int, port: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            if self._processes > 1:
                os.environ.update(
                    KDPOSE_COORDINATOR=f"localhost:{port}",
                    KDPOSE_PROCESSES=str(self._processes),
                    KDPOSE_PROCESS=str(index),
                )
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            import launch

            sys.argv = [
                "launch.py",
                "--config",
                f"benchmarks/chaos_config.py:{self.method}",
                "--workdir",
                str(self.workdir),
            ]
            code = launch.main(sys.argv)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def _wait(self, seconds: float) -> list[int]:
        """Returns the exit codes of all processes.

        Processes that do not end in time are killed, and get the code of a killed process.
        """
        codes, deadline = [], time.monotonic() + seconds
        for pid, status in list(self._pids.items()):
            while status < 0:
                found, raw = os.waitpid(pid, os.WNOHANG)
                if found:
                    codes.append(os.waitstatus_to_exitcode(raw))
                    break
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    deadline = float("inf")
                    print(f"{self.workdir.name}: still there after {seconds:g} s", flush=True)
                time.sleep(0.005)
            else:
                codes.append(0)
            self._pids[pid] = 0
        return codes


def undisturbed(method: str, folder: pathlib.Path, processes: int) -> float:
    """Measures how many seconds an undisturbed run takes.

    Killed runs find its compiled programs in a cache.
    """
    shutil.rmtree(folder / f"{method}_whole", ignore_errors=True)
    seconds = Run(method, folder / f"{method}_whole", processes, random.Random(0)).finish()
    print(f"undisturbed {method} as {processes} process(es): {seconds:.1f} s", flush=True)
    return seconds


def survive(
    options: argparse.Namespace,
    kills: int,
    processes: int,
    folder: pathlib.Path,
    lengths: dict[str, float],
    report: Report,
) -> None:
    """Disturbs runs side by side up to a number of kills, and compares finished runs."""
    generator = random.Random(options.seed)
    active: list[Run] = []
    number = 0
    while active or report.kills() < kills:
        while len(active) < options.side_by_side and report.kills() < kills:
            method = options.methods[number % len(options.methods)]
            workdir = folder / f"{method}_{options.seed}_{number}"
            shutil.rmtree(workdir, ignore_errors=True)
            active.append(Run(method, workdir, processes, random.Random(generator.random())))
            active[-1].start(generator.uniform(0.0, LATEST_OF_THE_FIRST * lengths[method]))
            number += 1
        time.sleep(0.005)
        for run in list(active):
            if not run.running():
                active.remove(run)
                compare_run(run, folder, report)
            elif run.due():
                run.disturb(report)
                enough = run.signals >= options.kills_per_run or report.kills() >= kills
                run.start(
                    SECONDS_AT_MOST if enough else until_disturbed(generator, lengths[run.method])
                )


def until_disturbed(generator: random.Random, length: float) -> float:
    """Draws when a later start is disturbed, seconds; `length` is the undisturbed run's."""
    return generator.uniform(
        0.0, (LATEST_OF_A_QUARTER if generator.random() < 1 / 4 else LATEST) * length
    )


def compare_run(run: Run, folder: pathlib.Path, report: Report) -> None:
    """Adds the differences from the undisturbed run to the report."""
    answer = run.workdir.with_suffix(".json")
    pid = os.fork()  # Restoring starts JAX's devices, and then a process cannot be forked.
    if not pid:
        try:
            answer.write_text(json.dumps(differences(folder / f"{run.method}_whole", run.workdir)))
        except BaseException as error:
            answer.write_text(json.dumps([f"could not be compared: {error!r}"]))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    found = json.loads(answer.read_text())
    report.runs += 1
    report.differences += [f"{run.workdir.name}: {line}" for line in found]
    print(
        f"{run.workdir.name}: {run.signals} signals, {len(found)} differences; {report.kills()} "
        f"kills so far",
        flush=True,
    )
    if not found:
        shutil.rmtree(run.workdir)


def differences(whole: pathlib.Path, disturbed: pathlib.Path) -> list[str]:
    """Says in sentences how a disturbed run differs from the undisturbed one."""
    if not (disturbed / "results.json").exists():
        return [f"it did not finish: {disturbed.with_suffix('.log').read_text()[-500:]}"]
    found = []
    for network in NETWORKS:
        for name in ("metrics.jsonl", "examples.jsonl"):
            expected, lines = (read_lines(run / network / name) for run in (whole, disturbed))
            if expected != lines:
                place = next(
                    (
                        i
                        for i, pair in enumerate(zip(expected, lines, strict=False))
                        if pair[0] != pair[1]
                    ),
                    "the end",
                )
                found.append(
                    f"{network}/{name} differs at line {place}: {len(expected)} and {len(lines)} "
                    f"lines"
                )
        expected, arrays = (
            read_checkpoints(run / network / "checkpoints") for run in (whole, disturbed)
        )
        found += [
            f"{network}/checkpoints/{name} differs"
            for name in sorted(expected.keys() | arrays.keys())
            if name not in expected or name not in arrays or expected[name] != arrays[name]
        ]
    for name in ("student/gradients.json", "config.json", "data.json"):
        expected, values = (json.loads((run / name).read_text()) for run in (whole, disturbed))
        if expected != values:
            found.append(f"{name} differs")
    expected, values = (
        json.loads((run / "results.json").read_text())["networks"] for run in (whole, disturbed)
    )
    if {name: entry["scores"] for name, entry in expected.items()} != {
        name: entry["scores"] for name, entry in values.items()
    }:
        found.append("the scores in results.json differ")
    expected, names = (paths(run) for run in (whole, disturbed))
    found += [f"{name} was left behind" for name in sorted(names - expected)]
    found += [f"{name} is missing" for name in sorted(expected - names)]
    return found


def paths(run: pathlib.Path) -> set[str]:
    """Lists a run's files and folders; random names count as one."""
    found = set()
    for path in run.rglob("*"):
        name = path.relative_to(run).as_posix()
        drawn = DRAWN.fullmatch(name)
        found.add(drawn[1] or drawn[2] if drawn else name)
    return found


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads a log's lines without their timings."""
    lines = map(json.loads, path.read_text().splitlines())
    return [
        {name: value for name, value in line.items() if not name.endswith(TIMINGS)}
        for line in lines
    ]


def read_checkpoints(directory: pathlib.Path) -> dict[str, Any]:
    """Reads kept checkpoints, as (step, path) -> the array's bytes, and the scores."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    found = {}
    for step in sorted(entry for entry in directory.iterdir() if entry.name.isdigit()):
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            shapes = checkpointer.metadata(step / "state").item_metadata.tree
            # The checkpoint may come from other devices.
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            tree = checkpointer.restore(step / "state", restore_args=as_numpy)
        for path, leaf in jax.tree.leaves_with_path(tree):
            found[f"{step.name}{jax.tree_util.keystr(path)}"] = np.asarray(leaf).tobytes()
        scores = step / "metrics" / "metrics"
        found[f"{step.name} scores"] = scores.read_text() if scores.exists() else None
    return found


def set_environment(folder: pathlib.Path) -> None:
    """Sets one CPU device per process, and a cache for compiled programs.

    It must be called before JAX is imported.
    """
    os.environ.update(
        JAX_PLATFORMS="cpu",
        JAX_NUM_CPU_DEVICES="1",
        JAX_COMPILATION_CACHE_DIR=str(folder / "compiled"),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",
        TF_CPP_MIN_LOG_LEVEL="2",
        PYTHONPATH=str(REPOSITORY),
    )
    os.chdir(REPOSITORY)


def preload() -> None:
    """Imports once what a run imports, and starts nothing."""
    import importlib

    names = [
        "launch",
        "tensorflow",
        "tensorflow_datasets",
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
    ]
    names += [f"kdpose_jax.experiment.{name}" for name in ("pipeline", "training")]
    names += [f"kdpose_jax.methods.{name}.method" for name in ("supervised", *METHODS)]
    names += [
        "kdpose_jax.data.sequences",
        "kdpose_jax.data.persons",
        "kdpose_jax.evaluate.protocols.pose3d",
        "kdpose_jax.evaluate.protocols.mpii",
    ]
    for name in names:
        importlib.import_module(name)


def free_port() -> int:
    """Returns a port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
