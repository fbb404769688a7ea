"""Converts COCO keypoints to person records.

It reads person_keypoints_*.json, photographs and a file of detections.
Layout: docs/methods/pose2d.md#coco.
"""

import collections
import os
from typing import Any

import numpy as np

from data_prep import annotations, boxes, coco_annotations, coco_detections, photographs, records
from data_prep.annotations import Person
from data_prep.coco_annotations import Annotated
from data_prep.coco_detections import ASPECT
from data_prep.photographs import Photograph
from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.files import sha256
from kdpose_jax.skeletons import COCO_17

LAYOUT = {
    "train_annotations": "annotations/person_keypoints_train2017.json",
    "test_annotations": "annotations/person_keypoints_val2017.json",
    "train_images": "train2017",
    "test_images": "val2017",
}
REACH = Reach(scale_factor=0.35, rotation_factor=45.0, half_body=True)
# The test annotations for COCOeval, which lie beside the shards.
TEST_ANNOTATIONS_FILE = "test_annotations.json"


def convert(
    source: str,
    out: str,
    train_annotations: str,
    test_annotations: str,
    train_images: str,
    test_images: str,
    detections: str | None,
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
    """Converts COCO, or another set in its layout; paths are relative to `source`.

    Args:
      source: folder with the raw files.
      out: folder for the records.
      train_annotations: COCO's file with the training persons.
      test_annotations: COCO's file with the test persons.
      train_images: folder with the training photographs, there or in a folder `images` (SimCC's
        layout).
      test_images: folder with the test photographs, likewise.
      detections: a detector's boxes on the test photographs, COCO's results format; None for no
        boxes.
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
    if detections is not None and "test" not in lists:
        raise UserError(
            f"--detections '{detections}' are of the test photographs, which --splits leaves out: "
            f"add test."
        )
    files = {
        split: coco_annotations.read_annotations(
            os.path.join(source, name), f"--{split}-annotations", generated
        )
        for split, (name, _) in lists.items()
    }
    found = (
        None
        if detections is None
        else annotations.read_json(os.path.join(source, detections), "--detections")
    )
    written = [*lists] + ([] if found is None else [schema.DETECTIONS_SPLIT])

    def load() -> tuple[Any, list[str], list[str], dict[str, bytes]]:
        persons, left_out, notes = {}, [], []
        for split, annotated in files.items():
            notes += [f"{split}: {note}" for note in annotated.notes]
            doubts: list[str] = []
            persons[split] = read_persons(annotated, split, left_out, doubts)
            notes += [f"{split}: {note}" for note in doubts]
        if found is not None:
            place, doubts = os.path.join(source, detections), []
            persons[schema.DETECTIONS_SPLIT] = coco_detections.read_detections(
                found, files["test"], place, left_out, doubts
            )
            notes += [f"{schema.DETECTIONS_SPLIT}: {note}" for note in doubts]
        # Folder with photographs -> splits.
        shown = {"train": ["train"], "test": ["test", schema.DETECTIONS_SPLIT]}
        members = {
            split: [one for name in shown[split] if name in persons for one in persons[name]]
            for split in lists
        }
        folders = {split: folder for split, (_, folder) in lists.items()}
        pictures = _photographs(source, folders, members, files, out, options, notes)
        pairs = {}
        for name in written:
            there = next(pictures[split] for split in lists if name in shown[split])
            pairs[name] = annotations.with_photographs(persons[name], there, name, left_out)
        beside = {}
        if "test" in lists:
            lost = {one.file for one in members["test"]} - set(pictures["test"])
            beside[TEST_ANNOTATIONS_FILE] = coco_annotations.for_evaluation(files["test"], lost)
        return pairs, left_out, notes, beside

    sources = {name: sha256(os.path.join(source, name)) for name, _ in lists.values()}
    if detections is not None:
        sources[detections] = sha256(os.path.join(source, detections))
    settings = {
        "name": "coco",
        "images": {split: folder for split, (_, folder) in lists.items()},
    } | options.settings(written)
    other = {
        split: one.category._asdict() for split, one in files.items() if not one.category.is_coco
    }
    if other:  # older versions took category 1 and COCO's order
        settings["categories"] = {
            split: {"person": one["person"], "joints": list(one["places"])}
            for split, one in other.items()
        }
    return annotations.recordset(out, sources, options, settings, COCO_17, load, workers)


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
    source: str,
    folders: dict[str, str],
    persons: dict[str, list[Person]],
    files: dict[str, Annotated],
    out: str,
    options: annotations.Options,
    notes: list[str],
) -> dict[str, dict[str, Photograph]]:
    """Looks at the photographs of some persons, by split.

    Raises:
      UserError: a photograph does not have the size that its annotations state.
    """
    wanted = []
    for split, folder in folders.items():
        nested = os.path.join(source, "images", folder)
        place = (
            nested
            if os.path.isdir(nested) and not os.path.isdir(os.path.join(source, folder))
            else os.path.join(source, folder)
        )
        wanted.append(
            photographs.Folder(
                place, [person.file for person in persons[split]], f"--{split}-images"
            )
        )
    found = photographs.look_at(wanted, out, options.skip_missing)
    pictures = {}
    for split, stored in zip(folders, found, strict=True):
        sizes = collections.defaultdict(set)
        for person in persons[split]:
            image = files[split].images[person.image_id]
            sizes[person.file].add((image["width"], image["height"]))
        pictures[split], turned = photographs.oriented(
            stored,
            lambda one, sizes=sizes: {(one.width, one.height)} == sizes[one.name],
            options.orientation,
        )
        notes += [f"{split}: {note}" for note in turned]
        for picture in pictures[split].values():
            others = sizes[picture.name] - {(picture.width, picture.height)}
            if others:
                width, height = min(others)
                is_on_the_side = (height, width) == (picture.width, picture.height)
                raise UserError(
                    f"'{picture.path}' is {picture.width} x {picture.height} and its annotations "
                    f"are for {width} x {height}: put the photographs there that were "
                    f"annotated{', or turn these by a quarter' if is_on_the_side else ''}."
                )
    return pictures
