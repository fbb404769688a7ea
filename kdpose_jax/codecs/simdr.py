"""2D joints as networks see them, and back: SimDR bins per axis, and heatmaps.

Equations: docs/methods/pose2d.md#simdr-labels, docs/methods/pose2d.md#flip-test.
Every function takes numpy or jax arrays. A joint at x pixels of the crop stands in bin x k, where k is the split ratio.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

Array = np.ndarray | jnp.ndarray

EXPECTATION_REACH = 2.0  # pixels of the crop
COORDINATES = ("argmax", "expectation")
SCORES = ("max", "min")
MERGES = ("probabilities", "logits")
FLIP_SHIFTS = ("one", "exact")


def _library(array: Array):
    return np if isinstance(array, np.ndarray) else jnp


def to_bins(
    joints: Array, weight: Array, *, size: tuple[int, int], split_ratio: float
) -> tuple[Array, Array]:
    """SimDR labels: the nearest bin on each axis, halves to the even one (SimCC, core/loss.py).

    See docs/methods/pose2d.md#simdr-labels.

    Args:
      joints: `[..., J, 2]`, pixels of the crop.
      weight: `[..., J]`, 0 where a joint is not labelled.
      size: width and height of the crop, pixels.
      split_ratio: k, bins per pixel.

    Returns:
      Bins `[..., J, 2]` int32, cut to the range, and the weights, which are 0 for joints outside the crop.
    """
    library = _library(joints)
    bins = library.round(joints * split_ratio)
    last = library.asarray(
        [count - 1 for count in count_bins(size, split_ratio)], bins.dtype
    ).reshape((1,) * (bins.ndim - 1) + (2,))
    inside = library.all((bins >= 0) & (bins <= last), axis=-1)
    return library.clip(bins, 0, last).astype(library.int32), weight * inside.astype(weight.dtype)


def count_bins(size: tuple[int, int], split_ratio: float) -> tuple[int, int]:
    """Bins of both axes: pixels times bins per pixel, rounded down.

    A ratio that was computed as bins over pixels does not lose a bin to its rounding error.

    Args:
      size: width and height of the crop, pixels.
      split_ratio: k, bins per pixel.
    """
    width, height = size
    return math.floor(width * split_ratio + 1e-6), math.floor(height * split_ratio + 1e-6)


def to_gaussians(
    joints: Array, weight: Array, *, size: tuple[int, int], split_ratio: float, sigma: float
) -> tuple[Array, Array, Array]:
    """Labels of SimDR*: exp(-(b - x k)^2 / 2 sigma^2) / (sigma sqrt(2 pi)) over the bins b.

    x k is not rounded (docs/methods/pose2d.md#simdr-labels).

    Args:
      joints: `[..., J, 2]`, pixels of the crop.
      weight: `[..., J]`, 0 where a joint is not labelled.
      size: width and height of the crop, pixels.
      split_ratio: k, bins per pixel.
      sigma: bins.

    Returns:
      Targets `[..., J, W k]` of x and `[..., J, H k]` of y, zero where the weight is, and the weights, which are 0 for
      joints more than three sigma (taken as pixels, as in SimCC's code) outside the crop.
    """
    library = _library(joints)
    weight = weight * _within_reach(joints, 3 * sigma, size).astype(weight.dtype)
    targets = []
    for axis, count in enumerate(count_bins(size, split_ratio)):
        bins = library.arange(count, dtype=joints.dtype).reshape((1,) * (joints.ndim - 1) + (-1,))
        offset = bins - joints[..., axis, None] * split_ratio
        target = library.exp(-library.square(offset) / (2 * sigma**2)) / (
            sigma * (2 * np.pi) ** 0.5
        )
        targets.append(target * (weight > 0)[..., None].astype(target.dtype))
    return *targets, weight


def _within_reach(centre: Array, reach: float, size: tuple[int, int]) -> Array:
    """Whether any part of a Gaussian is in the picture, with the reference's rounding towards zero. `[..., J]`."""
    library = _library(centre)
    limit = library.asarray(size, centre.dtype).reshape((1,) * (centre.ndim - 1) + (2,))
    return library.all(
        (library.trunc(centre - reach) < limit) & (library.trunc(centre + reach + 1) >= 0), axis=-1
    )


def decode(
    x: Array, y: Array, *, split_ratio: float, coordinate: str, score: str
) -> tuple[Array, Array]:
    """Probabilities of both axes -> joints.

    Args:
      x: `[..., J, W k]`, probabilities over the bins of x.
      y: `[..., J, H k]`, the same of y.
      split_ratio: k.
      coordinate: `argmax`, the highest bin over k (SimCC); `expectation`, the mean bin over k of those within
        `EXPECTATION_REACH` pixels of the highest: further off lies the tail that smoothed labels teach. Ours.
      score: the `max` (SimDR) or `min` (SimDR*) of the two axes' peaks.

    Returns:
      Joints `[..., J, 2]`, pixels of the crop, and scores `[..., J]`.
    """
    library = _library(x)
    places, peaks = [], []
    for probabilities in (x, y):
        if coordinate == "expectation":
            bins = library.arange(probabilities.shape[-1], dtype=probabilities.dtype).reshape(
                (1,) * (probabilities.ndim - 1) + (-1,)
            )
            highest = library.argmax(probabilities, axis=-1).astype(probabilities.dtype)[..., None]
            near = probabilities * (
                library.abs(bins - highest) <= EXPECTATION_REACH * split_ratio
            ).astype(probabilities.dtype)
            place = library.sum(near * bins, axis=-1) / library.sum(near, axis=-1)
        else:
            place = library.argmax(probabilities, axis=-1).astype(probabilities.dtype)
        places.append(place / split_ratio)
        peaks.append(library.max(probabilities, axis=-1))
    joints = library.stack(places, axis=-1)
    return joints, library.maximum(*peaks) if score == "max" else library.minimum(*peaks)


def probabilities(logits: Array) -> Array:
    """Softmax over the last axis."""
    library = _library(logits)
    raised = library.exp(logits - library.max(logits, axis=-1, keepdims=True))
    return raised / library.sum(raised, axis=-1, keepdims=True)


def flip_shift(kind: str, split_ratio: float) -> int:
    """Bins by which mirrored x logits are moved left: `one` (SimCC's code) or k - 1 (`exact`).

    See docs/methods/pose2d.md#flip-test.
    """
    return 1 if kind == "one" else int(split_ratio) - 1


def mirror_back(
    x: Array, y: Array, *, flip_permutation: Sequence[int], shift: int
) -> tuple[Array, Array]:
    """Logits of the mirrored crop -> logits of the crop: x reversed, left and right swapped.

    See docs/methods/pose2d.md#flip-test.

    Args:
      x: `[..., J, W k]`.
      y: `[..., J, H k]`.
      flip_permutation: `Skeleton.flip_permutation`, `[J]`.
      shift: bins by which x is then moved left; so many bins at the end stay as they are.

    Returns:
      The same shapes.
    """
    permutation = np.asarray(flip_permutation)
    x, y = x[..., permutation, ::-1], y[..., permutation, :]
    if shift:
        x = _library(x).concatenate([x[..., shift:], x[..., -shift:]], axis=-1)
    return x, y


def merge_flip(
    plain: tuple[Array, Array], mirrored: tuple[Array, Array], *, merge: str
) -> tuple[Array, Array]:
    """Probabilities of x and y from the logits of the crop and of its mirror image, already mirrored back.

    Args:
      plain: logits of x and y.
      mirrored: the same from `mirror_back`.
      merge: the mean of `probabilities` (SimDR), or those of the mean `logits` (SimDR*).
    """
    if merge == "logits":
        return tuple(
            probabilities((one + other) / 2) for one, other in zip(plain, mirrored, strict=True)
        )
    return tuple(
        (probabilities(one) + probabilities(other)) / 2
        for one, other in zip(plain, mirrored, strict=True)
    )


def to_heatmaps(
    joints: Array,
    weight: Array,
    *,
    size: tuple[int, int],
    heatmap_size: tuple[int, int],
    sigma: float,
) -> tuple[Array, Array]:
    """Heatmap labels: a Gaussian of height 1 on the nearest cell, cut at three sigma (HRNet, dataset/JointsDataset.py).

    Args:
      joints: `[..., J, 2]`, pixels of the crop.
      weight: `[..., J]`, 0 where a joint is not labelled.
      size: width and height of the crop, pixels.
      heatmap_size: width and height of the map, cells.
      sigma: cells.

    Returns:
      Heatmaps `[..., J, h, w]`, zero where the weight is, and the weights, which are 0 where no part is in the map.
    """
    library = _library(joints)
    stride = library.asarray([a / b for a, b in zip(size, heatmap_size, strict=True)], joints.dtype)
    centre = library.trunc(joints / stride.reshape((1,) * (joints.ndim - 1) + (2,)) + 0.5)
    weight = weight * _within_reach(centre, 3 * sigma, heatmap_size).astype(weight.dtype)
    bells = []
    for axis, cells in enumerate(heatmap_size):
        places = library.arange(cells, dtype=joints.dtype).reshape((1,) * (joints.ndim - 1) + (-1,))
        offset = places - centre[..., axis, None]
        bell = library.exp(-library.square(offset) / (2 * sigma**2))
        bells.append(library.where(abs(offset) <= 3 * sigma, bell, library.zeros_like(bell)))
    heatmaps = bells[1][..., :, None] * bells[0][..., None, :]
    return heatmaps * (weight > 0)[..., None, None].astype(heatmaps.dtype), weight


def decode_heatmaps(
    heatmaps: Array, *, size: tuple[int, int], quarter: bool
) -> tuple[Array, Array]:
    """Heatmaps -> joints at the highest cell (HRNet, core/inference.py).

    Args:
      heatmaps: `[..., J, h, w]`.
      size: width and height of the crop, pixels.
      quarter: move by a quarter of a cell towards the higher neighbour, on each axis, away from the border.

    Returns:
      Joints `[..., J, 2]`, pixels of the crop, (0, 0) where no cell is positive, and the peaks `[..., J]`.
    """
    library = _library(heatmaps)
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.reshape(*heatmaps.shape[:-2], height * width)
    place, peak = library.argmax(flat, axis=-1), library.max(flat, axis=-1)
    row, column = place // width, place % width
    joints = library.stack([column, row], axis=-1).astype(heatmaps.dtype)
    joints = joints * (peak > 0)[..., None].astype(joints.dtype)
    if quarter:
        inner = (column > 1) & (column < width - 1) & (row > 1) & (row < height - 1) & (peak > 0)

        def at(step: int) -> Array:
            """The cell so many places further in row-major order, `[..., J]`."""
            where = library.clip(place + step, 0, height * width - 1)
            return library.take_along_axis(flat, where[..., None], axis=-1)[..., 0]

        slope = library.stack([at(1) - at(-1), at(width) - at(-width)], axis=-1)
        joints = joints + 0.25 * library.sign(slope) * inner[..., None].astype(joints.dtype)
    stride = library.asarray([size[0] / width, size[1] / height], joints.dtype)
    return joints * stride.reshape((1,) * (joints.ndim - 1) + (2,)), peak


def mirror_heatmaps_back(heatmaps: Array, *, flip_permutation: Sequence[int], shift: bool) -> Array:
    """Heatmaps of the mirrored crop -> heatmaps of the crop: columns reversed, left and right swapped.

    Args:
      heatmaps: `[..., J, h, w]`.
      flip_permutation: `Skeleton.flip_permutation`, `[J]`.
      shift: then move right by one cell, where the first column stays (HRNet, SHIFT_HEATMAP).

    Returns:
      The same shape.
    """
    back = heatmaps[..., np.asarray(flip_permutation), :, ::-1]
    return _library(back).concatenate([back[..., :1], back[..., :-1]], axis=-1) if shift else back
