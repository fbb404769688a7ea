"""Builds SCJD: a student, what the teachers predict, and the terms between them.

L = L_task + lambda_e L_DJED + lambda_a L_AJAD + lambda_t L_TCD. Weights and forms are inferred
(docs/methods/scjd.md#total-loss).
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from kdpose_jax.contracts import Method, Teacher
from kdpose_jax.methods.loss_terms import from_terms
from kdpose_jax.methods.scjd import schedule
from kdpose_jax.methods.scjd.terms import build_distillation, distillation_terms, is_active
from kdpose_jax.models import initial
from kdpose_jax.skeletons import find_skeleton
from kdpose_jax.tasks import lifting, sparse_lifting
from kdpose_jax.tasks.task import for_student, student_state

TASKS = ("lifting",)
TITLE = "SCJD"
reads = lifting.reads  # the student's frames, which a teacher that runs beside it reads too


def build(config: ConfigDict, stage: str) -> Method:
    """Builds the method.

    Args:
      config: the locked config; reads `data`, `student`, `teacher`, `distill` and `run` (steps).
      stage: name of the block that is trained, `student`.

    Returns:
      The method. If all distillation weights are zero, the student is trained alone. The teacher
      is run in a step only if embedding or attention has a weight.

    Raises:
      UserError: options do not fit together.
    """
    task = lifting.build_task(config, stage)
    options, distillation, live = config.distill, None, None
    if is_active(config):
        distillation = build_distillation(
            config, find_skeleton(config.data.skeleton, config.data.joints)
        )
        live = distillation.live
    warmup_steps = int(options.warmup_epochs * config.run.steps_per_epoch)

    def init(key, batch):
        keys = jax.random.split(key, 3)
        student, state = task.init(keys[0], batch)
        params, frozen = {"student": student}, {}
        if live is not None:
            frozen = {"teacher": sparse_lifting.init_teacher(live.teacher, keys[1], batch)}
            if options.weights.embedding:
                width = config.student.network.width
                embeddings = {layer: jnp.zeros((1, 1, 1, width)) for layer in live.embedding_layers}
                params["projectors"] = initial.variables(live.projectors, keys[2], embeddings)[
                    "params"
                ]
        return params, {"student": state} if state else {}, frozen

    def all_terms(params, model_state, frozen, batch, key, step):
        predicted, features, state = task.apply(
            params["student"], student_state(model_state), batch, key
        )
        total, parts = task.loss(predicted, batch)
        weighted = {"task": total}
        if distillation is not None:
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
        return weighted, parts, {"student": state} if state else {}

    loss, terms = from_terms(all_terms)
    return Method(
        init=init,
        loss=loss,
        predict=for_student(task.predict),
        predict_with_flip=for_student(task.predict_with_flip),
        terms=terms,
        teachers=() if live is None else (Teacher("teacher", config.teacher.checkpoint),),
        reads_teacher_poses=distillation is not None and bool(options.weights.temporal),
        groups=sparse_lifting.groups(config, stage),
        notes=sparse_lifting.keyframe_notes(config, stage),
    )
