"""Reads a user's file of boxes of persons: COCO's annotations or detections."""

import math
import os
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted.documents import load_json

PERSON = 1  # COCO's category
_BEYOND = 0.1  # share of a picture's side; detectors' boxes reach beyond it by a few pixels
_MANY = 1 / 3  # share of the boxes that reach further beyond
_TINY = 2.0  # pixels; numbers below it are shares of the picture


def read_boxes(path: str) -> dict[Any, tuple[int | None, list[np.ndarray]]]:
    """Reads the boxes of persons from COCO's annotations or detections.

    Args:
      path: a JSON file: {"images": [...], "annotations": [...]}, or a list of detections whose
        `image_id` is a number or the name of a file.

    Returns:
      A picture's number or file name -> its number, None if the file does not say it, and its
      boxes.

    Raises:
      UserError: the file is not of this kind, or has no box.
    """
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--boxes '{path}' cannot be read as JSON ({error}): give COCO's annotations or "
            "detections."
        ) from error
    names: dict[int, str] = {}
    kinds = {PERSON}
    entries: Any = content
    if isinstance(content, dict):
        entries = content.get("annotations")
        for image in _listed(content.get("images"), path, "images"):
            number = _whole(image.get("id"))
            if isinstance(number, int) and isinstance(image.get("file_name"), str):
                names[number] = _file_name(image["file_name"])
        named = {
            _whole(one.get("id"))
            for one in _listed(content.get("categories", []), path, "categories")
            if str(one.get("name")).lower() == "person"
        }
        kinds = named or kinds
    found: dict[Any, tuple[int | None, list[np.ndarray]]] = {}
    for index, entry in enumerate(_listed(entries, path, "annotations")):
        if "category_id" in entry and _whole(entry["category_id"]) not in kinds:
            continue
        given = _whole(entry.get("image_id"))
        image_id = given if isinstance(given, int) else None
        key = names.get(image_id, image_id) if image_id is not None else given
        if isinstance(key, str):
            key = _file_name(key)
        if not isinstance(key, str | int):
            raise UserError(
                f"--boxes '{path}', entry {index}, has no image_id: give COCO's annotations or "
                "detections."
            )
        found.setdefault(key, (image_id, []))[1].append(_box(entry.get("bbox"), path, index))
    if not found:
        raise UserError(f"--boxes '{path}' has no box of a person: give another file.")
    return found


def _whole(value: Any) -> Any:
    """Turns a whole number that is written as 7.0 into 7."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _file_name(name: str) -> str:
    """Returns the name of a file without its folders, which Windows separates by backslashes."""
    return os.path.basename(name.replace("\\", "/"))


def require_pixels(boxes: list[np.ndarray], sizes: list[tuple[int, int]], path: str) -> None:
    """Refuses boxes that are shares of their picture, or corners in the place of sizes.

    Args:
      boxes: the boxes in each picture, `[N, 4]`: left, top, width, height.
      sizes: the pictures' widths and heights, pixels.
      path: names the file in an error.

    Raises:
      UserError: many boxes lie in the corner of their picture, or reach far beyond it.
    """
    every = np.concatenate(boxes)
    tiny = int((np.abs(every) <= _TINY).all(axis=1).sum())
    if tiny > len(every) / 2:
        raise UserError(
            f"--boxes '{path}': {tiny:,} of {len(every):,} boxes lie in the first {_TINY:g} "
            "pixels, as shares of width and height do: multiply them by the picture's size."
        )
    limits = np.repeat(np.asarray(sizes, np.float64), [len(one) for one in boxes], axis=0)
    far = (every[:, :2] + every[:, 2:] > (1 + _BEYOND) * limits).any(axis=1)
    far |= (every[:, :2] < -_BEYOND * limits).any(axis=1)
    if far.sum() > _MANY * len(every):
        raise UserError(
            f"--boxes '{path}': {far.sum():,} of {len(every):,} boxes reach beyond their picture "
            "by more than a tenth of its side (are they x1, y1, x2, y2?): give left, top, width "
            "and height in pixels of these pictures."
        )


def _listed(values: Any, path: str, field: str) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
        raise UserError(
            f"--boxes '{path}' has no list of {field}: give COCO's annotations or detections."
        )
    return values


def _box(values: Any, path: str, index: int) -> np.ndarray:
    """Returns a box `[4]`: left, top, width, height, pixels."""
    right = isinstance(values, list) and len(values) == 4
    right = right and all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)
        for one in values
    )
    if not right or values[2] <= 0 or values[3] <= 0:
        raise UserError(
            f"--boxes '{path}', entry {index}, has the box {str(values)[:60]}: give left, top, "
            "width and height in pixels, with an area."
        )
    return np.asarray(values, np.float64)
