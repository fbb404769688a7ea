"""Writes tiny data sets in MPII's and COCO's layouts.

They are for the tests of the converters and of the reader of persons.
"""

import json
import pathlib

import cv2
import numpy as np
import scipy.io

from data_prep import convert, records

# COCO's own names of files.
COCO_TRAIN, COCO_TEST = (
    f"annotations/person_keypoints_{split}2017.json" for split in ("train", "val")
)
# The names are those in MPII's own gt_valid.mat.
MPII_NAMES = (
    "rank",
    "rkne",
    "rhip",
    "lhip",
    "lkne",
    "lank",
    "pelv",
    "thor",
    "neck",
    "head",
    "rwri",
    "relb",
    "rsho",
    "lsho",
    "lelb",
    "lwri",
)


def picture(seed: int, width: int, height: int) -> np.ndarray:
    """Draws smooth random colours `[height, width, 3]` uint8, different everywhere."""
    small = np.random.default_rng(seed).integers(
        0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def save(path: pathlib.Path, pixels: np.ndarray, quality: int = 95) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        cv2.imencode(
            path.suffix,
            pixels,
            [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else [],
        )[1].tobytes()
    )


def write_json(path: pathlib.Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def edit(folder: pathlib.Path, name: str, change) -> None:
    """Lets `change` alter the content of a JSON file in place."""
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def prepare_coco(folder: pathlib.Path, **settings) -> records.Summary:
    """Converts a set in COCO's layout to the folder `records` beside it."""
    out = str(folder.parent / "records")
    return convert.prepare("coco", out, source=str(folder), workers=1, **settings)


def mpii_entries(seed: int, names: list[str], width: int, height: int) -> list[dict]:
    """Makes one person per photograph, in MPII's pixels from 1.

    The last joint of every second person is not labelled.
    """
    generator = np.random.default_rng(seed)
    entries = []
    for index, name in enumerate(names):
        center, reach = (
            np.asarray([width * 0.45, height * 0.4]),
            20 + 10 * index,
        )  # half the box's side
        low, high = np.maximum(center - reach, 1), np.minimum(center + reach, [width, height])
        joints = generator.uniform(low, high, (16, 2)).round(3)
        visible = np.ones(16, int)
        if index % 2:
            joints[15], visible[15] = -1, 0
        entries.append(
            {
                "image": name,
                "center": center.tolist(),
                "scale": 0.2 + 0.1 * index,
                "joints": joints.tolist(),
                "joints_vis": visible.tolist(),
            }
        )
    return entries


def cells(names: tuple[str, ...]) -> np.ndarray:
    """Makes MATLAB's cell array from texts."""
    row = np.empty((1, len(names)), object)
    row[0] = names
    return row


def head_boxes(entries: list[dict]) -> dict[str, np.ndarray]:
    """Makes gt_valid.mat's content for a list, with head boxes of 30 by 40 pixels."""
    joints = np.asarray([entry["joints"] for entry in entries])
    # [corner, x or y, N].
    corners = np.repeat(np.asarray([[10.0, 10.0], [40.0, 50.0]])[..., None], len(entries), 2)
    return {
        "dataset_joints": cells(MPII_NAMES),
        "jnt_missing": 1 - np.asarray([entry["joints_vis"] for entry in entries], np.uint8).T,
        "pos_gt_src": np.moveaxis(joints, 0, 2),
        "headboxes_src": corners,
    }


def write_mpii(folder: pathlib.Path, width: int = 160, height: int = 120) -> None:
    """Writes four training and three test photographs of one person each."""
    splits = {
        "train": [f"t{index}.jpg" for index in range(4)],
        "valid": [f"v{index}.jpg" for index in range(3)],
    }
    for number, (split, names) in enumerate(splits.items()):
        for index, name in enumerate(names):
            save(folder / "images" / name, picture(10 * number + index, width, height))
        entries = mpii_entries(number, names, width, height)
        write_json(folder / "annot" / f"{split}.json", entries)
    scipy.io.savemat(folder / "annot" / "gt_valid.mat", head_boxes(entries))


def coco_annotation(number: int, image_id: int, box: list[float], seed: int) -> dict:
    """Makes a person whose 17 joints lie in the box.

    The third joint is not labelled, and the fourth is hidden.
    """
    x, y, width, height = box
    points = np.random.default_rng(seed).uniform([x, y], [x + width, y + height], (17, 2)).round(2)
    labels = np.full((17, 1), 2)
    points[2], labels[2], labels[3] = 0, 0, 1
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": width * height * 0.6,
        "bbox": box,
        "num_keypoints": 16,
        "keypoints": np.hstack([points, labels]).ravel().tolist(),
        "segmentation": [[1, 2, 3, 4, 5, 6]],
    }


def coco_content(first: int, count: int, width: int, height: int) -> dict:
    """Makes two persons, a crowd and a person without joints in each photograph."""
    names = {number: f"{number:012d}.jpg" for number in range(first, first + count)}
    images = [
        {"id": number, "file_name": name, "width": width, "height": height}
        for number, name in names.items()
    ]
    found = []
    for index, image in enumerate(images):
        number = 100 * image["id"]
        found.append(coco_annotation(number, image["id"], [20.0 + index, 10.0, 60.0, 90.0], number))
        found.append(
            coco_annotation(number + 1, image["id"], [90.0, 40.0, 50.0, 30.0 + index], number + 1)
        )
        found.append(
            {
                **coco_annotation(number + 2, image["id"], [0.0, 0.0, 100.0, 50.0], 0),
                "iscrowd": 1,
                "keypoints": [0] * 51,
            }
        )
        found.append(
            {
                **coco_annotation(number + 3, image["id"], [0.0, 0.0, 30.0, 50.0], 0),
                "keypoints": [0] * 51,
                "num_keypoints": 0,
            }
        )
    return {"images": images, "annotations": found, "categories": [{"id": 1, "name": "person"}]}


def write_coco(folder: pathlib.Path, width: int = 160, height: int = 120) -> None:
    """Writes two training and two test photographs, and a detector's boxes on the latter."""
    for split, first in (("train", 1), ("val", 501)):
        content = coco_content(first, 2, width, height)
        for image in content["images"]:
            save(folder / f"{split}2017" / image["file_name"], picture(image["id"], width, height))
        write_json(folder / "annotations" / f"person_keypoints_{split}2017.json", content)
    boxes = [[70.0, 20.0, 40.0, 60.0], [20.0, 10.0, 60.0, 90.0], [21.0, 12.0, 58.0, 80.0]]
    detections = [
        {"image_id": image_id, "category_id": 1, "bbox": box, "score": score}
        for image_id, box, score in zip((502, 501, 502), boxes, (0.9, 0.8, 0.1), strict=True)
    ]
    write_json(folder / "detections.json", detections)
