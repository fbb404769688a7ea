"""The one training loop. It knows steps, batches and metrics, and nothing of what is trained."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.data.batches import TrainBatches
from kdpose_jax.errors import UserError
from kdpose_jax.methods.api import Batch
from kdpose_jax.train import sharding
from kdpose_jax.train.periodic import Lines, MetricsLog, Progress, due, mean_metrics
from kdpose_jax.train.preemption import Stop
from kdpose_jax.train.state import TrainState
from kdpose_jax.train.step import TrainStep

# A step and its metrics, each a sum and a count.
Measured = tuple[int, dict[str, tuple[Any, Any]]]
INTERVAL = "interval"  # their key in what is saved beside a state
IN_FLIGHT = 2  # steps handed to the devices beyond the one that the host waits for


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long to train and what to do on the way, all in steps (0: only at the end).

    Attributes:
      steps: steps in all.
      steps_per_epoch: examples over batch size.
      log_every: steps between two lines.
      save_every: steps between two checkpoints.
      evaluate_every: steps between two evaluations; each is saved with its scores.
    """

    steps: int
    steps_per_epoch: float
    log_every: int
    save_every: int
    evaluate_every: int


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where a run is written while it is trained.

    Attributes:
      checkpoints: of the steps where the plan saves.
      interrupted: of the step at which the run was told to stop, wherever that was.
      meta: saved with both.
      log: metrics.
      examples: numbers of the examples of every step; None where they are not logged.
    """

    checkpoints: Checkpoints
    interrupted: Checkpoints
    meta: Mapping[str, Any]
    log: MetricsLog
    examples: Lines | None

    def sync(self) -> None:
        """Before a checkpoint is saved: a run that goes on from it needs the lines until then."""
        self.log.sync()
        if self.examples is not None:
            self.examples.sync()


def train(
    name: str,
    *,
    state: TrainState,
    interval: list[Measured],
    step_function: TrainStep,
    frozen: Any,
    batches: TrainBatches,
    root_key: jax.Array,
    plan: Plan,
    learning_rate: Callable[[Any], Any],
    evaluate: Callable[[TrainState], Mapping[str, float]],
    shown: tuple[str, ...],
    storage: Storage,
    stop: Stop,
    unit: tuple[str, int],
    show: Callable[[str], None],
) -> TrainState:
    """Trains from the step that `state` is at to the end of the plan.

    Args:
      name: of the run, in its progress lines.
      state: where it stands; donated.
      interval: metrics of the steps since the last line, where the run was interrupted before the next; else empty.
      step_function: of `step.build_step`.
      frozen: the teachers.
      batches: from the state's step on.
      root_key: of the run.
      plan: what happens when.
      learning_rate: of a step, for the log.
      evaluate: state -> scores by name.
      shown: metrics in the progress line; the log has all.
      storage: where all of it is written.
      stop: asked after every step, at the same steps by all processes.
      unit: what the rate counts and how many of it a step has.
      show: prints one line.

    Returns:
      The state after the last step.

    Raises:
      UserError: the loss is not finite; the last checkpoint before it is kept.
      Stopped: the run was told to stop, and its state is saved.
    """
    step = int(state.step)
    progress = Progress(
        name, first_step=step, steps=plan.steps, steps_per_epoch=plan.steps_per_epoch, unit=unit, show=show
    )
    pending: list[tuple[int, Any]] = []
    waited, compiled, settled = 0.0, False, not interval  # settled: what is due after the last step has been done
    while step < plan.steps or not settled:
        if settled:
            batch: Batch = next(batches)
            waited += batches.waited
            started = time.perf_counter()
            state, metrics = step_function(state, frozen, batch, root_key)
            step, settled = step + 1, False
            pending.append((step, metrics))
            if len(pending) > IN_FLIGHT:  # a request to stop must not wait for a queue of steps
                jax.block_until_ready(pending[-1 - IN_FLIGHT][1])
            if storage.examples is not None:
                storage.examples.write(step, {"examples": sharding.whole(batch["example"]).tolist()})
            if not compiled:
                stop.defer()  # until here nothing was in memory that is not on the disk
                jax.block_until_ready(metrics)
                show(f"{name}  compiled and took the first step in {time.perf_counter() - started:.1f} s")
                progress.restart_clock(step)
                compiled, waited = True, 0.0
        evaluates, saves = due(step, plan.evaluate_every, plan.steps), due(step, plan.save_every, plan.steps)
        logs = due(step, plan.log_every, plan.steps) or evaluates or saves
        stopping = stop.requested()
        if logs or stopping:
            interval = interval + _read(name, pending, storage.checkpoints)
            pending = []
        if stopping:
            _save_interrupted(step, state, interval, storage)
            raise stop.exception()
        if logs:
            means = mean_metrics([metrics for _, metrics in interval])
            rates = progress.line(step, {key: means[key] for key in shown if key in means}, waited)
            place = {"learning_rate": float(learning_rate(step - 1)), "epoch": step / plan.steps_per_epoch}
            storage.log.write(step, {**means, **rates, **place})
            waited = 0.0
        scores = None
        if evaluates:
            if compiled and jax.process_count() == 1:  # several save together, which a thread of one of them cannot begin
                stop.at_once(functools.partial(_save_interrupted, step, state, interval, storage))
            scores = dict(evaluate(state))
            stop.defer()
            storage.log.write(step, {f"test_{key}": value for key, value in scores.items()})
            show(f"{name}  step {step}  test " + "  ".join(f"{key} {value:.2f}" for key, value in scores.items()))
        if evaluates or saves:
            storage.sync()
            storage.checkpoints.save(step, vars(state), storage.meta | {INTERVAL: []}, scores)
            progress.restart_clock(step)
        if logs:
            interval = []
        settled = True
        if not compiled:
            stop.at_once(storage.checkpoints.wait)
    storage.checkpoints.wait()
    stop.at_once()
    return state


def _save_interrupted(step: int, state: TrainState, interval: list[Measured], storage: Storage) -> None:
    """Saves a step at which the plan has no checkpoint, or before what is due after it has been done."""
    storage.checkpoints.wait()  # a best checkpoint that is still being written belongs to the run as well
    measured = [[step, {name: [float(value) for value in pair] for name, pair in metrics.items()}] for step, metrics in interval]
    storage.sync()
    storage.interrupted.save(step, vars(state), storage.meta | {INTERVAL: measured}, None)
    storage.interrupted.wait()


def interval_of(meta: Mapping[str, Any]) -> list[Measured]:
    """The metrics that `train` is to go on with, from what was saved with its state; earlier versions saved none."""
    saved = meta[INTERVAL] if INTERVAL in meta else []
    return [(step, {name: tuple(np.float32(value) for value in pair) for name, pair in metrics.items()}) for step, metrics in saved]


def _read(name: str, pending: list[tuple[int, Any]], checkpoints: Checkpoints) -> list[Measured]:
    """Metrics of steps, on the host; waits for the steps, so it is not called at every one.

    Raises:
      UserError: one is not finite.
    """
    collected = jax.device_get([metrics for _, metrics in pending])
    for (step, _), metrics in zip(pending, collected, strict=True):
        bad = [key for key, (total, _) in metrics.items() if not math.isfinite(total)]
        if bad:
            kept = checkpoints.latest_step()
            remedy = "no checkpoint was made yet" if kept is None else f"the checkpoint of step {kept} is kept"
            raise UserError(
                f"{name}: {', '.join(bad)} is not finite at step {step}, so training stopped; {remedy}: start again in "
                "another --workdir with a lower optim.learning_rate or with optim.clip_norm set."
            )
    return [(step, metrics) for (step, _), metrics in zip(pending, collected, strict=True)]
