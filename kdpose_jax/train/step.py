"""The one train step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdpose_jax.methods.api import Batch, Method, Metrics
from kdpose_jax.train.state import TrainState

TrainStep = Callable[[TrainState, Any, Batch, jax.Array], tuple[TrainState, Metrics]]


def build_step(method: Method, optimizer: optax.GradientTransformation, *, ema_decay: float) -> TrainStep:
    """Builds (state, frozen, batch, root key) -> (state, metrics), compiled, with the state donated.

    The key of a step is the root key folded with the number of steps taken, so that a resumed run needs no saved key.
    `frozen` is an ordinary argument: captured, a teacher would become constants of the program.

    Args:
      method: what is trained.
      optimizer: its optimiser.
      ema_decay: of the moving average, where the state has one; it rises to this value from below, as t / (t + 10).
    """

    def step(state: TrainState, frozen: Any, batch: Batch, root_key: jax.Array) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(root_key, state.step)
        frozen = jax.lax.stop_gradient(frozen)
        gradient = jax.value_and_grad(method.loss, has_aux=True)
        (_, (metrics, model_state)), grads = gradient(state.params, state.model_state, frozen, batch, key, state.step)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            taken = (state.step + 1).astype(jnp.float32)
            decay = jnp.minimum(ema_decay, taken / (taken + 10))  # an early average must not keep the initialisation
            ema = jax.tree.map(lambda mean, new: decay * mean + (1 - decay) * new, ema, params)
        metrics["gradient_norm"] = (optax.tree.norm(grads), jnp.ones((), jnp.float32))
        return TrainState(state.step + 1, params, model_state, opt_state, ema), metrics

    return jax.jit(step, donate_argnums=0)
