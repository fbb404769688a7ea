"""What the protocols of 2D pose share: the choice of persons, and predictions on crops brought back to the photograph."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int

from kdpose_jax.codecs import crops
from kdpose_jax.data.persons import Persons
from kdpose_jax.errors import UserError

Prediction = Mapping[str, np.ndarray]
Score = Callable[[Prediction], dict[str, float]]


def table_entry(flip: bool) -> str:
    """The entry of a record that the table shows."""
    return "flip" if flip else "plain"


def flip_words(flip: bool) -> str:
    """How predictions were made, for `conditions`."""
    return f"{'with' if flip else 'without'} test-time flip, in float32"


def check_flip(flip: object) -> None:
    """Raises UserError unless the setting says yes or no."""
    if not isinstance(flip, bool):
        raise UserError(f"eval.settings.flip is {flip!r}: set it to True or False.")


def photograph_joints(
    prediction: Prediction, persons: Persons, chosen: Int[np.ndarray, "N"], side: int
) -> Float[np.ndarray, "N J 2"]:
    """Checks the predictions on unrotated square crops and maps them to the photographs.

    The map is the inverse of docs/methods/pose2d.md#crops.
    A broken network must not pass for a bad one, so NaN stops the evaluation and does not count as wrong.

    Args:
      prediction: {"joints": pixels of the crops `[N, J, 2]`, "scores": `[N, J]`}.
      persons: whom the crops come from.
      chosen: their numbers.
      side: of the crops, pixels.

    Returns:
      Photograph pixels, 0-based, float64.

    Raises:
      UserError: a NaN or infinite coordinate or score.
      ValueError: shapes that do not fit.
    """
    _check_prediction(prediction, persons, chosen)
    affine = crops.crop_affine(
        persons.center[chosen], persons.scale[chosen], np.zeros(len(chosen)), (side, side)
    )  # [N, 2, 3]
    return crops.transform_points(
        np.asarray(prediction["joints"], np.float64), crops.invert_affine(affine)
    )


def _check_prediction(prediction: Prediction, persons: Persons, chosen: np.ndarray) -> None:
    """Raises unless there is a finite pose for every chosen person."""
    count, joints = len(chosen), persons.skeleton.num_joints
    shapes = {name: prediction[name].shape for name in ("joints", "scores")}
    if shapes != {"joints": (count, joints, 2), "scores": (count, joints)}:
        raise ValueError(
            f"a prediction of {shapes} holds no poses of {count} persons with {joints} joints"
        )
    for name in shapes:
        bad = np.flatnonzero(~np.isfinite(prediction[name]).reshape(count, -1).all(-1))
        if bad.size:
            first = chosen[bad[0]]
            raise UserError(
                f"The predicted {name} of person {persons.person_id[first]} in '{persons.file[first]}' and of {bad.size - 1} more are NaN "
                "or infinite: check the checkpoint that they come from."
            )
