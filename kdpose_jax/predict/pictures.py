"""A network that finds joints in pictures of persons: numpy in, numpy out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdpose_jax.codecs import crops
from kdpose_jax.data import images
from kdpose_jax.errors import UserError
from kdpose_jax.predict import batching
from kdpose_jax.predict.description import Description
from kdpose_jax.predict.network import DescribedNetwork

PIXELS_AT_ONCE = 2**18  # in one call of the network, which bounds its memory
LARGEST_SIDE = 32_000  # of a picture; OpenCV cuts crops from pictures up to 32,767 pixels

# A picture `[H, W, 3]`, and the centre `[2]` and the scale `[2]` of a crop; see `crops`.
_View = tuple[np.ndarray, np.ndarray, np.ndarray]


class Found(NamedTuple):
    """The joints that were found.

    Attributes:
      joints: where they are, `[N, J, 2]` float32, pixels of the picture, which count from 0 at the
        centre of the first one.
      scores: how certain the network is, `[N, J]` float32.
    """

    joints: np.ndarray
    scores: np.ndarray


class PictureNetwork(DescribedNetwork):
    """Finds the joints of persons in crops, or in boxes of a picture."""

    units = "pixels"

    def __init__(
        self,
        description: Description,
        compute: Callable[[np.ndarray], tuple[np.ndarray, ...]],
        notes: tuple[str, ...] = (),
        *,
        compute_with_flip: Callable[[np.ndarray], tuple[np.ndarray, ...]] | None = None,
    ):
        """Makes a network for pictures.

        Args:
          description: what the network reads and returns.
          compute: crops `[N, S, S, 3]` uint8 -> joints `[N, J, 2]`, pixels of the crop, and scores
            `[N, J]`.
          notes: sentences for `notes`.
          compute_with_flip: as `compute`, merged with the prediction for the mirrored crop; None if
            the network cannot do so.
        """
        super().__init__(description, notes)
        self._compute, self._compute_with_flip = compute, compute_with_flip
        self._largest = max(1, PIXELS_AT_ONCE // description.side**2)

    def __call__(self, pictures: Any, *, boxes: Any = None, flip: bool = False) -> Found:
        """Finds joints.

        Args:
          pictures: without `boxes`, crops of one person each: `[N, H, W, 3]`, a list of
            `[H, W, 3]` of any sizes, or one `[H, W, 3]`. With `boxes`, one picture `[H, W, 3]`.
            uint8, RGB.
          boxes: boxes of N persons in the picture, `[N, 4]`, pixels: left, top, width, height, as
            in COCO. Each grows by a quarter, as in training.
          flip: whether to merge with the prediction for the mirrored crop, which takes twice the
            time. Scores in the literature are made so.

        Returns:
          Joints in the pixels of the picture that was given, and scores. One crop without a batch
          gives `[J, 2]` and `[J]`.

        Raises:
          UserError: they are not pictures, a box is not one, or an exported network cannot flip.
        """
        if flip and self._compute_with_flip is None:
            raise UserError(
                f"flip is True, and '{self.description.name}' is an exported network, which holds "
                "the plain prediction alone: leave flip out, or load the checkpoint."
            )
        _refuse_keypoints(pictures, self.description.name)
        if boxes is not None:
            picture = _picture(pictures)
            checked = _boxes(boxes)
            views = [(picture, *crops.box_to_crop(box, 1.0)) for box in checked.tolist()]
            return self._find(views, flip)
        alone = isinstance(pictures, np.ndarray) and pictures.ndim == 3
        if not alone and not isinstance(pictures, Sequence | np.ndarray):
            raise UserError(
                f"Pictures of type {type(pictures).__name__} were given: give uint8 RGB arrays."
            )
        if not alone and len(pictures) == 0:
            raise UserError("There are no pictures: give at least one.")
        given = [pictures] if alone else pictures
        views = [_whole(_picture(picture)) for picture in given]
        found = self._find(views, flip)
        return Found(found.joints[0], found.scores[0]) if alone else found

    def _find(self, views: Sequence[_View], flip: bool) -> Found:
        """Finds joints in views of one person each."""
        compute = self._compute_with_flip if flip else self._compute
        assert compute is not None  # refused above
        joints, scores = [], []
        for first, count, size in batching.groups(len(views), self._largest):
            cut = list(self._cut(views[first : first + count]))
            crop = np.stack([one for one, _ in cut])
            places, certain = (array[:count] for array in compute(batching.padded(crop, size)))
            back = np.stack([matrix for _, matrix in cut])
            joints.append(crops.transform_points(places, back).astype(np.float32))
            scores.append(np.asarray(certain, np.float32))
        number = self.skeleton.num_joints
        if not joints:
            return Found(np.empty((0, number, 2), np.float32), np.empty((0, number), np.float32))
        return Found(np.concatenate(joints), np.concatenate(scores))

    def _cut(self, views: Sequence[_View]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields each view's crop `[S, S, 3]`, and the map from it to its picture `[2, 3]`."""
        side = self.description.side
        for picture, center, scale in views:
            back = crops.invert_affine(crops.crop_affine(center, scale, 0.0, side))
            yield images.warp(picture, back, side), back


def _whole(picture: np.ndarray) -> _View:
    """Returns the view of a picture that is a crop already: all of it."""
    height, width = picture.shape[:2]
    longest = max(width, height) / crops.UNIT
    return picture, np.asarray([width / 2, height / 2]), np.asarray([longest, longest])


def _refuse_keypoints(given: Any, name: str) -> None:
    """Refuses an array whose last axis has x and y."""
    if isinstance(given, np.ndarray) and given.ndim >= 2 and given.shape[-1] == 2:
        raise UserError(
            f"An array of shape {given.shape} looks like keypoints, and '{name}' is a network for "
            "pictures: give uint8 RGB crops [batch, height, width, 3], or load a lifter."
        )


def _picture(picture: Any) -> np.ndarray:
    """Refuses what is not a picture `[H, W, 3]` of bytes."""
    try:
        array = np.asarray(picture)
    except ValueError:  # rows of different lengths
        array = np.empty(0)
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        said = ", which has four channels: drop the last one" if array.shape[-1:] == (4,) else ""
        raise UserError(
            f"A picture has shape {array.shape}{said or ': give [height, width, 3]'}, uint8 RGB."
        )
    if array.dtype != np.uint8:
        raise UserError(
            f"A picture has values of type {array.dtype}: give uint8 RGB, from 0 to 255."
        )
    if max(array.shape) > LARGEST_SIDE:
        raise UserError(
            f"A picture has {array.shape[1]} x {array.shape[0]} pixels: give at most "
            f"{LARGEST_SIDE} on a side."
        )
    return np.ascontiguousarray(array)


def _boxes(boxes: Any) -> np.ndarray:
    """Refuses what are not boxes with an area."""
    wanted = "give [persons, 4] numbers: left, top, width and height in pixels"
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"boxes is not an array of numbers: {wanted}.") from error
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise UserError(f"boxes has shape {array.shape}: {wanted}.")
    bad = np.flatnonzero(~np.isfinite(array).all(1) | (array[:, 2:] <= 0).any(1))
    if bad.size:
        raise UserError(f"Box {bad[0]} is {array[bad[0]].tolist()}: {wanted}, with an area.")
    return array
