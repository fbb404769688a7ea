"""Crops and mirrored joints against HRNet's and SimCC's transforms (`transforms_2d*`)."""

import json

import numpy as np
import pytest
from golden import golden_files

from kdpose_jax.codecs import crops
from kdpose_jax.data import images
from kdpose_jax.skeletons import COCO_17, MPII_16

FILES = golden_files("transforms_2d*")
every_file = pytest.mark.parametrize("path", FILES)


def read(path) -> dict[str, np.ndarray]:
    with np.load(path) as golden:
        return {key: golden[key] for key in golden.files}


def affines(golden) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ours, photograph -> crop; the centre moved by the shift) of every recorded case."""
    center, scale, shift = (
        golden[f"input/{name}"].astype(np.float64) for name in ("center", "scale", "shift")
    )
    moved = center + 200 * scale * shift
    rotation, sizes = golden["input/rot_degrees"], golden["input/output_size"]
    return [
        crops.crop_affine(moved[i], scale[i], rotation[i], tuple(int(side) for side in sizes[i]))
        for i in range(len(sizes))
    ]


def same_affine(ours: np.ndarray, recorded: np.ndarray) -> None:
    """cv2's float32 points: by the size of the picture, which the shift of the matrix shows."""
    np.testing.assert_allclose(ours, recorded, rtol=1e-5, atol=2e-3 + 1e-5 * np.abs(recorded).max())


@every_file
def test_affine_and_its_inverse(path):
    """cv2 takes the three points as float32, so the recorded matrices are good to about 1e-4 pixels
    of a crop.
    """
    golden = read(path)
    for index, matrix in enumerate(affines(golden)):
        same_affine(matrix, golden["output/affine"][index])
        same_affine(crops.invert_affine(matrix), golden["output/affine_inverse"][index])
        product = np.vstack([matrix, [0, 0, 1]]) @ np.vstack(
            [crops.invert_affine(matrix), [0, 0, 1]]
        )
        np.testing.assert_allclose(product, np.eye(3), atol=1e-9)


@every_file
def test_points(path):
    golden = read(path)
    for index, matrix in enumerate(golden["output/affine"]):
        moved = crops.transform_points(golden["input/coords"][index], matrix)
        np.testing.assert_allclose(
            moved, golden["output/affine_transform"][index], rtol=1e-9, atol=1e-9
        )


@every_file
def test_predictions_go_back_to_the_photograph(path):
    """transform_preds: no rotation, no shift."""
    golden = read(path)
    for index, size in enumerate(golden["input/output_size"]):
        center, scale = golden["input/center"][index], golden["input/scale"][index]
        matrix = crops.crop_affine(center, scale, 0.0, (int(size[0]), int(size[1])))
        back = crops.transform_points(golden["input/coords"][index], crops.invert_affine(matrix))
        np.testing.assert_allclose(
            back, golden["output/transform_preds"][index], rtol=1e-5, atol=2e-3
        )


def cases(golden) -> list[str]:
    return sorted(
        key.split("/")[1]
        for key in golden
        if key.startswith("output/crop") and key.endswith("/picture")
    )


def our_crop(golden, case) -> np.ndarray:
    rotation, width, height = (int(value) for value in golden[f"input/{case}/rot_size"])
    matrix = crops.crop_affine(
        golden[f"input/{case}/center"], golden[f"input/{case}/scale"], rotation, (width, height)
    )
    same_affine(matrix, golden[f"output/{case}/affine"])
    sampled = crops.invert_affine(matrix)
    side = max(width, height)  # a square crop begins with the same pixels
    return images.warp(golden["input/picture_hwc"], sampled, side)[:height, :width]


@every_file
def test_crops_are_the_exact_bilinear_values_rounded(path):
    golden = read(path)
    assert cases(golden)
    for case in cases(golden):
        error = our_crop(golden, case).astype(np.float64) - golden[f"output/{case}/exact_bilinear"]
        # Half a grey level, and what the recorded matrix is off by.
        assert np.abs(error).max() < 0.55, case


@every_file
def test_crops_are_opencv_5s(path):
    """But for values that lie between two grey levels, which our exact matrix may round to the
    other one.
    """
    golden = read(path)
    for case in cases(golden):
        ours, picture = (
            our_crop(golden, case).astype(int),
            golden[f"output/{case}/picture"].astype(int),
        )
        assert np.abs(ours - picture).max() <= 1 and (ours != picture).mean() < 1e-2, case


@every_file
def test_mirrored_joints(path):
    golden = read(path)
    width = json.loads(str(golden["config"][0]))["config"]["fliplr_width"]
    visible = golden["input/joints_vis"][:, 0] > 0
    joints, swapped = crops.flip_joints(
        golden["input/joints"][:, :2], visible, MPII_16.flip_permutation, width
    )
    np.testing.assert_allclose(joints, golden["output/fliplr_joints"][:, :2], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(swapped, golden["output/fliplr_joints_vis"][:, 0] > 0)


@every_file
@pytest.mark.parametrize("skeleton, key", [(MPII_16, "mpii_pairs"), (COCO_17, "coco_pairs")])
def test_pairs(path, skeleton, key):
    pairs = {tuple(sorted(pair)) for pair in zip(skeleton.left, skeleton.right, strict=True)}
    assert pairs == {tuple(sorted(pair)) for pair in read(path)[key].tolist()}
