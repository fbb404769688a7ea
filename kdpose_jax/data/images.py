"""Decodes pictures, cuts crops of persons out of them, and augments the persons' boxes.

Randomness is a pure function of (seed, pass, example).
"""

import dataclasses

import cv2
import numpy as np

from kdpose_jax.codecs import crops

# Persons are spread over threads, which OpenCV's own would only disturb.
cv2.setNumThreads(0)

ROTATION_PROBABILITY = 0.6  # HRNet, JointsDataset.py
FLIP_PROBABILITY = 0.5


def decode(encoded: np.ndarray) -> np.ndarray | None:
    """Decodes a JPEG or PNG file. The orientation in its EXIF data is ignored, as in HRNet.

    Args:
      encoded: the file's bytes, `[N]` uint8.

    Returns:
      The picture, `[H, W, 3]` uint8 RGB; None if the file is damaged.
    """
    try:
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def warp(picture: np.ndarray, sampled: np.ndarray, size: int) -> np.ndarray:
    """Samples a square crop bilinearly. It is black outside the picture.

    OpenCV 5 rounds the exact value. OpenCV 4 quantises sample positions.

    Args:
      picture: the picture, `[H, W, 3]` uint8.
      sampled: maps the crop to the picture, `[2, 3]`.
      size: side S of the crop, pixels.

    Returns:
      The crop, `[S, S, 3]` uint8.
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        picture, sampled, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Says how training crops vary (HRNet, JointsDataset.py; docs/methods/pose2d.md#augmentation).

    Attributes:
      seed: the run's seed.
      scale_factor: the scale is multiplied by 1 + scale_factor times a normal draw, clipped at one
        scale_factor.
      rotation_factor: degrees by which a normal draw is multiplied, clipped at twice as many. In
        40 % of the cases a crop is not rotated.
      flip: whether half of the photographs are mirrored.
      half_body_probability: probability of cutting out half of a person with more than 8 visible
        joints.
    """

    seed: int
    scale_factor: float
    rotation_factor: float
    flip: bool
    half_body_probability: float

    @property
    def reach(self) -> crops.Reach:
        return crops.Reach(self.scale_factor, self.rotation_factor, self.half_body_probability > 0)


@dataclasses.dataclass(frozen=True)
class Views:
    """The boxes of B crops.

    Attributes:
      center: centre of each box before the photograph is mirrored, `[B, 2]`, pixels.
      scale: size of each box, `[B, 2]`, units of 200 pixels.
      rotation: rotation of each box, `[B]`, degrees.
      flipped: whether the photograph is mirrored, `[B]`.
    """

    center: np.ndarray
    scale: np.ndarray
    rotation: np.ndarray
    flipped: np.ndarray


def draw(
    augmentation: Augmentation,
    passes: np.ndarray,
    examples: np.ndarray,
    center: np.ndarray,
    scale: np.ndarray,
    joints: np.ndarray,
    visible: np.ndarray,
    upper_body: tuple[int, ...],
) -> Views:
    """Draws the boxes of training crops: half body, scale, rotation, flip, in the released order.

    Every example takes the same number of draws whatever is switched on, so that one setting does
    not change what another draws.

    Args:
      augmentation: the settings.
      passes: number of the pass over the data that each example is read in, `[B]`.
      examples: numbers of the examples, `[B]`.
      center: centre of each annotated box, `[B, 2]`, pixels.
      scale: size of each annotated box, `[B, 2]`, units of 200 pixels.
      joints: `[B, J, 2]`, pixels.
      visible: whether each joint is visible, `[B, J]`.
      upper_body: numbers of the joints in the upper half.

    Returns:
      The boxes of the crops.
    """
    center, scale = center.astype(np.float64), scale.astype(np.float64)
    uniform, normal = np.empty((len(examples), 3)), np.empty((len(examples), 3))
    for row, (number, example) in enumerate(zip(passes, examples, strict=True)):
        # The counter's last word keeps examples apart from each other and, by its 1, from the
        # shuffle of data/order.py.
        bits = np.random.Philox(
            key=[augmentation.seed, int(number)], counter=[0, 0, 0, int(example) + 1]
        )
        generator = np.random.Generator(bits)
        uniform[row], normal[row] = generator.random(3), generator.standard_normal(3)
    enough = visible.sum(1) > crops.HALF_BODY_MIN_VISIBLE
    halved = enough & (uniform[:, 0] < augmentation.half_body_probability)
    for row in np.flatnonzero(halved).tolist():
        half = crops.half_body(joints[row], visible[row], upper_body, normal[row, 0], 1.0)
        if half is not None:
            center[row], scale[row] = half
    factor, degrees = augmentation.scale_factor, augmentation.rotation_factor
    scale *= np.clip(1 + factor * normal[:, 1], 1 - factor, 1 + factor)[:, None]
    rotation = np.where(
        uniform[:, 1] <= ROTATION_PROBABILITY,
        np.clip(degrees * normal[:, 2], -2 * degrees, 2 * degrees),
        0.0,
    )
    return Views(center, scale, rotation, (uniform[:, 2] <= FLIP_PROBABILITY) & augmentation.flip)


def sampling_affines(
    views: Views, photograph_width: np.ndarray, region_corner: np.ndarray, size: int
) -> np.ndarray:
    """Builds the maps from crops to the stored regions of their photographs, for `warp`.

    Args:
      views: the boxes of the crops.
      photograph_width: width of each photograph, `[B]`, pixels.
      region_corner: x and y of each region in its photograph, `[B, 2]`, pixels.
      size: side of the crops, pixels.

    Returns:
      The maps, `[B, 2, 3]` float64.
    """
    sampled = crops.invert_affine(_photograph_affines(views, photograph_width, size))
    sampled = np.where(
        views.flipped[:, None, None], crops.mirror_affine(sampled, photograph_width), sampled
    )
    sampled[..., 2] -= region_corner
    return sampled


def joints_in_crops(
    views: Views,
    joints: np.ndarray,
    visible: np.ndarray,
    permutation: tuple[int, ...],
    photograph_width: np.ndarray,
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Maps joints from photographs to crops.

    Args:
      views: the boxes of the crops.
      joints: `[B, J, 2]`, pixels of the photograph.
      visible: whether each joint is visible, `[B, J]`.
      permutation: `Skeleton.flip_permutation`, which swaps left and right.
      photograph_width: width of each photograph, `[B]`, pixels.
      size: side of the crops, pixels.

    Returns:
      Joints `[B, J, 2]`, pixels of the crop, (0, 0) where not visible; and weights `[B, J]`, 1
      where visible, even outside the crop. Both are float32.
    """
    mirrored, swapped = crops.flip_joints(
        joints.astype(np.float64), visible, permutation, photograph_width
    )
    joints = np.where(views.flipped[:, None, None], mirrored, joints)
    visible = np.where(views.flipped[:, None], swapped, visible)
    moved = crops.transform_points(joints, _photograph_affines(views, photograph_width, size))
    return np.where(visible[..., None], moved, 0.0).astype(np.float32), visible.astype(np.float32)


def _photograph_affines(views: Views, photograph_width: np.ndarray, size: int) -> np.ndarray:
    """Builds the maps from photographs, mirrored where the view is, to crops, `[B, 2, 3]`."""
    center = views.center.copy()
    center[:, 0] = np.where(views.flipped, photograph_width - 1 - center[:, 0], center[:, 0])
    return crops.crop_affine(center, views.scale, views.rotation, size)
