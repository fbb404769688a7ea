"""VideoPose3D's data_2d_custom_NAME.npz, and its other files of 2D keypoints.

Layout: facebookresearch/VideoPose3D, data/prepare_data_2d_custom.py. `positions_2d` is a dictionary
from the video, or the subject, to its actions, and from these to a list with an array `[T, K, 2]`
for each camera.
"""

from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints.formats.collecting import ONE, REPAIR, Collector, require_scores
from kdpose_jax.keypoints.formats.options import Options, choose_clip
from kdpose_jax.keypoints.formats.probing import Probe
from kdpose_jax.keypoints.formats.sizes_in import size_in
from kdpose_jax.keypoints.tracks import Keypoints
from kdpose_jax.skeletons import COCO_17, H36M_17, Skeleton
from kdpose_jax.untrusted import npz

NAME = "videopose3d"
WHAT = "VideoPose3D: data_2d_custom_NAME.npz"
# By the metadata's layout_name, and by its keypoints_symmetry.
_LAYOUTS = {"coco": ("coco_17",), "h36m": ("h36m_17",)}
_SIDES = {"coco": COCO_17, "h36m": H36M_17}
_KEYS = ("positions_2d", "metadata")
_ACTION = "custom"  # what every own video has


def recognises(probe: Probe) -> bool:
    """Tells whether a path holds VideoPose3D's keypoints."""
    return probe.kind == "npz" and "positions_2d" in probe.keys


def read(path: str, options: Options) -> Keypoints:
    """Reads one video of a file.

    Raises:
      UserError: the file is damaged, or has several videos and `--clip` names none of them.
    """
    collector = Collector(path)
    keys = npz.names_in(path)
    values = npz.read_npz(path, [key for key in _KEYS if key in keys or key == _KEYS[0]])
    clips = _clips(values["positions_2d"], collector.place)
    name = choose_clip(list(clips), options.clip, collector.place)
    where = f"{collector.place}, clip '{name[:60]}'"
    points = _points(clips[name], where)
    if points.shape[-1] == 2:
        scores = np.ones((*points.shape[:2], 1), np.float32)
        points = np.concatenate([points, scores], axis=-1)
        collector.notes.append("The file has no scores: all joints count as found.")
    else:
        require_scores(points[..., 2], where)
        collector.notes.append("The third number of each joint was taken as its score.")
    collector.add_all(range(len(points)), points, ONE)
    metadata = values.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    layout = _layout(metadata, collector.notes)
    sizes = metadata.get("video_metadata")
    return collector.finish(
        NAME,
        options,
        _LAYOUTS.get(layout, ()),
        length=len(points),
        size=size_in(sizes.get(name)) if isinstance(sizes, dict) else None,
    )


def _clips(positions: Any, place: str) -> dict[str, Any]:
    """Returns the sequences by name: the video, or subject/action, and the camera's number."""
    clips: dict[str, Any] = {}
    if not isinstance(positions, dict):
        raise UserError(f"{place} (positions_2d) is not a dictionary of videos: {REPAIR}.")
    for video, actions in positions.items():
        if not isinstance(actions, dict):
            raise UserError(f"{place} (positions_2d) has no actions for '{video}': {REPAIR}.")
        for action, cameras in actions.items():
            name = str(video) if action == _ACTION else f"{video}/{action}"
            listed = list(cameras) if isinstance(cameras, list | tuple | np.ndarray) else [cameras]
            for camera, points in enumerate(listed):
                clips[name if len(listed) == 1 else f"{name}/{camera}"] = points
    return clips


def _layout(metadata: dict[str, Any], notes: list[str]) -> str:
    """Names the layout, by its name and by which joints it calls left and right; "" for neither.

    A file that says neither is a detector's, so that COCO's order is meant.
    """
    name = metadata.get("layout_name")
    pairs = metadata.get("keypoints_symmetry")
    shown = [one for one, skeleton in _SIDES.items() if _is_symmetry(pairs, skeleton)]
    if name is None:
        if shown:
            notes.append(f"Joints were taken as {shown[0]}, whose left and right the file names.")
        return shown[0] if shown else "coco" if pairs is None else ""
    name = str(name).strip().lower()
    return "" if name in _SIDES and shown and name not in shown else name


def _is_symmetry(pairs: Any, skeleton: Skeleton) -> bool:
    """Tells whether a file's left and right joints are those of a skeleton."""
    try:
        found = {(int(left), int(right)) for left, right in zip(*pairs, strict=True)}
    except (TypeError, ValueError, OverflowError):
        return False
    return found == set(zip(skeleton.left, skeleton.right, strict=True))


def _points(value: Any, where: str) -> np.ndarray:
    """Returns the points of a sequence, `[T, K, 2 or 3]` float32."""
    if (
        not isinstance(value, np.ndarray)
        or value.dtype.kind not in "fiu"
        or value.ndim != 3
        or value.shape[-1] not in (2, 3)
        or not value.size
    ):
        shape = f"an array {list(value.shape)}" if isinstance(value, np.ndarray) else "no array"
        raise UserError(f"{where} is {shape} where frames x joints x 2 or 3 must be: {REPAIR}.")
    with np.errstate(over="ignore"):
        return value.astype(np.float32)
