"""Scores by COCO's keypoint protocol: rescoring, OKS suppression, COCO's evaluation.

Source: HRNet, coco.py; docs/methods/pose2d.md#coco-evaluation. Persons come from ground-truth boxes
and, if the data set has them, from a detector's boxes. Published figures use one or the other, and
the two do not compare.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int

from kdpose_jax.contracts import Column, Predict
from kdpose_jax.data import persons as person_records
from kdpose_jax.data import schema
from kdpose_jax.data.persons import Persons, PersonSource
from kdpose_jax.errors import UserError, require
from kdpose_jax.evaluate import crop_predictions, extremes, flipping
from kdpose_jax.evaluate.extremes import Extremes
from kdpose_jax.evaluate.metrics import coco_ap, keypoints_2d
from kdpose_jax.evaluate.runner import Chosen, evenly_spread

SKELETON = "coco_17"
BOXES = ("ground_truth", "detections")


def _hundredths(value: float) -> str:
    """Writes AP as the literature prints it: 0.564 -> 56.4."""
    return f"{100 * value:.1f}"


@dataclasses.dataclass(frozen=True)
class CocoPersons:
    """Holds a split to score.

    Attributes:
      ground_truth: the persons in the ground-truth boxes.
      detections: the persons in a detector's boxes; None if the split has none.
      annotations: COCO's person-keypoint annotations of the split.
      only_chooses: whether the split only serves `Protocol.quick`, which needs no detections.
    """

    ground_truth: Persons
    detections: Persons | None
    annotations: dict[str, Any]
    only_chooses: bool = False

    def boxes(self) -> dict[str, Persons]:
        """Returns the persons by the kind of their boxes."""
        return {"ground_truth": self.ground_truth} | (
            {} if self.detections is None else {"detections": self.detections}
        )


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Holds the test persons, and scores predictions on them.

    Attributes:
      sources: kind of boxes -> one crop per person.
      data: the persons and annotations.
      side: side of the crops, pixels.
      flip: whether the table shows scores with test-time flip; records have both.
      shown: kind of boxes in the table, one of `BOXES`; records have both if there are both.
      rules: joint_threshold, nms and nms_threshold for `coco_ap.detections_of`.
    """

    sources: dict[str, PersonSource]
    data: CocoPersons
    side: int
    flip: bool
    shown: str
    rules: dict[str, Any]

    unit = ("persons", 1)
    best_metric = "ap"
    best_is_lowest = False
    breakdown_title = "AP by size"
    columns = (
        Column("ap", "AP", _hundredths),
        Column("ap_50", "AP50", _hundredths),
        Column("ap_75", "AP75", _hundredths),
        Column("ar", "AR", _hundredths),
    )

    @property
    def source(self) -> PersonSource:
        """Returns the crops of the ground-truth boxes."""
        return self.sources["ground_truth"]

    @property
    def test_set(self) -> str:
        """Describes the test set in words."""
        detected = (
            f" and {len(self.sources['detections']):,} detections"
            if "detections" in self.sources
            else ""
        )
        pictures = len(self.data.annotations["images"])
        return f"{len(self.source):,} persons{detected} in {pictures:,} pictures"

    @property
    def conditions(self) -> str:
        """Says how the figures in `columns` were obtained."""
        boxes = "ground-truth boxes" if self.shown == "ground_truth" else "a detector's boxes"
        return f"Scores: COCO's evaluation on {boxes}, {flipping.words(self.flip)}, in float32."

    def quick(self, count: int) -> tuple[Chosen, crop_predictions.Score]:
        """Prepares a light evaluation on ground-truth boxes, for use during training.

        Its AP counts the chosen persons alone, as if nobody else were in their pictures. If
        everybody is chosen, it is the AP from `full`. So the checkpoint that is kept is the best by
        the published metric. OKS is the mean over the chosen persons. It tells networks apart even
        if their AP is 0.

        Args:
          count: number of persons, evenly spread over those that count; 0 for all of them.

        Returns:
          Their crops, and a function that scores predictions on them.
        """
        persons = self.data.ground_truth
        labelled = np.any(persons.visible, axis=-1)
        chosen = evenly_spread(labelled, count)
        others = np.setdiff1d(np.flatnonzero(labelled), chosen)
        unwanted = list(zip(persons.image_id[others], persons.person_id[others], strict=True))
        annotations = coco_ap.without(self.data.annotations, unwanted)

        def score(prediction: crop_predictions.Prediction) -> dict[str, float]:
            scores = self.score(prediction, "ground_truth", chosen, annotations)
            return {name: scores[name] for name in ("ap", "oks") if scores[name] is not None}

        return Chosen(self.source, chosen), score

    def full(
        self, predictors: Mapping[str, Predict], run: Callable[..., crop_predictions.Prediction]
    ) -> dict[str, Any]:
        """Runs the whole protocol, on all kinds of boxes that there are.

        Args:
          predictors: {"plain", "flip": (params, model_state, batch) -> joints and scores}.
          run: (predict, source) -> such a function's predictions on a source.

        Returns:
          {"plain" and "flip": {kind of boxes: the entries from `score`}}.
        """
        return {
            name: {
                boxes: self.score(
                    run(predict, source), boxes, np.arange(len(source)), self.data.annotations
                )
                for boxes, source in self.sources.items()
            }
            for name, predict in predictors.items()
        }

    def extremes(self, prediction: crop_predictions.Prediction, count: int) -> Extremes:
        """Finds the persons whose joints are found best and worst, in ground-truth boxes."""
        persons, joints = self.data.ground_truth, prediction["joints"]
        return extremes.of_pictures(self.source, persons, self.side, joints, count)

    def example_scores(self, prediction: crop_predictions.Prediction) -> None:
        """Returns None: AP is not a mean over persons."""

    def row(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        """Returns the figures for `columns` from a record of `full`."""
        scores = flipping.shown(record, self.flip)[self.shown]
        return {column.key: scores[column.key] for column in self.columns}

    def breakdown(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        """Returns AP for COCO's two sizes of persons."""
        scores = flipping.shown(record, self.flip)[self.shown]
        return {"medium": scores["ap_medium"], "large": scores["ap_large"]}

    def score(
        self,
        prediction: crop_predictions.Prediction,
        boxes: str,
        chosen: Int[np.ndarray, " N"],
        annotations: dict[str, Any],
    ) -> dict[str, Any]:
        """Scores predictions on the crops of some persons.

        Args:
          prediction: the predictions on the crops.
          boxes: where the crops come from, one of `BOXES`.
          chosen: the numbers of the persons.
          annotations: the ground truth.

        Returns:
          COCO's ten numbers, 0 to 1, or None if nothing counts; `oks`, the mean over the persons,
          None for a detector's boxes; `persons`, their number; `kept`, how many the suppression
          keeps.
        """
        persons = self.data.boxes()[boxes]
        joints = crop_predictions.photograph_joints(prediction, persons, chosen, self.side)
        sigmas = np.array(persons.skeleton.oks_sigmas)
        detections = coco_ap.detections_of(
            joints,
            prediction["scores"],
            image_id=persons.image_id[chosen],
            # the crop's area, square pixels
            area=np.prod(persons.scale[chosen].astype(np.float64) * 200, axis=-1),
            box_score=persons.score[chosen],
            sigmas=sigmas,
            **self.rules,
        )
        numbers = coco_ap.ten_numbers(coco_ap.evaluate(annotations, detections, sigmas))
        mean_oks = _mean_oks(joints, persons, chosen, sigmas) if boxes == "ground_truth" else None
        return {**numbers, "oks": mean_oks, "persons": len(chosen), "kept": len(detections)}


def _mean_oks(
    joints: np.ndarray, persons: Persons, chosen: np.ndarray, sigmas: np.ndarray
) -> float | None:
    """Averages OKS over the persons that have a labelled joint, None without any.

    The area is the annotated one.
    """
    counts = persons.visible[chosen].any(-1)
    chosen, joints = chosen[counts], joints[counts]
    if not chosen.size:
        return None
    squared = np.sum((joints - persons.joints[chosen]) ** 2, axis=-1)
    return float(
        keypoints_2d.object_keypoint_similarity(
            squared, persons.area[chosen], persons.visible[chosen], sigmas
        ).mean()
    )


def check_settings(
    *, flip: bool, boxes: str, joint_threshold: float, nms: str, nms_threshold: float
) -> None:
    """Checks the config's `eval.settings`, before any data are read.

    Raises:
      UserError: a value is not allowed.
    """
    flipping.check(flip)
    require("eval.settings.boxes", boxes, BOXES)
    require("eval.settings.nms", nms, coco_ap.SUPPRESSIONS)
    if not 0 <= joint_threshold < 1:
        raise UserError(
            f"eval.settings.joint_threshold is {joint_threshold}: use a score from 0 to below 1, "
            f"such as 0.02."
        )
    if not 0 < nms_threshold <= 1:
        raise UserError(
            f"eval.settings.nms_threshold is {nms_threshold}: use a similarity above 0 up to 1, "
            f"such as 0.9."
        )


def read(records: str, split: str) -> CocoPersons:
    """Reads a split to score, the detections that belong to it and its annotations.

    Args:
      records: folder that `data_prep.convert` wrote.
      split: split with the ground-truth boxes; the detector's boxes are in SPLIT_detections.

    Raises:
      UserError: COCO's annotations are absent or damaged.
    """
    persons = person_records.read(records, split)
    detected = f"{split}_detections"  # `schema.DETECTIONS_SPLIT` for the test split
    has_detections = detected in schema.read_metadata(records, schema.PERSONS)["splits"]
    annotations = coco_ap.read_annotations(epath.Path(records) / f"{split}_annotations.json")
    return CocoPersons(
        persons,
        person_records.read(records, detected) if has_detections else None,
        annotations,
        only_chooses=split == schema.VAL_SPLIT,
    )


def open_protocol(
    data: CocoPersons,
    *,
    views: Mapping[str, int],
    flip: bool,
    boxes: str,
    joint_threshold: float,
    nms: str,
    nms_threshold: float,
) -> Protocol:
    """Lays one crop over every person, for either kind of boxes.

    Args:
      data: the split from `read`.
      views: name of a crop -> its side in pixels; predictions are in pixels of "image".
      flip: whether the table shows scores with test-time flip.
      boxes: kind of boxes in the table.
      joint_threshold: score above which a joint counts in its person's score (0.02 for SimDR at low
        resolution, 0.2 for heatmaps).
      nms: "hard" or "soft" suppression of doubles.
      nms_threshold: OKS above which two poses are doubles (0.9); for "soft" the width of its
        Gaussian.

    Raises:
      UserError: the skeleton is not COCO's, the table is to show detections that are absent, or the
        annotations are for other pictures.
    """
    check_settings(
        flip=flip,
        boxes=boxes,
        joint_threshold=joint_threshold,
        nms=nms,
        nms_threshold=nms_threshold,
    )
    skeleton = data.ground_truth.skeleton.name
    if skeleton != SKELETON:
        raise UserError(
            f"COCO's evaluation needs the joints of {SKELETON} and this data set has {skeleton}: "
            f"set eval.protocol to 'pck'."
        )
    if data.only_chooses:
        boxes = "ground_truth"
    if boxes not in data.boxes():
        raise UserError(
            "eval.settings.boxes is 'detections' and the records have no detections: convert the "
            "data set with a detections file, or set it to 'ground_truth'."
        )
    if not data.ground_truth.visible.any():
        raise UserError(
            "No person of the split has a labelled joint: convert the data set again with labelled "
            "persons in it."
        )
    pictures = {image["id"] for image in data.annotations["images"]}
    for kind, persons in data.boxes().items():
        others = set(persons.image_id.tolist()) - pictures
        if others:
            raise UserError(
                f"{len(others)} pictures of the {kind} boxes are not in the stored annotations, "
                f"image_id {min(others)} for one: convert the data set again, with detections of "
                "the same pictures."
            )
    sources = {
        kind: person_records.open_evaluation(persons, views=views)
        for kind, persons in data.boxes().items()
    }
    rules = {"joint_threshold": joint_threshold, "nms": nms, "nms_threshold": nms_threshold}
    return Protocol(sources, data, views["image"], flip, boxes, rules)
