"""Trains one network with its task's loss: teachers, and students without a teacher."""

from typing import Any

from ml_collections import ConfigDict

from kdpose_jax.contracts import Method, Task
from kdpose_jax.errors import require
from kdpose_jax.methods.loss_terms import as_metrics
from kdpose_jax.tasks import lifting, pose2d
from kdpose_jax.tasks.task import for_student, student_state

TASKS = {"lifting": lifting, "pose2d": pose2d}
TITLE = ""


def reads(config: ConfigDict, stage: str, *, training: bool) -> dict[str, Any]:
    """Returns what the task reads, as keyword arguments of the reader or of the protocol."""
    return _task_module(config).reads(config, stage, training=training)


def build(config: ConfigDict, stage: str) -> Method:
    """Builds the method.

    Args:
      config: the locked config; reads `task`, and what the task reads in `data` and in the stage's
        block.
      stage: name of the block that is trained.

    Returns:
      The method, without teacher and adapters.

    Raises:
      UserError: the task is not known, or its options do not fit together.
    """
    return of_task(_task_module(config).build_task(config, stage))


def of_task(task: Task) -> Method:
    """Makes the method that trains one network on its task."""

    def init(key, batch):
        params, state = task.init(key, batch)
        return {"student": params}, {"student": state} if state else {}, {}

    def loss(params, model_state, frozen, batch, key, step):
        prediction, _, state = task.apply(params["student"], student_state(model_state), batch, key)
        total, terms = task.loss(prediction, batch)
        metrics = as_metrics({"loss": total, **terms})
        return total.mean(), (metrics, {"student": state} if state else {})

    return Method(
        init=init,
        loss=loss,
        predict=for_student(task.predict),
        predict_with_flip=for_student(task.predict_with_flip),
    )


def _task_module(config: ConfigDict) -> Any:
    require("task", config.task, TASKS)
    return TASKS[config.task]
