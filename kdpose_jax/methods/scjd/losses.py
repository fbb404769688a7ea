"""The distillation terms of SCJD. Every loss returns one value per example, `[B]`.

The paper's equations were not available. Each term is our design from the abstract, inferred, with
its alternatives as named options (docs/methods/scjd.md#joint-embedding to
docs/methods/scjd.md#temporal-consistency).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdpose_jax.losses.lifting import pose_distance, weighted_joint_error
from kdpose_jax.losses.shapes import require_same_shape
from kdpose_jax.models.keyframes import take_frames
from kdpose_jax.precision import float32_or_wider

CONTEXTS = ("dynamic", "mean", "keyframe")
ATTENTION_KINDS = ("mse", "kl", "full", "hop2")
STILL = 0.01  # metres; a joint that moves less than this has almost no motion correlation
# Of products in float32. By default they have the precision of bfloat16 on a TPU.
_EXACT = jax.lax.Precision.HIGHEST


def context_weights(
    embeddings: Float[Array, "B F J C"],
    keyframes: Int[Array, "*B K"],
    *,
    context: str,
    reach: int,
    temperature: float,
) -> Float[Array, "B K J F"]:
    """Weighs the frames around each keyframe for the teacher's multi-frame context, per joint.

    Args:
      embeddings: the teacher's dense embeddings E.
      keyframes: frame numbers s_k.
      context: `dynamic` takes the softmax over the frames m of cos(E[s_k, j], E[m, j]) /
        temperature, so that a still joint averages over many frames and a fast joint over few.
        `mean` weighs the frames equally. `keyframe` takes the keyframe alone.
      reach: w, the number of frames to either side.
      temperature: temperature of the softmax.

    Returns:
      Weights alpha_{k,m,j} over all F frames m. They are zero outside s_k - w .. s_k + w, and each
      row sums to 1.
    """
    batch, frames, joints, _ = embeddings.shape
    numbers = jnp.expand_dims(jnp.arange(frames), range(keyframes.ndim))
    away = jnp.abs(numbers - keyframes[..., None])  # [*B, K, F]
    away = (away[None] if away.ndim == 2 else away)[:, :, None]  # [B or 1, K, 1, F]
    embeddings = float32_or_wider(embeddings)
    if context == "dynamic":
        unit = embeddings / jnp.maximum(jnp.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)
        here = take_frames(unit, keyframes)
        scores = jnp.einsum("bkjc,bmjc->bkjm", here, unit, precision=_EXACT) / temperature
    else:
        scores = jnp.zeros((batch, keyframes.shape[-1], joints, frames), embeddings.dtype)
    inside = away <= (0 if context == "keyframe" else reach)
    return jax.nn.softmax(jnp.where(inside, scores, -jnp.inf), axis=-1)


def gather_context(
    values: Float[Array, "B F J ..."], weights: Float[Array, "B K J F"]
) -> Float[Array, "B K J ..."]:
    """Sums dense values around each keyframe by weight: C_{k,j} = sum_m alpha_{k,m,j} E[m, j].

    The sum runs over all frames, although most weights are zero: a product of matrices is cheaper
    than a gather for each of the 2 w + 1 frames that count.
    """
    values = float32_or_wider(values)
    return jnp.einsum("bkjm,bmj...->bkj...", weights, values, precision=_EXACT)


def layer_norm(values: Float[Array, "*S C"]) -> Float[Array, "*S C"]:
    """Applies LN0, layer normalisation without affine parameters."""
    values = float32_or_wider(values)
    centred = values - values.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)


def embedding_loss(
    projected: Float[Array, "B K J C"],
    context: Float[Array, "B K J C"],
    joint_weights: Float[Array, "B K J"] | None,
) -> Float[Array, " B"]:
    """Computes DJED for one layer, the mean squared difference after LN0.

    It is from 0 to 4, and about 2 for unrelated features.

    Args:
      projected: the student's embeddings, projected to the teacher's width.
      context: the teacher's multi-frame context.
      joint_weights: motion weights with mean 1; None weighs all joints equally.
    """
    require_same_shape(projected, context)
    squared = jnp.square(layer_norm(projected) - layer_norm(context)).mean(-1)
    return (squared if joint_weights is None else squared * joint_weights).mean((1, 2))


def motion_weights(
    keypoints_2d: Float[Array, "B F J 2"], keyframes: Int[Array, "*B K"], reach: int
) -> Float[Array, "B K J"]:
    """Computes omega_{k,j}, the input's mean speed near a keyframe, scaled to mean 1 per window."""
    speed = jnp.linalg.norm(jnp.diff(keypoints_2d, axis=1), axis=-1)  # [B, F - 1, J]
    shifts = jnp.expand_dims(jnp.arange(-reach, reach + 1), range(keyframes.ndim))
    position = keyframes[..., None] + shifts  # [..., K, D]
    inside = ((position >= 0) & (position < speed.shape[1])).astype(speed.dtype)
    near = jnp.stack(
        [take_frames(speed, position[..., column]) for column in range(2 * reach + 1)], axis=-1
    )
    inside = (inside[None] if inside.ndim == 2 else inside)[:, :, None]
    omega = jnp.sum(near * inside, axis=-1) / jnp.maximum(jnp.sum(inside, axis=-1), 1.0)
    return omega / jnp.maximum(omega.mean((1, 2), keepdims=True), 1e-12)


def adjacency(hops: np.ndarray, kind: str) -> np.ndarray:
    """Builds A~, the weights of pairs of joints, `[J, J]`.

    Args:
      hops: `Skeleton.hops()`, the number of bones between two joints, `[J, J]`.
      kind: `mse` and `kl` have 1 for a joint with itself and for the ends of a bone. `hop2` adds
        0.5 for joints that are two bones apart. `full` has 1 for every pair.
    """
    if kind == "full":
        return np.ones_like(hops, np.float64)
    near = (hops <= 1).astype(np.float64)
    return near + 0.5 * (hops == 2) if kind == "hop2" else near


def attention_loss(
    student: Float[Array, "B K A J J"],
    teacher: Float[Array, "B K A J J"],
    adjacent: Float[np.ndarray, "J J"],
    kind: str,
) -> Float[Array, " B"]:
    """Computes AJAD for one layer, the mean over frames and heads.

    Args:
      student: attention probabilities; rows are queries.
      teacher: attention probabilities of the same shape.
      adjacent: A~.
      kind: `mse`, `full` and `hop2` sum A~ times the squared difference, and divide by the sum of
        A~. `kl` restricts rows to the neighbourhood and renormalises them. It is KL(teacher ||
        student) plus the squared difference between the masses of the restricted rows.
    """
    require_same_shape(student, teacher)
    near = jnp.asarray(adjacent, student.dtype)[None, None, None]
    if kind != "kl":
        squared = jnp.sum(near * jnp.square(student - teacher), axis=(3, 4))
        return squared.mean((1, 2)) / adjacent.sum()
    mass_student = jnp.sum(near * student, axis=-1, keepdims=True)
    mass_teacher = jnp.sum(near * teacher, axis=-1, keepdims=True)
    log_student = jnp.log(student + 1e-9) - jnp.log(mass_student + 1e-9)
    log_teacher = jnp.log(teacher + 1e-9) - jnp.log(mass_teacher + 1e-9)
    divergence = jnp.sum(near * jnp.exp(log_teacher) * (log_teacher - log_student), axis=-1)
    mass = jnp.square(mass_teacher - mass_student)[..., 0]
    return (divergence + mass).mean((1, 2, 3))


def motion_correlation(pose: Float[Array, "B F J 3"]) -> Float[Array, "B J F F"]:
    """Computes Gamma, how the positions of each joint in any two frames of a window correlate.

    Let c_t be a joint's position in frame t minus its mean over the window. Then

        Gamma_{t,t'} = <c_t, c_t'> / (|c_t|_s |c_t'|_s),  |c|_s^2 = |c|^2 + s^2,  s = 1 cm.

    It is the cosine for a joint that moves much further than s. It falls smoothly to 0 for a joint
    that hardly moves, whose direction would be noise, and its gradient is at most of the order
    1 / s. The root does not move, so that its Gamma is 0. Our design, inferred:
    docs/methods/scjd.md#temporal-consistency.

    Args:
      pose: metres, relative to the root.
    """
    pose = float32_or_wider(pose)
    moved = (pose - pose.mean(1, keepdims=True)).swapaxes(1, 2)  # [B, J, F, 3]
    squared = jnp.sum(jnp.square(moved), axis=-1, keepdims=True) + STILL**2
    direction = moved * jax.lax.rsqrt(squared)
    return jnp.einsum("bjtc,bjuc->bjtu", direction, direction, precision=_EXACT)


def correlation_loss(
    student: Float[Array, "B F J 3"], teacher: Float[Array, "B F J 3"]
) -> Float[Array, " B"]:
    """Computes the mean squared difference of Gamma over joints and pairs of frames."""
    require_same_shape(student, teacher)
    difference = motion_correlation(student) - motion_correlation(teacher)
    return jnp.square(difference).mean((1, 2, 3))


def temporal_loss(
    student: Float[Array, "B F J 3"],
    teacher: Float[Array, "B F J 3"],
    joint_weights: Float[np.ndarray, " J"],
    velocity_weight: float,
    correlation_weight: float,
    truth: Float[Array, "B F J 3"] | None = None,
) -> Float[Array, " B"]:
    """Computes TCD: the distance to the teacher's poses, velocities and motion correlation.

    Args:
      student: the student's poses in all frames that it predicts, after upsampling.
      teacher: the teacher's poses in these frames.
      joint_weights: `Skeleton.loss_weights`.
      velocity_weight: beta_v, the weight of the distance between frame differences.
      correlation_weight: beta_c, the weight of `correlation_loss`.
      truth: the true poses; a joint or a frame difference then counts only where the teacher is
        nearer to the truth than the student. None counts everything. The correlation always counts.
    """
    target = teacher if truth is None else where_nearer(student, teacher, truth)
    total = weighted_joint_error(student, target, joint_weights)
    if velocity_weight:
        moved, motion = jnp.diff(student, axis=1), jnp.diff(teacher, axis=1)
        if truth is not None:
            motion = where_nearer(moved, motion, jnp.diff(truth, axis=1))
        total = total + velocity_weight * pose_distance(moved, motion).mean((1, 2))
    if correlation_weight:
        total = total + correlation_weight * correlation_loss(student, teacher)
    return total


def where_nearer(
    student: Float[Array, "B F J 3"],
    teacher: Float[Array, "B F J 3"],
    truth: Float[Array, "B F J 3"],
) -> Float[Array, "B F J 3"]:
    """Takes the teacher where it is nearer to the truth than the student, else the student.

    The student's own values have no gradient.
    """
    nearer = pose_distance(teacher, truth) < pose_distance(student, truth)
    return jnp.where(nearer[..., None], teacher, jax.lax.stop_gradient(student))
