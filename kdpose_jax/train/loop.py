"""The training loop. It knows steps, batches and metrics, and no task."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import numpy as np

from kdpose_jax import processes
from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.data.batches import TrainBatches
from kdpose_jax.errors import UserError
from kdpose_jax.train.logs import Lines, MetricsLog, Progress, mean_metrics
from kdpose_jax.train.preemption import Stop
from kdpose_jax.train.state import TrainState
from kdpose_jax.train.step import TrainStep

# A step and its metrics, each a sum and a count.
Measured = tuple[int, dict[str, tuple[Any, Any]]]
INTERVAL = "interval"  # the key of such metrics in what is saved beside a state
IN_FLIGHT = 2  # steps that devices may still have to do while the host goes on


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long to train and what to do on the way. An interval of 0 means only at the end.

    Attributes:
      steps: total number of steps.
      steps_per_epoch: number of examples over batch size.
      log_every: steps between two lines of the log.
      save_every: steps between two checkpoints.
      evaluate_every: steps between two evaluations; a checkpoint is saved with each.
    """

    steps: int
    steps_per_epoch: float
    log_every: int
    save_every: int
    evaluate_every: int

    def is_due(self, step: int, every: int) -> bool:
        """Tells whether something periodic is due after a step: at multiples, and at the end."""
        return step == self.steps or (every > 0 and step % every == 0)


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where a run is written while it is trained.

    Attributes:
      checkpoints: the checkpoints of the plan.
      interrupted: the checkpoint of the step at which the run was told to stop.
      meta: what is saved beside the state in both.
      log: the log of metrics.
      examples: the log of the examples' numbers at every step; None if they are not logged.
    """

    checkpoints: Checkpoints
    interrupted: Checkpoints
    meta: Mapping[str, Any]
    log: MetricsLog
    examples: Lines | None

    def sync(self) -> None:
        """Writes the logs out before a checkpoint: a run that resumes from it needs their lines."""
        self.log.sync()
        if self.examples is not None:
            self.examples.sync()


@dataclasses.dataclass(frozen=True)
class Computation:
    """What a run computes on the devices.

    Attributes:
      step: takes one step; made by `step.build_step`.
      frozen: the teachers' variables.
      root_key: the key from which the key of each step is derived.
      learning_rate: (number of steps taken) -> learning rate, for the log.
      evaluate: (state) -> scores by name.
      evaluated_on: name of the split that `evaluate` scores.
    """

    step: TrainStep
    frozen: Any
    root_key: jax.Array
    learning_rate: Callable[[Any], Any]
    evaluate: Callable[[TrainState], Mapping[str, float]]
    evaluated_on: str


class Training:
    """Trains a state from its step to the end of the plan.

    Args:
      state: the state to start from; its memory is donated to the first step.
      interval: metrics of the steps since the last line of the log, if the run was stopped before
        it did what was due after its last step; otherwise empty.
      computation: the step and the evaluation.
      batches: the batches from the state's step on.
      plan: when to log, evaluate and save.
      storage: where the run is written.
      progress: shows the run to the user.
      stop: says after every step whether to stop, at the same step on all processes.
    """

    def __init__(
        self,
        state: TrainState,
        interval: list[Measured],
        *,
        computation: Computation,
        batches: TrainBatches,
        plan: Plan,
        storage: Storage,
        progress: Progress,
        stop: Stop,
    ):
        self.state, self.step, self.interval = state, int(state.step), interval
        self.computation, self.batches, self.plan = computation, batches, plan
        self.storage, self.progress, self.stop = storage, progress, stop
        self.pending: list[tuple[int, Any]] = []  # steps whose metrics are still on the devices
        self.waited = 0.0  # seconds that the loop has waited for data since the last line
        self.compiled = False

    def run(self) -> TrainState:
        """Takes the remaining steps, and after each does what is due.

        Returns:
          The state after the last step.

        Raises:
          UserError: a metric is not finite; the last checkpoint before it is kept.
          Stopped: the run was told to stop, and its state is saved.
        """
        if self.interval:  # the run was stopped before it did what was due after its last step
            self.settle()
            self.stop.at_once(self.storage.checkpoints.wait)
        while self.step < self.plan.steps:
            self.advance()
            self.settle()
        self.storage.checkpoints.wait()
        self.stop.at_once()
        return self.state

    def advance(self) -> None:
        """Hands one step to the devices, and waits until at most `IN_FLIGHT` are left to do."""
        batch = next(self.batches)
        self.waited += self.batches.waited
        started = time.perf_counter()
        computation = self.computation
        self.state, metrics = computation.step(
            self.state, computation.frozen, batch, computation.root_key
        )
        self.step += 1
        self.pending.append((self.step, metrics))
        if len(self.pending) > IN_FLIGHT:  # a request to stop must not wait for a queue of steps
            jax.block_until_ready(self.pending[-1 - IN_FLIGHT][1])
        if self.storage.examples is not None:
            numbers = processes.whole(cast(jax.Array, batch["example"]))
            self.storage.examples.write(self.step, {"examples": numbers.tolist()})
        if not self.compiled:
            self.stop.defer()  # before this step, everything in memory was also on the disk
            jax.block_until_ready(metrics)
            seconds = time.perf_counter() - started
            self.progress.say(f"compiled and took the first step in {seconds:.1f} s")
            self.progress.restart_clock(self.step)
            self.compiled, self.waited = True, 0.0

    def settle(self) -> None:
        """Does what is due after a step: stops, writes a line, evaluates, saves."""
        plan, step = self.plan, self.step
        evaluates = plan.is_due(step, plan.evaluate_every)
        saves = plan.is_due(step, plan.save_every)
        logs = plan.is_due(step, plan.log_every) or evaluates or saves
        stopping = self.stop.requested()
        if logs or stopping:
            self.interval = self.interval + self._read_pending()
        if stopping:
            self._save_interrupted()
            raise self.stop.exception()
        if logs:
            self._write_line()
        scores = self._evaluate() if evaluates else None
        if evaluates or saves:
            self.storage.sync()
            meta = {**self.storage.meta, INTERVAL: []}
            self.storage.checkpoints.save(step, vars(self.state), meta, scores)
            self.progress.restart_clock(step)
        if logs:
            self.interval = []

    def _write_line(self) -> None:
        """Shows and logs the means since the last line."""
        means = mean_metrics([metrics for _, metrics in self.interval])
        rates = self.progress.line(self.step, means, self.waited)
        rate = float(self.computation.learning_rate(self.step - 1))
        place = {"learning_rate": rate, "epoch": self.step / self.plan.steps_per_epoch}
        self.storage.log.write(self.step, {**means, **rates, **place})
        self.waited = 0.0

    def _evaluate(self) -> dict[str, float]:
        """Scores the state; a request to stop during the evaluation saves it at once."""
        # Several processes must save together, which a thread of one process cannot start. A state
        # that was just restored is on the disk already.
        if self.compiled and jax.process_count() == 1:
            self.stop.at_once(self._save_interrupted)
        scores = dict(self.computation.evaluate(self.state))
        self.stop.defer()
        split = self.computation.evaluated_on
        named = {f"{split}_{key}": value for key, value in scores.items()}
        self.storage.log.write(self.step, named)
        shown = "  ".join(f"{key} {value:.2f}" for key, value in scores.items())
        self.progress.say(f"step {self.step}  {split} {shown}")
        return scores

    def _save_interrupted(self) -> None:
        """Saves the state at the step where the run was told to stop."""
        self.storage.checkpoints.wait()  # a checkpoint may still be on its way to the disk
        measured = [
            [step, {name: [float(value) for value in pair] for name, pair in metrics.items()}]
            for step, metrics in self.interval
        ]
        self.storage.sync()
        meta = {**self.storage.meta, INTERVAL: measured}
        self.storage.interrupted.save(self.step, vars(self.state), meta, None)
        self.storage.interrupted.wait()

    def _read_pending(self) -> list[Measured]:
        """Waits for the pending steps and brings their metrics to the host.

        Raises:
          UserError: a metric is not finite.
        """
        collected = jax.device_get([metrics for _, metrics in self.pending])
        read = [(step, metrics) for (step, _), metrics in zip(self.pending, collected, strict=True)]
        self.pending = []
        for step, metrics in read:
            bad = [key for key, (total, _) in metrics.items() if not math.isfinite(total)]
            if bad:
                latest = self.storage.checkpoints.latest_step()
                checkpoint = "no checkpoint was made yet"
                if latest is not None:
                    checkpoint = f"the checkpoint of step {latest} is kept"
                raise UserError(
                    f"{self.progress.name}: {', '.join(bad)} is not finite at step {step}, so "
                    f"training stopped; {checkpoint}: start again in another --workdir with a "
                    "lower optim.learning_rate or with optim.clip_norm set."
                )
        return read


def interval_of(meta: Mapping[str, Any]) -> list[Measured]:
    """Returns the interval of `Training` from what was saved beside a state.

    Earlier versions saved none; their interval is empty.
    """
    saved = meta[INTERVAL] if INTERVAL in meta else []
    return [
        (
            step,
            {
                name: (np.float32(total), np.float32(count))
                for name, (total, count) in metrics.items()
            },
        )
        for step, metrics in saved
    ]
