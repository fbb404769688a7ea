"""Task losses of 2D pose. Every function returns one value per example, whose mean over the batch is the reference's loss.

Sources: SimCC and CDKD, core/loss.py; HRNet, core/loss.py; docs/methods/pose2d.md#task-losses.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

FORMS = ("mean", "norm", "sum", "mean_gaussian", "gaussian")
GAUSSIAN_FORMS = ("mean_gaussian", "gaussian")  # whose label is a Gaussian, not one smoothed bin


def smoothed_divergence(
    logits: Float[Array, "B J M"], bins: Int[Array, "B J"], *, smoothing: float
) -> Float[Array, "B J"]:
    """KL(y || softmax), summed over the bins; y is 1 - smoothing at the true bin, the rest spread evenly over the others.

    With no smoothing it is the negative log likelihood.

    Args:
      logits: of one axis, M bins.
      bins: the true ones.
      smoothing: from 0 to below 1.
    """
    _check_axes(logits, bins[..., None])
    log_probabilities = _log_softmax(logits)
    others = logits.shape[-1] - 1
    here = jnp.arange(others + 1, dtype=bins.dtype).reshape(1, 1, -1) == bins[..., None]
    log_true = jnp.sum(jnp.where(here, log_probabilities, 0.0), axis=-1)
    negative_entropy = (1 - smoothing) * math.log(1 - smoothing)
    if not smoothing:
        return negative_entropy - log_true
    share = smoothing / others
    negative_entropy += smoothing * math.log(share)
    log_others = jnp.sum(log_probabilities, axis=-1) - log_true
    return negative_entropy - (1 - smoothing) * log_true - share * log_others


def divergence(logits: Float[Array, "B J M"], target: Float[Array, "B J M"]) -> Float[Array, "B J"]:
    """Sum over the bins of target (log target - log softmax), zero where the target is; it need not sum to 1."""
    _check_axes(logits, target)
    log_probabilities = _log_softmax(logits)
    target = target.astype(log_probabilities.dtype)
    return jnp.sum(jax.scipy.special.xlogy(target, target) - target * log_probabilities, axis=-1)


def joint_loss(
    x: Float[Array, "B J"],
    y: Float[Array, "B J"],
    weight: Float[Array, "B J"],
    *,
    bins: tuple[int, int],
    form: str,
) -> Float[Array, "B"]:
    """The loss of an example from the divergences of its joints. Joints of weight 0 count in every mean.

    Args:
      x: divergence of the x axis, summed over its bins.
      y: of the y axis.
      weight: of every joint.
      bins: how many the two axes have.
      form: `mean`, `mean_gaussian`: mean over joints of w (x + y), our form, inferred
        (docs/methods/pose2d.md#task-losses); `norm`, `gaussian`: each axis is divided by its bins
        before (NMTNORMCritierion, KLDiscretLoss); `sum`: summed over joints (NMTCritierion).

    Returns:
      `[B]`.
    """
    weight = weight.astype(x.dtype)
    if form in ("norm", "gaussian"):
        x, y = x / bins[0], y / bins[1]
    weighted = weight * (x + y)
    return weighted.sum(1) if form == "sum" else weighted.mean(1)


def heatmap_error(
    predicted: Float[Array, "B J H W"], target: Float[Array, "B J H W"], weight: Float[Array, "B J"]
) -> Float[Array, "B"]:
    """Half the mean over joints and cells of (w (predicted - target))^2 (HRNet: JointsMSELoss)."""
    if predicted.shape != target.shape:
        raise ValueError(
            f"heatmaps of shapes {predicted.shape} and {target.shape} cannot be compared"
        )
    difference = weight.astype(predicted.dtype)[..., None, None] * (
        predicted - target.astype(predicted.dtype)
    )
    return 0.5 * jnp.square(difference).mean((1, 2, 3))


def _log_softmax(logits: Array) -> Array:
    return jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), axis=-1)


def _check_axes(logits: Array, target: Array) -> None:
    if logits.shape[:2] != target.shape[:2] or target.shape[-1] not in (1, logits.shape[-1]):
        raise ValueError(
            f"logits of shape {logits.shape} do not fit a target of shape {target.shape}"
        )
