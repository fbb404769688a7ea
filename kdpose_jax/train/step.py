"""The training step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from kdpose_jax.contracts import Batch, Method, Metrics
from kdpose_jax.train import compiling
from kdpose_jax.train.state import TrainState

TrainStep = Callable[[TrainState, Any, Batch, jax.Array], tuple[TrainState, Metrics]]
# (state, frozen, batch, key) -> (gradient of the mean loss, metrics, new batch statistics).
Gradients = Callable[[TrainState, Any, Batch, jax.Array], tuple[Any, Metrics, Any]]


def build_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: float,
    accumulate: int,
    statistics_per_device: bool,
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
      statistics_per_device: whether each device computes its share of a batch alone
        (`on_each_device`), so that batch normalisation takes the statistics of the share. False
        takes those of the batch.
      layout: the sharding of every leaf of the state, before and after the step. Each device has a
        copy of all leaves if the statistics are per device.
    """
    mesh = jax.tree.leaves(layout)[0].mesh
    apart = statistics_per_device and mesh.size > 1

    def gradients(
        state: TrainState, frozen: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, Metrics, Any]:
        gradient = jax.value_and_grad(method.loss, has_aux=True)
        (_, (metrics, model_state)), grads = gradient(
            state.params, state.model_state, frozen, batch, key, state.step
        )
        if not apart:
            grads = jax.lax.with_sharding_constraint(grads, layout.params)
        return grads, metrics, model_state

    compute: Gradients = gradients if accumulate == 1 else in_parts(gradients, accumulate)
    compute = on_each_device(compute, mesh) if apart else compute

    def step(
        state: TrainState, frozen: Any, batch: Batch, root_key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(root_key, state.step)
        frozen = jax.lax.stop_gradient(frozen)
        grads, metrics, model_state = compute(state, frozen, batch, key)
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

    return compiling.jit(step, mesh, donate_argnums=0, out_shardings=(layout, None))


def on_each_device(gradients: Gradients, mesh: Mesh) -> Gradients:
    """Makes a function that computes each device's share of a batch alone, and takes the mean.

    The shares are equal and the loss is a mean over examples, so the gradient is the mean of the
    shares' gradients. The devices exchange nothing else. Each normalises its share by the share's
    own statistics, as PyTorch's parallel modules do. The running statistics become the mean of what
    the devices have, where PyTorch keeps those of the first device.

    Args:
      gradients: computes a batch. On each device it gets a key of its own.
      mesh: the devices.
    """

    def share(
        state: TrainState, frozen: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, Metrics, Any]:
        key = jax.random.fold_in(key, jax.lax.axis_index("data"))
        grads, metrics, model_state = gradients(state, frozen, batch, key)
        grads, model_state = jax.lax.pmean((grads, model_state), "data")
        return grads, jax.lax.psum(metrics, "data"), model_state

    everywhere, cut = PartitionSpec(), PartitionSpec("data")
    return jax.shard_map(
        share,
        mesh=mesh,
        in_specs=(everywhere, everywhere, cut, everywhere),
        out_specs=everywhere,
        check_vma=False,  # otherwise JAX sums each parameter's gradient where it arises
    )


def in_parts(gradients: Gradients, parts: int) -> Gradients:
    """Makes a function that computes a batch in equal parts, one after another.

    The loss is a mean over examples, so the gradient is the mean of the parts' gradients. As in
    PyTorch, each part is normalised by its own statistics, and moves the running statistics. Part a
    has the examples a, a + parts, ... It has equally many from each device's share, so no example
    moves to another device. The key is split into a key for each part.

    Args:
      gradients: computes a batch.
      parts: number of parts; divides the number of examples.
    """

    def in_turn(
        state: TrainState, frozen: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, Metrics, Any]:
        def one(
            carry: tuple[Any, Any], part: tuple[Batch, jax.Array]
        ) -> tuple[tuple[Any, Any], Metrics]:
            total, model_state = carry
            grads, metrics, model_state = gradients(
                dataclasses.replace(state, model_state=model_state), frozen, *part
            )
            return (jax.tree.map(jnp.add, total, grads), model_state), metrics

        # [B, ...] -> [B / parts, parts, ...] -> [parts, B / parts, ...]
        cut = jax.tree.map(
            lambda array: jnp.swapaxes(array.reshape(-1, parts, *array.shape[1:]), 0, 1), batch
        )
        start = (jax.tree.map(jnp.zeros_like, state.params), state.model_state)
        (total, model_state), metrics = jax.lax.scan(
            one, start, (cut, jax.random.split(key, parts))
        )
        return (
            jax.tree.map(lambda sums: sums / parts, total),
            jax.tree.map(lambda values: values.sum(0), metrics),
            model_state,
        )

    return in_turn
