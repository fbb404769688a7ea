"""The one training loop. It knows steps, batches and metrics, and nothing of what is trained."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.data.batches import TrainBatches
from kdpose_jax.errors import Preempted, UserError
from kdpose_jax.methods.api import Batch
from kdpose_jax.train.periodic import MetricsLog, Progress, due, mean_metrics
from kdpose_jax.train.state import TrainState
from kdpose_jax.train.step import TrainStep


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


def train(
    name: str,
    *,
    state: TrainState,
    step_function: TrainStep,
    frozen: Any,
    batches: TrainBatches,
    root_key: jax.Array,
    plan: Plan,
    learning_rate: Callable[[Any], Any],
    evaluate: Callable[[TrainState], Mapping[str, float]],
    shown: tuple[str, ...],
    checkpoints: Checkpoints,
    meta: Mapping[str, Any],
    log: MetricsLog,
    unit: tuple[str, int],
    show: Callable[[str], None],
    stop: Callable[[], bool],
) -> TrainState:
    """Trains from the step that `state` is at to the end of the plan.

    Args:
      name: of the run, in its progress lines.
      state: where it stands; donated.
      step_function: of `step.build_step`.
      frozen: the teachers.
      batches: from the state's step on.
      root_key: of the run.
      plan: what happens when.
      learning_rate: of a step, for the log.
      evaluate: state -> scores by name.
      shown: metrics in the progress line; the log has all.
      checkpoints: where the state is saved.
      meta: saved beside it.
      log: where metrics are written.
      unit: what the rate counts and how many of it a step has.
      show: prints one line.
      stop: asked after every step, at the same steps by all processes: whether to save and stop there.

    Returns:
      The state after the last step.

    Raises:
      Preempted: `stop` said so; the state is saved.
      UserError: the loss is not finite; the last checkpoint before it is kept.
    """
    step = int(state.step)
    progress = Progress(
        name, first_step=step, steps=plan.steps, steps_per_epoch=plan.steps_per_epoch, unit=unit, show=show
    )
    pending: list[tuple[int, Any]] = []
    waited, compiled = 0.0, False
    while step < plan.steps:
        batch: Batch = next(batches)
        waited += batches.waited
        started = time.perf_counter()
        state, metrics = step_function(state, frozen, batch, root_key)
        step += 1
        pending.append((step, metrics))
        if not compiled:
            jax.block_until_ready(metrics)
            show(f"{name}  compiled and took the first step in {time.perf_counter() - started:.1f} s")
            progress.restart_clock(step)
            compiled, waited = True, 0.0
        stops = stop()
        evaluates, saves = due(step, plan.evaluate_every, plan.steps), stops or due(step, plan.save_every, plan.steps)
        if due(step, plan.log_every, plan.steps) or evaluates or saves:
            means = _read(name, pending, checkpoints)
            pending = []
            rates = progress.line(step, {key: means[key] for key in shown if key in means}, waited)
            log.write(step, {**means, **rates, "learning_rate": float(learning_rate(step - 1)), "epoch": step / plan.steps_per_epoch})
            waited = 0.0
        scores = None
        if evaluates:
            scores = dict(evaluate(state))
            log.write(step, {f"test_{key}": value for key, value in scores.items()})
            show(f"{name}  step {step}  test " + "  ".join(f"{key} {value:.2f}" for key, value in scores.items()))
        if evaluates or saves:
            checkpoints.save(step, vars(state), meta, scores)
            progress.restart_clock(step)
        if stops and step < plan.steps:
            checkpoints.wait()
            raise Preempted(f"{name} is saved at step {step} of {plan.steps}")
    checkpoints.wait()
    return state


def _read(name: str, pending: list[tuple[int, Any]], checkpoints: Checkpoints) -> dict[str, float]:
    """Means of the metrics since the last reading; waits for their steps, so it is not called at every step."""
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
    return mean_metrics(collected)
