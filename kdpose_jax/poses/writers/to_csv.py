"""Writes all persons into one csv file: one row for every person, frame and joint.

Units stand in the header. A cell is empty where there is no pose or no keypoint. `x_m`, `y_m` and
`z_m` are relative to the root joint, in the camera's axes; `root_x_m` and so on say where the root
is, and are there only if it moves.
"""

from typing import BinaryIO

import numpy as np

from kdpose_jax.poses.predicted import PosesOfPerson
from kdpose_jax.poses.writers.spool import Recording

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
    numbers = ",".join(form for _, form in columns)
    # One row of every joint, each behind what the frame has in common.
    rows = ["", *(f",{_cell(name).replace('%', '%%')},{numbers}\n" for name in about.joints)]
    for person in recording.persons:
        name = _cell(person.name).replace("%", "%%")
        for block in person.blocks():
            values = _values(block, about.root, recording.moves)
            text = "".join(
                f"{name},{number},{number / about.fps:.6f}".join(rows) % tuple(row)
                for number, row in enumerate(values, block.first_frame)
            )
            # No cell of a joint's name begins like this.
            file.write(text.replace(",nan", ",").encode("utf-8", "replace"))
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
    """Quotes a text where csv needs it or it begins like NaN, and keeps it in one line."""
    text = " ".join(text.split())
    if text.startswith("nan") or "," in text or '"' in text:
        return '"' + text.replace('"', '""') + '"'
    return text
