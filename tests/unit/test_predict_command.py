"""`--mode predict`: from files to poses, with a network whose poses are a closed form."""

import base64
import dataclasses
import json
import os
import pathlib
import re

import cv2
import numpy as np
import pytest
from absl import flags as absl_flags
from PIL import Image

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints.formats.recognise import read_keypoints
from kdpose_jax.poses.writers.table import WritingOptions
from kdpose_jax.predict import (
    artifacts,
    command,
    detecting,
    flags,
    many,
    photographs,
    sequences,
    video,
)
from kdpose_jax.predict.artifacts import Artifact
from kdpose_jax.predict.description import Description
from kdpose_jax.predict.lifter import Lifter
from kdpose_jax.predict.pictures import PictureNetwork
from kdpose_jax.predict.request import LiftingOptions, Request
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.train.preemption import Stop

J, F = 17, 9
SIZE = (1000, 800)


def about(kind, **changes):
    fields = {
        "name": "closed form",
        "kind": kind,
        "skeleton": "h36m_17",
        "frames": F,
        "predicted": F,
        "before": 0,
        "after": 0,
        "keyframe_stride": 3,
        "keyframe_offset": 1,
        "keyframe_selection": "uniform",
        "side": 0,
        "fingerprint": "0123456789abcdef",
    }
    return Description(**(fields | changes))


def pose_of(points):
    """The pose that the network makes of screen units, `[..., J, 2]` -> `[..., J, 3]`."""
    pose = np.concatenate([points, points.sum(-1, keepdims=True)], -1)
    return (pose - pose[..., :1, :]).astype(np.float32)


def on_screen(pixels):
    width, height = SIZE
    return pixels / width * 2 - np.array([1, height / width])


LIFTER = Lifter(about("lifter"), pose_of)


@pytest.fixture
def opened(monkeypatch):
    """The closed form in place of every checkpoint. Its rate is what the test puts there."""
    rate = [None]
    monkeypatch.setattr(command.loading, "load_by_flags", lambda *_: (LIFTER, rate[0]))
    return rate


def track(frames, seed=0):
    """Pixels of a person, `[T, J, 2]`, moving linearly."""
    generator = np.random.default_rng(seed)
    start, step = generator.uniform(200, 600, (2, J, 2))
    return start + np.arange(frames)[:, None, None] * (step - 400) / 100


def request(given, out="", **changes):
    lifting = {"person": None, "gap": 0.5, "score": 0.0, "rate": None, "flip": False}
    lifting["overlap"] = False
    reading = {"joints": "h36m_17", "size": SIZE, "fps": 10.0, "map_file": None}
    fields = {"formats": (), "kind": "keypoints", "detector": "", "python": "", "boxes": ""}
    options = WritingOptions(height=None, root="given", focal=None, frames=None)
    for name in [name for name in changes if name in lifting]:
        lifting[name] = changes.pop(name)
    for name in [name for name in changes if name in reading]:
        reading[name] = changes.pop(name)
    return Request(
        checkpoint="run",
        given=str(given),
        out=str(out),
        reading=reading,
        lifting=LiftingOptions(**lifting),
        writing=changes.pop("writing", options),
        **(fields | changes),
    )


def run(asked):
    said = []
    command.predict_and_report(asked, None, said.append, Stop())
    return "\n".join(said)


def test_poses_of_every_frame_with_gaps(tmp_path, opened):
    """A short gap is interpolated, a long one is masked, and both sides are lifted alone."""
    pixels = track(40)
    missing = np.zeros((40, J), bool)
    missing[5:8] = missing[20:32] = True
    np.save(tmp_path / "walk.npy", np.where(missing[..., None], np.nan, pixels))
    said = run(request(tmp_path / "walk.npy", tmp_path / "poses.npz"))
    with np.load(tmp_path / "poses.npz") as found:
        poses, valid, seen = found["pose_3d"][0], found["valid"][0], found["seen"][0]
        assert found["fps"] == 10 and tuple(found["size"]) == SIZE
        assert str(found["fingerprint"]) == LIFTER.fingerprint
    wanted = np.ones(40, bool)
    wanted[20:32] = False
    np.testing.assert_array_equal(valid, wanted)
    np.testing.assert_array_equal(seen, ~missing)
    # The motion is linear, so the interpolated pixels are the true ones.
    np.testing.assert_allclose(poses[wanted], pose_of(on_screen(pixels))[wanted], atol=1e-5)
    assert np.isnan(poses[~wanted]).all()
    assert "12 frames have no pose" in said and "40 frames" in said


def test_another_rate_is_resampled_and_brought_back(tmp_path, opened):
    opened[0] = 25.0
    pixels = track(41)
    np.save(tmp_path / "walk.npy", pixels)
    said = run(request(tmp_path / "walk.npy", tmp_path / "poses.npz"))
    with np.load(tmp_path / "poses.npz") as found:
        poses = found["pose_3d"][0]
        assert found["keyframe_stride"] == 1  # keyframes lie between the frames
    # Linear in time at any rate.
    np.testing.assert_allclose(poses, pose_of(on_screen(pixels)), atol=1e-5)
    assert "from 10 to the network's 25 frames per second" in said


def test_a_rate_that_nobody_knows_is_said(tmp_path, opened):
    np.save(tmp_path / "walk.npy", track(12))
    said = run(request(tmp_path / "walk.npy", tmp_path / "poses.npz", fps=None))
    assert "30 are assumed" in said and "--rate tells it" in said
    opened[0] = 50.0
    said = run(request(tmp_path / "walk.npy", tmp_path / "poses.npz", fps=None))
    assert "50, the network's rate, are assumed" in said and "resampled" not in said


def test_long_tracks_come_in_blocks(monkeypatch):
    """The blocks of two persons are those of the whole video, in order."""
    monkeypatch.setattr(sequences, "BLOCK", 16)
    pixels = np.stack([track(100, 0), track(100, 1) + 30])
    keypoints = keypoints_of(pixels)
    lifting = request("x").lifting
    ready = sequences.prepare(keypoints, LIFTER, lifting, "'x'")
    blocks = list(sequences.lift(ready, LIFTER, lifting))
    assert len(blocks) > 12 and ready.frames == 200
    for number in range(2):
        own = [one.persons[0] for one in blocks if one.persons[0].name == str(number + 1)]
        starts = np.cumsum([0, *(len(one.valid) for one in own)])
        assert [one.first_frame for one in own] == starts[:-1].tolist()
        poses = np.concatenate([one.pose_3d for one in own])
        np.testing.assert_allclose(poses, pose_of(on_screen(pixels[number])), atol=1e-5)


@pytest.mark.parametrize(
    ("said", "rate"),
    [
        ({"training": {"data": {"fps": 50.0}}}, 50.0),
        ({"training": {"data": {"fps": 25}}}, 25.0),
        ({"training": {"data": {"fps": "50"}}}, None),
        ({"training": {"data": {"fps": -1}}}, None),
        ({"training": {"data": {"fps": float("nan")}}}, None),
        ({"training": {"data": {"fps": True}}}, None),
        ({"training": {"data": []}}, None),
        ({"training": 3}, None),
        ({}, None),
    ],
)
def test_an_exported_file_says_the_rate_of_its_training(said, rate):
    artifact = Artifact(pathlib.Path("a.onnx"), "onnx", about("lifter"), said, lambda x: (x,))
    assert artifacts.rate_of(artifact) == rate
    assert artifacts.network_of(artifact).notes == ("'a.onnx' computes, in onnx.",)


def scene_of(page):
    """The poses in a page, as `page.encoding` packs them."""
    (clip,) = json.loads(re.search(r'type="application/json"[^>]*>(.*?)</script>', page)[1])[
        "clips"
    ]
    return clip["scene"]


def test_the_page_shows_what_the_files_hold(tmp_path, opened):
    """Chosen frames and the person's height are in both; the root stays where poses have it."""
    np.save(tmp_path / "walk.npy", track(40))
    options = WritingOptions(1.8, "floor", None, (10, 25))
    run(request(tmp_path / "walk.npy", tmp_path, formats=("npz", "html"), writing=options))
    with np.load(tmp_path / "walk.npz") as found:
        poses = found["pose_3d"][0]
    scene = scene_of((tmp_path / "walk.html").read_text())
    (person,) = scene["persons"]
    shown = np.frombuffer(base64.b64decode(person["pose_3d"]), "<i2") * scene["metres"]
    assert (person["first"], person["frames"]) == (10, 15) and poses.shape == (15, J, 3)
    np.testing.assert_allclose(shown.reshape(poses.shape), poses, atol=scene["metres"])


def test_only_keyframes_that_are_frames_are_ticked():
    """Windows overlap by whole strides, so that they share keyframes; another rate has none."""
    keypoints = keypoints_of(track(30)[None])
    for rate, overlap, kept in (
        (None, False, (3, 1)),
        (10.0, True, (3, 1)),
        (25.0, True, (1, 0)),
    ):
        lifting = request("x", rate=rate, overlap=overlap).lifting
        ready = sequences.prepare(keypoints, LIFTER, lifting, "x").about
        assert (ready.keyframe_stride, ready.keyframe_offset) == kept


def test_the_first_keyframe_depends_on_where_a_person_is_seen(opened):
    """The network reads frames 1, 4, 7 of each stretch. Two persons need not share keyframes."""
    one = np.full((40, J, 2), np.nan)
    one[2:12], one[20:38] = track(40)[2:12], track(40)[20:38]  # both stretches begin at 2 mod 3
    lifting = request("x", gap=0.0).lifting
    ready = sequences.prepare(keypoints_of(one[None]), LIFTER, lifting, "x").about
    assert (ready.keyframe_stride, ready.keyframe_offset) == (3, 0)
    both = np.stack([one, track(40)])
    ready = sequences.prepare(keypoints_of(both), LIFTER, lifting, "x").about
    assert (ready.keyframe_stride, ready.keyframe_offset) == (1, 0)


def keypoints_of(pixels):
    """Keypoints of some persons, `[P, T, J, 2]`, without a file."""
    from kdpose_jax.keypoints.tracks import Keypoints, Track

    tracks = tuple(
        Track(str(number), np.arange(len(one)), one, np.ones(one.shape[:2]))
        for number, one in enumerate(pixels, 1)
    )
    return Keypoints(tracks, H36M_17.joints, "h36m_17", SIZE, 10.0, pixels.shape[1], "plain", ())


def test_a_folder_of_videos_is_finished_once(tmp_path, opened):
    """A second run leaves what is done, takes a changed file again, and names a bad one."""
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    for number in range(3):
        np.save(clips / f"clip{number}.npy", track(10 + number))
    (clips / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"1 of 4 inputs could not be predicted: bad\.json"):
        run(request(clips, out, formats=("npz",)))
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.npz")}
    assert set(times) == {"clip0.npz", "clip1.npz", "clip2.npz"}
    (clips / "bad.json").unlink()
    np.save(clips / "clip1.npy", track(30))
    said = run(request(clips, out, formats=("npz",)))
    assert "2 of 3 were done before" in said
    changed = [
        path.name for path in out.glob("*.npz") if path.stat().st_mtime_ns != times[path.name]
    ]
    assert changed == ["clip1.npz"]
    with np.load(out / "clip1.npz") as found:
        assert found["pose_3d"].shape[1] == 30
    said = run(request(clips / "clip*.npy", out, formats=("npz",)))
    assert "3 of 3 were done before" in said, "a pattern names the same files"
    said = run(request(clips / "clip*.npy", out, formats=("npz",), gap=0.1))
    assert "done before" not in said, "other options make another task"


def test_processes_share_the_videos(tmp_path):
    done = []
    paths = [str(tmp_path / f"{number}.npy") for number in range(5)]
    for path in paths:
        np.save(path, np.zeros(1))
    for index in range(2):
        task = many.Task("fingerprint", {})
        predict = lambda path, base: (done.append(path), ([], []))[1]  # noqa: E731
        many.run_all(paths, tmp_path, task, predict, lambda _: None, (index, 2))
    assert sorted(done) == sorted(paths)


def test_only_many_files_are_shared(tmp_path, monkeypatch, opened):
    """The second of two processes leaves a single video to the first."""
    np.save(tmp_path / "walk.npy", track(12))
    monkeypatch.setattr(command.jax, "process_index", lambda: 1)
    said = run(request(tmp_path / "walk.npy", tmp_path / "out"))
    assert "process 0 predicts" in said and not (tmp_path / "out").exists()


def test_two_videos_of_one_name_are_refused(tmp_path):
    for ending in ("json", "npz"):
        (tmp_path / f"walk.{ending}").write_bytes(b"x")
    with pytest.raises(UserError, match="both be written as 'walk'"):
        many.inputs_in("keypoints", str(tmp_path / "walk.*"))
    with pytest.raises(UserError, match="fits no file"):
        many.inputs_in("keypoints", str(tmp_path / "run*.json"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"out": "poses.npz", "formats": ("csv",)}, "--to names formats"),
        ({"formats": ("fbx",)}, r"--to .*fbx"),
        ({"person": "7"}, "--person 7 is not a person"),
        ({"size": None}, "--size 1920x1080"),
        ({"fps": 0.0}, "--fps is 0"),
        ({"rate": 0.0}, "--rate is 0"),
        ({"gap": -1.0}, "--gap is -1"),
        ({"score": float("nan")}, "--score is nan"),
        ({"out": "walk.fbx"}, ".fbx is not a format"),
        ({"out": "walk.npy/poses"}, "--out: the folder .* cannot be written"),
        ({"kind": "video", "out": "gs://bucket/poses"}, "a folder of a disk with --video"),
        (
            {"formats": ("npz",), "writing": WritingOptions(178.0, "given", None, None)},
            "write 1.78",
        ),
    ],
)
def test_mistakes_before_any_work(tmp_path, monkeypatch, opened, changes, sentence):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "walk.npy", track(12))
    with pytest.raises(UserError, match=sentence):
        run(request(tmp_path / "walk.npy", **changes))
    assert [path.name for path in tmp_path.iterdir()] == ["walk.npy"]


@pytest.fixture
def parsed():
    """Parses flags of `--mode predict`, and forgets them."""

    def parse(*words):
        absl_flags.FLAGS.unparse_flags()
        absl_flags.FLAGS(["launch.py", *words], known_only=True)
        return flags

    yield parse
    absl_flags.FLAGS.unparse_flags()
    absl_flags.FLAGS(["launch.py"])


@pytest.mark.parametrize(
    ("mode", "words", "sentence"),
    [
        ("predict", [], "was given nothing: give one of"),
        ("predict", ["--keypoints=a", "--video=b"], "--keypoints and --video"),
        ("predict", ["--keypoints=a", "--boxes=b"], "--boxes goes with --pictures"),
        ("predict", ["--video=a", "--map=b"], "--map goes with --keypoints"),
        ("predict", ["--video=a", "--size=3x4"], "--size goes with --keypoints"),
        ("predict", ["--pictures=a", "--gap=1"], "--gap goes with --keypoints and --video"),
        ("predict", ["--pictures=a", "--height=1"], "--height goes with --keypoints and --video"),
        ("train", ["--size=3x4"], "--size goes with --mode predict"),
        ("export", ["--gap=1"], "--gap goes with --mode predict"),
        ("export", ["--height=1.8"], "--height goes with --mode predict"),
        ("predict", ["--poses=a"], "--poses goes with --mode export"),
        ("predict", ["--keypoints=a", "--axes=y_up"], "--axes goes with --poses of --mode export"),
    ],
)
def test_flags_that_do_not_fit(parsed, mode, words, sentence):
    with pytest.raises(UserError, match=sentence):
        parsed(*words).check(mode)


@pytest.mark.parametrize("flag", ["fps=30", "joints=h36m_17", "axes=y_up", "frames=0:9"])
def test_poses_that_exist_are_exported_with_flags_of_their_own(parsed, flag):
    parsed("--poses=a.npz", f"--{flag}").check("export")


def test_the_axes_of_poses_that_lie(parsed, tmp_path):
    """Their file says no axes, and the flag that the sentence names decides."""
    lying = np.zeros((4, J, 3), np.float32)
    lying[:, :, 0] = np.linspace(0, 1.7, J)
    np.savez(tmp_path / "a.npz", pose_3d=lying, fps=30, joints=np.asarray(H36M_17.joints))
    words, said = [f"--poses={tmp_path / 'a.npz'}"], []
    asked = parsed(*words).request("", str(tmp_path / "b.npz"), "")
    with pytest.raises(UserError, match="add --axes with one of camera, y_up, z_up"):
        command.convert_poses(str(tmp_path / "a.npz"), "", asked, said.append)
    asked = parsed(*words, "--axes=z_up").request("", str(tmp_path / "b.npz"), "")
    command.convert_poses(str(tmp_path / "a.npz"), "", asked, said.append)
    written = np.load(tmp_path / "b.npz")["pose_3d"].reshape(lying.shape)
    # With z up, x points towards the camera: against the camera's z.
    np.testing.assert_allclose(written[..., 2], -lying[..., 0], atol=1e-6)
    assert not written[..., :2].any()


def test_flags_become_a_request(parsed):
    parsed("--keypoints=a.json", "--size=1920x1080", "--to=npz, bvh", "--frames=3:9", "--gap=1")
    flags.check("predict")
    asked = flags.request("run", "out", "alphapose")
    assert asked.formats == ("npz", "bvh") and asked.reading["size"] == (1920, 1080)
    assert asked.reading["format_name"] == "alphapose" and asked.lifting.gap == 1
    assert asked.writing.frames == (3, 9) and asked.kind == "keypoints"


def write_video(path, frames, size=(64, 48)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12.0, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 10 * number, np.uint8))
    writer.release()


@pytest.fixture
def detected(tmp_path):
    """A function that makes a request for videos, with an interpreter whose detector is a loop."""
    stand_in = tmp_path / "python"
    names = [f'"{name}"' for name in H36M_17.joints]
    stand_in.write_text(
        "#!/bin/sh\n"
        f"exec {__import__('sys').executable} - \"$@\" <<'END'\n"
        "import runpy, sys, types\n"
        "here = runpy.run_path(sys.argv[1])\n"
        "def find(frame):\n"
        f"    points = [[frame.mean() + joint, 5.0 + joint] for joint in range({J})]\n"
        f"    return [(points, [0.9] * {J})]\n"
        f"here['DETECTORS']['rtmlib'] = lambda: ([{', '.join(names)}], find)\n"
        "here['main'](*sys.argv[2:])\n"
        "END\n"
    )
    stand_in.chmod(0o755)
    own = {"kind": "video", "detector": "rtmlib", "python": str(stand_in)}
    own |= {"joints": None, "size": None, "fps": None}
    return lambda given, out, **changes: request(given, out, **(own | changes))


def test_a_video_goes_through_a_detector(tmp_path, opened, detected):
    """A detector's process finds a person in every frame; its file is kept and taken again."""
    write_video(tmp_path / "clip.avi", 6)
    asked = detected(tmp_path / "clip.avi", tmp_path / "poses.npz")
    said = run(asked)
    with np.load(tmp_path / "poses.npz") as found:
        assert tuple(found["size"]) == (64, 48) and found["fps"] == 12
        np.testing.assert_allclose(found["keypoints_2d"][0][:, 0, 0], np.arange(6) * 10, atol=2)
    assert "finding keypoints with rtmlib" in said
    assert "delete it to detect them again" in run(asked)
    write_video(tmp_path / "clip.avi", 4)  # another video of the same name
    assert "finding keypoints with rtmlib" in run(asked)
    with np.load(tmp_path / "poses.npz") as found:
        assert found["length"] == 4
    other = dataclasses.replace(asked, detector="mediapipe")
    with pytest.raises(UserError, match="--detector mediapipe failed|not installed"):
        run(other)
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_of_videos_goes_through_a_detector_once(tmp_path, opened, detected):
    """What is done is left; what changed, or lost its keypoints, is detected again."""
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    for name, frames in (("a.avi", 4), ("b.AVI", 5)):
        write_video(clips / name, frames)
    (clips / "bad.mp4").write_bytes(b"not a video")
    (clips / "notes.txt").write_text("not a video either")
    asked = detected(clips, out, formats=("npz",))
    with pytest.raises(UserError, match=r"^1 of 3 inputs could not be predicted: bad\.mp4"):
        run(asked)
    for name, frames in (("a", 4), ("b", 5)):
        with np.load(out / f"{name}.npz") as found:
            np.testing.assert_allclose(
                found["keypoints_2d"][0][:, 0, 0], np.arange(frames) * 10, atol=2
            )
    (clips / "bad.mp4").unlink()
    write_video(clips / "b.AVI", 3)
    said = run(asked)
    assert "1 of 2 were done before" in said and said.count("finding keypoints") == 1
    with np.load(out / "b.npz") as found:
        assert found["length"] == 3
    (out / "a.keypoints.json").unlink()
    said = run(detected(clips / "*.[aA][vV][iI]", out, formats=("npz",)))
    assert "1 of 2 were done before" in said and f"with rtmlib in {clips / 'a.avi'}" in said
    assert "2 of 2 were done before" in run(asked)
    shown = []
    with pytest.raises(UserError, match="--detector_python '/no/python' cannot be run"):
        other = detected(clips, tmp_path / "other", python="/no/python")
        command.predict_and_report(other, None, shown.append, Stop())
    # The second video is not tried with a detector that is not there.
    assert sum(line.startswith("[") for line in shown) == 1


def test_videos_that_cannot_be_told_apart_or_found(tmp_path, opened, detected):
    write_video(tmp_path / "a.avi", 2)
    with pytest.raises(
        UserError, match="--video is a folder or a pattern: give a folder with --out"
    ):
        run(detected(tmp_path, tmp_path / "poses.npz"))
    write_video(tmp_path / "a.mp4", 2)
    with pytest.raises(UserError, match="both be written as 'a'"):
        run(detected(tmp_path, tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is a folder without videos"):
        run(detected(tmp_path / "empty", tmp_path / "out"))
    with pytest.raises(UserError, match="--video '.*' fits no file"):
        run(detected(tmp_path / "*.mkv", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_detector_ends_with_the_program_that_started_it(tmp_path, monkeypatch):
    write_video(tmp_path / "clip.avi", 3)
    monkeypatch.setitem(detecting.DETECTORS, "rtmlib", lambda: (list(H36M_17.joints), lambda _: []))
    starters = iter([1, 1, 2])
    monkeypatch.setattr(detecting.os, "getppid", lambda: next(starters))
    with pytest.raises(SystemExit, match="has ended"):
        detecting.main("rtmlib", str(tmp_path / "clip.avi"), str(tmp_path / "found.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.avi"]


def test_detectors_and_videos_that_do_not_work(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"not a video")
    for path, python, sentence in (
        ("no.mp4", "", "cannot be decoded by OpenCV"),
        ("none.mp4", "", "is not a file of a disk: give"),
        ("gs://bucket/no.mp4", "", "copy it to a disk first"),
        ("clip.avi", "/no/python", "cannot be run"),
        ("clip.avi", "", "pip install mediapipe"),
    ):
        write_video(tmp_path / "clip.avi", 2)
        with pytest.raises(UserError, match=sentence):
            video.detect(
                path if "://" in path else str(tmp_path / path),
                "mediapipe",
                python,
                tmp_path / "out",
                {},
                lambda _: None,
            )
    assert not list(tmp_path.glob("out*json"))


def test_the_detectors_file_is_read_as_mmposes(tmp_path, monkeypatch):
    write_video(tmp_path / "clip.avi", 3)
    found = [([[1.0, 2.0]] * J, [0.5] * J), ([[30.0, 40.0]] * J, [0.7] * J)]
    monkeypatch.setitem(
        detecting.DETECTORS, "rtmlib", lambda: (list(H36M_17.joints), lambda _: found)
    )
    out = tmp_path / "found.json"
    detecting.main("rtmlib", str(tmp_path / "clip.avi"), str(out))
    keypoints = read_keypoints(str(out))
    assert keypoints.format == "mmpose" and len(keypoints.tracks) == 2 and keypoints.length == 3
    assert keypoints.joints == H36M_17.joints


PICTURES = PictureNetwork(
    about("pictures", skeleton="mpii_16", side=32, frames=1, predicted=1),
    # The centre of the crop, for every joint.
    lambda crops: (np.full((len(crops), 16, 2), 15.5), np.full((len(crops), 16), 0.25)),
)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs.loading, "load_by_flags", lambda *_: (PICTURES, None))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("7.png", "b.png"):
        cv2.imwrite(str(folder / name), np.zeros((40, 60, 3), np.uint8))
    return folder


def test_pictures_by_boxes(pictures, tmp_path):
    """The centre of a crop is the centre of its box."""
    boxes = {
        "images": [{"id": 7, "file_name": "x/7.png"}, {"id": 9, "file_name": "b.png"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 20]},
            {"image_id": 9, "category_id": 1, "bbox": [30, 0, 10, 20]},
            {"image_id": 9, "category_id": 2, "bbox": [0, 0, 10, 20]},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 8, 8]},
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    asked = request(pictures, tmp_path / "out", kind="pictures", boxes=str(tmp_path / "boxes.json"))
    assert "3 person(s) in 2 pictures" in run(asked)
    results = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    places = sorted((one["image_id"], *one["keypoints"][:3]) for one in results)
    for found, wanted in zip(
        places, [(7, 4, 4, 0.25), (7, 20, 20, 0.25), (9, 35, 10, 0.25)], strict=True
    ):
        # Crops count pixels from the centre of the first.
        np.testing.assert_allclose(found, wanted, atol=0.51)
    about_them = json.loads((tmp_path / "out" / "keypoints.about.json").read_text())
    assert about_them["fingerprint"] == PICTURES.fingerprint


def test_boxes_as_other_tools_write_them(pictures, tmp_path):
    """The file's own table says who is a person; ids are 7.0; folders end with a backslash."""
    boxes = {
        "images": [{"id": 7.0, "file_name": "x\\b.png"}],
        "annotations": [
            {"image_id": 7, "category_id": 0.0, "bbox": [10, 10, 20, 20]},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 20]},
        ],
        "categories": [{"id": 0, "name": "Person"}, {"id": 1, "name": "dog"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    (listed,) = photographs.list_pictures(str(pictures), str(tmp_path / "boxes.json"))
    assert (os.path.basename(listed.path), listed.image_id) == ("b.png", 7)
    np.testing.assert_array_equal(listed.boxes, [[10, 10, 20, 20]])


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([20, 10, 50, 38], "2 of 2 boxes reach beyond their picture.*x1, y1, x2, y2"),
        ([0.2, 0.1, 0.7, 0.9], "2 of 2 boxes lie in the first 2 pixels, as shares"),
    ],
)
def test_boxes_of_another_form_are_refused(pictures, tmp_path, box, said):
    entries = [{"image_id": name, "bbox": box} for name in ("7.png", "b.png")]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    asked = request(pictures, tmp_path / "out", kind="pictures", boxes=str(tmp_path / "boxes.json"))
    with pytest.raises(UserError, match=said):
        run(asked)


def test_pictures_that_viewers_turn_are_told(pictures, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(pictures / "c.jpg", exif=exif)
    said = run(request(pictures, tmp_path / "found.json", kind="pictures"))
    assert "note: 1 of 3 pictures have an EXIF orientation" in said
    about_them = json.loads((tmp_path / "found.about.json").read_text())
    assert "may not stand upright" in " ".join(about_them["notes"])


def test_whole_pictures_and_one_that_is_broken(pictures, tmp_path):
    (pictures / "c.jpg").write_bytes(b"\xff\xd8broken")
    said = run(request(pictures, tmp_path / "found.json", kind="pictures"))
    assert "1 of 3 pictures cannot be decoded" in said
    results = json.loads((tmp_path / "found.json").read_text())
    assert [one["image_id"] for one in results] == [1, 2]
    np.testing.assert_allclose(results[0]["keypoints"][:2], (29.5, 19.5), atol=1.01)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "cannot be read as JSON"),
        ("{}", "no list of"),
        ('[{"bbox": [1, 2, 3, 4]}]', "has no image_id"),
        ('[{"image_id": 7, "bbox": [1, 2, 0, 4]}]', "with an area"),
        ('[{"image_id": 7, "bbox": [1, 2, NaN, 4]}]', "with an area"),
        ("[]", "has no box of a person"),
        ('[{"image_id": "z.png", "bbox": [1, 2, 3, 4]}]', "names none of the 2 pictures"),
    ],
)
def test_bad_boxes(pictures, tmp_path, content, sentence):
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        photographs.list_pictures(str(pictures), str(tmp_path / "boxes.json"))
    with pytest.raises(UserError, match="holds no picture"):
        photographs.list_pictures(str(tmp_path / "nothing"), "")


def test_the_other_kind_of_network(pictures, tmp_path, monkeypatch, opened):
    monkeypatch.setattr(photographs.loading, "load_by_flags", lambda *_: (LIFTER, None))
    with pytest.raises(UserError, match="is a lifter, which reads keypoints"):
        run(request(pictures, tmp_path / "out", kind="pictures"))
    monkeypatch.setattr(command.loading, "load_by_flags", lambda *_: (PICTURES, None))
    np.save(tmp_path / "walk.npy", track(12))
    with pytest.raises(UserError, match="a network for pictures, and keypoints were given"):
        run(request(tmp_path / "walk.npy", tmp_path / "out"))
