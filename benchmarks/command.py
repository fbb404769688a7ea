"""The frame of a benchmark's command: its options, its table and its JSON file."""

import argparse
import dataclasses
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks import machine, turns
from kdpose_jax import entry
from kdpose_jax.errors import UserError
from kdpose_jax.report import results

RESULTS = pathlib.Path(__file__).parent / "results"  # git ignores it
SECONDS = 0.5  # the least length of a turn


class Column(NamedTuple):
    """A column of a table: its title, and what writes a row's cell."""

    title: str
    cell: Callable[[dict[str, Any]], str]


@dataclasses.dataclass(frozen=True)
class Command:
    """One benchmark.

    Attributes:
      name: names its file of results.
      about: the text of its help.
      cases: (options) -> the rows, in the table's order.
      columns: (options) -> the columns between the case's name and the load.
      measure: (case, options) -> the row's record.
      in_turns: whether rows are pairs of turns, whose number --pairs sets.
      beside_peers: whether --peers adds the PyTorch references.
      add_options: adds the options that only this benchmark has.
      precision: the type that the measured networks compute in.
      below: (rows) -> lines to print below the table.
    """

    name: str
    about: str
    cases: Callable[[argparse.Namespace], Sequence[Any]]
    columns: Callable[[argparse.Namespace], Sequence[Column]]
    measure: Callable[[Any, argparse.Namespace], dict[str, Any]]
    in_turns: bool = True
    beside_peers: bool = False
    add_options: Callable[[argparse.ArgumentParser], object] = lambda parser: None
    precision: str = "float32"
    below: Callable[[Sequence[dict[str, Any]]], Iterable[str]] = lambda rows: ()

    def run(self, arguments: Sequence[str]) -> int:
        """Runs the command line.

        Returns:
          The exit code: 0, 1 if a row failed, or 2 after a user's mistake.
        """
        try:
            rows = self._run(self._parse(arguments))
        except Exception as error:
            return entry.tell(error)
        return int(any("failed" in row for row in rows))

    def _parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{self.name}",
            description=self.about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "--out",
            type=pathlib.Path,
            metavar="FILE",
            default=RESULTS / f"{self.name}.json",
            help="the JSON file to write (default %(default)s)",
        )
        parser.add_argument(
            "--only", default="", metavar="REGEX", help="measure the cases that it is found in"
        )
        parser.add_argument(
            "--threads",
            type=int,
            metavar="N",
            help="cores to keep to, for JAX and for what it is compared with (default: all)",
        )
        parser.set_defaults(peers=None)
        if self.in_turns:
            parser.add_argument(
                "--pairs",
                type=int,
                default=7,
                metavar="N",
                help="pairs of turns (default %(default)s)",
            )
        if self.beside_peers:
            parser.add_argument(
                "--peers",
                type=pathlib.Path,
                metavar="DIR",
                help="folder with checkouts of the PyTorch references, to take turns with: "
                "docs/running/benchmarks.md#beside-the-pytorch-references",
            )
        self.add_options(parser)
        options = parser.parse_args(arguments)
        if self.in_turns and options.pairs < 1:
            raise UserError(f"--pairs is {options.pairs}: use at least 1.")
        if options.peers is not None and not options.peers.is_dir():
            raise UserError(f"--peers '{options.peers}' is not a folder: clone the references.")
        return options

    def _run(self, options: argparse.Namespace) -> list[dict[str, Any]]:
        """Measures the chosen cases, and prints, writes and returns each row when it is there."""
        if options.threads is not None:
            machine.limit_cores(options.threads)
        if options.peers is not None:
            from benchmarks import peers  # imports PyTorch

            peers.prepare(results.host_cores())
        chosen = choose(self.cases(options), options.only)
        columns = self.columns(options)
        report = described(self, options)
        print(heading(report), flush=True)
        for line in table_head([column.title for column in columns]):
            print(line, flush=True)
        for case in chosen:
            row = self.measure(case, options)
            add_roofline(row, report["roofline"])
            report["rows"].append(row)
            print(table_row(row, columns), flush=True)
            write(options.out, report)
        for line in self.below(report["rows"]):
            print(line, flush=True)
        print(f"\nwritten to {options.out}", flush=True)
        return report["rows"]


def choose(cases: Iterable[Any], only: str) -> list[Any]:
    """Picks the cases in whose name the expression is found.

    Raises:
      UserError: it is not an expression, or it is found in none.
    """
    cases = list(cases)
    try:
        chosen = [case for case in cases if re.search(only, case.name)]
    except re.error as error:
        raise UserError(f"--only '{only}' is not a regular expression: {error}.") from None
    if not chosen:
        names = ", ".join(f"'{case.name}'" for case in cases)
        raise UserError(f"--only '{only}' is found in no case: the cases are {names}.")
    return chosen


def described(command: Command, options: argparse.Namespace) -> dict[str, Any]:
    """Describes the run: command, commit, versions and machine, with no rows yet."""
    with machine.Watch() as watch:
        roofline = machine.roofline()
    chosen = {
        key: str(value) if value is not None else None for key, value in vars(options).items()
    }
    return {
        "benchmark": command.name,
        "options": chosen,
        **results.fingerprint(command.precision, {}),
        "processor": machine.processor(),
        "roofline": {**dataclasses.asdict(roofline), "others": watch.others},
        "rows": [],
    }


def heading(report: dict[str, Any]) -> str:
    """Writes the line above a table: machine, roofline and commit."""
    roofline, changed = report["roofline"], report["uncommitted_changes"]
    load = machine.disturbance(roofline["others"])
    versions, commit = report["versions"], str(report["commit"])[:7]
    device = f"{report['device_kind']}, " if report["platform"] != "cpu" else ""
    return (
        f"{report['benchmark']}: {report['platform']}, {device}{report['processor']}, "
        f"{report['host_cores']} cores, jax {versions['jax']}, commit {commit}"
        f"{' with changes' if changed else ''}; matrix product {roofline['gflops']:,.0f} GFLOP/s "
        f"in float32, memory {roofline['gbytes']:.1f} GB/s{f'; {load}' if load else ''}\n"
    )


def add_roofline(row: dict[str, Any], roofline: dict[str, Any]) -> None:
    """Adds what a timed row reached of the machine: its rates and their shares."""
    if "ours_s" not in row:
        return
    row["per_second"] = row["examples"] / row["ours_s"]
    for counted, rate in (("flops", "gflops"), ("moved_bytes", "gbytes")):
        row[rate] = row[counted] / row["ours_s"] / 1e9
        row[f"{rate}_share"] = row[rate] / roofline[rate]


def table_head(titles: Sequence[str]) -> tuple[str, str]:
    """Writes a table's first two lines."""
    titles = ["case", *titles, "load"]
    return f"| {' | '.join(titles)} |", "|:--|" + "--:|" * (len(titles) - 2) + ":--|"


def table_row(row: dict[str, Any], columns: Sequence[Column]) -> str:
    """Writes a row. The load is empty where nothing else ran."""
    cells = ["failed" if "failed" in row else column.cell(row) for column in columns]
    return f"| {' | '.join([row['case'], *cells, machine.disturbance(row['others'])])} |"


def timed(case: turns.Case, options: argparse.Namespace) -> dict[str, Any]:
    """Measures a case by turns: `Command.measure` of most benchmarks."""
    return turns.measure(case, options.pairs, SECONDS)


def milliseconds(seconds: float | None) -> str:
    """Writes a time with three digits; "-" for none."""
    return "-" if seconds is None else f"{1000 * seconds:.{2 if seconds < 0.1 else 0}f}"


def ratio(row: dict[str, Any]) -> str:
    """Writes the median of the pairs' ratios and their range; "-" for none."""
    if row["ratio"] is None:
        return "-"
    return f"{row['ratio']:.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f})"


def reference_columns(options: argparse.Namespace) -> list[Column]:
    """Returns the columns that a table has beside the PyTorch references alone."""
    return COMPARED if options.peers is not None else []


OURS = Column("ours ms", lambda row: milliseconds(row["ours_s"]))
RATE = Column("a second", lambda row: f"{row['per_second']:,.0f} {row['unit']}")
FIRST = Column("first call s", lambda row: f"{row['first_call_s']:.1f}")
COMPUTE = Column("GFLOP/s (share)", lambda row: f"{row['gflops']:.0f} ({row['gflops_share']:.0%})")
MEMORY = Column("GB/s (share)", lambda row: f"{row['gbytes']:.2f} ({row['gbytes_share']:.0%})")
COMPUTED = [OURS, RATE, COMPUTE, FIRST]
COMPARED = [
    Column("beside", lambda row: row["beside"] or "-"),
    Column("its ms", lambda row: milliseconds(row["theirs_s"])),
    Column("ratio (lowest to highest)", ratio),
]


def write(path: pathlib.Path, report: dict[str, Any]) -> None:
    """Writes the report so far, for an interrupted run keeps its rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def main(command: Command) -> None:
    """Runs a benchmark as a program."""
    sys.exit(command.run(sys.argv[1:]))
