"""Writes generated motion in VideoPose3D's layout.

Use `from videopose3d import write_videopose3d_files`.
"""

import dataclasses
import json
import os
from typing import Any

import numpy as np

from data_prep import cameras, synthetic
from data_prep.cameras import Camera
from kdpose_jax.skeletons import H36M_17, H36M_32_TO_17


def write_videopose3d_files(
    folder: str,
    name: str,
    subjects: tuple[str, ...],
    test_subjects: tuple[str, ...],
    num_joints: int,
    tables: dict[str, list[Camera]] | None,
    takes: int,
    frames: int,
    noise: float,
    seed: int,
) -> None:
    """Writes generated motion as VideoPose3D's npz files, to try the converter.

    Args:
      folder: gets data_3d_<name>.npz, data_2d_<name>_gt.npz, data_2d_<name>_generated.npz,
        cameras.json and meta.json.
      name: names the data set.
      subjects: names of all subjects.
      test_subjects: test subjects, which meta.json names.
      num_joints: 17, or 32 as in Human3.6M; joints that the 17 leave out are at the origin.
      tables: cameras for each subject; None for `synthetic.studio_cameras`.
      takes: number of takes for each action.
      frames: number of frames in a take.
      noise: see `synthetic.ARGUMENTS`.
      seed: see `synthetic.ARGUMENTS`.
    """
    positions, exact, noisy, table = {}, {}, {}, {}
    for subject in subjects:
        placed = synthetic.studio_cameras(subject, seed) if tables is None else tables[subject]
        table[subject] = [_camera_entry(camera) for camera in placed]
        positions[subject], exact[subject], noisy[subject] = {}, {}, {}
        for view in synthetic._views([subject], takes, frames, noise, seed)[
            :: synthetic.NUM_CAMERAS
        ]:
            world = synthetic.world_pose(view).astype(np.float32)
            poses = [
                cameras.world_to_camera(
                    world.astype(np.float64), camera.orientation, camera.translation
                )
                for camera in placed
            ]
            views = [dataclasses.replace(view, index=index) for index in range(len(placed))]
            clear = dataclasses.replace(view, noise=0.0)
            exact[subject][view.take] = [
                synthetic._detect_view(clear, *parts) for parts in zip(poses, placed, strict=True)
            ]
            noisy[subject][view.take] = [
                synthetic._detect_view(*parts) for parts in zip(views, poses, placed, strict=True)
            ]
            positions[subject][view.take] = world
            if num_joints == 32:
                positions[subject][view.take] = np.zeros((frames, 32, 3), np.float32)
                positions[subject][view.take][:, H36M_32_TO_17, :] = world
    symmetry = {
        "layout_name": "h36m",
        "num_joints": 17,
        "keypoints_symmetry": [list(H36M_17.left), list(H36M_17.right)],
    }
    os.makedirs(folder, exist_ok=True)
    np.savez_compressed(os.path.join(folder, f"data_3d_{name}.npz"), positions_3d=positions)
    for keypoints, joints in (("gt", exact), ("generated", noisy)):
        np.savez_compressed(
            os.path.join(folder, f"data_2d_{name}_{keypoints}.npz"),
            positions_2d=joints,
            metadata=symmetry,
        )
    for file_name, content in (
        ("cameras.json", table),
        ("meta.json", {"test_subjects": list(test_subjects)}),
    ):
        with open(os.path.join(folder, file_name), "w", encoding="utf-8") as file:
            json.dump(content, file)


def _camera_entry(camera: Camera) -> dict[str, Any]:
    """Makes an entry in a table that `cameras.read_cameras` reads."""
    focal, center, radial, tangential = np.split(camera.intrinsic, [2, 4, 7])
    return {
        "res_w": camera.width,
        "res_h": camera.height,
        "focal_length": focal.tolist(),
        "center": center.tolist(),
        "radial_distortion": radial.tolist(),
        "tangential_distortion": tangential.tolist(),
        "orientation": camera.orientation.tolist(),
        "translation": camera.translation.tolist(),
    }
