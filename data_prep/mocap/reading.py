"""Reads motion files into pieces of Human3.6M's joints, in parallel."""

import dataclasses
import functools
from typing import Any

import numpy as np

from data_prep import parallel
from data_prep.mocap import asf_amc, bodies, bvh, files, skeletons
from data_prep.mocap.cleaning import Cleaned, clean
from data_prep.mocap.clip import Clip, add_note
from data_prep.mocap.skeletons import JointMap
from kdpose_jax.errors import UserError

AMC_FPS = 120.0  # HDM05's rate and most of CMU's; the files do not say it
SAME_RATE = 1e-3  # relative; 60 and 59.94 are the same rate
SAME_UNIT = 1e-2  # relative
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


def read_all(jobs: list[Job], workers: int) -> list[Cleaned | str]:
    """Reads the files in parallel; a file that may be skipped gives its error as text."""
    results: list[Any] = [None] * len(jobs)
    with (
        parallel.pool(min(workers, len(jobs))) as run,
        parallel.progress(len(jobs), 0, "files", "read") as advance,
    ):
        for number, result in run(read_job, [(job,) for job in jobs]):
            results[number] = result
            advance(1)
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
