"""Knows what Human3.6M's release holds, and compares a conversion with it."""

import os

from data_prep.human36m.files import H36M, H36M_CORRUPT_TAKE, H36M_TEST_SUBJECTS, Source
from data_prep.human36m.pairing import View
from data_prep.takes import Takes3D
from kdpose_jax.data import schema

H36M_SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
# The published numbers: takes per subject, and frames per split in four views (VideoPose3D's and
# everybody's).
H36M_TAKES = {subject: 29 if subject == "S11" else 30 for subject in H36M_SUBJECTS}
H36M_FRAMES = {"train": 1_559_752, "test": 543_344}


def leave_out(files: Source, poses: Takes3D) -> list[str]:
    """Removes Human3.6M's corrupt take from `poses`.

    Returns what is not in the data set, and why.
    """
    left_out = []
    if files.name == H36M:
        subject, take = H36M_CORRUPT_TAKE
        if subject in poses and poses[subject].pop(take, None) is not None:
            left_out.append(f"{subject} {take}: corrupt take")
        left_out += [
            f"{subject}: not in {os.path.basename(files.positions)}"
            for subject in H36M_SUBJECTS
            if subject not in poses
        ]
    return left_out


def compare(files: Source, poses: Takes3D, items: dict[str, list[View]]) -> list[str]:
    """Returns notes if Human3.6M's numbers of takes and frames differ from the published ones."""
    if files.name != H36M:
        return []
    few = [
        f"{subject} {len(poses[subject])}"
        for subject in H36M_SUBJECTS
        if subject in poses and len(poses[subject]) != H36M_TAKES[subject]
    ]
    notes = (
        [f"takes: {', '.join(few)}, where Human3.6M has 30 of each subject (29 of S11)"]
        if few
        else []
    )
    if not few and len(poses) == len(H36M_SUBJECTS) and files.test_subjects == H36M_TEST_SUBJECTS:
        for split, frames in H36M_FRAMES.items():
            # The published training split includes the subjects that are held out here.
            parts = ("train", schema.VAL_SPLIT) if split == "train" else (split,)
            here = sum(view.frames for part in parts if part in items for view in items[part])
            notes += (
                [f"{split}: {here:,} frames where Human3.6M has {frames:,}"]
                if here != frames
                else []
            )
    return notes
