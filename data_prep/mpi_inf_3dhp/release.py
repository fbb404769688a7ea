"""Knows what MPI-INF-3DHP's release holds, and compares a conversion with it."""

import numpy as np

from data_prep import fitting
from data_prep.mpi_inf_3dhp.views import View
from kdpose_jax.skeletons import H36M_17

# Bodies are brought to one size (the protocol's), or stay as they are.
UNIVERSAL, TRUE_SCALE = "univ_annot3", "annot3"
POSE_SOURCES = (UNIVERSAL, TRUE_SCALE)
NUM_CAMERAS, RAW_JOINTS = 14, 28
CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # the cameras at a person's height (P-STMO)
# Frames and frames per second in the training sequences, as P-STMO cuts them. The files say
# neither.
SEQUENCES = {
    ("S1", "Seq1"): (6416, 25),
    ("S1", "Seq2"): (12430, 50),
    ("S2", "Seq1"): (6502, 25),
    ("S2", "Seq2"): (6081, 25),
    ("S3", "Seq1"): (12488, 50),
    ("S3", "Seq2"): (12283, 50),
    ("S4", "Seq1"): (6171, 25),
    ("S4", "Seq2"): (6675, 25),
    ("S5", "Seq1"): (12820, 50),
    ("S5", "Seq2"): (12312, 50),
    ("S6", "Seq1"): (6188, 25),
    ("S6", "Seq2"): (6145, 25),
    ("S7", "Seq1"): (6239, 25),
    ("S7", "Seq2"): (6320, 25),
    ("S8", "Seq1"): (6468, 25),
    ("S8", "Seq2"): (6054, 25),
}
TEST_SEQUENCES = tuple(f"TS{number}" for number in range(1, 7))
VALID_FRAMES = {
    "TS1": 603,
    "TS2": 540,
    "TS3": 505,
    "TS4": 553,
    "TS5": 276,
    "TS6": 452,
}  # frames that count in the protocol
# Distance from knee to neck along the bones, millimetres: univ_annot3's one size, and by how much
# it may differ within a file and from it.
KNEE_TO_NECK, SAME_SIZE, SIZE_RANGE = 920.0, 0.03, 0.06


def missing(train: list[View], test: list[View]) -> list[str]:
    """Names the sequences of the data set that are not there."""
    here = {(view.subject, view.take) for view in train}
    names = [f"{subject} {take}" for subject, take in SEQUENCES if (subject, take) not in here]
    names += [name for name in TEST_SEQUENCES if name not in {view.subject for view in test}]
    return [f"{name}: not there" for name in names]


def compare_frames(train: list[View], test: list[View]) -> list[str]:
    """Returns notes if numbers of frames differ from the protocol's."""
    frames = {(view.subject, view.take): view.frames for view in train}
    lines = [
        f"{subject} {take}: {count:,} frames where the data set has {SEQUENCES[subject, take][0]:,}"
        for (subject, take), count in frames.items() if count != SEQUENCES[subject, take][0]
    ]  # fmt: skip
    for view in test:
        valid = int(view.valid.sum())
        if valid != VALID_FRAMES[view.subject]:
            lines.append(
                f"{view.subject}: {valid:,} valid frames where the protocol has "
                f"{VALID_FRAMES[view.subject]:,}"
            )
    return fitting.listed(lines, "sequences with other numbers of frames")


def compare_sizes(views: list[View]) -> list[str]:
    """Returns a note if the bodies do not have the one size that univ_annot3 promises."""
    hip, spine, neck, left_hip, left_knee = (
        H36M_17.joints.index(name) for name in ("hip", "spine", "thorax", "left_hip", "left_knee")
    )
    sizes: dict[str, float] = {}
    for view in views:
        name = view.subject if view.subject == view.take else f"{view.subject} {view.take}"
        if name not in sizes:
            bones = ((left_knee, left_hip), (hip, spine), (spine, neck))
            lengths = [
                np.linalg.norm(view.pose_3d[:, one] - view.pose_3d[:, other], axis=-1)
                for one, other in bones
            ]
            sizes[name] = 1000 * float(np.median(np.sum(lengths, axis=0)))
    low, high = min(sizes, key=sizes.get), max(sizes, key=sizes.get)
    if (
        sizes[high] <= (1 + SAME_SIZE) * sizes[low]
        and max(abs(size / KNEE_TO_NECK - 1) for size in sizes.values()) <= SIZE_RANGE
    ):
        return []
    return [
        f"the bodies measure {sizes[low]:.0f} mm ({low}) to {sizes[high]:.0f} mm ({high}) from "
        f"knee to neck, where {UNIVERSAL} has one size of about {KNEE_TO_NECK:.0f} mm: "
        f"{TRUE_SCALE} seems to stand in its place, and scores do not compare with published ones"
    ]
