"""Converts raw files to records. `synthetic` and `people` generate theirs and take no --source.

  python -m data_prep.convert NAME --source DIR --out DIR
  python -m data_prep.convert NAME --help         the options of one converter

A conversion that was stopped goes on when the same command is given again. An installed package
has the same command as `kdpose convert`.

Exit codes:
  0    done
  2    a mistake or a full disk, in one sentence
  75   stopped by SIGTERM or a closed terminal
  130  stopped by Ctrl-C
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # After Ctrl-C during the imports nothing has begun, so nothing is said.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from data_prep import coco, mpii, records, synthetic  # noqa: E402
from data_prep.flags import PATHS, Number  # noqa: E402
from data_prep.human36m import convert as human36m  # noqa: E402
from data_prep.mocap import convert as mocap  # noqa: E402
from data_prep.mpi_inf_3dhp import convert as mpi_inf_3dhp  # noqa: E402
from data_prep.people import generate as people  # noqa: E402
from kdpose_jax import buckets, entry, files, presets  # noqa: E402
from kdpose_jax.errors import UserError  # noqa: E402
from kdpose_jax.train import preemption  # noqa: E402

if TYPE_CHECKING:  # contracts need jax, which takes a second to import
    from kdpose_jax.contracts import Converter

CONVERTERS: "dict[str, Converter]" = {
    "human36m": human36m,
    "mpi_inf_3dhp": mpi_inf_3dhp,
    "mocap": mocap,
    "synthetic": synthetic,
    "mpii": mpii,
    "coco": coco,
    "people": people,
}


def prepare(
    name: str, out: str, show: Callable[[str], None] = print, **settings: Any
) -> records.Summary:
    """Converts one data set for callers in Python, as the command line does.

    Args:
      name: one of CONVERTERS.
      out: folder for the records; may be in a bucket.
      show: prints one line of the summary.
      **settings: keyword arguments for its `convert`; others have the command line's defaults.

    Returns:
      The summary, which is also shown.

    Raises:
      UserError: the input is wrong, or `out` cannot be used.
    """
    arguments = check(name, settings | {"out": out})
    if "://" in arguments["out"]:
        arguments["out"] = str(files.absolute(arguments["out"]))
    buckets.check_access(arguments["out"], writes=True)
    summary = CONVERTERS[name].convert(**arguments)
    _show(summary, show)
    return summary


def check(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Checks a converter's settings, and that its folder of raw files exists if it needs one.

    Args:
      name: one of CONVERTERS.
      settings: keyword arguments for its `convert`; others have the command line's defaults.

    Returns:
      All arguments.

    Raises:
      UserError: a setting does not exist or is out of its range, or the folder does not exist.
    """
    arguments = _with_defaults(name, settings)
    if "source" not in arguments:
        return arguments
    source = arguments["source"]
    if "://" in source:
        raise UserError(
            f"--source '{source}' is not a folder of a disk, from which raw files are read: copy "
            f"it to one first."
        )
    if not os.path.isdir(source):
        raise UserError(
            f"--source '{source}' is not a folder: give the folder that holds the raw files."
        )
    return arguments


def needs_source(name: str) -> bool:
    """Tells whether a converter reads raw files; UserError if there is no such converter."""
    _require(name)
    return "--source" in options(name)


def _require(name: str) -> None:
    """Raises UserError unless there is a converter of this name."""
    if name not in CONVERTERS:
        raise UserError(f"There is no converter '{name}': use {', '.join(CONVERTERS)}.")


def expected_files(name: str, settings: dict[str, Any]) -> str:
    """Names the raw files that a converter reads, for the message that they are missing.

    Args:
      name: one of CONVERTERS.
      settings: keyword arguments for its `convert`; others have the command line's defaults.

    Returns:
      A list of files, relative to the folder that the user gives.
    """
    return CONVERTERS[name].expected_files(_with_defaults(name, settings))


def _with_defaults(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Adds the command line's defaults to the settings, and checks each setting.

    Raises:
      UserError: a setting does not exist, or is out of its range.
    """
    wanted = ["--source", ""] if needs_source(name) else []
    defaults = vars(_parser().parse_args([name, "--out", "", *wanted]))
    del defaults["name"]
    unknown = sorted(set(settings) - set(defaults))
    if unknown:
        raise UserError(
            f"Data set '{name}' has no setting '{unknown[0]}': the settings are "
            f"{', '.join(sorted(defaults))}."
        )
    checked = {}
    for option, action in options(name).items():
        if action.dest in settings:
            checked[action.dest] = _checked(option, action, settings[action.dest])
    return defaults | settings | checked


def options(name: str) -> dict[str, argparse.Action]:
    """Returns a converter's command-line options, by the word that begins with `--`."""
    return {
        action.option_strings[0]: action
        for action in _parser().kinds.choices[name]._actions
        if action.option_strings and action.dest != "help"
    }


def _checked(option: str, action: argparse.Action, value: Any) -> Any:
    """Reads a value from Python by the option's type, if that is one of this module's."""
    if isinstance(value, str) and action.metavar in PATHS:
        return files.home_filled_in(value)
    if not isinstance(action.type, Number):
        return value
    try:
        return action.type(value)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{option} {error}.") from error


class Parser(argparse.ArgumentParser):
    """Raises a user's mistake as one sentence."""

    def error(self, message: str) -> None:
        said = message.removeprefix("argument ")
        option, colon, rest = said.partition(": ")
        said = f"{option} {rest}" if colon and rest.startswith("is '") else said
        raise UserError(f"{said} (options: `{self.prog} --help`).")


def _show(summary: records.Summary, show: Callable[[str], None]) -> None:
    if summary.seconds == 0:
        show(f"{summary.out} is complete already, from the same input and settings; nothing to do")
    for split, (count, size) in summary.splits.items():
        held = (
            f"{count:,} persons"
            if summary.unit == "persons"
            else f"{count:,} records, {size:,} {summary.unit}"
        )
        which = summary.contents[split]
        show(f"{split}: {held}{f' ({which})' if which else ''}")
    for reason in summary.left_out:
        show(f"left out: {reason}")
    for note in summary.notes:
        show(f"note: {note}")
    if summary.seconds:
        show(f"{summary.num_bytes / 1e6:,.1f} MB in {summary.out}, {summary.seconds:.1f} s")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=presets.converter_command(),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.kinds = parser.add_subparsers(
        dest="name", required=True, metavar=" | ".join(CONVERTERS)
    )
    for name, converter in CONVERTERS.items():
        kind = kinds.add_parser(name, help=converter.HELP)
        converter.add_options(kind)
        kind.add_argument(
            "--out",
            required=True,
            metavar="DIR",
            help="folder for the records, or gs://BUCKET/FOLDER",
        )
        kind.add_argument(
            "--workers",
            type=Number(int, 1),
            default=os.cpu_count() or 1,
            help="processes (default: one per core)",
        )
    return parser


def main(arguments: list[str]) -> int:
    """Runs the command line and returns the exit code."""
    try:
        if arguments and not arguments[0].startswith("-"):
            _require(arguments[0])
        settings = vars(_parser().parse_args(arguments))
        with preemption.watching(f"what is finished in '{settings['out']}' is kept"):
            prepare(**settings)
    except Exception as error:
        return entry.tell(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
