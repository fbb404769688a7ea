"""Converts 2D joints to SimDR bins or heatmaps, and predictions back to joints.

Equations: docs/methods/pose2d.md#simdr-labels, docs/methods/pose2d.md#flip-test.
Every function takes NumPy or JAX arrays. A joint at x pixels of the crop is in bin x k, where k is
the split ratio.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

# Either library's arrays; a function returns those of the library that it is given.
Array = TypeVar("Array", np.ndarray, jax.Array)

EXPECTATION_REACH = 2.0  # crop pixels to either side of the highest bin
COORDINATES = ("argmax", "expectation")
SCORES = ("max", "min")
MERGES = ("probabilities", "logits")
FLIP_SHIFTS = ("one", "exact")


def _library(array: Array) -> Any:
    """Returns NumPy or jax.numpy, whichever the array belongs to."""
    return np if isinstance(array, np.ndarray) else jnp


def to_bins(
    joints: Array, weight: Array, *, size: tuple[int, int], split_ratio: float
) -> tuple[Array, Array]:
    """Makes SimDR labels: the nearest bin on each axis, halves to even (SimCC, core/loss.py).

    See docs/methods/pose2d.md#simdr-labels.

    Args:
      joints: `[..., J, 2]`, pixels of the crop.
      weight: `[..., J]`, 0 where a joint is not labelled.
      size: width and height of the crop, pixels.
      split_ratio: k, bins per pixel.

    Returns:
      Bins `[..., J, 2]` int32, clipped to the crop, and the weights, now also 0 for joints outside
      the crop.
    """
    library = _library(joints)
    bins = library.round(joints * split_ratio)
    width, height = count_bins(size, split_ratio)
    last = library.asarray([width - 1, height - 1], bins.dtype)
    last = last.reshape((1,) * (bins.ndim - 1) + (2,))
    inside = library.all((bins >= 0) & (bins <= last), axis=-1)
    return library.clip(bins, 0, last).astype(library.int32), weight * inside.astype(weight.dtype)


def count_bins(size: tuple[int, int], split_ratio: float) -> tuple[int, int]:
    """Counts the bins of both axes: pixels times bins per pixel, rounded down.

    A ratio that was computed as bins / pixels does not lose a bin to its rounding error.

    Args:
      size: width and height of the crop, pixels.
      split_ratio: k, bins per pixel.
    """
    width, height = size
    return math.floor(width * split_ratio + 1e-6), math.floor(height * split_ratio + 1e-6)


def to_gaussians(
    joints: Array, weight: Array, *, size: tuple[int, int], split_ratio: float, sigma: float
) -> tuple[Array, Array, Array]:
    """Makes SimDR* labels: exp(-(b - x k)^2 / 2 sigma^2) / (sigma sqrt(2 pi)) over the bins b.

    x k is not rounded (docs/methods/pose2d.md#simdr-labels).

    Args:
      joints: `[..., J, 2]`, pixels of the crop.
      weight: `[..., J]`, 0 where a joint is not labelled.
      size: width and height of the crop, pixels.
      split_ratio: k, bins per pixel.
      sigma: width of the Gaussian, bins.

    Returns:
      Targets `[..., J, W k]` for x and `[..., J, H k]` for y, and the weights. A weight becomes 0
      for a joint more than 3 sigma outside the crop, where sigma is taken as pixels as in SimCC's
      code. Targets are zero where the weight is.
    """
    library = _library(joints)
    weight = weight * _within_reach(joints, 3 * sigma, size).astype(weight.dtype)
    targets: list[Any] = []
    for axis, count in enumerate(count_bins(size, split_ratio)):
        bins = library.arange(count, dtype=joints.dtype).reshape((1,) * (joints.ndim - 1) + (-1,))
        offset = bins - joints[..., axis, None] * split_ratio
        bell = library.exp(-library.square(offset) / (2 * sigma**2))
        target = bell / (sigma * (2 * np.pi) ** 0.5)
        targets.append(target * (weight > 0)[..., None].astype(target.dtype))
    return *targets, weight


def _within_reach(centre: Array, reach: float, size: tuple[int, int]) -> Array:
    """Tells whether any part of a Gaussian is in the picture, `[..., J]`.

    Its ends are rounded towards zero, as in the reference.
    """
    library = _library(centre)
    limit = library.asarray(size, centre.dtype).reshape((1,) * (centre.ndim - 1) + (2,))
    begins_before_end = library.trunc(centre - reach) < limit
    ends_after_begin = library.trunc(centre + reach + 1) >= 0
    return library.all(begins_before_end & ends_after_begin, axis=-1)


def decode(
    x: Array, y: Array, *, split_ratio: float, coordinate: str, score: str
) -> tuple[Array, Array]:
    """Decodes joints from the probabilities of both axes.

    Args:
      x: probabilities over the bins of x, `[..., J, W k]`.
      y: probabilities over the bins of y, `[..., J, H k]`.
      split_ratio: k, bins per pixel.
      coordinate: `argmax` is the highest bin over k (SimCC). `expectation` is the mean bin over k,
        within `EXPECTATION_REACH` pixels of the highest; it leaves out the tail that smoothed
        labels teach. `expectation` is ours.
      score: `max` (SimDR) or `min` (SimDR*) of the two axes' peaks.

    Returns:
      Joints `[..., J, 2]`, pixels of the crop, and scores `[..., J]`.
    """
    library = _library(x)
    places, peaks = [], []
    for probabilities in (x, y):
        if coordinate == "expectation":
            bins = library.arange(probabilities.shape[-1], dtype=probabilities.dtype)
            bins = bins.reshape((1,) * (probabilities.ndim - 1) + (-1,))
            highest = library.argmax(probabilities, axis=-1).astype(probabilities.dtype)[..., None]
            is_near = library.abs(bins - highest) <= EXPECTATION_REACH * split_ratio
            near = probabilities * is_near.astype(probabilities.dtype)
            place = library.sum(near * bins, axis=-1) / library.sum(near, axis=-1)
        else:
            place = library.argmax(probabilities, axis=-1).astype(probabilities.dtype)
        places.append(place / split_ratio)
        peaks.append(library.max(probabilities, axis=-1))
    joints = library.stack(places, axis=-1)
    return joints, library.maximum(*peaks) if score == "max" else library.minimum(*peaks)


def probabilities(logits: Array) -> Array:
    """Computes the softmax over the last axis."""
    library = _library(logits)
    raised = library.exp(logits - library.max(logits, axis=-1, keepdims=True))
    return raised / library.sum(raised, axis=-1, keepdims=True)


def flip_shift(kind: str, split_ratio: float) -> int:
    """Returns how many bins mirrored x logits move left: 1 for `one` (SimCC), k - 1 for `exact`.

    See docs/methods/pose2d.md#flip-test.
    """
    return 1 if kind == "one" else int(split_ratio) - 1


def mirror_back(
    x: Array, y: Array, *, flip_permutation: Sequence[int], shift: int
) -> tuple[Array, Array]:
    """Turns logits of the mirrored crop into logits of the crop.

    x is reversed, and left and right change places (docs/methods/pose2d.md#flip-test).

    Args:
      x: `[..., J, W k]`.
      y: `[..., J, H k]`.
      flip_permutation: `Skeleton.flip_permutation`, `[J]`.
      shift: x is then moved left by this many bins; the last `shift` bins keep their values.

    Returns:
      x and y, with the shapes of the arguments.
    """
    permutation = np.asarray(flip_permutation)
    x = x[..., permutation, ::-1]
    y = y[..., permutation, :]
    if shift:
        x = _library(x).concatenate([x[..., shift:], x[..., -shift:]], axis=-1)
    return x, y


def merge_flip(
    plain: tuple[Array, Array], mirrored: tuple[Array, Array], *, merge: str
) -> tuple[Array, Array]:
    """Merges the logits of a crop and of its mirror image into probabilities of x and y.

    Args:
      plain: logits of x and y for the crop.
      mirrored: logits of x and y for the mirrored crop, from `mirror_back`.
      merge: `probabilities` averages probabilities (SimDR); `logits` averages logits (SimDR*).

    Returns:
      Probabilities of x and of y.
    """

    def merged(one: Array, other: Array) -> Array:
        if merge == "logits":
            return probabilities((one + other) / 2)
        return (probabilities(one) + probabilities(other)) / 2

    return merged(plain[0], mirrored[0]), merged(plain[1], mirrored[1])


def to_heatmaps(
    joints: Array,
    weight: Array,
    *,
    size: tuple[int, int],
    heatmap_size: tuple[int, int],
    sigma: float,
) -> tuple[Array, Array]:
    """Makes heatmap labels: a Gaussian of height 1 on the nearest cell, cut at 3 sigma.

    Source: HRNet, dataset/JointsDataset.py.

    Args:
      joints: `[..., J, 2]`, pixels of the crop.
      weight: `[..., J]`, 0 where a joint is not labelled.
      size: width and height of the crop, pixels.
      heatmap_size: width and height of the map, cells.
      sigma: width of the Gaussian, cells.

    Returns:
      Heatmaps `[..., J, h, w]`, and the weights, now also 0 where no part of the Gaussian is in the
      map. Heatmaps are zero where the weight is.
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
    """Decodes joints at the highest cell of each heatmap (HRNet, core/inference.py).

    Args:
      heatmaps: `[..., J, h, w]`.
      size: width and height of the crop, pixels.
      quarter: moves a joint by a quarter of a cell towards the higher neighbour on each axis. Cells
        at the border do not move.

    Returns:
      Joints `[..., J, 2]`, pixels of the crop, (0, 0) where no cell is positive, and the peaks
      `[..., J]`.
    """
    library = _library(heatmaps)
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.reshape(*heatmaps.shape[:-2], height * width)
    place = library.argmax(flat, axis=-1)
    peak = library.max(flat, axis=-1)
    row, column = place // width, place % width
    joints = library.stack([column, row], axis=-1).astype(heatmaps.dtype)
    joints = joints * (peak > 0)[..., None].astype(joints.dtype)
    if quarter:
        inner = (column > 1) & (column < width - 1) & (row > 1) & (row < height - 1) & (peak > 0)

        def at(step: int) -> Array:
            """Returns values `step` cells after the highest in row-major order, `[..., J]`."""
            where = library.clip(place + step, 0, height * width - 1)
            return library.take_along_axis(flat, where[..., None], axis=-1)[..., 0]

        slope = library.stack([at(1) - at(-1), at(width) - at(-width)], axis=-1)
        joints = joints + 0.25 * library.sign(slope) * inner[..., None].astype(joints.dtype)
    stride = library.asarray([size[0] / width, size[1] / height], joints.dtype)
    return joints * stride.reshape((1,) * (joints.ndim - 1) + (2,)), peak


def mirror_heatmaps_back(heatmaps: Array, *, flip_permutation: Sequence[int], shift: bool) -> Array:
    """Turns heatmaps of the mirrored crop into heatmaps of the crop.

    Columns are reversed, and left and right change places.

    Args:
      heatmaps: `[..., J, h, w]`.
      flip_permutation: `Skeleton.flip_permutation`, `[J]`.
      shift: then moves the maps right by one cell; the first column stays (HRNet, SHIFT_HEATMAP).

    Returns:
      Heatmaps of the same shape.
    """
    back = heatmaps[..., np.asarray(flip_permutation), :, ::-1]
    if not shift:
        return back
    return _library(back).concatenate([back[..., :1], back[..., :-1]], axis=-1)
