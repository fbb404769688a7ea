"""Optimisers and learning-rate schedules from explicit settings."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdpose_jax.contracts import Group
from kdpose_jax.errors import require

SCHEDULES = ("epoch_decay", "cosine", "steps")


def learning_rate(
    *,
    schedule: str,
    learning_rate: float,
    decay_per_epoch: float,
    drop_epochs: Sequence[float],
    drop_factor: float,
    final_learning_rate: float,
    warmup_epochs: float,
    steps: int,
    steps_per_epoch: float,
) -> Callable[[Any], jax.Array]:
    """Builds the learning-rate schedule of a run.

    Args:
      schedule: `epoch_decay` multiplies the rate by `decay_per_epoch` after every epoch (MixSTE,
        HoT). `cosine` falls to `final_learning_rate` at the end of the run. `steps` multiplies the
        rate by `drop_factor` after each of `drop_epochs` (HRNet). All rise linearly over the
        warm-up.
      learning_rate: the highest rate.
      decay_per_epoch: used by `epoch_decay`.
      drop_epochs: used by `steps`.
      drop_factor: used by `steps`.
      final_learning_rate: used by `cosine`.
      warmup_epochs: length of the warm-up; 0 for none.
      steps: length of the run.
      steps_per_epoch: steps per epoch, not necessarily a whole number.

    Returns:
      A function of the number of steps taken, which may be traced.

    Raises:
      UserError: the schedule is not known.
    """
    require("optim.schedule", schedule, SCHEDULES)
    warmup_steps = warmup_epochs * steps_per_epoch

    def rate(step: Any) -> jax.Array:
        now = jnp.asarray(step, jnp.float32)
        if schedule == "epoch_decay":
            value = learning_rate * decay_per_epoch ** jnp.floor(now / steps_per_epoch)
        elif schedule == "steps":
            drops: Any = sum(
                jnp.asarray(now >= epoch * steps_per_epoch, jnp.float32) for epoch in drop_epochs
            )
            value = learning_rate * drop_factor**drops
        else:
            progress = jnp.clip((now - warmup_steps) / max(1.0, steps - warmup_steps), 0.0, 1.0)
            fall = learning_rate - final_learning_rate
            value = final_learning_rate + fall * 0.5 * (1 + jnp.cos(np.pi * progress))
        if warmup_steps:
            value = value * jnp.minimum((now + 1) / warmup_steps, 1.0)
        return value

    return rate


def build_optimizer(
    rate: Callable[[Any], jax.Array],
    *,
    weight_decay: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    clip_norm: float,
    groups: Sequence[Group],
) -> optax.GradientTransformation:
    """Builds AdamW with parameter groups, clipped by global norm.

    As in PyTorch, decay is decoupled and applies to every parameter.

    Args:
      rate: (number of steps taken) -> learning rate.
      weight_decay: decay of parameters outside the groups.
      beta1: decay of the first moment.
      beta2: decay of the second moment.
      epsilon: added to the root of the second moment.
      clip_norm: largest global gradient norm; 0 for no clipping.
      groups: the method's groups; the first one that matches a parameter applies.
    """

    def transform(group: Group) -> optax.GradientTransformation:
        def scaled(step: Any) -> jax.Array:
            return rate(step) * group.learning_rate_factor

        if group.plain_sgd:
            return optax.sgd(scaled)
        decay = weight_decay if group.weight_decay is None else group.weight_decay
        return optax.adamw(scaled, b1=beta1, b2=beta2, eps=epsilon, weight_decay=decay)

    def label(params: Any) -> Any:
        return jax.tree.map_with_path(lambda path, _: _group_of(path, groups), params)

    rest = Group(pattern="")
    transforms = {str(number): transform(group) for number, group in enumerate([*groups, rest])}
    optimizer = optax.partition(transforms, label)
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer) if clip_norm else optimizer


def _group_of(path: Any, groups: Sequence[Group]) -> str:
    """Returns the number of the first group that matches a path, else the number of groups."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    matches = (str(number) for number, group in enumerate(groups) if re.search(group.pattern, name))
    return next(matches, str(len(groups)))
