"""Finds the keypoints of a video with a detector that the user has."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from etils import epath

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import sizes
from kdpose_jax.keypoints.formats.recognise import read_keypoints
from kdpose_jax.keypoints.tracks import Keypoints
from kdpose_jax.predict import detecting

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
      UserError: there is no such video, it cannot be decoded, the detector is not installed, or it
        found nobody.
    """
    if not os.path.isfile(path):
        raise UserError(f"--video '{path}' is not a file: give a video.")
    header = sizes.video_header(path)
    if header is None:
        raise UserError(
            f"--video '{path}' cannot be decoded by OpenCV: convert it, for example with `ffmpeg "
            f"-i '{path}' -pix_fmt yuv420p video.mp4`."
        )
    found = base.parent / f"{base.name}{ENDING}"
    if found.exists() and os.path.getmtime(found) > os.path.getmtime(path):
        show(f"note: the keypoints in '{found}' are taken; delete it to detect them again")
    else:
        found.parent.mkdir(parents=True, exist_ok=True)
        _run(detector, python or sys.executable, path, os.fspath(found), show)
    given: dict[str, Any] = {"size": header.size, "fps": header.fps}
    given |= {name: value for name, value in reading.items() if value is not None}
    return read_keypoints(os.fspath(found), **given)


def _run(detector: str, python: str, path: str, out: str, show: Callable[[str], None]) -> None:
    """Runs the detector's process."""
    show(f"finding keypoints with {detector} in {path}")
    command = [python, os.path.abspath(detecting.__file__), detector, os.path.abspath(path), out]
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )
    except OSError as error:
        raise UserError(
            f"--detector_python '{python}' cannot be run ({error.strerror}): give the interpreter "
            f"of an environment in which `{INSTALLED_BY[detector]}` was run, such as "
            "envs/detector/bin/python."
        ) from error
    try:
        _, said = process.communicate()
    finally:
        process.kill()
    if process.returncode:
        last = (said.strip().splitlines() or ["it said nothing"])[-1][:300]
        raise UserError(
            f"--detector {detector} did not work in '{python}' ({last}): run "
            f"`{INSTALLED_BY[detector]}` in an environment of its own, and name its interpreter "
            "with --detector_python."
        )
