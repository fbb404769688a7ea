"""COCO keypoints (person_keypoints_*.json, photographs, a file of detections) -> person records.

Layout: docs/methods/pose2d.md#coco.
"""

import collections
import json
import os
from typing import Any

import numpy as np

from data_prep import annotations, photographs, records
from data_prep.annotations import Person
from data_prep.photographs import Photograph
from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import COCO_17

LAYOUT = {
    "train_annotations": "annotations/person_keypoints_train2017.json", "test_annotations": "annotations/person_keypoints_val2017.json",
    "train_images": "train2017", "test_images": "val2017",
}  # fmt: skip
REACH = Reach(scale_factor=0.35, rotation_factor=45.0, half_body=True)
PERSON = 1  # COCO's category
ASPECT = 1.0  # crops are square
# What COCOeval needs of the test split; lies beside the shards.
TEST_ANNOTATIONS_FILE = "test_annotations.json"
KEPT_OF_IMAGES = ("id", "width", "height", "file_name")
KEPT_OF_ANNOTATIONS = ("id", "image_id", "category_id", "iscrowd", "area", "bbox", "num_keypoints", "keypoints")


def convert(
    source: str, out: str, train_annotations: str, test_annotations: str, train_images: str, test_images: str, detections: str | None,
    splits: tuple[str, ...], scale_factor: float, rotation_factor: float, half_body: bool, encoding: str, generated: bool, workers: int,
) -> records.Summary:
    """Converts COCO, or another set in its layout; paths are relative to `source`.

    Args:
      source: folder of the raw files.
      out: folder for the records.
      train_annotations: COCO's file of the training persons.
      test_annotations: of the test persons.
      train_images: folder of the training photographs, there or in a folder `images` (SimCC's layout).
      test_images: folder of the test photographs, likewise.
      detections: a detector's boxes on the test photographs, COCO's results format; None: none.
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
    if detections is not None and "test" not in lists:
        raise UserError(f"--detections '{detections}' are of the test photographs, which --splits leaves out: add test.")
    contents = {
        split: read_annotations(os.path.join(source, name), f"--{split}-annotations") for split, (name, _) in lists.items()
    }
    boxes = None if detections is None else annotations.read_json(os.path.join(source, detections), "--detections")
    written = [*lists] + ([] if boxes is None else [schema.DETECTIONS_SPLIT])

    def load() -> tuple[Any, list[str], list[str], dict[str, bytes]]:
        persons, left_out, files = {}, [], {}
        for split, (name, _) in lists.items():
            persons[split] = read_persons(contents[split], os.path.join(source, name), split, left_out)
        if boxes is not None:
            place = os.path.join(source, detections)
            persons[schema.DETECTIONS_SPLIT] = read_detections(boxes, contents["test"]["images"], place, left_out)
        if "test" in lists:
            files[TEST_ANNOTATIONS_FILE] = _for_evaluation(contents["test"])
        shown = {"train": ["train"], "test": ["test", schema.DETECTIONS_SPLIT]}  # folder of photographs -> splits
        members = {split: [one for name in shown[split] if name in persons for one in persons[name]] for split in lists}
        pictures = _photographs(source, {split: folder for split, (_, folder) in lists.items()}, members, contents, out)
        of_split = {name: pictures[split] for split in lists for name in shown[split]}
        return {name: [(one, of_split[name][one.file]) for one in persons[name]] for name in written}, left_out, [], files

    sources = {name: records.sha256(os.path.join(source, name)) for name, _ in lists.values()}
    if detections is not None:
        sources[detections] = records.sha256(os.path.join(source, detections))
    settings = {"name": "coco", "images": {split: folder for split, (_, folder) in lists.items()}} | options.settings(written)
    return annotations.recordset(out, sources, options, settings, COCO_17, load, workers)


def read_annotations(path: str, option: str) -> dict[str, Any]:
    """COCO's annotations: "images" by id, and "annotations" of persons, checked one by one.

    Args:
      path: of the file.
      option: which names another one, for messages.

    Returns:
      {"images": {id: entry}, "annotations": [entry]}.

    Raises:
      UserError: another layout, no keypoints, or an entry with a fault.
    """
    content = annotations.read_json(path, option)
    try:
        images = {annotations.whole_number(image["id"], f"'{path}', image id"): image for image in content["images"]}
        found = [entry for entry in content["annotations"] if entry["category_id"] == PERSON]
        for image in images.values():
            sides = [annotations.whole_number(image[key], f"'{path}', {key} of image {image['id']}") for key in ("width", "height")]
            if min(sides) < 1 or not isinstance(image["file_name"], str):
                raise ValueError(f"image {image['id']} has no width, height and file_name")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"'{path}' is not in COCO's layout ({type(error).__name__}: {error}): give a file like person_keypoints_val2017.json."
        ) from error
    for entry in found:
        place = f"'{path}', annotation {entry['id'] if 'id' in entry else '(without id)'}"
        for key in ("id", "image_id", "iscrowd", "area", "bbox", "keypoints"):
            if key not in entry:
                raise UserError(f"{place} has no {key}: give the person_keypoints file of this set, which has.")
        annotations.whole_number(entry["id"], f"{place}, id")
        if annotations.whole_number(entry["image_id"], f"{place}, image_id") not in images:
            raise UserError(f"{place} is of image {entry['image_id']}, which the file does not list: copy or download it again.")
        annotations.numbers([entry["area"], *_sequence(entry["bbox"])], (5,), f"{place}, area and bbox")
        annotations.numbers(entry["keypoints"], (3 * COCO_17.num_joints,), f"{place}, keypoints")
    return {"images": images, "annotations": found}


def clean_box(box: list[float], width: int, height: int) -> tuple[float, float, float, float] | None:
    """A box (x, y, width, height) clipped to its photograph as HRNet's coco.py does; None: nothing is left of it."""
    x, y = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(width - 1, x + max(0.0, box[2] - 1)), min(height - 1, y + max(0.0, box[3] - 1))
    return (x, y, right - x, bottom - y) if right >= x and bottom >= y and (right, bottom) != (x, y) else None


def read_persons(content: dict[str, Any], path: str, split: str, left_out: list[str]) -> list[Person]:
    """The annotated persons, photograph by photograph, as HRNet's coco.py takes them.

    Args:
      content: of `read_annotations`.
      path: of its file.
      split: name of the split, for `left_out`.
      left_out: gets what is not taken, counted.

    Returns:
      The persons.

    Raises:
      UserError: not one person has a labelled joint.
    """
    of_image = collections.defaultdict(list)
    for entry in content["annotations"]:
        of_image[entry["image_id"]].append(entry)
    persons, counts = [], collections.Counter()
    for image_id, image in content["images"].items():
        for entry in of_image[image_id]:
            box = clean_box(entry["bbox"], image["width"], image["height"])
            keypoints = np.asarray(entry["keypoints"], np.float64).reshape(-1, 3)
            if entry["iscrowd"]:
                counts["crowds"] += 1
            elif not (keypoints[:, 2] > 0).any():
                counts["persons without a labelled joint"] += 1
            elif box is None or entry["area"] <= 0:
                counts["boxes of zero area"] += 1
            else:
                center, scale = crops.box_to_crop(box, ASPECT)
                persons.append(annotations.make_person(
                    file=image["file_name"], image_id=image_id, person_id=entry["id"], center=center, scale=scale,
                    joints=keypoints[:, :2], visible=keypoints[:, 2] > 0, score=1.0, area=float(entry["area"]), head_size=0.0,
                ))
    if not persons:
        raise UserError(f"'{path}' has no person with a labelled joint: give a file like person_keypoints_val2017.json.")
    left_out += [f"{split}: {count:,} {what}" for what, count in sorted(counts.items())]
    return persons


def read_detections(entries: Any, images: dict[int, Any], path: str, left_out: list[str]) -> list[Person]:
    """A detector's persons on the test photographs; they have no joints.

    Args:
      entries: content of the file, COCO's results format.
      images: the test photographs by id.
      path: of the file.
      left_out: gets what is not taken, counted.

    Returns:
      The persons; their person_id is the index in the file.

    Raises:
      UserError: another layout, or detections of another data set.
    """
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"'{path}' is no list of detections: give a file in COCO's results format.")
    persons, counts = [], collections.Counter()
    for index, entry in enumerate(entries):
        for key in ("image_id", "category_id", "bbox", "score"):
            if key not in entry:
                raise UserError(f"'{path}', detection {index} has no {key}: give a file in COCO's results format.")
        annotations.whole_number(entry["image_id"], f"'{path}', detection {index}, image_id")
    unknown = [entry["image_id"] for entry in entries if entry["image_id"] not in images]
    if unknown:
        raise UserError(
            f"'{path}': {len(unknown):,} of {len(entries):,} detections are of photographs that the test annotations do not list (the "
            f"first: image {unknown[0]}): give the detections of this data set."
        )
    for index, entry in enumerate(entries):
        values = annotations.numbers([entry["score"], *_sequence(entry["bbox"])], (5,), f"'{path}', detection {index}, score and bbox")
        if entry["category_id"] != PERSON or values[0] < 0:
            counts["detections of other categories or below a score of 0"] += 1
        elif values[3] <= 0 or values[4] <= 0:
            counts["boxes of zero area"] += 1
        else:
            center, scale = crops.box_to_crop(values[1:], ASPECT)
            persons.append(annotations.make_person(
                file=images[entry["image_id"]]["file_name"], image_id=entry["image_id"], person_id=index, center=center, scale=scale,
                joints=np.zeros((COCO_17.num_joints, 2)), visible=np.zeros(COCO_17.num_joints), score=float(values[0]), area=0.0,
                head_size=0.0,
            ))
    left_out += [f"{schema.DETECTIONS_SPLIT}: {count:,} {what}" for what, count in sorted(counts.items())]
    # Persons of a photograph follow each other, so that it is decoded once.
    order = {image_id: place for place, image_id in enumerate(images)}
    return sorted(persons, key=lambda person: order[person.image_id])


def _photographs(
    source: str, folders: dict[str, str], persons: dict[str, list[Person]], contents: dict[str, Any], out: str
) -> dict[str, dict[str, Photograph]]:
    """Looks at the photographs of some persons, by split; UserError if one is not of the size that its annotations are for."""
    wanted = []
    for split, folder in folders.items():
        nested = os.path.join(source, "images", folder)
        place = nested if os.path.isdir(nested) and not os.path.isdir(os.path.join(source, folder)) else os.path.join(source, folder)
        wanted.append(photographs.Folder(place, [person.file for person in persons[split]], f"--{split}-images"))
    pictures = dict(zip(folders, photographs.look_at(wanted, out), strict=True))
    for split in folders:
        for person in persons[split]:
            picture, image = pictures[split][person.file], contents[split]["images"][person.image_id]
            if (picture.width, picture.height) != (image["width"], image["height"]):
                raise UserError(
                    f"'{picture.path}' is {picture.width} x {picture.height} and its annotations are for {image['width']} x "
                    f"{image['height']}: put the original photographs there."
                )
    return pictures


def _for_evaluation(content: dict[str, Any]) -> bytes:
    """The test annotations without outlines and licences, crowds included, as COCOeval reads them."""
    entries = []
    for entry in content["annotations"]:
        labelled = sum(value > 0 for value in entry["keypoints"][2::3])
        entries.append({key: entry[key] for key in KEPT_OF_ANNOTATIONS if key in entry} | {"num_keypoints": labelled})
    kept = {
        "images": [{key: image[key] for key in KEPT_OF_IMAGES} for image in content["images"].values()],
        "annotations": entries,
        "categories": [{"id": PERSON, "name": "person", "supercategory": "person", "keypoints": list(COCO_17.joints)}],
    }
    return json.dumps(kept).encode()


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
