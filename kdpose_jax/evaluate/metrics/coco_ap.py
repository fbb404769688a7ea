"""Computes COCO's ten keypoint numbers from poses on photographs, through pycocotools.

Source: HRNet, coco.py; docs/methods/pose2d.md#coco-evaluation.
"""

import contextlib
import io
from collections.abc import Collection
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, Int
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.metrics import keypoints_2d
from kdpose_jax.untrusted.documents import load_json

# Our names, in the order of COCOeval's `stats` for keypoints.
NUMBERS = (
    "ap",
    "ap_50",
    "ap_75",
    "ap_medium",
    "ap_large",
    "ar",
    "ar_50",
    "ar_75",
    "ar_medium",
    "ar_large",
)
SUPPRESSIONS = {"hard": keypoints_2d.suppress, "soft": keypoints_2d.suppress_softly}
PERSON = 1
# The fields that pycocotools reads from an annotation, and their types.
_FIELDS = {
    "id": int,
    "image_id": int,
    "category_id": int,
    "iscrowd": int,
    "num_keypoints": int,
    "area": int | float,
    "bbox": list,
    "keypoints": list,
}
_LENGTHS = {"bbox": 4, "keypoints": 3 * 17}


def detections_of(
    joints: Float[np.ndarray, "N J 2"],
    joint_scores: Float[np.ndarray, "N J"],
    *,
    image_id: Int[np.ndarray, " N"],
    area: Float[np.ndarray, " N"],
    box_score: Float[np.ndarray, " N"],
    sigmas: Float[np.ndarray, " J"],
    joint_threshold: float,
    nms: str,
    nms_threshold: float,
) -> list[dict[str, Any]]:
    """Rescores every picture's persons, suppresses doubles, and returns the rest.

    They have the form of COCO's results file.

    Args:
      joints: joints in photograph pixels.
      joint_scores: the network's scores.
      image_id: the picture of each person.
      area: area of each person's box with its margin, square pixels.
      box_score: score of each box, 1 for ground-truth boxes.
      sigmas: OKS sigmas of the joints.
      joint_threshold: score above which a joint counts in its person's score.
      nms: one of `SUPPRESSIONS`.
      nms_threshold: similarity above which two persons are doubles.

    Returns:
      {"image_id", "category_id", "keypoints": [x, y, score, ...], "score"} for every person that is
        kept, picture by picture.
    """
    scores = keypoints_2d.rescore(box_score, joint_scores, joint_threshold)
    # [N, J, 3].
    triples = np.concatenate([joints, joint_scores[..., None]], axis=-1, dtype=np.float64)
    order = np.argsort(image_id, kind="stable")
    starts = np.flatnonzero(np.diff(image_id[order])) + 1
    detections = []
    for picture in np.split(order, starts):
        similarity = keypoints_2d.pose_similarity(joints[picture], area[picture], sigmas)
        kept = SUPPRESSIONS[nms](similarity, scores[picture], nms_threshold)
        detections += [
            {
                "image_id": int(image_id[person]),
                "category_id": PERSON,
                "keypoints": triples[person].ravel().tolist(),
                "score": float(scores[person]),
            }
            for person in picture[kept]
        ]
    return detections


def evaluate(
    annotations: dict[str, Any],
    detections: list[dict[str, Any]],
    sigmas: Float[np.ndarray, " J"],
) -> COCOeval:
    """Runs COCO's keypoint evaluation, and hides what it prints.

    Args:
      annotations: person-keypoint annotations.
      detections: at least one detection from `detections_of`.
      sigmas: OKS sigmas of the joints, in the place of pycocotools' own.

    Returns:
      The evaluation after `summarize`: `stats`, `eval`, `ious`.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        # These are copies, because pycocotools leaves marks in annotations. It reads a
        # match with id 0 as no match, and it knows only the last annotation with an id. So
        # it gets new ids.
        truth.dataset = {
            "images": annotations["images"],
            "annotations": [
                annotation | {"id": number}
                for number, annotation in enumerate(annotations["annotations"], 1)
            ],
            "categories": [{"id": PERSON, "name": "person"}],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "keypoints")
        evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def ten_numbers(evaluation: COCOeval) -> dict[str, float | None]:
    """Returns COCO's ten numbers, 0 to 1; None if no person counts (pycocotools' -1)."""
    return {
        name: float(value) if value >= 0 else None
        for name, value in zip(NUMBERS, evaluation.stats, strict=True)
    }


def without(annotations: dict[str, Any], persons: Collection[tuple[int, int]]) -> dict[str, Any]:
    """Returns the annotations without these persons.

    A person is (picture's id, own id), because its own id need not be unique.
    """
    unwanted = {(int(image_id), int(number)) for image_id, number in persons}
    kept = [
        one for one in annotations["annotations"] if (one["image_id"], one["id"]) not in unwanted
    ]
    return {**annotations, "annotations": kept}


def read_annotations(path: epath.PathLike) -> dict[str, Any]:
    """Reads the annotations that the conversion kept.

    Raises:
      UserError: the file is absent, or does not have COCO's person-keypoint form.
    """
    remedy = "convert the data set again from COCO's annotations, or set eval.protocol to 'pck'"
    try:
        annotations = load_json(path)
    except FileNotFoundError:
        raise UserError(
            f"There is no '{path}', without which COCO's evaluation cannot run: {remedy}."
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"'{path}' cannot be read as JSON ({error}): {remedy}.") from error
    problem = find_problem(annotations)
    if problem:
        raise UserError(f"'{path}' {problem}: {remedy}.")
    return annotations


def find_problem(annotations: Any) -> str:
    """Says why an untrusted JSON value is not COCO's annotations of persons.

    Returns the end of a sentence "FILE ...", or "" if nothing is wrong.
    """
    if not isinstance(annotations, dict) or not all(
        isinstance(annotations.get(key), list) for key in ("images", "annotations")
    ):
        return "holds no lists of images and annotations"
    for number, image in enumerate(annotations["images"]):
        if not isinstance(image, dict) or not isinstance(image.get("id"), int):
            return f"has no id in image {number}"
    for number, annotation in enumerate(annotations["annotations"]):
        if not isinstance(annotation, dict):
            return f"has no annotation at {number}"
        for name, kind in _FIELDS.items():
            if not isinstance(annotation.get(name), kind):
                return f"has no '{name}' that pycocotools can read in annotation {number}"
        for name, length in _LENGTHS.items():
            values = annotation[name]
            if len(values) != length or not all(isinstance(value, int | float) for value in values):
                return f"has no {length} numbers as '{name}' in annotation {number}"
    return ""
