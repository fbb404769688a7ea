"""MPII in HRNet's layout (annot/*.json, annot/gt_valid.mat, images/) -> person records (spec/cdkd.md 9.1)."""

import os
from typing import Any

import numpy as np

from data_prep import annotations, photographs, records
from data_prep.annotations import Person
from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import MPII_16
from kdpose_jax.untrusted.matlab import load_matlab

LAYOUT = {
    "train_annotations": "annot/train.json", "test_annotations": "annot/valid.json", "train_images": "images", "test_images": "images",
}  # fmt: skip
HEAD_BOXES = "annot/gt_valid.mat"
NO_HEAD_BOXES = "none"
REACH = Reach(scale_factor=0.25, rotation_factor=30.0, half_body=False)
HEAD_BIAS = 0.6  # of the head box's diagonal: PCKh's unit of length
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
        found, left_out, notes = {}, [], []
        for split, (name, folder) in lists.items():
            persons = read_persons(entries[split], os.path.join(source, name))
            if split == "test" and boxes is not None:
                persons, changed = with_head_boxes(persons, os.path.join(source, boxes), name)
                notes += changed
            elif split == "test":
                notes.append("test: no head boxes, so that PCKh cannot be computed")
            kept = [person for person in persons if person.scale[0] > 0]
            left_out += [f"{split}: {len(persons) - len(kept):,} boxes of zero area"] if len(kept) < len(persons) else []
            pictures = photographs.look_at(
                os.path.join(source, folder), list(dict.fromkeys(person.file for person in kept)), f"--{split}-images"
            )
            found[split] = [(person, pictures[person.file]) for person in kept]
        return found, left_out, notes, {}

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
    missing, joints, boxes = read_head_boxes(path)
    remedy = f"give --test-annotations that belong to it, or --head-boxes {NO_HEAD_BOXES}"
    if len(joints) != len(persons):
        raise UserError(f"'{path}' has {len(joints):,} samples and '{listed}' has {len(persons):,} persons: {remedy}.")
    visible = np.stack([person.visible for person in persons])
    both = visible & ~missing
    distance = np.linalg.norm(np.stack([person.joints for person in persons]) - (joints - 1), axis=-1)
    wrong = (both & (distance > SAME_JOINT)) | (visible & missing) | (~visible & ~missing)
    if wrong.mean() > MISMATCH:
        first = int(np.flatnonzero(wrong.any(1))[0])
        raise UserError(
            f"'{path}' does not match '{listed}': {wrong.sum():,} of {wrong.size:,} joints differ, the first in sample {first}: {remedy}."
        )
    sizes = HEAD_BIAS * np.linalg.norm(boxes[:, 1] - boxes[:, 0], axis=-1)
    notes = [f"test: {wrong.sum():,} joints differ between '{listed}' and the head box file, by which scores go"] if wrong.any() else []
    merged = [
        annotations.make_person(**vars(person) | {"joints": place - 1, "visible": ~gone, "head_size": float(size)})
        for person, place, gone, size in zip(persons, joints, missing, sizes, strict=True)
    ]
    return merged, notes


def read_head_boxes(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads gt_valid.mat.

    Args:
      path: of the file, MATLAB 5.

    Returns:
      `jnt_missing` `[N, 16]` booleans, `pos_gt_src` `[N, 16, 2]` pixels from 1, `headboxes_src` `[N, 2 corners, 2]`.

    Raises:
      UserError: no such file of MATLAB's, or another content.
    """
    try:
        content = load_matlab(path, ("jnt_missing", "pos_gt_src", "headboxes_src"))
        missing, joints, boxes = (np.asarray(content[key], np.float64) for key in ("jnt_missing", "pos_gt_src", "headboxes_src"))
        count = missing.shape[1]
        if missing.shape != (16, count) or joints.shape != (16, 2, count) or boxes.shape != (2, 2, count):
            raise ValueError(f"shapes {missing.shape}, {joints.shape} and {boxes.shape}")
        if not np.isfinite(boxes).all() or not np.isfinite(joints[np.repeat(missing[:, None] == 0, 2, 1)]).all():
            raise ValueError("not a finite number")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"'{path}' is not HRNet's gt_valid.mat ({type(error).__name__}: {error}): copy or download it again.") from error
    return missing.T != 0, np.moveaxis(joints, 2, 0), np.moveaxis(boxes, 2, 0)


