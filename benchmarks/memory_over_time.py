"""Measures whether a long run's memory stays flat.

  python -m benchmarks.memory_over_time [--steps 20000] [--every 1000] [--workdir DIR]

A tiny network takes 20,000 steps, and is logged, saved and evaluated on the way. Prints resident
memory, live jax arrays and their bytes, threads and open files at intervals, then how much each has
grown since the first fifth of the run, by when caches are full. Exits with 1 if memory grew by more
than 5 % or anything else by more than a handful.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time
from unittest import mock

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
WARM = 0.2  # share of the run
MOST_GROWTH = {
    "MB resident": 1.05,
    "live arrays": 1.01,
    "MB in them": 1.01,
    "threads": 1.2,
    "open files": 1.2,
}


def main() -> int:
    """Trains and measures; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=1_000, help="steps between two measurements")
    parser.add_argument(
        "--workdir", default="", help="default: a temporary folder, deleted in the end"
    )
    options = parser.parse_args()
    folder = pathlib.Path(options.workdir or tempfile.mkdtemp(prefix="kdpose_memory_"))
    os.chdir(REPOSITORY)
    table: list[dict[str, float]] = []
    train(folder, options.steps, options.every, table)
    if not options.workdir:
        shutil.rmtree(folder)
    return judge(table, options.steps)


def train(folder: pathlib.Path, steps: int, every: int, table: list[dict[str, float]]) -> None:
    """Trains the small SCJD experiment's teacher, and measures at every evaluation.

    It stops after `steps` steps.
    """
    import launch
    from kdpose_jax.experiment import pipeline, training

    examples = 336  # windows in the small experiment, with mirrored ones
    epochs = 8 / examples  # for one step
    quick = training.quick_evaluation

    def measured(*arguments):
        evaluate, started = quick(*arguments), time.monotonic()

        def evaluate_and_measure(current):
            scores = evaluate(current)
            table.append(
                {"step": int(current.step), "seconds": time.monotonic() - started, **measure()}
            )
            print(
                "  ".join(f"{name} {value:,.0f}" for name, value in table[-1].items()), flush=True
            )
            return scores

        return evaluate_and_measure

    arguments = [
        "launch.py",
        "--config",
        "benchmarks/chaos_config.py:scjd",
        "--workdir",
        str(folder / "run"),
        f"--config.teacher.train.epochs={steps * epochs}",
        f"--config.teacher.train.evaluate_every_epochs={every * epochs}",
        "--config.teacher.train.log_every_steps=50",
        "--config.teacher.train.save_every_steps=500",
        "--config.baseline=False",
    ]
    with (
        mock.patch.object(training, "quick_evaluation", measured),
        mock.patch.object(pipeline, "evaluate_once", stop_here),
    ):
        try:
            sys.argv = arguments  # ml_collections looks there for --config.FIELD
            launch.main(arguments)
        except Measured:
            pass


class Measured(Exception):
    """Ends the experiment when the teacher is trained."""


def stop_here(*arguments):
    raise Measured


def measure() -> dict[str, float]:
    """Measures what the process holds."""
    import jax

    arrays = jax.live_arrays()
    resident = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )
    return {
        "MB resident": resident / 1e6,
        "live arrays": len(arrays),
        "MB in them": sum(
            array.nbytes
            for array in arrays
            if not jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
        )
        / 1e6,
        "threads": threading.active_count(),
        "open files": len(os.listdir("/proc/self/fd")),
    }


def judge(table: list[dict[str, float]], steps: int) -> int:
    """Prints how much each measure has grown; returns the exit code."""
    warm = [row for row in table if row["step"] >= WARM * steps]
    if len(warm) < 2:
        print("too few measurements: more --steps, or fewer between two")
        return 1
    half = len(warm) // 2
    grown = False
    for name, most in MOST_GROWTH.items():
        early, late = (max(row[name] for row in rows) for rows in (warm[:half], warm[half:]))
        grown |= late > most * early
        print(f"{name}: {early:,.1f} in the first half after warming up, {late:,.1f} in the second")
    print("memory grows" if grown else "memory is flat")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
