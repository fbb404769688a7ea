"""VideoPose3D's files -> records: what is kept, what is refused."""

import json
import shutil

import numpy as np
import pytest
from videopose3d import write_videopose3d_files

from data_prep import cameras, convert, synthetic
from data_prep.human36m import convert as human36m
from data_prep.human36m import files
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_32_TO_17

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
FRAMES = 6


def read(folder):
    """All records of a data set: {split: [record]}."""
    import tensorflow_datasets as tfds

    schema.read_metadata(str(folder), schema.SEQUENCES)
    builder = tfds.builder_from_directory(str(folder))
    return {
        split: list(builder.as_dataset(split=split).as_numpy_iterator())
        for split in builder.info.splits
    }


def edit(folder, file_name, change):
    """Rewrites an npz after `change(entries)`; entries maps the key to its dictionary."""
    with np.load(folder / file_name, allow_pickle=True) as file:  # our own file
        entries = {key: file[key].item() for key in file.files}
    change(entries)
    np.savez(folder / file_name, **entries)


@pytest.fixture(scope="module")
def h36m(tmp_path_factory):
    folder = tmp_path_factory.mktemp("h36m")
    table = cameras.read_cameras(cameras.H36M_TABLE)
    write_videopose3d_files(
        str(folder),
        "h36m",
        SUBJECTS,
        ("S9", "S11"),
        32,
        table,
        takes=2,
        frames=FRAMES,
        noise=0.01,
        seed=3,
    )

    def real_names(entries):  # a take called Directions, and 2D that runs on after the mocap
        for key in set(entries) & {"positions_3d", "positions_2d"}:
            for takes in entries[key].values():
                takes["Directions"], takes["Directions 1"] = (
                    takes.pop("Walking"),
                    takes.pop("Walking 1"),
                )

    def longer(entries):
        views = entries["positions_2d"]["S5"]["Directions"]
        views[2] = np.concatenate([views[2], np.full((3, 17, 2), 7.0, np.float32)])

    for name in ("data_3d_h36m.npz", "data_2d_h36m_gt.npz", "data_2d_h36m_generated.npz"):
        edit(folder, name, real_names)
    edit(folder, "data_2d_h36m_generated.npz", longer)
    return folder


@pytest.fixture
def copied(h36m, tmp_path):
    """A copy of the files that a test may break."""
    return shutil.copytree(h36m, tmp_path / "source")


def run(source, out, **settings):
    return convert.prepare("human36m", str(out), source=str(source), workers=1, **settings)


@pytest.fixture(scope="module")
def converted(h36m, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "generated"
    run(h36m, out, keypoints="generated")
    return out


def test_records_are_the_files_content(h36m, converted):
    with np.load(h36m / "data_3d_h36m.npz", allow_pickle=True) as file:
        positions = file["positions_3d"].item()
    with np.load(h36m / "data_2d_h36m_generated.npz", allow_pickle=True) as file:
        detections = file["positions_2d"].item()
    table = cameras.read_cameras(cameras.H36M_TABLE)
    split = read(converted)
    assert {record["subject"] for record in split["train"]} == {b"S1", b"S5", b"S6", b"S7"}
    assert {record["subject"] for record in split["val"]} == {b"S8"}
    assert {record["subject"] for record in split["test"]} == {b"S9", b"S11"}
    seen = set()
    for record in split["train"] + split["val"] + split["test"]:
        subject, take, index = (
            record["subject"].decode(),
            record["take"].decode(),
            int(record["camera"]),
        )
        seen.add((subject, take, index))
        camera = table[subject][index]
        world = cameras.camera_to_world(
            record["pose_3d"].astype(np.float64), camera.orientation, camera.translation
        )
        np.testing.assert_allclose(world, positions[subject][take][:, H36M_32_TO_17], atol=2e-6)
        np.testing.assert_array_equal(
            record["keypoints_2d"], detections[subject][take][index][:FRAMES]
        )
        assert record["action"].decode() == take.split(" ")[0]
        assert (record["width"], record["height"], record["fps"]) == (
            camera.width,
            camera.height,
            50,
        )
        assert record["frame_mask"].shape == (FRAMES,) and record["frame_mask"].all()
    expected = {(s, take, i) for s in positions for take in positions[s] for i in range(4)} - {
        ("S11", "Directions", i) for i in range(4)
    }
    assert seen == expected


def test_metadata_says_what_is_there(converted):
    metadata = schema.read_metadata(str(converted), schema.SEQUENCES)
    assert metadata["left_out"] == ["S11 Directions: corrupt take"]
    assert (
        metadata["skeleton"],
        metadata["keypoints"],
        metadata["generated"],
        metadata["fps"],
    ) == ("h36m_17", "generated", False, 50)
    assert sorted(metadata["sources"]) == [
        "data_2d_h36m_generated.npz",
        "data_3d_h36m.npz",
        "h36m_cameras.json",
    ]
    assert all(len(checksum) == 64 for checksum in metadata["sources"].values())
    takes = {"train": 4 * 12, "val": 12, "test": 2 * 12 - 1}
    for split, count in takes.items():
        assert (
            metadata["splits"][split]["records"]
            == sum(metadata["splits"][split]["shards"].values())
            == 4 * count
        )
        assert metadata["splits"][split]["frames"] == 4 * count * FRAMES
    assert [metadata["splits"][split]["subjects"] for split in schema.SPLITS] == [
        ["S1", "S5", "S6", "S7"],
        ["S8"],
        ["S9", "S11"],
    ]


def test_gt_without_a_file_is_projected_with_distortion(copied, h36m, tmp_path):
    run(h36m, tmp_path / "file", keypoints="gt")
    (copied / "data_2d_h36m_gt.npz").unlink()
    run(copied, tmp_path / "computed", keypoints="gt")
    for from_file, computed in zip(
        read(tmp_path / "file")["test"], read(tmp_path / "computed")["test"], strict=True
    ):
        np.testing.assert_allclose(computed["keypoints_2d"], from_file["keypoints_2d"], atol=1e-3)
        np.testing.assert_array_equal(computed["pose_3d"], from_file["pose_3d"])


def test_another_set_with_17_joints_and_its_own_cameras(tmp_path):
    source = tmp_path / "studio"
    write_videopose3d_files(
        str(source),
        "studio",
        ("A1", "A2"),
        ("A2",),
        17,
        None,
        takes=1,
        frames=4,
        noise=0.01,
        seed=5,
    )
    summary = run(source, tmp_path / "meta", keypoints="generated")
    assert summary.splits == {"train": (24, 96), "test": (24, 96)}
    records = read(tmp_path / "meta")
    assert {record["subject"] for record in records["test"]} == {b"A2"}
    direct = synthetic.make_record(synthetic.View("A2", "Sitting", "Sitting", 3, 4, 0.01, 5))
    (same,) = [
        record
        for record in records["test"]
        if record["take"] == b"Sitting" and record["camera"] == 3
    ]
    np.testing.assert_allclose(same["pose_3d"], direct["pose_3d"], atol=1e-6)
    np.testing.assert_allclose(same["keypoints_2d"], direct["keypoints_2d"], atol=1e-3)

    run(source, tmp_path / "option", keypoints="generated", test_subjects=("A1",))
    assert {record["subject"] for record in read(tmp_path / "option")["test"]} == {b"A1"}
    (source / "meta.json").write_text(
        json.dumps({"subjects": {"A1": {"split": "test"}, "A2": {"split": "train"}}})
    )
    found = files.find_files(str(source), "gt", None, None, None)
    assert (found.test_subjects, found.val_subjects) == (("A1",), None)
    for meta in (
        {"test_subjects": ["A1"], "val_subjects": ["A2"]},
        {"subjects": {"A1": {"split": "test"}, "A2": {"split": "val"}}},
    ):
        (source / "meta.json").write_text(json.dumps(meta))
        found = files.find_files(str(source), "gt", None, None, None)
        assert (found.test_subjects, found.val_subjects) == (("A1",), ("A2",))
    (source / "meta.json").write_text("{}")
    with pytest.raises(UserError, match="names no test subjects"):
        run(source, tmp_path / "none")
    (source / "meta.json").unlink()
    with pytest.raises(UserError, match=r"--test-subjects \(found: A1, A2\)"):
        run(source, tmp_path / "none")
    (source / "cameras.json").unlink()
    with pytest.raises(UserError, match="needs its own camera table"):
        run(source, tmp_path / "none", test_subjects=("A1",))


def test_actions():
    takes = {
        "Sitting 1": "Sitting",
        "WalkDog": "WalkDog",
        "walk_03": "walk",
        "lie_down_2": "lie_down",
    }
    assert {take: human36m.action_of(take) for take in takes} == takes


def pop(key, *path):
    def change(entries):
        branch = entries[key]
        for name in path[:-1]:
            branch = branch[name]
        branch.pop(path[-1])

    return change


def put(value, key, *path):
    def change(entries):
        branch = entries[key]
        for name in path[:-1]:
            branch = branch[name]
        branch[path[-1]] = value(branch[path[-1]])

    return change


def with_nan(array):
    array = array.copy()
    array[3, 2, 1] = np.nan
    return array


POSES, JOINTS = "data_3d_h36m.npz", "data_2d_h36m_generated.npz"


@pytest.mark.parametrize(
    "file_name, change, sentence",
    [
        (POSES, lambda entries: entries.pop("positions_3d"), "lacks the key 'positions_3d'"),
        (JOINTS, lambda entries: entries.pop("metadata"), "lacks the key 'metadata'"),
        (JOINTS, put(lambda _: 16, "metadata", "num_joints"), "16 joints by its metadata where 17"),
        (
            POSES,
            lambda entries: entries.update(positions_3d={"S1": np.zeros(3)}),
            "does not hold subjects with takes",
        ),
        (
            POSES,
            put(with_nan, "positions_3d", "S6", "Waving"),
            "'S6', take 'Waving': not a finite number in frame 3, joint 2",
        ),
        (
            JOINTS,
            put(with_nan, "positions_2d", "S6", "Waving", 1),
            "'Waving', camera 1: not a finite number in frame 3, joint 2",
        ),
        (
            POSES,
            put(lambda a: a[:, :31], "positions_3d", "S1", "Waving"),
            r"\[6, 31, 3\] where \[frames, 17 or 32 joints, 3\]",
        ),
        (
            JOINTS,
            put(lambda a: a[:, :16], "positions_2d", "S1", "Waving", 0),
            r"\[6, 16, 2\] where \[frames, 17 joints, 2\]",
        ),
        (POSES, put(lambda a: a * 1000, "positions_3d", "S1", "Waving"), "millimetres"),
        (POSES, put(lambda _: "text", "positions_3d", "S1", "Waving"), "mixed str"),
        (JOINTS, put(lambda _: {"a": 1}, "positions_2d", "S1", "Waving"), "is a dict where a list"),
        (JOINTS, pop("positions_2d", "S7"), "no 2D of subject 'S7'"),
        (
            JOINTS,
            put(lambda takes: {"Other": takes["Waving"]}, "positions_2d", "S7"),
            "no 2D of subject 'S7' .*there: takes Other",
        ),
        (
            JOINTS,
            put(lambda views: views[:3], "positions_2d", "S8", "Waving"),
            "has 3 views where .* has 4 cameras",
        ),
        (
            JOINTS,
            put(lambda views: [a[:3] for a in views], "positions_2d", "S8", "Waving"),
            "camera 0: 3 frames of 2D for 6 of 3D",
        ),
    ],
)
def test_wrong_files_get_a_sentence(copied, tmp_path, file_name, change, sentence):
    edit(copied, file_name, change)
    with pytest.raises(UserError, match=sentence) as caught:
        run(copied, tmp_path / "out", keypoints="generated")
    assert file_name in str(caught.value) and not (tmp_path / "out").exists()


def test_a_take_without_3d_is_left_out_and_named(copied, tmp_path):
    edit(copied, POSES, pop("positions_3d", "S7", "Sitting 1"))
    edit(copied, POSES, pop("positions_3d", "S6"))
    edit(copied, JOINTS, pop("positions_2d", "S8", "Waving"))
    summary = run(copied, tmp_path / "out", keypoints="generated")
    assert summary.left_out == [
        "S11 Directions: corrupt take",
        "S6: not in data_3d_h36m.npz",
        "S6: 2D without 3D",
        "S7 Sitting 1: 2D without 3D",
        "S8 Waving: 3D without 2D",
    ]
    assert summary.splits["train"][0] == 4 * (3 * 12 - 1)
    assert summary.splits["val"][0] == 4 * (12 - 1)
    metadata = schema.read_metadata(str(tmp_path / "out"), schema.SEQUENCES)
    assert metadata["notes"] == summary.notes == [
        "the 2D has up to 3 frames more than the 3D, which are cut (views: 1)",
        "takes: S1 12, S5 12, S7 11, S8 11, S9 12, S11 11, where Human3.6M has 30 of each subject "
        "(29 of S11)",
    ]  # fmt: skip


def test_missing_files_are_listed(copied, tmp_path):
    there = "the 2D files there are data_2d_h36m_generated.npz, data_2d_h36m_gt.npz"
    with pytest.raises(
        UserError, match=f"expected in .*: data_3d_h36m.npz, data_2d_h36m_cpn.npz; {there}"
    ):
        run(copied, tmp_path / "out", keypoints="cpn")
    (copied / POSES).unlink()
    with pytest.raises(
        UserError,
        match="data_3d_h36m.npz' does not exist; expected in .*: data_3d_h36m.npz, "
        "data_2d_h36m_gt.npz",
    ):
        run(copied, tmp_path / "out")
    with pytest.raises(UserError, match="--source '.*nowhere' is not a folder"):
        run(tmp_path / "nowhere", tmp_path / "out")


def test_cameras_must_fit_the_subjects(copied, tmp_path):
    table = json.loads((copied / "cameras.json").read_text())
    (tmp_path / "few.json").write_text(
        json.dumps({subject: table[subject] for subject in SUBJECTS[:-1]})
    )
    with pytest.raises(UserError, match="no cameras for subject 'S11'"):
        run(copied, tmp_path / "out", cameras_file=str(tmp_path / "few.json"))
    with pytest.raises(UserError, match="--cameras '.*nowhere.json' does not exist"):
        run(copied, tmp_path / "out", cameras_file=str(tmp_path / "nowhere.json"))
    (tmp_path / "turned.json").write_text(
        json.dumps({subject: placed[::-1] for subject, placed in table.items()})
    )
    with pytest.raises(
        UserError,
        match="of subject 'S1' does not fit .*fits the projection of camera 3: bring the cameras "
        "into the order",
    ):
        run(copied, tmp_path / "out", cameras_file=str(tmp_path / "turned.json"))


def test_test_subjects_must_exist_and_leave_some_to_train(h36m, tmp_path):
    with pytest.raises(
        UserError, match=r"Test subject 'S2' is not in .*found: S1, S5, S6, S7, S8, S9, S11"
    ):
        run(h36m, tmp_path / "out", test_subjects=("S2",))
    with pytest.raises(UserError, match="no take for the split 'train'"):
        run(h36m, tmp_path / "out", test_subjects=SUBJECTS)


def test_command_line_errors_are_one_line(tmp_path, capsys):
    code = convert.main(["human36m", "--source", str(tmp_path), "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert code == 2 and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    with pytest.raises(UserError, match="no setting 'detector'"):
        convert.prepare("human36m", str(tmp_path / "out"), source=str(tmp_path), detector="gt")
