"""Supervised training of one network with its task's own loss: teachers, and students on their own."""

from typing import Any

from kdpose_jax.errors import UserError
from kdpose_jax.methods import lifting, pose2d
from kdpose_jax.methods.api import Method, as_metrics
from kdpose_jax.methods.task import Task

TASKS = {"lifting": lifting, "pose2d": pose2d}
HAS_TEACHER = False


def reads(config: Any) -> dict[str, Any]:
    """What a batch holds, as keyword arguments of the reader."""
    return _task_module(config).reads(config)


def build(config: Any) -> Method:
    """Builds the method.

    Args:
      config: the locked config; reads `task` and what the task reads of `data` and `student`.

    Returns:
      The method; it has no teacher and no adapters.

    Raises:
      UserError: an unknown task, or options of it that do not fit together.
    """
    return of_task(_task_module(config).build_task(config))


def of_task(task: Task) -> Method:
    """The method that trains one network on its task."""

    def init(key, batch):
        params, state = task.init(key, batch)
        return {"student": params}, {"student": state} if state else {}, {}

    def loss(params, model_state, frozen, batch, key, step):
        prediction, _, state = task.apply(params["student"], _state_of(model_state), batch, key)
        total, terms = task.loss(prediction, batch)
        return total.mean(), (as_metrics({"loss": total, **terms}), {"student": state} if state else {})

    def predict(params, model_state, batch):
        return task.predict(params["student"], _state_of(model_state), batch)

    def predict_with_flip(params, model_state, batch):
        return task.predict_with_flip(params["student"], _state_of(model_state), batch)

    return Method(init=init, loss=loss, predict=predict, predict_with_flip=predict_with_flip)


def _state_of(model_state: Any) -> Any:
    return model_state["student"] if model_state else {}


def _task_module(config: Any) -> Any:
    if config.task not in TASKS:
        raise UserError(f"task is '{config.task}': set it to one of {sorted(TASKS)}.")
    return TASKS[config.task]
