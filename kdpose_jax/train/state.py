"""What a run is at a step, created sharded."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from kdpose_jax.contracts import Batch, Method
from kdpose_jax.train import sharding


@flax.struct.dataclass
class TrainState:
    """Everything that training changes; the teacher is not in it.

    Attributes:
      step: steps taken so far.
      params: trained variables.
      model_state: batch statistics.
      opt_state: of the optimiser.
      ema: exponential moving average of `params`; None where the run keeps none.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    ema: Any

    @property
    def evaluated_params(self) -> Any:
        """What is evaluated and shipped: the average where there is one."""
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
    """The state at step 0, every leaf created where it belongs.

    Args:
      method: the method.
      optimizer: its optimiser.
      example: a batch, for the shapes.
      key: of the initialisation.
      with_ema: keep an average.
      mesh: the devices.
      fsdp: they share large arrays (`sharding.layout`); otherwise each keeps a copy of everything.
    """

    def initial(key: jax.Array, example: Batch) -> TrainState:
        params, model_state, _ = method.init(key, example)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=model_state,
            opt_state=optimizer.init(params),
            ema=jax.tree.map(jnp.copy, params) if with_ema else None,
        )

    places = sharding.layout(
        jax.eval_shape(initial, key, example), mesh, fsdp=fsdp, shared_axes=method.shared_axes
    )
    return jax.jit(initial, out_shardings=places)(key, example)


def layout(state: TrainState) -> TrainState:
    """The sharding of every leaf of a state."""
    return jax.tree.map(lambda x: x.sharding, state)


def abstract(state: TrainState) -> TrainState:
    """Shapes, types and shardings of a state: what a checkpoint is restored into."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
