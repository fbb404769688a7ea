"""Task losses of 3D pose lifting. Each returns one value per example; the caller averages."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdpose_jax.losses.shapes import require_same_shape


def pose_distance(
    first: Float[Array, "B F J 3"], second: Float[Array, "B F J 3"]
) -> Float[Array, "B F J"]:
    """Computes every joint's Euclidean distance, with zero gradient (not NaN) where it is 0."""
    require_same_shape(first, second)
    squared = jnp.sum(jnp.square(first - second), axis=-1)
    zero = squared == 0  # not "above zero", so that NaN stays NaN
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


def weighted_joint_error(
    predicted: Float[Array, "B F J 3"],
    target: Float[Array, "B F J 3"],
    joint_weights: Float[np.ndarray, " J"],
) -> Float[Array, " B"]:
    """Computes L_W, the mean over frames and joints of the weighted distance (MixSTE, run.py).

    See docs/methods/lifting.md#task-loss.
    """
    weights = _per_joint(joint_weights, predicted.dtype)
    return jnp.mean(weights[None, None] * pose_distance(predicted, target), axis=(1, 2))


def smoothness(
    predicted: Float[Array, "B F J 3"], joint_weights: Float[np.ndarray, " J"]
) -> Float[Array, " B"]:
    """Computes L_TC, the mean of weighted squared frame differences (MixSTE, run.py).

    The mean is over frames, joints and coordinates.
    """
    weights = _per_joint(joint_weights, predicted.dtype)
    squared = jnp.square(jnp.diff(predicted, axis=1))
    return jnp.mean(weights[None, None, :, None] * squared, axis=(1, 2, 3))


def velocity_error(
    predicted: Float[Array, "B F J 3"], target: Float[Array, "B F J 3"]
) -> Float[Array, " B"]:
    """Computes L_V, the mean distance of frame differences.

    Source: MixSTE, common/loss.py, mean_velocity_error_train.
    """
    require_same_shape(predicted, target)
    distance = pose_distance(jnp.diff(predicted, axis=1), jnp.diff(target, axis=1))
    return jnp.mean(distance, axis=(1, 2))


def lifting_loss(
    predicted: Float[Array, "B F J 3"],
    target: Float[Array, "B F J 3"],
    *,
    joint_weights: Float[np.ndarray, " J"],
    smoothness_weight: float,
    velocity_weight: float,
) -> tuple[Float[Array, " B"], dict[str, Float[Array, " B"]]]:
    """Computes MixSTE's task loss: L_W + smoothness_weight L_TC + velocity_weight L_V.

    Args:
      predicted: metres, relative to the root.
      target: metres, relative to the root.
      joint_weights: `Skeleton.loss_weights`.
      smoothness_weight: 0.5 in the released code.
      velocity_weight: 2.0 in the released code.

    Returns:
      The total, and the three unweighted terms by name.
    """
    terms = {
        "joint_error": weighted_joint_error(predicted, target, joint_weights),
        "smoothness": smoothness(predicted, joint_weights),
        "velocity_error": velocity_error(predicted, target),
    }
    total = (
        terms["joint_error"]
        + smoothness_weight * terms["smoothness"]
        + velocity_weight * terms["velocity_error"]
    )
    return total, terms


def _per_joint(joint_weights: np.ndarray, dtype: jnp.dtype) -> Array:
    return jnp.asarray(np.asarray(joint_weights), dtype)
