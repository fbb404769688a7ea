"""Windows over sequences against plain loops.

Where they start, what they hold, and how often a frame is scored.
"""

import dataclasses
import math

import numpy as np
import pytest

from kdpose_jax.codecs import poses
from kdpose_jax.data.sequences import Motion, WindowSource, open_training, windows_of
from kdpose_jax.data.windows import (
    Windows,
    centred_starts,
    evaluation_counts,
    evaluation_starts,
    take_rows,
)
from kdpose_jax.evaluate.protocols import pose3d
from kdpose_jax.skeletons import H36M_17


def lengths(seed, trials=200):
    """Random (frames, window length) pairs, short and long sequences alike."""
    generator = np.random.default_rng(seed)
    return [(int(generator.integers(1, 90)), int(generator.integers(1, 30))) for _ in range(trials)]


def test_end_to_end_windows_are_those_of_mixste():
    """n = ceil(F / T), the first at -floor((n T - F) / 2) (docs/methods/lifting.md#windows)."""
    for frames, length in lengths(0):
        count = math.ceil(frames / length)
        offset = (count * length - frames) // 2
        assert centred_starts(frames, length, length).tolist() == [
            n * length - offset for n in range(count)
        ]


def test_overlapping_windows_are_those_of_hot():
    """n = ceil((F - T) / stride + 1), centred; a sequence shorter than a window has one."""
    for (frames, length), stride in zip(
        lengths(1), np.random.default_rng(2).integers(1, 12, 200).tolist(), strict=True
    ):
        starts = centred_starts(frames, length, stride)
        assert len(starts) == max(1, math.ceil((frames - length) / stride + 1))
        assert (np.diff(starts) == stride).all()
        before, after = -starts[0], starts[-1] + length - frames  # frames outside the sequence
        assert before >= 0 and after >= 0 and after - before in (0, 1)
        if stride <= length:
            covered = {frame for start in starts for frame in range(start, start + length)}
            assert covered >= set(range(frames))


def test_evaluation_starts():
    """0, T, 2 T, ..., the last one at the sequence's end (MixSTE, eval_data_prepare)."""
    for frames, length in lengths(3):
        starts = evaluation_starts(frames, length).tolist()
        if frames <= length:
            assert starts == [0]
            continue
        whole = list(range(0, frames - length + 1, length))
        assert starts == (whole if frames % length == 0 else [*whole, frames - length])


def test_exact_counts_every_real_frame_once():
    for frames, length in lengths(4):
        starts, counts = (
            evaluation_starts(frames, length),
            evaluation_counts(frames, length, "exact"),
        )
        assert counts.shape == (len(starts), length) and counts.dtype == bool
        seen = [
            start + place
            for start, row in zip(starts, counts, strict=True)
            for place in range(length)
            if row[place]
        ]
        assert seen == list(range(frames)), (
            "each once, in order, so that the frames put together again are the sequence"
        )


def test_compat_counts_every_place_of_every_window():
    """As MixSTE does: the overlap of the last two windows twice, and padding too."""
    doubled = 0
    for frames, length in lengths(5):
        starts, counts = (
            evaluation_starts(frames, length),
            evaluation_counts(frames, length, "compat"),
        )
        assert counts.all() and counts.shape == (len(starts), length)
        doubled += counts.size > frames
    assert doubled > 100


def random_windows(seed=6):
    """Windows that begin before, within and behind sequences of 5, 1 and 12 frames."""
    frames = np.array([5, 1, 12])
    offset = np.array([0, 5, 6])
    generator = np.random.default_rng(seed)
    owner = generator.integers(0, 3, 40)
    return Windows(offset[owner], frames[owner], generator.integers(-9, 12, 40), 4), owner


@pytest.mark.parametrize(("before", "after"), [(0, 0), (3, 3), (5, -2), (0, 7)])
def test_rows_replicate_the_edges(before, after):
    windows, owner = random_windows()
    chosen = np.random.default_rng(7).permutation(40)[:25]
    rows = windows.rows(chosen, before=before, after=after)
    assert rows.shape == (25, before + 4 + after)
    for row, window in zip(rows, chosen, strict=True):
        first, count = [(0, 5), (5, 1), (6, 12)][owner[window]]
        start = windows.start[window]
        expected = [
            first + min(max(frame, 0), count - 1)
            for frame in range(start - before, start + 4 + after)
        ]
        assert row.tolist() == expected


def test_rows_leave_the_windows_alone():
    windows, _ = random_windows()
    before = windows.start.copy(), windows.offset.copy(), windows.frames.copy()
    first = windows.rows(np.arange(40), before=2, after=1)
    np.testing.assert_array_equal(first, windows.rows(np.arange(40), before=2, after=1))
    for old, new in zip(before, (windows.start, windows.offset, windows.frames), strict=True):
        np.testing.assert_array_equal(old, new)
    assert len(windows) == 40


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_taken_rows_are_those_of_the_array_in_memory_that_needs_no_copy(kind):
    generator = np.random.default_rng(9)
    array = generator.integers(0, 200, (11, 3, 2)).astype(kind)
    for windows in range(1, 6):
        rows = generator.integers(0, 11, (windows, 7))
        taken = take_rows(array, rows)
        assert taken.dtype == kind and taken.ctypes.data % 64 == 0 and taken.flags.c_contiguous
        np.testing.assert_array_equal(taken, array[rows])


@pytest.fixture
def motion():
    generator = np.random.default_rng(8)
    frames = np.array([7, 3, 10])
    return Motion(
        skeleton=H36M_17,
        names=("S1/a/0", "S1/a/1", "S2/b/0"),
        actions=("a", "a", "b"),
        frames=frames,
        offset=np.array([0, 7, 10]),
        keypoints_2d=generator.normal(size=(20, 17, 2)).astype(np.float32),
        pose_3d=generator.normal(size=(20, 17, 3)).astype(np.float32),
        frame_mask=generator.random(20) < 0.5,
    )


def test_flipped_copies_follow_all_others(motion):
    both = motion.with_flips()
    assert both.names == (*motion.names, "S1/a/0 flipped", "S1/a/1 flipped", "S2/b/0 flipped")
    assert both.actions == motion.actions * 2
    assert both.offset.tolist() == [0, 7, 10, 20, 27, 30] and both.frames.tolist() == [7, 3, 10] * 2
    np.testing.assert_array_equal(both.keypoints_2d[:20], motion.keypoints_2d)
    np.testing.assert_array_equal(
        both.keypoints_2d[20:], poses.flip(motion.keypoints_2d, H36M_17.flip_permutation)
    )
    np.testing.assert_array_equal(
        both.pose_3d[20:], poses.flip(motion.pose_3d, H36M_17.flip_permutation)
    )
    np.testing.assert_array_equal(both.frame_mask, np.concatenate([motion.frame_mask] * 2))


def test_source_gathers_2d_and_3d_of_the_same_frames(motion):
    starts = [centred_starts(int(frames), 4, 4) for frames in motion.frames]
    source = WindowSource(motion, windows_of(motion, starts, 4), (0, 0))
    assert len(source) == 2 + 1 + 3 and source.unit == ("frames", 4)
    batch = source.gather(np.array([2, 0, 5]))
    assert {name: array.shape for name, array in batch.items()} == {
        "keypoints_2d": (3, 4, 17, 2),
        "pose_3d": (3, 4, 17, 3),
    }
    # Three frames at 7 to 9, padded by one behind; seven at 0 to 6, centred by 0; ten at 10 to 19,
    # centred by 1.
    for row, frames in zip(range(3), ([7, 8, 9, 9], [0, 1, 2, 3], [17, 18, 19, 19]), strict=True):
        np.testing.assert_array_equal(batch["keypoints_2d"][row], motion.keypoints_2d[frames])
        np.testing.assert_array_equal(batch["pose_3d"][row], motion.pose_3d[frames])


def test_source_gathers_the_context_of_single_frames(motion):
    """Every frame is predicted once, from as many around it as there are.

    Beyond the ends of its own sequence they are replicated.
    """
    source = open_training(motion, frames=1, context=(2, 1), seed=0, stride=0, flip=False)
    assert len(source) == 20 and source.unit == ("frames", 1)
    batch = source.gather(np.array([0, 6, 8, 19]))
    assert {name: array.shape for name, array in batch.items()} == {
        "keypoints_2d": (4, 4, 17, 2),
        "pose_3d": (4, 1, 17, 3),
    }
    for row, (around, frame) in enumerate(
        (([0, 0, 0, 1], 0), ([4, 5, 6, 6], 6), ([7, 7, 8, 9], 8), ([17, 18, 19, 19], 19))
    ):
        np.testing.assert_array_equal(batch["keypoints_2d"][row], motion.keypoints_2d[around])
        np.testing.assert_array_equal(batch["pose_3d"][row], motion.pose_3d[[frame]])


@pytest.mark.parametrize("frames", [1, 4])
def test_protocol_reads_the_context(motion, frames):
    """A "network" that lifts the frames it is asked for by what it sees in them.

    Scored as if every frame had been lifted by itself.
    """
    before, after = 3, 2
    whole = dataclasses.replace(motion, frame_mask=np.ones(20, bool))
    settings = {"windows": "exact", "flip": False, "keyframe_stride": 1, "keyframe_offset": -1}
    protocol = pose3d.open_protocol(whole, frames=frames, context=(before, after), **settings)

    def lift(keypoints_2d):
        return np.concatenate([keypoints_2d, keypoints_2d.sum(-1, keepdims=True)], axis=-1)

    def run(function):
        seen = protocol.source.gather(np.arange(len(protocol.source)))["keypoints_2d"]
        assert seen.shape[1] == before + frames + after
        return function(seen[:, before : before + frames])

    scores = protocol.full({"plain": lift}, run)["plain"]["exact"]
    gap = lift(motion.keypoints_2d) - motion.pose_3d
    error = np.linalg.norm(gap, axis=-1).mean(-1)
    for action, errors in (("a", error[:10]), ("b", error[10:])):
        np.testing.assert_allclose(
            scores["per_action"][action]["mpjpe_mm"], 1000 * errors.mean(), rtol=1e-6
        )
        assert scores["per_action"][action]["frames"] == 10
    steps = np.linalg.norm(np.diff(gap, axis=0), axis=-1).mean(-1)
    within = np.delete(steps, [6, 9])  # the others lead from one sequence to the next
    np.testing.assert_allclose(
        scores["mean_over_frames"]["mpjve_mm"], 1000 * within.mean(), rtol=1e-6
    )
