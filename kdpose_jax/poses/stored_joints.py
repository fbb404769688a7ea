"""What a file of poses leaves open: the names of joints, the bones, the unit and the axes."""

import numpy as np

from kdpose_jax.errors import UserError, require
from kdpose_jax.poses.axes import AXES, recognised_axes, to_camera
from kdpose_jax.poses.stored_arrays import Arrays
from kdpose_jax.skeletons import SKELETONS

# A body's extent in metres. Other extents mean another unit.
EXTENT = (0.2, 4.0)
_TOPS = ("head", "head_top", "nose", "neck", "upper_neck", "thorax")
_BOTTOMS = ("left_ankle", "right_ankle", "hip", "pelvis", "left_hip", "right_hip")


def names(stored: Arrays, count: int, layout: str | None) -> tuple[str, ...]:
    """Returns the joints' names, from the layout that the user names or from the file."""
    if layout is not None:
        require("--joints", layout, SKELETONS)
        found = SKELETONS[layout].joints
        where = f"--joints {layout}"
    else:
        key = "joints" if "joints" in stored else "joint_names"
        found = stored.texts(key, ())
        where = f"'{stored.path}' ({key})"
        if not found:
            raise UserError(
                f"'{stored.path}' does not name its {count} joints: add --joints with one of "
                f"{', '.join(SKELETONS)}, or an array 'joints' of names."
            )
    if len(found) != count or len(set(found)) != count or not all(map(str.strip, found)):
        raise UserError(
            f"{where} has {len(set(found))} different names, and pose_3d has {count} joints: name "
            "every joint once."
        )
    return found


def tree(stored: Arrays, joints: tuple[str, ...]) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
    """Returns the parents and the root, by the file or by the joints' names, and notes."""
    if "parents" in stored:
        parents = tuple(stored.integers("parents", len(joints), -1).tolist())
        _require_tree(stored, parents)
        default = parents.index(-1) if -1 in parents else 0
        root = stored.integer("root", default)
        if not 0 <= root < len(joints):
            raise UserError(
                f"'{stored.path}' (root) is {root}: it must be one of {len(joints)} joints."
            )
        return parents, root, ()
    for skeleton in SKELETONS.values():
        if set(skeleton.joints) == set(joints):
            place = {name: index for index, name in enumerate(joints)}
            above = {
                name: skeleton.joints[parent] if parent >= 0 else None
                for name, parent in zip(skeleton.joints, skeleton.parents, strict=True)
            }
            chosen = [above[name] for name in joints]
            parents = tuple(-1 if name is None else place[name] for name in chosen)
            note = (
                f"The joints of '{stored.path}' are those of {skeleton.name}: its bones were taken."
            )
            return parents, place[skeleton.joints[skeleton.root]], (note,)
    root = next((joints.index(name) for name in ("hip", "pelvis") if name in joints), 0)
    note = (
        f"'{stored.path}' has no 'parents', and its {len(joints)} joints are not those of a known "
        f"layout: no bones were taken, and '{joints[root]}' counts as the root."
    )
    return (-1,) * len(joints), root, (note,)


def _require_tree(stored: Arrays, parents: tuple[int, ...]) -> None:
    """Raises UserError if following the parents does not end."""
    for joint, parent in enumerate(parents):
        steps = 0
        while -1 < parent < len(parents) and steps <= len(parents):
            parent, steps = parents[parent], steps + 1
        if parent != -1:
            raise UserError(
                f"'{stored.path}' (parents) leads from joint {joint} to no root: give the index of "
                "every joint's parent, and -1 for the root."
            )


def require_metres(stored: Arrays, pose: np.ndarray) -> None:
    """Raises UserError if bodies are not as large as people."""
    with np.errstate(all="ignore"):
        known = pose[np.isfinite(pose).all(axis=(2, 3))]
        extent = float(np.median(np.ptp(known, axis=1).max(axis=-1))) if len(known) else 1.0
    if EXTENT[0] <= extent <= EXTENT[1]:
        return
    hint = "divide it by 1000" if EXTENT[0] <= extent / 1000 <= EXTENT[1] else "convert it"
    raise UserError(
        f"'{stored.path}' (pose_3d) has bodies with an extent of {extent:.3g}, and lengths are "
        f"metres: {hint}."
    )


def in_camera_axes(
    stored: Arrays, pose: np.ndarray, joints: tuple[str, ...], axes: str | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns poses into the camera's axes, by the flag, the file or how people stand."""
    if axes is None and "axes" in stored:
        axes = stored.text("axes", "")
        if axes not in AXES:
            raise UserError(
                f"'{stored.path}' (axes) is '{axes[:40]}': add --axes with one of "
                f"{', '.join(AXES)}."
            )
        return to_camera(pose, axes), ()
    if axes is not None:
        require("--axes", axes, AXES)
        return to_camera(pose, axes), ()
    found = None
    top = [joints.index(name) for name in _TOPS if name in joints][:1]
    bottom = [joints.index(name) for name in _BOTTOMS if name in joints][:2]
    if top and bottom:
        up = pose[:, :, top[0]] - pose[:, :, bottom].mean(axis=2)
        found = recognised_axes(up.reshape(-1, 3).astype(np.float64))
    if found is None:
        raise UserError(
            f"'{stored.path}' does not say its axes, and its people do not stand along one: add "
            f"--axes with one of {', '.join(AXES)}."
        )
    note = (
        f"'{stored.path}' does not say its axes: '{found}' was taken ({AXES[found]}), because "
        "people stand upright in it (--axes decides)."
    )
    return to_camera(pose, found), (note,)
