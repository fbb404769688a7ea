"""Folders of motion files -> records.

What is cut out, how the rest is placed, who is who, and what is refused.
"""

import json
import os

import motion_files
import numpy as np
import pytest

from data_prep import cameras, convert, motion, synthetic
from data_prep.mocap import cleaning, files
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_17

FPS = 120.0
SHORT = "in pieces under 0.64 s"


def walk(frames: int) -> np.ndarray:
    """A steady figure that breathes: far from every limit, `[F, 17, 3]`."""
    rng = np.random.default_rng(0)
    standing = motion.generate(rng, motion.ACTIONS["Waving"], motion.BONES, 2)[0]
    time = np.arange(frames)[:, None] / FPS
    return standing + np.stack([0.1 * np.sin(time), 0.1 * np.cos(time), 0 * time], axis=-1)


def counts(cleaned):
    return {reason: count for reason, count in cleaned.cut.items() if count}


def test_sound_motion_stays_whole():
    cleaned = cleaning.clean(walk(240), FPS)
    assert counts(cleaned) == {} and cleaned.frames == 240
    assert [piece.shape for piece in cleaned.pieces] == [
        (int(239 / FPS * 50) + 1, 17, 3)
    ] and cleaned.pieces[0].dtype == np.float32


@pytest.mark.parametrize(
    ("reason", "spoil", "faulty"),
    [
        ("not finite", lambda pose: pose.__setitem__((100, 5, 1), np.nan), [100]),
        (
            "a spike of one frame",
            lambda pose: pose.__setitem__((100, 16), pose[100, 16] + [0.045, 0, 0]),
            [100],
        ),
        (
            "a joint too fast",
            lambda pose: pose.__setitem__(
                (slice(100, None), slice(None), 0), pose[100:, :, 0] + 0.12
            ),
            [99, 100],
        ),
        (
            "a limb of another length",
            lambda pose: pose.__setitem__((slice(100, 103), 3, 2), pose[100:103, 3, 2] - 0.025),
            [100, 101, 102],
        ),
    ],
)
def test_faults_are_cut_out_with_three_frames_around(reason, spoil, faulty):
    pose = walk(240)
    spoil(pose)
    cleaned = cleaning.clean(pose, FPS)
    assert counts(cleaned) == {reason: len(faulty), "beside these": 6}
    before, after = faulty[0] - 3, 240 - (faulty[-1] + 4)
    assert [len(piece) for piece in cleaned.pieces] == [
        int((count - 1) / FPS * 50 + 1e-6) + 1 for count in (before, after)
    ]
    assert all(np.isfinite(piece).all() for piece in cleaned.pieces)


def test_just_within_the_limits_nothing_is_cut():
    pose = walk(240)
    pose[100, 16, 0] += 0.03  # 860 m/s^2
    pose[150:, :, 0] += 0.11  # 13.2 m/s
    pose[200:, 3, 2] -= 0.015
    assert counts(cleaning.clean(pose, FPS)) == {}


def test_short_pieces_and_hopeless_clips():
    pose = walk(240)
    pose[60], pose[200] = np.nan, np.nan
    cleaned = cleaning.clean(pose, FPS)
    assert (
        counts(cleaned) == {"not finite": 2, "beside these": 12, SHORT: 57 + 36}
        and len(cleaned.pieces) == 1
    )
    assert cleaning.clean(np.full((5, 17, 3), np.nan), FPS).pieces == []
    assert counts(cleaning.clean(pose[:1], FPS)) == {SHORT: 1}


def test_resampling_is_cubic_in_time():
    time = np.arange(90) / 60
    pose = np.broadcast_to((0.3 * time**3 - time**2 + 0.5 * time)[:, None, None], (90, 17, 3))
    again = np.arange(70) / 50
    found = cleaning.resample(pose, 60.0, 70)
    np.testing.assert_allclose(found[:, 4, 2], 0.3 * again**3 - again**2 + 0.5 * again, atol=1e-12)


def test_placing_stands_on_the_floor_and_shortens_a_long_course():
    pose = (
        walk(400)
        + np.stack([np.linspace(3, 13, 400), np.full(400, -7.0), np.full(400, 0.4)], axis=-1)[
            :, None
        ]
    )
    placed = cleaning.place(pose)
    ankles = placed[:, [3, 6], 2].min(axis=1)
    assert np.percentile(ankles, 2) == pytest.approx(0.07, abs=1e-9)
    reach = np.linalg.norm(placed[:, 0, :2], axis=1)
    assert 1.3 < reach.max() < 1.5 and np.abs(placed[:, 0, 0].min() + placed[:, 0, 0].max()) < 0.1
    relative = [one - one[:, :1] for one in (placed, pose)]
    np.testing.assert_allclose(relative[0], relative[1], atol=1e-12)
    short = cleaning.place(walk(400) + [5.0, 0, 0])  # a course that fits stays as long as it is
    np.testing.assert_allclose(np.diff(short, axis=0), np.diff(walk(400), axis=0), atol=1e-12)


def slow_motion(folder, subject: str, trials: int):
    """ASF/AMC files of a subject, as CMU packs them."""
    (folder / subject).mkdir(parents=True)
    for trial in range(1, trials + 1):
        skeleton, text, _ = motion_files.asf_amc(seed=int(subject), frames=120, fps=120)
        (folder / subject / f"{subject}.asf").write_text(skeleton)
        (folder / subject / f"{subject}_{trial:02d}.amc").write_text(text)


@pytest.fixture(scope="module")
def cmu(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cmu") / "subjects"
    slow_motion(folder, "07", 2)
    slow_motion(folder, "35", 1)
    (folder / "readme.txt").write_text("no motion")
    for name in ("._07.asf", "._07_01.amc"):  # of archives made on macOS
        (folder / "07" / name).write_bytes(b"\0\5\x16\7")
    return folder


def run(source, out, **settings):
    return convert.prepare("mocap", str(out), source=str(source), workers=1, **settings)


def read(folder):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    return {
        split: list(builder.as_dataset(split=split).as_numpy_iterator())
        for split in ("train", "test")
    }


def test_a_cmu_folder_becomes_records(cmu, tmp_path):
    summary = run(cmu, tmp_path / "out", test_subjects=("35",), noise=0.0)
    assert (
        summary.splits == {"train": (2 * 4, 2 * 4 * 50), "test": (4, 4 * 50)}
        and summary.left_out == []
    )
    records = read(tmp_path / "out")
    names = [
        (record["subject"], record["take"], int(record["camera"])) for record in records["train"]
    ]
    assert names == [
        (b"07", take, camera) for take in (b"07/07_01", b"07/07_02") for camera in range(4)
    ]
    _, _, places = motion_files.asf_amc(seed=35, frames=120, fps=120)
    # The elbow's distance from the knee tells the pose, whatever cameras and studio do; every 12th
    # frame is one of 50 per second.
    expected = np.linalg.norm(places["lhumerus"] - places["rfemur"], axis=1)[::12]
    for index, record in enumerate(records["test"]):
        pose = record["pose_3d"]
        np.testing.assert_allclose(
            np.linalg.norm(pose[:, 12] - pose[:, 2], axis=1)[::5], expected, atol=1e-4
        )
        camera = synthetic.studio_cameras("35", 0)[index]
        np.testing.assert_allclose(
            record["keypoints_2d"], cameras.project_to_2d(pose, camera.intrinsic), atol=1e-2
        )
        world = cameras.camera_to_world(pose.astype(float), camera.orientation, camera.translation)
        assert 0.0 < world[..., 2].min() and world[:, 10, 2].mean() > world[:, 0, 2].mean() > 0.6
        assert (
            (record["keypoints_2d"] > 0).all()
            and (record["keypoints_2d"] < 1000).all()
            and record["frame_mask"].all()
        )
        assert record["fps"] == 50 and record["action"] == b"35"
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert (
        metadata["keypoints"] == "gt"
        and not metadata["generated"]
        and metadata["settings"]["test_subjects"] == ["35"]
    )


def test_noise_is_seeded_and_the_split_is_drawn(cmu, tmp_path, capsys):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(cmu, tmp_path / out, seed=seed)
    assert "test subjects: " in capsys.readouterr().out
    first, second, third = (
        {path.name: path.read_bytes() for path in (tmp_path / out).glob("*.tfrecord*")}
        for out in "abc"
    )
    assert first == second and first != third
    one = read(tmp_path / "a")
    assert sorted({record["subject"] for split in one.values() for record in split}) == [
        b"07",
        b"35",
    ]
    error = []
    for record in one["train"] + one["test"]:
        camera = synthetic.studio_cameras(record["subject"].decode(), 1)[int(record["camera"])]
        error.append(
            np.linalg.norm(
                record["keypoints_2d"] - cameras.project_to_2d(record["pose_3d"], camera.intrinsic),
                axis=-1,
            )
        )
    assert 3 < np.mean(np.concatenate(error)) < 10  # pixels; 0.01 of 500


def test_bvh_files_rates_and_names(tmp_path):
    text, _ = motion_files.bvh(seed=5, frames=60, fps=60, unit=motion_files.CMU_UNIT)
    source = tmp_path / "motion"
    for name in ("one_run_1.bvh", "two_jump_1.BVH", "two_jump_2.bvh"):
        source.mkdir(exist_ok=True)
        (source / name).write_text(text)
    summary = run(
        source, tmp_path / "out", action="_([a-z]+)_", fps="*_2=30", test_subjects=("two",)
    )
    assert summary.splits == {"train": (4, 4 * 50), "test": (8, 4 * 50 + 4 * 99)}
    records = read(tmp_path / "out")
    who = {(record["subject"], record["action"]) for split in records.values() for record in split}
    assert who == {(b"one", b"run"), (b"two", b"jump")}
    assert files.name_of(str(source), str(source / "deep" / "er" / "a_1.bvh"), "", "", "") == (
        "er",
        "er",
    )
    assert files.name_of(str(source), str(source / "a_1.bvh"), "", r"(\d)", "") == ("1", "1")


def test_units_and_a_single_subject(tmp_path):
    text, places = motion_files.bvh(seed=6, frames=60, fps=60, unit=0.01)
    (tmp_path / "a_1.bvh").write_text(text)
    with pytest.raises(UserError, match="nobody is left to train on"):
        run(tmp_path, tmp_path / "out")
    (tmp_path / "b_1.bvh").write_text(text)
    run(tmp_path, tmp_path / "out", unit="cm", test_subjects=("a",), noise=0.0)
    pose = read(tmp_path / "out")["test"][0]["pose_3d"]
    expected = np.linalg.norm(places["LeftHand"] - places["RightFoot"], axis=1)
    np.testing.assert_allclose(
        np.linalg.norm(pose[::5, 13] - pose[::5, 3], axis=1), expected[::6], atol=1e-4
    )


def broken(source):
    path = source / "35" / "35_01.amc"
    path.write_text(path.read_text().replace("\nrtibia", "\nrtibia 1", 1))


def test_a_bad_file_ends_it_or_is_left_out(cmu, tmp_path):
    source = tmp_path / "subjects"
    for subject, trials in (("35", 2), ("36", 1)):
        slow_motion(source, subject, trials)
    broken(source)
    with pytest.raises(
        UserError,
        match=r"35_01.amc', line \d+: bone 'rtibia' has 2 values where .*35.asf' has 1 degrees of "
        r"freedom",
    ):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    summary = run(source, tmp_path / "out", skip_unreadable=True, test_subjects=("36",))
    assert summary.splits["train"] == (4, 200)
    assert (
        len(summary.left_out) == 1
        and summary.left_out[0].startswith("file: ")
        and "35_01.amc" in summary.left_out[0]
    )


@pytest.mark.parametrize(("settings", "message"), [
    ({"source": "nowhere"}, "'nowhere' is not a folder"),
    ({"unit": "yard"}, "--unit is 'yard': use m, cm, mm, inch"),
    ({"unit": "0"}, "--unit is '0'"),
    ({"unit": "m"}, r"07_01.amc' has legs of 14.4 m where a unit of 1 m is taken: give the file's "
                    r"unit with --unit"),
    ({"up": "x"}, "--up is 'x': use y or z"),
    ({"fps": "1e9"}, "--fps has '1e9': write a rate from 10 to 2000"),
    ({"fps": "07_*=fast"}, "--fps has '07_.*=fast'"),
    ({"fps": "007_*=60"}, "--fps has '007_.*=60', which decides no file's rate: correct it, or "
                          "move it to the front"),
    ({"fps": "60,35_*=30"}, "--fps has '35_.*=30', which decides no file's rate"),
    ({"subject": "("}, "--subject '.' is not a pattern"),
    ({"subject": "07"}, "--subject '07' is not a pattern with a group"),
    ({"action": "([a-z]{30})"}, "--action .* does not fit '07/07_01.amc'"),
    ({"test_subjects": ("08",)}, "Test subject '08' is not there .found: 07, 35.: correct "
                                 "--test-subjects"),
    ({"test_subjects": ("07", "35")}, "nobody is left to train on"),
    ({"noise": 2.0}, "--noise is .2.0.: give a number of at least 0 and below 1"),
    ({"map_file": "nowhere.json"}, "Joint map 'nowhere.json' cannot be read"),
])  # fmt: skip
def test_bad_settings(cmu, tmp_path, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        run(**{"source": cmu, "out": tmp_path / "out"} | settings)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_opened(cmu, tmp_path):
    source = tmp_path / "subjects"
    slow_motion(source, "35", 2)
    slow_motion(source, "36", 1)
    (source / "35" / "35_09.amc").symlink_to(source / "gone.amc")
    with pytest.raises(
        UserError, match=r"35_09.amc' cannot be read .No such file or directory.: check the file."
    ):
        run(source, tmp_path / "out")
    summary = run(source, tmp_path / "out", skip_unreadable=True, test_subjects=("36",))
    assert summary.splits["train"] == (8, 400) and "35_09.amc" in summary.left_out[0]


def test_files_of_one_name(tmp_path):
    text, _ = motion_files.bvh(seed=5, frames=60, fps=60, unit=motion_files.CMU_UNIT)
    slow_motion(tmp_path / "subjects", "35", 1)
    (tmp_path / "subjects" / "35" / "35_01.bvh").write_text(text)
    with pytest.raises(
        UserError,
        match=r"35_01.bvh' and '.*35_01.amc' have one name: rename one, or leave one out.",
    ):
        run(tmp_path / "subjects", tmp_path / "out")


def test_another_axis_up_is_told(cmu, tmp_path, capsys):
    run(cmu, tmp_path / "out", test_subjects=("35",), up="z")
    said = capsys.readouterr().out
    assert "note: a head less than 0.5 m above the feet most of the time (if" in said
    run(cmu, tmp_path / "upright", test_subjects=("35",), fps="120")
    assert "note: a head" not in capsys.readouterr().out


def test_folders_without_motion_or_skeleton(cmu, tmp_path):
    with pytest.raises(UserError, match=r"holds no \*.bvh and no \*.amc file"):
        run(tmp_path, tmp_path / "out")
    (tmp_path / "07_01.amc").write_text("")
    with pytest.raises(
        UserError, match=r"07_01.amc' has no skeleton: put its \*.asf file beside it"
    ):
        run(tmp_path, tmp_path / "out")
    for name in ("HDM_bd.asf", "HDM_bk.asf", "HDM_bk_walk_001_120.amc"):
        (tmp_path / "hdm" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "hdm" / name).write_text("")
    assert files.find_files(str(tmp_path / "hdm"))[0] == [
        (str(tmp_path / "hdm" / "HDM_bk_walk_001_120.amc"), str(tmp_path / "hdm" / "HDM_bk.asf"))
    ]


def test_a_skeleton_may_lie_above_its_motion(tmp_path):
    for name in (
        "HDM_bd.asf",
        "HDM_bk.asf",
        "walk/HDM_bk_walk_001_120.amc",
        "lone/HDM_tr_001_120.amc",
        "lone/any.asf",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert files.find_files(str(tmp_path))[0] == [
        (str(tmp_path / "lone" / "HDM_tr_001_120.amc"), str(tmp_path / "lone" / "any.asf")),
        (str(tmp_path / "walk" / "HDM_bk_walk_001_120.amc"), str(tmp_path / "HDM_bk.asf")),
    ]
    (tmp_path / "walk" / "HDM_mm_001_120.amc").write_text("")
    assert files.find_files(str(tmp_path))[1] == [str(tmp_path / "walk" / "HDM_mm_001_120.amc")]


def test_folders_that_are_links(tmp_path):
    """Half of a data set lies on another disk; one link leads back, and one goes nowhere."""
    (tmp_path / "disk" / "08").mkdir(parents=True)
    (tmp_path / "disk" / "08" / "walk.bvh").write_text("")
    source = tmp_path / "source"
    (source / "07").mkdir(parents=True)
    (source / "07" / "run.bvh").write_text("")
    (source / "08").symlink_to(tmp_path / "disk" / "08")
    (source / "07" / "again").symlink_to(source)
    (source / "01").symlink_to(source / "07")  # is there under its own name
    (source / "09").symlink_to(tmp_path / "gone")
    assert files.find_files(str(source))[0] == [
        (str(source / "07" / "run.bvh"), ""), (str(source / "08" / "walk.bvh"), "")
    ]  # fmt: skip


def test_a_file_name_that_is_no_text(tmp_path, monkeypatch):
    # Not every disk takes such a name.
    monkeypatch.setattr(os, "walk", lambda folder, **_: [(folder, [], ["caf\udce9.bvh"])])
    with pytest.raises(
        UserError, match=r"caf\\udce9.bvh' has a name that is not UTF-8: rename the file."
    ):
        files.find_files(str(tmp_path))
    names = ["caf\udce9.asf", "07_01.amc"]
    monkeypatch.setattr(os, "walk", lambda folder, **_: [(folder, [], names)])
    with pytest.raises(
        UserError, match=r"caf\\udce9.asf' has a name that is not UTF-8: rename the file."
    ):
        files.find_files(str(tmp_path))


def test_names_of_joints_are_those_of_the_skeleton():
    assert [H36M_17.joints[joint] for joint in cleaning.LIMBS[:4]] == [
        "right_knee",
        "right_ankle",
        "right_elbow",
        "right_wrist",
    ]
