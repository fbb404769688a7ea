"""Writes generated photographs' labels as MPII's files (HRNet's layout) and COCO's.

All of it is our own design.
"""

import dataclasses
import io
import os
from typing import Any

import numpy as np
import scipy.io

from data_prep import gt_valid
from data_prep.people.scenes import Person
from kdpose_jax.data import schema
from kdpose_jax.files import write_json
from kdpose_jax.skeletons import COCO_17, MPII_16

# Names the validation pictures' files. In both layouts, `val` and `valid` name the test pictures.
HELD_OUT = "held_out"
# COCO does not label joints on people smaller than this, pixels.
LEAST_AREA = 32 * 32


@dataclasses.dataclass(frozen=True)
class Labels:
    """Holds one picture's labels: its number, its sides and its people.

    The first person is in focus.
    """

    image_id: int
    width: int
    height: int
    people: list[Person]


def picture_name(layout: str, image_id: int) -> str:
    """Returns a picture's file name, with as many digits as the layout has."""
    return f"{image_id:012d}.jpg" if layout == "coco" else f"{image_id:09d}.jpg"


def write_mpii(folder: str, labels: dict[str, list[Labels]]) -> None:
    """Writes the people in focus as HRNet's annotation files; coordinates start at 1.

    See docs/methods/pose2d.md#mpii.
    """
    lists = {"train": "train.json", schema.VAL_SPLIT: f"{HELD_OUT}.json", "test": "valid.json"}
    for split, name in lists.items():
        entries = [_mpii_record(one) for one in labels[split]]
        write_json(os.path.join(folder, name), entries, indent=None)
    records = [_mpii_record(one) for one in labels["test"]]
    names = np.empty((1, len(gt_valid.JOINTS)), object)
    names[0] = gt_valid.JOINTS
    boxes = np.stack([one.people[0].head_box.reshape(2, 2) + 1 for one in labels["test"]], axis=-1)
    content = io.BytesIO()
    scipy.io.savemat(
        content,
        {
            "dataset_joints": names,
            "jnt_missing": 1.0 - np.asarray([record["joints_vis"] for record in records], float).T,
            "pos_gt_src": np.transpose(
                np.asarray([record["joints"] for record in records], float), (1, 2, 0)
            ),
            "headboxes_src": boxes,
        },
    )
    with open(os.path.join(folder, "gt_valid.mat"), "wb") as file:
        # The first 116 bytes are a text with the time of writing, but the same settings
        # must give the same bytes.
        file.write(b"MATLAB 5.0 MAT-file, generated people".ljust(116) + content.getvalue()[116:])


def _mpii_record(labels: Labels) -> dict[str, Any]:
    """Makes the record for the person in focus.

    A hidden joint counts as visible. A joint outside the picture does not.
    """
    person = labels.people[0]
    x0, y0, x1, y1 = person.box
    scale = max(x1 - x0, y1 - y0) / 200
    # Readers move the centre down by 15 scale, to the middle of the person.
    center = [(x0 + x1) / 2 + 1, (y0 + y1) / 2 + 1 - 15 * scale]
    inside = [name in person.inside for name in MPII_16.joints]
    joints = [
        _rounded(person.joints[name] + 1) if there else [-1.0, -1.0]
        for name, there in zip(MPII_16.joints, inside, strict=True)
    ]
    return {
        "joints_vis": [int(there) for there in inside],
        "joints": joints,
        "image": picture_name("mpii", labels.image_id),
        "scale": round(float(scale), 6),
        "center": _rounded(center),
    }


def write_coco(folder: str, labels: dict[str, list[Labels]]) -> None:
    """Writes everybody in the pictures as COCO's person-keypoint files.

    See docs/methods/pose2d.md#coco.
    """
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(COCO_17.joints),
        "skeleton": [],
    }
    lists = {"train": "train2017", schema.VAL_SPLIT: HELD_OUT, "test": "val2017"}
    for split, name in lists.items():
        images = [
            {
                "id": one.image_id,
                "file_name": picture_name("coco", one.image_id),
                "width": one.width,
                "height": one.height,
            }
            for one in labels[split]
        ]
        annotations = [
            _coco_annotation(one.image_id, index, person)
            for one in labels[split]
            for index, person in enumerate(one.people)
            if person.seen_area
        ]
        content = {"info": {"description": "generated people"}, "licenses": [], "images": images}
        content |= {"annotations": annotations, "categories": [category]}
        write_json(os.path.join(folder, f"person_keypoints_{name}.json"), content, indent=None)


def _coco_annotation(image_id: int, index: int, person: Person) -> dict[str, Any]:
    """Makes one person's annotation.

    v is 2 for a joint that is seen and 1 for a hidden joint. It is 0 for a joint outside the
    picture or on a small person.
    """
    x0, y0, x1, y1 = person.seen_box.tolist()
    labelled = index == 0 or person.seen_area >= LEAST_AREA
    keypoints: list[float] = []
    for name in COCO_17.joints:
        there = labelled and name in person.inside
        keypoints += (
            [*_rounded(person.joints[name]), 2 if name in person.seen else 1]
            if there
            else [0, 0, 0]
        )
    return {
        "id": image_id * 16 + index,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "segmentation": [],
        "bbox": [x0, y0, x1 - x0 + 1, y1 - y0 + 1],
        "area": person.seen_area,
        "num_keypoints": sum(value > 0 for value in keypoints[2::3]),
        "keypoints": keypoints,
    }


def _rounded(point: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in point]
