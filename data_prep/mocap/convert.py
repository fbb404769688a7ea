"""Converts a folder of BVH files, or of ASF and AMC files (CMU, HDM05).

The sequence records show real motion through four cameras of ours. Cameras and detector are our own
design (`data_prep/synthetic.py`).
"""

import argparse
import dataclasses
import hashlib
import json
import os
from typing import Any

import numpy as np

from data_prep import flags, held_out, motion, records, synthetic
from data_prep.mocap import files, skeletons
from data_prep.mocap.cleaning import Cleaned
from data_prep.mocap.reading import Job, read_all
from data_prep.mocap.skeletons import JointMap
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.files import sha256
from kdpose_jax.skeletons import H36M_17

HELP = "motion in BVH files or in ASF and AMC files (CMU, HDM05)"
SHOWN = 3  # files that a note names


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Describes one camera's view of one piece of a file.

    `pose_world` is `[F, 17, 3]` metres.
    """

    subject: str
    action: str
    take: str
    index: int
    noise: float
    seed: int
    pose_world: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.pose_world)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    text = {"type": str, "default": ""}
    flags.add_source(
        parser, "folder with *.bvh, or *.asf and *.amc files, in it or in folders of it"
    )
    parser.add_argument(
        "--test-subjects",
        type=flags.names,
        help="for example 05,07,35; default: a fifth of the subjects, drawn by --seed",
    )
    flags.add_val_subjects(parser, "08,09", "")
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
    flags.add_settings(parser, tuple(one for one in synthetic.ARGUMENTS if one[0] == "noise"))
    parser.add_argument(
        "--seed",
        type=flags.Number(int, 0),
        default=0,
        help="of cameras, detector and test subjects (default 0)",
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out files that cannot be read, and name them",
    )


def expected_files(settings: dict[str, Any]) -> str:
    """Names the raw files that a conversion with these settings reads."""
    del settings
    return "*.bvh files, or *.amc files beside their *.asf, in it or in folders of it"


def convert(
    source: str,
    out: str,
    test_subjects: tuple[str, ...] | None,
    val_subjects: tuple[str, ...] | None,
    map_file: str | None,
    unit: str,
    up: str,
    fps: str,
    subject: str,
    action: str,
    noise: float,
    seed: int,
    skip_unreadable: bool,
    workers: int,
) -> records.Summary:
    """Converts each `*.bvh`, and each `*.amc` with its `*.asf`, in a folder and below.

    Args:
      source: the folder.
      out: folder for the records.
      test_subjects: names of the test subjects; None draws a fifth of the subjects by the seed.
      val_subjects: names of the training subjects that are held out for validation; None for drawn
        ones (`held_out.draw_subjects`).
      map_file: JSON table of skeletons (`skeletons.py`), tried before the known ones; None for
        these alone.
      unit: "m", "cm", "mm", "inch" or a number of metres; "" for what the file or the skeleton's
        table says.
      up: "y" or "z"; "" for what the table says.
      fps: frames per second, as "60" or "60_*=60,61_*=60" (by file name). With "" and for other
        files it is what the file says, or 120 (AMC).
      subject: pattern (`re.search`) whose first group in a file's path is the subject. With "" it
        is the ASF file's name, the folder, or the part of the name before its first "_".
      action: likewise for the action that scores are averaged over; "" for the subject.
      noise: strength of the simulated detector's noise, see `synthetic.ARGUMENTS`.
      seed: everything random follows from it.
      skip_unreadable: whether files that cannot be read are left out and named, or end the
        conversion.
      workers: number of processes.

    Returns:
      The summary.

    Raises:
      UserError: a file or a setting is wrong, or `out` cannot be used.
    """
    if not 0 <= noise < 1 or seed < 0:
        raise UserError(
            f"--noise {noise} must be from 0 to below 1 (screen units), and --seed {seed} not "
            f"negative."
        )
    maps, rates, metres = _read_options(map_file, unit, up, fps)
    found, without = _find_files(source, skip_unreadable)
    jobs = [
        Job(*pair, rate, metres, up, maps, skip_unreadable)
        for pair, rate in zip(
            found, files.rates_of([path for path, _ in found], rates), strict=True
        )
    ]
    takes = files.take_names(source, [job.path for job in jobs])
    names = [files.name_of(source, job.path, job.skeleton, subject, action) for job in jobs]
    subjects = sorted({one for one, _ in names})
    test = files.choose_test_subjects(subjects, test_subjects, seed)
    if test_subjects is None:
        print(f"test subjects: {', '.join(test)} (others with --test-subjects)", flush=True)
    held_out.check_subjects(val_subjects, [one for one in subjects if one not in test], test)
    everything = sorted({path for pair in found for path in pair if path})
    sources = {f"{len(everything)} files": _digest(source, everything, skip_unreadable)}
    settings = {
        "name": "mocap",
        "test_subjects": list(test),
        "val_subjects": None if val_subjects is None else list(val_subjects),
        "maps": hashlib.sha256(repr(maps).encode()).hexdigest(),
        "unit": unit,
        "up": up,
        "fps": fps,
        "subject": subject,
        "action": action,
        "noise": noise,
        "seed": seed,
        "skip_unreadable": skip_unreadable,
    }

    def load() -> records.Recordset:
        read = read_all(jobs, workers)
        read_views: dict[str, list[View]] = {"train": [], "test": []}
        for take, (who, what), cleaned in zip(takes, names, read, strict=True):
            views = _views(cleaned, who, what, take, noise, seed)
            read_views["test" if who in test else "train"] += views
        left_out = _left_out(read) + [f"file: {files.no_skeleton(path)}." for path in without]
        _require_motion(read_views, left_out)
        items, missing = held_out.split_views(**read_views, named=val_subjects)
        return _describe(items, left_out, _notes(takes, read) + missing, noise)

    return records.write_recordset(out, schema.SEQUENCES, sources, settings, load, workers)


def _find_files(source: str, skip: bool) -> tuple[list[tuple[str, str]], list[str]]:
    """Finds the motion files, each with its skeleton, and the AMC files without one.

    Raises:
      UserError: there is no motion file, or one has no skeleton and is not to be skipped.
    """
    found, without = files.find_files(source)
    if without and not (skip and found):
        more = f" ({len(without) - 1:,} more have none)" if len(without) > 1 else ""
        remedy = ", or leave such files out with --skip-unreadable" if found else ""
        raise UserError(f"{files.no_skeleton(without[0])}{more}{remedy}.")
    return found, without


def _read_options(
    map_file: str | None, unit: str, up: str, fps: str
) -> tuple[tuple[JointMap, ...], list[tuple[str, float]], float]:
    """Reads the options that say what the files mean.

    Returns:
      The skeletons' joints with those of the user's table first, the rates by name, and the metres
      of a unit (0 for what the files say).
    """
    maps = skeletons.read_maps(skeletons.SHIPPED)
    if map_file is not None:
        maps = skeletons.read_maps(map_file) + maps
    if up not in ("", *skeletons.UPWARDS):
        raise UserError(f"--up is '{up}': use {' or '.join(skeletons.UPWARDS)}.")
    return maps, files.parse_rates(fps), files.parse_unit(unit)


def _views(
    cleaned: Cleaned | str, subject: str, action: str, take: str, noise: float, seed: int
) -> list[View]:
    """Makes the views of one file, piece by piece; none of a file that could not be read."""
    pieces = [] if isinstance(cleaned, str) else cleaned.pieces
    return [
        View(
            subject, action, take if number == 1 else f"{take} {number}", index, noise, seed, piece
        )
        for number, piece in enumerate(pieces, 1)
        for index in range(synthetic.NUM_CAMERAS)
    ]


def _require_motion(read: dict[str, list[View]], left_out: list[str]) -> None:
    """Raises UserError if nothing is left to train on or to test on."""
    for split, views in read.items():
        if not views:
            raise UserError(
                f"No motion is left for the split '{split}' ({'; '.join(left_out)}): give "
                f"other --test-subjects."
            )


def _describe(
    items: dict[str, list[View]], left_out: list[str], notes: list[str], noise: float
) -> records.Recordset:
    """Describes the data set."""
    return records.Recordset(
        schema.SEQUENCES,
        H36M_17.name,
        "simulated" if noise else "gt",
        False,
        items,
        make_record,
        {},
        left_out,
        {"fps": motion.FPS} | ({"notes": notes} if notes else {}),
        {},
    )


def _digest(source: str, paths: list[str], skip: bool) -> str:
    """Computes one checksum over many files and their places.

    Raises:
      UserError: a file cannot be opened, unless such files are skipped.
    """
    listing = []
    for path in paths:
        try:
            listing.append((os.path.relpath(path, source), sha256(path)))
        except OSError as error:
            if not skip:
                raise UserError(
                    f"'{path}' cannot be read ({error.strerror}): check the file."
                ) from error
            listing.append((os.path.relpath(path, source), "unreadable"))
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _notes(takes: list[str], read: list[Cleaned | str]) -> list[str]:
    """Writes each of the files' notes once, with its count and some of the files."""
    counted: dict[str, dict[str, int]] = {}
    for take, cleaned in zip(takes, read, strict=True):
        for sentence, count in () if isinstance(cleaned, str) else cleaned.notes.items():
            counted.setdefault(sentence, {})[take] = count
    lines = []
    for sentence, counts in sorted(counted.items()):
        total, names = sum(counts.values()), list(counts)
        where = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
        in_all = f", {total:,} in all" if total > len(names) else ""
        lines.append(f"{sentence}: {len(names):,} of {len(takes):,} files{in_all} ({where})")
    return lines


def _left_out(read: list[Cleaned | str]) -> list[str]:
    """Writes how many frames were cut and why, and which files could not be read."""
    frames = sum(cleaned.frames for cleaned in read if not isinstance(cleaned, str))
    cut: dict[str, int] = {}
    for cleaned in read:
        for reason, count in () if isinstance(cleaned, str) else cleaned.cut.items():
            cut[reason] = count + (cut[reason] if reason in cut else 0)
    lines = [f"{count:,} of {frames:,} frames: {reason}" for reason, count in cut.items() if count]
    return lines + [f"file: {error}" for error in read if isinstance(error, str)]


def make_record(view: View) -> dict[str, Any]:
    """Makes a record of `schema.sequence_features` from a view."""
    return synthetic.record_of(view, view.pose_world.astype(np.float64))
