"""Measures how strongly each term of a loss pulls at the student.

The measure is the norm of the term's gradient, at the start and at the end of a run.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from etils import epath

from kdpose_jax import files
from kdpose_jax.contracts import Batch, Method
from kdpose_jax.experiment import configs
from kdpose_jax.train.state import TrainState


def term_norms(
    method: Method,
) -> Callable[[TrainState, Any, Batch, jax.Array], dict[str, jax.Array]]:
    """Makes the function that measures a method's terms. It compiles at its first call.

    Args:
      method: a method that has `terms`.

    Returns:
      (state, teachers, batch, key of the step) -> the global norm of every weighted term's gradient
      with respect to the student's parameters. It is exactly zero if a term cannot move the
      student.
    """

    @jax.jit
    def norms(state: TrainState, frozen: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        def terms(student: Any) -> dict[str, jax.Array]:
            params = {**state.params, "student": student}
            assert method.terms is not None  # only a method with teachers is measured
            return method.terms(
                params, state.model_state, jax.lax.stop_gradient(frozen), batch, key, state.step
            )

        values, pull_back = jax.vjp(terms, state.params["student"])
        units = {
            name: {
                other: jnp.asarray(other == name, value.dtype) for other, value in values.items()
            }
            for name in values
        }
        return {name: optax.tree.norm(pull_back(unit)[0]) for name, unit in units.items()}

    return norms


def is_whole(path: epath.Path) -> bool:
    """Returns whether a report has both measurements.

    A run may have been killed between its last step and the second measurement.
    """
    return path.exists() and set(configs.read_json(path)) == {"start", "end"}


def write(path: epath.Path, when: str, norms: dict[str, float]) -> None:
    """Adds one measurement ("start" or "end") to a report."""
    report = configs.read_json(path) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, report | {when: norms})
