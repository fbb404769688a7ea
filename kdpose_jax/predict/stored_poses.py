"""Reads 3D poses from npz files: those that `writers/to_npz.py` writes, and plain ones.

A plain file has `pose_3d` (`[T, J, 3]` or `[P, T, J, 3]`, metres) and should have `fps` and
`joints`. What it lacks is taken from flags, or is asked for in one sentence.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError, require
from kdpose_jax.predict.axes import AXES, recognised_axes, to_camera
from kdpose_jax.predict.poses import Poses, PosesOfPerson
from kdpose_jax.skeletons import SKELETONS
from kdpose_jax.untrusted import bounds, npz

KEYS = (
    ("pose_3d", "root_path", "keypoints_2d", "scores", "seen", "valid", "joints", "joint_names")
    + ("parents", "root", "fps", "size", "length", "persons", "first_frame", "frames", "network")
    + ("fingerprint", "keyframe_stride", "notes", "axes")
)
# A body's extent in metres. Other extents mean another unit.
EXTENT = (0.2, 4.0)
_TOPS = ("head", "head_top", "nose", "neck", "upper_neck", "thorax")
_BOTTOMS = ("left_ankle", "right_ankle", "hip", "pelvis", "left_hip", "right_hip")


def read_poses(path: str, fps: float | None, axes: str | None, layout: str | None) -> Poses:
    """Reads an npz file of poses.

    Args:
      path: the file.
      fps: frames per second, which replaces the file's; None takes the file's.
      axes: the axes of a plain file, a key of `AXES`; None takes those that the file states, or
        else those in which people stand upright.
      layout: the name of the joints' layout; None takes the names in the file.

    Returns:
      The poses in the camera's axes. `pose_3d` has the root's path, if there is one.

    Raises:
      UserError: the file is damaged, or is not of this kind, or lacks something that no flag gives.
    """
    content = _content(path)
    shape = _shape(path, content)
    joints = _joints(path, content, shape[2], layout)
    parents, root, notes = _tree(path, content, joints)
    pose = _floats(path, content, "pose_3d", shape)
    if "root_path" in content:
        pose = pose + _floats(path, content, "root_path", (*shape[:2], 3))[:, :, None]
    pose[~np.isfinite(pose).all(axis=-1)] = np.nan
    if "fingerprint" not in content:
        _require_metres(path, pose)
    pose, note = _in_camera_axes(path, content, pose, joints, axes)
    persons = _persons(path, content, pose)
    notes += (*note, *_missing_notes(path, content, persons))
    ends = [person.first_frame + len(person.valid) for person in persons]
    return Poses(
        persons=persons,
        joints=joints,
        parents=parents,
        root=root,
        fps=_fps(path, content, fps),
        size=_size(path, content),
        length=max(_number(path, content, "length", 0), *ends),
        network=_text(content, "network", path),
        fingerprint=_text(content, "fingerprint", ""),
        keyframe_stride=max(_number(path, content, "keyframe_stride", 1), 1),
        notes=(*_texts(path, content, "notes", ()), *notes),
    )


def _content(path: str) -> dict[str, Any]:
    """Returns the arrays of the file that have a known name."""
    if not os.path.isfile(path):
        raise UserError(f"--poses '{path}' is not a file: give an npz file with pose_3d.")
    found = npz.names_in(path)
    if "pose_3d" not in found:
        listed = ", ".join(found[:20]) or "nothing"
        raise UserError(
            f"--poses '{path}' has no array 'pose_3d' (it holds {listed}): store the poses under "
            "this name, [frames, joints, 3] in metres."
        )
    return npz.read_npz(path, [key for key in KEYS if key in found])


def _shape(path: str, content: dict[str, Any]) -> tuple[int, int, int, int]:
    """Returns (persons, frames, joints, 3)."""
    pose = content["pose_3d"]
    shape = pose.shape if isinstance(pose, np.ndarray) and pose.dtype.kind in "iuf" else ()
    if len(shape) not in (3, 4) or shape[-1] != 3 or 0 in shape or shape[-2] > bounds.JOINTS:
        raise UserError(
            f"'{path}' (pose_3d) has shape {list(shape)}: give numbers as [frames, joints, 3] or "
            "[persons, frames, joints, 3]."
        )
    persons, frames, joints, axis = shape if len(shape) == 4 else (1, *shape)
    return persons, frames, joints, axis


def _floats(path: str, content: dict[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array as new float32 of a shape; a file with one person may lack the first axis.

    Raises:
      UserError: the array has another shape or does not hold numbers.
    """
    value = content[key]
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.shape not in (shape, shape[1:] * (shape[0] == 1)):
        raise UserError(
            f"'{path}' ({key}) has shape {list(array.shape)} and type {array.dtype}: numbers of "
            f"shape {list(shape)} fit the other arrays, so correct the file."
        )
    with np.errstate(over="ignore"):
        return array.reshape(shape).astype(np.float32)


def _joints(path: str, content: dict[str, Any], count: int, layout: str | None) -> tuple[str, ...]:
    """Returns the joints' names, from the layout that the user names or from the file."""
    if layout is not None:
        require("--joints", layout, SKELETONS)
        names = SKELETONS[layout].joints
        where = f"--joints {layout}"
    else:
        key = "joints" if "joints" in content else "joint_names"
        names = _texts(path, content, key, ())
        where = f"'{path}' ({key})"
        if not names:
            raise UserError(
                f"'{path}' does not name its {count} joints: add --joints with one of "
                f"{', '.join(SKELETONS)}, or an array 'joints' of names."
            )
    if len(names) != count or len(set(names)) != count or not all(name.strip() for name in names):
        raise UserError(
            f"{where} has {len(set(names))} different names, and pose_3d has {count} joints: name "
            "every joint once."
        )
    return names


def _tree(
    path: str, content: dict[str, Any], joints: tuple[str, ...]
) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
    """Returns the parents and the root, by the file or by the joints' names, and notes."""
    if "parents" in content:
        parents = tuple(_integers(path, content, "parents", len(joints)).tolist())
        _require_tree(path, parents)
        default = parents.index(-1) if -1 in parents else 0
        root = _number(path, content, "root", default)
        if not 0 <= root < len(joints):
            raise UserError(f"'{path}' (root) is {root}: it must be one of {len(joints)} joints.")
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
            note = f"The joints of '{path}' are those of {skeleton.name}, whose bones were taken."
            return parents, place[skeleton.joints[skeleton.root]], (note,)
    root = next((joints.index(name) for name in ("hip", "pelvis") if name in joints), 0)
    note = (
        f"'{path}' has no 'parents', and its {len(joints)} joints are not those of a known layout: "
        f"no bones were taken, and '{joints[root]}' counts as the root."
    )
    return (-1,) * len(joints), root, (note,)


def _require_tree(path: str, parents: tuple[int, ...]) -> None:
    """Raises UserError if following the parents does not end."""
    for joint, parent in enumerate(parents):
        steps = 0
        while -1 < parent < len(parents) and steps <= len(parents):
            parent, steps = parents[parent], steps + 1
        if parent != -1:
            raise UserError(
                f"'{path}' (parents) leads from joint {joint} to no root: give the index of every "
                "joint's parent, and -1 for the root."
            )


def _require_metres(path: str, pose: np.ndarray) -> None:
    """Raises UserError if bodies are not as large as people."""
    with np.errstate(all="ignore"):
        known = pose[np.isfinite(pose).all(axis=(2, 3))]
        extent = float(np.median(np.ptp(known, axis=1).max(axis=-1))) if len(known) else 1.0
    if EXTENT[0] <= extent <= EXTENT[1]:
        return
    hint = "divide it by 1000" if EXTENT[0] <= extent / 1000 <= EXTENT[1] else "convert it"
    raise UserError(
        f"'{path}' (pose_3d) has bodies with an extent of {extent:.3g}, and lengths are metres: "
        f"{hint}."
    )


def _in_camera_axes(
    path: str, content: dict[str, Any], pose: np.ndarray, joints: tuple[str, ...], axes: str | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns poses into the camera's axes, by the flag, the file or how people stand."""
    if axes is None and "axes" in content:
        axes = _text(content, "axes", "")
        if axes not in AXES:
            raise UserError(
                f"'{path}' (axes) is '{axes[:40]}': add --axes with one of {', '.join(AXES)}."
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
            f"'{path}' does not say its axes, and its people do not stand along one: add --axes "
            f"with one of {', '.join(AXES)}."
        )
    note = (
        f"'{path}' does not say its axes: '{found}' was taken ({AXES[found]}), because people "
        "stand upright in it (--axes decides)."
    )
    return to_camera(pose, found), (note,)


def _persons(path: str, content: dict[str, Any], pose: np.ndarray) -> tuple[PosesOfPerson, ...]:
    """Cuts the arrays into persons."""
    count, frames, joints = pose.shape[:3]
    names = _texts(path, content, "persons", tuple(map(str, range(count))))
    if len(names) != count or len(set(names)) != count:
        raise UserError(
            f"'{path}' (persons) has {len(set(names))} different names for {count} persons: "
            "name every person once."
        )
    optional: dict[str, np.ndarray] = {}
    shapes = {"keypoints_2d": (joints, 2), "scores": (joints,), "seen": (joints,), "valid": ()}
    for key, tail in shapes.items():
        if key in content:
            optional[key] = _floats(path, content, key, (count, frames, *tail))
    known = np.isfinite(pose).all(axis=-1)
    defaults = {
        "keypoints_2d": np.full((count, frames, joints, 2), np.nan, np.float32),
        "scores": known.astype(np.float32),
        "seen": known,
        "valid": known.any(axis=-1),
    }
    arrays = defaults | optional
    arrays["valid"] = (arrays["valid"] != 0) & known.any(axis=-1)
    first = _integers(path, content, "first_frame", count, 0)
    lengths = _integers(path, content, "frames", count, frames)
    if (first < 0).any() or (lengths < 1).any() or (lengths > frames).any():
        raise UserError(
            f"'{path}' (first_frame, frames) has values outside of its {frames:,} frames: correct "
            "the file."
        )
    return tuple(
        PosesOfPerson(
            name=names[index],
            first_frame=int(first[index]),
            pose_3d=pose[index, : lengths[index]],
            keypoints_2d=arrays["keypoints_2d"][index, : lengths[index]],
            scores=arrays["scores"][index, : lengths[index]],
            seen=arrays["seen"][index, : lengths[index]] != 0,
            valid=arrays["valid"][index, : lengths[index]],
        )
        for index in range(count)
    )


def _missing_notes(
    path: str, content: dict[str, Any], persons: Sequence[PosesOfPerson]
) -> tuple[str, ...]:
    """Says what a plain file lacks."""
    notes = []
    if "keypoints_2d" not in content:
        notes.append(f"'{path}' has no keypoints: every known joint counts as seen, with score 1.")
    masked = sum(int((~person.valid).sum()) for person in persons)
    frames = sum(len(person.valid) for person in persons)
    if masked and "valid" not in content:
        notes.append(f"'{path}' has no pose in {masked:,} of {frames:,} frames, which are masked.")
    return tuple(notes)


def _fps(path: str, content: dict[str, Any], fps: float | None) -> float:
    """Returns the rate, which must be positive."""
    where, value = "--fps", fps
    if value is None:
        where = f"'{path}' (fps)"
        if "fps" not in content:
            raise UserError(f"'{path}' does not say its rate: add --fps with frames per second.")
        array = np.asarray(content["fps"])
        value = float(array.reshape(())) if array.size == 1 and array.dtype.kind in "iuf" else 0.0
    if not (np.isfinite(value) and value > 0):
        remedy = "give" if fps is not None else "add --fps with"
        raise UserError(f"{where} is {value:g}: {remedy} frames per second, above 0.")
    return float(value)


def _size(path: str, content: dict[str, Any]) -> tuple[int, int] | None:
    """Returns width and height; None if the file has none."""
    if "size" not in content or np.asarray(content["size"]).size == 0:
        return None
    width, height = _integers(path, content, "size", 2).tolist()
    if min(width, height) < 1:
        raise UserError(
            f"'{path}' (size) is {width}x{height}: both must be above 0, so correct the file."
        )
    return width, height


def _number(path: str, content: dict[str, Any], key: str, default: int) -> int:
    """Returns a whole number."""
    return int(_integers(path, content, key, 1, default)[0])


def _integers(
    path: str, content: dict[str, Any], key: str, count: int, default: int = 0
) -> np.ndarray:
    """Returns whole numbers, `[count]` int64; the default for each if the file has none."""
    if key not in content:
        return np.full(count, default, np.int64)
    array = np.asarray(content[key])
    proper = array.dtype.kind in "iuf" and array.size == count
    if not proper or (np.abs(array.astype(np.float64)) > 2**40).any() or (array % 1 != 0).any():
        raise UserError(
            f"'{path}' ({key}) must be {count} whole numbers: correct the file or leave it out."
        )
    return array.reshape(-1).astype(np.int64)


def _text(content: dict[str, Any], key: str, default: str) -> str:
    """Returns one text; the default if the file has none."""
    if key not in content:
        return default
    return (
        str(np.asarray(content[key]).reshape(-1)[0]) if np.asarray(content[key]).size else default
    )


def _texts(
    path: str, content: dict[str, Any], key: str, default: tuple[str, ...]
) -> tuple[str, ...]:
    """Returns texts; the default if the file has none.

    Raises:
      UserError: the array holds something else.
    """
    if key not in content:
        return default
    array = np.asarray(content[key])
    values = array.reshape(-1).tolist()
    if array.dtype.kind == "S":
        values = [value.decode("utf-8", "replace") for value in values]
    if not all(isinstance(value, str) for value in values):
        raise UserError(f"'{path}' ({key}) must hold texts: correct the file or leave it out.")
    return tuple(values)
