"""Computes errors of root-relative 3D poses, per frame and by Human3.6M's protocol.

Everything is computed on the host in float64. Equations: docs/methods/lifting.md#metrics.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Float

from kdpose_jax.errors import UserError

Array = np.ndarray

# Frames per batched SVD. It bounds the memory of P-MPJPE to about 15 MB and costs no speed.
_FRAMES_PER_CHUNK = 8192

# A pose whose size is at most this fraction of its largest coordinate has no shape to align.
_DEGENERATE = 1e-9


def joint_errors(
    predicted: Float[Array, "*frames J 3"], target: Float[Array, "*frames J 3"]
) -> Float[Array, "*frames J"]:
    """Computes the Euclidean distance of every joint, in the unit of the input.

    Raises:
      ValueError: the shapes differ or are not `[..., J, 3]`.
    """
    _check_shapes(predicted, target)
    return np.linalg.norm(
        np.asarray(predicted, np.float64) - np.asarray(target, np.float64), axis=-1
    )


def _check_shapes(predicted: Array, target: Array) -> None:
    if predicted.shape != target.shape or predicted.ndim < 2 or predicted.shape[-1] != 3:
        raise ValueError(
            f"predicted {predicted.shape} and target {target.shape} must be of one shape [..., J, "
            "3]"
        )


def mpjpe_per_frame(
    predicted: Float[Array, "*frames J 3"], target: Float[Array, "*frames J 3"]
) -> Float[Array, "*frames"]:
    """Computes the mean distance over the joints of a frame (protocol 1), in the input's unit."""
    return joint_errors(predicted, target).mean(-1)


def n_mpjpe_per_frame(
    predicted: Float[Array, "*frames J 3"], target: Float[Array, "*frames J 3"]
) -> Float[Array, "*frames"]:
    """Computes MPJPE after the best scaling of each predicted frame (protocol 3, N-MPJPE).

    A predicted frame that is zero everywhere is not scaled. See docs/methods/lifting.md#metrics.
    """
    _check_shapes(predicted, target)
    predicted, target = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    power = np.sum(predicted**2, axis=(-2, -1), keepdims=True)
    scale = np.sum(predicted * target, axis=(-2, -1), keepdims=True) / np.where(power > 0, power, 1)
    return mpjpe_per_frame(scale * predicted, target)


def p_mpjpe_per_frame(
    predicted: Float[Array, "*frames J 3"], target: Float[Array, "*frames J 3"]
) -> Float[Array, "*frames"]:
    """Computes MPJPE after the best rotation, scale and shift of each predicted frame.

    This is protocol 2, P-MPJPE (docs/methods/lifting.md#metrics). Mirroring is not allowed. If the
    predicted or the true joints of a frame coincide, the prediction shrinks to the centre of the
    target.

    Args:
      predicted: poses in any unit.
      target: poses in the same unit.

    Returns:
      The error of every frame, in the same unit.

    Raises:
      ValueError: the shapes differ or are not `[..., J, 3]`.
    """
    _check_shapes(predicted, target)
    frames = predicted.shape[:-2]
    predicted = predicted.reshape(-1, *predicted.shape[-2:])  # [N, J, 3]
    target = target.reshape(predicted.shape)
    errors = np.empty(len(predicted))
    for start in range(0, len(predicted), _FRAMES_PER_CHUNK):
        chunk = slice(start, start + _FRAMES_PER_CHUNK)
        aligned = procrustes_align(predicted[chunk], target[chunk])
        errors[chunk] = mpjpe_per_frame(aligned, target[chunk])
    return errors.reshape(frames)


def procrustes_align(
    predicted: Float[Array, "N J 3"], target: Float[Array, "N J 3"]
) -> Float[Array, "N J 3"]:
    """Aligns each predicted frame with its target by least-squares rotation, scale and shift."""
    unit_predicted, _, _ = _centre_and_normalise(predicted)
    unit_target, norm_target, centre_target = _centre_and_normalise(target)
    # H = U S V^T; `right` is V^T.
    left, singular, right = np.linalg.svd(unit_target.swapaxes(1, 2) @ unit_predicted)
    rotation = right.swapaxes(1, 2) @ left.swapaxes(1, 2)  # V U^T, applied from the right
    # A reflection becomes the best rotation if the weakest direction is turned around.
    sign = np.sign(np.linalg.det(rotation))
    right[:, -1] *= sign[:, None]
    singular[:, -1] *= sign
    rotation = right.swapaxes(1, 2) @ left.swapaxes(1, 2)
    scale = singular.sum(-1)[:, None, None] * norm_target  # the prediction has norm 1 already
    return scale * (unit_predicted @ rotation) + centre_target


def _centre_and_normalise(pose: Array) -> tuple[Array, Array, Array]:
    """Brings poses to centre 0 and Frobenius norm 1, or 0 if degenerate.

    Returns:
      The poses `[N, J, 3]`, their former norms `[N, 1, 1]` and their former centres `[N, 1, 3]`.
    """
    pose = np.asarray(pose, np.float64)
    centre = pose.mean(1, keepdims=True)
    centred = pose - centre
    norm = np.sqrt(np.sum(centred**2, axis=(1, 2), keepdims=True))
    norm = np.where(norm > _DEGENERATE * np.abs(pose).max(axis=(1, 2), keepdims=True), norm, 0.0)
    unit = np.where(norm > 0, centred, 0.0) / np.where(norm > 0, norm, 1.0)
    return unit, norm, centre


def velocity_error_per_step(
    predicted: Float[Array, "*batch F J 3"], target: Float[Array, "*batch F J 3"]
) -> Float[Array, "*batch F-1"]:
    """Computes the mean distance of frame-to-frame differences (MPJVE), input unit per frame."""
    return mpjpe_per_frame(_difference(predicted, 1), _difference(target, 1))


def acceleration_error_per_step(
    predicted: Float[Array, "*batch F J 3"], target: Float[Array, "*batch F J 3"]
) -> Float[Array, "*batch F-2"]:
    """Computes the mean distance of second differences, in the input's unit per squared frame."""
    return mpjpe_per_frame(_difference(predicted, 2), _difference(target, 2))


def _difference(pose: Array, order: int) -> Array:
    return np.diff(np.asarray(pose, np.float64), n=order, axis=-3)


@dataclasses.dataclass(frozen=True)
class SequencePoses:
    """Holds one sequence with its prediction, in metres.

    Attributes:
      action: the group whose scores are averaged first.
      predicted: `[F, J, 3]`, root-relative.
      target: `[F, J, 3]`, root-relative.
      frame_mask: whether each frame counts, `[F]`.
    """

    action: str
    predicted: Float[Array, "F J 3"]
    target: Float[Array, "F J 3"]
    frame_mask: Bool[Array, " F"]


class Scores(TypedDict):
    """Scores of a data set, as plain values for JSON.

    Attributes:
      per_action: action -> {"mpjpe_mm": mean over its frames, ..., "frames": frames that count}.
      mean_over_actions: metric -> unweighted mean over the actions, the protocol's figure.
      mean_over_frames: metric -> mean over all frames.
      frames: number of frames that count.

    A metric is None for an action that has no value of it, for example no velocity because no two
    neighbouring frames count. The mean over actions leaves such an action out.
    """

    per_action: dict[str, dict[str, float | int | None]]
    mean_over_actions: dict[str, float | None]
    mean_over_frames: dict[str, float | None]
    frames: int


# Name -> (function, number of frames that one of its values spans).
_METRICS: Mapping[str, tuple[Callable[[Array, Array], Array], int]] = {
    "mpjpe": (mpjpe_per_frame, 1),
    "p_mpjpe": (p_mpjpe_per_frame, 1),
    "n_mpjpe": (n_mpjpe_per_frame, 1),
    "mpjve": (velocity_error_per_step, 2),
    "acceleration": (acceleration_error_per_step, 3),
}


def score_sequences(
    sequences: Iterable[SequencePoses],
    *,
    metrics: Sequence[str] = ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve", "acceleration"),
) -> Scores:
    """Scores predictions per action and over all frames.

    Velocity and acceleration use only steps whose frames all count, within one sequence.

    Args:
      sequences: poses in metres. They are read one by one, so a generator keeps memory low.
      metrics: any of "mpjpe", "p_mpjpe", "n_mpjpe", "mpjve", "acceleration".

    Returns:
      The scores in millimetres (velocity: mm per frame, acceleration: mm per squared frame).

    Raises:
      UserError: no frame counts, or a frame that counts is NaN or infinite.
      ValueError: shapes do not fit, or a metric is not known.
    """
    unknown = [name for name in metrics if name not in _METRICS]
    if unknown:
        raise ValueError(f"unknown metrics {unknown}, there are {sorted(_METRICS)}")
    actions, values, frames = [], [], []
    for number, sequence in enumerate(sequences):
        actions.append(sequence.action)
        values.append(_sequence_values(sequence, number, metrics))
        frames.append(int(np.sum(sequence.frame_mask)))
    return aggregate(values, actions, frames)


def _sequence_values(
    sequence: SequencePoses, number: int, metrics: Sequence[str]
) -> dict[str, Array]:
    """Computes the values of one sequence that count: metric -> `[values]`, metres."""
    mask = np.asarray(sequence.frame_mask, bool)
    if mask.shape != sequence.target.shape[:1] or sequence.predicted.shape != sequence.target.shape:
        raise ValueError(
            f"sequence {number}: predicted {sequence.predicted.shape}, target "
            f"{sequence.target.shape} and frame_mask {mask.shape} do not fit"
        )
    for name, pose in (("predicted", sequence.predicted), ("target", sequence.target)):
        bad = np.flatnonzero(mask & ~np.isfinite(pose).all(axis=(1, 2)))
        if bad.size:
            raise UserError(
                f"The {name} pose of sequence {number} ({sequence.action}) is NaN or infinite in "
                f"frame {bad[0]} and {bad.size - 1} more: check the checkpoint or the records that "
                "it comes from."
            )
    # Frames that do not count may have any values. Zeros raise no warnings.
    predicted = np.where(mask[:, None, None], sequence.predicted, 0.0)
    target = np.where(mask[:, None, None], sequence.target, 0.0)
    values = {}
    for name in metrics:
        function, span = _METRICS[name]
        if len(mask) < span:
            values[name] = np.empty(0)
            continue
        counted = np.lib.stride_tricks.sliding_window_view(mask, span).all(-1)
        values[name] = function(predicted, target)[counted]
    return values


def aggregate(
    values: Sequence[Mapping[str, Float[Array, " values"]]],
    actions: Sequence[str],
    frames: Sequence[int],
) -> Scores:
    """Averages values over the frames of each action, and then over actions of equal weight.

    Args:
      values: for each sequence, metric -> its values that count, metres.
      actions: the action of each sequence.
      frames: the number of frames that count in each sequence.

    Returns:
      The scores in millimetres.

    Raises:
      UserError: no frame counts.
    """
    if sum(frames) == 0:
        raise UserError(
            "No frame counts in the evaluation: check frame_mask and the chosen split of the data "
            "set."
        )
    per_action = {}
    for action in sorted(set(actions)):
        members = [index for index, name in enumerate(actions) if name == action]
        count = sum(frames[index] for index in members)
        if count:
            per_action[action] = _means_mm([values[index] for index in members]) | {"frames": count}
    mean_over_frames = _means_mm(values)
    mean_over_actions = {}
    for name in mean_over_frames:
        known = [value for row in per_action.values() if (value := row[name]) is not None]
        mean_over_actions[name] = float(np.mean(known)) if known else None
    return Scores(
        per_action=per_action,
        mean_over_actions=mean_over_actions,
        mean_over_frames=mean_over_frames,
        frames=sum(frames),
    )


def _means_mm(values: Sequence[Mapping[str, Array]]) -> dict[str, float | None]:
    """Averages each metric over all sequences, metres -> millimetres; None without values."""
    pooled = {name: np.concatenate([sequence[name] for sequence in values]) for name in values[0]}
    return {
        f"{name}_mm": float(1000 * array.mean()) if array.size else None
        for name, array in pooled.items()
    }
