"""Our OKS, rescoring, suppression and AP against HRNet's and pycocotools' (files coco_oks_ap* of
the golden folder).
"""

import functools
import json
import re

import numpy as np
import pytest
from golden import golden_files, numbers_in

from kdpose_jax.evaluate.metrics import coco_ap, keypoints_2d

FILES = pytest.mark.parametrize("path", golden_files("coco_oks_ap*"))
SIGMAS = (
    np.array(
        [
            0.26,
            0.25,
            0.25,
            0.35,
            0.35,
            0.79,
            0.79,
            0.72,
            0.72,
            0.62,
            0.62,
            1.07,
            1.07,
            0.87,
            0.87,
            0.89,
            0.89,
        ]
    )
    / 10
)
# The reference takes float32 differences of float32 poses, and means of float32 scores.
FLOAT32_RELATIVE = 1e-5


@functools.cache
def load(path):
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return arrays, json.loads(str(arrays["config"][0]))["config"]


def annotations_of(arrays):
    people = [
        {
            "id": int(arrays["input/gt_id"][i]),
            "image_id": int(arrays["input/gt_image_id"][i]),
            "category_id": 1,
            "keypoints": arrays["input/gt_keypoints"][i].ravel().tolist(),
            "num_keypoints": int(arrays["input/gt_num_keypoints"][i]),
            "area": float(arrays["input/gt_area"][i]),
            "bbox": arrays["input/gt_bbox"][i].tolist(),
            "iscrowd": int(arrays["input/gt_iscrowd"][i]),
        }
        for i in range(len(arrays["input/gt_id"]))
    ]
    return {"images": [{"id": int(i)} for i in arrays["input/image_id"]], "annotations": people}


def settings_of(text):
    """The settings of a case, from words such as "soft nms, oks_thre 0.9, in_vis_thre 0.2"."""
    number = {name: float(value) for name, value in re.findall(r"(\w+_thre) ([\d.]+)", text)}
    return {
        "nms": "soft" if "soft nms" in text else "hard",
        "nms_threshold": number["oks_thre"],
        "joint_threshold": number["in_vis_thre"],
    }


def detections(arrays, settings):
    poses, boxes = arrays["input/det_preds"], arrays["input/det_boxes"]
    return coco_ap.detections_of(
        poses[..., :2],
        poses[..., 2],
        image_id=arrays["input/det_image_id"],
        area=boxes[:, 4],
        box_score=boxes[:, 5],
        sigmas=SIGMAS,
        **settings,
    )


@FILES
def test_whole_protocol(path, capsys):
    """Rescoring, suppression, COCOeval.

    Who is kept, with which score, and every point of the precision curves.
    """
    arrays, config = load(path)
    for case, text in config["cases"].items():
        found = detections(arrays, settings_of(text))

        def reference(name, case=case):
            return arrays[f"output/{case}/{name}"]

        np.testing.assert_array_equal(
            [one["image_id"] for one in found], reference("kept_image_id"), err_msg=case
        )
        np.testing.assert_allclose(
            [one["score"] for one in found],
            reference("kept_score"),
            rtol=FLOAT32_RELATIVE,
            err_msg=case,
        )
        keypoints = np.reshape([one["keypoints"] for one in found], (len(found), -1, 3))
        np.testing.assert_allclose(keypoints, reference("kept_keypoints"), rtol=1e-7, err_msg=case)

        evaluation = coco_ap.evaluate(annotations_of(arrays), found, SIGMAS)
        ours = list(coco_ap.ten_numbers(evaluation).values())
        np.testing.assert_allclose(ours, reference("stats"), rtol=1e-9, err_msg=case)
        np.testing.assert_allclose(
            evaluation.eval["precision"][:, :, 0, :, 0],
            reference("precision"),
            rtol=1e-9,
            err_msg=case,
        )
        np.testing.assert_allclose(
            evaluation.eval["recall"][:, 0, :, 0], reference("recall"), rtol=1e-9, err_msg=case
        )
        words = {
            "ap": "AP",
            "ap_50": "Ap .5",
            "ap_75": "AP .75",
            "ap_medium": "AP (M)",
            "ap_large": "AP (L)",
        }
        words |= {
            "ar": "AR",
            "ar_50": "AR .5",
            "ar_75": "AR .75",
            "ar_medium": "AR (M)",
            "ar_large": "AR (L)",
        }
        assert [words[name] for name in coco_ap.NUMBERS] == reference("stat_names").tolist()
    assert capsys.readouterr().out == "", "pycocotools was to be silent"


@FILES
def test_oks_against_ground_truth(path):
    """Our OKS with the annotated area is the one that pycocotools matches detections by."""
    arrays, config = load(path)
    case = next(
        case
        for case in config["cases"]
        if any(name.startswith(f"output/{case}/oks/") for name in arrays)
    )
    found = detections(arrays, settings_of(config["cases"][case]))
    compared = 0
    for name in arrays:
        if not name.startswith(f"output/{case}/oks/"):
            continue
        picture = int(name.rsplit("/", 1)[1])
        poses = sorted(
            (one for one in found if one["image_id"] == picture), key=lambda one: -one["score"]
        )
        poses = np.reshape(
            [one["keypoints"] for one in poses[: keypoints_2d.MOST_PER_PICTURE]], (-1, 17, 3)
        )[..., :2]
        people = np.flatnonzero(arrays["input/gt_image_id"] == picture)
        assert arrays[name].shape == (len(poses), len(people)), name
        for column, person in enumerate(people):
            truth = arrays["input/gt_keypoints"][person]
            labelled = truth[:, 2] > 0
            if not labelled.any():  # pycocotools then measures the distance to the box
                continue
            squared = np.sum((poses - truth[:, :2]) ** 2, axis=-1)
            counted = np.broadcast_to(labelled, squared.shape)
            area = np.full(len(poses), arrays["input/gt_area"][person])
            ours = keypoints_2d.object_keypoint_similarity(squared, area, counted, SIGMAS)
            np.testing.assert_allclose(
                ours, arrays[name][:, column], rtol=1e-9, atol=1e-300, err_msg=f"{name} {column}"
            )
            compared += len(poses)
    assert compared


@FILES
def test_oks_between_poses(path):
    arrays, config = load(path)
    poses, areas = arrays["input/det_preds"].astype(np.float64), arrays["input/det_boxes"][:, 4]
    others = len(arrays["output/oks_iou"])
    similarity = keypoints_2d.pose_similarity(
        poses[: others + 1, :, :2], areas[: others + 1], SIGMAS
    )
    np.testing.assert_allclose(similarity[0, 1:], arrays["output/oks_iou"], rtol=FLOAT32_RELATIVE)
    np.testing.assert_allclose(similarity, similarity.T, rtol=1e-12)

    second = slice(1, others + 1)
    squared = np.sum((poses[second, :, :2] - poses[0, :, :2]) ** 2, axis=-1)
    (threshold,) = numbers_in(config["oks_iou_vis"], r"in_vis_thre ([\d.]+)")
    confident = poses[second, :, 2] > threshold
    masked = keypoints_2d.object_keypoint_similarity(
        squared, (areas[0] + areas[second]) / 2, confident, SIGMAS
    )
    np.testing.assert_allclose(masked, arrays["output/oks_iou_vis"], rtol=FLOAT32_RELATIVE)


@FILES
def test_suppression(path):
    arrays, config = load(path)
    threshold, last = numbers_in(
        config["oks_iou"], r"oks threshold ([\d.]+) over detections 0 to (\d+)"
    )
    first, names = slice(0, int(last) + 1), f"output/nms_first{int(last) + 1}"
    poses, boxes = arrays["input/det_preds"][first, :, :2], arrays["input/det_boxes"][first]
    similarity = keypoints_2d.pose_similarity(poses, boxes[:, 4], SIGMAS)
    hard = keypoints_2d.suppress(similarity, boxes[:, 5], threshold)
    np.testing.assert_array_equal(hard, arrays[f"{names}_hard"])
    soft = keypoints_2d.suppress_softly(similarity, boxes[:, 5], threshold)
    np.testing.assert_array_equal(soft, arrays[f"{names}_soft"])


@FILES
def test_suppression_of_boxes(path):
    """The same greedy rule on the overlap of boxes, in which the reference counts the pixels at
    both ends.
    """
    arrays, _ = load(path)
    x1, y1, x2, y2, scores = arrays["input/nms_boxes"].T
    width = np.minimum.outer(x2, x2) - np.maximum.outer(x1, x1) + 1
    height = np.minimum.outer(y2, y2) - np.maximum.outer(y1, y1) + 1
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    overlap = shared / (np.add.outer(areas, areas) - shared)
    recorded = [name for name in arrays if name.startswith("output/nms_boxes_")]
    assert recorded
    for name in recorded:
        kept = keypoints_2d.suppress(overlap, scores, float(name.rsplit("_", 1)[1]))
        np.testing.assert_array_equal(kept, arrays[name], err_msg=name)
