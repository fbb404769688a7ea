"""Scores Human3.6M and similar sets: windows over sequences, scores per action."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from kdpose_jax.codecs.keyframes import KeyframeGrid
from kdpose_jax.contracts import Column, Predict
from kdpose_jax.data import sequences
from kdpose_jax.data.sequences import Motion, WindowSource, open_whole
from kdpose_jax.data.windows import evaluation_counts, evaluation_starts
from kdpose_jax.errors import UserError, require
from kdpose_jax.evaluate import example_scores, extremes, flipping
from kdpose_jax.evaluate.example_scores import ExampleScores
from kdpose_jax.evaluate.extremes import Extremes, Motion3D
from kdpose_jax.evaluate.metrics.poses_3d import (
    Scores,
    SequencePoses,
    mpjpe_per_frame,
    score_sequences,
)
from kdpose_jax.evaluate.runner import Chosen, evenly_spread

WINDOWS = ("compat", "exact")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Holds a split's windows, and scores predictions on them.

    Attributes:
      source: windows end to end over every sequence (`windows.evaluation_starts`).
      first: number of the first window of each sequence, and the number of windows, `[S + 1]`.
      windows: which frames count in the table, one of `WINDOWS`; records have both.
      flip: whether the table shows scores with test-time flip; records have both.
      keyframes: frames of each window that are also scored alone; None for none.
    """

    source: WindowSource
    first: np.ndarray
    windows: str
    flip: bool
    keyframes: KeyframeGrid | None

    best_metric = "mpjpe_mm"
    best_is_lowest = True
    breakdown_title = "MPJPE mm by action"
    columns = (
        Column("mpjpe_mm", "MPJPE mm", "{:.2f}".format),
        Column("p_mpjpe_mm", "P-MPJPE mm", "{:.2f}".format),
        Column("mpjve_mm", "MPJVE mm", "{:.2f}".format),
        Column("keyframe_mpjpe_mm", "keyframes only, MPJPE mm", "{:.2f}".format),
    )

    @property
    def unit(self) -> tuple[str, int]:
        """Names the unit of costs: a prediction is a window of F frames."""
        return "frames", self.source.windows.length

    @property
    def test_set(self) -> str:
        """Describes the split in words."""
        return f"{len(self.motion.frames):,} sequences, {len(self.motion.frame_mask):,} frames"

    @property
    def motion(self) -> Motion:
        """Returns the sequences."""
        return self.source.motion

    def quick(self, count: int) -> tuple[Chosen, Callable[[np.ndarray], dict[str, float]]]:
        """Prepares a light evaluation for use during training.

        Args:
          count: number of windows, evenly spread over the split; 0 for all of them.

        Returns:
          The windows, and a function that computes MPJPE and MPJVE in mm over their frames from
          predictions `[W, F, J, 3]` in metres.
        """
        source = Chosen(self.source, evenly_spread(np.ones(len(self.source), bool), count))
        target = source.gather(np.arange(len(source)))["pose_3d"]
        everything = np.ones(self.source.windows.length, bool)

        def score(predicted: np.ndarray) -> dict[str, float]:
            poses = (
                SequencePoses("all", *pair, everything)
                for pair in zip(predicted, target, strict=True)
            )
            means = score_sequences(poses, metrics=("mpjpe", "mpjve"))["mean_over_frames"]
            return {name: float(value) for name, value in means.items() if value is not None}

        return source, score

    def full(
        self, predictors: Mapping[str, Predict], run: Callable[[Predict], np.ndarray]
    ) -> dict[str, Any]:
        """Runs the whole protocol: with and without flip, both counts of windows, keyframes alone.

        Args:
          predictors: "plain" and "flip" -> (params, model_state, batch) -> `[B, F, J, 3]`, metres.
          run: computes the predictions of such a function on `source`, `[W, F, J, 3]`.

        Returns:
          {"flip" and "plain": {"compat", "exact" and "keyframes": Scores}}.
        """
        record = {}
        for name, function in predictors.items():
            predicted = run(function)
            record[name] = {windows: self.score(predicted, windows) for windows in WINDOWS}
            if self.keyframes is not None:
                record[name]["keyframes"] = self.score_keyframes(predicted)
        return record

    @property
    def conditions(self) -> str:
        """Says how the figures in `columns` were obtained."""
        counted = {
            "compat": "as MixSTE counts windows (compat)",
            "exact": "every frame counted once (exact)",
        }
        return (
            f"Scores: unweighted means over actions, {flipping.words(self.flip)}, "
            f"{counted[self.windows]}, in float32."
        )

    def extremes(self, prediction: np.ndarray, count: int) -> Extremes:
        """Finds the clips with the lowest and the highest MPJPE, each real frame counted once."""
        return extremes.of_motion(self._motions(prediction), self.motion.skeleton, count)

    def example_scores(self, prediction: np.ndarray) -> ExampleScores:
        """Splits MPJPE in mm into takes, whose cameras show the same motion."""
        sums, counts = [], []
        for sequence in self._sequences(prediction, self.windows):
            errors = mpjpe_per_frame(sequence.predicted, sequence.target)
            sums.append(1000 * errors[sequence.frame_mask].sum())
            counts.append(sequence.frame_mask.sum())
        takes = [extremes.take_of(name) for name in self.motion.names]
        return example_scores.collect(
            np.array(sums), np.array(counts), takes, groups=self.motion.actions
        )

    def _motions(self, predicted: np.ndarray) -> Iterator[Motion3D]:
        length = predicted.shape[1]
        for sequence, windows in self._blocks():
            once = evaluation_counts(int(self.motion.frames[sequence]), length, "exact")
            rows = self.source.windows.rows(windows)[once]
            yield Motion3D(
                name=self.motion.names[sequence],
                action=self.motion.actions[sequence],
                predicted=predicted[windows][once],
                target=self.motion.pose_3d[rows],
                keypoints_2d=self.motion.keypoints_2d[rows],
                counts=self.motion.frame_mask[rows],
            )

    def row(self, record: dict[str, Any]) -> dict[str, float | None]:
        """Returns the figures for `columns` from a record of `full`, averaged over actions."""
        shown = flipping.shown(record, self.flip)
        row = dict(shown[self.windows]["mean_over_actions"])
        row["keyframe_mpjpe_mm"] = None
        if "keyframes" in shown:
            row["keyframe_mpjpe_mm"] = shown["keyframes"]["mean_over_actions"]["mpjpe_mm"]
        return row

    def breakdown(self, record: dict[str, Any]) -> dict[str, float | None]:
        """Returns MPJPE in mm for each action, as in `row`."""
        scores = flipping.shown(record, self.flip)[self.windows]["per_action"]
        return {action: values["mpjpe_mm"] for action, values in scores.items()}

    def score(self, predicted: np.ndarray, windows: str) -> Scores:
        """Computes all metrics, per action and averaged.

        Args:
          predicted: `[W, F, J, 3]`, metres, root-relative.
          windows: `compat` counts every frame of every window, as MixSTE does; `exact` counts every
            real frame once.
        """
        return score_sequences(self._sequences(predicted, windows))

    def score_keyframes(self, predicted: np.ndarray) -> Scores:
        """Computes the pose metrics on the keyframes alone, each real frame at most once."""
        assert self.keyframes is not None, "the protocol scores no keyframes"
        is_keyframe = self.keyframes.mask

        def masked() -> Iterator[SequencePoses]:
            for sequence, windows in self._blocks():
                length = int(self.motion.frames[sequence])
                counts = evaluation_counts(length, len(is_keyframe), "exact") & is_keyframe
                yield self._poses(sequence, predicted[windows], windows, counts)

        return score_sequences(masked(), metrics=("mpjpe", "p_mpjpe"))

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields each sequence with the numbers of its windows."""
        for sequence in range(len(self.motion.frames)):
            yield sequence, np.arange(self.first[sequence], self.first[sequence + 1])

    def _sequences(self, predicted: np.ndarray, mode: str) -> Iterator[SequencePoses]:
        for sequence, windows in self._blocks():
            counts = evaluation_counts(int(self.motion.frames[sequence]), predicted.shape[1], mode)
            scored = self._poses(sequence, predicted[windows], windows, counts)
            if mode == "exact":  # without the frames between, which would give false velocities
                once = counts.reshape(-1)
                scored = SequencePoses(
                    scored.action,
                    scored.predicted[once],
                    scored.target[once],
                    scored.frame_mask[once],
                )
            yield scored

    def _poses(
        self, sequence: int, predicted: np.ndarray, windows: np.ndarray, counts: np.ndarray
    ) -> SequencePoses:
        rows = self.source.windows.rows(windows)
        joints = predicted.shape[2:]
        return SequencePoses(
            action=self.motion.actions[sequence],
            predicted=predicted.reshape(-1, *joints),
            target=self.motion.pose_3d[rows].reshape(-1, *joints),
            frame_mask=(counts & self.motion.frame_mask[rows]).reshape(-1),
        )


def check_settings(*, windows: str, flip: bool, keyframe_stride: int, keyframe_offset: int) -> None:
    """Checks the config's `eval.settings`, before any data are read.

    Raises:
      UserError: a value is not allowed.
    """
    require("eval.settings.windows", windows, WINDOWS)
    flipping.check(flip)
    if keyframe_stride < 1 or not -1 <= keyframe_offset < keyframe_stride:
        raise UserError(
            f"eval.settings.keyframe_stride is {keyframe_stride} and keyframe_offset "
            f"{keyframe_offset}: use a stride of at least 1, and an offset below it or -1 for the "
            "centre."
        )


def read(records: str, split: str) -> Motion:
    """Reads a split of sequence records to score into memory."""
    return sequences.read(records, split)


def open_protocol(
    motion: Motion,
    *,
    frames: int,
    context: tuple[int, int],
    windows: str,
    flip: bool,
    keyframe_stride: int,
    keyframe_offset: int,
) -> Protocol:
    """Lays evaluation windows over a split.

    A network that predicts one frame from many has windows of one frame, with their context.

    Args:
      motion: the split from `read`.
      frames: number F of frames that a window predicts.
      context: number of frames that are read before and after a window.
      windows: which frames count in the table; see `Protocol`.
      flip: whether the table shows scores with test-time flip.
      keyframe_stride: r, one keyframe in r frames; 1 for no scores of keyframes alone. A window
        of one frame has none.
      keyframe_offset: o, the first keyframe; -1 for the centred grid.

    Raises:
      UserError: a setting is not allowed, or a window is too short for these keyframes.
    """
    check_settings(
        windows=windows, flip=flip, keyframe_stride=keyframe_stride, keyframe_offset=keyframe_offset
    )
    counts = [len(evaluation_starts(int(count), frames)) for count in motion.frames]
    first = np.concatenate([[0], np.cumsum(counts)])
    source = open_whole(motion, frames=frames, context=context)
    keyframes = None
    if keyframe_stride > 1 and frames > 1:
        if keyframe_stride > frames:
            raise UserError(
                f"eval.settings.keyframe_stride is {keyframe_stride}, and {frames} frames are "
                f"predicted at once: use 1 to {frames}."
            )
        keyframes = KeyframeGrid.from_options(frames, keyframe_stride, keyframe_offset)
    return Protocol(source, first, windows, flip, keyframes)
