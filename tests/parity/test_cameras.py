"""Camera geometry against VideoPose3D's recorded results (`camera_*.npz`)."""

import json

import numpy as np
import pytest
from golden import golden_files, single_slack

from data_prep import cameras
from kdpose_jax.codecs import poses

FILES = golden_files("camera_*")
NAMES = (
    "world_to_camera",
    "camera_to_world",
    "normalize_screen_coordinates",
    "image_coordinates",
    "project_to_2d",
    "project_to_2d_linear",
    "qrot",
    "qinverse",
)


def compute(golden, dtype) -> dict[str, np.ndarray]:
    """What the reference recorded, by our functions, with inputs of this type."""
    source = {
        key.removeprefix("input/"): golden[key] for key in golden.files if key.startswith("input/")
    }
    results = {name: [] for name in NAMES}
    for index in range(len(source["quaternion"])):
        quaternion, translation, world, space, intrinsic, pixel = (
            source[key][index].astype(dtype)
            for key in ("quaternion", "translation", "world", "camera_space", "intrinsic", "pixel")
        )
        width, height = (int(size) for size in source["resolution"][index])
        in_camera = cameras.world_to_camera(world, quaternion, translation)
        screen = poses.normalize_screen(pixel, width, height)
        values = (
            in_camera,
            cameras.camera_to_world(in_camera, quaternion, translation),
            screen,
            poses.denormalize_screen(screen, width, height),
            cameras.project_to_2d(space, intrinsic),
            cameras.project_to_2d_linear(space, intrinsic),
            cameras.rotate(space, quaternion),
            cameras.inverse(quaternion),
        )
        for name, value in zip(NAMES, values, strict=True):
            results[name].append(value)
    return {name: np.stack(value) for name, value in results.items()}


@pytest.mark.parametrize("path", FILES)
def test_float64(path):
    with np.load(path) as golden:
        assert json.loads(str(golden["config"][0]))["config"]["intrinsic"].startswith(
            "fx fy cx cy k1 k2 k3 p1 p2"
        )
        computed = compute(golden, np.float64)
        expected = {
            key.removeprefix("output64/"): golden[key]
            for key in golden.files
            if key.startswith("output64/")
        }
    assert sorted(expected) == sorted(NAMES)
    for name, value in expected.items():
        np.testing.assert_allclose(
            computed[name], value, rtol=0, atol=1e-9 * np.abs(value).max(), err_msg=name
        )


@pytest.mark.parametrize("path", FILES)
def test_float32(path):
    with np.load(path) as golden:
        computed = compute(golden, np.float32)
        expected = {
            key.removeprefix("output/"): golden[key]
            for key in golden.files
            if key.startswith("output/")
        }
        slack = single_slack(dict(golden), "output", 4e-6)
    for name, value in expected.items():
        np.testing.assert_allclose(
            computed[name], value, rtol=0, atol=slack * np.abs(value).max(), err_msg=name
        )
        assert computed[name].dtype == np.float32
