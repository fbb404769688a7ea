"""Predicted poses in every format but BVH: read back by readers that are not the program's."""

import csv
import dataclasses
import json
import tracemalloc

import ezc3d
import moving_person
import numpy as np
import pytest

from kdpose_jax.errors import UserError
from kdpose_jax.poses.stored_poses import read_poses
from kdpose_jax.poses.writers import outputs
from kdpose_jax.poses.writers.spool import Spool
from kdpose_jax.poses.writers.table import FORMATS, WritingOptions
from kdpose_jax.skeletons import COCO_17, H36M_17

NOTHING = WritingOptions(height=None, root="given", focal=None, frames=None)
MICROMETRE = 1e-6
# What six decimals of a metre, and five, may lose.
TRC_LOSS, TEXT_LOSS = 6e-7, 6e-6


@pytest.fixture(scope="module")
def video():
    """Two persons; the second comes later and is masked for a while."""
    first = moving_person.person(moving_person.walk(50), "one, the first")
    later = moving_person.person(moving_person.walk(30, turns=1), "2", 12, masked=range(5, 9))
    return moving_person.poses(first, later, fps=29.97)


@pytest.fixture(scope="module")
def folder(video, tmp_path_factory):
    """Every format, written from blocks of seven frames; BVH of the first person alone."""
    folder = tmp_path_factory.mktemp("written")
    with outputs.Outputs(
        folder / "walk", [name for name in FORMATS if name != "bvh"], NOTHING
    ) as out:
        for block in moving_person.blocks(video, 7):
            out.append(block)
        out.finish()
    return folder


def test_files_have_their_names_and_nothing_else_stays(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "walk.csv",
        "walk.csv.json",
        "walk.json",
        "walk.npz",
        "walk_2.c3d",
        "walk_2.trc",
        "walk_2.trc.json",
        "walk_one_the_first.c3d",
        "walk_one_the_first.trc",
        "walk_one_the_first.trc.json",
    ]


def test_npz_opens_without_pickles(video, folder):
    with np.load(folder / "walk.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    assert arrays["joints"].tolist() == list(H36M_17.joints)
    assert arrays["parents"].tolist() == list(H36M_17.parents) and arrays["root"] == 0
    assert arrays["persons"].tolist() == ["one, the first", "2"]
    assert arrays["first_frame"].tolist() == [0, 12] and arrays["frames"].tolist() == [50, 30]
    assert (arrays["fps"], arrays["length"], arrays["keyframe_stride"]) == (29.97, 50, 3)
    assert arrays["size"].tolist() == [640, 480] and arrays["axes"] == "camera"
    assert (arrays["network"], arrays["fingerprint"]) == ("demo/student", "0123abcd")
    assert arrays["notes"].tolist()[:-1] == list(video.notes) and "root_path" not in arrays
    assert "stays at the origin" in arrays["notes"][-1]
    for index, person in enumerate(video.persons):
        for name in ("pose_3d", "keypoints_2d", "scores", "seen", "valid"):
            expected = getattr(person, name)
            found = arrays[name][index, : len(expected)]
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected, err_msg=name)
    assert np.isnan(arrays["pose_3d"][1, 30:]).all() and not arrays["valid"][1, 30:].any()


def test_json_holds_every_frame_with_its_number(video, folder):
    stored = json.loads((folder / "walk.json").read_text())
    assert stored["joints"] == list(H36M_17.joints) and stored["fingerprint"] == "0123abcd"
    assert (stored["fps"], stored["size"], stored["units"]["pose_3d"]) == (
        29.97,
        [640, 480],
        "metres",
    )
    assert stored["notes"][:-1] == list(video.notes)
    for person, entry in zip(video.persons, stored["persons"], strict=True):
        assert (entry["name"], entry["first_frame"]) == (person.name, person.first_frame)
        frames = entry["frames"]
        numbers = range(person.first_frame, person.first_frame + len(person.valid))
        assert [frame["frame"] for frame in frames] == list(numbers)
        assert [frame["valid"] for frame in frames] == person.valid.tolist()
        assert [frame["seen"] for frame in frames] == person.seen.tolist()
        for frame, pose, points, scores in zip(
            frames, person.pose_3d, person.keypoints_2d, person.scores, strict=True
        ):
            if np.isnan(pose).any():
                assert frame["pose_3d"] == frame["keypoints_2d"] == [None] * 17
                continue
            np.testing.assert_allclose(frame["pose_3d"], pose, atol=TEXT_LOSS)
            np.testing.assert_allclose(frame["keypoints_2d"], points, atol=0.006)
            np.testing.assert_allclose(frame["scores"], scores, atol=6e-5)


def test_csv_has_one_row_for_every_joint(video, folder):
    with open(folder / "walk.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    header = "person frame time_s joint x_m y_m z_m u_px v_px score seen valid"
    assert list(rows[0]) == header.split()
    assert len(rows) == 80 * 17
    expected = [
        (person, frame, joint)
        for person in video.persons
        for frame in range(len(person.valid))
        for joint in range(17)
    ]
    for row, (person, frame, joint) in zip(rows, expected, strict=True):
        assert (row["person"], row["joint"]) == (person.name, H36M_17.joints[joint])
        number = person.first_frame + frame
        assert int(row["frame"]) == number
        assert float(row["time_s"]) == pytest.approx(number / 29.97, abs=1e-6)
        assert row["valid"] == str(int(person.valid[frame]))
        assert row["seen"] == str(int(person.seen[frame, joint]))
    cells = [[row[name] or "nan" for name in ("x_m", "y_m", "z_m", "u_px", "v_px")] for row in rows]
    for columns, loss, name in (
        (slice(0, 3), TEXT_LOSS, "pose_3d"),
        (slice(3, 5), 0.006, "keypoints_2d"),
    ):
        wanted = np.concatenate([getattr(one, name) for one in video.persons])
        found = np.asarray(cells, np.float64)[:, columns].reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, atol=loss)


def test_what_a_table_cannot_hold_stands_beside_it(video, folder):
    for name, unit in (("walk.csv", "metres"), ("walk_2.trc", "metres")):
        beside = json.loads((folder / f"{name}.json").read_text())
        assert beside["fingerprint"] == "0123abcd" and beside["units"]["pose_3d"] == unit
        assert beside["notes"][0] == video.notes[0] and beside["persons"][-1]["first_frame"] == 12


def parse_trc(path):
    """A TRC file by OpenSim's description: header values, marker names, frames, times, points."""
    lines = path.read_text().split("\n")
    assert lines[0].split("\t")[:3] == ["PathFileType", "4", "(X/Y/Z)"]
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    labels = lines[3].split("\t")
    assert labels[:2] == ["Frame#", "Time"] and lines[5] == "" and lines[-1] == ""
    names = labels[2::3]
    assert len(labels) == 2 + 3 * len(names) and not any(labels[3::3] + labels[4::3])
    axes = [f"{axis}{number}" for number in range(1, len(names) + 1) for axis in "XYZ"]
    assert lines[4].split("\t") == ["", "", *axes]
    rows = [line.split("\t") for line in lines[6:-1]]
    assert {len(row) for row in rows} == {len(labels)}
    points = np.asarray([[float(cell or "nan") for cell in row[2:]] for row in rows])
    frames, times = [int(row[0]) for row in rows], [float(row[1]) for row in rows]
    return header, names, frames, times, points.reshape(len(rows), -1, 3)


def test_trc_is_in_metres_with_y_up(video, folder):
    for person, name in zip(video.persons, ("one_the_first", "2"), strict=True):
        header, names, frames, times, points = parse_trc(folder / f"walk_{name}.trc")
        assert header == {
            "DataRate": "29.97",
            "CameraRate": "29.97",
            "NumFrames": str(len(person.valid)),
            "NumMarkers": "17",
            "Units": "m",
            "OrigDataRate": "29.97",
            "OrigDataStartFrame": str(person.first_frame + 1),
            "OrigNumFrames": str(len(person.valid)),
        }
        assert names == list(H36M_17.joints)
        numbers = np.arange(len(person.valid)) + person.first_frame
        assert frames == (numbers + 1).tolist()
        np.testing.assert_allclose(times, numbers / 29.97, atol=1e-6)
        np.testing.assert_allclose(points, person.pose_3d * [1, -1, -1], atol=TRC_LOSS)
        head, ankle = names.index("head"), names.index("left_ankle")
        assert (points[person.valid, head, 1] > points[person.valid, ankle, 1] + 1).all()


def test_c3d_is_in_millimetres_with_z_up(video, folder):
    for person, name in zip(video.persons, ("one_the_first", "2"), strict=True):
        stored = ezc3d.c3d(str(folder / f"walk_{name}.c3d"))
        point = stored["parameters"]["POINT"]
        assert point["LABELS"]["value"] == list(H36M_17.joints)
        assert point["UNITS"]["value"] == ["mm"] and point["RATE"]["value"][0] == np.float32(29.97)
        assert (point["X_SCREEN"]["value"], point["Y_SCREEN"]["value"]) == (["+Y"], ["+Z"])
        ours = stored["parameters"]["KDPOSE"]
        assert ours["FINGERPRINT"]["value"] == ["0123abcd"]
        notes = " ".join(ours["NOTES"]["value"])
        assert notes.startswith(video.notes[0]) and "stays at the origin" in notes
        assert stored["parameters"]["SUBJECTS"]["NAMES"]["value"] == [person.name]
        assert stored["header"]["points"]["first_frame"] == person.first_frame
        found = np.moveaxis(stored["data"]["points"][:3], 0, -1).swapaxes(0, 1) / 1000
        x, y, z = np.moveaxis(person.pose_3d.astype(np.float64), -1, 0)
        np.testing.assert_allclose(found, np.stack([-z, x, -y], -1), atol=MICROMETRE)
        residuals = stored["data"]["meta_points"]["residuals"][0].T
        np.testing.assert_array_equal(residuals[person.valid], 0)
        np.testing.assert_array_equal(residuals[~person.valid], -1)


def test_c3d_holds_more_frames_than_its_header_counts(tmp_path):
    frames = 70_000
    pose = np.random.default_rng(0).normal(size=(frames, 2, 3)).astype(np.float32)
    person = dataclasses.replace(
        moving_person.person(moving_person.walk(2)),
        pose_3d=pose,
        keypoints_2d=pose[..., :2],
        scores=pose[..., 0],
        seen=pose[..., 0] > 0,
        valid=np.ones(frames, bool),
    )
    video = dataclasses.replace(
        moving_person.poses(person), joints=("a", "b"), parents=(-1, 0), length=frames
    )
    outputs.write(video, tmp_path / "long", ["c3d"], NOTHING)
    stored = ezc3d.c3d(str(tmp_path / "long.c3d"))
    low, high = stored["parameters"]["TRIAL"]["ACTUAL_END_FIELD"]["value"]
    assert low + 65536 * high == frames
    assert stored["parameters"]["POINT"]["LONG_FRAMES"]["value"] == [frames]
    found = stored["data"]["points"]
    x, y, z = np.moveaxis(pose.astype(np.float64), -1, 0)
    np.testing.assert_allclose(found[:3].T / 1000, np.stack([-z, x, -y], -1), atol=MICROMETRE)


def test_names_that_csv_must_quote(tmp_path):
    names = ["nancy", 'a "b", c', "100 %d", " x\ny "]
    persons = [moving_person.person(moving_person.walk(2), name, masked=[1]) for name in names]
    joints = ("nan", "nan_1", "50%", *H36M_17.joints[3:])
    video = dataclasses.replace(moving_person.poses(*persons), joints=joints)
    outputs.write(video, tmp_path / "w", ["csv"], NOTHING)
    with open(tmp_path / "w.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["person"] for row in rows[:: 2 * 17]] == [*names[:3], "x y"]
    assert [row["joint"] for row in rows] == list(joints) * 8
    assert [row["x_m"] == "" for row in rows] == ([False] * 17 + [True] * 17) * 4


def test_blocks_in_any_order_give_the_same_file(video, folder, tmp_path):
    one_by_one = [
        dataclasses.replace(block, persons=(person,))
        for wanted in reversed(video.persons)
        for block in moving_person.blocks(video, 11)
        for person in block.persons
        if person.name == wanted.name
    ]
    with outputs.Outputs(tmp_path / "walk", ["npz"], NOTHING) as out:
        for block in one_by_one:
            out.append(block)
        out.finish()
    with np.load(tmp_path / "walk.npz") as found, np.load(folder / "walk.npz") as expected:
        np.testing.assert_array_equal(found["pose_3d"], expected["pose_3d"][::-1])


def test_blocks_that_do_not_follow_are_refused(video):
    spool = Spool(None)
    first, second, third, *_ = moving_person.blocks(video, 7)
    spool.append(first)
    with pytest.raises(ValueError, match="frame 14 of person 'one, the first' follows frame 6"):
        spool.append(third)
    with pytest.raises(ValueError, match="another rate"):
        spool.append(dataclasses.replace(second, fps=25.0))


def test_infinity_is_written_as_missing(tmp_path):
    person = moving_person.person(moving_person.walk(2))
    person.pose_3d[1, 3, 0] = person.keypoints_2d[0, 2, 1] = np.inf
    names = ["json", "csv", "trc", "c3d"]
    outputs.write(moving_person.poses(person), tmp_path / "w", names, NOTHING)
    frames = json.loads((tmp_path / "w.json").read_text())["persons"][0]["frames"]
    assert frames[1]["pose_3d"][3] is None and frames[0]["keypoints_2d"][2] is None
    assert "inf" not in (tmp_path / "w.csv").read_text() + (tmp_path / "w.trc").read_text()
    found = ezc3d.c3d(str(tmp_path / "w.c3d"))["data"]["points"]
    assert np.argwhere(np.isnan(found[0])).tolist() == [[3, 1]]


def test_notes_of_all_blocks_are_kept_once(video, tmp_path):
    with outputs.Outputs(tmp_path / "walk", ["npz"], NOTHING) as out:
        for number, block in enumerate(moving_person.blocks(video, 20)):
            out.append(dataclasses.replace(block, notes=("same.", f"block {number}.")))
        out.finish()
    with np.load(tmp_path / "walk.npz") as stored:
        assert stored["notes"].tolist()[:-1] == ["same.", "block 0.", "block 1.", "block 2."]


@pytest.mark.parametrize(
    ("names", "frames"),
    [(["npz"], 400), (["json"], 30), (["csv"], 30), (["trc", "c3d", "bvh"], 30)],
)
def test_memory_does_not_grow_with_the_video(names, frames, tmp_path, monkeypatch):
    """Eight times the frames take the same memory."""
    monkeypatch.setattr("kdpose_jax.poses.writers.spool.BLOCK", frames)
    monkeypatch.setattr("kdpose_jax.poses.writers.spool.SAMPLE", 30)
    block = moving_person.person(moving_person.walk(frames))
    options, peaks = dataclasses.replace(NOTHING, height=1.8), []
    for count in (2, 2, 16):  # the first is for what is loaded once
        with outputs.Outputs(tmp_path / f"{count}", names, options) as out:
            tracemalloc.start()
            for number in range(count):
                one = dataclasses.replace(block, first_frame=frames * number)
                out.append(dataclasses.replace(moving_person.poses(one), length=frames * count))
            out.finish()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[2] < 1.1 * peaks[1]


def test_joints_in_pictures_are_written_without_3d(tmp_path):
    pose = moving_person.walk(4)
    person = dataclasses.replace(moving_person.person(pose), pose_3d=None)
    video = moving_person.poses(person, skeleton=COCO_17)
    outputs.write(video, tmp_path / "joints", ["npz", "json", "csv"], NOTHING)
    with np.load(tmp_path / "joints.npz") as stored:
        assert "pose_3d" not in stored
        np.testing.assert_array_equal(stored["keypoints_2d"][0], person.keypoints_2d)
    stored = json.loads((tmp_path / "joints.json").read_text())
    assert "pose_3d" not in stored["persons"][0]["frames"][0]
    assert (tmp_path / "joints.csv").read_text().startswith("person,frame,time_s,joint,u_px,v_px")
    for options, words in (
        (dataclasses.replace(NOTHING, height=1.8), "--height is for 3D poses"),
        (dataclasses.replace(NOTHING, root="floor"), "--root is for 3D poses"),
    ):
        with pytest.raises(UserError, match=words):
            outputs.write(video, tmp_path / "no", ["npz"], options)
    for name in ("trc", "c3d", "bvh"):
        with pytest.raises(
            UserError, match=f"--format {name} holds 3D poses.*use npz, json or csv"
        ):
            outputs.write(video, tmp_path / "no", [name], NOTHING)
    assert not list(tmp_path.glob("no*"))


def test_the_height_scales_all_lengths(tmp_path):
    """The model's bones make 0.44 + 0.43 + 0.24 + 0.25 + |(0.11, 0.03)| + 0.115 m."""
    stands = (0.44 + 0.43 + 0.24 + 0.25 + np.hypot(0.11, 0.03) + 0.115) / (1 - 0.039)
    video = moving_person.poses(moving_person.person(moving_person.walk(20)))
    options = dataclasses.replace(NOTHING, height=1.5)
    written = outputs.write(video, tmp_path / "walk", ["npz", "trc"], options)
    assert f"scaled by {1.5 / stands:.3f}, from {stands:.2f} m" in " ".join(written.notes)
    with np.load(tmp_path / "walk.npz") as stored:
        np.testing.assert_allclose(
            stored["pose_3d"][0], video.persons[0].pose_3d * (1.5 / stands), rtol=1e-5, atol=1e-6
        )
        assert "scaled by" in " ".join(stored["notes"])


@pytest.mark.parametrize(
    ("height", "hint"), [(178, "write 1.78 for 178 cm"), (0, "give metres"), (-1.8, "give metres")]
)
def test_heights_that_are_no_heights(height, hint, tmp_path):
    video = moving_person.poses(moving_person.person(moving_person.walk(2)))
    with pytest.raises(UserError, match=f"--height is {height}: {hint}"):
        outputs.write(video, tmp_path / "x", ["npz"], dataclasses.replace(NOTHING, height=height))


def test_the_lower_foot_stands_on_the_floor(tmp_path):
    video = moving_person.poses(moving_person.person(moving_person.walk(20), masked=[3]))
    written = outputs.write(
        video, tmp_path / "walk", ["trc"], dataclasses.replace(NOTHING, root="floor")
    )
    assert "jumps are lost" in written.notes[0]
    _, names, _, _, points = parse_trc(tmp_path / "walk.trc")
    known = video.persons[0].valid
    np.testing.assert_allclose(points[known][..., 1].min(axis=1), 0, atol=TRC_LOSS)
    assert np.isnan(points[3]).all()
    np.testing.assert_allclose(points[known][:, 0, [0, 2]], 0, atol=TRC_LOSS)
    np.testing.assert_allclose(
        points - points[:, :1], video.persons[0].pose_3d * [1, -1, -1], atol=2 * TRC_LOSS
    )


def test_the_root_is_where_the_joints_project_onto_the_keypoints(tmp_path):
    walk = moving_person.walk(40, turns=0.5)
    person = moving_person.person(walk, masked=[7])
    person.keypoints_2d[2, 3] = np.nan
    options = dataclasses.replace(NOTHING, root="camera", focal=moving_person.FOCAL)
    video = moving_person.poses(person)
    written = outputs.write(video, tmp_path / "walk", ["npz", "csv", "json"], options)
    assert "is an estimate" in written.notes[0] and "; 0 frames" in written.notes[0]
    expected = moving_person.before_camera(walk)[:, 0]
    expected[7] = np.nan
    with np.load(tmp_path / "walk.npz") as stored:
        np.testing.assert_allclose(stored["root_path"][0], expected, atol=2e-4)
        np.testing.assert_allclose(stored["pose_3d"][0], person.pose_3d, atol=MICROMETRE)
    with open(tmp_path / "walk.csv", newline="") as file:
        row = list(csv.DictReader(file))[17 * 11 + 4]
    found = [float(row[f"root_{axis}_m"]) for axis in "xyz"]
    np.testing.assert_allclose(found, expected[11], atol=2e-4)
    frame = json.loads((tmp_path / "walk.json").read_text())["persons"][0]["frames"][11]
    np.testing.assert_allclose(frame["root_path"], expected[11], atol=2e-4)


def test_the_camera_asks_for_what_it_needs(tmp_path):
    video = moving_person.poses(moving_person.person(moving_person.walk(2)))
    unsized = dataclasses.replace(video, size=None)
    for one, root, focal, words in (
        (video, "camera", None, "add --focal PIXELS"),
        (video, "camera", 0.0, "--focal is 0: give"),
        (video, "camera", float("nan"), "--focal is nan: give"),
        (video, "floor", 500.0, "add --root camera or"),
        (video, "feet", None, "--root is 'feet': use one of given, floor, camera"),
        (unsized, "camera", 500.0, "add --size WIDTHxHEIGHT"),
    ):
        options = dataclasses.replace(NOTHING, root=root, focal=focal)
        with pytest.raises(UserError, match=words):
            outputs.write(one, tmp_path / "x", ["npz"], options)


def test_the_camera_needs_keypoints(tmp_path):
    person = moving_person.person(moving_person.walk(3))
    person.keypoints_2d[:] = np.nan
    options = dataclasses.replace(NOTHING, root="camera", focal=500.0)
    with pytest.raises(UserError, match="no place in any of 3 frames.*use --root floor"):
        outputs.write(moving_person.poses(person), tmp_path / "x", ["npz"], options)


def test_frames_without_a_place_are_masked_and_counted(tmp_path):
    person = moving_person.person(moving_person.walk(6))
    person.keypoints_2d[2, 1:] = np.nan
    options = dataclasses.replace(NOTHING, root="camera", focal=500.0)
    written = outputs.write(moving_person.poses(person), tmp_path / "x", ["npz"], options)
    assert "; 1 frames without a solution were masked" in written.notes[0]
    with np.load(tmp_path / "x.npz") as stored:
        assert stored["valid"][0].tolist() == [True, True, False, True, True, True]


def test_some_frames_alone(video, tmp_path):
    options = dataclasses.replace(NOTHING, frames=(10, 15))
    with outputs.Outputs(tmp_path / "walk", ["npz"], options) as out:
        for block in moving_person.blocks(video, 4):
            out.append(block)
        out.finish()
    with np.load(tmp_path / "walk.npz") as stored:
        assert stored["first_frame"].tolist() == [10, 12] and stored["frames"].tolist() == [5, 3]
        np.testing.assert_array_equal(stored["pose_3d"][0], video.persons[0].pose_3d[10:15])
        np.testing.assert_array_equal(stored["pose_3d"][1, :3], video.persons[1].pose_3d[:3])
    for frames, words in (
        ((50, 60), "no person in --frames 50:60 of the video's 50 frames"),
        ((9, 9), "--frames is '9:9'"),
        ((-3, 9), "--frames is '-3:9'"),
    ):
        with pytest.raises(UserError, match=words):
            outputs.write(
                video, tmp_path / "x", ["npz"], dataclasses.replace(NOTHING, frames=frames)
            )


def test_what_the_first_npz_holds_comes_back(video, folder, tmp_path):
    again = read_poses(str(folder / "walk.npz"), None, None, None)
    assert again.notes[:-1] == video.notes
    assert dataclasses.replace(again, persons=(), notes=video.notes) == dataclasses.replace(
        video, persons=()
    )
    for found, expected in zip(again.persons, video.persons, strict=True):
        for field in dataclasses.fields(expected):
            np.testing.assert_array_equal(
                getattr(found, field.name), getattr(expected, field.name), err_msg=field.name
            )


def test_nothing_appears_when_writing_fails(video, tmp_path, monkeypatch):
    (tmp_path / "walk.npz").write_bytes(b"older")

    def fail(file, recording):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, "npz", dataclasses.replace(FORMATS["npz"], write=fail))
    with pytest.raises(UserError, match=r"walk.npz' could not be written \(the disk is full\)"):
        outputs.write(video, tmp_path / "walk", ["npz"], NOTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.npz"]
    assert (tmp_path / "walk.npz").read_bytes() == b"older"


def test_paths_and_formats():
    assert [str(one) for one in outputs.split_path("a.b/walk.tar.BVH")] == ["a.b/walk.tar", "bvh"]
    with pytest.raises(UserError, match=r"--out is 'walk': let it end in one of .npz, .json"):
        outputs.split_path("walk")
    with pytest.raises(UserError, match="--format is 'fbx': use one of npz, json, csv, trc"):
        outputs.write(
            moving_person.poses(moving_person.person(moving_person.walk(2))), "x", ["fbx"], NOTHING
        )


def test_names_of_files_differ_where_names_of_persons_do(tmp_path):
    names = ["a/b", "a b", "A_B", "é", "../../x"]
    persons = [moving_person.person(moving_person.walk(2), name) for name in names]
    written = outputs.write(moving_person.poses(*persons), tmp_path / "w", ["c3d"], NOTHING)
    assert {path.parent.name for path in written.paths} == {tmp_path.name}
    assert [path.name for path in written.paths] == [
        "w_a_b.c3d",
        "w_a_b-2.c3d",
        "w_A_B-3.c3d",
        "w_é.c3d",
        "w__x.c3d",
    ]
