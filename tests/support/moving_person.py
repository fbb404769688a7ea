"""A person of rigid bones who walks, as `Poses` and as plain arrays."""

import dataclasses

import numpy as np

from kdpose_jax.poses.predicted import Poses, PosesOfPerson
from kdpose_jax.skeletons import H36M_17

SIZE = (640, 480)
FOCAL = 700.0


def turned(vector, angle, axis):
    """A vector `[3]` turned about an axis (0, 1 or 2) by angles `[T]`, `[T, 3]`."""
    first, second = [(1, 2), (2, 0), (0, 1)][axis]
    result = np.tile(np.asarray(vector, np.float64), (len(angle), 1))
    result[:, first] = np.cos(angle) * vector[first] - np.sin(angle) * vector[second]
    result[:, second] = np.sin(angle) * vector[first] + np.cos(angle) * vector[second]
    return result


def walk(frames, fps=30.0, turns=0.0):
    """The 17 joints, `[T, 17, 3]` metres, y up, facing z at first; the hips move.

    Arms and legs swing, the trunk leans sideways, and the whole body turns about the vertical.
    """
    time = np.arange(frames) / fps
    pose = np.zeros((frames, 17, 3))
    lean = 0.1 * np.sin(0.9 * time)
    for joint, parent, bone in (
        (7, 0, [0, 0.24, 0]),
        (8, 7, [0, 0.25, 0]),
        (9, 8, [0, 0.11, 0.03]),
        (10, 9, [0, 0.115, 0]),
    ):
        pose[:, joint] = pose[:, parent] + turned(bone, lean, 2)
    for sign, leg, arm in ((1, (4, 5, 6), (11, 12, 13)), (-1, (1, 2, 3), (14, 15, 16))):
        swing, bend = 0.5 * np.sin(2.2 * time + sign), 0.3 + 0.25 * np.cos(2.2 * time + sign)
        pose[:, leg[0]] = [sign * 0.13, 0, 0]
        pose[:, leg[1]] = pose[:, leg[0]] + turned([0, -0.44, 0], swing, 0)
        pose[:, leg[2]] = pose[:, leg[1]] + turned([0, -0.43, 0], swing + bend, 0)
        pose[:, arm[0]] = pose[:, 8] + [sign * 0.17, -0.02, 0]
        pose[:, arm[1]] = pose[:, arm[0]] + turned([0, -0.28, 0], -swing, 0)
        pose[:, arm[2]] = pose[:, arm[1]] + turned([0, -0.25, 0], -swing - 0.6, 0)
    angle = np.linspace(0, 2 * np.pi * turns, frames)
    spun = pose.copy()
    spun[..., 0] = np.cos(angle)[:, None] * pose[..., 0] + np.sin(angle)[:, None] * pose[..., 2]
    spun[..., 2] = np.cos(angle)[:, None] * pose[..., 2] - np.sin(angle)[:, None] * pose[..., 0]
    hips = np.stack([0.2 * np.sin(time), 0.95 + 0.01 * np.sin(3 * time), 0.5 * time], axis=-1)
    return spun + hips[:, None]


def before_camera(pose_y_up):
    """Poses in the camera's axes, with the person some metres before the camera."""
    pose = np.asarray(pose_y_up, np.float64) * [1, -1, -1]
    return pose + [0.1, 1.2, 3 - pose[..., 2].min()]


def person(pose_y_up, name="a", first_frame=0, masked=(), relative=True):
    """One person from poses `[T, J, 3]` with y up, as a network predicts and a camera sees them."""
    pose = before_camera(pose_y_up)
    points = pose[..., :2] / pose[..., 2:] * FOCAL + np.asarray(SIZE) / 2
    pose = pose - pose[:, :1] if relative else np.asarray(pose_y_up) * [1, -1, -1]
    valid = np.ones(len(pose), bool)
    valid[list(masked)] = False
    scores = 0.5 + 0.4 * np.cos(np.arange(points[..., 0].size)).reshape(points.shape[:2])
    pose[~valid] = points[~valid] = np.nan
    return PosesOfPerson(
        name=name,
        first_frame=first_frame,
        pose_3d=pose.astype(np.float32),
        keypoints_2d=points.astype(np.float32),
        scores=scores.astype(np.float32),
        seen=(scores > 0.2) & valid[:, None],
        valid=valid,
    )


def poses(*persons, skeleton=H36M_17, fps=30.0, notes=("1 joint was interpolated.",)):
    """A video with these persons."""
    return Poses(
        persons=persons,
        joints=skeleton.joints,
        parents=skeleton.parents,
        root=skeleton.root,
        fps=fps,
        size=SIZE,
        length=max(one.first_frame + len(one.valid) for one in persons),
        network="demo/student",
        fingerprint="0123abcd",
        keyframe_stride=3,
        keyframe_offset=0,
        notes=notes,
    )


def blocks(video, frames):
    """A video cut into blocks: first those of all persons' first frames, and so on."""
    longest = max(len(one.valid) for one in video.persons)
    for start in range(0, longest, frames):
        parts = [part(one, start, start + frames) for one in video.persons]
        yield dataclasses.replace(video, persons=tuple(one for one in parts if len(one.valid)))


def part(one, start, stop):
    """Some frames of a person."""
    arrays = {
        name: getattr(one, name)[start:stop]
        for name in ("pose_3d", "keypoints_2d", "scores", "seen", "valid")
        if getattr(one, name) is not None
    }
    return dataclasses.replace(one, first_frame=one.first_frame + start, **arrays)
