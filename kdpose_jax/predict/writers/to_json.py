"""Writes all persons into one JSON file, one frame a line.

`persons` is a list of `{"name", "first_frame", "frames"}`. A frame has its number in the video,
`valid`, and for every joint `pose_3d` (metres, relative to the root joint, in the camera's axes),
`keypoints_2d` (pixels), `scores` and `seen`. `root_path` is where the root is, if it moves. null
stands where there is no pose or no keypoint.
"""

import json
from typing import Any, BinaryIO

import numpy as np

from kdpose_jax.predict import axes
from kdpose_jax.predict.poses import PosesOfPerson
from kdpose_jax.predict.writers.spool import Person, Recording

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
    separator = "\n"
    for block in person.blocks():
        lines = [
            json.dumps(frame, separators=(",", ":"), allow_nan=False)
            for frame in _frames(block, recording.about.root, person.moves)
        ]
        file.write((separator + ",\n".join(lines)).encode())
        separator = ",\n"
    file.write(b"\n  ]}")


def _frames(block: PosesOfPerson, root: int, moves: bool) -> list[dict[str, Any]]:
    """Makes the entry of every frame of a block."""
    columns: dict[str, list[Any]] = {
        "frame": list(range(block.first_frame, block.first_frame + len(block.valid))),
        "valid": block.valid.tolist(),
    }
    if block.pose_3d is not None:
        path = block.pose_3d[:, root]
        columns["pose_3d"] = _rounded(block.pose_3d - path[:, None], DECIMALS_3D)
        if moves:
            columns["root_path"] = _rounded(path, DECIMALS_3D)
    columns["keypoints_2d"] = _rounded(block.keypoints_2d, DECIMALS_2D)
    columns["scores"] = _rounded(block.scores[..., None], DECIMALS_SCORE)
    columns["scores"] = [[one and one[0] for one in row] for row in columns["scores"]]
    columns["seen"] = block.seen.tolist()
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _rounded(values: np.ndarray, decimals: int) -> list[Any]:
    """Returns nested lists of vectors, with None for a vector that is not finite."""
    rounded = np.round(values.astype(np.float64), decimals) + 0.0  # no -0.0
    lists = rounded.tolist()
    known = np.isfinite(values).all(axis=-1)
    for index in np.argwhere(~known):
        row = lists
        for step in index[:-1]:
            row = row[step]
        row[index[-1]] = None
    return lists
