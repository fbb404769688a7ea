"""The sample clip: its script makes it again, and every format can hold its poses."""

import numpy as np
from repository import REPOSITORY

from kdpose_jax.keypoints import gaps
from kdpose_jax.keypoints.formats.recognise import read_keypoints
from kdpose_jax.skeletons import H36M_17
from scripts import make_sample

FILE = REPOSITORY / "samples" / "two_people.npz"


def test_the_script_makes_the_file():
    made = make_sample.clip()
    with np.load(FILE) as stored:
        assert set(stored.files) == set(made) - {"pose_3d"}
        for name in stored.files:
            if stored[name].dtype.kind == "f":  # the last bit may differ between machines
                np.testing.assert_allclose(stored[name], made[name], rtol=2e-3, atol=0.11)
            else:
                np.testing.assert_array_equal(stored[name], made[name])
    assert FILE.stat().st_size < 100_000


def test_the_poses_are_those_of_the_keypoints():
    """By a weak camera: pixels are metres times one factor for each frame, nearly."""
    made = make_sample.clip()
    for points, pose in zip(made["keypoints_2d"], made["pose_3d"], strict=True):
        there = np.isfinite(points).all((1, 2))
        flat = points[there] - points[there][:, :1]
        height = np.abs(pose[there][..., 1]).max(1)
        factor = np.abs(flat[..., 1]).max(1) / height
        assert 140 < factor.min() and factor.max() < 320  # 1147 pixels at 3.6 to 8 metres
        error = np.abs(flat / factor[:, None, None] - pose[there][..., :2])
        assert np.median(error) < 0.05


def test_it_is_read_as_it_is_and_needs_no_mask():
    keypoints = read_keypoints(str(FILE))
    assert (keypoints.joints, keypoints.fps) == (H36M_17.joints, 25.0)
    assert keypoints.size == (1000, 1002) and len(keypoints.tracks) == 2
    tracks, notes = gaps.fill(keypoints, 25.0)
    assert [len(track.valid) for track in tracks] == [200, 200 - make_sample.LATE]
    assert all(track.valid.all() for track in tracks)  # BVH holds no masked frames
    assert not all(track.seen.all() for track in tracks)
    assert any("were interpolated" in note for note in notes)
