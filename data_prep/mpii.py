"""MPII in HRNet's layout (annot/*.json, annot/gt_valid.mat, images/) -> person records.

Layout: docs/methods/pose2d.md#mpii.
"""

import os
from typing import Any

import numpy as np

from data_prep import annotations, gt_valid, photographs, records
from data_prep.annotations import Person
from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import MPII_16

LAYOUT = {
    "train_annotations": "annot/train.json", "test_annotations": "annot/valid.json", "train_images": "images", "test_images": "images",
}  # fmt: skip
HEAD_BOXES = "annot/gt_valid.mat"
NO_HEAD_BOXES = "none"
REACH = Reach(scale_factor=0.25, rotation_factor=30.0, half_body=False)
# Two conversions of one annotation differ by its rounding; another sample's joints are far off.
SAME_JOINT = 2.0
# Of the joints so many may be off: official conversions differ in a few.
MISMATCH = 0.01


def convert(
    source: str, out: str, train_annotations: str, test_annotations: str, train_images: str, test_images: str, head_boxes: str | None,
    splits: tuple[str, ...], scale_factor: float, rotation_factor: float, half_body: bool, encoding: str, generated: bool, workers: int,
) -> records.Summary:
    """Converts MPII, or another set in its layout; paths are relative to `source`.

    Args:
      source: folder of the raw files.
      out: folder for the records.
      train_annotations: HRNet's list of the training persons.
      test_annotations: of the test persons.
      train_images: folder of the training photographs.
      test_images: folder of the test photographs.
      head_boxes: MATLAB file for PCKh, of the test persons; None: HEAD_BOXES if it is there; "none": no head sizes.
      splits: "train", "test" or both.
      scale_factor: as the four that follow: `annotations.check_options`.
      rotation_factor: degrees.
      half_body: whether training may cut out half bodies.
      encoding: "jpeg" or "png".
      generated: whether the pictures are generated.
      workers: processes.

    Returns:
      The summary.

    Raises:
      UserError: a file is missing or wrong, or `out` cannot be used.
    """
    options = annotations.check_options(source, scale_factor, rotation_factor, half_body, encoding, splits, generated)
    lists = {"train": (train_annotations, train_images), "test": (test_annotations, test_images)}
    lists = {split: lists[split] for split in options.splits}
    entries = {
        split: annotations.read_json(os.path.join(source, name), f"--{split}-annotations") for split, (name, _) in lists.items()
    }
    files = [name for name, _ in lists.values()]
    boxes = _head_boxes(source, head_boxes) if "test" in lists else None
    if boxes is not None:
        files.append(boxes)

    def load() -> tuple[Any, list[str], list[str], dict[str, bytes]]:
        found, notes = {}, []
        for split, (name, _) in lists.items():
            persons = read_persons(entries[split], os.path.join(source, name))
            if split == "test" and boxes is not None:
                persons, changed = with_head_boxes(persons, os.path.join(source, boxes), name)
                notes += changed
            elif split == "test":
                notes.append("test: no head boxes, so that PCKh cannot be computed")
            found[split] = persons
        pictures = photographs.look_at([
            photographs.Folder(os.path.join(source, lists[split][1]), [person.file for person in persons], f"--{split}-images")
            for split, persons in found.items()
        ], out)  # fmt: skip
        shown = zip(found.items(), pictures, strict=True)
        return {split: [(person, there[person.file]) for person in persons] for (split, persons), there in shown}, [], notes, {}

    sources = {name: records.sha256(os.path.join(source, name)) for name in files}
    settings = {"name": "mpii", "images": {split: folder for split, (_, folder) in lists.items()}} | options.settings(list(lists))
    return annotations.recordset(out, sources, options, settings, MPII_16, load, workers)


def from_annotation(center: np.ndarray, scale: float, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MPII's convention -> ours (HRNet, mpii.py): the box moved down a little and padded, MATLAB's pixels from 1 counted from 0.

    Args:
      center: `[2]`, pixels from 1; x = -1: unknown.
      scale: person height / 200 pixels.
      joints: `[16, 2]`, pixels from 1.

    Returns:
      center `[2]`, scale `[2]` and joints `[16, 2]`.
    """
    if center[0] != -1:
        center, scale = center + [0, 15 * scale], scale * crops.PADDING
    return center - 1, np.asarray([scale, scale]), joints - 1


def read_persons(entries: Any, path: str) -> list[Person]:
    """The persons of HRNet's list, checked entry by entry.

    Args:
      entries: content of the JSON file.
      path: of the file.

    Returns:
      One person per entry, in their order, without head sizes.

    Raises:
      UserError: another layout, or an entry without joints.
    """
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"'{path}' is no list of persons: give a file in the layout of HRNet's MPII annotations.")
    persons, image_ids = [], {}
    for index, entry in enumerate(entries):
        place = f"'{path}', entry {index}"
        for key in ("image", "center", "scale", "joints", "joints_vis"):
            if key not in entry:
                raise UserError(f"{place} has no {key}: give annotations with {key}, which test.json lacks and valid.json has.")
        if not isinstance(entry["image"], str) or not entry["image"]:
            raise UserError(f"{place}, image is {entry['image']!r} where a file name must be: repair the file or download it again.")
        visible = annotations.numbers(entry["joints_vis"], (16,), f"{place}, joints_vis") > 0
        center, scale, joints = from_annotation(
            annotations.numbers(entry["center"], (2,), f"{place}, center"),
            float(annotations.numbers(entry["scale"], (), f"{place}, scale")),
            annotations.numbers(entry["joints"], (16, 2), f"{place}, joints"),
        )
        persons.append(annotations.make_person(
            file=entry["image"], image_id=image_ids.setdefault(entry["image"], len(image_ids)), person_id=index, center=center,
            scale=scale, joints=joints, visible=visible, score=1.0, area=0.0, head_size=0.0,
        ))
    return persons


def _head_boxes(source: str, head_boxes: str | None) -> str | None:
    """The file of head boxes, relative to `source`."""
    if head_boxes == NO_HEAD_BOXES:
        return None
    name = HEAD_BOXES if head_boxes is None else head_boxes
    if os.path.isfile(os.path.join(source, name)):
        return name
    if head_boxes is None:
        return None
    raise UserError(f"'{os.path.join(source, name)}' does not exist: put it there, or give --head-boxes {NO_HEAD_BOXES}.")


def with_head_boxes(persons: list[Person], path: str, listed: str) -> tuple[list[Person], list[str]]:
    """Adds the head sizes of gt_valid.mat, by whose joints PCKh goes, after checking that it is about the same persons.

    Args:
      persons: of the test list, in its order.
      path: of the MATLAB file.
      listed: name of the list, for messages.

    Returns:
      The persons with head sizes and the file's joints, and notes.

    Raises:
      UserError: the file cannot be read, or is of other persons.
    """
    remedy = f"give --test-annotations that belong to it, or --head-boxes {NO_HEAD_BOXES}"
    official = gt_valid.read(path, f"--head-boxes {NO_HEAD_BOXES}")
    if len(official.joints) != len(persons):
        raise UserError(f"'{path}' has {len(official.joints):,} samples and '{listed}' has {len(persons):,} persons: {remedy}.")
    visible = np.stack([person.visible for person in persons])
    distance = np.linalg.norm(np.stack([person.joints for person in persons]) - official.joints, axis=-1)
    wrong = (visible & official.labelled & (distance > SAME_JOINT)) | (visible != official.labelled)
    if wrong.mean() > MISMATCH:
        first = int(np.flatnonzero(wrong.any(1))[0])
        raise UserError(
            f"'{path}' does not match '{listed}': {wrong.sum():,} of {wrong.size:,} joints differ, the first in sample {first}: {remedy}."
        )
    notes = [f"test: {wrong.sum():,} joints differ between '{listed}' and the head box file, by which scores go"] if wrong.any() else []
    merged = [
        annotations.make_person(**vars(person) | {"joints": place, "visible": labelled, "head_size": float(size)})
        for person, place, labelled, size in zip(persons, official.joints, official.labelled, official.head_size, strict=True)
    ]
    return merged, notes
