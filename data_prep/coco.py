"""Converts COCO keypoints to person records.

It reads person_keypoints_*.json, photographs and a file of detections.
Layout: docs/methods/pose2d.md#coco.
"""

import argparse
import collections
import os
from typing import Any

import numpy as np

from data_prep import (
    annotations,
    boxes,
    coco_annotations,
    coco_detections,
    json_values,
    photographs,
    picture_options,
    records,
)
from data_prep.annotations import Person
from data_prep.coco_annotations import Annotated
from data_prep.coco_detections import ASPECT, Detected
from data_prep.photographs import Photograph
from data_prep.picture_options import Options
from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import COCO_17

HELP = "COCO's keypoint annotations and photographs"
LAYOUT = {
    "train_annotations": "annotations/person_keypoints_train2017.json",
    "test_annotations": "annotations/person_keypoints_val2017.json",
    "train_images": "train2017",
    "test_images": "val2017",
}
REACH = Reach(scale_factor=0.35, rotation_factor=45.0, half_body=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    picture_options.add(parser, LAYOUT, REACH)
    parser.add_argument(
        "--detections",
        metavar="PATH",
        help="a detector's boxes on the test photographs: a further split",
    )


def expected_files(settings: dict[str, Any]) -> str:
    """Names the raw files that a conversion with these settings reads."""
    further = f", and {settings['detections']}" if settings["detections"] else ""
    return f"{picture_options.expected_files(settings)}{further}, in COCO's layout"


def convert(
    source: str, out: str, detections: str | None, workers: int, **options: Any
) -> records.Summary:
    """Converts COCO, or another set in its layout; paths are relative to `source`.

    Args:
      source: folder with the raw files.
      out: folder for the records.
      detections: a detector's boxes on the test photographs, COCO's results format; None for no
        boxes.
      workers: number of processes.
      **options: the other arguments of `picture_options.check`. The photographs of a split may
        also lie in a folder `images` (SimCC's layout).

    Returns:
      The summary.

    Raises:
      UserError: a file is missing or wrong, or `out` cannot be used.
    """
    checked = picture_options.check(source, **options)
    if detections is not None and "test" not in checked.splits:
        raise UserError(
            f"--detections '{detections}' are of the test photographs, which --splits leaves out: "
            f"add test."
        )
    annotated = {
        split: coco_annotations.read_annotations(
            checked.path(listed.annotations), f"--{split}-annotations", checked.generated
        )
        for split, listed in checked.lists.items()
    }
    detected, splits = None, list(checked.splits)
    if detections is not None:
        path = checked.path(detections)
        detected = Detected(path, json_values.read_json(path, "--detections"))
        splits.append(schema.DETECTIONS_SPLIT)
    settings = checked.settings("coco", splits) | _other_categories(annotated)
    return annotations.recordset(
        out,
        checked.sources(detections),
        checked,
        settings,
        COCO_17,
        lambda: _load(checked, annotated, detected, out),
        workers,
    )


def _other_categories(annotated: dict[str, Annotated]) -> dict[str, Any]:
    """Returns a setting for files with other categories than COCO's.

    Older versions took category 1 and COCO's order.
    """
    categories = {
        split: {"person": one.category.person, "joints": list(one.category.places)}
        for split, one in annotated.items()
        if not one.category.is_coco
    }
    return {"categories": categories} if categories else {}


def _load(
    options: Options, annotated: dict[str, Annotated], detected: Detected | None, out: str
) -> annotations.Loaded:
    """Reads the persons, and pairs them with their photographs.

    Args:
      options: the checked options.
      annotated: list of persons -> its annotations.
      detected: a detector's boxes; None without.
      out: folder for the records, beside which missing photographs are listed.
    """
    persons: dict[str, list[Person]] = {}
    left_out: list[str] = []
    notes: list[str] = []
    for split, one in annotated.items():
        doubts: list[str] = []
        persons[split] = read_persons(one, split, left_out, doubts)
        notes += [f"{split}: {note}" for note in (*one.notes, *doubts)]
    if detected is not None:
        doubts = []
        persons[schema.DETECTIONS_SPLIT] = coco_detections.read_detections(
            detected.entries, annotated["test"], detected.path, left_out, doubts
        )
        notes += [f"{schema.DETECTIONS_SPLIT}: {note}" for note in doubts]
    shown = {
        folder: [one for split in persons if folder_of(split) == folder for one in persons[split]]
        for folder in annotated
    }
    pictures = _photographs(options, shown, annotated, out, notes)
    pairs = {
        split: annotations.with_photographs(own, pictures[folder_of(split)], split, left_out)
        for split, own in persons.items()
    }
    splits = annotations.with_validation(pairs, options, notes)
    files = {}
    for split in (schema.VAL_SPLIT, "test"):
        if split not in splits:
            continue
        if split in annotated:
            lost = {one.file for one in shown[split]} - set(pictures[split])
            names = {one["file_name"] for one in annotated[split].images.values()} - lost
        else:  # drawn out of the training photographs
            names = {person.file for person, _ in splits[split]}
        whole = annotated[split if split in annotated else "train"]
        files[annotations_file(split)] = coco_annotations.for_evaluation(whole, names)
    return annotations.Loaded(splits, left_out, notes, files)


def annotations_file(split: str) -> str:
    """Names the file of a split's annotations for COCOeval, which lies beside the shards."""
    return f"{split}_annotations.json"


def folder_of(split: str) -> str:
    """Returns the split whose photographs a split shows; detections are on the test photographs."""
    return "test" if split == schema.DETECTIONS_SPLIT else split


def clean_box(
    box: list[float], width: int, height: int
) -> tuple[float, float, float, float] | None:
    """Clips a box (x, y, width, height) to its photograph, as HRNet's coco.py does.

    The result is None if nothing is left.
    """
    x, y = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = (
        min(width - 1, x + max(0.0, box[2] - 1)),
        min(height - 1, y + max(0.0, box[3] - 1)),
    )
    return (
        (x, y, right - x, bottom - y)
        if right >= x and bottom >= y and (right, bottom) != (x, y)
        else None
    )


def read_persons(
    annotated: Annotated, split: str, left_out: list[str], notes: list[str]
) -> list[Person]:
    """Reads annotated persons, photograph by photograph, as HRNet's coco.py takes them.

    Args:
      annotated: the file with the persons.
      split: names the split in `left_out`.
      left_out: gets the number of persons that are not taken, by reason.
      notes: gets sentences about what is doubtful.

    Returns:
      The persons.

    Raises:
      UserError: the boxes mean something else, or nobody is left.
    """
    notes += _check_boxes(annotated)
    of_image = collections.defaultdict(list)
    for entry in annotated.persons:
        of_image[entry["image_id"]].append(entry)
    persons, counts = [], collections.Counter()
    for image_id, image in annotated.images.items():
        for entry in of_image[image_id]:
            box = clean_box(entry["bbox"], image["width"], image["height"])
            keypoints = np.asarray(entry["keypoints"], np.float64).reshape(-1, 3)
            if entry["iscrowd"]:
                counts["crowds"] += 1
            elif not entry["num_keypoints"]:
                counts["persons without a labelled joint"] += 1
            elif box is None or entry["area"] <= 0:
                counts["boxes of zero area"] += 1
            else:
                center, scale = crops.box_to_crop(box, ASPECT)
                persons.append(
                    annotations.make_person(
                        file=image["file_name"],
                        image_id=image_id,
                        person_id=entry["id"],
                        center=center,
                        scale=scale,
                        joints=keypoints[:, :2],
                        visible=keypoints[:, 2] > 0,
                        score=1.0,
                        area=float(entry["area"]),
                        head_size=0.0,
                    )
                )
    listed = [f"{count:,} {what}" for what, count in sorted(counts.items())]
    if not persons:
        raise UserError(
            f"'{annotated.path}' has no person with a labelled joint and a box and an area above "
            f"zero ({', '.join(listed)}): give a file like person_keypoints_val2017.json."
        )
    left_out += [f"{split}: {one}" for one in listed]
    return persons


def _check_boxes(annotated: Annotated) -> list[str]:
    """Returns the notes from `boxes.check_annotated` about the persons that have joints."""
    labelled = [one for one in annotated.persons if one["num_keypoints"] and not one["iscrowd"]]
    keypoints = np.asarray([one["keypoints"] for one in labelled], np.float64).reshape(
        len(labelled), COCO_17.num_joints, 3
    )
    images = [annotated.images[one["image_id"]] for one in labelled]
    sizes = np.asarray([[image["width"], image["height"]] for image in images], np.float64)
    stated = np.asarray([one["bbox"] for one in labelled], np.float64)
    return boxes.check_annotated(
        stated, boxes.BOXES, keypoints[..., :2], keypoints[..., 2] > 0, sizes, annotated.path
    )


def _photographs(
    options: Options,
    persons: dict[str, list[Person]],
    annotated: dict[str, Annotated],
    out: str,
    notes: list[str],
) -> dict[str, dict[str, Photograph]]:
    """Looks at the photographs of some persons, by split.

    Raises:
      UserError: a photograph does not have the size that its annotations state.
    """
    folders = {name: _folder(options, listed.photographs) for name, listed in options.lists.items()}
    pictures = {}
    for split, stored in annotations.look_at(options, folders, persons, out).items():
        sizes = collections.defaultdict(set)
        for person in persons[split]:
            image = annotated[split].images[person.image_id]
            sizes[person.file].add((image["width"], image["height"]))
        pictures[split], turned = photographs.oriented(
            stored,
            lambda one, sizes=sizes: {(one.width, one.height)} == sizes[one.name],
            options.orientation,
        )
        notes += [f"{split}: {note}" for note in turned]
        for picture in pictures[split].values():
            _refuse_other_sizes(picture, sizes[picture.name])
    return pictures


def _folder(options: Options, name: str) -> str:
    """Returns the folder of a split's photographs, or the one of this name in `images`."""
    place, nested = options.path(name), options.path(os.path.join("images", name))
    return nested if os.path.isdir(nested) and not os.path.isdir(place) else place


def _refuse_other_sizes(picture: Photograph, stated: set[tuple[int, int]]) -> None:
    """Raises UserError unless a photograph has the size that all its annotations state."""
    others = stated - {(picture.width, picture.height)}
    if others:
        width, height = min(others)
        is_on_the_side = (height, width) == (picture.width, picture.height)
        raise UserError(
            f"'{picture.path}' is {picture.width} x {picture.height} and its annotations "
            f"are for {width} x {height}: put the photographs there that were "
            f"annotated{', or turn these by a quarter' if is_on_the_side else ''}."
        )
