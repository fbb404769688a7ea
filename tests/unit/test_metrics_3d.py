"""3D metrics: closed forms, invariances, and averaging by hand."""

import numpy as np
import pytest

from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.metrics import poses_3d
from kdpose_jax.evaluate.metrics.poses_3d import SequencePoses, score_sequences

PER_FRAME = (poses_3d.mpjpe_per_frame, poses_3d.p_mpjpe_per_frame, poses_3d.n_mpjpe_per_frame)
PER_STEP = (poses_3d.velocity_error_per_step, poses_3d.acceleration_error_per_step)


def random_rotations(rng: np.random.Generator, count: int) -> np.ndarray:
    """Proper rotations, `[count, 3, 3]`."""
    rotation, _ = np.linalg.qr(rng.normal(size=(count, 3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))[:, None, None]


@pytest.fixture
def poses() -> tuple[np.ndarray, np.ndarray]:
    """(predicted, target), `[12, 17, 3]` metres, far enough apart that every metric has something
    to measure.
    """
    rng = np.random.default_rng(3)
    target = rng.normal(size=(12, 17, 3))
    return target + 0.3 * rng.normal(size=target.shape), target


def moved(target: np.ndarray, distances: list[float]) -> np.ndarray:
    """Copies of a pose `[J, 3]`, frame f shifted along x by distances[f].

    MPJPE is known by construction.
    """
    return target[None] + np.array(distances)[:, None, None] * np.array([1.0, 0.0, 0.0])


def test_joint_errors_by_hand():
    predicted = np.array([[[3.0, 4.0, 0.0], [1.0, 1.0, 1.0]]], np.float32)
    target = np.array([[[0.0, 0.0, 0.0], [1.0, 1.0, 3.0]]], np.float32)
    errors = poses_3d.joint_errors(predicted, target)
    assert errors.dtype == np.float64
    np.testing.assert_array_equal(errors, [[5.0, 2.0]])
    np.testing.assert_array_equal(poses_3d.mpjpe_per_frame(predicted, target), [3.5])


@pytest.mark.parametrize("function", PER_FRAME + PER_STEP)
def test_perfect_prediction_is_zero(function, poses):
    np.testing.assert_allclose(function(poses[1], poses[1]), 0, atol=1e-14)
    assert function(*poses).min() > 1e-3


@pytest.mark.parametrize("function", PER_FRAME + PER_STEP)
def test_batch_dimensions(function, poses):
    split = [pose.reshape(2, 6, 17, 3) for pose in poses]
    expected = np.stack([function(split[0][clip], split[1][clip]) for clip in range(2)])
    np.testing.assert_allclose(function(*split), expected, rtol=1e-12)


@pytest.mark.parametrize("function", PER_FRAME)
@pytest.mark.parametrize("shape", [(12, 16, 3), (1, 17, 3), (12, 1, 3), (12, 17, 2)])
def test_shapes_that_do_not_fit(function, shape, poses):
    with pytest.raises(ValueError):
        function(np.ones(shape), poses[1])


def test_p_mpjpe_ignores_similarity_transforms(poses):
    predicted, target = poses
    rng = np.random.default_rng(4)
    turned = predicted @ random_rotations(rng, 12) * rng.uniform(0.2, 5, (12, 1, 1)) + rng.normal(
        size=(12, 1, 3)
    )
    reference = poses_3d.p_mpjpe_per_frame(predicted, target)
    np.testing.assert_allclose(poses_3d.p_mpjpe_per_frame(turned, target), reference, rtol=1e-10)
    assert np.all(np.abs(poses_3d.mpjpe_per_frame(turned, target) - reference) > 1e-2)


def test_p_mpjpe_does_not_mirror(poses):
    target = poses[1]
    mirrored = target * np.array([-1.0, 1.0, 1.0])
    errors = poses_3d.p_mpjpe_per_frame(mirrored, target)
    # Closed form: the best rotation of a mirror image loses the weakest direction of the pose twice
    # over.
    centred = target - target.mean(1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(centred.swapaxes(1, 2) @ centred)  # rising, [N, 3]
    scale = 1 - 2 * eigenvalues[:, 0] / eigenvalues.sum(1)
    squares = np.sum((poses_3d.procrustes_align(mirrored, target) - target) ** 2, axis=(1, 2))
    np.testing.assert_allclose(squares, eigenvalues.sum(1) * (1 - scale**2), rtol=1e-10)
    assert errors.min() > 0.1


def test_procrustes_is_the_least_squares_optimum(poses):
    """No small change of rotation, scale or shift lowers the sum of squares."""
    predicted, target = poses
    aligned = poses_3d.procrustes_align(predicted, target)
    best = np.sum((aligned - target) ** 2, axis=(1, 2))
    rng = np.random.default_rng(5)
    for _ in range(20):
        skew = 0.02 * rng.normal(size=(12, 3))
        turn = np.stack([np.cross(np.eye(3), axis) for axis in skew]) + np.eye(3)
        orthogonal, upper = np.linalg.qr(turn)
        turn = orthogonal * np.sign(np.diagonal(upper, axis1=1, axis2=2))[:, None, :]
        centre = aligned.mean(1, keepdims=True)
        other = (
            (aligned - centre) @ turn * (1 + 0.02 * rng.normal())
            + centre
            + 0.02 * rng.normal(size=3)
        )
        assert np.all(np.sum((other - target) ** 2, axis=(1, 2)) > best)


def test_p_mpjpe_in_chunks(poses, monkeypatch):
    whole = poses_3d.p_mpjpe_per_frame(*poses)
    monkeypatch.setattr(poses_3d, "_FRAMES_PER_CHUNK", 5)
    np.testing.assert_allclose(poses_3d.p_mpjpe_per_frame(*poses), whole, rtol=1e-13)


@pytest.mark.parametrize("point", [0.0, 0.1, 123.4])
def test_degenerate_poses(point, poses):
    target = poses[1]
    spread = np.linalg.norm(target - target.mean(1, keepdims=True), axis=-1).mean(-1)
    collapsed = np.full_like(target, point)
    np.testing.assert_allclose(poses_3d.p_mpjpe_per_frame(collapsed, target), spread, rtol=1e-12)
    np.testing.assert_allclose(poses_3d.p_mpjpe_per_frame(target, collapsed), 0, atol=1e-12)
    noisy = collapsed + 1e-12 * point * poses[0]  # round-off is no shape to align
    np.testing.assert_allclose(poses_3d.p_mpjpe_per_frame(noisy, target), spread, rtol=1e-9)
    assert np.isfinite(poses_3d.n_mpjpe_per_frame(collapsed, target)).all()
    line = target * np.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(
        poses_3d.p_mpjpe_per_frame(2 * line[..., [1, 0, 2]], line), 0, atol=1e-12
    )


def test_n_mpjpe_ignores_scale(poses):
    predicted, target = poses
    scale = np.linspace(0.1, 4, 12)[:, None, None]
    reference = poses_3d.n_mpjpe_per_frame(predicted, target)
    np.testing.assert_allclose(
        poses_3d.n_mpjpe_per_frame(scale * predicted, target), reference, rtol=1e-12
    )
    np.testing.assert_allclose(poses_3d.n_mpjpe_per_frame(scale * target, target), 0, atol=1e-14)
    shifted = poses_3d.n_mpjpe_per_frame(predicted + 0.5, target)
    assert np.all(np.abs(shifted - reference) > 1e-3)


def test_n_mpjpe_of_zero_is_the_plain_error(poses):
    zero = np.zeros_like(poses[1])
    np.testing.assert_allclose(
        poses_3d.n_mpjpe_per_frame(zero, poses[1]),
        poses_3d.mpjpe_per_frame(zero, poses[1]),
        rtol=1e-15,
    )


def test_velocity_and_acceleration_by_hand(poses):
    predicted = moved(poses[1][0], [0.0, 1.0, 4.0, 9.0])
    target = moved(poses[1][0], [0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(
        poses_3d.velocity_error_per_step(predicted, target), [1, 3, 5], rtol=1e-12
    )
    np.testing.assert_allclose(
        poses_3d.acceleration_error_per_step(predicted, target), [2, 2], rtol=1e-12
    )


def test_action_average_against_frame_average(poses):
    """Walking.

    1 frame of 10 mm and 3 of 30 mm in two sequences (mean 25); Sitting: 1 frame of 85 mm.
    """
    pose = poses[1][0]
    sequences = [
        SequencePoses("Walking", moved(pose, [0.010]), pose[None], np.array([True])),
        SequencePoses("Sitting", moved(pose, [0.085]), pose[None], np.array([True])),
        SequencePoses(
            "Walking", moved(pose, [0.030] * 3), moved(pose, [0.0] * 3), np.ones(3, bool)
        ),
    ]
    scores = score_sequences(iter(sequences), metrics=("mpjpe",))
    assert list(scores["per_action"]) == ["Sitting", "Walking"]
    assert scores["per_action"]["Walking"] == {"mpjpe_mm": pytest.approx(25), "frames": 4}
    assert scores["mean_over_actions"] == {"mpjpe_mm": pytest.approx((25 + 85) / 2)}
    assert scores["mean_over_frames"] == {"mpjpe_mm": pytest.approx((10 + 90 + 85) / 5)}
    assert scores["frames"] == 5


def test_uncounted_frames_change_nothing(poses):
    """Only steps whose frames all count are scored; NaN in the others does not matter."""
    pose = poses[1][0]
    predicted = moved(pose, [0.001, 0.003, 7.0, 0.004, 0.009])
    predicted[2] = np.nan
    target = moved(pose, [0.0] * 5)
    mask = np.array([True, True, False, True, True])
    scores = score_sequences([SequencePoses("Walking", predicted, target, mask)])
    means = scores["mean_over_frames"]
    assert scores["frames"] == 4
    assert means["mpjpe_mm"] == pytest.approx((1 + 3 + 4 + 9) / 4)
    assert means["mpjve_mm"] == pytest.approx(
        (2 + 5) / 2
    )  # 2 mm and 5 mm; the two steps at frame 2 are out
    assert means["acceleration_mm"] is None  # no three neighbours count
    assert scores["mean_over_actions"]["acceleration_mm"] is None


def test_velocity_does_not_cross_sequences(poses):
    pose = poses[1][0]
    halves = [
        SequencePoses("Walking", moved(pose, distances), moved(pose, [0.0, 0.0]), np.ones(2, bool))
        for distances in ([0.001, 0.002], [0.502, 0.503])
    ]
    assert score_sequences(halves)["mean_over_frames"]["mpjve_mm"] == pytest.approx(1)


def test_an_action_without_steps_is_left_out_of_the_velocity(poses):
    pose = poses[1][0]
    sequences = [
        SequencePoses("Sitting", moved(pose, [0.0]), pose[None], np.array([True])),
        SequencePoses(
            "Walking", moved(pose, [0.0, 0.004]), moved(pose, [0.0, 0.0]), np.ones(2, bool)
        ),
        SequencePoses(
            "Waiting", moved(pose, [0.5]), pose[None], np.array([False])
        ),  # nothing counts: no such action
    ]
    scores = score_sequences(sequences, metrics=("mpjve", "mpjpe"))
    assert scores["per_action"]["Sitting"]["mpjve_mm"] is None
    assert scores["mean_over_actions"] == {
        "mpjve_mm": pytest.approx(4),
        "mpjpe_mm": pytest.approx(1),
    }
    assert "Waiting" not in scores["per_action"]


def test_bad_sequences(poses):
    predicted, target = (pose.copy() for pose in poses)
    mask = np.ones(12, bool)
    with pytest.raises(UserError, match="No frame counts"):
        score_sequences([SequencePoses("Walking", predicted, target, ~mask)])
    with pytest.raises(UserError, match="No frame counts"):
        score_sequences([])
    with pytest.raises(ValueError, match="do not fit"):
        score_sequences([SequencePoses("Walking", predicted, target, mask[:5])])
    with pytest.raises(ValueError, match="unknown metrics"):
        score_sequences([SequencePoses("Walking", predicted, target, mask)], metrics=("pck",))
    predicted[7, 3, 1] = np.inf
    with pytest.raises(UserError, match=r"predicted pose of sequence 0 \(Walking\) .* frame 7"):
        score_sequences([SequencePoses("Walking", predicted, target, mask)])
