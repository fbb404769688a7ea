"""Overlapping windows against a loop, and the steps where windows meet."""

import numpy as np
import pytest

from kdpose_jax.predict import blending
from kdpose_jax.predict.description import Description
from kdpose_jax.predict.lifter import Lifter

J, F = 17, 9


def poses_in_windows(windows):
    """A pose that depends on where its frame lies in the window, `[W, N, J, 2]`."""
    count = windows.shape[1]
    drift = 0.01 * np.arange(count, dtype=np.float32)[None, :, None, None]
    return np.concatenate([windows, windows[..., :1]], axis=-1) + drift


def by_a_loop(points, before, after, length):
    """The weighted mean of windows that begin at every fourth frame, and of the last one."""
    frames = len(points)
    starts = [start for start in range(0, frames, 4) if start + length <= frames]
    if frames - length not in starts:
        starts.append(max(frames - length, 0))
    total = [np.zeros((J, 3)) for _ in points]
    weight = [0.0] * frames
    for start in starts:
        for place in range(length):
            if start + place < frames:
                share = min(place + 1, length - place)
                drift = 0.01 * (before + place)
                point = points[start + place]
                pose = np.concatenate([point, point[:, :1]], axis=-1) + drift
                total[start + place] = total[start + place] + share * pose
                weight[start + place] += share
    return np.stack([one / share for one, share in zip(total, weight, strict=True)])


def lifter(before, after, predicted=F):
    about = Description(
        name="drift",
        kind="lifter",
        skeleton="h36m_17",
        frames=before + predicted + after,
        predicted=predicted,
        before=before,
        after=after,
        keyframe_stride=1,
        keyframe_offset=0,
        keyframe_selection="uniform",
        side=0,
        fingerprint="",
    )
    return Lifter(about, lambda windows: poses_in_windows(windows)[:, before : before + predicted])


@pytest.mark.parametrize(("before", "after"), [(0, 0), (3, 2)])
@pytest.mark.parametrize("frames", [1, F - 1, F, F + 1, F + 4, 40, 101])
@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_overlapping_windows_by_a_loop(before, after, frames, cut):
    points = np.random.default_rng(0).uniform(-1, 1, (frames, J, 2)).astype(np.float32)
    pieces = [points[start : start + cut] for start in range(0, frames, cut)]
    found = np.concatenate(list(lifter(before, after).blocks(pieces, overlap=True)))
    assert found.shape == (frames, J, 3)
    np.testing.assert_allclose(found, by_a_loop(points, before, after, F), atol=1e-5)


def test_poses_do_not_jump_where_windows_meet():
    """A person who stands still, and a network that errs by where a frame lies in its window."""
    points = np.zeros((200, J, 2), np.float32)
    steps = {
        overlap: np.abs(
            np.diff(np.concatenate(list(lifter(0, 0).blocks([points], overlap=overlap))), axis=0)
        ).max()
        for overlap in (False, True)
    }
    assert steps[False] == pytest.approx(0.01 * (F - 1), rel=1e-4)
    assert steps[True] < 0.02


def test_networks_of_single_frames_have_no_windows_to_overlap():
    points = np.random.default_rng(0).uniform(-1, 1, (30, J, 2)).astype(np.float32)
    one, other = (
        np.concatenate(list(lifter(2, 2, predicted=1).blocks([points], overlap=overlap)))
        for overlap in (False, True)
    )
    np.testing.assert_array_equal(one, other)


def test_starts_of_overlapping_windows():
    assert blending.overlapping_starts(5, 9, 1).tolist() == [0]
    assert blending.overlapping_starts(9, 9, 1).tolist() == [0]
    assert blending.overlapping_starts(18, 9, 1).tolist() == [0, 4, 8, 9]
    assert blending.overlapping_starts(3, 2, 1).tolist() == [0, 1]


def test_windows_of_a_sparse_network_read_the_same_keyframes():
    starts = blending.overlapping_starts(100, 27, 3)
    assert starts.tolist() == [0, 12, 24, 36, 48, 60, 72, 73], "the last one ends with the video"
    assert blending.hop(9, 5) == 5 and blending.hop(243, 9) == 117
