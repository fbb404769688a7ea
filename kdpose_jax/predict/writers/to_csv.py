"""Writes all persons into one csv file: one row for every person, frame and joint.

Units stand in the header. A cell is empty where there is no pose or no keypoint. `x_m`, `y_m` and
`z_m` are relative to the root joint, in the camera's axes; `root_x_m` and so on say where the root
is, and are there only if it moves.
"""

import csv
import io
from typing import BinaryIO

import numpy as np

from kdpose_jax.predict.poses import PosesOfPerson
from kdpose_jax.predict.writers.spool import Recording

KEYS = ("person", "frame", "time_s", "joint")
VALUES_3D = (("x_m", "%.5f"), ("y_m", "%.5f"), ("z_m", "%.5f"))
ROOT = (("root_x_m", "%.5f"), ("root_y_m", "%.5f"), ("root_z_m", "%.5f"))
VALUES_2D = (("u_px", "%.2f"), ("v_px", "%.2f"), ("score", "%.4f"), ("seen", "%d"), ("valid", "%d"))


def write(file: BinaryIO, recording: Recording) -> tuple[str, ...]:
    """Writes the file. There is nothing to note."""
    about = recording.about
    columns = (*(VALUES_3D if recording.has_3d else ()), *VALUES_2D)
    columns += ROOT if recording.moves else ()
    file.write(f"{','.join([*KEYS, *(name for name, _ in columns)])}\n".encode())
    frame = (",".join(form for _, form in columns) + "\n") * len(about.joints)
    joints = [_cell(name) for name in about.joints]
    for person in recording.persons:
        name = _cell(person.name)
        for block in person.blocks():
            values = _values(block, about.root, recording.moves)
            for number, row in enumerate(values, block.first_frame):
                # Only numbers are formatted here, so that "nan" is never a part of a name.
                lines = (frame % tuple(row)).replace("nan", "").splitlines()
                key = f"{name},{number},{number / about.fps:.6f}"
                text = "".join(
                    f"{key},{joint},{line}\n" for joint, line in zip(joints, lines, strict=True)
                )
                file.write(text.encode("utf-8", "replace"))
    return ()


def _values(block: PosesOfPerson, root: int, moves: bool) -> list[list[float]]:
    """Lists the numbers of every frame, joint by joint."""
    frames, joints = block.scores.shape
    columns = [] if block.pose_3d is None else [block.pose_3d - block.pose_3d[:, root, None]]
    columns += [block.keypoints_2d, block.scores[..., None], block.seen[..., None]]
    columns.append(np.broadcast_to(block.valid[:, None, None], (frames, joints, 1)))
    if moves:
        assert block.pose_3d is not None
        columns.append(np.broadcast_to(block.pose_3d[:, root, None], (frames, joints, 3)))
    return np.concatenate(columns, axis=-1, dtype=np.float64).reshape(frames, -1).tolist()


def _cell(text: str) -> str:
    """Quotes a text where csv needs it, and keeps it in one line."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([" ".join(text.split())])
    return line.getvalue()
