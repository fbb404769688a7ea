"""Data set reading against VideoPose3D's recorded results (`h36m_dataset*.npz`), original layouts
and real motion.
"""

import importlib.util
import json
import re
import zipfile

import numpy as np
import pytest
from golden import SHARED_DATA, golden_files

from data_prep import cameras, convert, takes
from kdpose_jax.data import schema
from kdpose_jax.skeletons import H36M_17

FIXTURES = SHARED_DATA / "formats" / "format_fixtures.zip"


def camera_table(golden) -> dict[str, list[dict]]:
    """The file's made-up cameras as a table: pixels, and millimetres."""
    table: dict[str, list[dict]] = {}
    for key in golden.files:
        if match := re.fullmatch(r"input/camera/(S\d+)/(\d+)/orientation", key):
            subject, index = match.groups()
            entry = {
                name: golden[f"input/camera/{index}/{name}"].tolist()
                for name in ("center", "focal_length", "radial_distortion", "tangential_distortion")
            }
            entry["res_w"], entry["res_h"] = golden[f"input/camera/{index}/resolution"].tolist()
            entry["orientation"] = golden[key].tolist()
            entry["translation_mm"] = golden[f"input/camera/{subject}/{index}/translation"].tolist()
            table.setdefault(subject, []).append(entry)
    return table


@pytest.mark.parametrize("path", golden_files("h36m_dataset*"))
def test_joints_and_cameras(path, tmp_path):
    with np.load(path) as golden:
        (tmp_path / "cameras.json").write_text(json.dumps(camera_table(golden)))
        positions, expected = {}, {}
        for key in golden.files:
            if match := re.fullmatch(r"(input|output)/(S\d+)/([^/]+)", key):
                folder, subject, take = match.groups()
                {"input": positions, "output": expected}[folder].setdefault(subject, {})[take] = (
                    golden[key]
                )
        np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=positions)
        read = takes.read_positions(str(tmp_path / "data_3d_h36m.npz")).takes
        assert read.keys() == expected.keys() and expected
        for subject in expected:
            for take in expected[subject]:
                np.testing.assert_array_equal(read[subject][take], expected[subject][take])
        for subject, placed in cameras.read_cameras(str(tmp_path / "cameras.json")).items():
            for index, camera in enumerate(placed):
                key = f"output/camera/{subject}/{index}"
                # The reference computes in float32, and its centre is a small difference of numbers
                # near one.
                np.testing.assert_allclose(
                    cameras.screen_intrinsic(camera),
                    golden[f"{key}/intrinsic"],
                    rtol=3e-7,
                    atol=5e-7,
                )
                np.testing.assert_allclose(
                    camera.orientation, golden[f"{key}/orientation"], rtol=2e-7
                )
                np.testing.assert_allclose(
                    camera.translation, golden[f"{key}/translation"], rtol=3e-7
                )
        assert tuple(golden["output/parents"]) == H36M_17.parents
        assert (
            tuple(golden["output/joints_left"]) == H36M_17.left
            and tuple(golden["output/joints_right"]) == H36M_17.right
        )
        # `children_flat` is left alone: the reference does not update it when it hangs the
        # shoulders on the thorax.


def read_records(folder) -> dict[str, list[dict]]:
    import tensorflow_datasets as tfds

    schema.read_metadata(str(folder), schema.SEQUENCES)
    builder = tfds.builder_from_directory(str(folder))
    return {
        split: list(builder.as_dataset(split=split).as_numpy_iterator()) for split in schema.SPLITS
    }


@pytest.mark.skipif(not FIXTURES.exists(), reason=f"no {FIXTURES}")
def test_files_in_the_original_layout(tmp_path):
    with zipfile.ZipFile(FIXTURES) as archive:
        archive.extractall(
            tmp_path, [name for name in archive.namelist() if name.startswith("h36m/")]
        )
    source = tmp_path / "h36m"
    table = str(source / "cameras.json")
    for out, settings in {
        "gt": {"keypoints": "gt"},
        "cpn": {"keypoints": "cpn_ft_h36m_dbb"},
        "own": {"keypoints": "gt", "cameras_file": table},
    }.items():
        summary = convert.prepare(
            "human36m", str(tmp_path / out), source=str(source), workers=1, **settings
        )
        # 4 takes of each subject, but for the corrupt one of S11, in 4 views. S8 is `val`.
        assert {split: count for split, (count, _) in summary.splits.items()} == {
            "train": 64,
            "val": 16,
            "test": 28,
        }
        assert summary.left_out == ["S11 Directions: corrupt take"]
    (source / "data_2d_h36m_gt.npz").unlink()
    for out, settings in {"computed": {}, "computed_own": {"cameras_file": table}}.items():
        convert.prepare(
            "human36m",
            str(tmp_path / out),
            source=str(source),
            workers=1,
            keypoints="gt",
            **settings,
        )
    gt, cpn, own, computed, computed_own = (
        [record for records in read_records(tmp_path / out).values() for record in records]
        for out in ("gt", "cpn", "own", "computed", "computed_own")
    )
    errors = []
    for exact, detected, other, ours, ours_own in zip(
        gt, cpn, own, computed, computed_own, strict=True
    ):
        # Our camera table and the zip's.
        np.testing.assert_allclose(other["pose_3d"], exact["pose_3d"], atol=2e-6)
        # The zip's 2D was made with its own table, whose p1 and p2 stand the other way round than
        # VideoPose3D's.
        np.testing.assert_allclose(ours_own["keypoints_2d"], exact["keypoints_2d"], atol=0.1)
        np.testing.assert_allclose(ours["keypoints_2d"], exact["keypoints_2d"], atol=1.0)
        # Its 2D is up to 3 frames longer in the file.
        assert detected["keypoints_2d"].shape == exact["keypoints_2d"].shape
        errors.append(
            np.linalg.norm(detected["keypoints_2d"] - exact["keypoints_2d"], axis=-1).mean()
        )
    assert max(errors) < 10


@pytest.mark.skipif(not (SHARED_DATA / "mocap17").exists(), reason=f"no {SHARED_DATA / 'mocap17'}")
def test_real_motion_is_counted_and_placed_like_its_own_loader(tmp_path):
    spec = importlib.util.spec_from_file_location("load_mocap17", SHARED_DATA / "load_mocap17.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    folder, source = str(SHARED_DATA / "mocap17"), tmp_path / "export"
    loader.export(folder, str(source), sources=("hdm05",))
    summary = convert.prepare(
        "human36m",
        str(tmp_path / "out"),
        source=str(source),
        keypoints="det",
        test_subjects=("HDMmm",),
        val_subjects=("HDMdg",),
        workers=1,
    )
    # Its README's table, whose training subjects are `train` and `val` here.
    splits = summary.splits
    together = tuple(map(sum, zip(splits["train"], splits["val"], strict=True)))
    assert together == (186 * 4, 18_522 * 4) and splits["test"] == (43 * 4, 4_976 * 4)
    assert splits["val"][1] == 5_571 * 4
    positions, table, _ = loader.load_3d(folder, "test", ("hdm05",))
    detections = loader.load_2d(folder, "det", "test", ("hdm05",))
    for record in read_records(tmp_path / "out")["test"]:
        subject, take, index = (
            record["subject"].decode(),
            record["take"].decode(),
            int(record["camera"]),
        )
        expected = loader.to_camera(
            positions[subject][take].astype(np.float64), table[subject][index]
        )
        np.testing.assert_allclose(record["pose_3d"], expected, atol=1e-6)
        np.testing.assert_array_equal(record["keypoints_2d"], detections[subject][take][index])
        assert record["action"].decode() + take[-3:] == take
