"""Pages of poses without a browser: what they hold, how large they are, and what cannot escape."""

import base64
import dataclasses
import html.parser
import json
import struct

import numpy as np
import pytest
from moving import masked, person, picture_video, video

from kdpose_jax.page.poses_page import poses_page, write_poses_page

EVIL = "</script><script>alert(1)</script x><!--\"'&\u2028 ü"


class Reader(html.parser.HTMLParser):
    """A page as a browser's parser sees it: its tags, the texts of its scripts, its words."""

    def __init__(self, page: bytes):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words = ""
        self.feed(page.decode())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.words += data


def scene_of(page: bytes):
    data, _ = Reader(page).scripts
    (clip,) = json.loads(data)["clips"]
    return clip["scene"]


def numbers(text: str, joints: int, axes: int, step: float) -> np.ndarray:
    """Decodes coordinates one by one."""
    data = base64.b64decode(text)
    values = [one for (one,) in struct.iter_unpack("<h", data)]
    metres = [np.nan if one == -32768 else one * step for one in values]
    return np.array(metres).reshape(-1, joints, axes)


def bits(text: str, count: int) -> list[bool]:
    data = base64.b64decode(text)
    return [bool(data[place // 8] >> place % 8 & 1) for place in range(count)]


def test_arrays_are_decoded_exactly():
    one = masked(person(0, 30, name="anna", first=4), slice(10, 15))
    one.seen[3, 5], one.scores[3, 5] = False, 0
    scene = scene_of(poses_page(video(one, person(1, 40), length=50), title="walk"))
    assert scene["frames"] == 50 and scene["stride"] == 1 and scene["metres"] == 0.001
    first, second = scene["persons"]
    assert (first["name"], first["first"], first["frames"], second["first"]) == ("anna", 4, 30, 0)
    pose = numbers(first["pose_3d"], 17, 3, scene["metres"])
    np.testing.assert_allclose(pose, one.pose_3d, atol=0.000501)
    assert np.isnan(pose[10:15]).all() and np.isfinite(pose[:10]).all()
    pixels = numbers(first["keypoints_2d"], 17, 2, scene["pixels"])
    np.testing.assert_allclose(pixels, one.keypoints_2d, atol=0.0501)
    assert bits(first["seen"], 30 * 17) == one.seen.reshape(-1).tolist()
    scores = np.frombuffer(base64.b64decode(first["scores"]), np.uint8) * scene["score"]
    np.testing.assert_allclose(scores.reshape(30, 17), one.scores, atol=0.0021)


def test_overlays_are_kept_and_keypoints_are_not_kept_twice():
    net, teacher = person(0, 20), dataclasses.replace(person(1, 20), keypoints_2d=None)
    teacher = dataclasses.replace(teacher, keypoints_2d=person(0, 20).keypoints_2d)
    truth = person(2, 20)
    page = poses_page(
        video(net, length=20),
        title="x",
        teacher=video(teacher, length=20),
        truth=video(truth, length=20),
    )
    (packed,) = scene_of(page)["persons"]
    assert packed["teacher"]["keypoints_2d"] is None
    for name, other in (("teacher", teacher), ("truth", truth)):
        pose = numbers(packed[name]["pose_3d"], 17, 3, 0.001)
        np.testing.assert_allclose(pose, other.pose_3d, atol=0.000501)
    pixels = numbers(packed["truth"]["keypoints_2d"], 17, 2, 0.1)
    np.testing.assert_allclose(pixels, truth.keypoints_2d, atol=0.0501)


@pytest.mark.parametrize("change", ["frames", "first", "joints", "persons"])
def test_other_poses_must_be_of_the_same_frames(change):
    poses = video(person(0, 20), length=20)
    others = {
        "frames": video(person(0, 19), length=20),
        "first": video(person(0, 20, first=1), length=20),
        "joints": dataclasses.replace(poses, joints=poses.joints[::-1]),
        "persons": video(person(0, 20), person(0, 20), length=20),
    }
    with pytest.raises(ValueError, match="the truth's poses are of other persons, frames or joi"):
        poses_page(poses, title="x", truth=others[change])


def test_a_page_of_200_frames_is_small():
    poses = video(person(0, 200), length=200)
    assert len(poses_page(poses, title="x")) < 150_000
    other = dataclasses.replace(person(1, 200), keypoints_2d=poses.persons[0].keypoints_2d)
    truth, teacher = video(other, length=200), video(other, length=200)
    assert len(poses_page(poses, title="x", truth=truth, teacher=teacher)) < 150_000


def test_a_long_video_is_thinned_and_the_page_says_so():
    first = dataclasses.replace(person(0, 40_000), first_frame=3)
    page = poses_page(video(first, person(1, 30_011), length=40_003), title="x")
    assert len(page) < 5_000_000
    scene = scene_of(page)
    stride = scene["stride"]
    assert stride == 4 and scene["frames"] == len(range(0, 40_003, stride))
    assert f"one frame in {stride}" in Reader(page).words
    one = scene["persons"][0]
    kept = [number for number in range(3, 40_003) if number % stride == 0]
    assert (one["first"], one["frames"]) == (kept[0] // stride, len(kept))
    pose = numbers(one["pose_3d"], 17, 3, scene["metres"])
    np.testing.assert_allclose(pose, first.pose_3d[np.array(kept) - 3], atol=0.000501)


def test_a_person_of_few_frames_may_fall_between_the_ones_shown():
    short = person(2, 1, name="short", first=5)
    scene = scene_of(poses_page(video(person(0, 70_000), short, length=70_000), title="x"))
    assert [(one["name"], one["frames"]) for one in scene["persons"]][1] == ("short", 0)


@pytest.mark.parametrize(("farthest", "step"), [(3276.0, 0.1), (3300.0, 0.2), (7680.0, 0.5)])
def test_large_pictures_have_coarser_steps(farthest, step):
    one = person(0, 3)
    one.keypoints_2d[1, 2] = farthest, 5.0
    scene = scene_of(poses_page(video(one, length=3, size=(7680, 4320)), title="x"))
    assert scene["pixels"] == pytest.approx(step)
    pixels = numbers(scene["persons"][0]["keypoints_2d"], 17, 2, scene["pixels"])
    np.testing.assert_allclose(pixels, one.keypoints_2d, atol=step / 2 + 1e-3)


@pytest.mark.parametrize("nonsense", [np.inf, -np.inf, 1e9])
def test_what_is_no_place_is_left_out_and_counted(nonsense):
    one = person(0, 3)
    one.pose_3d[1, 2, 0] = one.keypoints_2d[2, 4, 1] = nonsense
    page = poses_page(video(one, length=3), title="x")
    (packed,) = scene_of(page)["persons"]
    pose = numbers(packed["pose_3d"], 17, 3, 0.001)
    assert np.isnan(pose[1, 2]).all() and np.isnan(pose).sum() == 3
    pixels = numbers(packed["keypoints_2d"], 17, 2, 0.1)
    assert np.isnan(pixels[2, 4]).all() and np.isnan(pixels).sum() == 2
    words = Reader(page).words
    assert "Left out: 1 positions of joints beyond 100 m from the root" in words
    assert "Left out: 1 positions of joints beyond 12,800 pixels" in words


def test_scores_above_one_keep_their_ratio():
    one = person(0, 3)
    one.scores[:] = [[6.0], [1.5], [np.nan]]
    scene = scene_of(poses_page(video(one, length=3), title="x"))
    counts = base64.b64decode(scene["persons"][0]["scores"])
    assert [count * scene["score"] for count in counts[:34:17]] == pytest.approx([6.0, 1.5], 0.01)
    assert set(counts[34:]) == {255}


def test_nothing_of_a_user_escapes_its_place(tmp_path):
    poses = video(person(0, 4, name=EVIL), length=4, notes=(EVIL,), network=EVIL)
    page = poses_page(dataclasses.replace(poses, fingerprint=EVIL), title=EVIL)
    seen = Reader(page)
    plain = Reader(poses_page(video(person(0, 4), length=4, notes=("n",)), title="x"))
    assert [tag for tag, _ in seen.tags] == [tag for tag, _ in plain.tags]
    assert len(seen.scripts) == 2
    assert "<" not in seen.scripts[0]  # browsers end a script at less than `</script>`
    assert json.loads(seen.scripts[0])["clips"][0]["scene"]["persons"][0]["name"] == EVIL
    assert seen.words.count(EVIL) >= 4
    write_poses_page(tmp_path / "page.html", poses, title="\ud800 alone")
    assert "? alone" in (tmp_path / "page.html").read_text()


def test_the_policy_forbids_requests_and_other_scripts():
    page = poses_page(picture_video(), title="x")
    seen = Reader(page)
    (policy,) = (one["content"] for tag, one in seen.tags if "http-equiv" in one and tag == "meta")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    for tag, one in seen.tags:
        assert not {"src", "onclick", "onload", "style"} & one.keys(), (tag, one)
        assert one.get("href", "data:,") == "data:,"


def test_the_page_says_what_it_shows():
    notes = ("40 of 3,400 joints were interpolated.", "The rate was assumed.")
    words = Reader(poses_page(video(person(0, 50), length=50, notes=notes), title="a walk")).words
    for part in (*notes, "a walk", "runs/demo/student", "3f9a1c0be2d4", "50 frames at 25 per"):
        assert part in words
    assert "Depth and scale are the network's estimate" in words


def test_a_video_without_persons_has_a_page():
    page = poses_page(video(length=30), title="x")
    assert "There is no person" in Reader(page).words
    assert json.loads(Reader(page).scripts[0]) == {"clips": []}
