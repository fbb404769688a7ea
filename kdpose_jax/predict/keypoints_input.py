"""Checks a user's 2D keypoints in memory, and turns them into screen units."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdpose_jax.codecs import poses
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import Skeleton

# Screen units lie around -1 to 1; joints outside the picture a little beyond.
LARGEST_ON_SCREEN = 10.0
# Pixels from the corner within which all joints of a person lie only if they are not in pixels.
FEWEST_PIXELS = 2.0


def prepare(
    keypoints_2d: Any, size: tuple[int, int] | None, skeleton: Skeleton, name: str
) -> np.ndarray:
    """Checks keypoints and converts them to screen units.

    Args:
      keypoints_2d: `[T, J, 2]` or `[B, T, J, 2]`, or a mapping of every joint's name to `[T, 2]` or
        `[B, T, 2]`; pixels with `size`, screen units without.
      size: width and height of the video, pixels.
      skeleton: the network's joints.
      name: the network's name, for error messages.

    Returns:
      The keypoints in the layout's order, float32, screen units, with the axes that were given.

    Raises:
      UserError: they are not keypoints of these joints, are not finite, or have another unit.
    """
    if isinstance(keypoints_2d, Mapping):
        keypoints_2d = _in_order(keypoints_2d, skeleton, name)
    points = _numbers(keypoints_2d)
    _check_axes(points, skeleton, name)
    points = points.astype(np.float64)
    if not np.isfinite(points).all():
        raise UserError(_not_finite(points, skeleton))
    largest = float(np.abs(points).max())
    if size is None:
        if largest > LARGEST_ON_SCREEN:
            raise UserError(
                f"keypoints_2d has values up to {largest:.6g}, which are not screen units (x from "
                "-1 to 1): give pixels together with size=(width, height)."
            )
        return points.astype(np.float32)
    width, height = _size(size)
    if largest <= FEWEST_PIXELS < min(width, height):
        raise UserError(
            f"keypoints_2d has values up to {largest:.3g}, which are not pixels of a picture of "
            f"{width} x {height}: leave size out for screen units, or multiply values from 0 to 1 "
            "by width and height."
        )
    return np.asarray(poses.normalize_screen(points, width, height), np.float32)


def _in_order(named: Mapping[Any, Any], skeleton: Skeleton, name: str) -> np.ndarray:
    """Stacks joints by their names, in the layout's order."""
    missing = [joint for joint in skeleton.joints if joint not in named]
    unknown = [joint for joint in named if joint not in skeleton.joints]
    if missing or unknown:
        said = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(map(str, unknown))}"
        raise UserError(
            f"keypoints_2d {said}, and '{name}' reads the joints of {skeleton.name}: give exactly "
            f"{', '.join(skeleton.joints)}."
        )
    arrays = [_numbers(named[joint], f"keypoints_2d['{joint}']") for joint in skeleton.joints]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim < 2 or arrays[0].shape[-1] != 2:
        raise UserError(
            f"keypoints_2d has joints of the shapes {sorted(shapes)}: give each as [frames, 2]."
        )
    return np.stack(arrays, axis=-2)


def _numbers(values: Any, place: str = "keypoints_2d") -> np.ndarray:
    """Returns an array of real numbers."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise UserError(
            f"{place} is not an array ({error}): give [frames, joints, 2] numbers."
        ) from error
    if array.dtype.kind not in "iuf":
        raise UserError(
            f"{place} holds values of type {array.dtype}: give [frames, joints, 2] numbers."
        )
    return array


def _check_axes(points: np.ndarray, skeleton: Skeleton, name: str) -> None:
    """Refuses arrays that are not `[T, J, 2]` or `[B, T, J, 2]`; the sentence guesses why."""
    joints, shape = skeleton.num_joints, points.shape
    wanted = f"[frames, {joints}, 2] or [batch, frames, {joints}, 2]"
    if points.ndim in (3, 4) and shape[-2:] == (joints, 2):
        if 0 in shape:
            raise UserError(f"keypoints_2d has shape {shape}: give at least one frame.")
        return
    remedy = f"give {wanted}, with the joints {', '.join(skeleton.joints)}"
    if points.dtype == np.uint8 and shape[-1:] == (3,):
        why = f", which is a picture, and '{name}' lifts 2D keypoints"
        remedy = "find the keypoints first, for example with a network for pictures"
    elif shape == (joints, 2):
        why, remedy = ", which is a single frame", "give keypoints_2d[None]"
    elif points.ndim in (3, 4) and shape[-2:] == (joints, 3):
        why, remedy = ", whose last axis seems to hold scores", "give keypoints_2d[..., :2]"
    elif points.ndim in (3, 4) and shape[-2:] == (2, joints):
        why = ", whose last two axes are exchanged"
        remedy = "give keypoints_2d.swapaxes(-1, -2)"
    elif points.ndim in (3, 4) and shape[-1] == 2 and shape[-3] == joints:
        why = ", whose frames and joints are exchanged"
        remedy = "give keypoints_2d.swapaxes(-2, -3)"
    elif points.ndim in (3, 4) and shape[-1] == 2:
        why = f", which is {shape[-2]} joints, and '{name}' reads the {joints} of {skeleton.name}"
    else:
        why = ""
    raise UserError(f"keypoints_2d has shape {shape}{why}: {remedy}.")


def _not_finite(points: np.ndarray, skeleton: Skeleton) -> str:
    """Says where the first value is that is not finite, and how many there are."""
    bad = np.argwhere(~np.isfinite(points).all(-1))
    *_, frame, joint = bad[0]
    return (
        f"keypoints_2d has NaN or infinity in {len(bad)} place(s), first in frame {frame}, joint "
        f"'{skeleton.joints[joint]}': interpolate missing joints first, or use `kdpose predict`, "
        "which does so up to a stated gap."
    )


def _size(size: Any) -> tuple[int, int]:
    """Returns width and height, which must be positive whole numbers."""
    try:
        width, height = (int(value) for value in size)
        whole = (width, height) == tuple(size)
    except (TypeError, ValueError):
        whole, width, height = False, 0, 0
    if not whole or min(width, height) < 1:
        raise UserError(
            f"size is {size!r}: give the video's width and height in pixels, such as (1920, 1080)."
        )
    return width, height
