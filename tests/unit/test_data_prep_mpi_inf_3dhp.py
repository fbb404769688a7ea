"""MPI-INF-3DHP's files, in both layouts, -> records; and what its protocol makes of them."""

import json
import shutil
import zipfile

import h5py
import numpy as np
import pytest
import scipy.io
from golden import SHARED_DATA
from three_dhp import (
    FRAMES,
    OURS,
    SEQUENCE,
    VALID,
    joints,
    write_npz,
    write_official,
)

from configs import scjd
from data_prep import convert
from data_prep.mpi_inf_3dhp import files, release
from kdpose_jax.data import sequences
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.protocols import mpi_inf_3dhp as protocol
from kdpose_jax.experiment import pipeline

FIXTURES = SHARED_DATA / "formats" / "format_fixtures.zip"


def run(source, out, **settings):
    return convert.prepare("mpi_inf_3dhp", str(out), source=str(source), workers=1, **settings)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_official(folder)
    write_npz(folder / "pstmo")
    return folder


@pytest.fixture(scope="module")
def converted(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    run(raw, out / "official")
    run(raw / "pstmo", out / "npz")
    run(raw, out / "annot3", pose_source="annot3")
    return out


def read(folder):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    return {
        split: list(builder.as_dataset(split=split).as_numpy_iterator())
        for split in builder.info.splits
    }


@pytest.mark.parametrize(("folder", "kind"), [("official", "univ_annot3"), ("annot3", "annot3")])
def test_records_are_the_files_content(converted, folder, kind):
    records = read(converted / folder)
    views = [
        (record["subject"].decode(), record["take"].decode(), int(record["camera"]))
        for record in records["train"] + records["val"]
    ]
    assert views == [
        (subject, SEQUENCE[subject], camera)
        for subject in ("S1", "S8")
        for camera in (0, 1, 2, 4, 5, 6, 7, 8)
    ]
    assert [record["subject"].decode() for record in records["test"]] == ["TS1", "TS5"]
    for record in records["train"] + records["val"] + records["test"]:
        subject, camera = record["subject"].decode(), int(record["camera"])
        np.testing.assert_array_equal(
            record["keypoints_2d"], joints(subject, camera, "annot2", OURS).astype(np.float32)
        )
        np.testing.assert_allclose(
            record["pose_3d"], joints(subject, camera, kind, OURS) / 1000, rtol=1e-7
        )
        assert (record["width"], record["height"]) == (
            (1920, 1080) if subject == "TS5" else (2048, 2048)
        )
        np.testing.assert_array_equal(
            record["frame_mask"], np.asarray(VALID.get(subject, [1] * FRAMES[subject]), bool)
        )
    # S8 has fewer frames than S1.
    for split, subject, fps in (("train", b"S1", 50.0), ("val", b"S8", 25.0)):
        assert {(record["subject"], float(record["fps"])) for record in records[split]} == {
            (subject, fps)
        }
    metadata = json.loads((converted / folder / "metadata.json").read_text())
    assert metadata["activities"] == {"TS1": [[2, 2], [5, 3], [7, 2]], "TS5": [[1, 4]]}
    assert metadata["settings"]["pose_source"] == kind and len(metadata["left_out"]) == 14 + 4


def test_records_of_another_scale_are_refused(converted):
    config = scjd.get_config("3dhp,pose=annot3")
    for folder, kind in (("official", "univ_annot3"), ("annot3", "annot3")):
        config.data.converter.settings.pose_source = kind
        assert (
            pipeline.check_records(config, str(converted / folder))["settings"]["pose_source"]
            == kind
        )
    with pytest.raises(
        UserError,
        match="official' was converted with pose_source univ_annot3, and .*pose_source is annot3",
    ):
        pipeline.check_records(config, str(converted / "official"))


def same_bytes(first, second):
    names = sorted(path.name for path in first.iterdir() if path.name != "metadata.json")
    assert [
        path.name for path in sorted(second.iterdir()) if path.name != "metadata.json"
    ] == names and len(names) > 4
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_both_layouts_give_the_same_records(converted):
    same_bytes(converted / "official", converted / "npz")


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    """Files in the originals' layouts, and records of both."""
    if not FIXTURES.exists():
        pytest.skip(f"no {FIXTURES} (set KDPOSE_SHARED_DATA)")
    folder = tmp_path_factory.mktemp("fixtures")
    with zipfile.ZipFile(FIXTURES) as archive:
        archive.extractall(
            folder, [name for name in archive.namelist() if name.startswith("mpi_inf_3dhp/")]
        )
    for layout in files.LAYOUTS:
        summary = run(folder / "mpi_inf_3dhp", folder / layout, layout=layout)
        assert summary.splits == {
            "train": (16, 16 * 72),
            "val": (8, 8 * 72),
            "test": (3, 3 * 120),
        }
    return folder


def test_both_layouts_of_the_fixtures_give_the_same_records(fixtures):
    same_bytes(fixtures / "official", fixtures / "npz")


def test_frames_and_activities_of_the_fixtures(fixtures):
    data = protocol.read(str(fixtures / "official"), "test")
    names = [name.split("/")[0] for name in data.motion.names]
    assert names == ["TS1", "TS2", "TS5"]
    for index, name in enumerate(names):
        rows = slice(
            data.motion.offset[index], data.motion.offset[index] + data.motion.frames[index]
        )
        with h5py.File(fixtures / "mpi_inf_3dhp" / name / "annot_data.mat") as file:
            assert int(np.sum(file["valid_frame"])) == 102
            np.testing.assert_array_equal(
                data.motion.frame_mask[rows], np.ravel(file["valid_frame"]) != 0
            )
            np.testing.assert_array_equal(
                data.activity[rows], np.ravel(file["activity_annotation"])
            )


@pytest.mark.parametrize("layout", files.LAYOUTS)
def test_a_perfect_prediction_on_the_fixtures(fixtures, layout):
    data = protocol.read(str(fixtures / layout), "test")
    opened = protocol.open_protocol(data, frames=9, context=(0, 0), flip=False)
    assert len(opened.source) == 3 * 102
    perfect = np.repeat(data.motion.pose_3d[data.motion.frame_mask][:, None], 9, axis=1)
    scores = opened.score(perfect)
    counted = {
        protocol.activity_name(label): count
        for label, count in enumerate([15, 15, 14, 15, 14, 15, 14], 1)
    }
    expected = {name: 3 * count for name, count in counted.items()} if layout == "official" else {}
    assert {name: part["frames"] for name, part in scores["activities"].items()} == expected
    for part in (
        scores["pooled"],
        scores["mean_of_sequences"],
        *scores["sequences"].values(),
        *scores["activities"].values(),
    ):
        assert (
            part["mpjpe_mm"] == 0
            and part["pck"] == 100
            and part["auc"] == pytest.approx(96.774, abs=5e-4)
        )


def test_what_runs_on_behind_a_sequence_is_cut(raw, tmp_path, monkeypatch):
    monkeypatch.setitem(release.SEQUENCES, ("S1", "Seq2"), (2, 50))
    summary = run(raw, tmp_path / "out")
    assert summary.splits["train"] == (8, 8 * 3) and summary.splits["val"] == (8, 8 * 2)


def edited_mat(folder, change):
    path = folder / "S1" / "Seq2" / "annot.mat"
    content = {
        name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")
    }
    change(content)
    scipy.io.savemat(path, content)


def edited_hdf5(folder, change):
    with h5py.File(folder / "mpi_inf_3dhp_test_set" / "TS5" / "annot_data.mat", "a") as file:
        change(file)


def edited_npz(folder, change, name="data_train_3dhp.npz"):
    with np.load(folder / "pstmo" / name, allow_pickle=True) as file:  # our own file
        content = file["data"].item()
    change(content)
    np.savez(folder / "pstmo" / name, data=content)


def replace_cell(content, value):
    content["annot2"][4, 0] = value


def replace(file, name, value):
    del file[name]
    file[name] = value


def not_finite(content):
    content["TS1"]["data_3d"][3, 2, 1] = np.nan


def wrong_joints(content):
    content["S8 Seq1"][0]["5"]["data_2d"] = np.zeros((3, 28, 2))


@pytest.mark.parametrize(
    ("source", "spoil", "message"),
    [
        (
            ".",
            lambda folder: shutil.rmtree(folder / "mpi_inf_3dhp_test_set"),
            "no file of the split 'test'; expected there: S1/Seq1/annot.mat",
        ),
        (
            ".",
            lambda folder: (folder / "S1/Seq2/annot.mat").write_bytes(b"MATLAB 5.0" + bytes(90)),
            "cannot be read as a MATLAB 5 file",
        ),
        (
            ".",
            lambda folder: (folder / "S1/Seq2/annot.mat").write_bytes(b"no"),
            "cannot be read as a MATLAB 5 file",
        ),
        (
            ".",
            lambda folder: edited_mat(folder, lambda content: content.pop("univ_annot3")),
            "lacks the variable 'univ_annot3'",
        ),
        (
            ".",
            lambda folder: edited_mat(
                folder, lambda content: content.update(cameras=np.arange(14)[::-1])
            ),
            "cameras are not the numbers",
        ),
        (
            ".",
            lambda folder: edited_mat(
                folder, lambda content: replace_cell(content, np.zeros((5, 84)))
            ),
            "annot2, camera 4: shape .5, 84.",
        ),
        (
            ".",
            lambda folder: edited_mat(
                folder, lambda content: replace_cell(content, np.zeros((4, 56)))
            ),
            "camera 4: 4 frames of 2D and 5",
        ),
        (
            ".",
            lambda folder: edited_mat(
                folder, lambda content: content.update(annot2=np.zeros((14, 56)))
            ),
            "camera 0: no row of 14 cells",
        ),
        (
            ".",
            lambda folder: edited_hdf5(folder, lambda file: file.pop("valid_frame")),
            "lacks the variable 'valid_frame'",
        ),
        (
            ".",
            lambda folder: edited_hdf5(
                folder, lambda file: replace(file, "valid_frame", np.ones((3, 1)))
            ),
            "valid_frame: shape .3, 1.",
        ),
        (
            ".",
            lambda folder: edited_hdf5(folder, lambda file: replace(file, "annot2", "text")),
            "as a MATLAB 7.3 file",
        ),
        (
            ".",
            lambda folder: edited_hdf5(
                folder, lambda file: file["activity_annotation"].write_direct(-np.ones((4, 1)))
            ),
            "the label -1",
        ),
        (
            ".",
            lambda folder: edited_hdf5(
                folder, lambda file: replace(file, "annot2", h5py.ExternalLink("x.h5", "a"))
            ),
            "in the file itself",
        ),
        (
            ".",
            lambda folder: (folder / "mpi_inf_3dhp_test_set/TS1/annot_data.mat").write_bytes(b"no"),
            "as a MATLAB 7.3 file",
        ),
        (
            ".",
            lambda folder: edited_hdf5(
                folder, lambda file: replace(file, "univ_annot3", np.ones((4, 1, 17, 3)))
            ),
            "these seem to be metres",
        ),
        (
            "pstmo",
            lambda folder: (folder / "pstmo/data_test_3dhp.npz").unlink(),
            "no file of the split 'test'",
        ),
        (
            "pstmo",
            lambda folder: edited_npz(
                folder, lambda content: content.update({"S9 Seq1": [{}, 25]})
            ),
            "'S9 Seq1' is not one of S1 Seq1",
        ),
        (
            "pstmo",
            lambda folder: edited_npz(folder, lambda content: content["S1 Seq2"][0].pop("7")),
            "'S1 Seq2', camera 7 lacks data_2d",
        ),
        (
            "pstmo",
            lambda folder: edited_npz(folder, wrong_joints),
            "'S8 Seq1', camera 5, data_2d: shape .3, 28, 2. where .frames, 17, 2.",
        ),
        (
            "pstmo",
            lambda folder: edited_npz(folder, not_finite, "data_test_3dhp.npz"),
            "'TS1', data_3d: NaN, infinite .* in frame 3",
        ),
        (
            "pstmo",
            lambda folder: edited_npz(
                folder, lambda content: content["TS1"].pop("valid"), "data_test_3dhp.npz"
            ),
            "'TS1' lacks valid",
        ),
    ],
)
def test_bad_files_are_named_in_one_sentence(raw, tmp_path, source, spoil, message):
    folder = shutil.copytree(raw, tmp_path / "raw")
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        run(folder / source, tmp_path / "out")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("source", "settings", "message"), [
    ("pstmo", {"pose_source": "annot3"}, "npz files hold univ_annot3 alone"),
    (".", {"pose_source": "annot4"}, "--pose-source is 'annot4': use one of univ_annot3, annot3."),
    (".", {"layout": "mat"}, "--layout is 'mat': use one of official, npz."),
    (".", {"layout": "npz"}, "no file of the split 'train'"),
    ("nowhere", {}, "nowhere' is not a folder"),
])  # fmt: skip
def test_bad_settings(raw, tmp_path, source, settings, message):
    with pytest.raises(UserError, match=message):
        run(raw / source, tmp_path / "out", **settings)


def centres(motion, frames, name):
    """The true poses in windows of which only the centre is right.

    One per valid frame, in order.
    """
    first = motion.names.index(f"{name}/{name}/0")
    valid = np.flatnonzero(VALID[name])
    windows = np.full((len(valid), frames, 17, 3), 5.0, np.float32)
    windows[:, frames // 2] = motion.pose_3d[motion.offset[first] + valid]
    return windows


def test_a_perfect_centre_scores_full_marks(converted):
    data = protocol.read(str(converted / "official"), "test")
    opened = protocol.open_protocol(data, frames=9, context=(0, 0), flip=False)
    assert len(opened.source) == sum(map(sum, VALID.values())) and opened.source.unit == (
        "frames",
        1,
    )
    predicted = np.concatenate([centres(data.motion, 9, name) for name in ("TS1", "TS5")])
    scores = opened.score(predicted)
    assert list(scores["sequences"]) == ["TS1", "TS5"]
    assert {name: part["frames"] for name, part in scores["activities"].items()} == {
        "standing, walking": 2, "exercise": 1, "on the floor": 2, "miscellaneous": 2,
    }  # fmt: skip
    for part in (scores["pooled"], *scores["sequences"].values(), *scores["activities"].values()):
        assert (
            part["mpjpe_mm"] == 0
            and part["pck"] == 100
            and part["auc"] == pytest.approx(100 * 30 / 31)
        )
    # One frame of TS5 wrong by 122 mm in every joint but the root, one by 150 mm: pooled over 7
    # frames, plain over 2 sequences.
    predicted[-2:, 4, 1:, 0] += np.float32([[0.122], [0.1500001]])
    row = opened.row({"plain": opened.score(predicted)})
    assert row["mpjpe_mm"] == pytest.approx((122 + 150) * 16 / 17 / 7, abs=1e-3)
    assert row["mean_mpjpe_mm"] == pytest.approx((122 + 150) * 16 / 17 / 2 / 2, abs=1e-3)
    assert row["pck"] == pytest.approx(100 * 6 / 7) and row["mean_pck"] == 75
    assert row["auc"] == pytest.approx(100 * (5 * 30 + 6) / 31 / 7)
    source, quick = opened.quick(3)
    assert len(source) == 3 and quick(predicted[[0, 3, 6]])["pck"] == pytest.approx(100 * 2 / 3)


def test_windows_lie_around_valid_frames_and_replicate_the_ends(converted):
    data = protocol.read(str(converted / "npz"), "test")
    opened = protocol.open_protocol(data, frames=5, context=(0, 0), flip=True)
    assert not data.activity.any() and opened.score(np.zeros((7, 5, 17, 3)))["activities"] == {}
    batch = opened.source.gather(np.arange(len(opened.source)))
    motion = sequences.read(str(converted / "npz"), "test")
    assert motion.names == ("TS1/TS1/0", "TS5/TS5/0")
    # Around frame 1 of 7; frame 0 is invalid, and context.
    first = motion.keypoints_2d[[0, 0, 1, 2, 3]]
    last = motion.keypoints_2d[7:][[1, 2, 3, 3, 3]]
    np.testing.assert_array_equal(batch["keypoints_2d"][[0, -1]], [first, last])


def test_protocol_refuses_what_it_cannot_score(converted):
    data = protocol.read(str(converted / "npz"), "test")
    with pytest.raises(UserError, match="data.frames is 8 and a window of it has no centre"):
        protocol.open_protocol(data, frames=8, context=(0, 0), flip=False)
    with pytest.raises(UserError, match="eval.settings.flip is 1"):
        protocol.check_settings(flip=1)
    opened = protocol.open_protocol(data, frames=3, context=(0, 0), flip=False)
    with pytest.raises(UserError, match="NaN or infinite, the first in TS5"):
        opened.score(
            np.where(np.arange(7)[:, None, None, None] == 5, np.nan, np.zeros((7, 3, 17, 3)))
        )


def test_activities_must_fit(converted, tmp_path):
    folder = shutil.copytree(converted / "official", tmp_path / "records")
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["activities"]["TS1"][0][1] = 3
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(UserError, match="activities for 8 frames of TS1, which has 7"):
        protocol.read(str(folder), "test")
