"""The positions and the 2D joints in VideoPose3D's npz files, checked number by number."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from data_prep import npz
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_17, H36M_32_TO_17

Takes3D = dict[str, dict[str, np.ndarray]]
Takes2D = dict[str, dict[str, list[np.ndarray]]]


def read_positions(path: str) -> Takes3D:
    """Reads `positions_3d` and keeps 17 of 32 joints.

    Args:
      path: data_3d_<name>.npz.

    Returns:
      subject -> take -> `[F, 17, 3]` float32, metres, world coordinates.

    Raises:
      UserError: a damaged file, another layout or number of joints, not-a-numbers, or millimetres.
    """
    (raw,) = npz.read_pickled_npz(path, ("positions_3d",))
    poses: Takes3D = {}
    for subject, take, value in _takes(raw, path):
        place = f"'{path}', subject '{subject}', take '{take}'"
        array = _checked_array(value, (17, 32), 3, place)
        if np.abs(array).max() > 50:
            raise UserError(f"{place}: a joint is {np.abs(array).max():.0f} from the origin, so these seem to be millimetres: give metres.")
        poses.setdefault(subject, {})[take] = array[:, H36M_32_TO_17, :] if array.shape[1] == 32 else array
    return poses


def read_detections(path: str) -> Takes2D:
    """Reads `positions_2d`.

    Args:
      path: data_2d_<name>_<keypoints>.npz.

    Returns:
      subject -> take -> one `[F, 17, 2]` float32 per camera, pixels.

    Raises:
      UserError: a damaged file, another layout or number of joints, or not-a-numbers.
    """
    raw, metadata = npz.read_pickled_npz(path, ("positions_2d", "metadata"))
    joints = metadata["num_joints"] if isinstance(metadata, dict) and "num_joints" in metadata else None
    joints = joints if isinstance(joints, int | np.integer) and abs(joints) < 1000 else None
    if joints != H36M_17.num_joints:
        raise UserError(
            f"'{path}' has {joints} joints by its metadata where {H36M_17.num_joints} are needed: give a file with Human3.6M's joints."
        )
    detections: Takes2D = {}
    for subject, take, value in _takes(raw, path):
        place = f"'{path}', subject '{subject}', take '{take}'"
        if not isinstance(value, (list, tuple)) and not (isinstance(value, np.ndarray) and value.ndim in (1, 4)):
            raise UserError(
                f"{place} is a {type(value).__name__} where a list of one array per camera is needed: give a file in VideoPose3D's layout."
            )
        detections.setdefault(subject, {})[take] = [
            _checked_array(view, (H36M_17.num_joints,), 2, f"{place}, camera {index}") for index, view in enumerate(value)
        ]
    return detections


def _takes(raw: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yields (subject, take, value) of VideoPose3D's nested dictionaries."""
    if not isinstance(raw, dict) or not raw or not all(isinstance(takes, dict) for takes in raw.values()) or not all(
        isinstance(name, str) for names in (raw, *raw.values()) for name in names
    ):
        raise UserError(f"'{path}' does not hold subjects with takes (dict[subject][take]): give a file in VideoPose3D's layout.")
    for subject, takes in raw.items():
        for take, value in takes.items():
            yield subject, take, value


def _checked_array(value: Any, joints: tuple[int, ...], axes: int, place: str) -> np.ndarray:
    """`[F, J, axes]` float32, finite, with a permitted number of joints."""
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        array = np.zeros(0, np.float32)
    if array.ndim != 3 or array.shape[0] == 0 or array.shape[1] not in joints or array.shape[2] != axes:
        shape = list(array.shape) if array.size else f"an empty or mixed {type(value).__name__}"
        needed = f"[frames, {' or '.join(map(str, joints))} joints, {axes}]"
        raise UserError(f"{place}: {shape} where {needed} is needed: give a file with Human3.6M's joints.")
    if not np.isfinite(array).all():
        frame, joint, _ = np.argwhere(~np.isfinite(array))[0]
        raise UserError(f"{place}: not a finite number in frame {frame}, joint {joint}: repair it, or remove the take from 2D and 3D.")
    return array
