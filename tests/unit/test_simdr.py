"""SimDR labels, their decoding, the flip, and the task losses, against closed forms and tables.

The tables: docs/methods/pose2d.md#task-losses.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdpose_jax.codecs import keypoints_2d
from kdpose_jax.losses import keypoints_2d as losses

LIBRARIES = pytest.mark.parametrize("library", [np, jnp])
PERMUTATION = (1, 0, 2)


def peaks(bins, count):
    """Probabilities with all mass in the given bins."""
    return np.eye(count, dtype=np.float32)[bins]


@LIBRARIES
@pytest.mark.parametrize("ratio", [1.0, 2.0, 3.0])
def test_round_trip(library, ratio):
    """Joints -> bins -> joints is off by half a bin at most, and exact where a joint stands on a
    bin.
    """
    size = (48, 32)
    joints = np.random.default_rng(0).uniform((0, 0), (47, 31), (5, 7, 2)).astype(np.float32)
    bins, weight = keypoints_2d.to_bins(
        library.asarray(joints), library.ones((5, 7), library.float32), size=size, split_ratio=ratio
    )
    assert (
        isinstance(bins, np.ndarray if library is np else jax.Array) and bins.dtype == library.int32
    )
    assert (np.asarray(weight) == 1).all()
    x, y = (
        library.asarray(peaks(np.asarray(bins)[..., axis], int(size[axis] * ratio)))
        for axis in (0, 1)
    )
    for coordinate in keypoints_2d.COORDINATES:
        found, scores = keypoints_2d.decode(
            x, y, split_ratio=ratio, coordinate=coordinate, score="max"
        )
        np.testing.assert_allclose(found, np.asarray(bins) / ratio, rtol=1e-6)
        assert np.abs(np.asarray(found) - joints).max() <= 0.5 / ratio + 1e-5
        assert (np.asarray(scores) == 1).all()


@LIBRARIES
def test_joints_outside_have_no_weight(library):
    """Outside by their bin.

    Half a bin beyond the border counts as outside, and a half rounds to the even bin.
    """
    joints = np.array(
        [[0, 0], [-0.3, 5], [15.9, 5], [15.4, 5], [5, -0.2], [5, 12], [7.25, 0.75], [3, 4]],
        np.float32,
    )
    given = np.array([1, 1, 1, 1, 1, 1, 1, 0], np.float32)
    bins, weight = keypoints_2d.to_bins(
        library.asarray(joints), library.asarray(given), size=(16, 12), split_ratio=2.0
    )
    np.testing.assert_array_equal(weight, [1, 0, 0, 1, 1, 0, 1, 0])
    wanted = [[0, 0], [0, 10], [31, 10], [31, 10], [10, 0], [10, 23], [14, 2], [6, 8]]
    np.testing.assert_array_equal(bins, wanted)


@LIBRARIES
def test_expectation_and_scores(library):
    x = np.array([[0.5, 0.0, 0.25, 0.25]], np.float32)
    y = np.array([[0.0, 0.6, 0.4, 0.0]], np.float32)
    for score, wanted in (("max", 0.6), ("min", 0.5)):
        joints, scores = keypoints_2d.decode(
            library.asarray(x),
            library.asarray(y),
            split_ratio=2.0,
            coordinate="expectation",
            score=score,
        )
        np.testing.assert_allclose(joints, [[1.25 / 2, 1.4 / 2]], rtol=1e-6)
        np.testing.assert_allclose(scores, [wanted], rtol=1e-6)


@LIBRARIES
@pytest.mark.parametrize("bins", [[120, 80], [2, 765], [600, 400]])
def test_expectation_ignores_the_tail_of_smoothed_labels(library, bins):
    """A label smoothed by 0.2 over 768 bins has a fifth of its mass far away.

    The mean of all would be off by dozens of pixels.
    """
    x, y = np.full((2, 1, 768), 0.2 / 767, np.float32)
    x[0, bins[0]] = y[0, bins[1]] = 0.8
    joints, _ = keypoints_2d.decode(
        library.asarray(x),
        library.asarray(y),
        split_ratio=3.0,
        coordinate="expectation",
        score="max",
    )
    np.testing.assert_allclose(joints[0] * 3, bins, atol=0.05)


@LIBRARIES
@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
def test_flip_shift_is_exact_at_k_minus_one(library, ratio):
    """A point at x mirrors to S - 1 - x; moved back by k - 1 bins its peak is on its own bin again.

    See docs/methods/pose2d.md#flip-test.
    """
    side, count = 16, 16 * ratio
    shift = keypoints_2d.flip_shift("exact", float(ratio))
    assert shift == ratio - 1 and keypoints_2d.flip_shift("one", float(ratio)) == 1
    places = np.arange(side)
    plain = np.broadcast_to(peaks(places * ratio, count)[:, None], (side, 3, count))
    mirrored = np.broadcast_to(peaks((side - 1 - places) * ratio, count)[:, None], (side, 3, count))
    x, y = keypoints_2d.mirror_back(
        library.asarray(mirrored), library.asarray(plain), flip_permutation=PERMUTATION, shift=shift
    )
    np.testing.assert_array_equal(np.argmax(x, -1), places[:, None] * ratio + np.zeros((1, 3), int))
    np.testing.assert_array_equal(y, plain)
    unmoved, _ = keypoints_2d.mirror_back(mirrored, plain, flip_permutation=PERMUTATION, shift=0)
    np.testing.assert_array_equal(
        np.argmax(unmoved, -1), places[:, None] * ratio + ratio - 1 + np.zeros((1, 3), int)
    )


def test_flip_swaps_joints():
    logits = np.random.default_rng(0).normal(size=(2, 3, 6))
    x, y = keypoints_2d.mirror_back(logits, logits, flip_permutation=PERMUTATION, shift=2)
    np.testing.assert_array_equal(y, logits[:, [1, 0, 2]])
    reversed_ = logits[:, [1, 0, 2], ::-1]
    np.testing.assert_array_equal(x, np.concatenate([reversed_[..., 2:], reversed_[..., -2:]], -1))


def test_merges():
    generator = np.random.default_rng(0)
    plain, other = ([generator.normal(size=(2, 3, 5)) for _ in "xy"] for _ in range(2))

    def softmax(values):
        return np.exp(values) / np.exp(values).sum(-1, keepdims=True)

    for merge, wanted in (
        (
            "probabilities",
            [(softmax(one) + softmax(two)) / 2 for one, two in zip(plain, other, strict=True)],
        ),
        ("logits", [softmax((one + two) / 2) for one, two in zip(plain, other, strict=True)]),
    ):
        for found, array in zip(
            keypoints_2d.merge_flip(plain, other, merge=merge), wanted, strict=True
        ):
            np.testing.assert_allclose(found, array, rtol=1e-12)


@LIBRARIES
def test_heatmap_round_trip(library):
    """The highest cell is the nearest one; the quarter points to the true side."""
    joints = np.array([[20.0, 12.0], [21.5, 13.4], [33.0, 41.2]], np.float32)
    sizes = {"size": (64, 48), "heatmap_size": (16, 12)}
    heatmaps, weight = keypoints_2d.to_heatmaps(
        library.asarray(joints), library.ones(3, library.float32), **sizes, sigma=1
    )
    assert heatmaps.shape == (3, 12, 16) and (np.asarray(weight) == 1).all()
    found, scores = keypoints_2d.decode_heatmaps(heatmaps, size=(64, 48), quarter=False)
    np.testing.assert_array_equal(found, np.floor(joints / 4 + 0.5) * 4)
    assert (np.asarray(scores) == 1).all()
    tilted = np.array(heatmaps)
    tilted[0, 3, 6], tilted[0, 4, 5] = 0.9, 0.8  # joint 0 stands at column 5, row 3
    moved, _ = keypoints_2d.decode_heatmaps(library.asarray(tilted), size=(64, 48), quarter=True)
    np.testing.assert_array_equal(np.asarray(moved)[0], np.asarray(found)[0] + [1, 1])


def test_gaussian_labels():
    """The mean bin of a label is x k, unrounded; a joint far outside has none."""
    joints = np.array([[10.3, 6.1], [-30.0, 5.0]])
    x, y, weight = keypoints_2d.to_gaussians(
        joints, np.ones(2), size=(32, 16), split_ratio=2.0, sigma=1.5
    )
    np.testing.assert_allclose(x[0].sum(), 1, atol=1e-6)
    np.testing.assert_allclose(
        [(x[0] * np.arange(64)).sum(), (y[0] * np.arange(32)).sum()], [20.6, 12.2], atol=1e-5
    )
    np.testing.assert_array_equal(weight, [1, 0])
    assert (x[1] == 0).all() and (y[1] == 0).all()


# docs/methods/pose2d.md#task-losses, uniform logits, all joints visible: bins, smoothing, one axis,
# NORM, SUM for 16 and 17 joints.
TABLE = [
    (64, 0.2, 2.829854, 0.08843293, 90.55532, 96.21503),
    (192, 0.2, 3.706638, 0.03861082, 118.61242, 126.02570),
    (64, 0.1, 3.419487, 0.10685896, 109.42357, 116.26255),
    (192, 0.1, 4.407185, 0.04590818, 141.02992, 149.84429),
    (512, 0.2, 4.490648, 0.01754159, None, None),
    (768, 0.2, 4.814890, 0.01253878, None, None),
]


@pytest.mark.parametrize(("count", "smoothing", "axis", "norm", "sum_16", "sum_17"), TABLE)
def test_table_of_the_spec(count, smoothing, axis, norm, sum_16, sum_17):
    for joints, total in ((16, sum_16), (17, sum_17)):
        logits, bins = jnp.zeros((2, joints, count)), jnp.zeros((2, joints), jnp.int32)
        divergence = losses.smoothed_divergence(logits, bins, smoothing=smoothing)
        np.testing.assert_allclose(divergence, axis, rtol=1e-6)
        for form, wanted in (("norm", norm), ("sum", total), ("mean", 2 * axis)):
            if wanted is not None:
                found = losses.joint_loss(
                    divergence, divergence, jnp.ones((2, joints)), bins=(count, count), form=form
                )
                np.testing.assert_allclose(found, [wanted] * 2, rtol=1e-6)


def test_without_smoothing_it_is_the_likelihood():
    logits = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
    bins = np.array([[0, 3, 5], [1, 1, 2]], np.int32)
    wanted = (
        np.log(np.exp(logits.astype(np.float64)).sum(-1))
        - np.take_along_axis(logits, bins[..., None], -1)[..., 0]
    )
    np.testing.assert_allclose(
        losses.smoothed_divergence(jnp.asarray(logits), jnp.asarray(bins), smoothing=0.0),
        wanted,
        rtol=1e-5,
    )


def test_weights_and_forms():
    """A joint of weight 0 adds nothing and still counts in the mean.

    Per-example values belong to their example.
    """
    generator = np.random.default_rng(0)
    x, y = (jnp.asarray(generator.uniform(1, 2, (2, 4)), jnp.float32) for _ in "xy")
    weight = jnp.asarray([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    both = np.asarray(weight) * (np.asarray(x) + np.asarray(y))
    scaled = np.asarray(weight) * (np.asarray(x) / 8 + np.asarray(y) / 6)
    for form, wanted in (
        ("mean", both.mean(1)),
        ("sum", both.sum(1)),
        ("norm", scaled.mean(1)),
        ("gaussian", scaled.mean(1)),
    ):
        found = losses.joint_loss(x, y, weight, bins=(8, 6), form=form)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        assert found[1] == 0


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="do not fit"):
        losses.divergence(jnp.zeros((2, 3, 4)), jnp.zeros((2, 3, 5)))
    with pytest.raises(ValueError, match="do not fit"):
        losses.smoothed_divergence(
            jnp.zeros((2, 3, 4)), jnp.zeros((2, 4), jnp.int32), smoothing=0.1
        )
    with pytest.raises(ValueError, match="cannot be compared"):
        losses.heatmap_error(jnp.zeros((2, 3, 4, 4)), jnp.zeros((2, 3, 4, 5)), jnp.ones((2, 3)))
