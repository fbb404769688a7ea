"""Finds what exported files are checked on: test records if they are there, else random input."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from kdpose_jax.contracts import EvaluationProtocol, Source
from kdpose_jax.data import schema
from kdpose_jax.evaluate.runner import evenly_spread
from kdpose_jax.experiment import modules, splits
from kdpose_jax.experiment.run import Run, reads
from kdpose_jax.export.formats.signature import Runner
from kdpose_jax.predict.description import LIFTER, Description

COMPARED = 64  # examples whose predictions are compared one by one
CALIBRATING = 100  # training examples whose activations decide the scales of int8
LARGEST_TEST = 5000  # examples that each file predicts for its score
PREDICTED_AT_ONCE = 16
SEED = 0


@dataclasses.dataclass(frozen=True)
class Examples:
    """What exported files are checked on.

    Attributes:
      compared: examples of the test split, `[n, *input_shape]`, or random ones.
      calibrating: examples of the training split, `[n, *input_shape]`, or random ones.
      words: says what `compared` are.
      protocol: scores predictions on the test split, without flip; None without records.
      metadata: the data set's metadata; None without records.
    """

    compared: np.ndarray
    calibrating: np.ndarray
    words: str
    protocol: EvaluationProtocol | None
    metadata: dict[str, Any] | None

    @property
    def whole(self) -> EvaluationProtocol | None:
        """The protocol, if every test example decides a score; else None."""
        if self.protocol is None or len(self.protocol.source) > LARGEST_TEST:
            return None
        return self.protocol

    @property
    def scored(self) -> str:
        """Says which examples decide a score."""
        assert self.protocol is not None
        if self.whole is not None:
            return f"the test split ({self.protocol.test_set})"
        return f"{LARGEST_TEST:,} of {len(self.protocol.source):,} test examples, evenly spread"

    def score(self, compute: Runner, about: Description) -> float | None:
        """Scores a network by the data set's protocol, without flip.

        Args:
          compute: examples `[B, *input_shape]` -> the outputs.
          about: the network's description.

        Returns:
          The protocol's `best_metric`; None without records.
        """
        if self.protocol is None:
            return None
        protocol = self.protocol

        def predict(_: Any, source: Source | None = None) -> Any:
            return predictions(compute, about, protocol.source if source is None else source)

        if self.whole is None:
            source, score = protocol.quick(LARGEST_TEST)
            return float(score(predict(None, source))[protocol.best_metric])
        plain: Callable[..., Any] = compute
        value = protocol.row(protocol.full({"plain": plain}, predict))[protocol.best_metric]
        return None if value is None else float(value)


def predictions(compute: Runner, about: Description, source: Source) -> Any:
    """Predicts on all examples of a source, in their order.

    Returns:
      The canonical prediction: poses `[N, F, J, 3]`, or {"joints", "scores"}.
    """
    collected = []
    for first in range(0, len(source), PREDICTED_AT_ONCE):
        numbers = np.arange(first, min(first + PREDICTED_AT_ONCE, len(source)))
        # One batch size, which is compiled once.
        padded = np.resize(numbers, PREDICTED_AT_ONCE)
        batch: Any = source.gather(padded)
        outputs = compute(np.asarray(batch[about.input_name]))
        collected.append([output[: len(numbers)] for output in outputs])
    whole = [np.concatenate(column) for column in zip(*collected, strict=True)]
    if about.kind == LIFTER:
        return whole[0]
    return dict(zip(about.output_names, whole, strict=True))


def of_records(run: Run, about: Description, records: str) -> Examples:
    """Reads the examples from a data set's records.

    Args:
      run: the network's run.
      about: its description.
      records: folder of the records.

    Raises:
      UserError: they are damaged, or of another kind.
    """
    options, settings = run.config.data, run.config.eval
    reader = modules.reader(options.reader)
    metadata = schema.read_metadata(records, reader.KIND)
    protocol_module = modules.protocol(settings.protocol)
    what = reads(run, training=False)
    # Exported files hold the plain prediction.
    protocol = protocol_module.open_protocol(
        protocol_module.read(records, "test"),
        **what,
        **(settings.settings.to_dict() | {"flip": False}),
    )
    training = reader.open_training(
        reader.read(records, *splits.training_splits(run.config, metadata)),
        seed=run.config.seed,
        **what,
        **options.training.to_dict(),
    )
    compared = _some(protocol.source, about, COMPARED)
    return Examples(
        compared=compared,
        calibrating=_some(training, about, CALIBRATING),
        words=f"{len(compared)} examples of the test split",
        protocol=protocol,
        metadata=json.loads(json.dumps(metadata)),
    )


def _some(source: Source, about: Description, count: int) -> np.ndarray:
    """Gathers examples that are evenly spread over a source."""
    batch: Any = source.gather(evenly_spread(np.ones(len(source), bool), count))
    return np.asarray(batch[about.input_name])


def at_random(about: Description) -> Examples:
    """Makes random examples: persons who move at random, or coarse pictures."""
    generator = np.random.default_rng(SEED)

    def draw(count: int) -> np.ndarray:
        shape = (count, *about.input_shape)
        if about.kind == LIFTER:
            place = generator.uniform(-0.5, 0.5, size=(count, 1, *about.input_shape[1:]))
            steps = generator.normal(0, 0.02, size=shape).cumsum(axis=1)
            return (place + steps).astype(np.float32)
        coarse = generator.integers(0, 256, size=(count, *(-(-n // 8) for n in shape[1:3]), 3))
        pictures = coarse.repeat(8, axis=1).repeat(8, axis=2)
        return pictures[:, : shape[1], : shape[2]].astype(np.uint8)

    return Examples(
        compared=draw(COMPARED),
        calibrating=draw(CALIBRATING),
        words=f"{COMPARED} random examples (seed {SEED}), as no records are at hand",
        protocol=None,
        metadata=None,
    )
