"""Generated motion is a possible body that moves possibly, and follows from its seed alone."""

import numpy as np
import pytest

from data_prep import cameras, convert, motion, synthetic
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_17

FRAMES = 400


def world(subject, action, seed=0):
    return synthetic.world_pose(synthetic.View(subject, action, action, 0, FRAMES, 0.01, seed))


@pytest.fixture(scope="module", params=list(motion.ACTIONS))
def action(request):
    return request.param


@pytest.fixture(scope="module")
def pose(action):
    return world("G1", action)


def test_bones_are_rigid_symmetric_and_of_human_length(pose):
    lengths = np.stack(
        [
            np.linalg.norm(pose[:, child] - pose[:, parent], axis=-1)
            for parent, child in H36M_17.bones
        ]
    )
    np.testing.assert_allclose(lengths, np.repeat(lengths[:, :1], FRAMES, axis=1), rtol=1e-9)
    by_joint = dict(zip((child for _, child in H36M_17.bones), lengths[:, 0], strict=True))
    for left, right in zip(H36M_17.left, H36M_17.right, strict=True):
        np.testing.assert_allclose(by_joint[left], by_joint[right], rtol=1e-9)
    assert 0.35 < by_joint[2] < 0.55 and 0.2 < by_joint[12] < 0.36 and 0.08 < by_joint[1] < 0.18


def test_it_stands_on_the_floor_within_the_studio_and_moves_smoothly(pose, action):
    feet = pose[:, [3, 6], 2].min(axis=1)
    assert feet.min() > motion.ANKLE_HEIGHT - 1e-9 and feet.max() < motion.ANKLE_HEIGHT + 0.01
    assert np.abs(pose[..., :2]).max() < 2.8 and pose[..., 2].max() < 2.4
    speed = np.linalg.norm(np.diff(pose, axis=0), axis=-1) * motion.FPS
    assert speed.max() < 14  # the limit that mocap17's faults were found with
    assert speed.mean() > 0.05


def test_knees_bend_back_and_elbows_forward(pose):
    for sign, (hip, knee, ankle), (shoulder, elbow, wrist) in (
        (1, (4, 5, 6), (11, 12, 13)),
        (-1, (1, 2, 3), (14, 15, 16)),
    ):
        across = sign * (pose[:, 4] - pose[:, 1]) * sign  # to the left
        thigh, shank = pose[:, knee] - pose[:, hip], pose[:, ankle] - pose[:, knee]
        # thigh x shank points to the left when the shank is folded back; abducted legs turn the
        # axis a little.
        assert (np.sum(np.cross(shank, thigh) * across, axis=-1) < 0.02).all()
        bend = np.arccos(
            np.sum(thigh * shank, axis=-1)
            / np.linalg.norm(thigh, axis=-1)
            / np.linalg.norm(shank, axis=-1)
        )
        assert (bend > 0.02).all() and (bend < 2.5).all()
        upper, lower = pose[:, elbow] - pose[:, shoulder], pose[:, wrist] - pose[:, elbow]
        bend = np.arccos(
            np.sum(upper * lower, axis=-1)
            / np.linalg.norm(upper, axis=-1)
            / np.linalg.norm(lower, axis=-1)
        )
        assert (bend > 0.05).all() and (bend < 2.5).all()
        forward = np.cross(across, [0, 0, 1])
        folded = lower / np.linalg.norm(lower, axis=-1, keepdims=True) - upper / np.linalg.norm(
            upper, axis=-1, keepdims=True
        )
        # The forearm is ahead of the upper arm's direction.
        assert np.sum(folded * forward, axis=-1).mean() > 0


def test_actions_differ():
    height = {name: world("G1", name)[:, 0, 2] for name in motion.ACTIONS}
    speed = {
        name: np.linalg.norm(np.diff(world("G1", name), axis=0), axis=-1).mean()
        for name in motion.ACTIONS
    }
    assert height["Sitting"].max() < height["Waving"].min() - 0.2
    assert speed["Jogging"] > 1.5 * speed["Walking"] > 3 * speed["Sitting"]
    assert np.ptp(height["Squatting"]) > 0.15 > np.ptp(height["Walking"])


def test_a_walker_goes_where_it_faces():
    pose = world("G2", "Walking")
    across = pose[:, 4] - pose[:, 1]
    forward = np.stack([across[:, 1], -across[:, 0]], axis=1)
    step = pose[10:, 0, :2] - pose[:-10, 0, :2]
    cosine = (
        np.sum(forward[5:-5] * step, axis=1)
        / np.linalg.norm(forward[5:-5], axis=1)
        / np.linalg.norm(step, axis=1)
    )
    assert cosine.mean() > 0.9


def test_everything_follows_from_seed_subject_and_take():
    view = synthetic.View("G1", "Walking", "Walking 1", 2, 30, 0.01, 7)
    first, again = synthetic.make_record(view), synthetic.make_record(view)
    np.testing.assert_array_equal(first["keypoints_2d"], again["keypoints_2d"])
    for change in (dict(subject="G2"), dict(take="Walking"), dict(seed=8)):
        other = synthetic.make_record(synthetic.View(**vars(view) | change))
        assert np.abs(other["pose_3d"] - first["pose_3d"]).max() > 0.05
    camera = synthetic.studio_cameras("G1", 7)
    turned = synthetic.make_record(synthetic.View(**vars(view) | dict(index=0)))
    same = cameras.camera_to_world(
        turned["pose_3d"].astype(np.float64), camera[0].orientation, camera[0].translation
    )
    seen = cameras.camera_to_world(
        first["pose_3d"].astype(np.float64), camera[2].orientation, camera[2].translation
    )
    np.testing.assert_allclose(same, seen, atol=1e-5)  # four views of one motion


def test_detector_noise_has_its_size_its_joints_and_its_memory(action):
    errors = []
    for index in range(4):
        view = synthetic.View("G1", action, action, index, FRAMES, 0.01, 0)
        exact = synthetic.make_record(synthetic.View(**vars(view) | dict(noise=0.0)))
        noisy = synthetic.make_record(view)
        # Within the picture.
        assert (noisy["keypoints_2d"] > 0).all() and (noisy["keypoints_2d"] < 1000).all()
        errors.append((noisy["keypoints_2d"] - exact["keypoints_2d"]) / 500)
    error = np.concatenate(errors)
    per_joint = error.std(axis=(0, 2))
    np.testing.assert_allclose(per_joint, 0.01 * np.asarray(synthetic.JOINT_NOISE), rtol=0.25)
    np.testing.assert_allclose(error.std(), 0.01, rtol=0.15)
    correlation = np.mean(error[1:] * error[:-1]) / np.mean(error**2)
    # 0.8^2: the slow part remains from frame to frame, the jitter does not.
    assert 0.55 < correlation < 0.7


def test_exact_projection_without_noise():
    view = synthetic.View("G1", "Waving", "Waving", 1, 20, 0.0, 0)
    record = synthetic.make_record(view)
    camera = synthetic.studio_cameras("G1", 0)[1]
    projected = cameras.project_to_2d(record["pose_3d"].astype(np.float64), camera.intrinsic)
    np.testing.assert_allclose(record["keypoints_2d"], projected, atol=1e-3)


@pytest.mark.parametrize(
    "setting",
    [
        dict(frames=0),
        dict(takes=0),
        dict(train_subjects=0),
        dict(noise=-0.1),
        dict(noise=5.0),
        dict(seed=-1),
        dict(workers=0),
    ],
)
def test_settings_out_of_range(tmp_path, setting):
    with pytest.raises(UserError, match=f"--{next(iter(setting)).replace('_', '-')} "):
        convert.prepare("synthetic", str(tmp_path / "data"), **setting)
    assert not (tmp_path / "data").exists()
