"""Maps between a photograph and the square crop of one person, in closed form.

Pixels count from 0 at the centre of the first pixel. A box is a centre in pixels and a scale in
units of 200 pixels (HRNet).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UNIT = 200.0  # a scale of 1 is this many pixels
PADDING = 1.25  # a box grows by this factor before it is cut out
HALF_BODY_PADDING = 1.5
HALF_BODY_MIN_VISIBLE = 8  # a half body is cut only from a person with more visible joints


class Reach(NamedTuple):
    """How far augmentation can move a crop.

    Attributes:
      scale_factor: the crop is scaled by up to 1 + scale_factor.
      rotation_factor: the crop is turned by up to twice this many degrees.
      half_body: whether crops of half bodies are cut too.
    """

    scale_factor: float
    rotation_factor: float
    half_body: bool

    @property
    def extent(self) -> float:
        """Half the side of the upright square that holds every crop, in sides of the box.

        It is (1 + scale_factor) (cos t + sin t) / 2, where t is the angle, at most 45 degrees.
        """
        angle = math.radians(min(2 * self.rotation_factor, 45.0))
        return (1 + self.scale_factor) * (math.cos(angle) + math.sin(angle)) / 2

    def covers(self, other: "Reach") -> bool:
        """Tells whether this reach includes everything that `other` can reach."""
        return self.extent >= other.extent - 1e-9 and (self.half_body or not other.half_body)


NO_REACH = Reach(0.0, 0.0, False)


def crop_affine(
    center: np.ndarray, scale: np.ndarray, rotation: np.ndarray | float, size: int | tuple[int, int]
) -> np.ndarray:
    """Builds the map from photograph to crop, HRNet's get_affine_transform in closed form.

    p' = (W/a) R(t)^T (p - c) + (W/2, H/2); see docs/methods/pose2d.md#crops.

    Args:
      center: `[..., 2]`, pixels of the photograph.
      scale: `[..., 2]`, units of 200 pixels; only the first one sets the size, as in HRNet.
      rotation: `[...]`, degrees.
      size: side of a square crop, or its (width, height), pixels.

    Returns:
      `[..., 2, 3]` float64, to be applied to (x, y, 1).
    """
    width, height = (size, size) if isinstance(size, int | np.integer) else size
    center = np.asarray(center, np.float64)
    angle = np.radians(np.asarray(rotation, np.float64))
    ratio = width / (UNIT * np.asarray(scale, np.float64)[..., 0])
    cosine = ratio * np.cos(angle)
    sine = ratio * np.sin(angle)
    # (W/a) R(t)^T, [..., 2, 2]
    turn = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], -2)
    offset = np.asarray([width / 2, height / 2]) - np.einsum("...ij,...j->...i", turn, center)
    return np.concatenate([turn, offset[..., None]], -1)


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """Inverts an affine map. `[..., 2, 3]` in and out."""
    (a, b), (c, d) = np.moveaxis(np.asarray(matrix, np.float64)[..., :2], (-2, -1), (0, 1))
    adjugate = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2)
    turn = adjugate / (a * d - b * c)[..., None, None]
    offset = -np.einsum("...ij,...j->...i", turn, matrix[..., 2])
    return np.concatenate([turn, offset[..., None]], -1)


def mirror_affine(matrix: np.ndarray, width: np.ndarray | int) -> np.ndarray:
    """Turns a map to the mirrored photograph into one to the photograph: x -> width - 1 - x.

    Args:
      matrix: crop -> mirrored photograph, `[..., 2, 3]`.
      width: width of the photograph, `[...]`, pixels.

    Returns:
      Crop -> photograph, `[..., 2, 3]`.
    """
    mirrored = np.array(matrix, np.float64)
    mirrored[..., 0, :] *= -1
    mirrored[..., 0, 2] += np.asarray(width) - 1
    return mirrored


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Applies a map `[..., 2, 3]` to points `[..., N, 2]`; returns float64 of their shape."""
    points = np.asarray(points, np.float64)
    return points @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]


def flip_joints(
    joints: np.ndarray, visible: np.ndarray, permutation: Sequence[int], width: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    """Moves joints to where they are in the mirrored photograph (HRNet, fliplr_joints).

    x becomes width - 1 - x, left and right change places, and invisible joints become zero.

    Args:
      joints: `[..., J, 2]`, pixels.
      visible: `[..., J]`, booleans.
      permutation: `Skeleton.flip_permutation`, which swaps left and right.
      width: width of the photograph, `[...]`, pixels.

    Returns:
      Joints and visibility, with the shapes of the arguments.
    """
    order = np.asarray(permutation)
    joints = joints[..., order, :].copy()
    visible = visible[..., order]
    joints[..., 0] = np.asarray(width, joints.dtype)[..., None] - 1 - joints[..., 0]
    return joints * visible[..., None], visible


def enlarge(width: float, height: float, aspect: float) -> tuple[float, float]:
    """Lengthens the short side of a box until width = aspect * height (HRNet, _xywh2cs)."""
    return max(width, height * aspect), max(height, width / aspect)


def box_to_crop(box: Sequence[float], aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Converts a box (x, y, width, height) into a centre `[2]` and a scale `[2]`.

    The scale includes the padding of 1.25. Source: HRNet, coco.py; docs/methods/pose2d.md#coco.
    """
    x, y, width, height = box
    center = np.asarray([x + width * 0.5, y + height * 0.5])
    return center, np.asarray(enlarge(width, height, aspect)) / UNIT * PADDING


def half_body(
    joints: np.ndarray, visible: np.ndarray, upper_body: Sequence[int], draw: float, aspect: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Finds the box of the upper or lower half of the visible joints.

    Source: HRNet, half_body_transform; docs/methods/pose2d.md#augmentation.

    Args:
      joints: `[J, 2]`, pixels.
      visible: `[J]`, booleans.
      upper_body: numbers of the joints in the upper half.
      draw: a draw from the standard normal distribution; below 0.5 (69 % of the draws) the upper
        half is preferred, as in the released code.
      aspect: width / height of the crop.

    Returns:
      Centre `[2]` and scale `[2]`. None if neither half has two joints, or if its joints coincide.
    """
    in_upper = np.zeros(len(visible), bool)
    in_upper[list(upper_body)] = True
    upper = visible & in_upper
    lower = visible & ~in_upper
    if draw < 0.5 and upper.sum() > 2:
        half = upper
    else:
        half = lower if lower.sum() > 2 else upper
    if half.sum() < 2:
        return None
    selected = np.asarray(joints, np.float64)[half]
    width, height = selected.max(0) - selected.min(0)
    if max(width, height) <= 0:
        return None
    scale = np.asarray(enlarge(width, height, aspect)) / UNIT * HALF_BODY_PADDING
    return selected.mean(0), scale


def reachable_region(
    center: np.ndarray,
    scale: np.ndarray,
    joints: np.ndarray,
    visible: np.ndarray,
    upper_body: Sequence[int],
    photograph: tuple[int, int],
    reach: Reach,
) -> tuple[int, int, int, int] | None:
    """Finds the part of a photograph that crops of one person can sample, whatever is drawn.

    Crops are black outside the photograph, so the region is clipped to it. Mirroring needs no
    larger region: a mirrored crop is the mirror image of a crop that is turned the other way.

    Args:
      center: `[2]`, pixels.
      scale: `[2]`, units of 200 pixels.
      joints: `[J, 2]`, pixels.
      visible: `[J]`, booleans.
      upper_body: numbers of the joints in the upper half; read if `reach.half_body` is true.
      photograph: width and height of the photograph, pixels.
      reach: how far the augmentation can move a crop.

    Returns:
      (x, y, width, height), or None if no crop touches the photograph.
    """
    boxes = [(center, scale)]
    if reach.half_body and visible.sum() > HALF_BODY_MIN_VISIBLE:
        halves = (half_body(joints, visible, upper_body, draw, 1.0) for draw in (0.0, 1.0))
        boxes += [half for half in halves if half is not None]
    centers = np.asarray([box[0] for box in boxes], np.float64)
    extents = np.asarray([UNIT * box[1][0] for box in boxes], np.float64)[:, None] * reach.extent
    # Bilinear sampling also reads the next pixel. One more pixel on each side allows for rounding.
    low = np.maximum(np.floor((centers - extents).min(0)) - 1, 0).astype(int)
    high = np.minimum(np.ceil((centers + extents).max(0)) + 2, photograph).astype(int)
    if (high <= low).any():
        return None
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])
