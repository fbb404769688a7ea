"""Reads a detector's boxes on the test photographs, in COCO's results format."""

import collections
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from data_prep import annotations, boxes, json_values
from data_prep.annotations import Person
from data_prep.coco_annotations import Annotated
from kdpose_jax.codecs import crops
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import COCO_17

ASPECT = 1.0  # crops are square
FIELDS = ("image_id", "category_id", "bbox", "score")
# Ways in which a detector may name a photograph, as functions of its file's name.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "file names": lambda name: name,
    "file names without folders": lambda name: name.replace("\\", "/").rsplit("/", 1)[-1],
    "file names without folders and endings": lambda name: os.path.splitext(
        name.replace("\\", "/").rsplit("/", 1)[-1]
    )[0],
}


class Detected(NamedTuple):
    """Holds the content of a file with detections."""

    path: str
    entries: Any


def read_detections(
    entries: Any, annotated: Annotated, path: str, left_out: list[str], notes: list[str]
) -> list[Person]:
    """Reads a detector's persons on the test photographs; they have no joints.

    Args:
      entries: the file's content.
      annotated: the test annotations, which define the persons' category and the images.
      path: names the file in messages.
      left_out: gets the number of detections that are not taken, by reason.
      notes: gets sentences about what was assumed.

    Returns:
      The persons. A person_id is the index in the file.

    Raises:
      UserError: the layout is another one, the boxes mean something else, or no person is detected
        on any of the photographs.
    """
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(
            f"'{path}' is not a list of detections: give a file in COCO's results format."
        )
    for index, entry in enumerate(entries):
        for key in FIELDS:
            if key not in entry:
                raise UserError(
                    f"'{path}', detection {index} has no {key}: give a file in COCO's results "
                    f"format."
                )
    images = _images_of(entries, annotated.images, path, notes)
    counts: collections.Counter[str] = collections.Counter()
    taken, above = [], 0
    for index, (entry, image_id) in enumerate(zip(entries, images, strict=True)):
        score, box = (
            entry["score"],
            json_values.numbers(entry["bbox"], (4,), f"'{path}', detection {index}, bbox"),
        )
        if image_id is None:
            counts["detections of photographs that the test annotations do not list"] += 1
        elif score is None or (isinstance(score, float) and not math.isfinite(score)):
            counts["detections without a score"] += 1
        elif (
            score := float(json_values.numbers(score, (), f"'{path}', detection {index}, score"))
        ) < 0 or (json_values.as_whole(entry["category_id"]) != annotated.category.person):
            counts["detections of other categories or below a score of 0"] += 1
        elif box[2] <= 0 or box[3] <= 0:
            counts["boxes of zero area"] += 1
        else:
            above += score > 1
            taken.append((index, image_id, box, score))
    _refuse_none(entries, images, taken, annotated, path)
    if above:
        notes.append(
            f"{above:,} of {len(taken):,} scores are above 1; they are kept, as only their order "
            f"counts"
        )
    notes += _check_boxes(taken, annotated, path)
    left_out += [
        f"{schema.DETECTIONS_SPLIT}: {count:,} {what}" for what, count in sorted(counts.items())
    ]
    persons = [_person(*one, annotated) for one in taken]
    # The persons on a photograph follow each other, so it is decoded once.
    order = {image_id: place for place, image_id in enumerate(annotated.images)}
    return sorted(persons, key=lambda person: order[person.image_id])


def _person(
    index: int, image_id: int, box: np.ndarray, score: float, annotated: Annotated
) -> Person:
    center, scale = crops.box_to_crop(box, ASPECT)
    return annotations.make_person(
        file=annotated.images[image_id]["file_name"],
        image_id=image_id,
        person_id=index,
        center=center,
        scale=scale,
        joints=np.zeros((COCO_17.num_joints, 2)),
        visible=np.zeros(COCO_17.num_joints),
        score=score,
        area=0.0,
        head_size=0.0,
    )


def _images_of(
    entries: list[dict[str, Any]], images: dict[int, Any], path: str, notes: list[str]
) -> list[int | None]:
    """Finds the image of each detection; None if the annotations do not list it.

    Detectors name images by id or by a text. A text is a file name, with or without folders or
    ending, or the digits of an id. All texts in a file are of one kind.
    """
    given = [entry["image_id"] for entry in entries]
    texts = {one for one in given if isinstance(one, str)}
    if not texts:
        numbers = [
            json_values.whole_number(one, f"'{path}', detection {index}, image_id")
            for index, one in enumerate(given)
        ]
        return [number if number in images else None for number in numbers]
    tables = {way: _table(texts, images, spell) for way, spell in SPELLINGS.items()}
    tables["digits of ids"] = {
        text: {number}
        for text in texts
        if (number := json_values.as_whole(text)) is not None and number in images
    }
    way = max(tables, key=lambda one: len(tables[one]))  # the first one wins a tie
    found = tables[way]
    for other in tables:
        for text in tables[other] if len(tables[other]) == len(found) else ():
            if text in found and tables[other][text] != found[text]:
                raise UserError(
                    f"'{path}': image_id {text[:60]!r} is one image by {way} and another by "
                    f"{other}: give the ids of the annotations."
                )
    for text, numbers in found.items():
        if len(numbers) > 1:
            listed = " and ".join(str(number) for number in sorted(numbers)[:3])
            raise UserError(
                f"'{path}': image_id {text[:60]!r} is the name of images {listed}: give ids in its "
                f"place."
            )
    if found:
        notes.append(
            f"image_id of {sum(one in found for one in given if isinstance(one, str)):,} "
            f"detections was found by {way}"
        )
    looked_up = []
    for index, one in enumerate(given):
        if isinstance(one, str):
            looked_up.append(min(found[one]) if one in found else None)
        else:
            number = json_values.whole_number(one, f"'{path}', detection {index}, image_id")
            looked_up.append(number if number in images else None)
    return looked_up


def _table(
    texts: set[str], images: dict[int, Any], spell: Callable[[str], str]
) -> dict[str, set[int]]:
    """Returns the images that each text may mean, by one way to spell file names."""
    numbers = collections.defaultdict(set)
    for number, image in images.items():
        numbers[spell(image["file_name"])].add(number)
    return {text: numbers[spell(text)] for text in texts if spell(text) in numbers}


def _refuse_none(
    entries: list[dict[str, Any]],
    images: list[int | None],
    taken: list[Any],
    annotated: Annotated,
    path: str,
) -> None:
    """Raises UserError with the reason if no detection was taken."""
    if taken:
        return
    known = [entry for entry, image_id in zip(entries, images, strict=True) if image_id is not None]
    if not known:
        first = f" (the first: image {str(entries[0]['image_id'])[:60]})" if entries else ""
        raise UserError(
            f"'{path}': {len(entries):,} of {len(entries):,} detections are of photographs that "
            f"the test annotations do not list{first}: give the detections of this data set."
        )
    kinds = sorted({str(entry["category_id"])[:20] for entry in known})
    person = annotated.category.person
    if str(person) not in kinds:
        raise UserError(
            f"'{path}': none of {len(known):,} detections is of category {person}, which is the "
            f"person in '{annotated.path}' (they are of {', '.join(kinds[:10])}): give them the "
            "ids of its categories."
        )
    raise UserError(
        f"'{path}' has no detection of a person with a score of at least 0 and a box with an area: "
        f"give other detections."
    )


def _check_boxes(taken: list[Any], annotated: Annotated, path: str) -> list[str]:
    """Returns the notes from `boxes.check_detected`."""
    images, persons = annotated.images, [one for one in annotated.persons if not one["iscrowd"]]
    sizes = np.asarray(
        [[images[image_id]["width"], images[image_id]["height"]] for _, image_id, *_ in taken],
        np.float64,
    )
    return boxes.check_detected(
        np.stack([box for _, _, box, _ in taken]),
        np.asarray([image_id for _, image_id, *_ in taken]),
        np.asarray([one["bbox"] for one in persons], np.float64).reshape(-1, 4),
        np.asarray([one["image_id"] for one in persons], np.int64),
        sizes,
        path,
    )
