"""Own arrays: npz, npy and csv.

An array is `[T, K, 2]`, `[T, K, 3]` with scores, or has persons before: `[P, T, K, 2]`. It may also
be a list of frames, with one person (`[K, 2]`), several (`[P, K, 2]`) or None in each. An npz file
may name the joints (`joint_names`), and say `scores`, `fps` and `size`. A csv file has columns such
as `nose_x`, `nose_y` and `nose_score`, and `frame` and `person`.

FreeMoCap's array of MediaPipe's landmarks, `2dData_numCams_numFrames_numTrackedPoints_pixelXY.npy`,
has cameras in the place of persons. `--clip` chooses one. Its name alone tells it apart.
"""

import os
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import joint_names
from kdpose_jax.keypoints.formats import wide
from kdpose_jax.keypoints.formats.cleaning import PIXELS, SHARES
from kdpose_jax.keypoints.formats.collecting import ONE, Collector, require_scores
from kdpose_jax.keypoints.formats.options import Options, choose_clip
from kdpose_jax.keypoints.formats.probing import Probe
from kdpose_jax.keypoints.tracks import Keypoints
from kdpose_jax.untrusted import npz, persons_axis, streams

NAME = "plain"
WHAT = "own arrays: npz, npy and csv"
# Counts that one layout alone has; 16 and 17 joints are of several.
LAYOUTS = ("body_25", "halpe_26", "mediapipe_33", "coco_133", "halpe_136")
_POINTS = ("keypoints_2d", "keypoints", "points_2d", "points")  # the array with the points
_NAMES = ("joint_names", "joints", "keypoint_names", "bodyparts")
_SCORES = ("scores", "keypoint_scores")
_KEYS = (*_POINTS, *_NAMES, *_SCORES, "size", "fps")
_UNITS = (PIXELS, SHARES)
_FREEMOCAP, _BODY = "2ddata_numcams_numframes", 33  # the body's landmarks are the first


def recognises(probe: Probe) -> bool:
    """Tells whether a path holds arrays of numbers, or a csv with columns of joints."""
    if probe.kind == "npz":
        return not {"positions_2d", "boxes"} & set(probe.keys)
    if probe.kind == "text" and not probe.is_folder:
        header = wide.header_of(probe.rows)
        return header is not None and len(header.joints) != 33
    return probe.kind == "npy"


def read(path: str, options: Options) -> Keypoints:
    """Reads an npz, npy or csv file.

    Raises:
      UserError: the file is damaged, or its numbers are not keypoints.
    """
    collector = Collector(path)
    if os.path.isdir(path):
        raise UserError(f"{collector.place} is a folder: give the npz, npy or csv file in it.")
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(b"\x93NUMPY"):
        return _finish(collector, options, {"": npz.read_npy(path)})
    if head.startswith(b"PK"):
        names = npz.names_in(path)
        # What else people keep in the file, such as times or settings, need not be numbers.
        wanted = [name for name in names if name in _KEYS] if {*_POINTS} & {*names} else names
        return _finish(collector, options, npz.read_npz(path, wanted))
    if streams.starts_like_json(path):
        raise UserError(
            f"{collector.place} is JSON, which --format plain does not read: leave it out."
        )
    named = wide.read(path, collector, options)
    return collector.finish(NAME, options, LAYOUTS, named=named, units=_UNITS)


def _finish(collector: Collector, options: Options, values: dict[str, Any]) -> Keypoints:
    values = {key: _as_numbers(value) for key, value in values.items()}
    key = _key(values, collector.place)
    where = f"{collector.place} ({key})" if key else collector.place
    frames = values[key]
    if not _is_points(frames):
        _add_frames(collector, frames, options, where)
        return _made(collector, options, values, collector.joints, len(frames))
    with np.errstate(over="ignore"):
        points = values[key].astype(np.float32)
    points = points if points.ndim == 4 else points[None]
    if os.path.basename(collector.path).lower().startswith(_FREEMOCAP):
        points = _of_camera(points, collector, options.clip)
    elif options.clip is not None:
        raise UserError(f"--clip {options.clip}: {where} is of one video: leave --clip out.")
    elif persons_axis.holds_frames(points[..., :2]):
        raise UserError(
            f"{where} has the shape {list(points.shape)}, read as {points.shape[0]} persons in "
            f"{points.shape[1]} frames, and its first axis moves like time: write persons before "
            f"frames (swapaxes(0, 1))."
        )
    if points.shape[-1] == 2:
        triples = np.concatenate([points, _scores(values, points.shape[:3], where)], axis=-1)
    else:
        require_scores(points[..., 2], where)
        triples = points
    for person, sequence in enumerate(triples):
        ids = (str(person),) if len(triples) > 1 else ONE
        collector.add_all(range(len(sequence)), sequence, ids)
    return _made(collector, options, values, *points.shape[2:0:-1])


def _made(
    collector: Collector, options: Options, values: dict[str, Any], joints: int, frames: int
) -> Keypoints:
    """Makes keypoints of what was collected and what the other arrays say."""
    names = _texts(values)
    named = None
    if names is not None and len(names) == joints:
        named = joint_names.identify(names, collector.place, options.joints, options.names)
    return collector.finish(
        NAME,
        options,
        LAYOUTS,
        named=named,
        units=_UNITS,
        length=frames,
        size=_size(values),
        fps=_rate(values),
        sorts=False,
    )


def _as_numbers(value: Any) -> Any:
    """Turns an array of objects that are numbers into one of numbers."""
    if not isinstance(value, np.ndarray) or not value.dtype.hasobject or value.ndim < 2:
        return value
    try:
        return value.astype(np.float64)
    except (TypeError, ValueError):
        return value


def _is_frames(value: Any) -> bool:
    """Tells whether a list has an array of points for a frame, and for no frame anything else."""
    if not isinstance(value, list) and (not isinstance(value, np.ndarray) or value.ndim != 1):
        return False
    arrays = [one for one in value if one is not None]
    return all(isinstance(one, np.ndarray) for one in arrays) and any(map(_is_of_frame, arrays))


def _is_of_frame(value: np.ndarray) -> bool:
    return value.dtype.kind in "fiu" and value.ndim in (2, 3) and value.shape[-1] in (2, 3)


def _add_frames(collector: Collector, frames: Any, options: Options, where: str) -> None:
    """Adds the persons of each frame, who have no identities."""
    if options.clip is not None:
        raise UserError(f"--clip {options.clip}: {where} is of one video: leave --clip out.")
    for number, value in enumerate(frames):
        place = f"{where}, frame {number}"
        if value is None or not value.size:
            continue
        if not _is_of_frame(value):
            raise UserError(
                f"{place} has the shape {list(value.shape)} where joints x 2 or 3, or persons x "
                f"joints x 2 or 3, must be: write x and y in pixels, and a score if there is one."
            )
        for person in value.reshape(-1, *value.shape[-2:]).astype(np.float64):
            if person.shape[-1] == 3:
                require_scores(person[:, 2], place)
            else:
                person = np.concatenate([person, np.ones((len(person), 1))], axis=-1)
            collector.add(number, person.reshape(-1), (), place)


def _of_camera(points: np.ndarray, collector: Collector, chosen: str | None) -> np.ndarray:
    """Returns the body in one of FreeMoCap's cameras, `[C, T, K, 2]` -> `[1, T, 33, 2]`."""
    if points.shape[2] < _BODY:
        raise UserError(
            f"{collector.place} has {points.shape[2]} points, and FreeMoCap's arrays begin with "
            f"the {_BODY} landmarks of the body: rename the file if it is another tool's."
        )
    cameras = [str(camera) for camera in range(len(points))]
    camera = choose_clip(cameras, chosen, collector.place)
    left_out = points.shape[2] - _BODY
    collector.notes.append(
        f"The array was taken as FreeMoCap's by its name: camera {camera} of {len(cameras)}"
        + (f", without {left_out} points of hands and face." if left_out else ".")
    )
    return points[int(camera)][None, :, :_BODY]


def _key(values: dict[str, Any], place: str) -> str:
    """Returns the key of the array with the points."""
    fits = [key for key, value in values.items() if _is_points(value) or _is_frames(value)]
    for key in (*_POINTS, *(fits if len(fits) == 1 else ())):
        if key in fits:
            return key
    shapes = ", ".join(
        f"{key} {list(value.shape)}".strip()
        for key, value in list(values.items())[:10]
        if isinstance(value, np.ndarray)
    )
    if fits:
        raise UserError(f"{place} has several arrays of points ({shapes}): name one keypoints_2d.")
    raise UserError(
        f"{place} has no array of frames x joints x 2 or 3 (it has {shapes or 'no numbers'}): "
        f"write x and y in pixels, and a score if there is one."
    )


def _is_points(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind in "fiu"
        and value.ndim in (3, 4)
        and value.shape[-1] in (2, 3)
        and value.size > 0
    )


def _scores(values: dict[str, Any], shape: tuple[int, ...], where: str) -> np.ndarray:
    """Returns the scores, `[P, T, K, 1]`; 1 if the file has none."""
    scores = next((values[key] for key in _SCORES if key in values), None)
    if scores is None:
        return np.ones((*shape, 1), np.float32)
    if (
        not isinstance(scores, np.ndarray)
        or scores.dtype.kind not in "fiub"
        or scores.shape not in (shape, shape[1:])
    ):
        raise UserError(
            f"{where} is of {list(shape[1:])} frames and joints, and its scores are not: write a "
            f"score for each joint, or none."
        )
    with np.errstate(over="ignore"):
        return scores.astype(np.float32).reshape(*shape, 1)


def _texts(values: dict[str, Any]) -> list[str] | None:
    for key in _NAMES:
        value = values.get(key)
        if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "US":
            return [
                one.decode("utf-8", "replace") if isinstance(one, bytes) else one
                for one in value.tolist()
            ]
        if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
            return list(value)
    return None


def _size(values: dict[str, Any]) -> tuple[int, int] | None:
    value = values.get("size")
    if isinstance(value, np.ndarray) and value.shape == (2,) and value.dtype.kind in "iuf":
        if np.isfinite(value).all() and (value >= 1).all() and (value < 10**6).all():
            return int(value[0]), int(value[1])
    return None


def _rate(values: dict[str, Any]) -> float | None:
    value = values.get("fps")
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "iuf":
        return float(value.reshape(())) if 0 < float(value.reshape(())) < 1e5 else None
    return None
