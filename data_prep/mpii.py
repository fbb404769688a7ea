"""Converts MPII in HRNet's layout to person records.

It reads annot/*.json, annot/gt_valid.mat and images/. Layout: docs/methods/pose2d.md#mpii.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from data_prep import (
    annotations,
    boxes,
    json_values,
    photographs,
    picture_options,
    records,
)
from data_prep.annotations import Person
from data_prep.head_boxes import HEAD_BOXES, find_head_boxes, with_head_boxes
from data_prep.photographs import Photograph
from data_prep.picture_options import Options
from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import MPII_16

HELP = "MPII's annotations as HRNet has them, and its photographs"
LAYOUT = {
    "train_annotations": "annot/train.json",
    "test_annotations": "annot/valid.json",
    "train_images": "images",
    "test_images": "images",
}
REACH = Reach(scale_factor=0.25, rotation_factor=30.0, half_body=False)
UNKNOWN = -1  # x of an unmarked centre
# Joints are marked beyond a photograph by up to this share of its sides.
ON_PHOTOGRAPH = 0.02
PUBLISHED = {"train.json": 22_246, "valid.json": 2_958}  # persons in HRNet's lists


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    picture_options.add(parser, LAYOUT, REACH)
    parser.add_argument(
        "--head-boxes",
        metavar="PATH",
        help=f"for PCKh (default {HEAD_BOXES}, if it is there); none: no head sizes",
    )


def expected_files(settings: dict[str, Any]) -> str:
    """Names the raw files that a conversion with these settings reads."""
    head_boxes = settings["head_boxes"] or HEAD_BOXES
    lists = picture_options.expected_files(settings)
    return f"{lists}, and {head_boxes} for PCKh, in HRNet's layout of MPII"


def convert(
    source: str, out: str, head_boxes: str | None, workers: int, **options: Any
) -> records.Summary:
    """Converts MPII, or another set in its layout; paths are relative to `source`.

    Args:
      source: folder with the raw files.
      out: folder for the records.
      head_boxes: MATLAB file with the test persons' head boxes for PCKh; None for HEAD_BOXES if it
        exists, "none" for no head sizes.
      workers: number of processes.
      **options: the other arguments of `picture_options.check`. The annotations are HRNet's
        lists.

    Returns:
      The summary.

    Raises:
      UserError: a file is missing or wrong, or `out` cannot be used.
    """
    checked = picture_options.check(source, **options)
    entries = checked.read_lists()
    boxes_file = find_head_boxes(source, head_boxes) if "test" in entries else None
    return annotations.recordset(
        out,
        checked.sources(boxes_file),
        checked,
        checked.settings("mpii", list(checked.splits)),
        MPII_16,
        lambda: _load(checked, entries, boxes_file, out),
        workers,
    )


def _load(
    options: Options, entries: dict[str, Any], boxes_file: str | None, out: str
) -> annotations.Loaded:
    """Reads the persons, and pairs them with their photographs.

    Args:
      options: the checked options.
      entries: list of persons -> its content.
      boxes_file: the file with the test persons' head boxes, relative to the source; None without.
      out: folder for the records, beside which missing photographs are listed.
    """
    persons: dict[str, list[Person]] = {}
    left_out: list[str] = []
    notes: list[str] = []
    for split, listed in options.lists.items():
        own = read_persons(entries[split], options.path(listed.annotations))
        published = _published(listed.annotations, own, options.generated)
        notes += [f"{split}: {note}" for note in published]
        if split == "test" and boxes_file is not None:
            own, changed = with_head_boxes(own, options.path(boxes_file), listed.annotations)
            notes += changed
        elif split == "test":
            notes.append("test: no head boxes, so that PCKh cannot be computed")
        persons[split] = own
    pairs = {}
    folders = {split: options.path(listed.photographs) for split, listed in options.lists.items()}
    for split, stored in annotations.look_at(options, folders, persons, out).items():
        used, turned = photographs.oriented(stored, _fit(persons[split]), options.orientation)
        pairs[split] = annotations.with_photographs(persons[split], used, split, left_out)
        path = options.path(options.lists[split].annotations)
        doubts = _check_boxes(pairs[split], entries[split], path)
        notes += [f"{split}: {note}" for note in (*turned, *doubts)]
    splits = annotations.with_validation(pairs, options, notes)
    return annotations.Loaded(splits, left_out, notes, {})


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
            f"'{path}' is not a list of persons: give a file in the layout of HRNet's MPII "
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
        visible = json_values.numbers(entry["joints_vis"], (16,), f"{place}, joints_vis") > 0
        center, scale, joints = from_annotation(
            json_values.numbers(entry["center"], (2,), f"{place}, center"),
            float(json_values.numbers(entry["scale"], (), f"{place}, scale")),
            json_values.numbers(entry["joints"], (16, 2), f"{place}, joints"),
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
