"""Writes all persons into one npz file, which `numpy.load` reads without pickles.

| array | content |
|---|---|
| `pose_3d` | `[P, T, J, 3]` float32, metres, relative to the root joint, in the camera's axes |
| `root_path` | `[P, T, 3]` float32, metres: where the root is; only if it moves |
| `keypoints_2d`, `scores` | `[P, T, J, 2]` float32, pixels; `[P, T, J]` float32 |
| `seen`, `valid` | `[P, T, J]` and `[P, T]`, boolean |
| `persons`, `first_frame`, `frames` | `[P]`: names, first frame in the video, number of frames |
| `joints`, `parents`, `root` | `[J]` names, `[J]` indices, the root's index |
| `fps`, `size`, `length` | rate, `[2]` width and height or `[0]`, frames of the video |
| `network`, `fingerprint`, `notes`, `axes` | as `Poses` has them |
| `keyframe_stride`, `keyframe_offset` | likewise |

Row t of person p is frame `first_frame[p] + t`. T is the longest person's number of frames; rows
behind the end of the others are NaN and not valid. The arrays are not compressed: floats of motion
lose a tenth at most.
"""

import zipfile
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from kdpose_jax.poses.predicted import PosesOfPerson
from kdpose_jax.poses.writers.spool import BLOCK, Recording


def write(file: BinaryIO, recording: Recording) -> tuple[str, ...]:
    """Writes the file. There is nothing to note."""
    joints = len(recording.about.joints)
    large = {"keypoints_2d": (joints, 2), "scores": (joints,), "seen": (joints,), "valid": ()}
    if recording.has_3d:
        large = {"pose_3d": (joints, 3)} | large
        large |= {"root_path": (3,)} if recording.moves else {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, value in _small(recording).items():
            with archive.open(f"{name}.npy", "w") as member:
                npy_format.write_array(member, np.asarray(value), allow_pickle=False)
        for name, shape in large.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _write_large(member, recording, name, shape)
    return ()


def _small(recording: Recording) -> dict[str, Any]:
    about, persons = recording.about, recording.persons
    return {
        "joints": about.joints,
        "parents": about.parents,
        "root": about.root,
        "fps": about.fps,
        "size": np.asarray(about.size or (), np.int64),
        "length": about.length,
        "persons": [person.name for person in persons],
        "first_frame": [person.first_frame for person in persons],
        "frames": [person.length for person in persons],
        "network": about.network,
        "fingerprint": about.fingerprint,
        "keyframe_stride": about.keyframe_stride,
        "keyframe_offset": about.keyframe_offset,
        "notes": np.asarray(about.notes, np.str_),
        "axes": "camera",
    }


def _write_large(
    member: IO[bytes], recording: Recording, name: str, shape: tuple[int, ...]
) -> None:
    """Writes one array of all persons in blocks of frames."""
    longest = max(person.length for person in recording.persons)
    dtype = np.dtype("?" if name in ("seen", "valid") else "<f4")
    header = {
        "descr": npy_format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (len(recording.persons), longest, *shape),
    }
    npy_format.write_array_header_1_0(member, header)
    absent = np.full((BLOCK, *shape), False if dtype.kind == "b" else np.nan, dtype)
    for person in recording.persons:
        for block in person.blocks():
            member.write(_values(block, name, recording.about.root).astype(dtype).tobytes())
        for start in range(person.length, longest, BLOCK):
            member.write(absent[: longest - start].tobytes())


def _values(block: PosesOfPerson, name: str, root: int) -> np.ndarray:
    """Returns one array of a block."""
    if name == "root_path":
        assert block.pose_3d is not None
        return block.pose_3d[:, root]
    if name == "pose_3d":
        assert block.pose_3d is not None
        return block.pose_3d - block.pose_3d[:, root, None]
    return getattr(block, name)
