"""Checks predictions on crops and maps them to the photographs, for the 2D protocols."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int

from kdpose_jax.codecs import crops
from kdpose_jax.data.persons import Persons
from kdpose_jax.errors import UserError

Prediction = Mapping[str, np.ndarray]
Score = Callable[[Prediction], dict[str, float]]


def photograph_joints(
    prediction: Prediction, persons: Persons, numbers: Int[np.ndarray, " N"], side: int
) -> Float[np.ndarray, "N J 2"]:
    """Checks the predictions on unrotated square crops, and maps them to the photographs.

    The map is the inverse of docs/methods/pose2d.md#crops. NaN stops the evaluation: if it counted
    as wrong, a broken network would look like a bad one.

    Args:
      prediction: {"joints": `[N, J, 2]`, pixels of the crops, "scores": `[N, J]`}.
      persons: the persons of the split.
      numbers: numbers of the persons that the crops show.
      side: side of the crops, pixels.

    Returns:
      Joints in photograph pixels, which count from 0, float64.

    Raises:
      UserError: a coordinate or a score is NaN or infinite.
      ValueError: shapes do not fit.
    """
    _check_prediction(prediction, persons, numbers)
    rotation = np.zeros(len(numbers))
    affine = crops.crop_affine(
        persons.center[numbers], persons.scale[numbers], rotation, (side, side)
    )
    joints = np.asarray(prediction["joints"], np.float64)
    return crops.transform_points(joints, crops.invert_affine(affine))


def _check_prediction(prediction: Prediction, persons: Persons, numbers: np.ndarray) -> None:
    """Raises unless there is a finite pose for each of these persons."""
    count, joints = len(numbers), persons.skeleton.num_joints
    shapes = {name: prediction[name].shape for name in ("joints", "scores")}
    if shapes != {"joints": (count, joints, 2), "scores": (count, joints)}:
        raise ValueError(
            f"a prediction of {shapes} holds no poses of {count} persons with {joints} joints"
        )
    for name in shapes:
        bad = np.flatnonzero(~np.isfinite(prediction[name]).reshape(count, -1).all(-1))
        if bad.size:
            first = numbers[bad[0]]
            raise UserError(
                f"The predicted {name} of person {persons.person_id[first]} in "
                f"'{persons.file[first]}' and of {bad.size - 1} more are NaN or infinite: check "
                "the checkpoint that they come from."
            )
