"""From a person's box to the square that a network sees, and back: affines in closed form, boxes, and what of a photograph they reach.

Pixels count from 0 at the centre of the first pixel. A box is a centre in pixels and a scale in units of 200 pixels (HRNet).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UNIT = 200.0  # pixels of a scale of one
PADDING = 1.25  # a box is enlarged by this before it is cut out
HALF_BODY_PADDING = 1.5
HALF_BODY_MIN_VISIBLE = 8  # more than so many visible joints are needed


class Reach(NamedTuple):
    """How far augmentation moves a crop: scales by up to 1 + scale_factor, turns by up to 2 rotation_factor degrees, cuts half bodies."""

    scale_factor: float
    rotation_factor: float
    half_body: bool

    @property
    def extent(self) -> float:
        """Half the side of the upright square that holds every crop, in sides of the box: (1 + sf) (cos t + sin t) / 2, t <= 45 degrees."""
        angle = math.radians(min(2 * self.rotation_factor, 45.0))
        return (1 + self.scale_factor) * (math.cos(angle) + math.sin(angle)) / 2

    def covers(self, other: "Reach") -> bool:
        """Whether all that `other` can reach is within this reach."""
        return self.extent >= other.extent - 1e-9 and (self.half_body or not other.half_body)


NO_REACH = Reach(0.0, 0.0, False)


def crop_affine(
    center: np.ndarray, scale: np.ndarray, rotation: np.ndarray | float, size: int | tuple[int, int]
) -> np.ndarray:
    """Photograph -> crop, the closed form of HRNet's get_affine_transform.

    p' = (W/a) R(t)^T (p - c) + (W/2, H/2): docs/methods/pose2d.md#crops.

    Args:
      center: `[..., 2]` pixels of the photograph.
      scale: `[..., 2]` units of 200 pixels; as in HRNet, only the first sets the size.
      rotation: `[...]` degrees.
      size: side of a square crop, or its (width, height), pixels.

    Returns:
      `[..., 2, 3]` float64: maps (x, y, 1).
    """
    width, height = (size, size) if isinstance(size, int | np.integer) else size
    center, angle = np.asarray(center, np.float64), np.radians(np.asarray(rotation, np.float64))
    ratio = width / (UNIT * np.asarray(scale, np.float64)[..., 0])
    cosine, sine = ratio * np.cos(angle), ratio * np.sin(angle)
    turn = np.stack(
        [np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], -2
    )  # [..., 2, 2], R(t)^T
    offset = np.asarray([width / 2, height / 2]) - np.einsum("...ij,...j->...i", turn, center)
    return np.concatenate([turn, offset[..., None]], -1)


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """The inverse of an affine map. `[..., 2, 3]` in and out."""
    (a, b), (c, d) = np.moveaxis(np.asarray(matrix, np.float64)[..., :2], (-2, -1), (0, 1))
    turn = (
        np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2)
        / (a * d - b * c)[..., None, None]
    )
    return np.concatenate(
        [turn, -np.einsum("...ij,...j->...i", turn, matrix[..., 2])[..., None]], -1
    )


def mirror_affine(matrix: np.ndarray, width: np.ndarray | int) -> np.ndarray:
    """Crop -> mirrored photograph turned into crop -> photograph as it is: x becomes width - 1 - x.

    Args:
      matrix: `[..., 2, 3]`, crop -> mirrored photograph.
      width: `[...]` of the photograph, pixels.

    Returns:
      `[..., 2, 3]`.
    """
    mirrored = np.array(matrix, np.float64)
    mirrored[..., 0, :] *= -1
    mirrored[..., 0, 2] += np.asarray(width) - 1
    return mirrored


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Applies an affine map: points `[..., N, 2]`, matrix `[..., 2, 3]` -> `[..., N, 2]` float64."""
    points = np.asarray(points, np.float64)
    return points @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]


def flip_joints(
    joints: np.ndarray, visible: np.ndarray, permutation: Sequence[int], width: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    """Joints in the mirrored photograph (HRNet, fliplr_joints): x -> width - 1 - x, pairs swapped, invisible ones zero.

    Args:
      joints: `[..., J, 2]` pixels.
      visible: `[..., J]` booleans.
      permutation: of a skeleton, swaps left and right.
      width: `[...]` of the photograph, pixels.

    Returns:
      Joints and visibility, shaped as they came.
    """
    order = np.asarray(permutation)
    joints, visible = joints[..., order, :].copy(), visible[..., order]
    joints[..., 0] = np.asarray(width, joints.dtype)[..., None] - 1 - joints[..., 0]
    return joints * visible[..., None], visible


def enlarge(width: float, height: float, aspect: float) -> tuple[float, float]:
    """Lengthens the short side of a box until width = aspect * height (HRNet, _xywh2cs)."""
    return max(width, height * aspect), max(height, width / aspect)


def box_to_crop(box: Sequence[float], aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Box (x, y, width, height) -> centre `[2]` and scale `[2]`, padded by 1.25 (HRNet, coco.py).

    See docs/methods/pose2d.md#coco.
    """
    x, y, width, height = box
    center = np.asarray([x + width * 0.5, y + height * 0.5])
    return center, np.asarray(enlarge(width, height, aspect)) / UNIT * PADDING


def half_body(
    joints: np.ndarray, visible: np.ndarray, upper_body: Sequence[int], draw: float, aspect: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """The box of the upper or the lower half of the visible joints (HRNet, half_body_transform).

    See docs/methods/pose2d.md#augmentation.

    Args:
      joints: `[J, 2]` pixels.
      visible: `[J]` booleans.
      upper_body: joints of the upper half.
      draw: from a normal distribution, as released: below 0.5 (69 % of cases) the upper half.
      aspect: width / height of the crop.

    Returns:
      Centre `[2]` and scale `[2]`, or None where no half has two joints or its joints are in one place.
    """
    in_upper = np.zeros(len(visible), bool)
    in_upper[list(upper_body)] = True
    upper, lower = visible & in_upper, visible & ~in_upper
    if draw < 0.5 and upper.sum() > 2:
        chosen = upper
    else:
        chosen = lower if lower.sum() > 2 else upper
    if chosen.sum() < 2:
        return None
    selected = np.asarray(joints, np.float64)[chosen]
    width, height = selected.max(0) - selected.min(0)
    if max(width, height) <= 0:
        return None
    return selected.mean(0), np.asarray(enlarge(width, height, aspect)) / UNIT * HALF_BODY_PADDING


def reachable_region(
    center: np.ndarray,
    scale: np.ndarray,
    joints: np.ndarray,
    visible: np.ndarray,
    upper_body: Sequence[int],
    photograph: tuple[int, int],
    reach: Reach,
) -> tuple[int, int, int, int] | None:
    """The part of a photograph that square crops of one person can sample, whatever is drawn.

    Crops outside the photograph are black, so the region is clipped to it. A mirrored photograph needs no more: the crop is
    the mirror image of one turned the other way.

    Args:
      center: `[2]` pixels.
      scale: `[2]` units of 200 pixels.
      joints: `[J, 2]` pixels.
      visible: `[J]` booleans.
      upper_body: joints of the upper half; read if `reach.half_body`.
      photograph: its (width, height), pixels.
      reach: of the augmentation.

    Returns:
      (x, y, width, height), or None where no crop touches the photograph.
    """
    boxes = [(center, scale)]
    if reach.half_body and visible.sum() > HALF_BODY_MIN_VISIBLE:
        halves = (half_body(joints, visible, upper_body, draw, 1.0) for draw in (0.0, 1.0))
        boxes += [half for half in halves if half is not None]
    centers = np.asarray([box[0] for box in boxes], np.float64)
    extents = np.asarray([UNIT * box[1][0] for box in boxes], np.float64)[:, None] * reach.extent
    # Bilinear sampling reads the next pixel too; one more on each side is for rounding.
    low = np.maximum(np.floor((centers - extents).min(0)) - 1, 0).astype(int)
    high = np.minimum(np.ceil((centers + extents).max(0)) + 2, photograph).astype(int)
    if (high <= low).any():
        return None
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])
