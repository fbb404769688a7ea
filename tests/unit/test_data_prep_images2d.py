"""The converters on real photographs and annotations (`images2d` of KDPOSE_SHARED_DATA, default
../shared/data).
"""

import json
import pathlib
from typing import NamedTuple

import numpy as np
import pytest
import scipy.io
from people import answering, people, unpack

from data_prep import convert, gt_valid, head_boxes, json_values, mpii
from data_prep.records import Summary
from kdpose_jax.data import persons
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import crop_predictions
from kdpose_jax.evaluate.metrics import pckh
from kdpose_jax.evaluate.protocols import coco as coco_protocol
from kdpose_jax.evaluate.protocols import mpii as mpii_protocol
from kdpose_jax.evaluate.protocols import pck
from kdpose_jax.skeletons import MPII_16

SIDE = 32
COCO_SETTINGS = {
    "flip": False,
    "boxes": "ground_truth",
    "joint_threshold": 0.02,
    "nms": "hard",
    "nms_threshold": 0.9,
}
NOBODY = np.zeros(16, int)


class Mini(NamedTuple):
    """The unzipped archive, what was converted of it, and the records read back."""

    folder: pathlib.Path
    summary: Summary
    train: persons.Persons
    test: coco_protocol.CocoPersons


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    folder = unpack("coco_mini.zip", tmp_path_factory.mktemp("coco_mini"))
    (detections,) = (folder / "person_detection_results").iterdir()
    settings = {"detections": str(detections.relative_to(folder)), "workers": 1}
    summary = convert.prepare("coco", str(folder / "records"), source=str(folder), **settings)
    return Mini(
        folder,
        summary,
        persons.read(summary.out, "train", "val"),  # all persons of train2017
        coco_protocol.read(summary.out, "test"),
    )


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    return unpack("mpii_annot.zip", tmp_path_factory.mktemp("mpii_annot"))


@pytest.fixture(scope="module")
def five(annotated):
    """The records of the five persons whose photographs are there, with their part of the official
    file; and their entries.
    """
    listed, everybody = (
        json.loads((annotated / "annot" / name).read_text())
        for name in ("valid_5images.json", "valid.json")
    )
    places = [
        next(
            i
            for i, one in enumerate(everybody)
            if one["image"] == entry["image"]
            and np.allclose(one["joints"], entry["joints"], atol=0.01)
        )
        for entry in listed
    ]
    whole = scipy.io.loadmat(annotated / "annot" / "gt_valid.mat")
    part = {
        name: whole[name][..., places] for name in ("jnt_missing", "pos_gt_src", "headboxes_src")
    }
    scipy.io.savemat(
        annotated / "annot" / "gt_5images.mat", {"dataset_joints": whole["dataset_joints"], **part}
    )
    convert.prepare(
        "mpii",
        str(annotated / "five"),
        source=str(annotated),
        splits=("test",),
        workers=1,
        test_annotations="annot/valid_5images.json",
        head_boxes="annot/gt_5images.mat",
    )
    return mpii_protocol.read(str(annotated / "five"), "test"), listed


def test_coco_persons(mini):
    assert mini.summary.splits == {
        "train": (75, 75),
        "val": (11, 11),  # of a photograph or two of the 28
        "test": (80, 80),
        "test_detections": (118, 118),
    }
    assert mini.summary.left_out == [
        "train: 5 crowds",
        "train: 56 persons without a labelled joint",
        "test: 1 crowds",
        "test: 26 persons without a labelled joint",
    ]
    assert (len(set(mini.train.file)), len(set(mini.test.ground_truth.file))) == (28, 36)


def test_coco_crops_show_their_persons(mini):
    data = mini.train
    training = {
        "scale_factor": 0.35,
        "rotation_factor": 45.0,
        "flip": True,
        "half_body_probability": 0.3,
    }
    source = persons.open_training(
        data, views={"image": 64, "teacher_image": 256}, seed=0, **training
    )
    batch = source.gather(np.arange(86), np.zeros(86, int))
    assert (
        batch["teacher_image"].shape == (86, 256, 256, 3)
        and (batch["image"].std((1, 2, 3)) > 5).all()
    )
    plain = persons.open_evaluation(data, views={"image": 64}).gather(np.arange(86))
    inside = ((plain["joints"] > 0) & (plain["joints"] < 64)).all(-1)[data.visible]
    assert inside.mean() > 0.98  # a box with its padding holds the person


def test_coco_truth_scores_one_through_the_records(mini):
    """The stored annotations, boxes and joints.

    Official evaluation of the truth, and of nobody's joints.
    """
    data = mini.test
    protocol = coco_protocol.open_protocol(data, views={"image": SIDE}, **COCO_SETTINGS)
    truth = data.ground_truth
    scores = protocol.score(
        answering(truth, truth.joints, SIDE), "ground_truth", np.arange(80), data.annotations
    )
    ten = {name: value for name, value in scores.items() if name.startswith(("ap", "ar"))}
    assert (
        len(ten) == 10
        and set(ten.values()) == {1.0}
        and scores["oks"] == pytest.approx(1, abs=1e-6)
    )
    assert protocol.test_set == "80 persons and 118 detections in 36 pictures"
    away = protocol.score(
        answering(truth, truth.joints + 500, SIDE), "ground_truth", np.arange(80), data.annotations
    )
    assert away["ap"] == 0


def raw_coco(folder, name):
    """Annotation id -> joints `[17, 3]` of the original file."""
    entries = json.loads(
        (folder / "annotations" / f"person_keypoints_{name}2017.json").read_text()
    )["annotations"]
    return {
        entry["id"]: np.reshape(np.asarray(entry["keypoints"], float), (17, 3)) for entry in entries
    }


@pytest.mark.parametrize("side", [32, 64, 256])
def test_joints_come_back_from_their_crops(mini, five, side):
    """Annotation -> record -> crop -> photograph.

    The raw files' joints, within a hundredth of a pixel.
    """
    for data, name in ((mini.train, "train"), (mini.test.ground_truth, "val")):
        raw = raw_coco(mini.folder, name)
        expected = np.stack([raw[number] for number in data.person_id.tolist()])
        compare_round_trip(data, expected[..., :2], expected[..., 2] > 0, side)
    data, listed = five
    expected, visible = (
        np.asarray([entry[name] for entry in listed], float) for name in ("joints", "joints_vis")
    )
    compare_round_trip(data, expected - 1, visible > 0, side)


def compare_round_trip(data, expected, visible, side):
    batch = persons.open_evaluation(data, views={"image": side}).gather(np.arange(len(data)))
    found = crop_predictions.photograph_joints(
        {"joints": batch["joints"], "scores": batch["joint_weight"]},
        data,
        np.arange(len(data)),
        side,
    )
    np.testing.assert_array_equal(batch["joint_weight"] > 0, visible)
    assert visible.any(1).all() and np.abs(found - expected)[visible].max() < 0.01
    # The crop is the box: its middle is the centre (docs/methods/pose2d.md#crops).
    width = 200 * data.scale[:, None, 0]
    middle = np.abs(
        (batch["joints"] - side / 2) * width[..., None] / side + data.center[:, None] - expected
    )[visible]
    assert middle.max() < 0.01


def test_mpii_truth_scores_100(annotated):
    """All 2,958 validation persons as the converter reads them.

    Noise scores alike by the records and by the official file.
    """
    path, official = annotated / "annot" / "valid.json", str(annotated / "annot" / "gt_valid.mat")
    listed = mpii.read_persons(json_values.read_json(str(path), "--test-annotations"), str(path))
    with_heads, notes = head_boxes.with_head_boxes(listed, official, "valid.json")
    assert (
        len(listed) == len(with_heads) == 2958
        and not notes
        and all(one.scale[0] > 0 for one in with_heads)
    )
    assert (
        np.abs(
            np.stack(
                [one.joints - other.joints for one, other in zip(listed, with_heads, strict=True)]
            )
        ).max()
        < 1e-3
    )
    arrays = {
        name: np.stack([getattr(one, name) for one in with_heads])
        for name in ("joints", "visible", "center", "scale", "head_size")
    }
    assert (arrays["head_size"] > 0).all() and 20 < np.median(arrays["head_size"]) < 120
    test = people(MPII_16, **arrays)
    protocol = mpii_protocol.open_protocol(test, views={"image": SIDE}, flip=False)
    assert protocol.test_set == "2,958 persons"

    truth = gt_valid.read(official, "none")
    everybody, rows = (
        np.arange(2958),
        np.asarray([entry["joints"] for entry in json.loads(path.read_text())]) - 1,
    )
    noise = np.random.default_rng(0).normal(size=rows.shape) * truth.head_size[:, None, None] / 2
    # 1 - exp(-1/2) of a normal error of half a head.
    for predicted, low, high in ((rows, 100, 100), (rows + noise, 30, 50)):
        from_file = pckh.score(predicted, truth.joints, truth.labelled, truth.head_size, NOBODY)
        from_records = protocol.score(answering(test, predicted, SIDE), everybody, NOBODY)
        assert low <= from_file["0.5"]["Mean"] <= high
        for threshold, scores in from_file.items():
            assert from_records[threshold] == pytest.approx(scores, abs=0.05 if high < 100 else 0)


def test_mpii_photographs(annotated, five):
    """The five that are there.

    Their truth scores 100 through the records, by PCKh and by PCK, and the crops show the persons.
    """
    data, _ = five
    protocol = mpii_protocol.open_protocol(data, views={"image": SIDE}, flip=False)
    answer = answering(data, data.joints, SIDE)
    record = protocol.full({"plain": None}, lambda _: answer)
    assert {record["plain"][threshold]["Mean"] for threshold in ("0.5", "0.1", "0.11")} == {100.0}
    assert (record["persons"], record["unseen"]) == (
        5,
        0,
    ) and "5 of 5 annotated persons" in protocol.conditions
    torso = pck.open_protocol(
        data, views={"image": SIDE}, flip=False, reference="torso", threshold=0.2
    )
    assert torso.score(answer, np.arange(5))["Mean"] == 100
    batch = persons.open_evaluation(data, views={"image": 64}).gather(np.arange(5))
    inside = ((batch["joints"] > 0) & (batch["joints"] < 64)).all(-1)[data.visible]
    assert inside.mean() > 0.95 and batch["image"].std() > 20


def test_mpii_without_its_photographs(annotated, tmp_path):
    settings = {"source": str(annotated), "splits": ("test",), "workers": 1}
    with pytest.raises(
        UserError,
        match=r"2,724 of 2,729 photographs are missing .*missing_photographs.txt' lists them all.$",
    ):
        convert.prepare("mpii", str(tmp_path / "all"), **settings)
    missing = (tmp_path / "missing_photographs.txt").read_text().split("\n")[:-1]
    names = {
        entry["image"] for entry in json.loads((annotated / "annot" / "valid.json").read_text())
    }
    assert len(missing) == 2724
    assert set(missing) == {
        str(annotated / "images" / name)
        for name in names
        if not (annotated / "images" / name).exists()
    }
    # The whole official file with a part of the list: its persons are found by their joints.
    found = convert.prepare(
        "mpii", str(tmp_path / "five"), **settings, test_annotations="annot/valid_5images.json"
    )
    assert found.notes == [
        "test: 'annot/valid_5images.json' has 5 persons, found by their joints "
        "among the 2,958 samples of the head box file"
    ]
    data = persons.read(tmp_path / "five", "test")
    whole = convert.prepare("mpii", str(tmp_path / "there"), **settings, skip_missing=True)
    there = persons.read(tmp_path / "there", "test")
    assert (
        whole.left_out == [f"test: {2958 - len(there):,} persons whose photograph is missing"]
        and not whole.notes
    )
    sizes = {
        (name, *place): size
        for name, place, size in zip(
            there.file, there.center.round(1).tolist(), there.head_size, strict=True
        )
    }
    assert [
        sizes[name, *place]
        for name, place in zip(data.file, data.center.round(1).tolist(), strict=True)
    ] == data.head_size.tolist()
