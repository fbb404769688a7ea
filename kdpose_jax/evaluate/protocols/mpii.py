"""Scores by MPII's protocol: PCKh, the share of joints within a part of the head size.

Source: HRNet and SimCC, mpii.py; docs/methods/pose2d.md#pckh.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from kdpose_jax.contracts import Column, Predict
from kdpose_jax.data import persons as person_records
from kdpose_jax.data import schema
from kdpose_jax.data.persons import Persons, PersonSource
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import crop_predictions, example_scores, extremes, flipping
from kdpose_jax.evaluate.example_scores import ExampleScores
from kdpose_jax.evaluate.extremes import Extremes
from kdpose_jax.evaluate.metrics import keypoints_2d, pckh
from kdpose_jax.evaluate.protocols import pck
from kdpose_jax.evaluate.runner import Chosen, evenly_spread

SKELETON = "mpii_16"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Holds the test persons, and scores predictions on them.

    Attributes:
      source: one crop per person.
      persons: the persons.
      side: side of the crops, pixels.
      flip: whether the table shows scores with test-time flip; records have both.
    """

    source: PersonSource
    persons: Persons
    side: int
    flip: bool

    unit = ("persons", 1)
    best_metric = "pckh"
    best_is_lowest = False
    breakdown_title = "PCKh@0.5 by joint"
    columns = (
        Column("pckh", "PCKh@0.5", "{:.1f}".format),
        Column("pckh_0.1", "PCKh@0.1", "{:.1f}".format),
    )

    @property
    def test_set(self) -> str:
        """Describes the test set in words."""
        return f"{len(self.source):,} persons"

    @property
    def conditions(self) -> str:
        """Says how the figures in `columns` were obtained."""
        shown, unseen = len(self.source), self.persons.unseen
        missed = (
            " The joints of the others count as wrong: their boxes show nothing of the photograph."
        )
        return (
            f"Scores: percent of the joints but pelvis and thorax, "
            f"{flipping.words(self.flip)}, in float32. {shown:,} of {shown + unseen:,} annotated "
            f"persons were predicted.{missed if unseen else ''}"
        )

    def quick(self, count: int) -> tuple[Chosen, crop_predictions.Score]:
        """Prepares a light evaluation for use during training: PCKh@0.5 of some persons.

        It costs nothing beside the network.

        Args:
          count: number of persons, evenly spread; 0 for all of them.

        Returns:
          Their crops, and a function that scores predictions on them.
        """
        chosen = evenly_spread(np.any(self.persons.visible[:, pckh.MEAN_OVER], axis=-1), count)

        def score(prediction: crop_predictions.Prediction) -> dict[str, float]:
            nobody = np.zeros_like(self.persons.unseen_joints)
            mean = self.score(prediction, chosen, nobody)["0.5"]["Mean"]
            assert mean is not None  # every chosen person has a labelled joint that counts
            return {"pckh": mean}

        return Chosen(self.source, chosen), score

    def full(
        self,
        predictors: Mapping[str, Predict],
        run: Callable[[Predict], crop_predictions.Prediction],
    ) -> dict[str, Any]:
        """Runs the whole protocol.

        Args:
          predictors: {"plain", "flip": (params, model_state, batch) -> joints and scores}.
          run: computes the predictions of such a function on `source`.

        Returns:
          {"plain" and "flip": {"0.5", "0.1" and "0.11": {joint group and "Mean": percent}},
          "persons": how many were predicted, "unseen": how many were not, whose joints count as
          wrong}.
        """
        everybody, unseen = np.arange(len(self.source)), self.persons.unseen_joints
        record = {
            name: self.score(run(predict), everybody, unseen)
            for name, predict in predictors.items()
        }
        return {**record, "persons": len(everybody), "unseen": self.persons.unseen}

    def extremes(self, prediction: crop_predictions.Prediction, count: int) -> Extremes:
        """Finds the persons whose joints are found best and worst."""
        joints = prediction["joints"]
        return extremes.of_pictures(self.source, self.persons, self.side, joints, count)

    def example_scores(self, prediction: crop_predictions.Prediction) -> ExampleScores:
        """Splits PCKh@0.5 into persons. All who were not predicted count as one, and as wrong."""
        persons, over = self.persons, list(pckh.MEAN_OVER)
        everybody = np.arange(len(self.source))
        joints = crop_predictions.photograph_joints(prediction, persons, everybody, self.side)
        errors = keypoints_2d.relative_errors(joints, persons.joints, persons.head_size)[:, over]
        labelled = np.concatenate([persons.visible[:, over], persons.unseen_joints[None, over]])
        correct = np.zeros(labelled.shape, int)
        correct[:-1] = (errors <= 0.5) & persons.visible[:, over]
        return example_scores.of_persons(correct, labelled)

    def row(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        """Returns the figures for `columns` from a record of `full`."""
        scores = flipping.shown(record, self.flip)
        return {"pckh": scores["0.5"]["Mean"], "pckh_0.1": scores["0.1"]["Mean"]}

    def breakdown(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        """Returns PCKh@0.5 for each joint group."""
        scores = flipping.shown(record, self.flip)["0.5"]
        return {group: scores[group] for group in pckh.GROUPS}

    def score(
        self,
        prediction: crop_predictions.Prediction,
        chosen: Int[np.ndarray, " N"],
        missed: Int[np.ndarray, "16"],
    ) -> dict[str, dict[str, float | None]]:
        """Computes PCKh of predictions on the crops of some persons, by threshold.

        `missed` counts the joints of other persons, which are wrong.
        """
        joints = crop_predictions.photograph_joints(prediction, self.persons, chosen, self.side)
        persons = self.persons
        return pckh.score(
            joints,
            persons.joints[chosen],
            persons.visible[chosen],
            persons.head_size[chosen],
            missed,
        )


def check_settings(*, flip: bool) -> None:
    """Checks the config's `eval.settings`, before any data are read.

    Raises:
      UserError: a value is not allowed.
    """
    flipping.check(flip)


def read(records: str, split: str) -> Persons:
    """Reads a split of person records to score into memory.

    Validation persons are training persons, for whom HRNet's lists have no head boxes
    (`with_head_segments`).
    """
    persons = person_records.read(records, split)
    return with_head_segments(persons) if split == schema.VAL_SPLIT else persons


def with_head_segments(persons: Persons) -> Persons:
    """Replaces absent head sizes by the length from the upper neck to the head top.

    That is the length which PCKh's share of the head box stands for, so that checkpoints can be
    chosen by it. Our own choice. Where an end is not labelled, no joint of the person counts.
    """
    if persons.skeleton.name != SKELETON:  # `open_protocol` refuses it
        return persons
    segments = pck.reference_lengths(persons, "head")
    size = np.where(persons.head_size > 0, persons.head_size, segments)
    counts = size > 0
    return dataclasses.replace(
        persons,
        head_size=np.where(counts, size, 1).astype(np.float32),
        visible=persons.visible & counts[:, None],
    )


def open_protocol(data: Persons, *, views: Mapping[str, int], flip: bool) -> Protocol:
    """Lays one crop over every test person.

    Args:
      data: the persons from `read`.
      views: name of a crop -> its side in pixels; predictions are in pixels of "image".
      flip: whether the table shows scores with test-time flip.

    Raises:
      UserError: the skeleton is not MPII's, or a person has no head size.
    """
    check_settings(flip=flip)
    if data.skeleton.name != SKELETON:
        raise UserError(
            f"PCKh needs the joints of {SKELETON} and this data set has {data.skeleton.name}: set "
            f"eval.protocol to 'pck'."
        )
    without = np.flatnonzero(~(data.head_size > 0))
    if without.size:
        raise UserError(
            f"{without.size} of {len(data.head_size)} test persons have no head size, the first in "
            f"'{data.file[without[0]]}', so PCKh is undefined: set eval.protocol to 'pck'."
        )
    if not data.visible[:, pckh.MEAN_OVER].any():
        raise UserError(
            "No person of the split has a labelled joint that counts: convert the data set again "
            "with labelled persons in it."
        )
    return Protocol(person_records.open_evaluation(data, views=views), data, views["image"], flip)
