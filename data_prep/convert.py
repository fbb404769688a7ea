"""Raw files -> records: `python -m data_prep.convert human36m --source DIR --out DIR`; also mpii, coco; synthetic, people without files."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from data_prep import annotations, coco, human36m, mpii, records, synthetic
from data_prep.people import generate as people
from kdpose_jax import buckets
from kdpose_jax.errors import UserError
from kdpose_jax.files import absolute

CONVERTERS = {
    "human36m": human36m.convert, "synthetic": synthetic.convert, "mpii": mpii.convert, "coco": coco.convert, "people": people.convert,
}  # fmt: skip
WITHOUT_SOURCE = ("synthetic", "people")


def prepare(name: str, out: str, show: Callable[[str], None] = print, **settings: Any) -> records.Summary:
    """Converts one data set; what the command line does, for callers in Python.

    Args:
      name: one of CONVERTERS.
      out: folder for the records; may be in a bucket.
      show: prints one line of the summary.
      **settings: keyword arguments of its `convert`; those left out have the command line's defaults.

    Returns:
      The summary, shown as well.

    Raises:
      UserError: bad input, or `out` cannot be used.
    """
    arguments = _with_defaults(name, settings | {"out": out})
    if arguments["workers"] < 1:
        raise UserError(f"--workers {arguments['workers']} must be at least 1.")
    if "source" in arguments and "://" in arguments["source"]:
        raise UserError(f"--source {arguments['source']} is no folder of a disk, from which raw files are read: copy it to one first.")
    arguments["out"] = str(absolute(out)) if "://" in out else out
    buckets.check_access(out, writes=True)
    summary = CONVERTERS[name](**arguments)
    _show(summary, show)
    return summary


def needs_source(name: str) -> bool:
    """Whether a converter reads raw files; UserError if there is no such converter."""
    if name not in CONVERTERS:
        raise UserError(f"There is no converter '{name}': use {', '.join(CONVERTERS)}.")
    return name not in WITHOUT_SOURCE


def expected_files(name: str, settings: dict[str, Any]) -> str:
    """The raw files that a converter reads, in words, for the message that they are wanted.

    Args:
      name: one of CONVERTERS.
      settings: keyword arguments of its `convert`; those left out have the command line's defaults.

    Returns:
      A list of files, relative to the folder that is to be given.
    """
    if not needs_source(name):
        return "no files"
    used = _with_defaults(name, settings)
    if name == "human36m":
        return f"data_3d_<name>.npz and data_2d_<name>_{used['keypoints']}.npz in VideoPose3D's layout"
    parts = [f"{used[f'{split}_annotations']} with the photographs in {used[f'{split}_images']}/" for split in used["splits"]]
    if name == "mpii":
        return f"{', '.join(parts)}, and {used['head_boxes'] or mpii.HEAD_BOXES} for PCKh, in HRNet's layout of MPII"
    return f"{', '.join(parts)}{', and ' + used['detections'] if used['detections'] else ''}, in COCO's layout"


def _with_defaults(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the command line's defaults for those left out; UserError for one that is none."""
    wanted = ["--source", ""] if needs_source(name) else []
    defaults = vars(_parser().parse_args([name, "--out", "", *wanted]))
    del defaults["name"]
    unknown = sorted(set(settings) - set(defaults))
    if unknown:
        raise UserError(f"Data set '{name}' has no setting '{unknown[0]}': the settings are {', '.join(sorted(defaults))}.")
    return defaults | settings


def _show(summary: records.Summary, show: Callable[[str], None]) -> None:
    if summary.seconds == 0:
        show(f"{summary.out} is complete already, from the same input and settings; nothing to do")
    for split, (count, size) in summary.splits.items():
        show(f"{split}: {count:,} persons" if summary.unit == "persons" else f"{split}: {count:,} records, {size:,} {summary.unit}")
    for reason in summary.left_out:
        show(f"left out: {reason}")
    for note in summary.notes:
        show(f"note: {note}")
    if summary.seconds:
        show(f"{summary.num_bytes / 1e6:,.1f} MB in {summary.out}, {summary.seconds:.1f} s")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep.convert", description=__doc__)
    kinds = parser.add_subparsers(dest="name", required=True, metavar=" | ".join(CONVERTERS))
    files = kinds.add_parser("human36m", help="VideoPose3D's npz files, of Human3.6M or of another set")
    files.add_argument("--source", required=True, help="folder with data_3d_<name>.npz and data_2d_<name>_<keypoints>.npz")
    files.add_argument("--keypoints", default="gt", help="2D file to use, e.g. cpn_ft_h36m_dbb; gt is computed if it has no file")
    files.add_argument(
        "--cameras", dest="cameras_file", metavar="FILE", help="camera table (JSON); default: Human3.6M's, or SOURCE/cameras.json")
    files.add_argument("--test-subjects", type=_names, help="for example S9,S11 (the default for Human3.6M)")
    files.add_argument("--fps", type=float, default=50.0, help="frames per second of the files")
    generated = kinds.add_parser("synthetic", help="generated motion, needs no files")
    painted = kinds.add_parser("people", help="generated photographs of people, needs no files; they stay in OUT.raw")
    for kind, settings in ((generated, synthetic.ARGUMENTS), (painted, people.ARGUMENTS)):
        for name, default, text in settings:
            kind.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"{text} (default {default})")
    single = kinds.add_parser("mpii", help="MPII's annotations as HRNet has them, and its photographs")
    annotations.add_options(single, mpii.LAYOUT, mpii.REACH)
    single.add_argument("--head-boxes", metavar="PATH", help=f"for PCKh (default {mpii.HEAD_BOXES}, if it is there); none: no head sizes")
    keypoints = kinds.add_parser("coco", help="COCO's keypoint annotations and photographs")
    annotations.add_options(keypoints, coco.LAYOUT, coco.REACH)
    keypoints.add_argument("--detections", metavar="PATH", help="a detector's boxes on the test photographs: a further split")
    for kind in (files, generated, painted, single, keypoints):
        kind.add_argument("--out", required=True, help="folder for the records, or gs://BUCKET/FOLDER")
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
    except Exception as error:
        said = buckets.sentence(error, "The bucket")
        if said is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
