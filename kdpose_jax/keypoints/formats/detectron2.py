"""The raw npz of VideoPose3D's inference with Detectron and Detectron2.

Layout: facebookresearch/VideoPose3D, inference/infer_video_d2.py. `keypoints` has for each frame
the persons by class; the persons of class 1 are `[N, 4, 17]`: x, y, logit and probability.
"""

from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints.formats.collecting import REPAIR, Collector
from kdpose_jax.keypoints.formats.options import Options
from kdpose_jax.keypoints.formats.probing import Probe
from kdpose_jax.keypoints.formats.sizes_in import size_in
from kdpose_jax.keypoints.tracks import Keypoints
from kdpose_jax.untrusted import npz

NAME = "detectron2"
WHAT = "Detectron and Detectron2: the raw npz of VideoPose3D's inference/infer_video*.py"
LAYOUTS = ("coco_17",)
_KEYS = ("keypoints", "metadata")


def recognises(probe: Probe) -> bool:
    """Tells whether a path holds raw detections."""
    return probe.kind == "npz" and {"boxes", *_KEYS} <= set(probe.keys)


def read(path: str, options: Options) -> Keypoints:
    """Reads an npz file.

    Raises:
      UserError: the file is damaged, or there is no person.
    """
    collector = Collector(path)
    values = npz.read_npz(path, _KEYS)
    frames = _listed(values["keypoints"], f"{collector.place} (keypoints)")
    for number, classes in enumerate(frames):
        where = f"{collector.place}, frame {number}"
        for person in _persons(classes, where):
            collector.add(number, person[[0, 1, 3]].T.reshape(-1), (), where)
    return collector.finish(
        NAME, options, LAYOUTS, length=len(frames), size=size_in(values["metadata"])
    )


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | np.ndarray) or (
        isinstance(value, np.ndarray) and value.ndim < 1
    ):
        raise UserError(f"{where} has {str(value)[:60]!r} where a list must be: {REPAIR}.")
    return list(value)


def _persons(classes: Any, where: str) -> list[np.ndarray]:
    """Returns the persons in a frame, `[4, K]` each."""
    listed = _listed(classes, where)
    if not listed:
        return []
    persons = _listed(listed[-1], where)  # the classes are background and person
    arrays = []
    for person in persons:
        array = person if isinstance(person, np.ndarray) else np.zeros(0)
        if array.ndim != 2 or len(array) != 4 or array.dtype.kind not in "fiu":
            raise UserError(
                f"{where} has a person of shape {list(array.shape)} where 4 rows of joints must be "
                f"(x, y, logit, probability): {REPAIR}."
            )
        arrays.append(array.astype(np.float64))
    return arrays
