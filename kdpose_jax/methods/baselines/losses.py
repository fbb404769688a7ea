"""Four published distillation losses, on poses and joint embeddings.

Each returns one value per example, `[B]`. Where a paper's sum would grow with the width or the
number of frames, it is a mean here. The papers' image is a frame here, and their mini-batch is a
window. So each example has a loss of its own, as the trainer's means over examples require.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from kdpose_jax.losses.lifting import weighted_joint_error
from kdpose_jax.losses.shapes import require_same_shape
from kdpose_jax.precision import float32_or_wider


def output_loss(
    student: Float[Array, "B F J 3"],
    teacher: Float[Array, "B F J 3"],
    joint_weights: Float[np.ndarray, " J"],
) -> Float[Array, " B"]:
    """Computes the error against the teacher's output: the mean of w_j |P_S - P_T|.

    The mean is over frames and joints. Source: Hinton et al., "Distilling the Knowledge in a Neural
    Network", 2015, with the task's joint error in place of the cross entropy, as poses have no
    classes.

    Args:
      student: the student's poses in all frames, metres.
      teacher: the teacher's poses in all frames, metres.
      joint_weights: `Skeleton.loss_weights`.
    """
    return weighted_joint_error(student, teacher, joint_weights)


def hint_loss(guided: Float[Array, "B K J D"], hint: Float[Array, "B K J D"]) -> Float[Array, " B"]:
    """Computes L_HT = 1/2 |u_h(x) - r(v_g(x))|^2, a mean over frames, joints and channels.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, equation 3. There it
    trains the first half of the student before the task does. Here it is added to the task's loss
    from start to end.

    Args:
      guided: r(v_g(x)), the student's embeddings after the learned regressor.
      hint: u_h(x), the teacher's embeddings.
    """
    require_same_shape(guided, hint)
    return 0.5 * jnp.square(float32_or_wider(guided) - float32_or_wider(hint)).mean((1, 2, 3))


def activation_map(embeddings: Float[Array, "B K J C"]) -> Float[Array, "B K J"]:
    """Computes F_sum^2(A) = sum_c |A_c|^2: how active a layer is at each joint of a frame.

    Source: Zagoruyko and Komodakis, section 3.1.
    """
    return jnp.square(float32_or_wider(embeddings)).sum(-1)


def attention_loss(
    student: Float[Array, "B K P"], teacher: Float[Array, "B K P"]
) -> Float[Array, " B"]:
    """Computes L_AT of one layer: | Q_S / |Q_S| - Q_T / |Q_T| |^2, averaged over frames.

    It is from 0 to 2, as maps are not negative. Source: Zagoruyko and Komodakis, "Paying More
    Attention to Attention", ICLR 2017, equation 2, squared as in their released code.

    Args:
      student: Q_S, each frame's map as a vector.
      teacher: Q_T, each frame's map as a vector.
    """
    require_same_shape(student, teacher)
    return jnp.square(_unit(student) - _unit(teacher)).sum(-1).mean(1)


def _unit(maps: Float[Array, "B K P"]) -> Float[Array, "B K P"]:
    return maps / jnp.maximum(jnp.linalg.norm(maps, axis=-1, keepdims=True), 1e-12)


def relation_losses(
    student: Float[Array, "B K C"], teacher: Float[Array, "B K D"]
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Computes Huber's losses of distances between frames and of angles between three frames.

    psi_D(t_i, t_j) = |t_i - t_j| / mu, where mu is the mean distance of all pairs.
    psi_A(t_i, t_j, t_k) is the cosine of the angle at t_j. Source: Park et al., "Relational
    Knowledge Distillation", CVPR 2019, section 3.2. All triples have K^3 cosines per example.

    Args:
      student: an embedding of every frame; K is at least 3.
      teacher: an embedding of the same frames, of any width.

    Returns:
      L_RKD-D and L_RKD-A, the means over all pairs and over all triples of different frames.
    """
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            f"embeddings of shapes {student.shape} and {teacher.shape} are not of the same frames"
        )
    frames = student.shape[1]
    pairs = frames * (frames - 1)
    potentials = []
    for embeddings in (student, teacher):
        products = _products(float32_or_wider(embeddings))
        distances = _distances(products)
        mean = distances.sum((1, 2), keepdims=True) / pairs
        potentials.append((distances / jnp.maximum(mean, 1e-12), _cosines(products, distances)))
    (distances, cosines), (target_distances, target_cosines) = potentials
    # Pairs and triples in which a frame occurs twice are equal in both networks, and add nothing.
    by_distance = optax.losses.huber_loss(distances, target_distances).sum((1, 2)) / pairs
    by_angle = optax.losses.huber_loss(cosines, target_cosines).sum((1, 2, 3))
    return by_distance, by_angle / (pairs * (frames - 2))


def _products(embeddings: Float[Array, "B K D"]) -> Float[Array, "B K K"]:
    """Multiplies all pairs, after subtraction of the mean, which saves digits later."""
    centred = embeddings - embeddings.mean(1, keepdims=True)
    return jnp.einsum("bid,bjd->bij", centred, centred, precision=jax.lax.Precision.HIGHEST)


def _distances(products: Float[Array, "B K K"]) -> Float[Array, "B K K"]:
    """Computes |t_i - t_j|, with a zero gradient (not NaN) where it is zero."""
    squares = jnp.diagonal(products, axis1=1, axis2=2)
    squared = squares[:, :, None] + squares[:, None] - 2 * products
    zero = squared <= 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


def _cosines(
    products: Float[Array, "B K K"], distances: Float[Array, "B K K"]
) -> Float[Array, "B K K K"]:
    """Computes cosines of angles at t_j from t_i to t_k, `[B, j, i, k]`; 0 where two coincide."""
    squares = jnp.diagonal(products, axis1=1, axis2=2)[:, :, None, None]
    # <t_i - t_j, t_k - t_j>
    inner = products[:, None] - products[:, :, :, None] - products[:, :, None] + squares
    lengths = distances[:, :, :, None] * distances[:, :, None]
    return jnp.where(lengths == 0, 0.0, inner / jnp.where(lengths == 0, 1.0, lengths))
