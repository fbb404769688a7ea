"""Raw files -> records: `python -m data_prep.convert NAME --source DIR --out DIR`; synthetic and
people need no files.

Exit codes: 0 done; 2 a mistake, or a full disk, in one sentence; 75 stopped by SIGTERM or a closed
  terminal and 130 by Ctrl-C: the same
command goes on.
"""

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # After Ctrl-C during the imports nothing has begun, so nothing is said.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from data_prep import (  # noqa: E402
    annotations,
    coco,
    human36m,
    mpi_inf_3dhp,
    mpii,
    records,
    synthetic,
)
from data_prep.mocap import convert as mocap  # noqa: E402
from data_prep.people import generate as people  # noqa: E402
from kdpose_jax import buckets, entry, files  # noqa: E402
from kdpose_jax.errors import UserError  # noqa: E402
from kdpose_jax.train import preemption  # noqa: E402

CONVERTERS = {
    "human36m": human36m.convert,
    "mpi_inf_3dhp": mpi_inf_3dhp.convert,
    "mocap": mocap.convert,
    "synthetic": synthetic.convert,
    "mpii": mpii.convert,
    "coco": coco.convert,
    "people": people.convert,
}
WITHOUT_SOURCE = ("synthetic", "people")
FPS_RANGE = (1.0, 1000.0)  # for recordings
PATHS = ("DIR", "FILE", "PATH")  # metavars for options that name a file or a folder


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
    summary = CONVERTERS[name](**arguments)
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
    if name not in CONVERTERS:
        raise UserError(f"There is no converter '{name}': use {', '.join(CONVERTERS)}.")
    return name not in WITHOUT_SOURCE


def expected_files(name: str, settings: dict[str, Any]) -> str:
    """Names the raw files that a converter reads, for the message that they are missing.

    Args:
      name: one of CONVERTERS.
      settings: keyword arguments for its `convert`; others have the command line's defaults.

    Returns:
      A list of files, relative to the folder that the user gives.
    """
    if not needs_source(name):
        return "no files"
    used = _with_defaults(name, settings)
    if name == "human36m":
        return (
            f"data_3d_<name>.npz and data_2d_<name>_{used['keypoints']}.npz in VideoPose3D's layout"
        )
    if name == "mpi_inf_3dhp":
        names = " and ".join(mpi_inf_3dhp.NPZ_FILES.values())
        return f"S*/Seq*/annot.mat and TS*/annot_data.mat, or P-STMO's {names}"
    if name == "mocap":
        return "*.bvh files, or *.amc files beside their *.asf, in it or in folders of it"
    parts = [
        f"{used[f'{split}_annotations']} with the photographs in {used[f'{split}_images']}/"
        for split in used["splits"]
    ]
    if name == "mpii":
        boxes = used["head_boxes"] or mpii.HEAD_BOXES
        return f"{', '.join(parts)}, and {boxes} for PCKh, in HRNet's layout of MPII"
    further = f", and {used['detections']}" if used["detections"] else ""
    return f"{', '.join(parts)}{further}, in COCO's layout"


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


class Number:
    """Parses an option that is a number in a range.

    Args:
      kind: int or float.
      low: the least value.
      high: the largest value; infinity sets no bound.
      below: whether `high` itself is too much.
    """

    def __init__(self, kind: type, low: float, high: float = math.inf, *, below: bool = False):
        self.kind, self.low, self.high, self.below = kind, low, high, below

    def __call__(self, value: Any) -> Any:
        what = "a whole number" if self.kind is int else "a number"
        end = (
            ""
            if math.isinf(self.high)
            else f" and {'below' if self.below else 'at most'} {self.high:g}"
        )
        try:
            number = self.kind(value)
            fits = (
                (isinstance(value, str) or number == value)
                and self.low <= number <= self.high
                and math.isfinite(number)
            )
        except (TypeError, ValueError, OverflowError):
            fits = False
        if not fits or (self.below and number == self.high):
            raise argparse.ArgumentTypeError(
                f"is '{value}': give {what} of at least {self.low:g}{end}"
            )
        return number


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
        show(
            f"{split}: {count:,} persons"
            if summary.unit == "persons"
            else f"{split}: {count:,} records, {size:,} {summary.unit}"
        )
    for reason in summary.left_out:
        show(f"left out: {reason}")
    for note in summary.notes:
        show(f"note: {note}")
    if summary.seconds:
        show(f"{summary.num_bytes / 1e6:,.1f} MB in {summary.out}, {summary.seconds:.1f} s")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m data_prep.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.kinds = parser.add_subparsers(
        dest="name", required=True, metavar=" | ".join(CONVERTERS)
    )
    human = kinds.add_parser(
        "human36m", help="VideoPose3D's npz files, of Human3.6M or of another set"
    )
    human.add_argument(
        "--source",
        required=True,
        metavar="DIR",
        help="folder with data_3d_<name>.npz and data_2d_<name>_<keypoints>.npz",
    )
    human.add_argument(
        "--keypoints",
        default="gt",
        help="2D file to use, e.g. cpn_ft_h36m_dbb; gt is computed if it has no file",
    )
    human.add_argument(
        "--cameras",
        dest="cameras_file",
        metavar="FILE",
        help="camera table (JSON); default: Human3.6M's, or SOURCE/cameras.json",
    )
    human.add_argument(
        "--test-subjects", type=_names, help="for example S9,S11 (the default for Human3.6M)"
    )
    human.add_argument(
        "--fps", type=Number(float, *FPS_RANGE), default=50.0, help="frames per second of the files"
    )
    studio = kinds.add_parser(
        "mpi_inf_3dhp", help="MPI-INF-3DHP, its own files or P-STMO's npz files"
    )
    studio.add_argument(
        "--source",
        required=True,
        metavar="DIR",
        help="folder with S*/Seq*/annot.mat and TS*/annot_data.mat, or the two npz files",
    )
    studio.add_argument(
        "--layout",
        metavar="NAME",
        help=f"{' or '.join(mpi_inf_3dhp.LAYOUTS)}; default: what is there, the official one first",
    )
    studio.add_argument(
        "--pose-source", metavar="NAME", default=mpi_inf_3dhp.UNIVERSAL,
        help=f"{mpi_inf_3dhp.UNIVERSAL} (bodies of one size, the protocol's; the default) or "
             f"{mpi_inf_3dhp.TRUE_SCALE} (not comparable)",
    )  # fmt: skip
    recorded = kinds.add_parser(
        "mocap", help="motion in BVH files or in ASF and AMC files (CMU, HDM05)"
    )
    _add_mocap_options(recorded)
    generated = kinds.add_parser("synthetic", help="generated motion, needs no files")
    painted = kinds.add_parser(
        "people", help="generated photographs of people, needs no files; they stay in OUT.raw"
    )
    for kind, settings in ((generated, synthetic.ARGUMENTS), (painted, people.ARGUMENTS)):
        for name, default, text in settings:
            option, text = f"--{name.replace('_', '-')}", f"{text} (default {default})"
            kind.add_argument(option, type=_type_of(name, default), default=default, help=text)
    single = kinds.add_parser(
        "mpii", help="MPII's annotations as HRNet has them, and its photographs"
    )
    annotations.add_options(single, mpii.LAYOUT, mpii.REACH)
    single.add_argument(
        "--head-boxes",
        metavar="PATH",
        help=f"for PCKh (default {mpii.HEAD_BOXES}, if it is there); none: no head sizes",
    )
    keypoints = kinds.add_parser("coco", help="COCO's keypoint annotations and photographs")
    annotations.add_options(keypoints, coco.LAYOUT, coco.REACH)
    keypoints.add_argument(
        "--detections",
        metavar="PATH",
        help="a detector's boxes on the test photographs: a further split",
    )
    for kind in (human, studio, recorded, generated, painted, single, keypoints):
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


def _type_of(name: str, default: Any) -> Any:
    """Returns the type of a setting for generated data.

    A setting with a narrower range is checked where it is used.
    """
    if isinstance(default, str):
        return str
    return (
        Number(float, 0, 1, below=True)
        if name == "noise"
        else Number(int, 0 if name == "seed" else 1)
    )


def _add_mocap_options(parser: argparse.ArgumentParser) -> None:
    text = {"type": str, "default": ""}
    parser.add_argument(
        "--source",
        required=True,
        metavar="DIR",
        help="folder with *.bvh, or *.asf and *.amc files, in it or in folders of it",
    )
    parser.add_argument(
        "--test-subjects",
        type=_names,
        help="for example 05,07,35; default: a fifth of the subjects, drawn by --seed",
    )
    parser.add_argument(
        "--map",
        dest="map_file",
        metavar="FILE",
        help="joints of further skeletons (layout: data_prep/mocap/skeletons.py)",
    )
    parser.add_argument(
        "--unit",
        **text,
        help="m, cm, mm, inch or metres; default: the file's (ASF) or the skeleton's",
    )
    parser.add_argument("--up", **text, help="axis that points up, y or z; default: the skeleton's")
    parser.add_argument(
        "--fps",
        **text,
        help="60, or by file name 60_*=60,61_*=60; default: the file's, for AMC 120",
    )
    parser.add_argument(
        "--subject",
        **text,
        metavar="PATTERN",
        help="first group in a file's path: its subject; default: ASF or folder",
    )
    parser.add_argument(
        "--action",
        **text,
        metavar="PATTERN",
        help="first group: what scores are averaged over; default: the subject",
    )
    (noise,) = (entry for entry in synthetic.ARGUMENTS if entry[0] == "noise")
    parser.add_argument(
        "--noise",
        type=_type_of(*noise[:2]),
        default=noise[1],
        help=f"{noise[2]} (default {noise[1]})",
    )
    parser.add_argument(
        "--seed",
        type=Number(int, 0),
        default=0,
        help="of cameras, detector and test subjects (default 0)",
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out files that cannot be read, and name them",
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code 0, or 2 after a user's mistake."""
    try:
        settings = vars(_parser().parse_args(arguments))
        with preemption.watching(f"what is finished in '{settings['out']}' is kept"):
            prepare(**settings)
    except Exception as error:
        return entry.tell(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
