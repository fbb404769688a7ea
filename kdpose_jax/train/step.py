"""The training step."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdpose_jax.contracts import Batch, Method, Metrics
from kdpose_jax.train.state import TrainState

TrainStep = Callable[[TrainState, Any, Batch, jax.Array], tuple[TrainState, Metrics]]


def build_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: float,
    accumulate: int,
    layout: TrainState,
) -> TrainStep:
    """Builds the compiled step: (state, frozen, batch, root key) -> (state, metrics).

    The state is donated. The key of a step is the root key folded with the number of steps taken,
    so a resumed run needs no saved key. `frozen` is an argument: a teacher that is captured would
    become constants of the program.

    Args:
      method: the method to train.
      optimizer: its optimiser.
      ema_decay: decay of the moving average, if the state has one. The decay rises to this value as
        t / (t + 10), where t is the number of steps taken.
      accumulate: number of parts in which a batch is computed, one after another. The batch size
        must be a multiple of this number times the number of devices.
      layout: the sharding of every leaf of the state, before and after the step.
    """

    def gradients(
        state: TrainState, frozen: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, Metrics, Any]:
        """Computes the gradient of the mean loss, the metrics and the new batch statistics."""
        gradient = jax.value_and_grad(method.loss, has_aux=True)
        (_, (metrics, model_state)), grads = gradient(
            state.params, state.model_state, frozen, batch, key, state.step
        )
        return jax.lax.with_sharding_constraint(grads, layout.params), metrics, model_state

    def step(
        state: TrainState, frozen: Any, batch: Batch, root_key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(root_key, state.step)
        frozen = jax.lax.stop_gradient(frozen)
        if accumulate == 1:
            grads, metrics, model_state = gradients(state, frozen, batch, key)
        else:
            grads, metrics, model_state = in_parts(
                functools.partial(gradients, frozen=frozen), state, batch, key, accumulate
            )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            # A low decay at first, so that the average forgets the initialisation.
            taken = (state.step + 1).astype(jnp.float32)
            decay = jnp.minimum(ema_decay, taken / (taken + 10))
            ema = jax.tree.map(lambda mean, new: decay * mean + (1 - decay) * new, ema, params)
        metrics["gradient_norm"] = (optax.tree.norm(grads), jnp.ones((), jnp.float32))
        return TrainState(state.step + 1, params, model_state, opt_state, ema), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(layout, None))


def in_parts(
    gradients: Callable[..., tuple[Any, Metrics, Any]],
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    parts: int,
) -> tuple[Any, Metrics, Any]:
    """Computes what `gradients` gives for a whole batch from equal parts, one after another.

    The loss is a mean over examples, so the gradient is the mean of the parts' gradients. As in
    PyTorch, each part is normalised by its own statistics, and moves the running statistics. Part a
    has the examples a, a + parts, ... It has equally many from each device's share, so no example
    moves to another device.

    Args:
      gradients: (state, batch=, key=) -> (gradient of the mean loss, metrics, batch statistics).
      state: the state before the step.
      batch: arrays `[B, ...]`.
      key: the key of the step, which is split into a key for each part.
      parts: number of parts; divides B.
    """

    def one(
        carry: tuple[Any, Any], part: tuple[Batch, jax.Array]
    ) -> tuple[tuple[Any, Any], Metrics]:
        total, model_state = carry
        grads, metrics, model_state = gradients(
            dataclasses.replace(state, model_state=model_state), batch=part[0], key=part[1]
        )
        return (jax.tree.map(jnp.add, total, grads), model_state), metrics

    # [B, ...] -> [B / parts, parts, ...] -> [parts, B / parts, ...]
    cut = jax.tree.map(
        lambda array: jnp.swapaxes(array.reshape(-1, parts, *array.shape[1:]), 0, 1), batch
    )
    start = (jax.tree.map(jnp.zeros_like, state.params), state.model_state)
    (total, model_state), metrics = jax.lax.scan(one, start, (cut, jax.random.split(key, parts)))
    return (
        jax.tree.map(lambda sums: sums / parts, total),
        jax.tree.map(lambda values: values.sum(0), metrics),
        model_state,
    )
