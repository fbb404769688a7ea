"""Builds CDKD: a student on small crops, its teacher on large ones, and the terms between them.

L = L_task + lambda_p L_SAPE + lambda_a L_CCA (CDKD, arXiv 2405.11448, and its released code;
docs/methods/cdkd.md#total-loss).
"""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from kdpose_jax.contracts import Group, Method, Teacher
from kdpose_jax.methods.cdkd.terms import Distillation, build_distillation, distillation_terms
from kdpose_jax.methods.loss_terms import from_terms
from kdpose_jax.models import initial
from kdpose_jax.tasks import pose2d
from kdpose_jax.tasks.task import for_student

TASKS = ("pose2d",)
TITLE = "CDKD"


def reads(config: ConfigDict, stage: str, *, training: bool) -> dict[str, Any]:
    """Says what a batch holds: the student's crop and, to be taught, the teacher's.

    Returns:
      Keyword arguments of the reader and of the protocol.
    """
    views = pose2d.reads(config, stage, training=training)["views"]
    if training and any(config.distill.weights.values()):
        views = {**views, "teacher_image": config.teacher.input.size}
    return {"views": views}


def build(config: ConfigDict, stage: str) -> Method:
    """Builds the method.

    Args:
      config: the locked config; reads `data`, `student`, `teacher`, `decode`, `distill` and `run`
        (steps).
      stage: name of the block that is trained, `student`.

    Returns:
      The method. If all distillation weights are zero, it is the student's baseline, without
      teacher and adapters.

    Raises:
      UserError: options do not fit together.
    """
    task = pose2d.build_task(config, stage)
    distillation = build_distillation(config)
    weights = config.distill.weights

    def init(key, batch):
        keys = jax.random.split(key, 3)
        student, state = task.init(keys[0], batch)
        params, model_state, frozen = {"student": student}, {"student": state}, {}
        if distillation.active:
            frozen["teacher"] = distillation.init_teacher(keys[1], batch)
        if weights.projection:
            maps = jnp.zeros((1, *distillation.student_maps), jnp.float32)
            variables = initial.variables(distillation.projection, keys[2], maps, train=False)
            params["projection"], model_state["projection"] = (
                variables["params"],
                {"batch_stats": variables["batch_stats"]},
            )
        if weights.alignment:
            params["temperature"] = jnp.asarray(config.distill.temperature.initial, jnp.float32)
        return params, model_state, frozen

    def all_terms(params, model_state, frozen, batch, key, step):
        prediction, features, state = task.apply(
            params["student"], model_state["student"], batch, key
        )
        total, shown = task.loss(prediction, batch)
        weighted, state = {"task": total}, {**model_state, "student": state}
        if distillation.active:
            added, metrics, state = distillation_terms(
                distillation, params, state, frozen, batch, prediction, features, step
            )
            weighted.update({name: weights[name] * value for name, value in added.items()})
            shown = {**shown, **added, **metrics}
        return weighted, shown, state

    loss, terms = from_terms(all_terms)
    return Method(
        init=init,
        loss=loss,
        predict=for_student(task.predict),
        predict_with_flip=for_student(task.predict_with_flip),
        terms=terms,
        teachers=(Teacher("teacher", config.teacher.checkpoint),) if distillation.active else (),
        groups=groups(distillation),
        shared_axes=((r"projection/projectors/(kernel|up|bias)$", -1),),
        notes=notes(config),
    )


def notes(config: ConfigDict) -> tuple[str, ...]:
    """Says what a reader of the results should know of the options."""
    kind = config.distill.projection.kind
    if not config.distill.weights.projection or kind == "dense":
        return ()
    return (
        f"note: the projectors are of kind '{kind}', a factorised stand-in for the released "
        f"code's dense ones.",
    )


def groups(distillation: Distillation) -> tuple[Group, ...]:
    """Returns the optimiser groups of what is trained beside the student."""
    options, found = distillation.options, []
    if options.weights.alignment:
        # Adam would cancel lambda's size and keep its sign alone
        # (docs/methods/cdkd.md#temperature).
        factor = options.temperature.learning_rate_factor
        found.append(Group("^temperature", learning_rate_factor=factor, plain_sgd=True))
    if options.weights.projection and not options.projection.trained:
        # No decay, and no moments in memory.
        found.append(Group("^projection/", learning_rate_factor=0.0, plain_sgd=True))
    return tuple(found)
