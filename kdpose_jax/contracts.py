"""The seams of the program on one page: what readers, sources, tasks, methods and protocols are to the rest.

A config names three modules, which `experiment.modules` loads: `data.reader` is a module of
`kdpose_jax.data` with the contract of `Reader`, `eval.protocol` one of `kdpose_jax.evaluate.protocols`
with that of `ProtocolModule`, and `method` a folder of `kdpose_jax.methods` with that of `MethodModule`.
Contract tests discover all three kinds. Every shape is written with the letters B examples, N frames that
are read, F frames that are predicted, J joints, H W image rows and columns.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypedDict, runtime_checkable

import jax
import numpy as np
from ml_collections import ConfigDict

Array = np.ndarray | jax.Array
# Nested dictionaries of arrays: parameters, batch statistics, a teacher's variables.
Tree = Any
# name -> (sum over examples, number of examples): divided once, when they are reported.
Metrics = dict[str, tuple[jax.Array, jax.Array]]


class Batch(TypedDict, total=False):
    """Named arrays of B examples. A method's `reads` decides which of them there are.

    Attributes:
      keypoints_2d: 2D joints of the frames that are read, `[B, N, J, 2]`, screen units (x from -1 to 1).
      pose_3d: 3D joints of the frames that are predicted, `[B, F, J, 3]`, metres, root-relative.
      image: crops, `[B, H, W, 3]` uint8 RGB.
      teacher_image: the same persons in the teacher's larger crops, `[B, H, W, 3]` uint8 RGB.
      joints: 2D joints, `[B, J, 2]`, pixels of `image`.
      joint_weight: `[B, J]`, 0 where a joint is not labelled.
      example: numbers of the examples in their source, `[B]` int32; added by the batches of a run.
      mask: whether an example counts, `[B]`; False where it only fills up an evaluation batch.
    """

    keypoints_2d: Array
    pose_3d: Array
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
      unit: what an example consists of, for rates: a plural noun and how many of it.
    """

    unit: tuple[str, int]

    def __len__(self) -> int: ...

    def gather(self, examples: np.ndarray, passes: np.ndarray | None = None) -> Batch:
        """Arrays of some examples, whose first axis is B.

        Args:
          examples: their numbers, `[B]`.
          passes: the pass over the data that each example is read in, `[B]`, from which random
            augmentation follows; None for no augmentation.
        """
        ...


class Reader(Protocol):
    """A module that reads records into memory and makes training examples of them.

    Attributes:
      KIND: the kind of records that it reads, one of `schema.KINDS`.
    """

    KIND: str

    def read(self, records: str, split: str) -> Any:
        """One split, whole in memory (pictures stay encoded).

        Raises:
          UserError: records that are missing, damaged or of another kind.
        """
        ...

    def open_training(self, data: Any, *, seed: int, **options: Any) -> Source:
        """The training examples.

        Args:
          data: what `read` gave.
          seed: the run's.
          **options: what the method `reads`, and the config's `data.training`.
        """
        ...


class Column(NamedTuple):
    """One column of the table of results.

    Attributes:
      key: where the figure stands in a row.
      header: title of the column.
      form: the figure as text.
    """

    key: str
    header: str
    form: Callable[[Any], str]


# (params, model_state, batch) -> the canonical prediction: lifting `[B, F, J, 3]` metres, root-relative;
# 2D pose {"joints": `[B, J, 2]` pixels of the crop, "scores": `[B, J]`}.
Predict = Callable[[Tree, Tree, Batch], Any]
Figures = dict[str, float | None]


class EvaluationProtocol(Protocol):
    """How a data set is scored: its test examples, and scores of predictions on them.

    Attributes:
      source: the test examples.
      unit: what a prediction consists of, for rates: a plural noun and how many of it.
      columns: the figures of the table; the first is the one that pictures show.
      best_metric: the figure of `quick` that chooses the best checkpoint.
      best_is_lowest: whether less of it is better.
      breakdown_title: headline of the figures of `breakdown`; its last word names a row.
      test_set: what was tested on, in words.
      conditions: how the figures of `columns` were obtained, as a sentence.
    """

    source: Source
    best_metric: str
    best_is_lowest: bool
    breakdown_title: str
    columns: tuple[Column, ...]

    @property
    def unit(self) -> tuple[str, int]: ...

    @property
    def test_set(self) -> str: ...

    @property
    def conditions(self) -> str: ...

    def quick(self, count: int) -> tuple[Source, Callable[[Any], dict[str, float]]]:
        """A light evaluation for use during training: some examples, and what scores predictions on them.

        Args:
          count: evenly spread examples; 0, or more than there are: all of them.
        """
        ...

    def full(self, predictors: Mapping[str, Predict], run: Callable[..., Any]) -> dict[str, Any]:
        """The whole protocol, as a record of plain values.

        Args:
          predictors: "plain" and, with test-time flip, "flip".
          run: (predictor, source) -> predictions on all examples of the source, `self.source` by default.
        """
        ...

    def row(self, record: dict[str, Any]) -> Figures:
        """The figures of `columns` from a record of `full`."""
        ...

    def breakdown(self, record: dict[str, Any]) -> Figures:
        """The first figure of `columns` by action, joint or sequence."""
        ...


class ProtocolModule(Protocol):
    """A module that holds one evaluation protocol."""

    def check_settings(self, **settings: Any) -> None:
        """Checks the config's `eval.settings`, before any data are read.

        Raises:
          UserError: a value that the protocol does not take.
        """
        ...

    def read(self, records: str, split: str) -> Any:
        """The test data, whole in memory."""
        ...

    def open_protocol(self, data: Any, **options: Any) -> EvaluationProtocol:
        """The protocol on these data, for what the method `reads` and with the config's `eval.settings`."""
        ...


@dataclasses.dataclass(frozen=True)
class Task:
    """Pure functions over the variables of one network: `params`, and `state` with its batch statistics ({} without).

    Attributes:
      init: (key, batch) -> (params, state).
      apply: (params, state, batch, key) -> (prediction, features, new state), in training mode.
      loss: (prediction, batch) -> (total `[B]`, the unweighted terms by name, each `[B]`).
      predict: (params, state, batch) -> the canonical prediction, in evaluation mode and float32.
      predict_with_flip: the same, merged with the prediction for the mirrored input.
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
      pattern: regular expression, searched in paths such as `student/head/kernel`; the first match of a list wins.
      learning_rate_factor: multiplies the learning rate.
      weight_decay: replaces the run's weight decay; None keeps it.
      plain_sgd: plain gradient descent in place of AdamW.
    """

    pattern: str
    learning_rate_factor: float = 1.0
    weight_decay: float | None = None
    plain_sgd: bool = False


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A network that teaches.

    Attributes:
      name: where it stands in `frozen`.
      checkpoint: its run, or a file of PyTorch weights.
    """

    name: str
    checkpoint: str


@dataclasses.dataclass(frozen=True)
class Method:
    """A method, built from a config: pure functions over three kinds of variables.

    Attributes:
      init: (key, batch) -> (params, model_state, frozen). `params` is a dictionary with the trained network
        under `student` and the adapters that are trained beside it; `model_state` holds batch statistics;
        `frozen` holds the teachers by name, and is never saved.
      loss: (params, model_state, frozen, batch, key, step) -> (scalar, (metrics, new model_state)). Pure; `step`
        is traced.
      predict: (params, model_state, batch) -> the canonical prediction, by the trained network alone.
      predict_with_flip: the same, merged with the prediction for the mirrored input (test-time flip).
      terms: what `loss` is called with -> the weighted terms whose sum is the loss, by name, each a scalar; None
        where the loss has no terms to tell apart.
      teachers: the networks in `frozen`; each is {"params", "state"}.
      groups: optimiser groups; parameters outside all of them are trained as the config says.
      shared_axes: (pattern of parameter paths, axis) of large parameters that devices share best along that
        axis, where the run has them share parameters at all (`train.fsdp`).
      notes: what a user should be told before the run starts (one sentence each).
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
    groups: tuple[Group, ...] = ()
    shared_axes: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


class MethodModule(Protocol):
    """The module `method` in a method's folder.

    Attributes:
      TASKS: the tasks that it can train, names of modules in `kdpose_jax.tasks`.
      TITLE: what tables call it; empty for a method without a teacher.
    """

    TASKS: Any
    TITLE: str

    def reads(self, config: ConfigDict, stage: str, *, training: bool) -> dict[str, Any]:
        """What a batch must hold, as keyword arguments of `Reader.open_training` or `open_protocol`.

        Args:
          config: the experiment's.
          stage: name of the block that is trained, `teacher` or `student`.
          training: of a training example; otherwise of an evaluated one.
        """
        ...

    def build(self, config: ConfigDict, stage: str) -> Method:
        """The method, from the locked config.

        It reads the blocks `data`, the stage's, `teacher`, `distill.weights` (all zero: the baseline), `eval`
        and `run`.

        Raises:
          UserError: options that do not fit together; names the field.
        """
        ...
