"""The state of a run at a step, which is created on the devices that it belongs to."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from kdpose_jax.contracts import Batch, Method
from kdpose_jax.train import sharding


@flax.struct.dataclass
class TrainState:
    """Everything that training changes. Teachers are not part of it.

    Attributes:
      step: number of steps taken so far.
      params: trained parameters.
      model_state: batch statistics.
      opt_state: the optimiser's state.
      ema: exponential moving average of `params`; None if the run has no average.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    ema: Any

    @property
    def evaluated_params(self) -> Any:
        """The parameters to evaluate and export: the average if there is one."""
        return self.params if self.ema is None else self.ema


def create(
    method: Method,
    optimizer: optax.GradientTransformation,
    example: Batch,
    key: jax.Array,
    *,
    with_ema: bool,
    mesh: jax.sharding.Mesh,
    fsdp: bool,
) -> TrainState:
    """Creates the state at step 0, each leaf on the devices that it belongs to.

    Args:
      method: the method to train.
      optimizer: its optimiser.
      example: a batch, for the shapes.
      key: the key of the initialisation.
      with_ema: whether the state has a moving average.
      mesh: the devices.
      fsdp: True lets devices share large arrays (`sharding.layout`); False copies all arrays to
        each of them.
    """
    initial = _initial(method, optimizer, with_ema)
    described = _described(initial, key, example, method, mesh=mesh, fsdp=fsdp)
    return jax.jit(initial, out_shardings=layout(described))(key, example)


def describe(
    method: Method,
    optimizer: optax.GradientTransformation,
    example: Batch,
    *,
    with_ema: bool,
    mesh: jax.sharding.Mesh,
    fsdp: bool,
) -> TrainState:
    """Returns the shapes, types and shardings of a state that `create` would make.

    A checkpoint is restored into them.

    The arguments are those of `create`. The devices of the mesh may be described only.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    initial = _initial(method, optimizer, with_ema)
    return _described(initial, key, example, method, mesh=mesh, fsdp=fsdp)


def _described(
    initial: Callable[[jax.Array, Batch], TrainState],
    key: Any,
    example: Batch,
    method: Method,
    *,
    mesh: jax.sharding.Mesh,
    fsdp: bool,
) -> TrainState:
    """Returns the shapes, types and shardings of what `initial` computes.

    JAX keeps what it traced, so that the same function is not traced again when it is compiled.
    """
    shapes = jax.eval_shape(initial, key, example)
    places = sharding.layout(shapes, mesh, fsdp=fsdp, shared_axes=method.shared_axes)
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, places
    )


def _initial(
    method: Method, optimizer: optax.GradientTransformation, with_ema: bool
) -> Callable[[jax.Array, Batch], TrainState]:
    """Returns what computes the state at step 0 from a key and a batch."""

    def initial(key: jax.Array, example: Batch) -> TrainState:
        params, model_state, _ = method.init(key, example)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=model_state,
            opt_state=optimizer.init(params),
            ema=jax.tree.map(jnp.copy, params) if with_ema else None,
        )

    return initial


def layout(state: TrainState) -> TrainState:
    """Returns the sharding of every leaf of a state."""
    return jax.tree.map(lambda x: x.sharding, state)
