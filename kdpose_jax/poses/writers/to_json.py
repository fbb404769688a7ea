"""Writes all persons into one JSON file, one frame a line.

`persons` is a list of `{"name", "first_frame", "frames"}`. A frame has its number in the video,
`valid`, and for every joint `pose_3d` (metres, relative to the root joint, in the camera's axes),
`keypoints_2d` (pixels), `scores` and `seen`. `root_path` is where the root is, if it moves. null
stands where there is no pose or no keypoint.
"""

import json
from typing import Any, BinaryIO

import numpy as np

from kdpose_jax.poses import axes
from kdpose_jax.poses.predicted import PosesOfPerson
from kdpose_jax.poses.writers.spool import Person, Recording

DECIMALS_3D = 5  # of a metre
DECIMALS_2D = 2  # of a pixel
DECIMALS_SCORE = 4


def write(file: BinaryIO, recording: Recording) -> tuple[str, ...]:
    """Writes the file. There is nothing to note."""
    head = json.dumps(remarks(recording) | {"persons": []}, indent=1, allow_nan=False)
    before, after = head[: head.rindex("]")], head[head.rindex("]") :]
    file.write(before.encode())
    for number, person in enumerate(recording.persons):
        file.write(b",\n" if number else b"\n")
        _write_person(file, person, recording)
    file.write(f"\n {after}\n".encode())
    return ()


def remarks(recording: Recording) -> dict[str, Any]:
    """Describes the poses: whatever a format of plain numbers cannot hold."""
    about = recording.about
    return {
        "network": about.network,
        "fingerprint": about.fingerprint,
        "keyframe_stride": about.keyframe_stride,
        "keyframe_offset": about.keyframe_offset,
        "fps": about.fps,
        "size": list(about.size) if about.size else None,
        "length": about.length,
        "joints": list(about.joints),
        "parents": list(about.parents),
        "root": about.root,
        "units": {"pose_3d": "metres", "keypoints_2d": "pixels"},
        "axes": axes.AXES["camera"],
        "notes": list(about.notes),
    }


def _write_person(file: BinaryIO, person: Person, recording: Recording) -> None:
    head = {"name": person.name, "first_frame": person.first_frame, "frames": []}
    file.write(f"  {json.dumps(head)[:-2]}".encode())
    template = _template(len(recording.about.joints), person.has_3d, person.moves)
    separator = "\n"
    for block in person.blocks():
        columns = _columns(block, recording.about.root, person.moves)
        text = ",\n".join(
            template % (number, *(one for part in row for one in part))
            for number, row in enumerate(zip(*columns, strict=True), block.first_frame)
        )
        # There is nothing but numbers and our own keys in it.
        for missing in ("[nan,nan,nan]", "[nan,nan]", "nan"):
            text = text.replace(missing, "null")
        file.write((separator + text).encode())
        separator = ",\n"
    file.write(b"\n  ]}")


def _template(joints: int, has_3d: bool, moves: bool) -> str:
    """Makes the text of one frame with places for its numbers, in the order of `_columns`."""
    vector = "[" + ",".join([f"%.{DECIMALS_3D}f"] * 3) + "]"
    point = f"[%.{DECIMALS_2D}f,%.{DECIMALS_2D}f]"
    entries = ['"frame":%d', '"valid":%s']
    entries += ['"pose_3d":' + _list([vector] * joints)] if has_3d else []
    entries += [f'"root_path":{vector}'] if moves else []
    entries += ['"keypoints_2d":' + _list([point] * joints)]
    entries += ['"scores":' + _list([f"%.{DECIMALS_SCORE}f"] * joints)]
    entries += ['"seen":' + _list(["%s"] * joints)]
    return "{" + ",".join(entries) + "}"


def _list(entries: list[str]) -> str:
    return "[" + ",".join(entries) + "]"


def _columns(block: PosesOfPerson, root: int, moves: bool) -> list[list[list[Any]]]:
    """Lists what every frame of a block has, part by part."""
    parts: list[list[list[Any]]] = [_words(block.valid[:, None])]
    if block.pose_3d is not None:
        path = block.pose_3d[:, root]
        parts.append(_numbers(block.pose_3d - path[:, None]))
        parts += [_numbers(path)] if moves else []
    parts += [_numbers(block.keypoints_2d), _numbers(block.scores[..., None]), _words(block.seen)]
    return parts


def _words(values: np.ndarray) -> list[list[Any]]:
    return np.where(values, "true", "false").tolist()


def _numbers(vectors: np.ndarray) -> list[list[Any]]:
    """Lists the numbers of every frame; a vector that is not finite is NaN as a whole."""
    known = np.isfinite(vectors).all(axis=-1, keepdims=True)
    return np.where(known, vectors, np.nan).reshape(len(vectors), -1).tolist()
