"""The seams of the program on one page, from converters of raw files to evaluation protocols.

A config names three modules, which `experiment.modules` loads:
- `data.reader` is a module of `kdpose_jax.data` that satisfies `Reader`;
- `eval.protocol` is a module of `kdpose_jax.evaluate.protocols` that satisfies `ProtocolModule`;
- `method` is a folder of `kdpose_jax.methods` whose module `method` satisfies `MethodModule`.
Contract tests discover all three kinds, and the converters that `data_prep.convert` names.

Shapes are written with B examples, N frames that are read, F frames that are predicted, J joints,
and H W image rows and columns.
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict, runtime_checkable

import jax
import numpy as np
from ml_collections import ConfigDict

if TYPE_CHECKING:  # at run time this module imports nothing from the package
    from kdpose_jax.data import schema
    from kdpose_jax.evaluate.example_scores import ExampleScores
    from kdpose_jax.evaluate.extremes import Extremes

Array = np.ndarray | jax.Array
# Nested dictionaries of arrays: parameters, batch statistics, a teacher's variables.
Tree = Any
# Name -> (sum over examples, number of examples). The sum is divided when it is reported.
Metrics = dict[str, tuple[jax.Array, jax.Array]]


class Batch(TypedDict, total=False):
    """Named arrays of B examples. A method's `reads` decides which of them a batch has.

    Attributes:
      keypoints_2d: 2D joints in the frames that are read, `[B, N, J, 2]`, screen units (x from -1
        to 1).
      pose_3d: 3D joints in the frames that are predicted, `[B, F, J, 3]`, metres, root-relative.
      teacher_pose_3d: what the teachers predict there, `[B, F, J, 3]`, as `pose_3d`; in training
        alone.
      image: crops, `[B, H, W, 3]` uint8 RGB.
      teacher_image: the teacher's larger crops of the same persons, `[B, H, W, 3]` uint8 RGB.
      joints: 2D joints, `[B, J, 2]`, pixels of `image`.
      joint_weight: `[B, J]`, 0 where a joint is not labelled.
      example: numbers of the examples in their source, `[B]` int32; `data.batches` adds it.
      mask: whether an example counts, `[B]`; False where it only fills up an evaluation batch.
    """

    keypoints_2d: Array
    pose_3d: Array
    teacher_pose_3d: Array
    image: Array
    teacher_image: Array
    joints: Array
    joint_weight: Array
    example: Array
    mask: Array


@runtime_checkable
class Source(Protocol):
    """Examples in host memory, picked by number.

    Attributes:
      unit: what an example consists of, for rates: a plural noun and how many.
    """

    @property
    def unit(self) -> tuple[str, int]: ...

    def __len__(self) -> int: ...

    def gather(self, examples: np.ndarray, passes: np.ndarray | None = None) -> Batch:
        """Returns the arrays of some examples, whose first axis is B.

        Args:
          examples: numbers of the examples, `[B]`.
          passes: number of the pass over the data that each example is read in, `[B]`, which seeds
            its augmentation; None for no augmentation.
        """
        ...


class Reader(Protocol):
    """A module that reads records into memory and makes training examples from them.

    Attributes:
      KIND: the kind of records that it reads, one of `schema.KINDS`.
    """

    KIND: "schema.Kind"

    def read(self, records: str, *splits: str) -> Any:
        """Reads a whole split into memory, or several as one; pictures stay encoded.

        Raises:
          UserError: records are missing, damaged or of another kind.
        """
        ...

    def open_training(self, data: Any, *, seed: int, **options: Any) -> Source:
        """Opens the training examples.

        Args:
          data: the result of `read`.
          seed: the run's seed.
          **options: the result of the method's `reads`, and the config's `data.training`.
        """
        ...


class Converter(Protocol):
    """A module that makes records of one data set; the command line calls it by its name.

    Attributes:
      HELP: what it converts, for the list of commands.
      convert: (out, workers, the command's options by name) -> the summary of what was written.
    """

    HELP: str
    convert: Callable[..., Any]

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Adds the command's options but `--out` and `--workers`.

        A converter that reads raw files has `--source`.
        """
        ...

    def expected_files(self, settings: Mapping[str, Any]) -> str:
        """Names the raw files that a conversion with these settings reads, in words."""
        ...


class Converters(Protocol):
    """The module that makes records of raw files, `data_prep.convert`.

    The library does not import it. An entry point hands it over.

    Attributes:
      CONVERTERS: name -> module.
    """

    CONVERTERS: Mapping[str, Converter]

    def needs_source(self, name: str) -> bool:
        """Tells whether a converter reads raw files; others generate their data."""
        ...

    def expected_files(self, name: str, settings: Mapping[str, Any]) -> str:
        """Names the files that a converter reads, in words."""
        ...

    def options(self, name: str) -> dict[str, Any]:
        """Returns a converter's options: as the user writes one -> its argparse action."""
        ...

    def check(self, name: str, settings: Mapping[str, Any]) -> None:
        """Checks the settings and the folder of raw files before any work.

        Raises:
          UserError: one of them cannot be used.
        """
        ...

    def prepare(self, name: str, out: str, show: Callable[[str], None], **settings: Any) -> None:
        """Converts into a folder, or finds it converted there already.

        Raises:
          UserError: the conversion failed.
        """
        ...


class Column(NamedTuple):
    """One column of the table of results.

    Attributes:
      key: the figure's key in a row.
      header: title of the column.
      form: turns the figure into text.
    """

    key: str
    header: str
    form: Callable[[Any], str]


# (params, model_state, batch) -> the canonical prediction. Lifting: `[B, F, J, 3]`, metres,
# root-relative. 2D pose: {"joints": `[B, J, 2]` pixels of the crop, "scores": `[B, J]`}.
Predict = Callable[[Tree, Tree, Batch], Any]
Figures = dict[str, float | None]
# The keys of rates in a network's cost, without the number of examples per call.
RATE = "outputs_per_second_batch"


class EvaluationProtocol(Protocol):
    """How a data set is scored: examples of a split, and the scores of predictions on them.

    It is opened on the test split, and on the validation split to choose checkpoints by `quick`.

    Attributes:
      source: the split's examples.
      unit: what a prediction consists of, for rates: a plural noun and how many.
      columns: the columns of the table; pictures show the first one.
      best_metric: the score of `quick` that decides which checkpoint is the best.
      best_is_lowest: whether a lower score is better.
      breakdown_title: headline for `breakdown`; its last word says what a row is.
      test_set: describes the split in words.
      conditions: how the figures in `columns` were obtained, as a sentence.
      flip: whether the table shows scores with test-time flip.
    """

    best_metric: str
    best_is_lowest: bool

    @property
    def flip(self) -> bool: ...

    @property
    def source(self) -> Source: ...

    @property
    def columns(self) -> tuple[Column, ...]: ...

    @property
    def breakdown_title(self) -> str: ...

    @property
    def unit(self) -> tuple[str, int]: ...

    @property
    def test_set(self) -> str: ...

    @property
    def conditions(self) -> str: ...

    def quick(self, count: int) -> tuple[Source, Callable[[Any], dict[str, float]]]:
        """Prepares a light evaluation for use during training.

        Args:
          count: number of examples, evenly spread over the split; 0 for all of them.

        Returns:
          The examples, and a function that scores predictions on them.
        """
        ...

    def full(self, predictors: Mapping[str, Predict], run: Callable[..., Any]) -> dict[str, Any]:
        """Runs the whole protocol and returns a record of plain values.

        Args:
          predictors: "plain" and, with test-time flip, "flip".
          run: (predictor, source) -> the predictions on all examples of the source; the source is
            `self.source` by default.
        """
        ...

    def extremes(self, prediction: Any, count: int) -> "Extremes":
        """Finds the test examples that a network does best and worst.

        Args:
          prediction: the predictions on all examples of `source`.
          count: how many of each.
        """
        ...

    def example_scores(self, prediction: Any) -> "ExampleScores | None":
        """Splits the first figure of the table into what each test example adds to it.

        Args:
          prediction: the predictions on all examples of `source`.

        Returns:
          The parts; None for a figure that is not a mean over examples, such as AP.
        """
        ...

    def row(self, record: dict[str, Any]) -> Figures:
        """Returns the figures for `columns` from a record of `full`."""
        ...

    def breakdown(self, record: dict[str, Any]) -> Figures:
        """Returns the figure of the first column for each action, joint or sequence."""
        ...


class ProtocolModule(Protocol):
    """A module that holds one evaluation protocol."""

    def check_settings(self, **settings: Any) -> None:
        """Checks the config's `eval.settings`, before any data are read.

        Raises:
          UserError: a value is not allowed.
        """
        ...

    def read(self, records: str, split: str) -> Any:
        """Reads a split to score into memory, `test` or `val`.

        The validation split only serves `quick`. It may lack what scores need that are published.
        """
        ...

    def open_protocol(self, data: Any, **options: Any) -> EvaluationProtocol:
        """Opens the protocol on these data.

        Args:
          data: the result of `read`.
          **options: the result of the method's `reads`, and the config's `eval.settings`.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Task:
    """Pure functions over the variables of one network.

    The variables are `params`, and `state` with the batch statistics, {} if there are none.

    Attributes:
      init: (key, batch) -> (params, state).
      apply: (params, state, batch, key) -> (prediction, features, new state), in training mode.
      loss: (prediction, batch) -> (total `[B]`, the unweighted terms `[B]` by name).
      predict: (params, state, batch) -> the canonical prediction, in evaluation mode and float32.
      predict_with_flip: as `predict`, merged with the prediction for the mirrored input.
    """

    init: Callable[[jax.Array, Batch], tuple[Tree, Tree]]
    apply: Callable[[Tree, Tree, Batch, jax.Array], tuple[Any, Any, Tree]]
    loss: Callable[[Any, Batch], tuple[jax.Array, dict[str, jax.Array]]]
    predict: Predict
    predict_with_flip: Predict


@dataclasses.dataclass(frozen=True)
class Group:
    """An optimiser group: the parameters whose path matches a pattern.

    Attributes:
      pattern: regular expression, searched for in paths such as `student/head/kernel`. A parameter
        belongs to the first group in a list that matches.
      learning_rate_factor: multiplies the learning rate.
      weight_decay: replaces the run's weight decay; None keeps it.
      plain_sgd: True uses plain gradient descent instead of AdamW.
    """

    pattern: str
    learning_rate_factor: float = 1.0
    weight_decay: float | None = None
    plain_sgd: bool = False


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A network that teaches.

    Attributes:
      name: its key in `frozen`.
      checkpoint: the folder of its run, or a file of PyTorch weights.
    """

    name: str
    checkpoint: str


@dataclasses.dataclass(frozen=True)
class Method:
    """A method, built from a config: pure functions over three kinds of variables.

    Attributes:
      init: (key, batch) -> (params, model_state, frozen). `params` has the trained network under
        `student`, and the adapters that are trained beside it. `model_state` has batch statistics.
        `frozen` has the teachers by name, and is never saved.
      loss: (params, model_state, frozen, batch, key, step) -> (scalar, (metrics, new model_state)).
        `step` is traced.
      predict: (params, model_state, batch) -> the canonical prediction of the trained network.
      predict_with_flip: as `predict`, merged with the prediction for the mirrored input.
      terms: takes the arguments of `loss`, and returns the weighted terms by name: scalars whose
        sum is the loss. None if the loss has a single term.
      teachers: the networks in `frozen`; each is {"params", "state"}.
      reads_teacher_poses: whether training batches must have `teacher_pose_3d`.
      groups: optimiser groups; the config's settings apply to all other parameters.
      shared_axes: (pattern of parameter paths, axis) for large parameters that devices share best
        along that axis. It is used if the run shares parameters (`train.fsdp`).
      notes: sentences that are printed before the run starts.
    """

    init: Callable[[jax.Array, Batch], tuple[Tree, Tree, Tree]]
    loss: Callable[
        [Tree, Tree, Tree, Batch, jax.Array, jax.Array], tuple[jax.Array, tuple[Metrics, Tree]]
    ]
    predict: Predict
    predict_with_flip: Predict
    terms: (
        Callable[[Tree, Tree, Tree, Batch, jax.Array, jax.Array], dict[str, jax.Array]] | None
    ) = None
    teachers: tuple[Teacher, ...] = ()
    reads_teacher_poses: bool = False
    groups: tuple[Group, ...] = ()
    shared_axes: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


class MethodModule(Protocol):
    """The module `method` in a method's folder.

    Attributes:
      TASKS: the tasks that it can train, as names of modules in `kdpose_jax.tasks`.
      TITLE: its title in tables; empty for a method without a teacher.
    """

    TASKS: Any
    TITLE: str

    def reads(self, config: ConfigDict, stage: str, *, training: bool) -> dict[str, Any]:
        """Says what a batch must hold.

        Args:
          config: the experiment's config.
          stage: name of the block that is trained, `teacher` or `student`.
          training: True for a training example, False for an example to evaluate.

        Returns:
          Keyword arguments of `Reader.open_training` or `ProtocolModule.open_protocol`.
        """
        ...

    def build(self, config: ConfigDict, stage: str) -> Method:
        """Builds the method from the locked config.

        It may read the blocks `data`, `eval` and `run`, the stage's block, `teacher` and `distill`.
        If all of `distill.weights` are zero, the method is the baseline.

        Raises:
          UserError: options do not fit together; the message names the field.
        """
        ...
