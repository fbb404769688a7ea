"""Finds the size of the video that keypoints are of: a flag, the file, or what lies beside it."""

import os
import re
from typing import NamedTuple

from kdpose_jax.errors import UserError

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
_LARGEST = 100_000  # pixels along one side
# What tools append to a video's name.
_ENDINGS = re.compile(r"(DLC_.*|_keypoints|_pose|_poses|_2d|_openpose|_json|_predictions)$", re.I)


class Beside(NamedTuple):
    """What a picture or video beside a file of keypoints says.

    Attributes:
      size: width and height, pixels.
      fps: frames per second; None for a picture.
      path: the picture or video.
    """

    size: tuple[int, int]
    fps: float | None
    path: str


def parse_size(text: str) -> tuple[int, int]:
    """Reads the value of `--size`, such as 1920x1080.

    Raises:
      UserError: it is not a width and a height in pixels.
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*[xX*,×]\s*(\d{1,9})\s*", text)
    if not found or not all(1 <= int(side) <= _LARGEST for side in found.groups()):
        raise UserError(
            f"--size is '{text[:60]}': give width x height in pixels, such as --size 1920x1080."
        )
    return int(found[1]), int(found[2])


def require_size(size: tuple[int, int] | None, place: str) -> tuple[int, int]:
    """Returns the size, which networks for 3D poses need.

    Args:
      size: width and height, pixels; None if nothing gives it.
      place: names the file in the error.

    Raises:
      UserError: there is none.
    """
    if size is None:
        raise UserError(
            f"{place} does not say the size of its video: give --size, such as --size 1920x1080, "
            f"or put the video beside the file under the same name."
        )
    return size


def beside(path: str) -> Beside | None:
    """Looks for a video or picture that has the name of a file of keypoints, or lies in its folder.

    Only headers are read. A folder of keypoints is named like its video, or holds the pictures
    themselves.

    Args:
      path: the file or folder of keypoints.

    Returns:
      What was found; None if there is nothing, or it cannot be read.
    """
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    stem = name if os.path.isdir(path) else os.path.splitext(name)[0]
    for one in dict.fromkeys([stem, stem.split(".")[0], _ENDINGS.sub("", stem)]):
        # Detectron's file of a.mp4 is a.mp4.npz, and its stem is the video.
        for ending in ("", *VIDEOS, *_PICTURES):
            for spelled in dict.fromkeys([one + ending, one + ending.upper()]):
                found = os.path.join(folder, spelled)
                if spelled.lower().endswith((*VIDEOS, *_PICTURES)) and os.path.isfile(found):
                    return _header(found)
    if os.path.isdir(path):
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.lower().endswith(_PICTURES) and entry.is_file():
                    return _header(entry.path)
    return None


def _header(path: str) -> Beside | None:
    return _picture(path) if path.lower().endswith(_PICTURES) else video_header(path)


def _picture(path: str) -> Beside | None:
    from kdpose_jax.untrusted import pictures  # Pillow, which most files do not need

    try:
        header = pictures.header_of(path, ("JPEG", "PNG", "BMP", "MPO"))
    except Exception:  # a damaged picture says nothing
        return None
    size = header.width, header.height
    # Detectors see a photograph as viewers turn it.
    return Beside(size[::-1] if header.orientation >= 5 else size, None, path)


def video_header(path: str) -> Beside | None:
    """Reads a video's size and rate; None if OpenCV cannot decode it."""
    # Its decoders would print lines of their own beside our sentence.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2  # slow to import, and needed only here

    capture = cv2.VideoCapture(path)
    try:
        size = tuple(
            int(capture.get(one)) for one in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        fps = capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    if not all(1 <= side <= _LARGEST for side in size):
        return None
    return Beside((size[0], size[1]), float(fps) if 0 < fps < 1000 else None, path)
