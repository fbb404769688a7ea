"""Scores the centre frame of a window around every valid frame of MPI-INF-3DHP.

This is P-STMO's protocol, with MPJPE, PCK and AUC: docs/methods/lifting.md#mpi-inf-3dhp-protocol.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from kdpose_jax.contracts import Batch, Column, Predict
from kdpose_jax.data import schema, sequences
from kdpose_jax.data.sequences import Motion, WindowSource, windows_of
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import example_scores, extremes, flipping
from kdpose_jax.evaluate.example_scores import ExampleScores
from kdpose_jax.evaluate.extremes import Extremes, Motion3D
from kdpose_jax.evaluate.metrics import pck_3d
from kdpose_jax.evaluate.metrics.pck_3d import PartScores
from kdpose_jax.evaluate.runner import Chosen, evenly_spread
from kdpose_jax.skeletons import H36M_17

# The official names for the labels 1 to 7.
ACTIVITIES = (
    "standing, walking",
    "exercise",
    "sitting",
    "crouching, reaching",
    "on the floor",
    "sports",
    "miscellaneous",
)
MEASURES: Final = ("mpjpe_mm", "pck", "auc")


@dataclasses.dataclass(frozen=True)
class LabelledMotion:
    """Holds the test sequences, and what is done in them.

    Attributes:
      motion: the sequences.
      activity: label of each frame, from 1; 0 if it is not labelled, `[N]`.
    """

    motion: Motion
    activity: np.ndarray


@dataclasses.dataclass(frozen=True)
class CentredWindows:
    """Gathers windows in which only the centre frame is scored."""

    windows: WindowSource
    unit = ("frames", 1)  # so that a frame costs a whole window

    def __len__(self) -> int:
        return len(self.windows)

    def gather(self, examples: np.ndarray, passes: np.ndarray | None = None) -> Batch:
        return self.windows.gather(examples, passes)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Holds a window around every frame that counts, and scores its centre.

    Windows replicate the ends of a sequence.

    Attributes:
      source: the windows.
      sequence: name of each window's sequence, W.
      activity: label of each window's centre, 0 if unknown, `[W]`.
      target: true poses of the centres, metres, root-relative, `[W, J, 3]`.
      flip: whether the table shows scores with test-time flip; records have both.
    """

    source: CentredWindows
    sequence: np.ndarray
    activity: np.ndarray
    target: np.ndarray
    flip: bool

    unit = ("frames", 1)
    best_metric = "mpjpe_mm"
    best_is_lowest = True
    breakdown_title = "MPJPE mm by sequence and activity"
    columns = (
        Column("mpjpe_mm", "MPJPE mm", "{:.2f}".format),
        Column("pck", "PCK", "{:.2f}".format),
        Column("auc", "AUC", "{:.2f}".format),
        Column("mean_mpjpe_mm", "mean of sequences: MPJPE mm", "{:.2f}".format),
        Column("mean_pck", "PCK", "{:.2f}".format),
        Column("mean_auc", "AUC", "{:.2f}".format),
    )

    @property
    def test_set(self) -> str:
        """Describes the test set in words."""
        return f"{len(set(self.sequence))} sequences, {len(self.source):,} valid frames"

    @property
    def conditions(self) -> str:
        """Says how the figures in `columns` were obtained."""
        read = self.source.windows.windows.length + sum(self.source.windows.context)
        return (
            "Scores: all valid frames pooled, then the plain mean of the sequences, "
            f"{flipping.words(self.flip)}, centre frame of a window of {read} around each frame, "
            "PCK within 150 mm and AUC over 14 joints."
        )

    def quick(self, count: int) -> tuple[Chosen, Callable[[np.ndarray], dict[str, float]]]:
        """Prepares a light evaluation of the three measures, for use during training.

        Args:
          count: number of frames, evenly spread; 0 for all of them.

        Returns:
          Their windows, and a function that scores predictions `[W, F, J, 3]` in metres.
        """
        chosen = evenly_spread(np.ones(len(self.source), bool), count)

        def score(predicted: np.ndarray) -> dict[str, float]:
            scores = pck_3d.score(self.errors(predicted, chosen))
            return {name: scores[name] for name in MEASURES}

        return Chosen(self.source, chosen), score

    def full(
        self, predictors: Mapping[str, Predict], run: Callable[[Predict], np.ndarray]
    ) -> dict[str, Any]:
        """Runs the whole protocol.

        Args:
          predictors: "plain" and "flip" -> (params, model_state, batch) -> `[B, F, J, 3]` metres.
          run: computes the predictions of such a function on `source`, `[W, F, J, 3]`.

        Returns:
          {"plain" and "flip": {"pooled": PartScores, "mean_of_sequences": {measure: value},
          "sequences" and "activities": {name: PartScores}}}.
        """
        return {name: self.score(run(function)) for name, function in predictors.items()}

    def score(self, predicted: Float[np.ndarray, "W F J 3"]) -> dict[str, Any]:
        """Computes what `full` returns for one predictor."""
        errors = self.errors(predicted, np.arange(len(self.source)))
        parts = {
            name: pck_3d.score(errors[self.sequence == name])
            for name in dict.fromkeys(self.sequence)
        }
        return {
            "pooled": pck_3d.score(errors),
            "mean_of_sequences": {
                measure: float(np.mean([part[measure] for part in parts.values()]))
                for measure in MEASURES
            },
            "sequences": parts,
            "activities": {
                activity_name(label): pck_3d.score(errors[self.activity == label])
                for label in np.unique(self.activity)
                if label
            },
        }

    def errors(
        self, predicted: Float[np.ndarray, "B F J 3"], chosen: Int[np.ndarray, " B"]
    ) -> Float[np.ndarray, "B J"]:
        """Computes the error of every joint in the centre of some windows, mm.

        Raises:
          UserError: a prediction is NaN or infinite.
        """
        centre = predicted[:, predicted.shape[1] // 2]
        bad = np.flatnonzero(~np.isfinite(centre).all(axis=(1, 2)))
        if bad.size:
            raise UserError(
                f"The predicted pose of {bad.size} frames is NaN or infinite, the first in "
                f"{self.sequence[chosen[bad[0]]]}: check the checkpoint."
            )
        return pck_3d.errors_mm(centre, self.target[chosen])

    def extremes(self, prediction: Float[np.ndarray, "W F J 3"], count: int) -> Extremes:
        """Finds the clips with the lowest and the highest error, of frames that count alone."""
        return extremes.of_motion(self._motions(prediction), H36M_17, count)

    def example_scores(self, prediction: Float[np.ndarray, "W F J 3"]) -> ExampleScores:
        """Splits MPJPE in mm into the test sequences."""
        errors = self.errors(prediction, np.arange(len(self.source))).mean(-1)
        once = np.ones(len(errors), int)
        return example_scores.collect(errors, once, self.sequence.tolist())

    def _motions(self, predicted: np.ndarray) -> Iterator[Motion3D]:
        motion, centre = self.source.windows.motion, predicted.shape[1] // 2
        rows = self.source.windows.windows.rows(np.arange(len(self.source)))[:, centre]
        for name in dict.fromkeys(self.sequence):
            windows = np.flatnonzero(self.sequence == name)
            yield Motion3D(
                name=str(name),
                action="",  # a sequence has several
                predicted=predicted[windows, centre],
                target=self.target[windows],
                keypoints_2d=motion.keypoints_2d[rows[windows]],
                counts=np.ones(len(windows), bool),
            )

    def row(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        """Returns the figures for `columns` from a record of `full`."""
        chosen = flipping.shown(record, self.flip)
        pooled = {measure: chosen["pooled"][measure] for measure in MEASURES}
        return pooled | {
            f"mean_{measure}": value for measure, value in chosen["mean_of_sequences"].items()
        }

    def breakdown(self, record: Mapping[str, Any]) -> dict[str, float | None]:
        """Returns MPJPE in mm for each sequence and, if frames are labelled, each activity."""
        chosen = flipping.shown(record, self.flip)
        parts: dict[str, PartScores] = chosen["sequences"] | chosen["activities"]
        return {name: part["mpjpe_mm"] for name, part in parts.items()}


def activity_name(label: int) -> str:
    """Returns a label's name, or its number if it has none."""
    return ACTIVITIES[label - 1] if 1 <= label <= len(ACTIVITIES) else f"activity {label}"


def check_settings(*, flip: bool) -> None:
    """Checks the config's `eval.settings`, before any data are read.

    Raises:
      UserError: a value is not allowed.
    """
    flipping.check(flip)


def read(records: str, split: str) -> LabelledMotion:
    """Reads a split of sequence records to score into memory, and its activities.

    The activities are in the records' metadata.

    Raises:
      UserError: see `sequences.read`; or the activities do not fit the frames.
    """
    motion = sequences.read(records, split)
    metadata = schema.read_metadata(records, schema.SEQUENCES)
    runs = metadata["activities"] if "activities" in metadata else {}
    labels = []
    for name, frames in zip(motion.names, motion.frames, strict=True):
        subject = name.split("/")[0]
        own = np.zeros(frames, int)
        if subject in runs:
            labelled = sum(count for _, count in runs[subject])
            if labelled != frames:
                raise UserError(
                    f"The metadata of '{records}' has activities for {labelled} frames of "
                    f"{subject}, which has {frames}: convert it again into a new folder."
                )
            own = np.repeat(*np.asarray(runs[subject], int).T)
        labels.append(own)
    return LabelledMotion(motion, np.concatenate(labels))


def open_protocol(
    data: LabelledMotion, *, frames: int, context: tuple[int, int], flip: bool
) -> Protocol:
    """Lays a window around every frame that counts.

    Args:
      data: the test data from `read`.
      frames: number F of frames in a window, odd; the network predicts all of them.
      context: number of frames that are read before and after a window.
      flip: whether the table shows scores with test-time flip.

    Raises:
      UserError: windows have no centre, the skeleton is another one, or no frame counts.
    """
    check_settings(flip=flip)
    motion = data.motion
    if frames % 2 == 0:
        raise UserError(
            f"data.frames is {frames} and a window of it has no centre frame, which this protocol "
            f"scores: use an odd number."
        )
    if motion.skeleton.name != H36M_17.name:
        raise UserError(
            f"PCK in 3D needs skeleton {H36M_17.name} and this data set has "
            f"{motion.skeleton.name}: give other records."
        )
    ends = motion.offset + motion.frames
    counted = [
        np.flatnonzero(motion.frame_mask[start:end])
        for start, end in zip(motion.offset, ends, strict=True)
    ]
    rows = np.concatenate([start + own for start, own in zip(motion.offset, counted, strict=True)])
    if not len(rows):
        raise UserError(
            "No frame of the split counts in the evaluation: convert the data set again with valid "
            "frames in it."
        )
    windows = WindowSource(
        motion, windows_of(motion, [own - frames // 2 for own in counted], frames), context
    )
    names = np.repeat([name.split("/")[0] for name in motion.names], [len(own) for own in counted])
    return Protocol(CentredWindows(windows), names, data.activity[rows], motion.pose_3d[rows], flip)
