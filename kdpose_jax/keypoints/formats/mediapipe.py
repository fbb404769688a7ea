"""Landmarks of MediaPipe's pose networks, as people dump them.

MediaPipe has no file of its own. The numbers are those of a NormalizedLandmark: x and y as shares
of the picture, z, visibility and presence (mediapipe/tasks/python/vision/pose_landmarker.py).
"""

from collections.abc import Iterator
from typing import Any

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import layouts
from kdpose_jax.keypoints.formats import naming, probing, wide
from kdpose_jax.keypoints.formats.cleaning import PIXELS, SHARES
from kdpose_jax.keypoints.formats.collecting import REPAIR, Collector
from kdpose_jax.keypoints.formats.options import Options
from kdpose_jax.keypoints.formats.probing import Probe
from kdpose_jax.keypoints.tracks import Keypoints
from kdpose_jax.untrusted import streams

NAME = "mediapipe"
WHAT = "MediaPipe: landmarks as json or csv, in 0..1 or pixels"
LAYOUTS = ("mediapipe_33",)
_COUNT = 33
# Where the landmarks of a frame stand, by Python's and JavaScript's names. World landmarks are not
# among them.
_HOLDERS = (
    "pose_landmarks",
    "poseLandmarks",
    "landmarks",
    "landmark",
    "poses",
    "pose",
    "keypoints",
)
_NUMBERS = ("frame", "frame_id", "frame_number", "frame_index", "frameNumber", "frameIndex")
_SCORES = ("visibility", "score", "presence")
_UNITS = (PIXELS, SHARES)
_DEPTH = 6  # of lists and objects around landmarks


def recognises(probe: Probe) -> bool:
    """Tells whether a path holds dumped landmarks."""
    if probe.kind == "text" and not probe.is_folder:
        header = wide.header_of(probe.rows)
        return header is not None and len(header.joints) == _COUNT
    if probe.kind != "json" or probe.is_folder:
        return False
    if probe.pieces and _is_one_frame(probe.pieces[0].key, probe.pieces[0].in_list):
        return _is_landmark(probe.pieces[0].value) or bool(_persons(probe.pieces[0].value, 0))
    return any(len(person) == _COUNT for one in probe.pieces for person in _persons(one.value, 0))


def read(path: str, options: Options) -> Keypoints:
    """Reads a dump of a video or of one picture.

    Raises:
      UserError: the file is damaged, or there is no person.
    """
    collector = Collector(path)
    if not streams.starts_like_json(path):
        named = wide.read(path, collector, options)
        return collector.finish(NAME, options, LAYOUTS, named=named, units=_UNITS)
    landmarks: list[Any] = []
    frames: list[int] = []
    fps = None
    for index, piece in enumerate(probing.pieces_of(path)):
        where = f"{collector.place}, entry {index}"
        if _is_one_frame(piece.key, piece.in_list):
            landmarks.append(piece.value)
        elif piece.in_list or piece.key is not None and piece.key.isdigit():
            frames.append(_number(piece.key, piece.value, len(frames), where))
            for person in _persons(piece.value, 0):
                _add(collector, frames[-1], person, where)
        elif piece.key in ("fps", "frame_rate", "frameRate") and _is_rate(piece.value):
            fps = float(piece.value)
    naming.refuse_twice(frames, collector.place)
    for person in _persons(landmarks, 0):
        _add(collector, 0, person, f"{collector.place}")
    return collector.finish(
        NAME, options, LAYOUTS, units=_UNITS, fps=fps, length=len(frames) if frames else 0
    )


def _is_one_frame(key: str | None, in_list: bool) -> bool:
    """Tells whether a part of a document is a landmark, or a person, of its only picture."""
    return in_list and key in _HOLDERS


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e5


def _is_landmark(value: Any) -> bool:
    if isinstance(value, dict):
        return "x" in value and "y" in value
    return (
        isinstance(value, list)
        and 2 <= len(value) <= 5
        and all(isinstance(one, int | float) for one in value)
    )


def _persons(value: Any, depth: int) -> list[list[Any]]:
    """Finds the persons in a frame; each is a list of landmarks."""
    if depth > _DEPTH or not value:
        return []
    if isinstance(value, dict):
        for holder in _HOLDERS:
            if holder in value:
                return _persons(value[holder], depth + 1)
        return _of_names(value)
    if not isinstance(value, list):
        return []
    if all(_is_landmark(one) for one in value):
        return [value]
    if all(isinstance(one, int | float) for one in value) and not len(value) % _COUNT:
        width = len(value) // _COUNT
        return [[value[at : at + width] for at in range(0, len(value), width)]]
    return [person for one in value for person in _persons(one, depth + 1)]


def _of_names(value: dict[str, Any]) -> list[list[Any]]:
    """Returns the landmarks of an object with a member for each, such as LEFT_HIP."""
    known = {layouts.spellings().get(layouts.plain(name)): one for name, one in value.items()}
    wanted = layouts.layouts()[LAYOUTS[0]].joints
    if not all(joint in known and _is_landmark(known[joint]) for joint in wanted):
        return []
    return [[known[joint] for joint in wanted]]


def _number(key: str | None, frame: Any, index: int, where: str) -> int:
    """Returns the number of a frame; its place in the file if it has none."""
    number: Any = index
    if key is not None and key.isdigit():
        number = int(key[:18])
    elif isinstance(frame, dict):
        number = next((frame[name] for name in _NUMBERS if name in frame), index)
    if type(number) is not int or not 0 <= number < 2**53:
        raise UserError(
            f"{where} has the frame {str(number)[:60]!r} where a whole number must be: {REPAIR}."
        )
    return number


def _add(collector: Collector, frame: int, person: list[Any], where: str) -> None:
    collector.add(frame, list(_triples(person)), (), where)


def _triples(person: list[Any]) -> Iterator[Any]:
    """Yields x, y and score of each landmark; z is left out."""
    for one in person:
        if isinstance(one, dict):
            yield one["x"]
            yield one["y"]
            yield next((one[name] for name in _SCORES if one.get(name) is not None), 1.0)
        else:
            yield from one[:2]
            yield one[3] if len(one) > 3 else 1.0
