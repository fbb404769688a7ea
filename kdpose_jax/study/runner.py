"""Trains the runs of a study, one launcher command each, and puts them into one table and one
picture.

  python -m kdpose_jax.study.runner configs/studies/NAME.py[:OPTION=VALUE,...]
      [--out runs/studies/NAME] [--seeds 0,1,2] [--jobs 1] [--only RUN,RUN] [--config.FIELD=VALUE
      ...]

NAME alone stands for a study of this program. `kdpose study` is the same command.

Fields go to every run. Interrupted, or with more seeds, the same command goes on: what is done is
not done again. `--jobs 2` has two runs at a time on halves of the cores, or of a GPU's memory; a
TPU takes one. Leaves study.md, study.json and study.png, made anew after every run, and RUN/seed_N
with the launcher's files and log.

Exit codes: 0 done; 1 some run failed, which is named; 2 a mistake; 75 and 130 stopped, with all
  work saved.
"""

import argparse
import contextlib
import dataclasses
import importlib.machinery
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence

from kdpose_jax import buckets, entry, files, presets
from kdpose_jax.errors import EXIT_CODES, UserError
from kdpose_jax.folders import WorkFolder
from kdpose_jax.report import results
from kdpose_jax.study.declare import Comparison, Of, Run, Study
from kdpose_jax.untrusted.documents import load_json

LAUNCHER = (sys.executable, "-m", "kdpose_jax.command", "train")
SECONDS_BETWEEN_LOOKS = 0.2


@dataclasses.dataclass(frozen=True)
class Job:
    """One run with one seed.

    Attributes:
      run: of the study.
      seed: its seed.
      workdir: of the launcher.
      command: words of the launcher's command line, the work directory left out.
      needs: jobs that must be done before, as (run, seed).
    """

    run: str
    seed: int
    workdir: pathlib.Path
    command: tuple[str, ...]
    needs: tuple[tuple[str, int], ...]

    @property
    def key(self) -> tuple[str, int]:
        return self.run, self.seed

    @property
    def title(self) -> str:
        return f"{self.run}, seed {self.seed}"

    @property
    def log(self) -> pathlib.Path:
        return self.workdir.with_suffix(".log")

    @property
    def note(self) -> pathlib.Path:
        """What was run."""
        return self.workdir.with_suffix(".json")

    @property
    def results(self) -> pathlib.Path:
        """The launcher writes it last."""
        return pathlib.Path(WorkFolder(self.workdir).results)

    def last_words(self) -> str:
        """The last line that the launcher printed."""
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        return next(
            (line.strip() for line in reversed(lines) if line.strip()), "it printed nothing"
        )


def main(words: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    try:
        options, fields = parse(words)
        study = chosen_seeds(load(options.study), options.seeds)
        study.check()
        out = folder(options.out or f"runs/studies/{study.name}")
        jobs = plan(study, out, fields, options.only)
        with files.held(out, print, below=[run.name for run in study.runs]):
            refuse_other_commands(out, jobs)
            return Runner(study, out, jobs, options.jobs).run()
    except Exception as error:
        return entry.tell(error)
    except KeyboardInterrupt:  # before the first run, or between two
        print("stopped: run the same command again to go on", file=sys.stderr)
        return EXIT_CODES[signal.SIGINT]


def chosen_seeds(study: Study, seeds: Sequence[int]) -> Study:
    """The study with the seeds of the command line; its own where there are none.

    Raises:
      UserError: they begin with another, whose runs make what the others share.
    """
    if not seeds:
        return study
    if seeds[0] != study.seeds[0]:
        raise UserError(
            f"--seeds begins with {seeds[0]}: begin with {study.seeds[0]}, whose runs make what "
            f"the others share."
        )
    return dataclasses.replace(study, seeds=tuple(seeds))


def folder(text: str) -> pathlib.Path:
    """Where the study is written.

    Raises:
      UserError: in a bucket, which can be neither locked nor written to by runs that are watched
        from here.
    """
    path = files.absolute(text)
    if buckets.is_bucket(path):
        raise UserError(
            f"--out is '{text}': use a folder of a disk; records and teachers may lie in a bucket."
        )
    return pathlib.Path(path)


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """The options, and the fields that are given to every run.

    Raises:
      UserError: a word that is neither.
    """
    plain = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m kdpose_jax.study.runner", description=__doc__, formatter_class=plain
    )
    parser.add_argument("study", help="a file of configs/studies, with :OPTION=VALUE behind it")
    parser.add_argument(
        "--out", default="", help="where everything is written (default: runs/studies/NAME)"
    )
    parser.add_argument(
        "--seeds", type=numbers, default=(), help="such as 0,1,2 (default: the study's)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(",")),
        default=(),
        help="names of runs, and what they need",
    )
    options, others = parser.parse_known_args(words)
    fields = {}
    for word in others:
        name, equals, value = word.partition("=")
        if not name.startswith("--config.") or not equals:
            raise UserError(
                f"'{word}' is not an option: write --config.FIELD=VALUE for a field of every run, "
                f"or see --help."
            )
        fields[name.removeprefix("--config.")] = value
    cores = results.host_cores()
    if not 1 <= options.jobs <= cores:
        raise UserError(
            f"--jobs is {options.jobs}, and this machine has {cores} cores: use 1 to {cores}."
        )
    return options, fields


def numbers(text: str) -> tuple[int, ...]:
    """Seeds of the command line."""
    return tuple(int(word) for word in text.split(","))


def load(text: str) -> Study:
    """The study behind `configs/studies/NAME.py[:OPTION=VALUE,...]`.

    Raises:
      UserError: there is no such file, or it declares no study.
    """
    path, _, chosen = presets.resolve(files.home_filled_in(text), "studies").partition(":")
    if not pathlib.Path(path).is_file():
        known = ", ".join(presets.names("studies"))
        raise UserError(f"There is no study '{path}': use one of {known}, or the path of your own.")
    loader = importlib.machinery.SourceFileLoader("study_of_the_command_line", path)
    module = types.ModuleType(loader.name)
    try:
        loader.exec_module(module)
    except (SyntaxError, ImportError, ValueError) as error:
        raise UserError(
            f"'{path}' is no study ({' '.join(str(error).split())}): use a file of configs/studies."
        ) from error
    if not hasattr(module, "get_study"):
        raise UserError(
            f"'{path}' declares no study (a function get_study): use a file of configs/studies."
        )
    return module.get_study(chosen)


def plan(study: Study, out: pathlib.Path, fields: dict[str, str], only: Sequence[str]) -> list[Job]:
    """The jobs in the order in which they start: the first seed of all runs, then the next, so that
    a table is there early.

    Args:
      study: which is whole.
      out: the study's folder.
      fields: of every run, before its own.
      only: names of runs; empty: all.

    Raises:
      UserError: `only` names no run, or a field of the user's is what the study varies.
    """
    varied = {
        name
        for run in study.runs
        for name in run.fields
        if len({str(other.fields.get(name)) for other in study.runs}) > 1
    }
    for name in sorted(fields.keys() & (varied | {"seed", "baseline", *study.fixed})):
        raise UserError(
            f"--config.{name} is not the same in all runs of '{study.name}', which sets it "
            f"itself: leave it out."
        )
    names = [run.name for run in study.runs]
    for name in only:
        if name not in names:
            raise UserError(
                f"--only names '{name}', which is no run of '{study.name}': use some of "
                f"{', '.join(names)}."
            )
    jobs = {
        (run.name, seed): job(study, run, seed, out, fields)
        for run in study.runs
        for seed in study.seeds
    }
    wanted = [key for key in jobs if not only or key[0] in only]
    for key in wanted:  # grows while it is walked
        wanted += [need for need in jobs[key].needs if need not in wanted]
    return sorted(
        (jobs[key] for key in wanted),
        key=lambda job: (study.seeds.index(job.seed), names.index(job.run)),
    )


def job(study: Study, run: Run, seed: int, out: pathlib.Path, fields: dict[str, str]) -> Job:
    """One job; what the user gives goes before what all runs of the study have."""
    first, given, needs = study.seeds[0], {"seed": str(seed)}, []
    for name, value in run.fields.items():
        if name in fields:
            continue
        if not isinstance(value, Of):
            given[name] = str(value)
        elif (value.run, first) != (run.name, seed):
            needs.append((value.run, first))
            given[name] = str(out / value.run / f"seed_{first}" / value.path)
    command = (
        "--config",
        run.config,
        *(f"--config.{name}={value}" for name, value in {**given, **fields}.items()),
    )
    return Job(run.name, seed, out / run.name / f"seed_{seed}", command, tuple(needs))


def refuse_other_commands(out: pathlib.Path, jobs: Sequence[Job]) -> None:
    """Checks that the runs that were begun in a folder are those of this command.

    Raises:
      UserError: they are of another, or the file that says so is damaged.
    """
    for one in jobs:
        # Which the launcher writes when it has found everything right.
        if not WorkFolder(one.workdir).config.exists():
            continue
        try:
            known, words = load_json(one.note)["command"], list(one.command)
            changed = sorted({*known} ^ {*words})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"'{one.note}' is damaged ({error}): use another --out, or delete '{one.workdir}' "
                f"too."
            ) from error
        if known != words:
            raise UserError(
                f"'{out}' holds {one.title} of another command ({'; '.join(changed[:4])}): use "
                f"another --out, or that command."
            )


class Runner:
    """Runs jobs side by side.

    Args:
      study: of the table.
      out: the study's folder.
      jobs: in the order in which they start.
      side_by_side: jobs at a time.
    """

    def __init__(self, study: Study, out: pathlib.Path, jobs: Sequence[Job], side_by_side: int):
        self.study, self.out, self.jobs = study, out, jobs
        self.done = {job.key for job in jobs if job.results.exists()}
        self.failed: dict[tuple[str, int], int] = {}
        self.active: dict[Job, tuple[subprocess.Popen, float, set[int]]] = {}
        self.side_by_side, self.slots = side_by_side, shares(side_by_side)
        self.stopped_by = 0

    def run(self) -> int:
        """Runs all, writes the table after each; returns the exit code."""
        self.write()  # finds a damaged result before an hour is spent
        print(
            f"{self.study.title}: {len(self.jobs)} runs, {len(self.done)} done, in {self.out}",
            flush=True,
        )
        with stopping(self.stop):
            try:
                while self.active or (not self.stopped_by and self.next() is not None):
                    while (
                        not self.stopped_by
                        and self.slots
                        and (following := self.next()) is not None
                    ):
                        self.start(following)
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    for running in [
                        job
                        for job, (process, _, _) in self.active.items()
                        if process.poll() is not None
                    ]:
                        self.finish(running)
            finally:
                for process, _, _ in self.active.values():  # none, unless something went wrong here
                    process.send_signal(signal.SIGTERM)
                    process.wait()
        self.write()
        print((self.out / "study.md").read_text())
        print(f"study.md, study.json and study.png are in {self.out}")
        for one in self.jobs:
            if one.key in self.failed:
                said = f"{one.title} ended with code {self.failed[one.key]}: {one.last_words()}"
                print(f"error: {said} (all of it: {one.log})", file=sys.stderr)
        if self.stopped_by:
            print("stopped: run the same command again to go on", file=sys.stderr)
            return EXIT_CODES[self.stopped_by]
        return entry.MISTAKE if self.in_vain() else min(1, len(self.failed))

    def in_vain(self) -> bool:
        """Whether the first run of all was refused.

        For a mistake of the user's, which the others would repeat.
        """
        return not self.done and entry.MISTAKE in self.failed.values()

    def next(self) -> Job | None:
        """The first job that can start."""
        if self.in_vain():
            return None
        busy = self.done | self.failed.keys() | {job.key for job in self.active}
        return next(
            (job for job in self.jobs if job.key not in busy and self.done.issuperset(job.needs)),
            None,
        )

    def start(self, one: Job) -> None:
        """Starts a job on the next free cores."""
        one.workdir.parent.mkdir(parents=True, exist_ok=True)
        cores = self.slots.pop(0)
        command = [*LAUNCHER, *absolute(one.command), "--workdir", str(one.workdir)]
        files.write_atomically(one.note, json.dumps({"command": one.command}, indent=1).encode())
        # Or the last line of a failure would be about filtering.
        environment = {**os.environ, "JAX_TRACEBACK_FILTERING": "off"}
        if self.side_by_side > 1:
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / self.side_by_side:.2f}"
        with open(one.log, "ab") as log, on_cores(cores):
            # A session of its own: Ctrl-C comes to the study, which passes it on.
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self.active[one] = process, time.monotonic(), cores
        if self.stopped_by:  # meanwhile
            process.send_signal(as_the_launcher_knows(self.stopped_by))
        print(
            f"{len(self.done) + len(self.active)}/{len(self.jobs)}  {one.title}: started, log in "
            f"{one.log}",
            flush=True,
        )

    def finish(self, one: Job) -> None:
        """Takes note of how a job ended."""
        process, started, cores = self.active.pop(one)
        self.slots.append(cores)
        minutes = (time.monotonic() - started) / 60
        if process.returncode == 0 and one.results.exists():
            self.done.add(one.key)
            self.write()
            print(f"{one.title}: done in {minutes:.1f} min", flush=True)
        elif not (self.stopped_by and process.returncode in EXIT_CODES.values()):
            self.failed[one.key] = process.returncode
            print(
                f"{one.title}: ended with code {process.returncode} after {minutes:.1f} min: "
                f"{one.last_words()}",
                flush=True,
            )

    def stop(self, number: int) -> None:
        """Passes a request to stop on.

        The launcher saves and ends, and after a second Ctrl-C ends at once.
        """
        if not self.stopped_by:
            print("stopping: the runs save their work", file=sys.stderr, flush=True)
        self.stopped_by = self.stopped_by or number
        for process, _, _ in self.active.values():
            process.send_signal(as_the_launcher_knows(number))

    def write(self) -> None:
        """Table and picture of the runs that are done, by this command or an earlier one."""
        every = [(run.name, seed) for run in self.study.runs for seed in self.study.seeds]
        paths = {key: self.out / key[0] / f"seed_{key[1]}" for key in every}
        stored = {key: pathlib.Path(WorkFolder(path).results) for key, path in paths.items()}
        documents = {
            key: results.read_results(path) for key, path in stored.items() if path.exists()
        }
        comparison = Comparison(self.study, documents)
        files.write_atomically(
            self.out / "study.json", (json.dumps(comparison.as_dict(), indent=1) + "\n").encode()
        )
        files.write_atomically(self.out / "study.md", comparison.markdown().encode())
        comparison.draw(self.out / "study.png")


def as_the_launcher_knows(number: int) -> int:
    """The signal that is passed on: the launcher saves at SIGTERM and Ctrl-C."""
    return signal.SIGINT if number == signal.SIGINT else signal.SIGTERM


def with_path(config: str) -> str:
    """The config `configs/NAME.py:TEXT` of a study, found from any folder."""
    place = presets.folder()
    return str(place.parent / config) if place is not None else config


def absolute(command: Sequence[str]) -> Iterator[str]:
    """The command with the config file found from any folder."""
    for before, word in zip(("", *command), command, strict=False):
        yield with_path(word) if before == "--config" else word


def shares(count: int) -> list[set[int]]:
    """The cores of this process in so many parts of one size.

    Empty where there is one part, or a system that pins nothing.
    """
    if count == 1 or not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(count)]
    mine = sorted(os.sched_getaffinity(0))
    each = len(mine) // count
    return [set(mine[each * part : each * (part + 1)]) for part in range(count)]


@contextlib.contextmanager
def on_cores(chosen: set[int]) -> Iterator[None]:
    """Has what is started meanwhile run on these cores.

    Two XLA programs that share cores are slower than one after the other.
    """
    if not chosen:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def stopping(stop: Callable[[int], None]) -> Iterator[None]:
    """Calls `stop` with the signal where the process is told to end."""
    # Nohup has closed terminals ignored.
    heard = [number for number in EXIT_CODES if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: stop(number)) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
