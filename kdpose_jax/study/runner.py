"""Trains the runs of a study, one launcher command each, and compares them in one table.

  python -m kdpose_jax.study.runner configs/studies/NAME.py[:OPTION=VALUE,...]
      [--out runs/studies/NAME] [--seeds 0,1,2] [--jobs 1] [--only RUN,RUN]
      [--config.FIELD=VALUE ...]

NAME alone stands for a study of this program. `kdpose study` is the same command.

Fields go to every run. After an interruption, or with more seeds, the same command goes on. It does
not repeat what is done. `--jobs 2` has two runs at a time, each on half of the cores or of a GPU's
memory. A TPU takes one run at a time.

It leaves study.md, study.json and study.png, which are written again after every run. RUN/seed_N
has the launcher's files and log.

Exit codes:
  0    done
  1    some run failed; it is named
  2    a mistake
  75   stopped by SIGTERM or a closed terminal, with all work saved
  130  stopped by Ctrl-C, with all work saved
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
from kdpose_jax.study.declare import Comparison, Run, Study, others_in
from kdpose_jax.untrusted.documents import load_json

LAUNCHER = (sys.executable, "-m", "kdpose_jax.command", "train")
SECONDS_BETWEEN_LOOKS = 0.2


@dataclasses.dataclass(frozen=True)
class Job:
    """One run with one seed.

    Attributes:
      run: the study's run.
      seed: the run's seed.
      workdir: the launcher's work directory.
      command: words of the launcher's command line, without the work directory.
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
        """The file that says which command was run."""
        return self.workdir.with_suffix(".json")

    @property
    def results(self) -> pathlib.Path:
        """The results, which the launcher writes last."""
        return pathlib.Path(WorkFolder(self.workdir).results)

    def last_words(self) -> str:
        """Returns the last line that the launcher printed."""
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
    except KeyboardInterrupt:  # before the first run, or between two runs
        print("stopped: run the same command again to go on", file=sys.stderr)
        return EXIT_CODES[signal.SIGINT]


def chosen_seeds(study: Study, seeds: Sequence[int]) -> Study:
    """Returns the study with the command line's seeds, or with its own if there are none.

    Raises:
      UserError: they begin with another seed than the study's. The first seed's runs make what the
        others share.
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
    """Returns the folder that the study is written into.

    Raises:
      UserError: the folder is in a bucket, which the runner can neither lock nor watch.
    """
    path = files.absolute(text)
    if buckets.is_bucket(path):
        raise UserError(
            f"--out is '{text}': use a folder of a disk; records and teachers may lie in a bucket."
        )
    return pathlib.Path(path)


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parses the options, and the fields that are given to every run.

    Raises:
      UserError: a word is neither an option nor a field.
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
    """Parses the seeds of the command line."""
    return tuple(int(word) for word in text.split(","))


def load(text: str) -> Study:
    """Loads the study of `configs/studies/NAME.py[:OPTION=VALUE,...]`.

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
    """Lists the jobs in the order in which they start.

    The first seed of all runs comes first, then the next seed. A table is thereby there early.

    Args:
      study: the study, which has passed `Study.check`.
      out: the study's folder.
      fields: fields for every run, which override the run's own.
      only: names of runs; empty for all.

    Raises:
      UserError: `only` has a name that is not a run's, or the study varies a field of the user's.
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
        for seed in study.seeds_of(run.name)
    }
    wanted = [key for key in jobs if not only or key[0] in only]
    for key in wanted:  # grows in the loop
        wanted += [need for need in jobs[key].needs if need not in wanted]
    return sorted(
        (jobs[key] for key in wanted),
        key=lambda job: (study.seeds.index(job.seed), names.index(job.run)),
    )


def job(study: Study, run: Run, seed: int, out: pathlib.Path, fields: dict[str, str]) -> Job:
    """Makes one job. The user's fields override those that all runs of the study have."""
    first, given, needs = study.seeds[0], {"seed": str(seed)}, []
    for name, value in run.fields.items():
        others = others_in(value)
        if name in fields or [(of.run, first) for of in others] == [(run.name, seed)]:
            continue
        needs += [(of.run, first) for of in others]
        paths = tuple(str(out / of.run / f"seed_{first}" / of.path) for of in others)
        given[name] = str(value if not others else paths if isinstance(value, tuple) else paths[0])
    command = (
        "--config",
        run.config,
        *(f"--config.{name}={value}" for name, value in {**given, **fields}.items()),
    )
    return Job(run.name, seed, out / run.name / f"seed_{seed}", command, tuple(needs))


def refuse_other_commands(out: pathlib.Path, jobs: Sequence[Job]) -> None:
    """Refuses a folder in which another command began its runs.

    Raises:
      UserError: another command began them, or the file that names it is damaged.
    """
    for one in jobs:
        # The launcher writes the config when all its checks have passed.
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
      study: the study.
      out: the study's folder.
      jobs: the jobs in the order in which they start.
      side_by_side: number of jobs at a time.
    """

    def __init__(self, study: Study, out: pathlib.Path, jobs: Sequence[Job], side_by_side: int):
        self.study, self.out, self.jobs = study, out, jobs
        self.done = {job.key for job in jobs if job.results.exists()}
        self.failed: dict[tuple[str, int], int] = {}
        self.active: dict[Job, tuple[subprocess.Popen, float, set[int]]] = {}
        self.side_by_side, self.slots = side_by_side, shares(side_by_side)
        self.stopped_by = 0

    def run(self) -> int:
        """Runs all jobs, writes the table after each, and returns the exit code."""
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
                for process, _, _ in self.active.values():  # empty unless an error ended the loop
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
        """Returns whether all runs would be refused, as the first one was.

        A user's mistake was the reason, and the other runs would repeat it.
        """
        return not self.done and entry.MISTAKE in self.failed.values()

    def next(self) -> Job | None:
        """Returns the first job that can start."""
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
        # Otherwise the last line of a failure would be about filtering.
        environment = {**os.environ, "JAX_TRACEBACK_FILTERING": "off"}
        if self.side_by_side > 1:
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / self.side_by_side:.2f}"
        with open(one.log, "ab") as log, on_cores(cores):
            # It has its own session, so that Ctrl-C reaches the study only, which passes it on.
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self.active[one] = process, time.monotonic(), cores
        if self.stopped_by:  # a request came during the start
            process.send_signal(as_the_launcher_knows(self.stopped_by))
        print(
            f"{len(self.done) + len(self.active)}/{len(self.jobs)}  {one.title}: started, log in "
            f"{one.log}",
            flush=True,
        )

    def finish(self, one: Job) -> None:
        """Records how a job ended."""
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
        """Passes a request to stop on to the launchers.

        A launcher saves and ends. After a second Ctrl-C it ends at once.
        """
        if not self.stopped_by:
            print("stopping: the runs save their work", file=sys.stderr, flush=True)
        self.stopped_by = self.stopped_by or number
        for process, _, _ in self.active.values():
            process.send_signal(as_the_launcher_knows(number))

    def write(self) -> None:
        """Writes table and picture of the runs that this or an earlier command has done."""
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
    """Returns the signal to pass on. The launcher saves at SIGTERM and Ctrl-C."""
    return signal.SIGINT if number == signal.SIGINT else signal.SIGTERM


def with_path(config: str) -> str:
    """Makes the path of a study's config `configs/NAME.py:TEXT` valid from any folder."""
    place = presets.folder()
    return str(place.parent / config) if place is not None else config


def absolute(command: Sequence[str]) -> Iterator[str]:
    """Makes the path of the config file in a command valid from any folder."""
    for before, word in zip(("", *command), command, strict=False):
        yield with_path(word) if before == "--config" else word


def shares(count: int) -> list[set[int]]:
    """Splits the cores of this process into parts of one size.

    Every part is empty if there is only one, or if the system cannot pin processes to cores.
    """
    if count == 1 or not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(count)]
    mine = sorted(os.sched_getaffinity(0))
    each = len(mine) // count
    return [set(mine[each * part : each * (part + 1)]) for part in range(count)]


@contextlib.contextmanager
def on_cores(chosen: set[int]) -> Iterator[None]:
    """Makes processes that are started in the block run on these cores.

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
    """Calls `stop` with the signal when the process is told to end."""
    # nohup ignores closed terminals.
    heard = [number for number in EXIT_CODES if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: stop(number)) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
