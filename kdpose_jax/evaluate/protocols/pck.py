"""Scores by PCK, for data sets without head boxes.

PCK is the share of joints within a part of their person's torso or head length. The torso is from
the left shoulder to the right hip, the head from the upper neck to the head top. A person without a
label for one of these ends has no length and does not count. The records say how many persons
count.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from kdpose_jax.contracts import Column, Predict
from kdpose_jax.data import persons as person_records
from kdpose_jax.data.persons import Persons, PersonSource
from kdpose_jax.errors import UserError, require
from kdpose_jax.evaluate import crop_predictions, example_scores, extremes, flipping
from kdpose_jax.evaluate.example_scores import ExampleScores
from kdpose_jax.evaluate.extremes import Extremes
from kdpose_jax.evaluate.metrics import keypoints_2d
from kdpose_jax.evaluate.runner import Chosen, evenly_spread
from kdpose_jax.skeletons import Skeleton

# Reference length -> the joints at its ends.
REFERENCES = {"torso": ("left_shoulder", "right_hip"), "head": ("upper_neck", "head_top")}
# Some sets do not label these joints, and we compute them from others. PCKh leaves them out too.
LEFT_OUT = ("pelvis", "thorax")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Holds the test persons, and scores predictions on them.

    Attributes:
      source: one crop per person.
      persons: the persons.
      side: side of the crops, pixels.
      lengths: reference length of each person, `[persons]`, photograph pixels, 0 without labels.
      reference: one of `REFERENCES`.
      threshold: the part of the reference length within which a joint is correct.
      flip: whether the table shows scores with test-time flip; records have both.
    """

    source: PersonSource
    persons: Persons
    side: int
    lengths: np.ndarray
    reference: str
    threshold: float
    flip: bool

    unit = ("persons", 1)
    best_metric = "pck"
    best_is_lowest = False

    @property
    def columns(self) -> tuple[Column, ...]:
        """Returns the table's columns."""
        return (Column("pck", f"PCK@{self.threshold:g}", "{:.1f}".format),)

    @property
    def breakdown_title(self) -> str:
        """Returns the headline for `breakdown`."""
        return f"PCK@{self.threshold:g} by joint"

    @property
    def test_set(self) -> str:
        """Describes the test set in words."""
        count = np.sum(self.lengths > 0)
        return f"{len(self.source):,} persons, {count:,} of them with a {self.reference} length"

    @property
    def conditions(self) -> str:
        """Says how the figures in `columns` were obtained."""
        first, second = (name.replace("_", " ") for name in REFERENCES[self.reference])
        return (
            f"Scores: percent of the joints within {self.threshold:g} of the {self.reference} "
            f"length ({first} to {second}), {flipping.words(self.flip)}, in float32."
        )

    def quick(self, count: int) -> tuple[Chosen, crop_predictions.Score]:
        """Prepares a light evaluation for use during training.

        Args:
          count: number of persons, evenly spread over those that count; 0 for all of them.

        Returns:
          Their crops, and a function that computes the PCK of predictions on them.
        """
        numbers = evenly_spread(self.lengths > 0, count)

        def score(prediction: crop_predictions.Prediction) -> dict[str, float]:
            mean = self.score(prediction, numbers)["Mean"]
            assert mean is not None, "whoever counts has the ends of the reference labelled"
            return {"pck": mean}

        return Chosen(self.source, numbers), score

    def full(
        self,
        predictors: Mapping[str, Predict],
        run: Callable[[Predict], crop_predictions.Prediction],
    ) -> dict[str, Any]:
        """Runs the whole protocol.

        Args:
          predictors: "plain" and "flip" -> (params, model_state, batch) -> joints and scores.
          run: computes the predictions of such a function on `source`.

        Returns:
          {"plain" and "flip": {joint group and "Mean": percent}, "persons": how many count}.
        """
        everybody = np.arange(len(self.source))
        record = {name: self.score(run(predict), everybody) for name, predict in predictors.items()}
        return {**record, "persons": int(np.sum(self.lengths > 0))}

    def extremes(self, prediction: crop_predictions.Prediction, count: int) -> Extremes:
        """Finds the persons whose joints are found best and worst."""
        joints = prediction["joints"]
        return extremes.of_pictures(self.source, self.persons, self.side, joints, count)

    def example_scores(self, prediction: crop_predictions.Prediction) -> ExampleScores:
        """Splits PCK into the persons who have a reference length."""
        errors, labelled = self._errors(prediction, np.arange(len(self.source)))
        over = self._mean_over()
        correct = (errors <= self.threshold) & labelled
        return example_scores.of_persons(correct[:, over], labelled[:, over])

    def row(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        """Returns the figures for `columns` from a record of `full`."""
        return {"pck": flipping.shown(record, self.flip)["Mean"]}

    def breakdown(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        """Returns the PCK of each joint group."""
        scores = flipping.shown(record, self.flip)
        return {group: scores[group] for group in scores if group != "Mean"}

    def score(
        self, prediction: crop_predictions.Prediction, numbers: Int[np.ndarray, " N"]
    ) -> dict[str, float | None]:
        """Computes the PCK of predictions on the crops of the persons with these numbers."""
        errors, labelled = self._errors(prediction, numbers)
        return keypoints_2d.pck(
            errors,
            labelled,
            self.threshold,
            groups=joint_groups(self.persons.skeleton),
            mean_over=self._mean_over(),
        )

    def _errors(
        self, prediction: crop_predictions.Prediction, numbers: Int[np.ndarray, " N"]
    ) -> tuple[Float[np.ndarray, "N J"], Bool[np.ndarray, "N J"]]:
        """Computes the errors over the reference length, and which joints are labelled.

        Persons without a reference length are left out.
        """
        joints = crop_predictions.photograph_joints(prediction, self.persons, numbers, self.side)
        counts = self.lengths[numbers] > 0
        scored = numbers[counts]
        errors = keypoints_2d.relative_errors(
            joints[counts], self.persons.joints[scored], self.lengths[scored]
        )
        return errors, np.asarray(self.persons.visible[scored], bool)

    def _mean_over(self) -> list[int]:
        groups = joint_groups(self.persons.skeleton)
        return sorted(joint for joints in groups.values() for joint in joints)


def joint_groups(skeleton: Skeleton) -> dict[str, tuple[int, ...]]:
    """Groups joints by their name without the side ("Shoulder" for both), without `LEFT_OUT`."""
    groups: dict[str, tuple[int, ...]] = {}
    for joint, name in enumerate(skeleton.joints):
        if name not in LEFT_OUT:
            title = name.removeprefix("left_").removeprefix("right_").replace("_", " ").capitalize()
            groups[title] = (*groups.get(title, ()), joint)
    return groups


def reference_lengths(persons: Persons, reference: str) -> Float[np.ndarray, " persons"]:
    """Computes each person's reference length in photograph pixels, 0 if an end is not labelled."""
    first, second = (persons.skeleton.joints.index(name) for name in REFERENCES[reference])
    joints = np.asarray(persons.joints, np.float64)
    lengths = np.linalg.norm(joints[:, first] - joints[:, second], axis=-1)
    return np.where(persons.visible[:, first] & persons.visible[:, second], lengths, 0)


def check_settings(*, flip: bool, reference: str, threshold: float) -> None:
    """Checks the config's `eval.settings`, before any data are read.

    Raises:
      UserError: a value is not allowed.
    """
    flipping.check(flip)
    require("eval.settings.reference", reference, REFERENCES)
    if not 0 < threshold < np.inf:
        raise UserError(
            f"eval.settings.threshold is {threshold}: use a share of the {reference} length such "
            "as 0.2."
        )


def read(records: str, split: str) -> Persons:
    """Reads a split of person records to score into memory."""
    return person_records.read(records, split)


def open_protocol(
    data: Persons, *, views: Mapping[str, int], flip: bool, reference: str, threshold: float
) -> Protocol:
    """Lays one crop over every test person.

    Args:
      data: the persons from `read`.
      views: name of a crop -> its side in pixels; predictions are in pixels of "image".
      flip: whether the table shows scores with test-time flip.
      reference: one of `REFERENCES`.
      threshold: the part of the reference length within which a joint is correct.

    Raises:
      UserError: a setting is not allowed, the skeleton lacks an end of the reference, or no person
        has both ends labelled.
    """
    check_settings(flip=flip, reference=reference, threshold=threshold)
    lacking = [name for name in REFERENCES[reference] if name not in data.skeleton.joints]
    if lacking:
        raise UserError(
            f"eval.settings.reference is '{reference}' and the skeleton {data.skeleton.name} has "
            f"no {' and no '.join(lacking)}: set it to 'torso'."
        )
    lengths = reference_lengths(data, reference)
    if not (lengths > 0).any():
        raise UserError(
            f"No person of the split has both ends of the {reference} labelled "
            f"({' and '.join(REFERENCES[reference])}): set eval.settings.reference to another one, "
            "or convert the data set again with such persons in it."
        )
    source = person_records.open_evaluation(data, views=views)
    return Protocol(source, data, views["image"], lengths, reference, threshold, flip)
