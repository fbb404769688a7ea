"""Reads a user's file of boxes of persons: COCO's annotations or detections."""

import math
import os
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted.documents import load_json

PERSON = 1  # COCO's category


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
    entries: Any = content
    if isinstance(content, dict):
        entries = content.get("annotations")
        for image in _listed(content.get("images"), path, "images"):
            if isinstance(image.get("id"), int) and isinstance(image.get("file_name"), str):
                names[image["id"]] = os.path.basename(image["file_name"])
    found: dict[Any, tuple[int | None, list[np.ndarray]]] = {}
    for index, entry in enumerate(_listed(entries, path, "annotations")):
        if entry.get("category_id", PERSON) != PERSON:
            continue
        given = entry.get("image_id")
        image_id = given if isinstance(given, int) else None
        key = names.get(image_id, image_id) if image_id is not None else given
        if isinstance(key, str):
            key = os.path.basename(key)
        if not isinstance(key, str | int):
            raise UserError(
                f"--boxes '{path}', entry {index}, has no image_id: give COCO's annotations or "
                "detections."
            )
        found.setdefault(key, (image_id, []))[1].append(_box(entry.get("bbox"), path, index))
    if not found:
        raise UserError(f"--boxes '{path}' has no box of a person: give another file.")
    return found


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
