"""Builds the baselines: SCJD's student and its dense teacher, with four published losses.

L = L_task + the sum of weight times term. The losses and their papers are in `losses`; they can be
combined.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from kdpose_jax.contracts import Method, Teacher
from kdpose_jax.methods.baselines.terms import build_distillation, distillation_terms
from kdpose_jax.methods.loss_terms import from_terms
from kdpose_jax.models import initial
from kdpose_jax.skeletons import find_skeleton
from kdpose_jax.tasks import lifting, sparse_lifting
from kdpose_jax.tasks.task import for_student

TASKS = ("lifting",)
TITLE = "published distillation"
reads = lifting.reads  # the dense window, from which both networks take their frames


def build(config: ConfigDict, stage: str) -> Method:
    """Builds the method.

    Args:
      config: the locked config; reads `data`, `student`, `teacher.network` and `distill`.
      stage: name of the block that is trained, `student`.

    Returns:
      The method. If all distillation weights are zero, the student is trained alone and the teacher
      is not run.

    Raises:
      UserError: options do not fit together.
    """
    distillation = build_distillation(
        config, find_skeleton(config.data.skeleton, config.data.joints)
    )
    task = lifting.build_task(config, stage)
    student, weights = config.student, config.distill.weights

    def init(key, batch):
        keys = jax.random.split(key, 3)
        params = {"student": task.init(keys[0], batch)[0]}
        frozen = {}
        if distillation.active:
            frozen = {"teacher": sparse_lifting.init_teacher(distillation.teacher, keys[1], batch)}
        if weights.hints:
            params["regressor"] = initial.variables(
                distillation.regressor, keys[2], jnp.zeros((1, student.network.width))
            )["params"]
        return params, {}, frozen

    def all_terms(params, model_state, frozen, batch, key, step):
        predicted, features, _ = task.apply(params["student"], {}, batch, key)
        total, parts = task.loss(predicted, batch)
        added = {}
        if distillation.active:
            added = distillation_terms(distillation, params, frozen, batch, predicted, features)
        weighted = {"task": total, **{name: weights[name] * value for name, value in added.items()}}
        return weighted, {**parts, **added}, model_state

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
