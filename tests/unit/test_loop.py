"""A run that is told to stop after any step, or during any evaluation, ends up as if nobody had
disturbed it.
"""

import functools
import json
import signal
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from networks import abstract

from kdpose_jax.checkpoint.loading import best_checkpoint
from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.data.batches import TrainBatches
from kdpose_jax.experiment.training import newest_of
from kdpose_jax.train import loop, preemption
from kdpose_jax.train.logs import Lines, MetricsLog, Progress
from kdpose_jax.train.state import TrainState

# Lines, checkpoints and evaluations fall together at some steps and not at others.
PLAN = loop.Plan(steps=9, steps_per_epoch=3.5, log_every=3, save_every=5, evaluate_every=4)
MESH = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
EVERYWHERE, OVER_BATCH = (
    NamedSharding(MESH, PartitionSpec()),
    NamedSharding(MESH, PartitionSpec("data")),
)


@pytest.mark.parametrize(
    ("step", "every", "last", "expected"),
    [
        (1, 5, 20, False),
        (5, 5, 20, True),
        (10, 5, 20, True),
        (7, 5, 7, True),
        (7, 0, 20, False),
        (20, 0, 20, True),
        (3, 1, 9, True),
    ],
)
def test_due(step, every, last, expected):
    plan = loop.Plan(steps=last, steps_per_epoch=1.0, log_every=0, save_every=0, evaluate_every=0)
    assert plan.is_due(step, every) is expected


class Ended(BaseException):
    """Stands for the end of the process."""


class Numbers:
    """Seven examples, each a number that no float sums exactly."""

    unit = ("numbers", 1)

    def __len__(self):
        return 7

    def gather(self, examples, passes=None):
        return {"x": (0.1 * examples + passes).astype(np.float32)}


class StopAt(preemption.Stop):
    """Told to stop when it is asked for the n-th time."""

    def __init__(self, question=None):
        super().__init__()
        self._left = question

    def requested(self):
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.receive(signal.SIGTERM)
        return self._number is not None


@jax.jit
def step_function(state, frozen, batch, root_key):
    noise = jax.random.uniform(jax.random.fold_in(root_key, state.step))
    w = state.params["w"] * jnp.float32(0.9) + batch["x"].mean() * noise
    ema = {"w": jnp.float32(0.7) * state.ema["w"] + jnp.float32(0.3) * w}
    metrics = {"loss": (batch["x"].sum() * w, jnp.float32(2.0))}
    return TrainState(
        state.step + 1, {"w": w}, {}, {"count": state.opt_state["count"] + 1}, ema
    ), metrics


def progress(first):
    return Progress(
        "student",
        first_step=first,
        steps=PLAN.steps,
        steps_per_epoch=PLAN.steps_per_epoch,
        unit=("numbers", 2),
        shown=("loss",),
        show=lambda line: None,
    )


def train(directory, stop, evaluate):
    """One process's life: what `experiment.training.train_run` does around the loop."""
    options = {"keep_best": 1, "best_metric": "error", "best_is_lowest": True, "asynchronous": True}
    checkpoints = Checkpoints(directory / "checkpoints", keep_latest=2, **options)
    interrupted = Checkpoints(directory / "interrupted", keep_latest=1, **options)
    zero = jax.device_put(np.float32(0), EVERYWHERE)
    count = jax.device_put(np.int32(0), EVERYWHERE)
    state, interval = TrainState(count, {"w": zero}, {}, {"count": count}, {"w": zero}), []
    with closing(checkpoints), closing(interrupted):
        newest = newest_of(checkpoints, interrupted)
        if newest is not None:
            restored, meta = newest.restore(vars(abstract(state)))
            state, interval = TrainState(**restored), loop.interval_of(meta)
        first = int(state.step)
        log = MetricsLog(str(directory), first_step=first - 1 if interval else first, writes=True)
        examples = Lines(directory / "examples.jsonl", first_step=first, writes=True)
        batches = TrainBatches(
            Numbers(), seed=1, batch=2, first_step=first, sharding=OVER_BATCH, patience=60.0
        )
        try:
            return loop.Training(
                state,
                interval,
                computation=loop.Computation(
                    step_function,
                    frozen={},
                    root_key=jax.device_put(jax.random.key(3), EVERYWHERE),
                    learning_rate=lambda step: 0.1 * step,
                    evaluate=functools.partial(evaluate, stop),
                    evaluated_on="val",
                ),
                batches=batches,
                plan=PLAN,
                storage=loop.Storage(checkpoints, interrupted, {"method": "toy"}, log, examples),
                progress=progress(first),
                stop=stop,
            ).run()
        finally:
            batches.close()
            log.close()
            examples.close()


def score(stop, state):
    return {"error": abs(float(state.ema["w"]) - 0.6)}


def trace(directory):
    """All that a run leaves, timings left out."""
    steps = {}
    for path in (directory / "checkpoints").iterdir():
        scores = path / "metrics" / "metrics"
        steps[int(path.name)] = json.loads(scores.read_text()) if scores.exists() else None
    best = int(best_checkpoint(directory).name)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    lines = [
        {name: value for name, value in line.items() if "second" not in name} for line in lines
    ]
    return steps, best, lines, (directory / "examples.jsonl").read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    return train(directory, StopAt(), score), trace(directory)


def assert_same(directory, state, undisturbed):
    expected, (steps, best, lines, examples) = undisturbed
    assert jax.tree.map(float, vars(state)) == jax.tree.map(float, vars(expected))
    found = trace(directory)
    assert found[0] == steps and found[1] == best
    assert found[2] == lines and found[3] == examples


def test_undisturbed_run_has_no_gap(undisturbed):
    """The oracle itself: every step's examples once, in the order of the epochs' shuffles."""
    _, (steps, best, lines, examples) = undisturbed
    assert (
        set(steps) == {4, 8, 9} and best == 4
    )  # the two latest, and the best, which has the smallest of the three errors
    assert [line["step"] for line in lines if "loss" in line] == [3, 4, 5, 6, 8, 9]
    assert [line["step"] for line in lines if "val_error" in line] == [4, 8, 9]
    read = [json.loads(line) for line in examples.splitlines()]
    assert [line["step"] for line in read] == list(range(1, 10))
    numbers = [number for line in read for number in line["examples"]]
    assert sorted(numbers[:7]) == sorted(numbers[7:14]) == list(range(7))


@pytest.mark.parametrize(
    "question", [3, 4, 5, 7, 9]
)  # a line, an evaluation, a checkpoint, nothing, all of them at the end
def test_stopped_after_any_step(tmp_path, undisturbed, question):
    with pytest.raises(preemption.Stopped):
        train(tmp_path, StopAt(question), score)
    assert (tmp_path / "interrupted" / str(question)).exists()
    assert_same(tmp_path, train(tmp_path, StopAt(), score), undisturbed)


def test_stopped_after_every_step(tmp_path, undisturbed):
    for step in range(1, PLAN.steps + 1):
        with pytest.raises(preemption.Stopped):
            train(
                tmp_path, StopAt(1 if step == 1 else 2), score
            )  # a run that goes on is asked before its first step, too
    assert_same(tmp_path, train(tmp_path, StopAt(), score), undisturbed)


@pytest.mark.parametrize("evaluation", [1, 3])
def test_stopped_during_any_evaluation(tmp_path, undisturbed, monkeypatch, evaluation):
    evaluations = []

    def leave(line, code):
        raise Ended(code)

    def interrupted_score(stop, state):
        evaluations.append(int(state.step))
        if len(evaluations) == evaluation:
            stop.receive(signal.SIGTERM)  # saves, as the thread that watches for signals does
        return score(stop, state)

    monkeypatch.setattr(preemption, "leave", leave)
    with pytest.raises(Ended, match="75"):
        train(tmp_path, StopAt(), interrupted_score)
    assert (tmp_path / "interrupted" / str([4, 8, 9][evaluation - 1])).exists()
    monkeypatch.undo()
    assert_same(tmp_path, train(tmp_path, StopAt(), score), undisturbed)
