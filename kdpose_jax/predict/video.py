"""Finds the keypoints of a video with a detector that the user has."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import tqdm
from etils import epath

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import sizes
from kdpose_jax.keypoints.formats.recognise import read_keypoints
from kdpose_jax.keypoints.tracks import Keypoints
from kdpose_jax.predict import detecting
from kdpose_jax.predict.many import CommandError
from kdpose_jax.untrusted import streams

# How each detector is installed, in an environment of its own.
INSTALLED_BY = {
    "mediapipe": "pip install mediapipe==0.10.21",
    "rtmlib": "pip install rtmlib==0.0.16",
}
ENDING = ".keypoints.json"  # of the file that keeps what a detector found


def detect(
    path: str,
    detector: str,
    python: str,
    base: epath.Path,
    reading: dict[str, Any],
    show: Callable[[str], None],
) -> Keypoints:
    """Finds the keypoints of a video, or takes those that were found before.

    The detector runs in a process of its own, which is ended with this one.

    Args:
      path: the video.
      detector: its name, one of `detecting.DETECTORS`.
      python: the interpreter of the environment that has the detector (`--detector_python`); ""
        for this program's own.
      base: the base of the outputs. What was found is kept beside them.
      reading: arguments of `read_keypoints`.
      show: prints one line.

    Raises:
      UserError: there is no such video, it cannot be decoded, or the detector found nobody.
      CommandError: the detector is not installed.
    """
    if not os.path.isfile(path):
        remedy = "copy it to a disk first" if "://" in path else "give a video"
        raise UserError(f"--video '{path}' is not a file of a disk: {remedy}.")
    header = sizes.video_header(path)
    if header is None:
        raise UserError(
            f"--video '{path}' cannot be decoded by OpenCV: convert it, for example with `ffmpeg "
            f"-i '{path}' -pix_fmt yuv420p video.mp4`."
        )
    found = kept_beside(base)
    if _is_made_from(found, detecting.made_from(detector, path)):
        show(f"note: the keypoints in '{found}' are taken; delete it to detect them again")
    else:
        found.parent.mkdir(parents=True, exist_ok=True)
        show(f"finding keypoints with {detector} in {path}")
        _run(detector, python or sys.executable, path, os.fspath(found))
    given: dict[str, Any] = {"size": header.size, "fps": header.fps}
    given |= {name: value for name, value in reading.items() if value is not None}
    return read_keypoints(os.fspath(found), **given)


def kept_beside(base: epath.Path) -> epath.Path:
    """Returns the file beside the outputs that keeps what a detector found."""
    return base.parent / f"{base.name}{ENDING}"


def _is_made_from(found: epath.Path, source: dict[str, Any]) -> bool:
    """Tells whether a file has the keypoints of this detector in this video, all of them."""
    try:
        head = next(streams.pieces(os.fspath(found))).value
        return all(head[name] == value for name, value in source.items())
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return False  # it is made again


def _run(detector: str, python: str, path: str, out: str) -> None:
    """Runs the detector's process, with a bar on terminals.

    Raises:
      UserError: it failed.
      CommandError: it cannot be run, or lacks the detector.
    """
    command = [python, os.path.abspath(detecting.__file__), detector, os.path.abspath(path), out]
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        except OSError as error:
            raise CommandError(
                f"--detector_python '{python}' cannot be run ({error.strerror}): give the "
                f"interpreter of an environment in which `{INSTALLED_BY[detector]}` was run, such "
                "as envs/detector/bin/python."
            ) from error
        assert process.stdout is not None  # it is a pipe
        with process, tqdm.tqdm(unit="frame", disable=None) as bar:
            try:
                for line in process.stdout:
                    bar.update(line.strip() == detecting.FRAME.encode())
            except BaseException:
                process.kill()
                raise
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    last = (lines or ["it said nothing"])[-1][:300]
    if process.returncode == detecting.NOT_INSTALLED:
        raise CommandError(
            f"--detector {detector} is not installed in '{python}' ({last}): run "
            f"`{INSTALLED_BY[detector]}` in an environment of its own, and name its interpreter "
            "with --detector_python."
        )
    if process.returncode:
        raise UserError(
            f"--detector {detector} failed in '{python}' ({last}): see what "
            f"`{' '.join(map(shlex.quote, command))}` says."
        )
