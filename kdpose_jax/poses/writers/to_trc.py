"""Writes one person as a TRC file, which OpenSim and Pose2Sim read: metres, y up.

The layout is that of OpenSim's documentation ("Marker (.trc) Files"): three lines of header, two
rows of labels, an empty line, and a row for every frame. Cells of missing joints are empty. Frames
count from 1, as the video's do, and times are the video's, so that persons who come later fit.
"""

from typing import BinaryIO

import numpy as np

from kdpose_jax.poses import axes
from kdpose_jax.poses.writers.spool import Recording

NOTE = "TRC is in metres, with y up and z towards the camera, which is taken as level."


def write(file: BinaryIO, recording: Recording) -> tuple[str, ...]:
    """Writes the file of the recording's only person.

    Returns:
      What the user should know about the file.
    """
    (person,), about = recording.persons, recording.about
    first = person.first_frame + 1
    fps = f"{about.fps:.10g}"
    numbers = [fps, fps, str(person.length), str(len(about.joints)), "m"]
    numbers += [fps, str(first), str(person.length)]
    names = ["_".join(name.split()) for name in about.joints]
    count = range(1, len(names) + 1)
    header = (
        ("PathFileType", "4", "(X/Y/Z)", "_".join(person.name.split()) + ".trc"),
        ("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units")
        + ("OrigDataRate", "OrigDataStartFrame", "OrigNumFrames"),
        numbers,
        ("Frame#", "Time", *(cell for name in names for cell in (name, "", ""))),
        ("", "", *(f"{axis}{number}" for number in count for axis in "XYZ")),
        (),
    )
    file.write("".join("\t".join(line) + "\n" for line in header).encode("utf-8", "replace"))
    row = "\t%.6f" * (3 * len(names))
    for block in person.blocks():
        assert block.pose_3d is not None
        points = axes.to_y_up(block.pose_3d).astype(np.float64).reshape(len(block.valid), -1)
        lines = [
            f"{number + 1}\t{number / about.fps:.6f}" + (row % tuple(values)).replace("nan", "")
            for number, values in enumerate(points.tolist(), block.first_frame)
        ]
        file.write(("\n".join(lines) + "\n").encode())
    return (NOTE,)
