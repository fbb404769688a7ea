"""Affines and what of a photograph crops can reach, against closed forms and random draws."""

import numpy as np
import pytest

from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.data import images
from kdpose_jax.skeletons import COCO_17, MPII_16, SKELETONS


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_skeletons_are_trees_with_named_sides(skeleton):
    assert (
        len(skeleton.bones) == skeleton.num_joints - 1
        and skeleton.hops().max() < skeleton.num_joints
    )
    for left, right in zip(skeleton.left, skeleton.right, strict=True):
        assert (
            skeleton.joints[left].replace("left", "right")
            == skeleton.joints[right]
            != skeleton.joints[left]
        )
    middle = set(range(skeleton.num_joints)) - set(skeleton.left) - set(skeleton.right)
    assert all(
        "left" not in skeleton.joints[joint] and "right" not in skeleton.joints[joint]
        for joint in middle
    )


def test_the_middle_of_the_box_is_the_middle_of_the_crop_and_its_side_fills_it():
    matrix = crops.crop_affine(np.asarray([50.0, 80.0]), np.asarray([0.5, 0.5]), 0.0, 64)
    points = crops.transform_points(np.asarray([[50.0, 80.0], [0.0, 30.0], [100.0, 130.0]]), matrix)
    np.testing.assert_allclose(points, [[32, 32], [0, 0], [64, 64]], atol=1e-12)


def test_a_quarter_turn():
    """R(90)^T takes what lies below the centre to the right of it."""
    matrix = crops.crop_affine(np.asarray([50.0, 80.0]), np.asarray([0.5, 0.5]), 90.0, 100)
    np.testing.assert_allclose(
        crops.transform_points(np.asarray([[50.0, 90.0]]), matrix), [[60, 50]], atol=1e-12
    )


def test_two_resolutions_agree_on_every_position():
    """x at 256 is r x at S, exactly, for many boxes at once.

    See docs/methods/pose2d.md#two-resolutions.
    """
    generator = np.random.default_rng(0)
    center, scale = generator.uniform(0, 300, (20, 2)), generator.uniform(0.1, 3, (20, 2))
    rotation, points = generator.uniform(-90, 90, 20), generator.uniform(0, 300, (20, 16, 2))
    large, small = (
        crops.transform_points(points, crops.crop_affine(center, scale, rotation, size))
        for size in (256, 32)
    )
    np.testing.assert_allclose(large, 8 * small, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(
    "aspect, box, sides",
    [
        (1.0, (0, 0, 30, 60), (60, 60)),
        (0.75, (0, 0, 60, 60), (60, 80)),
        (0.75, (0, 0, 30, 60), (45, 60)),
    ],
)
def test_the_short_side_is_lengthened(aspect, box, sides):
    center, scale = crops.box_to_crop(box, aspect)
    np.testing.assert_allclose(center, [box[2] / 2, box[3] / 2])
    np.testing.assert_allclose(scale * 200, np.asarray(sides) * 1.25)


def test_half_body_needs_joints():
    joints = np.random.default_rng(0).uniform(0, 100, (17, 2))
    visible = np.zeros(17, bool)
    visible[5:7] = True  # two upper joints, no lower: the upper half is taken whatever is drawn
    for draw in (0.0, 1.0):
        np.testing.assert_allclose(
            crops.half_body(joints, visible, COCO_17.upper_body, draw, 1.0)[0], joints[5:7].mean(0)
        )
    assert crops.half_body(joints, np.arange(17) == 5, COCO_17.upper_body, 0.0, 1.0) is None
    assert (
        crops.half_body(np.ones((17, 2)), np.ones(17, bool), COCO_17.upper_body, 0.0, 1.0) is None
    )  # of no size


@pytest.mark.parametrize(
    "rotation_factor, extent",
    [(0.0, 0.5), (30.0, 2**0.5 / 2), (10.0, (np.cos(np.pi / 9) + np.sin(np.pi / 9)) / 2)],
)
def test_extent_of_a_reach(rotation_factor, extent):
    np.testing.assert_allclose(Reach(0.25, rotation_factor, False).extent, 1.25 * extent)


def test_covering():
    reach = Reach(0.25, 30.0, False)
    assert (
        reach.covers(reach)
        and reach.covers(Reach(0.25, 80.0, False))
        and reach.covers(crops.NO_REACH)
    )
    assert (
        not reach.covers(Reach(0.26, 30.0, False))
        and not reach.covers(Reach(0.0, 0.0, True))
        and not crops.NO_REACH.covers(reach)
    )


@pytest.mark.parametrize(
    "skeleton, reach, half_probability",
    [
        (MPII_16, Reach(0.25, 30.0, False), 0.0),
        (COCO_17, Reach(0.35, 45.0, True), 1.0),
        (COCO_17, Reach(0.4, 5.0, True), 0.5),
        (COCO_17, crops.NO_REACH, 0.0),
    ],
)
def test_no_augmented_crop_samples_a_pixel_outside_the_region(skeleton, reach, half_probability):
    """Every pixel of the photograph that bilinear sampling reads, over many draws, lies in the
    region, and the bound is not loose.
    """
    generator = np.random.default_rng(1)
    width, height, size, count = 640, 480, 16, 600
    augmentation = images.Augmentation(
        3, reach.scale_factor, reach.rotation_factor, True, half_probability
    )
    corner = (
        np.stack(np.meshgrid([0, size - 1], [0, size - 1]), -1).reshape(4, 2).astype(float)
    )  # the farthest sampled points
    for number in range(30):
        center = generator.uniform([-50, -50], [width + 50, height + 50]).astype(np.float32)
        scale = np.full(2, generator.uniform(0.05, 1.5), np.float32)
        joints = generator.normal(center, 60 * scale, (skeleton.num_joints, 2)).astype(np.float32)
        visible = generator.random(skeleton.num_joints) < 0.8
        region = crops.reachable_region(
            center, scale, joints, visible, skeleton.upper_body, (width, height), reach
        )
        repeated = [np.repeat(array[None], count, 0) for array in (center, scale, joints, visible)]
        views = images.draw(
            augmentation, np.arange(count), np.full(count, number), *repeated, skeleton.upper_body
        )
        sampled = images.sampling_affines(views, np.full(count, width), np.zeros((count, 2)), size)
        points = crops.transform_points(np.repeat(corner[None], count, 0), sampled)
        read = np.concatenate([np.floor(points), np.floor(points) + 1]).reshape(-1, 2)
        low, high = read.min(0), read.max(0)
        inside = [max(low[0], 0), max(low[1], 0), min(high[0], width - 1), min(high[1], height - 1)]
        if region is None:
            assert inside[0] > inside[2] or inside[1] > inside[3]
            continue
        x, y, region_width, region_height = region
        assert x >= 0 and y >= 0 and x + region_width <= width and y + region_height <= height
        if inside[0] <= inside[2] and inside[1] <= inside[3]:
            assert (
                x <= inside[0]
                and y <= inside[1]
                and inside[2] < x + region_width
                and inside[3] < y + region_height
            )
        if (
            reach is crops.NO_REACH
        ):  # then the bound is tight: the box, and what sampling and rounding need
            assert inside[0] - x <= 3 and x + region_width - inside[2] <= 200 * scale[0] / size + 4


def test_draws_are_distributed_as_released():
    """0.69 upper halves, 0.6 rotated, half mirrored, scales and angles clipped normal draws."""
    count = 4000
    joints = np.zeros((17, 2))
    joints[list(COCO_17.upper_body)] = [
        [10, 0],
        [11, 1],
        [12, 2],
        [13, 3],
        [14, 4],
        [15, 5],
        [16, 6],
        [17, 7],
        [18, 8],
        [19, 9],
        [20, 10],
    ]
    joints[11:] = [[100, 0], [101, 1], [102, 2], [103, 3], [104, 4], [105, 5]]
    repeated = [
        np.repeat(array[None], count, 0)
        for array in (np.full(2, 50.0), np.full(2, 1.0), joints, np.ones(17, bool))
    ]
    augmentation = images.Augmentation(0, 0.35, 45.0, True, 0.3)
    views = images.draw(
        augmentation, np.zeros(count, int), np.arange(count), *repeated, COCO_17.upper_body
    )
    upper, lower = (views.center[:, 0] == 15), (views.center[:, 0] == 102.5)
    assert (
        abs((upper | lower).mean() - 0.3) < 0.03
        and abs(upper.sum() / (upper | lower).sum() - 0.6915) < 0.04
    )
    whole = views.scale[~(upper | lower), 0]
    assert abs(whole.mean() - 1) < 0.02 and whole.min() == 0.65 and whole.max() == 1.35
    assert abs((whole == 1.35).mean() - 0.1587) < 0.03  # draws beyond one standard deviation
    assert abs((views.rotation != 0).mean() - 0.6) < 0.03 and np.abs(views.rotation).max() == 90
    assert abs(views.rotation[views.rotation != 0].std() - 45 * 0.96) < 3
    assert abs(views.flipped.mean() - 0.5) < 0.03
    few = [
        *repeated[:3],
        np.repeat((np.arange(17) < 8)[None], count, 0),
    ]  # 8 visible joints are too few
    views = images.draw(
        augmentation, np.zeros(count, int), np.arange(count), *few, COCO_17.upper_body
    )
    assert (views.center == 50).all()
