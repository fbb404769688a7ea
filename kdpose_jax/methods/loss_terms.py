"""Makes the functions `loss` and `terms` of a method whose loss is a sum of weighted terms."""

from collections.abc import Callable

import jax

from kdpose_jax.contracts import Batch, Metrics, Tree


def as_metrics(per_example: dict[str, jax.Array]) -> Metrics:
    """Reduces per-example values `[B]` to (sum, count) pairs."""
    return {
        name: (values.sum(), jax.numpy.asarray(values.size, values.dtype))
        for name, values in per_example.items()
    }


def from_terms(
    all_terms: Callable[
        [Tree, Tree, Tree, Batch, jax.Array, jax.Array],
        tuple[dict[str, jax.Array], dict[str, jax.Array], Tree],
    ],
) -> tuple[Callable, Callable]:
    """Makes `Method.loss` and `Method.terms` from one function, so that they agree.

    Args:
      all_terms: takes the arguments of `Method.loss`, and returns the weighted terms by name, whose
        sum is the loss; further metrics by name; and the new model_state. Terms and metrics are
        `[B]`.

    Returns:
      (loss, terms). The loss has the metrics `loss`, `task`, `weighted_NAME` for every other term,
      and the further metrics.
    """

    def loss(params, model_state, frozen, batch, key, step):
        weighted, shown, state = all_terms(params, model_state, frozen, batch, key, step)
        total = sum(weighted.values())
        named = {
            name if name == "task" else f"weighted_{name}": value
            for name, value in weighted.items()
        }
        return total.mean(), (as_metrics({"loss": total, **shown, **named}), state)

    def terms(params, model_state, frozen, batch, key, step):
        weighted, _, _ = all_terms(params, model_state, frozen, batch, key, step)
        return {name: value.mean() for name, value in weighted.items()}

    return loss, terms
