"""Raw files -> records: `python -m data_prep.convert human36m --source DIR --out DIR`, or `synthetic --out DIR`."""

import argparse
import os
import sys
from typing import Any

from data_prep import human36m, records, synthetic
from kdpose_jax.errors import UserError


def prepare(name: str, out: str, **settings: Any) -> records.Summary:
    """Converts one data set; what the command line does, for callers in Python.

    Args:
      name: "human36m" or "synthetic".
      out: folder for the records.
      **settings: keyword arguments of `human36m.convert` or `synthetic.convert`; those left out have the command line's defaults.

    Returns:
      The summary, printed as well.

    Raises:
      UserError: bad input, or `out` cannot be used.
    """
    defaults = vars(_parser().parse_args([name, "--out", out] + (["--source", ""] if name == "human36m" else [])))
    unknown = sorted(set(settings) - set(defaults))
    if unknown:
        raise UserError(f"Data set '{name}' has no setting '{unknown[0]}': the settings are {', '.join(sorted(set(defaults) - {'name'}))}.")
    arguments = defaults | settings
    convert = {"human36m": human36m.convert, "synthetic": synthetic.convert}[arguments.pop("name")]
    if arguments["workers"] < 1:
        raise UserError(f"--workers {arguments['workers']} must be at least 1.")
    summary = convert(**arguments)
    _print(summary)
    return summary


def _print(summary: records.Summary) -> None:
    if summary.seconds == 0:
        print(f"{summary.out} is complete already, from the same input and settings; nothing to do")
    for split, (count, frames) in summary.splits.items():
        print(f"{split}: {count:,} records, {frames:,} frames")
    for reason in summary.left_out:
        print(f"left out: {reason}")
    if summary.seconds:
        print(f"{summary.num_bytes / 1e6:,.1f} MB in {summary.out}, {summary.seconds:.1f} s", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep.convert", description=__doc__)
    kinds = parser.add_subparsers(dest="name", required=True, metavar="human36m | synthetic")
    files = kinds.add_parser("human36m", help="VideoPose3D's npz files, of Human3.6M or of another set")
    files.add_argument("--source", required=True, help="folder with data_3d_<name>.npz and data_2d_<name>_<keypoints>.npz")
    files.add_argument("--keypoints", default="gt", help="2D file to use, e.g. cpn_ft_h36m_dbb; gt is computed if it has no file")
    files.add_argument(
        "--cameras", dest="cameras_file", metavar="FILE", help="camera table (JSON); default: Human3.6M's, or SOURCE/cameras.json")
    files.add_argument("--test-subjects", type=_names, help="for example S9,S11 (the default for Human3.6M)")
    files.add_argument("--fps", type=float, default=50.0, help="frames per second of the files")
    generated = kinds.add_parser("synthetic", help="generated motion, needs no files")
    for name, default, text in synthetic.ARGUMENTS:
        generated.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"{text} (default {default})")
    for kind in (files, generated):
        kind.add_argument("--out", required=True, help="folder for the records")
        kind.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code: 0, or 2 after a mistake of the user's."""
    settings = vars(_parser().parse_args(arguments))
    try:
        prepare(**settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
