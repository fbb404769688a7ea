"""The best and worst test examples: which they are, how they are kept, and the page of a run."""

import base64
import json
import re

import cv2
import numpy as np
import pytest
from etils import epath
from people import people

from kdpose_jax.contracts import Column
from kdpose_jax.data.sequences import Motion
from kdpose_jax.evaluate import extremes
from kdpose_jax.evaluate.extremes import Crop, Extremes, Motion3D
from kdpose_jax.evaluate.protocols import mpi_inf_3dhp, mpii, pck, pose3d
from kdpose_jax.folders import WorkFolder
from kdpose_jax.page import charts, run_report
from kdpose_jax.page import extremes as packing
from kdpose_jax.skeletons import H36M_17, MPII_16


def motions(seed=0, takes=4, cameras=2, frames=340):
    """Sequences whose error differs from clip to clip; some frames do not count."""
    rng = np.random.default_rng(seed)
    made = []
    for take in range(takes):
        for camera in range(cameras):
            target = rng.normal(0, 0.3, (frames, 17, 3)).astype(np.float32)
            size = rng.uniform(0.01, 0.2, -(-frames // 50)).repeat(50)[:frames, None, None]
            predicted = target + size * rng.normal(0, 1, target.shape)
            counts = rng.uniform(size=frames) > 0.1
            counts[300:] = False  # the last clip has nothing to judge
            keypoints = rng.uniform(-1, 1, (frames, 17, 2)).astype(np.float32)
            name = f"S{take}/walk/{camera}"
            made.append(Motion3D(name, "walk", predicted, target, keypoints, counts))
    return made


def loop_errors(sequences):
    """(error in mm, take, name, start) of every clip, by loops over frames and joints."""
    found = []
    for one in sequences:
        for start in range(0, len(one.counts), extremes.CLIP_FRAMES):
            distances = [
                1000 * np.sqrt(((one.predicted[t, j] - one.target[t, j]) ** 2).sum())
                for t in range(start, min(start + extremes.CLIP_FRAMES, len(one.counts)))
                if one.counts[t]
                for j in range(17)
            ]
            if distances:
                found.append((np.mean(distances), one.name[:-2], one.name, start))
    return found


def test_clips_are_the_best_and_the_worst_of_their_takes():
    sequences = motions()
    found = extremes.of_motion(iter(sequences), H36M_17, 4)
    for clips, sign in ((found.best, 1), (found.worst, -1)):
        wanted, takes = [], set()
        for error, take, name, start in sorted(loop_errors(sequences), key=lambda x: sign * x[0]):
            if take not in takes:
                takes.add(take)
                wanted.append((name, start, pytest.approx(error, rel=1e-5)))
        assert [(one.motion.name, one.first_frame, one.error) for one in clips] == wanted[:4]
    by_joint = np.zeros(17)
    for joint in range(17):
        distances = [
            np.linalg.norm(one.predicted[t, joint] - one.target[t, joint])
            for one in sequences
            for t in np.flatnonzero(one.counts)
        ]
        by_joint[joint] = 1000 * np.mean(distances)
    np.testing.assert_allclose(list(found.by_joint.values()), by_joint, rtol=1e-5)


def test_few_sequences_give_few_clips():
    (short,) = motions(takes=1, cameras=1, frames=4)
    found = extremes.of_motion([short], H36M_17, 10)
    assert len(found.best) == len(found.worst) == 1
    nothing = extremes.of_motion([], H36M_17, 10)
    assert (nothing.best, nothing.worst, dict(nothing.by_joint)) == ((), (), {})


def test_clips_are_kept_and_read_again(tmp_path):
    found = extremes.of_motion(motions(takes=3), H36M_17, 2)
    path = epath.Path(tmp_path) / "extremes.json"
    path.write_text(json.dumps(packing.pack(found, {"fps": 50})))
    packed = packing.read(path)
    clip, scene = found.worst[0], packed["worst"][0]["scene"]
    assert (scene["fps"], scene["frames"]) == (50, len(clip.motion.counts))
    (person,) = scene["persons"]
    for text, pose in (
        (person["pose_3d"], clip.motion.predicted),
        (person["truth"]["pose_3d"], clip.motion.target),
    ):
        values = np.frombuffer(base64.b64decode(text), "<i2").reshape(pose.shape) * 0.001
        kept = clip.motion.counts if pose is clip.motion.target else np.ones(len(pose), bool)
        np.testing.assert_allclose(values[kept], pose[kept], atol=0.00051)
        assert (values[~kept] == -32.768).all()


@pytest.mark.parametrize(
    "content", ["", "[", "{}", "[1]", '{"worst": [{}], "best": []}', '{"worst": 1, "best": []}']
)
def test_damaged_examples_count_as_absent(tmp_path, content):
    path = epath.Path(tmp_path) / "extremes.json"
    assert packing.read(path) is None
    path.write_text(content)
    assert packing.read(path) is None


def motion_of(frames):
    """A test split whose poses are all different."""
    rng = np.random.default_rng(2)
    total = sum(frames)
    return Motion(
        skeleton=H36M_17,
        names=tuple(f"S{number}/walk/0" for number in range(len(frames))),
        actions=("walk",) * len(frames),
        frames=np.array(frames),
        offset=np.concatenate([[0], np.cumsum(frames)[:-1]]),
        keypoints_2d=rng.uniform(-1, 1, (total, 17, 2)).astype(np.float32),
        pose_3d=rng.normal(0, 0.3, (total, 17, 3)).astype(np.float32),
        frame_mask=np.ones(total, bool),
    )


@pytest.mark.parametrize("name", ["pose3d", "mpi_inf_3dhp"])
def test_clips_have_each_frame_of_a_sequence_once(name):
    """Windows overlap at the end of a sequence, or are laid around every frame."""
    motion = motion_of([40, 7, 31])
    if name == "pose3d":
        settings = {"windows": "compat", "keyframe_stride": 1, "keyframe_offset": -1}
        protocol = pose3d.open_protocol(motion, frames=9, context=(0, 0), flip=False, **settings)
    else:
        labelled = mpi_inf_3dhp.LabelledMotion(motion, np.zeros(78, int))
        protocol = mpi_inf_3dhp.open_protocol(labelled, frames=9, context=(0, 0), flip=False)
    everything = np.arange(len(protocol.source))
    shift = np.array([0.03, 0, 0.04], np.float32)
    predicted = protocol.source.gather(everything)["pose_3d"] + shift
    found = protocol.extremes(predicted, 5)
    assert [one.error for one in found.worst] == pytest.approx([50] * 3, abs=1e-3)
    for clip in found.best:
        number = int(clip.motion.name[1])
        rows = slice(motion.offset[number], motion.offset[number] + motion.frames[number])
        np.testing.assert_array_equal(clip.motion.target, motion.pose_3d[rows])
        np.testing.assert_array_equal(clip.motion.keypoints_2d, motion.keypoints_2d[rows])
        np.testing.assert_allclose(clip.motion.predicted, motion.pose_3d[rows] + shift, atol=1e-6)


@pytest.mark.parametrize("name", ["mpii", "pck"])
def test_persons_are_ranked_by_their_distance_in_the_crop(name):
    rng = np.random.default_rng(1)
    visible = rng.uniform(size=(7, 16)) > 0.2
    visible[:, [8, 9]] = True  # the head's ends
    visible[3] = False  # nobody labelled this person
    persons = people(MPII_16, rng.uniform(100, 400, (7, 16, 2)), visible)
    views = {"image": 32, "teacher_image": 64}
    if name == "mpii":
        protocol = mpii.open_protocol(persons, views=views, flip=True)
    else:
        settings = {"reference": "head", "threshold": 0.5, "flip": True}
        protocol = pck.open_protocol(persons, views=views, **settings)
    true = protocol.source.gather(np.arange(7))["joints"]
    wrong = np.array([3, 1, 6, 0, 2, 5, 4])[:, None, None] * np.array([0.6, 0.8])
    found = protocol.extremes({"joints": true + wrong, "scores": np.ones((7, 16))}, 2)
    assert [one.name for one in found.worst] == [f"{n:03d}.jpg, person {n + 1}" for n in (2, 5)]
    assert [one.name for one in found.best] == [f"{n:03d}.jpg, person {n + 1}" for n in (1, 4)]
    assert [one.error for one in found.worst] == pytest.approx([600 / 32, 500 / 32], abs=1e-2)
    assert found.unit == "% of the crop"
    first = found.worst[0]
    assert first.picture.shape == (32, 32, 3)
    np.testing.assert_array_equal(np.isnan(first.target[:, 0]), ~visible[2])
    np.testing.assert_allclose(first.target[visible[2]], true[2][visible[2]], atol=1e-3)
    means = [
        np.mean([[3, 1, 6, 0, 2, 5, 4][n] for n in range(7) if visible[n, j]]) for j in range(16)
    ]
    np.testing.assert_allclose(
        list(found.by_joint.values()), np.multiply(means, 100 / 32), atol=1e-2
    )


def test_nobody_is_among_the_best_and_the_worst():
    persons = people(MPII_16, np.full((3, 16, 2), 200.0), np.ones((3, 16), bool))
    protocol = mpii.open_protocol(persons, views={"image": 32}, flip=True)
    joints = protocol.source.gather(np.arange(3))["joints"] + np.arange(3)[:, None, None]
    found = protocol.extremes({"joints": joints}, 10)
    assert [one.name[:3] for one in found.worst] == ["002", "001"]
    assert [one.name[:3] for one in found.best] == ["000"]


def crops(count=4, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        target = rng.uniform(4, 60, (16, 2))
        target[number] = np.nan
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[..., 0] = 40 * number + 20  # red
        predicted = np.nan_to_num(target, nan=30) + 1.5
        made.append(Crop(f"<{number}>.jpg, person 7", picture, predicted, target, 2.5 + number))
    return Extremes(MPII_16, "px", {"pelvis": 3.0}, tuple(made[::-1]), tuple(made[:1]))


def test_pictures_are_kept_with_their_joints():
    packed = packing.pack(crops(), {})
    example = packed["worst"][0]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(example["jpeg"]), np.uint8), 1)
    assert picture.shape == (64, 64, 3)
    assert np.abs(picture.mean((0, 1)) - [0, 0, 140]).max() < 3  # OpenCV's order: blue first
    assert example["target"][3] is None and example["predicted"][3] == [31.5, 31.5]
    drawn = packing.pictures(packed)
    assert "&lt;3&gt;.jpg, person 7" in drawn and "<3>" not in drawn
    first = drawn[: drawn.index("</figure>")]
    # 15 bones, and those of the truth without the ones at the joint that is not labelled.
    at_ankle = sum(3 in bone for bone in MPII_16.bones)
    assert first.count("<line") == 15 + 15 - at_ankle


def test_curves_are_to_scale_and_break_where_there_is_nothing():
    nan = float("nan")
    drawn = charts.curves("a < b", {"one": [(0, 0.0), (10, 5.0), (20, nan), (30, 10.0)]})
    assert "a &lt; b" in drawn
    (line,) = re.findall(r'<polyline class="series-0" points="([^"]+)"', drawn)
    points = np.array([[float(x) for x in pair.split(",")] for pair in line.split()])
    (dot,) = re.findall(r'<circle class="series-0" cx="([\d.]+)" cy="([\d.]+)"', drawn)
    x = np.array([*points[:, 0], float(dot[0])])
    y = np.array([*points[:, 1], float(dot[1])])
    np.testing.assert_allclose((x - x[0]) / (x[-1] - x[0]), [0, 1 / 3, 1], atol=1e-3)
    np.testing.assert_allclose((y - y[0]) / (y[-1] - y[0]), [0, 0.5, 1], atol=1e-3)
    assert charts.curves("x", {"one": [(0, nan)]}) == charts.curves("x", {}) == ""


def test_wide_curves_are_logarithmic():
    drawn = charts.curves("x", {"one": [(0, 1000.0), (1, 10.0), (2, 1.0)]})
    assert "(logarithmic)" in drawn
    (line,) = re.findall(r'points="([^"]+)"', drawn)
    y = [float(pair.split(",")[1]) for pair in line.split()]
    assert (y[1] - y[0]) / (y[2] - y[0]) == pytest.approx(2 / 3, abs=1e-2)


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [0.0, 0.0], [-3.0, 2.0], [1e-9, 2e-9]])
def test_curves_of_any_reach(values):
    drawn = charts.curves("x", {"one": list(enumerate(values))})
    numbers = [float(one) for one in re.findall(r'(?:y1|cy)="([^"]+)"', drawn)]
    assert numbers and all(0 <= one <= charts.HEIGHT for one in numbers)


def test_bars_are_to_scale_and_leave_gaps():
    columns = {"net": {"walk": 50.0, "sit": 100.0}, "b": {"sit": None, "walk": float("nan")}}
    drawn = charts.bars("MPJPE mm by action", columns, "{:.2f}".format)
    assert "<td>100.00 <svg" in drawn
    assert re.findall(r'<th scope="row">(\w+)', drawn) == ["sit", "walk"]
    assert re.findall(r'width="([\d.]+)%"', drawn) == ["100.0", "50.0"]
    assert drawn.count("<td>–</td>") == 2


class Scoring:
    """As much of a protocol as a page needs."""

    columns = (Column("mpjpe_mm", "MPJPE mm", "{:.2f}".format),)
    breakdown_title = "MPJPE mm by action"
    conditions = "Scores: a test."
    test_set = "12 sequences"
    unit = ("frames", 27)


def write_report(folder, packed, **changes):
    metadata = {"generated": True, "kind": "pose_sequences", "keypoints": "generated"} | changes
    networks = {
        name: {
            "title": title,
            "loaded": "the best",
            "table": {"mpjpe_mm": value},
            "breakdown": {"walk": value, "sit": 2 * value},
        }
        for name, title, value in (("teacher", "teacher", 40.0), ("student", "the </h1> one", 55.0))
    }
    run = folder.run("student")
    run.path.mkdir(parents=True)
    records = [
        {"step": step, "loss": 9 / (step + 1), "weighted_temporal": 0.1, "task": 1.0}
        for step in range(0, 50, 5)
    ]
    records.append({"step": 45, "test_mpjpe_mm": 55.0})
    run.metrics.write_text("\n".join(map(json.dumps, records)))
    origin = {
        "commit": "abc",
        "uncommitted_changes": False,
        "seed": 0,
        "device_count": 1,
        "device_kind": "cpu",
        "versions": {"jax": "0.10.2"},
        "note": "</script>",
    }
    run_report.write(folder, networks, origin, Scoring, metadata, {"student": packed})
    return folder.page.read_text()


def test_the_page_of_a_run_says_what_was_trained(tmp_path):
    packed = packing.pack(extremes.of_motion(motions(), H36M_17, 3), {"fps": 50})
    written = write_report(WorkFolder(epath.Path(tmp_path)), packed)
    for part in (
        "Results on generated motion",
        "these numbers say nothing about any real data",
        "training loss",
        "test MPJPE mm",
        "weighted terms of the loss",
        "<td>55.00</td>",
        "MPJPE mm by action",
        "Error in mm by joint",
        "right wrist",
        "&lt;/script&gt;",
    ):
        assert part in written, part
    assert written.count("the &lt;/h1&gt; one") >= 3 and "the </h1> one" not in written
    assert written.count('class="clip"') == 6 and written.count("<script") == 2


def test_a_run_of_pictures_has_no_player(tmp_path):
    written = write_report(WorkFolder(epath.Path(tmp_path)), packing.pack(crops(), {}))
    assert '<section class="player"' not in written
    assert written.count("data:image/jpeg;base64,") == 5


@pytest.mark.parametrize("kind", ["photographs", "generated pictures", "motion"])
def test_a_page_with_photographs_says_who_publishes_them(tmp_path, kind):
    if kind == "motion":
        packed = packing.pack(extremes.of_motion(motions(), H36M_17, 3), {"fps": 50})
    else:
        packed = packing.pack(crops(), {})
    changes = {"generated": kind == "generated pictures", "settings": {"name": "coco"}}
    written = write_report(WorkFolder(epath.Path(tmp_path)), packed, **changes)
    said = "Whoever publishes this page publishes these test photographs" in written
    assert said == (kind == "photographs")


def test_the_page_of_a_run_in_a_browser(page, tmp_path):
    packed = packing.pack(extremes.of_motion(motions(), H36M_17, 3), {"fps": 50})
    write_report(WorkFolder(epath.Path(tmp_path / "motion")), packed)
    write_report(WorkFolder(epath.Path(tmp_path / "pictures")), packing.pack(crops(), {}))
    page.media(prefers_reduced_motion="no-preference")
    page.open(tmp_path / "motion" / "results.html", width=375)
    assert not page.run("player.playing")  # nobody asked for one of six clips
    assert page.run("document.querySelector('.title').textContent") == packed["worst"][0]["name"]
    page.run("document.querySelectorAll('.clip')[4].click()")
    assert page.run("document.querySelector('.title').textContent") == packed["best"][1]["name"]
    pressed = "Array.from(document.querySelectorAll('.clip'), (one) => one.ariaPressed)"
    assert page.run(pressed) == ["false"] * 4 + ["true", "false"]
    mean = "player.charts.errors.curves[0].values.filter(Number.isFinite)"
    mean = f"(({{length}}, sum) => sum / length)({mean}, {mean}.reduce((a, b) => a + b))"
    assert page.run(mean) == pytest.approx(packed["best"][1]["error"], abs=1)
    assert page.run("document.documentElement.scrollWidth") <= 375
    page.open(tmp_path / "pictures" / "results.html", width=375)
    assert page.run("document.querySelectorAll('.crops image').length") == 5
    assert page.run("document.documentElement.scrollWidth") <= 375
    assert page.said == []
    asked = [one for one in page.requests if not one.startswith(("file:", "data:"))]
    assert asked == []
