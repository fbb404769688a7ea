"""Reads positions and 2D joints from VideoPose3D's npz files, and checks each number."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_prep import npz
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import COCO_17, H36M_17, H36M_32_TO_17

Takes3D = dict[str, dict[str, np.ndarray]]
Takes2D = dict[str, dict[str, list[np.ndarray | None]]]
LAYOUTS = (
    "h36m",
    "human36m",
    "human3.6m",
    "h3.6m",
    "h36m_17",
    "h36m17",
)  # names of Human3.6M's 17 joints
OTHER_LAYOUTS = (
    "coco",
    "mpii",
    "openpose",
    "body_25",
    "body25",
    "humaneva15",
    "humaneva20",
    "lsp",
    "halpe",
    "panoptic",
    "3dhp",
    "smpl",
)
SCORES = (3, 4)  # x and y with one score, or with Detectron's two


@dataclasses.dataclass(frozen=True)
class Positions:
    """Holds a file's 3D, and notes about it.

    It is subject -> take -> `[F, 17, 3]` float32, metres, world coordinates.
    """

    takes: Takes3D
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class Detections:
    """Holds a file's 2D.

    Attributes:
      takes: subject -> take -> one `[F, 17, 2]` float32 per camera, pixels; None for a view without
        2D.
      layout: the joints that the metadata names, in words; "" if they are Human3.6M's or it names
        none.
      notes: sentences about the 2D.
    """

    takes: Takes2D
    layout: str
    notes: list[str]


def read_positions(path: str) -> Positions:
    """Reads `positions_3d` and keeps 17 of 32 joints.

    Args:
      path: data_3d_<name>.npz.

    Returns:
      The positions.

    Raises:
      UserError: the file is damaged, has another layout or number of joints, or holds NaN or
        millimetres.
    """
    (raw,) = npz.read_pickled_npz(path, ("positions_3d",))
    poses: Takes3D = {}
    rounded = 0.0
    for subject, take, value in _takes(raw, path):
        place = f"'{path}', subject '{subject}', take '{take}'"
        array = _checked_array(value, (17, 32), (3,), place)
        if np.abs(array).max() > 50:
            raise UserError(
                f"{place}: a joint is {np.abs(array).max():.0f} from the origin, so these seem to "
                f"be millimetres: give metres."
            )
        rounded = max(rounded, _half_step(value, array))
        poses.setdefault(subject, {})[take] = (
            array[:, H36M_32_TO_17, :] if array.shape[1] == 32 else array
        )
    return Positions(
        poses,
        [f"the 3D is stored in float16, which rounds it by up to {1000 * rounded:.2g} mm"]
        if rounded
        else [],
    )


def read_detections(path: str) -> Detections:
    """Reads `positions_2d`.

    Args:
      path: data_2d_<name>_<keypoints>.npz.

    Returns:
      The detections.

    Raises:
      UserError: the file is damaged, has another layout or number of joints, or holds NaN.
    """
    raw, metadata = npz.read_pickled_npz(path, ("positions_2d", "metadata"))
    joints = (
        metadata["num_joints"] if isinstance(metadata, dict) and "num_joints" in metadata else None
    )
    joints = joints if isinstance(joints, int | np.integer) and abs(joints) < 1000 else None
    if joints != H36M_17.num_joints:
        raise UserError(
            f"'{path}' has {joints} joints by its metadata where {H36M_17.num_joints} are needed: "
            f"give a file with Human3.6M's joints."
        )
    detections: Takes2D = {}
    scored, rounded = 0, 0.0
    for subject, take, value in _takes(raw, path):
        place = f"'{path}', subject '{subject}', take '{take}'"
        if not isinstance(value, (list, tuple)) and not (
            isinstance(value, np.ndarray) and value.ndim in (1, 4)
        ):
            raise UserError(
                f"{place} is a {type(value).__name__} where a list of one array per camera is "
                f"needed: give a file in VideoPose3D's layout."
            )
        views: list[np.ndarray | None] = []
        for index, view in enumerate(value):
            array = (
                None
                if _is_hole(view)
                else _checked_array(
                    view, (H36M_17.num_joints,), (2, *SCORES), f"{place}, camera {index}"
                )
            )
            if array is not None:
                rounded = max(rounded, _half_step(view, array[..., :2]))
                scored += array.shape[2] in SCORES
                array = np.ascontiguousarray(array[..., :2])
            views.append(array)
        detections.setdefault(subject, {})[take] = views
    notes = [f"{scored:,} views hold scores behind x and y, which are not used"] if scored else []
    notes += (
        [f"the 2D is stored in float16, which rounds it by up to {rounded:.2g} pixels"]
        if rounded
        else []
    )
    return Detections(detections, _named_layout(metadata), notes)


def _named_layout(metadata: dict[str, Any]) -> str:
    """Names the joints in a 2D file's metadata, in words.

    The result is "" if they are Human3.6M's, or if no known joint is named.
    """
    name = metadata["layout_name"] if "layout_name" in metadata else None
    said = []
    if isinstance(name, str) and name.lower().strip() not in ("", *LAYOUTS):
        said.append(f"layout '{name[:40]}'")
    pairs = _pairs(metadata["keypoints_symmetry"]) if "keypoints_symmetry" in metadata else None
    known = {"COCO's": COCO_17.left, "exchanged": H36M_17.right, "Human3.6M's": H36M_17.left}
    right = {"COCO's": COCO_17.right, "exchanged": H36M_17.left, "Human3.6M's": H36M_17.right}
    if pairs:
        whose = next(
            (one for one in known if pairs == set(zip(known[one], right[one], strict=True))),
            "not Human3.6M's",
        )
        if whose != "Human3.6M's":
            said.append(f"left and right joints that are {whose}")
        elif said and name.lower().strip() not in OTHER_LAYOUTS:
            return ""  # a name that the user made up
    return " and ".join(said)


def _pairs(symmetry: Any) -> set[tuple[int, int]] | None:
    """Returns pairs of left and right joints, None if the entry is something else."""
    try:
        left, right = ([int(joint) for joint in side] for side in symmetry)
        return set(zip(left, right, strict=True))
    except (TypeError, ValueError, OverflowError):
        return None


def _is_hole(view: Any) -> bool:
    """Tells whether a view has no 2D.

    It is then None, an empty array, only NaN, or one mark for a missing joint everywhere.
    """
    if view is None or (
        isinstance(view, np.ndarray)
        and view.dtype.hasobject
        and all(one is None for one in view.ravel())
    ):
        return True
    try:
        array = np.asarray(view, np.float32)
    except (TypeError, ValueError, OverflowError):
        return False
    if array.ndim == 0:
        return bool(np.isnan(array))
    if array.size == 0 or np.isnan(array[..., :2]).all():
        return True
    first = array[..., :2].ravel()[0]
    return bool(first in (0, -1) and (array[..., :2] == first).all())


def _half_step(value: Any, array: np.ndarray) -> float:
    """Returns by how much float16 rounds the largest number; 0 for another stored type."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float16:
        return 0.0
    return float(np.spacing(np.float16(np.abs(array).max()))) / 2


def _takes(raw: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yields (subject, take, value) from VideoPose3D's nested dictionaries."""
    if (
        not isinstance(raw, dict)
        or not raw
        or not all(isinstance(takes, dict) for takes in raw.values())
        or not all(isinstance(name, str) for names in (raw, *raw.values()) for name in names)
    ):
        raise UserError(
            f"'{path}' does not hold subjects with takes (dict[subject][take]): give a file in "
            f"VideoPose3D's layout."
        )
    for subject, takes in raw.items():
        for take, value in takes.items():
            yield subject, take, value


def _checked_array(
    value: Any, joints: tuple[int, ...], axes: tuple[int, ...], place: str
) -> np.ndarray:
    """Returns finite float32 `[F, J, axes]`, and checks its joints and axes."""
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0, np.float32)
    if (
        array.ndim != 3
        or array.shape[0] == 0
        or array.shape[1] not in joints
        or array.shape[2] not in axes
    ):
        kind = "array" if isinstance(value, np.ndarray) else type(value).__name__
        shape = list(array.shape) if array.size else f"an empty or mixed {kind}"
        needed = f"[frames, {' or '.join(map(str, joints))} joints, {axes[0]}]"
        raise UserError(
            f"{place}: {shape} where {needed} is needed: give a file with Human3.6M's joints."
        )
    places = array[..., : axes[0]]
    if not np.isfinite(places).all():
        wrong = ~np.isfinite(places).all(axis=-1)
        frame, joint = np.argwhere(wrong)[0]
        raise UserError(
            f"{place}: not a finite number in frame {frame}, joint {joint} (such are "
            f"{wrong.sum():,} of {wrong.size:,} joints): fill them "
            "in, or remove the take from 2D and 3D."
        )
    return array
