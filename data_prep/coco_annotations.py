"""Reads a COCO annotation file by its own categories, joint names and ids."""

import collections
import dataclasses
import json
from typing import Any

from data_prep import categories, json_values
from data_prep.categories import PERSON, Category
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import COCO_17

KEPT_OF_IMAGES = ("id", "width", "height", "file_name")
KEPT_OF_ANNOTATIONS = (
    "id",
    "image_id",
    "category_id",
    "iscrowd",
    "area",
    "bbox",
    "num_keypoints",
    "keypoints",
)
SOURCE_ID = "source_id"  # the file's own id, if an annotation got a new one
# A person's area over its box's area, which the field's tools (MMPose) assume if a file has no
# area.
AREA_OF_BOX = 0.53
# Counts in the published files: images, persons, and persons with keypoints.
PUBLISHED = {
    "person_keypoints_train2017.json": (118_287, 262_465, 149_813),
    "person_keypoints_val2017.json": (5_000, 11_004, 6_352),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Annotated:
    """Holds a file's content as it is used.

    Attributes:
      path: the file.
      category: the persons' category.
      images: id -> entry.
      persons: the persons' entries in the file's order. They have COCO's category and joints,
        numbers of the types that pycocotools needs, and ids that are positive and unique.
      notes: say what was assumed or converted.
    """

    path: str
    category: Category
    images: dict[int, dict[str, Any]]
    persons: list[dict[str, Any]]
    notes: list[str]


def read_annotations(path: str, option: str, generated: bool) -> Annotated:
    """Reads COCO's annotations, and checks them one by one.

    Args:
      path: the file.
      option: the option that names another file, for messages.
      generated: whether the set only has the layout of the published one.

    Returns:
      The file's content as it is used.

    Raises:
      UserError: the layout is another one, an image's id occurs twice, or an entry has a fault.
    """
    content = json_values.read_json(path, option)
    try:
        images = _images(content["images"], path)
        category = categories.read(content, path)
        kinds = [json_values.as_whole(entry["category_id"]) for entry in content["annotations"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"'{path}' is not in COCO's layout ({type(error).__name__}: {error}): give a file like "
            f"person_keypoints_val2017.json."
        ) from error
    found = [
        entry
        for entry, kind in zip(content["annotations"], kinds, strict=True)
        if kind == category.person
    ]
    if not found:
        others = ", ".join(str(one) for one in sorted(set(kinds) - {None})[:10]) or "none"
        raise UserError(
            f"'{path}' has no annotation of category {category.person}, which is its person (there "
            f"are: {others}): give a file like person_keypoints_val2017.json."
        )
    if not any("keypoints" in entry and entry["keypoints"] for entry in found):
        raise UserError(
            f"'{path}' has {len(found):,} persons and keypoints of none of them, so no person with "
            "a labelled joint: give the person_keypoints file of this set."
        )
    counts: collections.Counter[str] = collections.Counter()
    places = [_place(path, entry, index) for index, entry in enumerate(found)]
    persons = [
        _person(entry, images, category, place, counts)
        for entry, place in zip(found, places, strict=True)
    ]
    texts = sum(isinstance(image["id"], str) for image in content["images"])
    notes = [*category.notes, *_published(path, images, persons, generated), *_number_anew(persons)]
    notes += [f"{texts:,} ids of images are texts of digits, read as numbers"] if texts else []
    notes += [f"{count:,} {what}" for what, count in sorted(counts.items())]
    notes += _doubled(images, persons)
    return Annotated(path, category, images, persons, notes)


def _images(entries: list[Any], path: str) -> dict[int, dict[str, Any]]:
    """Returns the images by their ids.

    Raises:
      UserError: an id occurs twice.
      Exception: KeyError and the like, for another layout.
    """
    images: dict[int, dict[str, Any]] = {}
    for image in entries:
        number = json_values.whole_number(image["id"], f"'{path}', image id")
        sides = {
            key: json_values.whole_number(image[key], f"'{path}', {key} of image {number}")
            for key in ("width", "height")
        }
        if min(sides.values()) < 1 or not isinstance(image["file_name"], str):
            raise ValueError(f"image {number} has no width, height and file_name")
        if number in images:
            names = f"{images[number]['file_name']}, {image['file_name']}"
            raise UserError(
                f"'{path}': image id {number} stands twice ({names}): give every image an id of "
                f"its own, in its annotations too."
            )
        images[number] = {"id": number, **sides, "file_name": image["file_name"]}
    return images


def _place(path: str, entry: dict[str, Any], index: int) -> str:
    named = entry["id"] if "id" in entry else f"at place {index} of the persons (without id)"
    return f"'{path}', annotation {named}"


def _person(
    entry: dict[str, Any],
    images: dict[int, Any],
    category: Category,
    place: str,
    counts: collections.Counter[str],
) -> dict[str, Any]:
    """Returns one person as it is used; `counts` counts each kind of assumption."""
    for key in ("image_id", "bbox"):
        if key not in entry:
            raise UserError(
                f"{place} has no {key}: give a file like person_keypoints_val2017.json, which has."
            )
    image_id = json_values.whole_number(entry["image_id"], f"{place}, image_id")
    if image_id not in images:
        raise UserError(
            f"{place} is of image {image_id}, which the file does not list: copy or download it "
            f"again."
        )
    json_values.numbers(entry["bbox"], (4,), f"{place}, bbox")
    keypoints = _keypoints(entry, category, place, counts)
    labelled = sum(value > 0 for value in keypoints[2::3])
    given = entry["num_keypoints"] if "num_keypoints" in entry else None
    if given is not None and given != labelled and category.count == COCO_17.num_joints:
        counts[
            "persons have another number of labelled joints than their num_keypoints says: counted "
            "anew"
        ] += 1
    return {
        "id": entry["id"] if "id" in entry else None,
        "image_id": image_id,
        "category_id": PERSON,
        "iscrowd": _iscrowd(entry, place, counts),
        "area": _area(entry, place, counts),
        "bbox": entry["bbox"],
        "num_keypoints": labelled,
        "keypoints": keypoints,
    }


def _keypoints(
    entry: dict[str, Any], category: Category, place: str, counts: collections.Counter[str]
) -> list[Any]:
    """Returns (x, y, label) for COCO's joints; all zero for a person with only a box.

    Annotation tools write persons with and without joints into one file.
    """
    keypoints = entry["keypoints"] if "keypoints" in entry else None
    if keypoints is None or keypoints == []:
        return [0] * (3 * COCO_17.num_joints)
    values = json_values.numbers(keypoints, (3 * category.count,), f"{place}, keypoints")
    labels = values[2::3]
    if ((labels != 0) & (labels != 1) & (labels != 2)).any():
        counts["persons have joints whose label is not 0, 1 or 2: labelled if above 0"] += 1
    if ((labels > 0) & (values[0::3] == 0) & (values[1::3] == 0)).any():
        counts[
            "persons have labelled joints at exactly (0, 0), where tools put missing ones: kept"
        ] += 1
    return keypoints if category.is_coco else category.arrange(keypoints)


def _iscrowd(entry: dict[str, Any], place: str, counts: collections.Counter[str]) -> int:
    value = entry["iscrowd"] if "iscrowd" in entry else None
    if value is None:
        counts["persons have no iscrowd: taken for single persons"] += 1
        return 0
    number = (
        int(value)
        if isinstance(value, bool)
        else json_values.whole_number(value, f"{place}, iscrowd")
    )
    if number not in (0, 1):
        raise UserError(
            f"{place}, iscrowd is {number} where 0 or 1 must be: repair the file or download it "
            f"again."
        )
    return number


def _area(entry: dict[str, Any], place: str, counts: collections.Counter[str]) -> float:
    if "area" in entry and entry["area"] is not None:
        json_values.numbers(entry["area"], (), f"{place}, area")
        return entry["area"]
    counts[
        f"persons have no area: taken to be {AREA_OF_BOX} of their box, on which COCO's scores "
        f"depend"
    ] += 1
    return AREA_OF_BOX * max(entry["bbox"][2], 0) * max(entry["bbox"][3], 0)


def _number_anew(persons: list[dict[str, Any]]) -> list[str]:
    """Numbers persons from 1 if pycocotools cannot use their ids; returns notes.

    pycocotools reads a match with id 0 as no match.
    """
    ids = [None if one["id"] is None else json_values.as_whole(one["id"]) for one in persons]
    repeated = [
        one for one, count in collections.Counter(ids).items() if one is not None and count > 1
    ]
    fault = ""
    if None in ids:
        fault = f"{ids.count(None):,} are missing or not whole numbers"
    elif repeated:
        fault = f"{len(repeated):,} stand more than once, id {repeated[0]} for one"
    elif ids and min(ids) < 1:
        fault = f"the lowest is {min(ids)}"
    for number, (one, own) in enumerate(zip(persons, ids, strict=True), 1):
        if fault:
            one[SOURCE_ID] = one["id"]
        one["id"] = number if fault else own
    return (
        [f"the ids of annotations cannot be keys ({fault}), so persons were numbered anew from 1"]
        if fault
        else []
    )


def _doubled(images: dict[int, Any], persons: list[dict[str, Any]]) -> list[str]:
    """Returns notes about photographs with several ids, and persons that occur twice.

    People who merge files leave these behind.
    """
    names = collections.Counter(image["file_name"] for image in images.values())
    files = sum(count > 1 for count in names.values())
    notes = [f"{files:,} photographs are listed under more than one image id"] if files else []
    labelled = [one for one in persons if one["num_keypoints"] and not one["iscrowd"]]
    same = collections.Counter(
        (images[one["image_id"]]["file_name"], tuple(one["bbox"]), tuple(one["keypoints"]))
        for one in labelled
    )
    twice = sum(count - 1 for count in same.values())
    return notes + (
        [f"{twice:,} persons stand there once more with the same box and joints, and are kept"]
        if twice
        else []
    )


def _published(
    path: str, images: dict[int, Any], persons: list[dict[str, Any]], generated: bool
) -> list[str]:
    """Returns a note if a file with a published name does not hold what was published."""
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    if generated or name not in PUBLISHED:
        return []
    keypoints = sum(one["num_keypoints"] > 0 and not one["iscrowd"] for one in persons)
    found = (len(images), len(persons), keypoints)
    if found == PUBLISHED[name]:
        return []
    held, published = (
        f"{count[0]:,} images and {count[1]:,} persons, {count[2]:,} of them with keypoints"
        for count in (found, PUBLISHED[name])
    )
    return [f"'{name}' holds {held}; COCO's file of this name holds {published}"]


def for_evaluation(annotated: Annotated, names: set[str]) -> bytes:
    """Returns the annotations of a split for COCOeval, without outlines and licences.

    Crowds are included.

    Args:
      annotated: the file with the split's persons.
      names: names of the split's photographs.
    """
    images = {
        number: image for number, image in annotated.images.items() if image["file_name"] in names
    }
    kept = {
        "images": [{key: image[key] for key in KEPT_OF_IMAGES} for image in images.values()],
        "annotations": [
            {key: one[key] for key in (*KEPT_OF_ANNOTATIONS, SOURCE_ID) if key in one}
            for one in annotated.persons
            if one["image_id"] in images
        ],
        "categories": [
            {
                "id": PERSON,
                "name": categories.NAME,
                "supercategory": "person",
                "keypoints": list(COCO_17.joints),
            }
        ],
    }
    return json.dumps(kept).encode()
