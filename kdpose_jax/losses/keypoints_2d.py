"""Task losses of 2D pose.

`joint_loss` and `heatmap_error` return one value per example, and their mean over the batch is the
reference's loss. Sources: core/loss.py of SimCC, CDKD and HRNet;
docs/methods/pose2d.md#task-losses.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdpose_jax.losses.shapes import require_same_shape
from kdpose_jax.precision import float32_or_wider

FORMS = ("mean", "norm", "sum", "mean_gaussian", "gaussian")
GAUSSIAN_FORMS = ("mean_gaussian", "gaussian")  # their labels are Gaussians, not one smoothed bin


def smoothed_divergence(
    logits: Float[Array, "B J M"], bins: Int[Array, "B J"], *, smoothing: float
) -> Float[Array, "B J"]:
    """Computes KL(y || softmax), summed over the bins, for a smoothed label y.

    y is 1 - smoothing at the true bin and shares the rest equally among the other bins. Without
    smoothing, the result is the negative log likelihood.

    Args:
      logits: logits of one axis, M bins.
      bins: the true bins.
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
    """Sums target (log target - log softmax) over the bins.

    Bins whose target is zero add nothing. The target need not sum to 1.
    """
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
) -> Float[Array, " B"]:
    """Computes the loss of each example from its joints. Joints of weight 0 count in every mean.

    Args:
      x: divergence on the x axis, summed over its bins.
      y: divergence on the y axis, summed over its bins.
      weight: weight w of every joint.
      bins: number of bins of x and of y.
      form: `mean` and `mean_gaussian` average w (x + y) over the joints; this form is ours and
        inferred (docs/methods/pose2d.md#task-losses). `norm` and `gaussian` first divide each axis
        by its number of bins (NMTNORMCritierion, KLDiscretLoss). `sum` adds over the joints
        (NMTCritierion).
    """
    weight = weight.astype(x.dtype)
    if form in ("norm", "gaussian"):
        x, y = x / bins[0], y / bins[1]
    weighted = weight * (x + y)
    return weighted.sum(1) if form == "sum" else weighted.mean(1)


def heatmap_error(
    predicted: Float[Array, "B J H W"], target: Float[Array, "B J H W"], weight: Float[Array, "B J"]
) -> Float[Array, " B"]:
    """Computes half the mean over joints and cells of (w (predicted - target))^2.

    Source: HRNet, JointsMSELoss.
    """
    require_same_shape(predicted, target)
    weight = weight.astype(predicted.dtype)[..., None, None]
    difference = weight * (predicted - target.astype(predicted.dtype))
    return 0.5 * jnp.square(difference).mean((1, 2, 3))


def _log_softmax(logits: Array) -> Array:
    return jax.nn.log_softmax(float32_or_wider(logits), axis=-1)


def _check_axes(logits: Array, target: Array) -> None:
    if logits.shape[:2] != target.shape[:2] or target.shape[-1] not in (1, logits.shape[-1]):
        raise ValueError(
            f"logits of shape {logits.shape} do not fit a target of shape {target.shape}"
        )
