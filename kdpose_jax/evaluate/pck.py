"""PCK for data sets without head boxes: the share of joints within a part of the torso or head length of their person.

The torso reaches from the left shoulder to the right hip, the head from the upper neck to the head top. A person on whom one of
the two is not labelled has no length and counts neither for nor against a network; the results say how many count.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from kdpose_jax.contracts import Predict
from kdpose_jax.data import persons as person_records
from kdpose_jax.data.persons import Persons, PersonSource
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import metrics_2d, pose2d
from kdpose_jax.evaluate.runner import Chosen, evenly_spread
from kdpose_jax.skeletons import Skeleton

# Reference -> the joints that it lies between.
REFERENCES = {"torso": ("left_shoulder", "right_hip"), "head": ("upper_neck", "head_top")}
# Made from other joints where a set does not label them itself, so that they are left out, as PCKh does.
LEFT_OUT = ("pelvis", "thorax")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The test persons and how predictions on them are scored.

    Attributes:
      source: one crop per person.
      persons: the persons.
      side: of the crops, pixels.
      lengths: of the reference, photograph pixels, 0 where it is not labelled, `[persons]`.
      reference: one of `REFERENCES`.
      threshold: the part of the reference within which a joint is correct.
      flip: test-time flip in the table; the results have both.
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
    def columns(self) -> tuple:
        return (("pck", f"PCK@{self.threshold:g}", "{:.1f}".format),)

    @property
    def breakdown_title(self) -> str:
        return f"PCK@{self.threshold:g} by joint"

    @property
    def test_set(self) -> str:
        """What was tested on."""
        return f"{len(self.source):,} persons, {np.sum(self.lengths > 0):,} of them with a {self.reference} length"

    @property
    def conditions(self) -> str:
        """How the figures of `columns` were obtained, as a sentence."""
        first, second = (name.replace("_", " ") for name in REFERENCES[self.reference])
        return (
            f"Scores: percent of the joints within {self.threshold:g} of the {self.reference} length ({first} to {second}), "
            f"{pose2d.flip_words(self.flip)}."
        )

    def quick(self, count: int) -> tuple[Chosen, pose2d.Score]:
        """A light evaluation for use during training: the PCK of the table, which costs nothing beside the network.

        Args:
          count: evenly spread persons that count; 0 or more than there are: all of them.

        Returns:
          Their crops, and the function that scores predictions on them.
        """
        chosen = evenly_spread(self.lengths > 0, count)

        def score(prediction: pose2d.Prediction) -> dict[str, float]:
            return {"pck": self.score(prediction, chosen)["Mean"]}

        return Chosen(self.source, chosen), score

    def full(
        self, predictors: Mapping[str, Predict], run: Callable[[Predict], pose2d.Prediction]
    ) -> dict[str, Any]:
        """The whole protocol.

        Args:
          predictors: {"plain", "flip": (params, model_state, batch) -> joints and scores}.
          run: gives the predictions of such a function on `source`.

        Returns:
          {"plain" and "flip": {joint group and "Mean": percent}, "persons": how many count}.
        """
        everybody = np.arange(len(self.source))
        record = {name: self.score(run(predict), everybody) for name, predict in predictors.items()}
        return {**record, "persons": int(np.sum(self.lengths > 0))}

    def row(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        """The figures of `columns` from a record of `full`."""
        return {"pck": record[pose2d.table_entry(self.flip)]["Mean"]}

    def breakdown(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        """PCK of every joint group."""
        scores = record[pose2d.table_entry(self.flip)]
        return {group: scores[group] for group in scores if group != "Mean"}

    def score(
        self, prediction: pose2d.Prediction, chosen: Int[np.ndarray, "N"]
    ) -> dict[str, float | None]:
        """PCK of predictions on the crops of some persons."""
        joints = pose2d.photograph_joints(prediction, self.persons, chosen, self.side)
        counts = self.lengths[chosen] > 0
        scored = chosen[counts]
        errors = metrics_2d.relative_errors(
            joints[counts], self.persons.joints[scored], self.lengths[scored]
        )
        groups = joint_groups(self.persons.skeleton)
        mean_over = sorted(joint for joints in groups.values() for joint in joints)
        return metrics_2d.pck(
            errors, self.persons.visible[scored], self.threshold, groups=groups, mean_over=mean_over
        )


def joint_groups(skeleton: Skeleton) -> dict[str, tuple[int, ...]]:
    """The joints by what they are called without their side, "Shoulder" for both, without those of `LEFT_OUT`."""
    groups: dict[str, tuple[int, ...]] = {}
    for joint, name in enumerate(skeleton.joints):
        if name not in LEFT_OUT:
            title = name.removeprefix("left_").removeprefix("right_").replace("_", " ").capitalize()
            groups[title] = (*groups.get(title, ()), joint)
    return groups


def reference_lengths(persons: Persons, reference: str) -> Float[np.ndarray, "persons"]:
    """Distance in photograph pixels between the two joints of the reference, 0 where one of them is not labelled."""
    first, second = (persons.skeleton.joints.index(name) for name in REFERENCES[reference])
    joints = np.asarray(persons.joints, np.float64)
    lengths = np.linalg.norm(joints[:, first] - joints[:, second], axis=-1)
    return np.where(persons.visible[:, first] & persons.visible[:, second], lengths, 0)


def check_settings(*, flip: bool, reference: str, threshold: float) -> None:
    """Checks what `open_protocol` takes from the config, before any data is read.

    Raises:
      UserError: a value that it does not take.
    """
    pose2d.check_flip(flip)
    if reference not in REFERENCES:
        raise UserError(
            f"eval.settings.reference is {reference!r}: set it to one of {list(REFERENCES)}."
        )
    if not 0 < threshold < np.inf:
        raise UserError(
            f"eval.settings.threshold is {threshold}: use a share of the {reference} length such as 0.2."
        )


def read(records: str, split: str) -> Persons:
    """Reads one split of a data set of person records."""
    return person_records.read(records, split)


def open_protocol(
    data: Persons, *, views: Mapping[str, int], flip: bool, reference: str, threshold: float
) -> Protocol:
    """Lays one crop over every test person.

    Args:
      data: of `read`.
      views: crop -> its side in pixels; predictions are in pixels of "image".
      flip: test-time flip in the table.
      reference: see `Protocol`, as is the following.
      threshold: of the reference length.

    Raises:
      UserError: a skeleton without the joints of the reference, or no person on whom they are labelled.
    """
    check_settings(flip=flip, reference=reference, threshold=threshold)
    lacking = [name for name in REFERENCES[reference] if name not in data.skeleton.joints]
    if lacking:
        raise UserError(
            f"eval.settings.reference is '{reference}' and the skeleton {data.skeleton.name} has no {' and no '.join(lacking)}: set it "
            "to 'torso'."
        )
    lengths = reference_lengths(data, reference)
    if not (lengths > 0).any():
        raise UserError(
            f"No test person has both ends of the {reference} labelled ({' and '.join(REFERENCES[reference])}): set "
            "eval.settings.reference to another one, or check the chosen split of the data set."
        )
    source = person_records.open_evaluation(data, views=views)
    return Protocol(source, data, views["image"], lengths, reference, threshold, flip)
