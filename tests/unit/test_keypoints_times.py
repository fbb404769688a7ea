"""Gaps in time, frame rates, and sizes."""

import cv2
import numpy as np
import pytest
from PIL import Image

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import gaps, rates, sizes
from kdpose_jax.keypoints.tracks import Keypoints, Track

FPS = 10.0


def keypoints_of(frames, points, scores=None):
    frames, points = np.asarray(frames), np.asarray(points, float)
    scores = np.where(np.isnan(points[..., 0]), 0.0, 0.8) if scores is None else scores
    track = Track("1", frames, points, scores)
    joints = tuple("abcdefgh"[: points.shape[1]])
    return Keypoints((track,), joints, "own", None, FPS, int(frames[-1]) + 1, "plain", ())


def by_hand(points, longest):
    """A loop over every joint and frame: `[T, K, 2]` with NaN in and out."""
    filled = points.copy()
    for joint in range(points.shape[1]):
        known = [t for t in range(len(points)) if not np.isnan(points[t, joint, 0])]
        for left, right in zip(known[:-1], known[1:], strict=True):
            if right - left - 1 > longest:
                continue
            for t in range(left + 1, right):
                share = (t - left) / (right - left)
                filled[t, joint] = (1 - share) * points[left, joint] + share * points[right, joint]
    return filled


@pytest.mark.parametrize("gap", [0.0, 0.1, 0.3, 0.55, 100.0])
def test_gaps_are_filled_joint_by_joint(gap):
    rng = np.random.default_rng(3)
    dense = rng.uniform(0, 100, (60, 4, 2))
    dense[rng.random((60, 4)) < 0.4] = np.nan
    dense[[0, 59]] = 1.0
    there = np.flatnonzero(rng.random(60) < 0.8)
    there = np.unique([0, *there, 59])
    holes = np.full_like(dense, np.nan)
    holes[there] = dense[there]
    (track,), notes = gaps.fill(keypoints_of(there + 7, dense[there]), FPS, gap=gap)
    expected = by_hand(holes, round(gap * FPS - 0.5 + 1e-9) if gap % 0.1 > 0.01 else gap * FPS)
    np.testing.assert_allclose(track.points, expected)
    assert track.first_frame == 7
    np.testing.assert_array_equal(track.seen, ~np.isnan(holes[..., 0]))
    np.testing.assert_array_equal(track.valid, ~np.isnan(expected).any(axis=(1, 2)))
    assert (track.scores[~track.seen] == 0).all() and (track.scores[track.seen] == 0.8).all()
    found, there = (~np.isnan(one[..., 0]) for one in (holes, expected))
    assert f"{found.mean():.1%} were found" in notes[0]
    assert f"{(there & ~found).mean():.1%} were interpolated" in notes[0]
    assert f"{(~there).mean():.1%} are still missing" in notes[0]


def test_a_gap_as_long_as_allowed_is_filled_and_a_longer_one_is_not():
    points = np.ones((12, 1, 2))
    keypoints = keypoints_of([0, 4, 9], points[:3])  # gaps of 3 and 4 frames
    (track,), _ = gaps.fill(keypoints, FPS, gap=0.3)
    assert track.valid.tolist() == [True] * 5 + [False] * 4 + [True]
    assert np.isnan(track.points[5:9]).all()  # and never zeros


def test_nothing_is_made_up_before_the_first_and_behind_the_last():
    points = np.ones((6, 2, 2))
    points[[0, 1, 5], 1] = np.nan
    (track,), notes = gaps.fill(keypoints_of(range(6), points), FPS)
    assert track.valid.tolist() == [False, False, True, True, True, False]
    assert any("3 frames have no pose" in note and "b in 50%" in note for note in notes)


def test_low_scores_count_as_missing():
    points = np.arange(20.0).reshape(5, 2, 2)
    scores = np.full((5, 2), 0.9)
    scores[2, 1] = 0.29
    (track,), notes = gaps.fill(keypoints_of(range(5), points, scores), FPS, score=0.3)
    assert not track.seen[2, 1] and track.scores[2, 1] == 0 and track.valid.all()
    np.testing.assert_allclose(track.points, points)  # the motion is linear
    assert notes[0] == "1 joints with a score below 0.3 count as missing."


def test_arguments_of_gaps_are_checked():
    keypoints = keypoints_of([0, 1], np.ones((2, 2, 2)))
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="--gap is"):
            gaps.fill(keypoints, FPS, gap=bad)
    for bad in (0.0, -5.0, float("nan")):
        with pytest.raises(UserError, match="--fps is"):
            gaps.fill(keypoints, bad)
    with pytest.raises(UserError, match="a, b have scores below --score 0.9 in all frames"):
        gaps.fill(keypoints, FPS, score=0.9)
    far = keypoints_of([0, 2**40], np.ones((2, 2, 2)))
    with pytest.raises(UserError, match="split the video"):
        gaps.fill(far, FPS)


@pytest.mark.parametrize(
    ("rate", "wanted"), [(25, 50), (50, 25), (30, 50), (29.97, 50), (240, 50), (7, 50), (50, 50)]
)
def test_resampling_a_straight_line_is_exact_there_and_back(rate, wanted):
    frames = 97
    line = np.arange(frames)[:, None, None] / rate * np.ones((2, 3)) + 5
    there = rates.resample(line, rate, wanted)
    assert len(there) == rates.count_at(frames, rate, wanted)
    assert (len(there) - 1) / wanted >= (frames - 1) / rate - 1e-9  # covers the last frame
    end = line[-1, 0, 0]
    expected = np.minimum(np.arange(len(there)) / wanted + 5, end)
    np.testing.assert_allclose(there[:, 0, 0], expected, atol=1e-9)
    back = rates.resample(there, wanted, rate, frames)
    inside = np.arange(frames) / rate <= (len(there) - 2) / wanted
    np.testing.assert_allclose(back[inside], line[inside], atol=1e-9)


@pytest.mark.parametrize(("rate", "wanted"), [(25, 50), (50, 25), (29.97, 50), (240, 7), (7, 240)])
@pytest.mark.parametrize("frames", [1, 2, 97])
def test_resampling_in_pieces_is_resampling(rate, wanted, frames):
    values = np.random.default_rng(0).uniform(0, 9, (frames, 2))
    for cut in (1, 2, 10, 1000):
        pieces = [values[start : start + cut] for start in range(0, frames, cut)]
        there = list(rates.resample_pieces(pieces, rate, wanted, frames))
        assert min(len(piece) for piece in there) > 0
        whole = rates.resample(values, rate, wanted)
        np.testing.assert_allclose(np.concatenate(there), whole, atol=1e-9)
        back = rates.resample_pieces(there, wanted, rate, len(whole), frames)
        wanted_back = rates.resample(whole, wanted, rate, frames)
        np.testing.assert_allclose(np.concatenate(list(back)), wanted_back, atol=1e-9)


def test_a_person_of_whom_a_part_is_never_seen():
    """The sentence says which joints, and what helps for this reason."""
    points = np.ones((4, 2, 2))
    scores = np.full((4, 2), 0.9)
    scores[:, 1] = 0
    with pytest.raises(UserError, match="found b in no frame.*whole person is seen"):
        gaps.fill(keypoints_of([0, 1, 2, 3], points, scores), FPS)
    scores[:, 1] = 0.2
    with pytest.raises(UserError, match="b have scores below --score 0.5 in all.*lower --score"):
        gaps.fill(keypoints_of([0, 1, 2, 3], points, scores), FPS, score=0.5)
    scores[:] = [[0.9, 0], [0.9, 0], [0, 0.9], [0, 0.9]]
    with pytest.raises(UserError, match="No frame has all 2 joints .* use a larger --gap, or"):
        gaps.fill(keypoints_of([0, 1, 2, 3], points, scores), FPS)


def test_rates_that_are_the_same_for_a_network():
    assert rates.is_same(29.97, 30) and rates.is_same(50, 50)
    assert not rates.is_same(25, 24) and not rates.is_same(59.94, 30)


def test_resampling_by_a_loop():
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 9, (40, 3))
    found = rates.resample(values, 30.0, 12.5)
    for index, row in enumerate(found):
        time = min(index / 12.5 * 30, 39)
        expected = [np.interp(time, np.arange(40), values[:, joint]) for joint in range(3)]
        np.testing.assert_allclose(row, expected, atol=1e-9)


def test_missing_frames_stay_missing_and_spoil_no_neighbour():
    values = np.arange(10.0)[:, None]
    values[4] = np.nan
    up = rates.resample(values, 10, 20)[:, 0]
    assert np.flatnonzero(np.isnan(up)).tolist() == [7, 8, 9]
    down = rates.resample(values, 10, 5)[:, 0]
    assert np.flatnonzero(np.isnan(down)).tolist() == [2]
    # 9 * (1.1 / 3.3) is a little more than 3.
    inexact = rates.resample(values, 1.1, 3.3)[:, 0]
    assert np.flatnonzero(np.isnan(inexact)).tolist() == [10, 11, 12, 13, 14]
    assert rates.resample(np.ones((1, 2), np.float32), 30, 50).tolist() == [[1, 1]]
    assert rates.resample(np.ones((3, 2), np.float32), 30, 50).dtype == np.float32


@pytest.mark.parametrize("bad", [0.0, -25.0, float("nan"), float("inf"), 1e9])
def test_rates_that_no_camera_has(bad):
    with pytest.raises(UserError, match="--fps is"):
        rates.resample(np.ones((3, 2)), bad, 50)
    with pytest.raises(UserError, match="the network's rate is"):
        rates.resample(np.ones((3, 2)), 50, bad)


def test_sizes_that_users_write():
    for text in ("1920x1080", "1920X1080", " 1920 x 1080 ", "1920,1080", "1920*1080"):
        assert sizes.parse_size(text) == (1920, 1080)
    for text in ("1920", "0x1080", "-1x5", "1920x", "axb", "9999999x2", "1920x1080x3", ""):
        with pytest.raises(UserError, match="--size is .*--size 1920x1080"):
            sizes.parse_size(text)
    with pytest.raises(UserError, match="'a.json' does not say the size of its video: give --size"):
        sizes.require_size(None, "'a.json'")


def test_sizes_beside_the_file(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "walk.png")
    (tmp_path / "walk.json").write_text("[]")
    found = sizes.beside(str(tmp_path / "walk.json"))
    assert found.size == (64, 48) and found.fps is None
    assert sizes.beside(str(tmp_path / "run.json")) is None
    folder = tmp_path / "pictures"
    folder.mkdir()
    turned = Image.new("RGB", (64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown on its side
    turned.save(folder / "000.jpg", exif=exif)
    assert sizes.beside(str(folder)).size == (48, 64)
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8nothing")
    assert sizes.beside(str(tmp_path / "bad.json")) is None


@pytest.mark.parametrize("name", ["jump_keypoints.json", "jumpDLC_resnet50_a.csv", "jump"])
def test_a_video_beside_the_file(name, tmp_path):
    video = cv2.VideoWriter(
        str(tmp_path / "jump.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (64, 48)
    )
    for _ in range(3):
        video.write(np.zeros((48, 64, 3), np.uint8))
    video.release()
    found = sizes.beside(str(tmp_path / name))
    assert found.size == (64, 48) and found.fps == pytest.approx(12.5)
