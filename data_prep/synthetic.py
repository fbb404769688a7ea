"""Generates motion, as four cameras and an imperfect detector see it.

The records are like those of recorded motion. All of it is our own design.
"""

import argparse
import dataclasses
import zlib
from typing import Any

import numpy as np

from data_prep import cameras, flags, motion, records
from data_prep.cameras import Camera
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_17

HELP = "generated motion, needs no files"
# The settings' (name, default, help). The defaults are the demo's, with 84,000 frames in all views.
ARGUMENTS = (
    ("train_subjects", 5, "number of training subjects"),
    ("val_subjects", 1, "number of further subjects, on which checkpoints are chosen"),
    ("test_subjects", 2, "number of test subjects"),
    ("takes", 1, "takes of each of the six actions by every subject"),
    ("frames", 500, "frames per take, 50 per second"),
    (
        "noise",
        0.01,
        "error of the 2D joints in screen units (the picture is 2 wide); 0: exact projections",
    ),
    ("seed", 0, "everything random follows from it"),
)
# A detector's error for each joint relative to its average, in the order of H36M_17.
JOINT_NOISE = (
    0.6,
    0.85,
    0.95,
    1.3,
    0.85,
    0.95,
    1.3,
    0.7,
    0.6,
    0.7,
    0.8,
    0.8,
    1.1,
    1.5,
    0.8,
    1.1,
    1.5,
)
NUM_CAMERAS = 4


@dataclasses.dataclass(frozen=True)
class View:
    """Describes one camera's view of one generated take.

    It is small, because workers generate what it describes.
    """

    subject: str
    action: str
    take: str
    index: int
    frames: int
    noise: float
    seed: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    flags.add_settings(parser, ARGUMENTS)


def expected_files(settings: dict[str, Any]) -> str:
    """Names the raw files that a conversion with these settings reads."""
    del settings
    return "no files"


def convert(
    out: str,
    train_subjects: int,
    val_subjects: int,
    test_subjects: int,
    takes: int,
    frames: int,
    noise: float,
    seed: int,
    workers: int,
) -> records.Summary:
    """Generates a data set; the settings are explained in ARGUMENTS.

    Returns:
      The summary.

    Raises:
      UserError: a setting is out of range, or `out` cannot be used.
    """
    settings = dict(
        train_subjects=train_subjects,
        val_subjects=val_subjects,
        test_subjects=test_subjects,
        takes=takes,
        frames=frames,
        noise=noise,
        seed=seed,
    )
    for name in ("train_subjects", "val_subjects", "test_subjects", "takes", "frames"):
        if settings[name] < 1:
            raise UserError(f"--{name.replace('_', '-')} {settings[name]} must be at least 1.")
    if not 0 <= noise < 1 or seed < 0:
        raise UserError(
            f"--noise {noise} must be from 0 to below 1 (screen units), and --seed {seed} not "
            f"negative."
        )

    def load() -> records.Recordset:
        known = train_subjects + test_subjects
        names = [f"G{number}" for number in range(1, known + val_subjects + 1)]
        # The validation subjects come last, so that the others do not depend on their number.
        splits = {
            "train": names[:train_subjects],
            schema.VAL_SPLIT: names[known:],
            "test": names[train_subjects:known],
        }
        items = {
            split: _views(subjects, takes, frames, noise, seed)
            for split, subjects in splits.items()
        }
        keypoints = "generated" if noise else "gt"
        return records.Recordset(
            schema.SEQUENCES,
            H36M_17.name,
            keypoints,
            True,
            items,
            make_record,
            {},
            [],
            {"fps": motion.FPS},
            {},
        )

    return records.write_recordset(
        out, schema.SEQUENCES, {}, {"name": "synthetic"} | settings, load, workers
    )


def make_record(view: View) -> dict[str, Any]:
    """Makes a record of `schema.sequence_features` from a view."""
    return record_of(view, world_pose(view))


def record_of(view: Any, pose_world: np.ndarray) -> dict[str, Any]:
    """Makes the record of a take as a studio camera and its detector see it.

    Args:
      view: has `subject`, `action`, `take`, `index`, `noise`, `seed` and `frames`, as `View` does.
      pose_world: `[F, 17, 3]` float64 metres, world.

    Returns:
      A record of `schema.sequence_features`.
    """
    camera = studio_cameras(view.subject, view.seed)[view.index]
    pose = cameras.world_to_camera(pose_world, camera.orientation, camera.translation)
    return {
        "subject": view.subject,
        "action": view.action,
        "take": view.take,
        "camera": view.index,
        "fps": motion.FPS,
        "width": camera.width,
        "height": camera.height,
        "keypoints_2d": _detect_view(view, pose, camera),
        "pose_3d": pose.astype(np.float32),
        "frame_mask": np.ones(view.frames, np.bool_),
    }


def world_pose(view: View) -> np.ndarray:
    """Generates a view's take, `[F, 17, 3]` float64 metres, world.

    It is the same for every camera.
    """
    bones = motion.body(generator(view.seed, view.subject))
    return motion.generate(
        generator(view.seed, view.subject, view.take),
        motion.ACTIONS[view.action],
        bones,
        view.frames,
    )


def studio_cameras(subject: str, seed: int) -> list[Camera]:
    """Places four cameras in a studio's corners, which look at its middle.

    They differ a little for every subject, like Human3.6M's.
    """
    rng = generator(seed, subject, "cameras")
    placed = []
    for index in range(NUM_CAMERAS):
        azimuth = np.pi / 4 + index * np.pi / 2 + rng.normal(0, 0.06)
        distance, height = rng.uniform(4.9, 5.6), rng.uniform(1.4, 1.65)
        position = np.asarray([distance * np.cos(azimuth), distance * np.sin(azimuth), height])
        forward = np.asarray([0, 0, 0.9]) + rng.normal(0, 0.04, 3) - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(forward, right), forward], axis=1)
        intrinsic = np.asarray(
            [1147, 1146, 512, 506, -0.2, 0.24, 0, -0.0005, -0.0015]
        ) + rng.normal(0, 1, 9) * [2, 2, 4, 5, 0, 0, 0, 0, 0]
        placed.append(
            Camera(
                1000,
                1002 if index % 3 == 0 else 1000,
                intrinsic,
                cameras.quaternion_from_matrix(axes),
                position,
            )
        )
    return placed


def _views(subjects: list[str], takes: int, frames: int, noise: float, seed: int) -> list[View]:
    """Lists every view of every take, in order."""
    return [
        View(
            subject, action, action if take == 0 else f"{action} {take}", index, frames, noise, seed
        )
        for subject in subjects
        for action in motion.ACTIONS
        for take in range(takes)
        for index in range(NUM_CAMERAS)
    ]


def _detect_view(view: View, pose: np.ndarray, camera: Camera) -> np.ndarray:
    """Returns what the detector finds in a view."""
    return detect(
        pose,
        camera,
        view.noise,
        generator(view.seed, view.subject, view.take, f"camera {view.index}"),
    )


def detect(pose: np.ndarray, camera: Camera, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Projects a pose, and adds a detector's slow error and jitter.

    The slow error is wrong for a while.

    Args:
      pose: `[F, 17, 3]`, metres in camera coordinates, 50 frames per second.
      camera: its camera.
      noise: see ARGUMENTS.
      rng: the view's generator.

    Returns:
      `[F, 17, 2]`, pixels.
    """
    pixels = cameras.project_to_2d(pose, camera.intrinsic)
    if noise:
        frames, joints, _ = pose.shape
        slow = motion.smooth_noise(rng, frames, joints * 2, 1.5).reshape(frames, joints, 2)
        error = 0.8 * slow + 0.6 * rng.standard_normal((frames, joints, 2))  # unit variance
        pixels = pixels + error * np.asarray(JOINT_NOISE)[None, :, None] * noise * camera.width / 2
    return pixels.astype(np.float32)


def generator(seed: int, *names: str) -> np.random.Generator:
    """Makes a generator for each (seed, names), so nothing depends on order or workers."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])
