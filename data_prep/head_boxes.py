"""Adds the head boxes of gt_valid.mat to MPII's test persons."""

import os

import numpy as np

from data_prep import annotations, gt_valid
from data_prep.annotations import Person
from kdpose_jax.errors import UserError

HEAD_BOXES = "annot/gt_valid.mat"
NO_HEAD_BOXES = "none"
# Two conversions of one annotation differ by rounding. Another sample's joints are far off.
SAME_JOINT = 2.0
# This share of the joints may be off, because official conversions differ in a few.
MISMATCH = 0.01


def find_head_boxes(source: str, head_boxes: str | None) -> str | None:
    """Returns the file with head boxes, relative to `source`."""
    if head_boxes == NO_HEAD_BOXES:
        return None
    name = HEAD_BOXES if head_boxes is None else head_boxes
    if os.path.isfile(os.path.join(source, name)):
        return name
    if head_boxes is None:
        return None
    raise UserError(
        f"'{os.path.join(source, name)}' does not exist: put it there, or give --head-boxes "
        f"{NO_HEAD_BOXES}."
    )


def with_head_boxes(
    persons: list[Person], path: str, listed: str
) -> tuple[list[Person], list[str]]:
    """Adds gt_valid.mat's head sizes and joints, which define PCKh.

    It first checks that the file is about the same persons.

    Args:
      persons: the test list's persons, in its order.
      path: the MATLAB file.
      listed: names the list in messages.

    Returns:
      The persons with head sizes and the file's joints, and notes.

    Raises:
      UserError: the file cannot be read, or is about other persons.
    """
    remedy = f"give --test-annotations that belong to it, or --head-boxes {NO_HEAD_BOXES}"
    official, notes = gt_valid.read(path, f"--head-boxes {NO_HEAD_BOXES}"), []
    if len(official.joints) > len(persons):
        places = _places(persons, official)
        if places is not None:
            notes.append(
                f"test: '{listed}' has {len(persons):,} persons, found by their joints among the "
                f"{len(official.joints):,} samples of the head box file"
            )
            official = official.samples(places)
    if len(official.joints) != len(persons):
        raise UserError(
            f"'{path}' has {len(official.joints):,} samples and '{listed}' has {len(persons):,} "
            f"persons: {remedy}."
        )
    visible = np.stack([person.visible for person in persons])
    distance = np.linalg.norm(
        np.stack([person.joints for person in persons]) - official.joints, axis=-1
    )
    wrong = (visible & official.labelled & (distance > SAME_JOINT)) | (visible != official.labelled)
    if wrong.mean() > MISMATCH:
        first = int(np.flatnonzero(wrong.any(1))[0])
        raise UserError(
            f"'{path}' does not match '{listed}': {wrong.sum():,} of {wrong.size:,} joints "
            f"differ, the first in sample {first}: {remedy}."
        )
    notes += (
        [
            f"test: {wrong.sum():,} joints differ between '{listed}' and the head box file, by "
            f"which scores go"
        ]
        if wrong.any()
        else []
    )
    merged = [
        annotations.make_person(
            **vars(person) | {"joints": place, "visible": labelled, "head_size": float(size)}
        )
        for person, place, labelled, size in zip(
            persons, official.joints, official.labelled, official.head_size, strict=True
        )
    ]
    return merged, notes


def _places(persons: list[Person], official: gt_valid.HeadBoxes) -> np.ndarray | None:
    """Finds each person's sample in the official file, by joints in the same places.

    Labelled joints count. The result is None if a person has no sample or several.
    """
    places = []
    for person in persons:
        distance = np.linalg.norm(official.joints - person.joints, axis=-1)
        same = (official.labelled == person.visible).all(1) & (
            ~person.visible | (distance <= SAME_JOINT)
        ).all(1)
        if same.sum() != 1 or not person.visible.any():
            return None
        places.append(int(np.flatnonzero(same)[0]))
    return np.asarray(places) if len(set(places)) == len(places) else None
