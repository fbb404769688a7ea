"""The task loss against plain loops, eager and jitted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdpose_jax.losses import lifting as losses
from kdpose_jax.skeletons import H36M_17

B, F, J = 3, 5, 4
WEIGHTS = np.array([1.0, 2.5, 0.0, 4.0])


@pytest.fixture(scope="module")
def poses():
    generator = np.random.default_rng(3)
    return [generator.normal(size=(B, F, J, 3)).astype(np.float32) for _ in range(2)]


def joint_error_oracle(predicted, target):
    values = np.zeros(len(predicted))
    for b, f, j in np.ndindex(predicted.shape[:3]):
        distance = np.sqrt(sum((predicted[b, f, j, c] - target[b, f, j, c]) ** 2 for c in range(3)))
        values[b] += WEIGHTS[j] * distance / (F * J)
    return values


def smoothness_oracle(predicted):
    values = np.zeros(len(predicted))
    for b, f, j, c in np.ndindex(B, F - 1, J, 3):
        values[b] += (
            WEIGHTS[j]
            * (predicted[b, f + 1, j, c] - predicted[b, f, j, c]) ** 2
            / ((F - 1) * J * 3)
        )
    return values


def velocity_oracle(predicted, target):
    values = np.zeros(len(predicted))
    for b, f, j in np.ndindex(B, F - 1, J):
        difference = (predicted[b, f + 1, j] - predicted[b, f, j]) - (
            target[b, f + 1, j] - target[b, f, j]
        )
        values[b] += np.sqrt((difference**2).sum()) / ((F - 1) * J)
    return values


@pytest.mark.parametrize("wrap", [lambda function: function, jax.jit], ids=["eager", "jitted"])
def test_terms_against_loops(poses, wrap):
    predicted, target = (pose.astype(np.float64) for pose in poses)
    expected = {
        "joint_error": joint_error_oracle(predicted, target),
        "smoothness": smoothness_oracle(predicted),
        "velocity_error": velocity_oracle(predicted, target),
    }
    total, terms = wrap(
        lambda first, second: losses.lifting_loss(
            first, second, joint_weights=WEIGHTS, smoothness_weight=0.7, velocity_weight=1.3
        )
    )(*map(jnp.asarray, poses))
    assert terms.keys() == expected.keys()
    for name, value in terms.items():
        assert value.shape == (B,) and value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, err_msg=name)
    combined = (
        expected["joint_error"] + 0.7 * expected["smoothness"] + 1.3 * expected["velocity_error"]
    )
    np.testing.assert_allclose(total, combined, rtol=1e-6)


def test_distance_against_loops(poses):
    expected = np.linalg.norm(poses[0].astype(np.float64) - poses[1], axis=-1)
    np.testing.assert_allclose(losses.pose_distance(*map(jnp.asarray, poses)), expected, rtol=1e-6)


def test_a_known_motion():
    """All joints 0.3 m off in one frame of two.

    Half of the mean weight x 0.3, and a velocity error of 0.3.
    """
    target = np.zeros((1, 2, 17, 3), np.float32)
    predicted = target.copy()
    predicted[:, 1, :, 2] = 0.3
    total, terms = losses.lifting_loss(
        jnp.asarray(predicted),
        jnp.asarray(target),
        joint_weights=np.asarray(H36M_17.loss_weights),
        smoothness_weight=0.5,
        velocity_weight=2.0,
    )
    mean_weight = 36.5 / 17  # docs/methods/lifting.md#task-loss
    np.testing.assert_allclose(terms["joint_error"], [mean_weight * 0.15], rtol=1e-6)
    np.testing.assert_allclose(terms["smoothness"], [mean_weight * 0.09 / 3], rtol=1e-6)
    np.testing.assert_allclose(terms["velocity_error"], [0.3], rtol=1e-6)
    np.testing.assert_allclose(total, [mean_weight * (0.15 + 0.5 * 0.03) + 0.6], rtol=1e-6)


def test_gradient_where_poses_coincide(poses):
    """Zero, not NaN, for the joints that coincide; a unit vector for the others."""
    predicted = poses[0].copy()
    target = predicted.copy()
    target[0, 0, 0] += np.float32([0.0, 2.0, 0.0])
    gradient = jax.grad(lambda pose: losses.pose_distance(pose, jnp.asarray(target)).sum())(
        jnp.asarray(predicted)
    )
    expected = np.zeros_like(predicted)
    expected[0, 0, 0, 1] = -1
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_equal_poses_have_no_loss_and_no_nan(poses):
    def loss(pose):
        same = jax.lax.stop_gradient(pose)
        return losses.lifting_loss(
            pose, same, joint_weights=WEIGHTS, smoothness_weight=0.0, velocity_weight=2.0
        )[0].sum()

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(poses[0]))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(poses[0]))


def test_small_distances_are_not_lost(poses):
    target = poses[0] * np.float32(1e-3)
    moved = target + np.float32([3e-8, 0, 4e-8])
    expected = np.linalg.norm(moved.astype(np.float64) - target, axis=-1)
    assert expected.min() > 0
    np.testing.assert_allclose(
        losses.pose_distance(jnp.asarray(moved), jnp.asarray(target)), expected, rtol=1e-5
    )


def test_a_pose_that_is_not_a_number_is_seen(poses):
    """Otherwise the loop could not stop at it."""
    broken = jnp.asarray(poses[0]).at[1, 2, 3, 0].set(jnp.nan)
    for first, second in ((broken, jnp.asarray(poses[1])), (jnp.asarray(poses[1]), broken)):
        assert np.isnan(losses.pose_distance(first, second)[1, 2, 3])
        assert np.isnan(losses.weighted_joint_error(first, second, WEIGHTS)).tolist() == [
            False,
            True,
            False,
        ]
        assert np.isnan(losses.velocity_error(first, second)).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(B, 1, J, 3), (1, F, J, 3), (B, F, 1, 3), (B, F, J, 1)])
@pytest.mark.parametrize(
    "function",
    [
        losses.pose_distance,
        lambda first, second: losses.weighted_joint_error(first, second, WEIGHTS),
        losses.velocity_error,
    ],
    ids=["pose_distance", "weighted_joint_error", "velocity_error"],
)
def test_shapes_that_would_broadcast_raise(poses, function, shape):
    with pytest.raises((ValueError, TypeError)):
        function(jnp.asarray(poses[0]), jnp.zeros(shape))


def test_weights_of_another_skeleton_raise(poses):
    with pytest.raises((ValueError, TypeError)):
        losses.weighted_joint_error(*map(jnp.asarray, poses), WEIGHTS[:3])
    with pytest.raises((ValueError, TypeError)):
        losses.smoothness(jnp.asarray(poses[0]), WEIGHTS[:3])
