"""Builds SCJD: the sparse student, the dense teacher and the terms between them.

L = L_task + lambda_e L_DJED + lambda_a L_AJAD + lambda_t L_TCD. Weights and forms are inferred
(docs/methods/scjd.md#total-loss).
"""

from typing import Any

import jax
import jax.numpy as jnp

from kdpose_jax.contracts import Method, Teacher
from kdpose_jax.methods.loss_terms import from_terms
from kdpose_jax.methods.scjd import schedule
from kdpose_jax.methods.scjd.terms import build_distillation, distillation_terms
from kdpose_jax.models import initial
from kdpose_jax.skeletons import find_skeleton
from kdpose_jax.tasks import lifting, sparse_lifting
from kdpose_jax.tasks.task import for_student

TASKS = ("lifting",)
TITLE = "SCJD"
reads = lifting.reads  # the dense window, from which both networks take their frames


def build(config: Any, stage: str) -> Method:
    """Builds the method.

    Args:
      config: the locked config; reads `data`, `student`, `teacher`, `distill` and `run` (steps).
      stage: name of the block that is trained, `student`.

    Returns:
      The method. If all distillation weights are zero, the student is trained alone and the teacher
      is not run.

    Raises:
      UserError: options do not fit together.
    """
    task = sparse_lifting.build_task(config, stage)
    distillation = build_distillation(
        config, find_skeleton(config.data.skeleton, config.data.joints)
    )
    options, student = config.distill, config.student
    warmup_steps = int(options.warmup_epochs * config.run.steps_per_epoch)

    def init(key, batch):
        keys = jax.random.split(key, 3)
        params = {"student": task.init(keys[0], batch)[0]}
        frozen = {}
        if distillation.active:
            frozen = {"teacher": sparse_lifting.init_teacher(distillation.teacher, keys[1], batch)}
        if options.weights.embedding:
            width = student.network.width
            embeddings = {
                layer: jnp.zeros((1, 1, 1, width)) for layer in distillation.embedding_layers
            }
            params["projectors"] = initial.variables(distillation.projectors, keys[2], embeddings)[
                "params"
            ]
        return params, {}, frozen

    def all_terms(params, model_state, frozen, batch, key, step):
        predicted, features, _ = task.apply(params["student"], {}, batch, key)
        total, parts = task.loss(predicted, batch)
        weighted = {"task": total}
        if distillation.active:
            added = distillation_terms(distillation, params, frozen, batch, predicted, features)
            ramp = schedule.ramp(
                step,
                warmup_steps=warmup_steps,
                steps=config.run.steps,
                decay_fraction=options.decay_fraction,
            )
            for name, value in added.items():
                strength = 1.0 if name == "temporal" else ramp
                weighted[name] = options.weights[name] * strength * value
            parts = {**parts, **added}
        return weighted, parts, model_state

    loss, terms = from_terms(all_terms)
    return Method(
        init=init,
        loss=loss,
        predict=for_student(task.predict),
        predict_with_flip=for_student(task.predict_with_flip),
        terms=terms,
        teachers=(Teacher("teacher", config.teacher.checkpoint),) if distillation.active else (),
        groups=sparse_lifting.groups(config, stage),
        notes=sparse_lifting.keyframe_notes(config, stage),
    )
