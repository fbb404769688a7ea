"""Converts a folder of BVH files, or of ASF and AMC files (CMU, HDM05).

The sequence records show real motion through four cameras of ours. Cameras and detector are our own
design (`data_prep/synthetic.py`).
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
from typing import Any

import numpy as np

from data_prep import motion, records, shards, synthetic
from data_prep.mocap import asf_amc, bodies, bvh, files, skeletons
from data_prep.mocap.cleaning import Cleaned, clean
from data_prep.mocap.clip import Clip, add_note
from data_prep.mocap.skeletons import JointMap
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.files import sha256
from kdpose_jax.skeletons import H36M_17

AMC_FPS = 120.0  # HDM05's rate and most of CMU's; the files do not say it
SAME_RATE = 1e-3  # relative; 60 and 59.94 are the same rate
SAME_UNIT = 1e-2  # relative
SHOWN = 3  # files that a note names
ASSUMED_RATE = (
    f"no rate in an AMC file and none by --fps, so that {AMC_FPS:g} frames per second were taken "
    "(some of CMU's trials, 60 and 61 among them, have 60)"
)
OTHER_RATE = "a rate in the file other than that of --fps, which was taken"
OTHER_UNIT = "a unit in the file other than that of --unit, which was taken"
OTHER_NAME = "an ASF file of another name, the only one beside the AMC file, was taken"
STEP = (
    "frame numbers that grow by more than 1, so that the frames were taken to be that many times "
    "as far apart"
)


@dataclasses.dataclass(frozen=True)
class Job:
    """Names one motion file, and says how to read it.

    `skeleton` is an AMC file's ASF file. `fps` and `metres` are 0 if the file states them.
    """

    path: str
    skeleton: str
    fps: float
    metres: float
    up: str
    maps: tuple[JointMap, ...]
    skip: bool


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


def convert(
    source: str,
    out: str,
    test_subjects: tuple[str, ...] | None,
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
    maps = skeletons.read_maps(skeletons.SHIPPED)
    if map_file is not None:
        maps = skeletons.read_maps(map_file) + maps
    if up not in ("", *skeletons.UPWARDS):
        raise UserError(f"--up is '{up}': use {' or '.join(skeletons.UPWARDS)}.")
    rates, metres = files.parse_rates(fps), files.parse_unit(unit)
    found, without = files.find_files(source)
    if without and not (skip_unreadable and found):
        more = f" ({len(without) - 1:,} more have none)" if len(without) > 1 else ""
        skip = ", or leave such files out with --skip-unreadable" if found else ""
        raise UserError(f"{files.no_skeleton(without[0])}{more}{skip}.")
    given = files.rates_of([path for path, _ in found], rates)
    jobs = [
        Job(*pair, rate, metres, up, maps, skip_unreadable)
        for pair, rate in zip(found, given, strict=True)
    ]
    takes = files.take_names(source, [job.path for job in jobs])
    names = [files.name_of(source, job.path, job.skeleton, subject, action) for job in jobs]
    test = files.choose_test_subjects(sorted({one for one, _ in names}), test_subjects, seed)
    if test_subjects is None:
        print(f"test subjects: {', '.join(test)} (others with --test-subjects)", flush=True)
    everything = sorted({path for pair in found for path in pair if path})
    sources = {f"{len(everything)} files": _digest(source, everything, skip_unreadable)}
    settings = {
        "name": "mocap",
        "test_subjects": list(test),
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
        items: dict[str, list[View]] = {split: [] for split in schema.SPLITS}
        for base, (who, what), cleaned in zip(takes, names, read, strict=True):
            if isinstance(cleaned, str):
                continue
            for number, piece in enumerate(cleaned.pieces, 1):
                take = base if number == 1 else f"{base} {number}"
                views = [
                    View(who, what, take, index, noise, seed, piece)
                    for index in range(synthetic.NUM_CAMERAS)
                ]
                items["test" if who in test else "train"] += views
        left_out = _left_out(read) + [f"file: {files.no_skeleton(path)}." for path in without]
        for split, views in items.items():
            if not views:
                raise UserError(
                    f"No motion is left for the split '{split}' ({'; '.join(left_out)}): give "
                    f"other --test-subjects."
                )
        keypoints = "simulated" if noise else "gt"
        notes = _notes(takes, read)
        described = {"fps": motion.FPS} | ({"notes": notes} if notes else {})
        return records.Recordset(
            schema.SEQUENCES,
            H36M_17.name,
            keypoints,
            False,
            items,
            make_record,
            left_out,
            described,
            {},
        )

    return records.write_recordset(out, schema.SEQUENCES, sources, settings, load, workers)


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


def read_all(jobs: list[Job], workers: int) -> list[Cleaned | str]:
    """Reads the files in parallel; a file that may be skipped gives its error as text."""
    results: list[Any] = [None] * len(jobs)
    with records.progress(len(jobs), 0, "files", "read") as advance:
        if min(workers, len(jobs)) <= 1:
            for index, job in enumerate(jobs):
                results[index] = read_job(job)
                advance(1)
            return results
        context = multiprocessing.get_context("spawn")
        with (
            records.process_errors(),
            concurrent.futures.ProcessPoolExecutor(
                workers, mp_context=context, initializer=shards.end_with_parent
            ) as executor,
        ):
            futures = {executor.submit(read_job, job): index for index, job in enumerate(jobs)}
            try:
                for future in concurrent.futures.as_completed(futures):
                    results[futures[future]] = future.result()
                    advance(1)
            except BaseException:
                executor.shutdown(wait=True, cancel_futures=True)
                raise
    return results


def read_job(job: Job) -> Cleaned | str:
    """Reads one file into its usable pieces, in a worker.

    If the file may be skipped, the result may be a text that says what is wrong with it.
    """
    try:
        clip = (
            asf_amc.read(job.path, _skeleton(job.skeleton)) if job.skeleton else bvh.read(job.path)
        )
        notes = dict(clip.notes)
        fps = _rate(job, clip, notes)
        add_note(
            notes,
            OTHER_NAME,
            int(job.skeleton != "" and not files.is_named_after(job.path, job.skeleton)),
        )
        add_note(notes, OTHER_UNIT, int(_differ(job.metres, clip.metres, SAME_UNIT)))
        joint_map = skeletons.choose(job.path, clip, job.maps)
        with np.errstate(all="ignore"):  # frames with too large numbers are cut out
            cleaned = clean(
                skeletons.to_h36m(job.path, clip, joint_map, job.metres, job.up), fps, clip.breaks
            )
        for doubt in bodies.doubts(cleaned.pieces):
            add_note(notes, doubt, 1)
        return dataclasses.replace(cleaned, notes=notes)
    except UserError as error:
        if not job.skip:
            raise
        return str(error)


@functools.lru_cache(maxsize=4)
def _skeleton(path: str) -> asf_amc.Skeleton:
    return asf_amc.read_skeleton(path)


def _rate(job: Job, clip: Clip, notes: dict[str, int]) -> float:
    """Returns a file's frame rate, and notes where it comes from.

    Raises:
      UserError: nothing states the rate, or it is impossible.
    """
    counted = job.fps or clip.fps or (AMC_FPS if job.skeleton else 0.0)
    add_note(notes, ASSUMED_RATE, int(job.skeleton != "" and not job.fps and not clip.fps))
    add_note(notes, OTHER_RATE, int(_differ(job.fps, clip.fps, SAME_RATE)))
    add_note(notes, STEP, int(clip.step > 1))
    fps = counted / clip.step
    if not files.FPS_RANGE[0] <= fps <= files.FPS_RANGE[1]:
        said = (
            f"{counted:g} frames per second"
            if counted
            else "a frame time that is not above 0 seconds"
        )
        if clip.fps and not job.fps and not job.skeleton:
            said = f"a frame time of {1 / clip.fps:g} seconds ({said})"
        numbered = f" and frame numbers that grow by {clip.step}" if clip.step > 1 else ""
        raise UserError(
            f"'{job.path}' has {said}{numbered}, and from {files.FPS_RANGE[0]:g} to "
            f"{files.FPS_RANGE[1]:g} frames per second are read: give its rate with --fps."
        )
    return fps


def _differ(given: float, said: float | None, share: float) -> bool:
    """Tells whether the command line and the file state different values."""
    return bool(given and said) and abs(given - said) > share * given


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
