"""CDKD's distillation terms: SAPE's cosine distance and CCA, the cross-class alignment.

Each returns one value per example, `[B]`. Source: CDKD (arXiv 2405.11448) and its released code;
docs/methods/cdkd.md#projector-ensemble and docs/methods/cdkd.md#class-alignment. What the release
does not have is marked as ours.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdpose_jax.losses.shapes import require_same_shape

GROUPINGS = ("floor", "centred", "hat")
ORDERS = ("temper_then_sum", "lse")
MASKS = ("none", "visible")
REDUCTIONS = ("mean", "release")
EPSILON = 1e-8  # keeps lengths in the cosine above 0 (docs/methods/cdkd.md#projector-ensemble)


def projection_loss(
    projected: Float[Array, "B J H W"], teacher: Float[Array, "B J H W"]
) -> Float[Array, " B"]:
    """Computes 1 - cosine between the two sets of maps, all joints together, from 0 to 2.

    See docs/methods/cdkd.md#projector-ensemble.

    Args:
      projected: the student's maps in the teacher's size.
      teacher: the teacher's maps.
    """
    require_same_shape(projected, teacher)
    over = (1, 2, 3)

    def length(maps: Float[Array, "B J H W"]) -> Float[Array, " B"]:
        # The released code has no epsilon and gives NaN where every projection is zero.
        return jnp.sqrt(jnp.sum(jnp.square(maps), axis=over) + EPSILON**2)

    inner = jnp.sum(projected * teacher, axis=over)
    return 1 - inner / (length(projected) * length(teacher))


def grouping_matrix(kind: str, teacher_bins: int, student_bins: int) -> Float[np.ndarray, "T M"]:
    """Builds the matrix that shares the teacher's bins among the student's; rows sum to 1.

    Teacher bin t is at t / r of the student's bins, where r = T / M
    (docs/methods/cdkd.md#grouping).

    Args:
      kind: `floor` assigns t to bin floor(t / r), as released, which moves predictions up and left
        by up to half a bin. `centred` assigns it to the nearest bin. `hat` splits it linearly
        between the two bins around t / r, which keeps the mean except at the upper end. The last
        two are ours.
      teacher_bins: number T of the teacher's bins.
      student_bins: number M of the student's bins.

    Raises:
      ValueError: T is not a multiple of M, which `floor` and `centred` need.
    """
    if kind != "hat" and teacher_bins % student_bins:
        raise ValueError(f"{teacher_bins} bins cannot be grouped into {student_bins} by '{kind}'")
    ratio = teacher_bins // student_bins
    last, here = student_bins - 1, np.arange(teacher_bins)
    matrix = np.zeros((teacher_bins, student_bins))
    if kind == "hat":
        place = here * student_bins / teacher_bins
        below = np.floor(place).astype(int)
        np.add.at(matrix, (here, below), 1 - (place - below))
        np.add.at(matrix, (here, np.minimum(below + 1, last)), place - below)
    else:
        start = ratio // 2 if kind == "centred" else 0
        matrix[here, np.minimum((here + start) // ratio, last)] = 1
    return matrix


def aligned_log_target(
    logits: Float[Array, "B J T"],
    temperature: Float[Array, ""],
    grouping: Float[np.ndarray, "T M"],
    order: str,
) -> Float[Array, "B J M"]:
    """Computes log h, the teacher's softened distribution over the student's bins.

    Args:
      logits: the teacher's logits.
      temperature: T.
      grouping: the matrix from `grouping_matrix`.
      order: `temper_then_sum` groups softmax(logits / T), as released. `lse` takes log-sum-exp over
        each group and then divides by T (ours). They are equal at T = 1.
    """
    tiny = jnp.finfo(logits.dtype).tiny  # a group without mass gets the logarithm of this, not -inf
    if order == "lse":
        raised = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
        grouped = jnp.log(jnp.maximum(_grouped(raised, grouping), tiny))
        return jax.nn.log_softmax(grouped / temperature, axis=-1)
    softened = jax.nn.softmax(logits / temperature, axis=-1)
    return jnp.log(jnp.maximum(_grouped(softened, grouping), tiny))


def _grouped(
    mass: Float[Array, "B J T"], grouping: Float[np.ndarray, "T M"]
) -> Float[Array, "B J M"]:
    """Multiplies rows with the matrix, in full precision even on devices that default to less."""
    return jnp.einsum(
        "bjt,tm->bjm", mass, jnp.asarray(grouping, mass.dtype), precision=jax.lax.Precision.HIGHEST
    )


def alignment_loss(
    student: dict[str, Float[Array, "B J _"]],
    teacher: dict[str, Float[Array, "B J _"]],
    temperature: Float[Array, ""],
    *,
    grouping: str,
    order: str,
    reduction: str,
    weight: Float[Array, "B J"] | None,
    target_gradient: bool,
) -> Float[Array, " B"]:
    """Computes CCA: T^2 KL(h || softmax(student / T)) over the student's bins, x plus y.

    See docs/methods/cdkd.md#class-alignment.

    Args:
      student: logits of `x` and `y`, M bins each.
      teacher: logits of `x` and `y`, a multiple of M bins each.
      temperature: T.
      grouping: one of `GROUPINGS`.
      order: one of `ORDERS`.
      reduction: `mean` averages over joints (docs/methods/cdkd.md#class-alignment, ours). `release`
        follows the released code, which sums over batch, joints and axes and divides by M. The
        value of an example is then multiplied by B, so that the mean over the batch is that sum.
      weight: weight of every joint; None distils all joints alike, as released.
      target_gradient: whether h passes the temperature's gradient, as in CTKD. The released code
        stops it at h, and the remaining gradient can have the wrong sign. The teacher's logits
        never get a gradient.
    """
    total: Any = 0.0  # without a type of its own: the sum has the type of its terms
    for axis in ("x", "y"):
        bins = student[axis].shape[-1]
        matrix = grouping_matrix(grouping, teacher[axis].shape[-1], bins)
        log_target = aligned_log_target(
            jax.lax.stop_gradient(teacher[axis]), temperature, matrix, order
        )
        log_target = log_target if target_gradient else jax.lax.stop_gradient(log_target)
        log_student = jax.nn.log_softmax(student[axis] / temperature, axis=-1)
        divergence = jnp.sum(jnp.exp(log_target) * (log_target - log_student), axis=-1)
        total = total + (divergence / bins if reduction == "release" else divergence)
    total = jnp.square(temperature) * total
    if weight is not None:
        total = total * weight.astype(total.dtype)
    return total.sum(1) * total.shape[0] if reduction == "release" else total.mean(1)
