"""Reads 3D poses from npz files: those that `writers/to_npz.py` writes, and plain ones.

A plain file has `pose_3d` (`[T, J, 3]` or `[P, T, J, 3]`, metres) and should have `fps` and
`joints`. What it lacks is taken from flags, or is asked for in one sentence.
"""

import os
from collections.abc import Sequence

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.poses import stored_joints
from kdpose_jax.poses.predicted import Poses, PosesOfPerson
from kdpose_jax.poses.stored_arrays import Arrays
from kdpose_jax.untrusted import bounds, npz, persons_axis

KEYS = (
    ("pose_3d", "root_path", "keypoints_2d", "scores", "seen", "valid", "joints", "joint_names")
    + ("parents", "root", "fps", "size", "length", "persons", "first_frame", "frames", "network")
    + ("fingerprint", "keyframe_stride", "keyframe_offset", "notes", "axes")
)


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
    stored = _open(path)
    shape = _shape(stored)
    joints = stored_joints.names(stored, shape[2], layout)
    parents, root, notes = stored_joints.tree(stored, joints)
    pose = stored.floats("pose_3d", shape)
    if "root_path" in stored:
        pose = pose + stored.floats("root_path", (*shape[:2], 3))[:, :, None]
    pose[~np.isfinite(pose).all(axis=-1)] = np.nan
    if "fingerprint" not in stored and persons_axis.holds_frames(pose):
        raise UserError(
            f"'{path}' (pose_3d) has shape {list(shape)}, read as {shape[0]} persons in {shape[1]} "
            "frames, and its first axis moves like time: write persons before frames "
            "(swapaxes(0, 1))."
        )
    if "fingerprint" not in stored:
        stored_joints.require_metres(stored, pose)
    pose, note = stored_joints.in_camera_axes(stored, pose, joints, axes)
    persons = _persons(stored, pose)
    notes += (*note, *_missing_notes(stored, persons))
    ends = [person.first_frame + len(person.valid) for person in persons]
    return Poses(
        persons=persons,
        joints=joints,
        parents=parents,
        root=root,
        fps=_fps(stored, fps),
        size=_size(stored),
        length=max(stored.integer("length", 0), *ends),
        network=stored.text("network", path),
        fingerprint=stored.text("fingerprint", ""),
        keyframe_stride=max(stored.integer("keyframe_stride", 1), 1),
        keyframe_offset=max(stored.integer("keyframe_offset", 0), 0),
        notes=(*stored.texts("notes", ()), *notes),
    )


def _open(path: str) -> Arrays:
    """Reads the arrays of the file that have a known name."""
    if not os.path.isfile(path):
        raise UserError(f"--poses '{path}' is not a file: give an npz file with pose_3d.")
    found = npz.names_in(path)
    if "pose_3d" not in found:
        listed = ", ".join(found[:20]) or "nothing"
        raise UserError(
            f"--poses '{path}' has no array 'pose_3d' (it holds {listed}): store the poses "
            "under this name, [frames, joints, 3] in metres."
        )
    return Arrays(path, npz.read_npz(path, [key for key in KEYS if key in found]))


def _shape(stored: Arrays) -> tuple[int, int, int, int]:
    """Returns (persons, frames, joints, 3)."""
    pose = stored.array("pose_3d")
    shape = list(pose.shape) if pose.dtype.kind in "iuf" else []
    if len(shape) not in (3, 4) or shape[-1] != 3 or 0 in shape or shape[-2] > bounds.JOINTS:
        raise UserError(
            f"'{stored.path}' (pose_3d) has shape {shape}: give numbers as [frames, joints, "
            "3] or [persons, frames, joints, 3]."
        )
    frames, joints, axis = shape[-3:]
    return 1 if len(shape) == 3 else shape[0], frames, joints, axis


def _persons(stored: Arrays, pose: np.ndarray) -> tuple[PosesOfPerson, ...]:
    """Cuts the arrays into persons."""
    count, frames, joints = pose.shape[:3]
    names = stored.texts("persons", tuple(map(str, range(count))))
    if len(names) != count or len(set(names)) != count:
        raise UserError(
            f"'{stored.path}' (persons) has {len(set(names))} different names for {count} persons: "
            "name every person once."
        )
    optional: dict[str, np.ndarray] = {}
    shapes = {"keypoints_2d": (joints, 2), "scores": (joints,), "seen": (joints,), "valid": ()}
    for key, tail in shapes.items():
        if key in stored:
            optional[key] = stored.floats(key, (count, frames, *tail))
    known = np.isfinite(pose).all(axis=-1)
    defaults = {
        "keypoints_2d": np.full((count, frames, joints, 2), np.nan, np.float32),
        "scores": known.astype(np.float32),
        "seen": known,
        "valid": known.any(axis=-1),
    }
    arrays = defaults | optional
    arrays["valid"] = (arrays["valid"] != 0) & known.any(axis=-1)
    pose[~arrays["valid"]] = np.nan
    first = stored.integers("first_frame", count, 0)
    lengths = stored.integers("frames", count, frames)
    if (first < 0).any() or (lengths < 1).any() or (lengths > frames).any():
        raise UserError(
            f"'{stored.path}' (first_frame, frames) has values outside of its {frames:,} frames: "
            "correct the file."
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


def _missing_notes(stored: Arrays, persons: Sequence[PosesOfPerson]) -> tuple[str, ...]:
    """Says what a plain file lacks."""
    notes = []
    if "keypoints_2d" not in stored:
        notes.append(
            f"'{stored.path}' has no keypoints: every known joint counts as seen, with score 1."
        )
    masked = sum(int((~person.valid).sum()) for person in persons)
    frames = sum(len(person.valid) for person in persons)
    if masked and "valid" not in stored:
        notes.append(
            f"'{stored.path}' has no pose in {masked:,} of {frames:,} frames, which are masked."
        )
    return tuple(notes)


def _fps(stored: Arrays, fps: float | None) -> float:
    """Returns the rate, which must be positive."""
    where, value = "--fps", fps
    if value is None:
        where = f"'{stored.path}' (fps)"
        if "fps" not in stored:
            raise UserError(
                f"'{stored.path}' does not say its rate: add --fps with frames per second."
            )
        array = stored.array("fps")
        if array.size != 1 or array.dtype.kind not in "iuf":
            raise UserError(f"{where} is not one number: add --fps with frames per second.")
        value = float(array.reshape(()))
    if not (np.isfinite(value) and value > 0):
        remedy = "give" if fps is not None else "add --fps with"
        raise UserError(f"{where} is {value:g}: {remedy} frames per second, above 0.")
    return float(value)


def _size(stored: Arrays) -> tuple[int, int] | None:
    """Returns width and height; None if the file has none."""
    if "size" not in stored or stored.array("size").size == 0:
        return None
    width, height = stored.integers("size", 2, 0).tolist()
    if min(width, height) < 1:
        raise UserError(
            f"'{stored.path}' (size) is {width}x{height}, and both must be above 0: correct it."
        )
    return width, height
