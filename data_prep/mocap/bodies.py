"""Finds signs that an axis is wrong, or that left and right are exchanged."""

import numpy as np

UPRIGHT = 0.5  # metres from feet to head
LYING = (
    f"a head less than {UPRIGHT:g} m above the feet most of the time (if these people do not lie, "
    "set --up y or --up z)"
)
BACKWARDS = (
    "knees that bend backwards, as they do where left and right are exchanged or an axis is "
    "mirrored (correct the file, or give the joints with --map)"
)
BENT = 0.3  # sine of a knee's angle: 17 degrees
# By these, none of 982 clips of CMU, HDM05 and Bandai-Namco seems mirrored.
BENT_FRAMES = 50
BENT_SHARE = 0.95
HEAD, ANKLES = 10, [3, 6]
LEGS = ((1, 2, 3), (4, 5, 6))


def doubts(pieces: list[np.ndarray]) -> list[str]:
    """Lists what the user should check in a file.

    Args:
      pieces: the file's motion, `[F, 17, 3]` each, metres, z up.
    """
    if not pieces:
        return []
    pose = np.concatenate(pieces).astype(np.float64)
    return [LYING] * is_lying(pose) + [BACKWARDS] * bends_backwards(pose)


def is_lying(pose: np.ndarray) -> bool:
    """Tells whether the person lies most of the time, which suggests another upward axis."""
    return float(np.median(pose[:, HEAD, 2] - pose[:, ANKLES, 2].mean(axis=1))) < UPRIGHT


def bends_backwards(pose: np.ndarray) -> bool:
    """Tells whether knees nearly always bend the wrong way for where left and right are."""
    left = pose[:, LEGS[1][0]] - pose[:, LEGS[0][0]]
    bends = []
    for hip, knee, ankle in LEGS:
        thigh, shank = pose[:, knee] - pose[:, hip], pose[:, ankle] - pose[:, knee]
        axis = np.cross(thigh, shank)  # points to the left if the shank goes back
        lengths = (
            np.linalg.norm(thigh, axis=1)
            * np.linalg.norm(shank, axis=1)
            * np.linalg.norm(left, axis=1)
        )
        bends.append((axis * left).sum(axis=1) / np.maximum(lengths, 1e-9))
    bends = np.concatenate(bends)
    bent = np.abs(bends) > BENT
    return bool(bent.sum() >= BENT_FRAMES and (bends[bent] < 0).mean() > BENT_SHARE)
