"""Converts MPII in HRNet's layout to person records.

It reads annot/*.json, annot/gt_valid.mat and images/. Layout: docs/methods/pose2d.md#mpii.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from data_prep import annotations, boxes, gt_valid, photographs, records
from data_prep.annotations import Person
from data_prep.photographs import Photograph
from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.errors import UserError
from kdpose_jax.files import sha256
from kdpose_jax.skeletons import MPII_16

LAYOUT = {
    "train_annotations": "annot/train.json",
    "test_annotations": "annot/valid.json",
    "train_images": "images",
    "test_images": "images",
}
HEAD_BOXES = "annot/gt_valid.mat"
NO_HEAD_BOXES = "none"
REACH = Reach(scale_factor=0.25, rotation_factor=30.0, half_body=False)
# Two conversions of one annotation differ by rounding. Another sample's joints are far off.
SAME_JOINT = 2.0
# This share of the joints may be off, because official conversions differ in a few.
MISMATCH = 0.01
UNKNOWN = -1  # x of an unmarked centre
# Joints are marked beyond a photograph by up to this share of its sides.
ON_PHOTOGRAPH = 0.02
PUBLISHED = {"train.json": 22_246, "valid.json": 2_958}  # persons in HRNet's lists


def convert(
    source: str,
    out: str,
    train_annotations: str,
    test_annotations: str,
    train_images: str,
    test_images: str,
    head_boxes: str | None,
    splits: tuple[str, ...],
    scale_factor: float,
    rotation_factor: float,
    half_body: bool,
    encoding: str,
    generated: bool,
    orientation: str | None,
    skip_missing: bool,
    workers: int,
) -> records.Summary:
    """Converts MPII, or another set in its layout; paths are relative to `source`.

    Args:
      source: folder with the raw files.
      out: folder for the records.
      train_annotations: HRNet's list with the training persons.
      test_annotations: HRNet's list with the test persons.
      train_images: folder with the training photographs.
      test_images: folder with the test photographs.
      head_boxes: MATLAB file with the test persons' head boxes for PCKh; None for HEAD_BOXES if it
        exists, "none" for no head sizes.
      splits: "train", "test" or both.
      scale_factor: see `annotations.check_options`, also for the next six.
      rotation_factor: degrees.
      half_body: whether training may cut out half bodies.
      encoding: "jpeg" or "png".
      generated: whether the pictures are generated.
      orientation: "exif" or "ignore"; None lets the annotations decide.
      skip_missing: whether to leave out persons whose photograph is missing.
      workers: number of processes.

    Returns:
      The summary.

    Raises:
      UserError: a file is missing or wrong, or `out` cannot be used.
    """
    options = annotations.check_options(
        source,
        scale_factor,
        rotation_factor,
        half_body,
        encoding,
        splits,
        generated,
        orientation,
        skip_missing,
    )
    lists = {"train": (train_annotations, train_images), "test": (test_annotations, test_images)}
    lists = {split: lists[split] for split in options.splits}
    entries = {
        split: annotations.read_json(os.path.join(source, name), f"--{split}-annotations")
        for split, (name, _) in lists.items()
    }
    files = [name for name, _ in lists.values()]
    boxes_file = _head_boxes(source, head_boxes) if "test" in lists else None
    if boxes_file is not None:
        files.append(boxes_file)

    def load() -> tuple[Any, list[str], list[str], dict[str, bytes]]:
        found, left_out, notes = {}, [], []
        for split, (name, _) in lists.items():
            persons = read_persons(entries[split], os.path.join(source, name))
            notes += [f"{split}: {note}" for note in _published(name, persons, generated)]
            if split == "test" and boxes_file is not None:
                persons, changed = with_head_boxes(persons, os.path.join(source, boxes_file), name)
                notes += changed
            elif split == "test":
                notes.append("test: no head boxes, so that PCKh cannot be computed")
            found[split] = persons
        pictures = photographs.look_at(
            [
                photographs.Folder(
                    os.path.join(source, lists[split][1]),
                    [person.file for person in persons],
                    f"--{split}-images",
                )
                for split, persons in found.items()
            ],
            out,
            skip_missing,
        )
        pairs = {}
        for (split, persons), stored in zip(found.items(), pictures, strict=True):
            used, turned = photographs.oriented(stored, _fit(persons), orientation)
            pairs[split] = annotations.with_photographs(persons, used, split, left_out)
            doubts = _check_boxes(
                pairs[split], entries[split], os.path.join(source, lists[split][0])
            )
            notes += [f"{split}: {note}" for note in (*turned, *doubts)]
        return pairs, left_out, notes, {}

    sources = {name: sha256(os.path.join(source, name)) for name in files}
    settings = {
        "name": "mpii",
        "images": {split: folder for split, (_, folder) in lists.items()},
    } | options.settings(list(lists))
    return annotations.recordset(out, sources, options, settings, MPII_16, load, workers)


def from_annotation(
    center: np.ndarray, scale: float, joints: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Converts MPII's convention to ours (HRNet, mpii.py).

    The box moves down a little and gets a margin. MATLAB's pixels count from 1, ours from 0.

    Args:
      center: `[2]`, pixels from 1; x = -1 if it is unknown.
      scale: person height / 200 pixels.
      joints: `[16, 2]`, pixels from 1.

    Returns:
      center `[2]`, scale `[2]` and joints `[16, 2]`.
    """
    if center[0] != UNKNOWN:
        center, scale = center + [0, 15 * scale], scale * crops.PADDING
    return center - 1, np.asarray([scale, scale]), joints - 1


def read_persons(entries: Any, path: str) -> list[Person]:
    """Reads the persons in HRNet's list, and checks each entry.

    Args:
      entries: the JSON file's content.
      path: names the file in messages.

    Returns:
      One person per entry, in the list's order, without head sizes.

    Raises:
      UserError: the layout is another one, or an entry has no joints.
    """
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(entry, dict) for entry in entries)
    ):
        raise UserError(
            f"'{path}' is no list of persons: give a file in the layout of HRNet's MPII "
            f"annotations."
        )
    persons, image_ids = [], {}
    for index, entry in enumerate(entries):
        place = f"'{path}', entry {index}"
        for key in ("image", "center", "scale", "joints", "joints_vis"):
            if key not in entry:
                raise UserError(
                    f"{place} has no {key}: give annotations with {key}, which test.json lacks "
                    f"and valid.json has."
                )
        if not isinstance(entry["image"], str) or not entry["image"]:
            raise UserError(
                f"{place}, image is {entry['image']!r} where a file name must be: repair the file "
                f"or download it again."
            )
        visible = annotations.numbers(entry["joints_vis"], (16,), f"{place}, joints_vis") > 0
        center, scale, joints = from_annotation(
            annotations.numbers(entry["center"], (2,), f"{place}, center"),
            float(annotations.numbers(entry["scale"], (), f"{place}, scale")),
            annotations.numbers(entry["joints"], (16, 2), f"{place}, joints"),
        )
        persons.append(
            annotations.make_person(
                file=entry["image"],
                image_id=image_ids.setdefault(entry["image"], len(image_ids)),
                person_id=index,
                center=center,
                scale=scale,
                joints=joints,
                visible=visible,
                score=1.0,
                area=0.0,
                head_size=0.0,
            )
        )
    return persons


def _published(name: str, persons: list[Person], generated: bool) -> list[str]:
    """Returns a note if a list with a published name does not hold the published number."""
    published = PUBLISHED.get(os.path.basename(name))
    if generated or published is None or len(persons) == published:
        return []
    return [f"'{name}' lists {len(persons):,} persons, and HRNet's list of this name {published:,}"]


def _fit(persons: list[Person]) -> Callable[[Photograph], bool]:
    """Makes a function that tells whether labelled joints lie about on their photograph."""
    lows, highs = {}, {}
    for person in persons:
        if person.visible.any():
            joints = person.joints[person.visible].astype(np.float64)
            lows[person.file] = np.minimum(
                lows[person.file] if person.file in lows else np.inf, joints.min(0)
            )
            highs[person.file] = np.maximum(
                highs[person.file] if person.file in highs else -np.inf, joints.max(0)
            )

    def fits(photograph: Photograph) -> bool:
        size = np.asarray([photograph.width, photograph.height])
        margin = 1 + ON_PHOTOGRAPH * size
        name = photograph.name
        return name not in lows or bool(
            (lows[name] >= -margin).all() and (highs[name] <= size - 1 + margin).all()
        )

    return fits


def _check_boxes(
    pairs: list[tuple[Person, Photograph]], entries: list[dict[str, Any]], path: str
) -> list[str]:
    """Returns the notes from `boxes.check_annotated`.

    They are about the persons with joints, a centre and a scale.
    """
    kept = [
        (person, picture, entry)
        for person, picture in pairs
        if (entry := entries[person.person_id])["scale"] > 0
        and entry["center"][0] != UNKNOWN
        and person.visible.any()
    ]
    if not kept:
        return []
    stated = np.asarray([[*entry["center"], entry["scale"]] for *_, entry in kept], np.float64)
    joints, visible = (
        np.stack([getattr(person, name) for person, *_ in kept]) for name in ("joints", "visible")
    )
    sizes = np.asarray([[picture.width, picture.height] for _, picture, _ in kept], np.float64)
    return boxes.check_annotated(stated, boxes.CENTRES, joints, visible, sizes, path)


def _head_boxes(source: str, head_boxes: str | None) -> str | None:
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
