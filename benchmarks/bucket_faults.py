"""Compares a run in a bucket, through a bad network and kills, with a run on a disk.

  python -m benchmarks.bucket_faults [--rate 0.05] [--kills 4] [--seed 0]

Converts, trains, evaluates and reports a tiny experiment twice: on the disk, undisturbed, and in a
bucket. A service on this machine holds the bucket (tests/support/bucket.py). The real clients talk
to it through faults of a given rate. The second training is killed (SIGKILL) at requests that
write, and started again by the same command. Then everything is compared, bit by bit. Needs
requirements-dev.txt.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "support")]

import jax  # noqa: E402
import numpy as np  # noqa: E402
import orbax.checkpoint as ocp  # noqa: E402
from bucket import BucketService, bucket_service  # noqa: E402
from launching import TINY  # noqa: E402

RECORDS = (
    "-m",
    "data_prep.convert",
    "synthetic",
    "--train-subjects=1",
    "--test-subjects=1",
    "--takes=1",
    "--frames=60",
    "--workers=1",
)
TRAIN = ("launch.py", "--config", "configs/scjd.py", "--config.baseline=False", *TINY)
EVALUATE = ("launch.py", "--mode", "eval")
NETWORKS = ("teacher", "student")
BUCKET = "bucket"
# The entries in a line of metrics.jsonl that do not depend on time.
TIMED = ("_per_second", "_seconds")


def start(command: tuple[str, ...], environment: dict[str, str]) -> subprocess.Popen:
    """Starts a command of the program as a user would."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(command: tuple[str, ...], environment: dict[str, str]) -> None:
    """Runs a command to its end, which must be successful."""
    process = start(command, environment)
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said[-3000:]}")


def experiment(place: str, environment: dict[str, str]) -> list[tuple[str, ...]]:
    """Converts an experiment's data, and returns its training and evaluation commands."""
    finish((*RECORDS, f"--out={place}/records"), environment)
    training = (*TRAIN, f"--config.data.records={place}/records", "--workdir", f"{place}/run")
    return [
        training,
        (*EVALUATE, "--checkpoint", f"{place}/run/student", "--workdir", f"{place}/eval"),
    ]


def train_and_kill(
    service: BucketService,
    command: tuple[str, ...],
    environment: dict[str, str],
    kills: int,
    seed: int,
    folder: pathlib.Path,
) -> tuple[int, int]:
    """Trains to the end through kills.

    Returns:
      The number of kills, and the number of half-written things that counted as whole after one.
    """
    generator, killed, taken_for_whole = random.Random(seed), 0, 0
    while True:
        process = start(command, environment)
        if killed < kills:
            service.kill_after(process.pid, generator.randint(20, 160))
        _, said = process.communicate()
        if process.returncode == 0:
            return killed, taken_for_whole
        if process.returncode > 0:
            raise SystemExit(f"training ended with {process.returncode}: {said[-3000:]}")
        killed += 1
        taken_for_whole += halves(service.save(BUCKET, folder / f"after_kill_{killed}"))


def halves(folder: pathlib.Path) -> int:
    """Counts files, and checkpoints marked as whole, that cannot be read."""
    bad = 0
    for path in [*folder.rglob("*.json"), *folder.rglob("metrics.jsonl")]:
        try:
            for text in (
                path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            ):
                json.loads(text)
        except ValueError:
            bad += 1
    for mark in folder.rglob("checkpoints/*/commit_success.txt"):
        try:
            arrays(mark.parent)
        except Exception:
            bad += 1
    return bad


def arrays(step: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a checkpoint's arrays: parameters, averages, the optimiser's state, the step."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(step / "state")
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(restored)
    }


def compare(disk: pathlib.Path, bucket: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Returns what was compared -> (number of things, number that differ)."""
    records = [
        (path.read_bytes(), (bucket / "records" / path.name).read_bytes())
        for path in sorted((disk / "records").iterdir())
    ]
    parameters, lines, numbers = [], [], []
    for name in NETWORKS:
        runs = [place / "run" / name for place in (disk, bucket)]
        steps = [sorted(int(path.name) for path in (run / "checkpoints").iterdir()) for run in runs]
        parameters.append(tuple(np.asarray(one) for one in steps))
        first, second = (arrays(run / "checkpoints" / str(max(steps[0]))) for run in runs)
        parameters += [(first[key], second[key]) for key in first]
        logs = [
            list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines())) for run in runs
        ]
        plain = [
            [{key: line[key] for key in line if not key.endswith(TIMED)} for line in log]
            for log in logs
        ]
        lines += list(zip(*plain, strict=True))
    for file in ("run/results.json", "eval/eval/results.json"):
        both = [json.loads((place / file).read_text())["networks"] for place in (disk, bucket)]
        numbers += [(both[0][name]["scores"], both[1][name]["scores"]) for name in both[0]]
    found = {"files of records": records, "lines of metrics": lines, "networks' scores": numbers}
    counted = {
        what: (len(pairs), sum(one != other for one, other in pairs))
        for what, pairs in found.items()
    }
    differing = sum(not np.array_equal(one, other) for one, other in parameters)
    return {**counted, "arrays of the last checkpoints": (len(parameters), differing)}


def main() -> None:
    """Runs both experiments and prints the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rate", type=float, default=0.05, help="share of requests that a fault befalls"
    )
    parser.add_argument("--kills", type=int, default=4, help="how often training is killed")
    parser.add_argument("--seed", type=int, default=0, help="of faults and kills")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        # A program is compiled once, however often the run starts.
        cache = {
            "JAX_COMPILATION_CACHE_DIR": f"{name}/cache",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        alone = {**os.environ, **cache, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
        for command in experiment(str(folder / "disk"), alone):
            finish(command, alone)
        print("on the disk: done", flush=True)
        with bucket_service(folder, fault_rate=asked.rate, seed=asked.seed) as (
            service,
            environment,
        ):
            service.make(BUCKET)
            connected = {**alone, **environment}
            training, evaluation = experiment(f"gs://{BUCKET}", connected)
            killed, taken_for_whole = train_and_kill(
                service, training, connected, asked.kills, asked.seed, folder
            )
            finish(evaluation, connected)
            counts, bucket = service.counts(), service.save(BUCKET, folder / BUCKET)
        faults = counts["faults"]
        print(
            f"in the bucket: {counts['requests']:,} requests, {counts['writes']:,} of them write; "
            f"killed {killed} times"
        )
        print(
            f"faults: {sum(faults.values())} "
            f"({', '.join(f'{kind} {faults[kind]}' for kind in sorted(faults))})"
        )
        print(
            f"retries: {counts['retries']}; of the other faults slow ones need none, and a killed "
            f"process makes none"
        )
        print(f"half-written and taken for whole after a kill: {taken_for_whole}")
        for what, (count, differing) in compare(folder / "disk", bucket).items():
            print(f"{what}: {count} compared, {differing} differ")


if __name__ == "__main__":
    main()
