"""Coordinates as the networks see them.

Values by hand, inverses, and the same results from numpy and from jax.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdpose_jax.codecs import poses
from kdpose_jax.skeletons import H36M_17

KINDS = pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])


def random_poses(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@KINDS
def test_screen_units_by_hand(convert):
    """Corners and centre of a 1000 x 800 picture: x over [-1, 1], y by the same scale.

    See docs/methods/lifting.md#normalisation.
    """
    pixels = convert(
        np.array([[0, 0], [1000, 0], [0, 800], [1000, 800], [500, 400], [250, 100]], np.float32)
    )
    expected = [[-1, -0.8], [1, -0.8], [-1, 0.8], [1, 0.8], [0, 0], [-0.5, -0.6]]
    points = poses.normalize_screen(pixels, 1000, 800)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, expected, atol=1e-7)
    np.testing.assert_allclose(poses.denormalize_screen(points, 1000, 800), pixels, atol=1e-4)


@pytest.mark.parametrize("size", [(1000, 1002), (1920, 1080), (64, 64)])
def test_screen_units_of_any_shape(size):
    width, height = size
    pixels = np.random.default_rng(1).uniform(0, 1000, (3, 4, 17, 2))
    expected = np.stack(
        [2 * pixels[..., 0] / width - 1, 2 * pixels[..., 1] / width - height / width], -1
    )
    np.testing.assert_allclose(poses.normalize_screen(pixels, width, height), expected, atol=1e-12)
    back = poses.denormalize_screen(poses.normalize_screen(pixels, width, height), width, height)
    np.testing.assert_allclose(back, pixels, atol=1e-9)


@pytest.mark.parametrize("root", [0, 2])
@KINDS
def test_roots(convert, root):
    pose = random_poses(2, 5, 4, 3)
    relative = np.asarray(poses.root_relative(convert(pose), root))
    zeroed = np.asarray(poses.zero_root(convert(pose), root))
    for joint in range(4):
        np.testing.assert_allclose(
            relative[:, :, joint], pose[:, :, joint] - pose[:, :, root], atol=1e-6
        )
        np.testing.assert_array_equal(
            zeroed[:, :, joint], 0 if joint == root else pose[:, :, joint]
        )
    assert (relative[:, :, root] == 0).all()
    assert relative.dtype == zeroed.dtype == np.float32


@pytest.mark.parametrize("coordinates", [2, 3])
@KINDS
def test_flip(convert, coordinates):
    pose = random_poses(2, 5, 17, coordinates)
    flipped = np.asarray(poses.flip(convert(pose), H36M_17.flip_permutation))
    partner = dict(zip(H36M_17.left + H36M_17.right, H36M_17.right + H36M_17.left, strict=True))
    for joint in range(17):
        other = pose[:, :, partner.get(joint, joint)]
        np.testing.assert_array_equal(flipped[:, :, joint, 0], -other[..., 0])
        np.testing.assert_array_equal(flipped[:, :, joint, 1:], other[..., 1:])
    np.testing.assert_array_equal(poses.flip(flipped, H36M_17.flip_permutation), pose)


def test_flip_names_the_other_side():
    sides = {"left": "right", "right": "left"}
    for joint, other in zip(H36M_17.joints, H36M_17.flip_permutation, strict=True):
        expected = "_".join(sides[word] if word in sides else word for word in joint.split("_"))
        assert H36M_17.joints[other] == expected


def test_flip_and_root_relative_commute():
    pose, permutation = random_poses(3, 17, 3), H36M_17.flip_permutation
    first = poses.root_relative(poses.flip(pose, permutation), 0)
    np.testing.assert_allclose(
        first, poses.flip(poses.root_relative(pose, 0), permutation), atol=1e-6
    )


def test_jitted_equals_numpy():
    pose, points = random_poses(2, 3, 17, 3), random_poses(2, 3, 17, 2)

    def all_of(pose, points):
        return (
            poses.normalize_screen(points, 640, 480),
            poses.denormalize_screen(points, 640, 480),
            poses.root_relative(pose, 0),
            poses.zero_root(pose, 0),
            poses.flip(pose, H36M_17.flip_permutation),
        )

    for jitted, eager in zip(jax.jit(all_of)(pose, points), all_of(pose, points), strict=True):
        assert jitted.dtype == eager.dtype == np.float32
        np.testing.assert_allclose(jitted, eager, rtol=1e-6, atol=1e-6)
