"""MPII's protocol: PCKh by hand, the official file, data that it does not fit."""

import io
import json

import numpy as np
import pytest
import scipy.io
from people import answering, people, shared_archive

from kdpose_jax.codecs import crops
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import mpii, pckh
from kdpose_jax.skeletons import COCO_17, MPII_16

SIDE = 32


@pytest.fixture
def joints():
    return np.random.default_rng(1).uniform(100, 400, (4, 16, 2))


def open_protocol(persons, flip=True):
    return mpii.open_protocol(persons, views={"image": SIDE, "teacher_image": 256}, flip=flip)


def test_groups_are_the_skeletons_joints():
    words = {"Head": "head_top", "Shoulder": "shoulder", "Elbow": "elbow", "Wrist": "wrist", "Hip": "hip", "Knee": "knee", "Ankle": "ankle"}
    for group, members in pckh.GROUPS.items():
        named = {joint for joint, name in enumerate(MPII_16.joints) if name.split("_", 1)[-1] == words[group] or name == words[group]}
        assert set(members) == named, group
    assert set(range(16)) - set(pckh.MEAN_OVER) == {MPII_16.joints.index("pelvis"), MPII_16.joints.index("thorax")}


def test_truth_scores_100(joints):
    persons = people(MPII_16, joints, np.ones((4, 16), bool))
    protocol = open_protocol(persons)
    record = json.loads(json.dumps(protocol.full({"plain": 0, "flip": 0}, lambda _: answering(persons, joints, SIDE))))
    everything = dict.fromkeys([*pckh.GROUPS, "Mean"], 100.0)
    assert record == dict.fromkeys(("plain", "flip"), {"0.5": everything, "0.1": everything, "0.11": everything})
    assert protocol.row(record) == {"pckh": 100.0, "pckh_0.1": 100.0}
    assert {key for key, *_ in protocol.columns} == protocol.row(record).keys() and protocol.best_metric in protocol.row(record)


def test_moved_joints_by_hand(joints):
    """Head size 40: correct within 20 pixels, and 4 (4.4) for the small threshold."""
    visible = np.ones((4, 16), bool)
    visible[0, 9] = False
    predicted = joints.copy()
    predicted[0, 9] += 1000  # not labelled
    predicted[1, 9] += (0, 21)  # head
    predicted[2, 13] += (19, 0)  # left shoulder
    predicted[3, [6, 7]] += 1000  # pelvis and thorax are in no figure
    predicted[3, 0] += (4.2, 0)  # right ankle
    persons = people(MPII_16, joints, visible)
    protocol = open_protocol(persons, flip=False)
    record = protocol.full({"plain": None}, lambda _: answering(persons, predicted, SIDE))["plain"]
    half, tenth, hrnet = record["0.5"], record["0.1"], record["0.11"]
    assert half["Head"] == pytest.approx(200 / 3) and half["Shoulder"] == 100 and half["Ankle"] == 100
    assert half["Mean"] == pytest.approx(100 * 54 / 55)
    assert tenth["Shoulder"] == 87.5 and tenth["Ankle"] == 87.5 and tenth["Mean"] == pytest.approx(100 * 52 / 55)
    assert hrnet["Ankle"] == 100 and hrnet["Mean"] == pytest.approx(100 * 53 / 55)
    assert protocol.row({"plain": record}) == {"pckh": half["Mean"], "pckh_0.1": tenth["Mean"]}
    assert protocol.breakdown({"plain": record}) == {group: half[group] for group in pckh.GROUPS}


def test_persons_and_joints_without_labels(joints):
    visible = np.ones((4, 16), bool)
    visible[2] = False
    visible[:, 9] = False
    persons = people(MPII_16, joints, visible)
    protocol = open_protocol(persons)
    predicted = joints + np.array([0, 0, 900, 0])[:, None, None]
    scores = protocol.score(answering(persons, predicted, SIDE), np.arange(4))["0.5"]
    assert scores["Head"] is None and scores["Mean"] == 100
    source, score = protocol.quick(0)
    np.testing.assert_array_equal(source.examples, [0, 1, 3])
    answer = answering(persons, predicted, SIDE)
    assert score({name: array[[0, 1, 3]] for name, array in answer.items()}) == {"pckh": 100.0}


def test_data_that_pckh_does_not_fit(joints):
    visible = np.ones((4, 16), bool)
    with pytest.raises(UserError, match=r"1 of 4 test persons have no head size, the first in '002.jpg'.*set eval.protocol to 'pck'"):
        open_protocol(people(MPII_16, joints, visible, head_size=np.array([1, 1, 0, 1], np.float32)))
    with pytest.raises(UserError, match="needs the joints of mpii_16 and this data set has coco_17: set eval.protocol to 'pck'"):
        open_protocol(people(COCO_17, np.zeros((4, 17, 2)), np.ones((4, 17), bool)))
    with pytest.raises(UserError, match="No test person has a labelled joint"):
        open_protocol(people(MPII_16, joints, np.zeros((4, 16), bool)))
    with pytest.raises(UserError, match="flip is 1: set it to True or False"):
        mpii.check_settings(flip=1)


def official(joints):
    """An official file's content, every head box 30 wide and 40 high: a head size of 30."""
    count = len(joints)
    names = np.empty((1, 16), object)
    names[0] = [np.array([name]) for name in pckh.FILE_JOINTS]
    boxes = np.zeros((2, 2, count))
    boxes[1] = [[30] * count, [40] * count]
    return {
        "dataset_joints": names,
        "jnt_missing": np.zeros((16, count), np.uint8),
        "pos_gt_src": (joints + 1).transpose(1, 2, 0),
        "headboxes_src": boxes,
    }


def write(path, content):
    scipy.io.savemat(path, content)
    return str(path)


def test_official_file(tmp_path, joints):
    path = write(tmp_path / "gt_valid.mat", official(joints))
    truth = pckh.read_official(path)
    np.testing.assert_allclose(truth.head_size, 30)
    assert truth.labelled.all()
    for shift, expected in ((0, 100.0), (14.9, 100.0), (15.1, 0.0)):
        assert pckh.score_against_file(joints + (shift, 0), truth, path)["0.5"]["Mean"] == expected
    with pytest.raises(UserError, match="There are 3 predicted poses with 16 joints and 4 with 16 in .*: predict the persons"):
        pckh.score_against_file(joints[:3], truth, path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"jnt_missing": None}, "lacks jnt_missing: give"),
        ({"headboxes_src": np.zeros((2, 2, 3))}, "arrays of shapes .* instead of"),
        ({"pos_gt_src": np.full((16, 2, 4), "x")}, "arrays of shapes .* instead of"),
        ({"pos_gt_src": np.full((16, 2, 4), np.nan)}, "poses that are NaN or infinite"),
        ({"dataset_joints": np.array([["rank"] * 16], object)}, "not MPII's in their order"),
    ],
)
def test_official_file_of_another_form(tmp_path, joints, changed, message):
    content = {name: value for name, value in {**official(joints), **changed}.items() if value is not None}
    with pytest.raises(UserError, match=message):
        pckh.read_official(write(tmp_path / "gt_valid.mat", content))


@pytest.mark.parametrize("content", [b"", b"no MATLAB file, " * 40, None], ids=["empty", "text", "absent"])
def test_official_file_that_is_none(tmp_path, content):
    path = tmp_path / "gt_valid.mat"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a MATLAB file .*: give the gt_valid.mat"):
        pckh.read_official(path)


def test_head_box_without_size(tmp_path, joints):
    content = official(joints)
    content["headboxes_src"][1, :, 2] = 0
    truth = pckh.read_official(write(tmp_path / "gt_valid.mat", content))
    with pytest.raises(UserError, match="head box of person 2 in 'it' has no size"):
        pckh.score_against_file(joints, truth, "it")


def test_real_annotations(tmp_path):
    """All 2,958 validation persons: their truth scores 100, and the records' ground truth scores as the official file's."""
    archive = shared_archive("mpii_annot.zip")
    path = tmp_path / "gt_valid.mat"
    path.write_bytes(archive.read("annot/gt_valid.mat"))
    truth = pckh.read_official(path)
    listed = json.load(io.TextIOWrapper(archive.open("annot/valid.json"), "utf-8"))
    joints = np.array([one["joints"] for one in listed]) - 1
    visible = np.array([one["joints_vis"] for one in listed], bool)
    scale = np.array([[one["scale"] * 1.25] * 2 for one in listed], np.float32)
    center = np.array([one["center"] for one in listed]) + np.array([0, 15]) * np.array([[one["scale"]] for one in listed]) - 1
    persons = people(
        MPII_16, joints, visible, center=center.astype(np.float32), scale=scale, head_size=truth.head_size.astype(np.float32)
    )
    protocol = open_protocol(persons)
    assert protocol.test_set == "2,958 persons"

    found = pckh.score_against_file(joints, truth, str(path))
    assert {scores["Mean"] for scores in found.values()} == {100.0}
    everybody = np.arange(len(listed))
    assert protocol.score(answering(persons, joints, SIDE), everybody)["0.1"]["Mean"] == 100.0

    noisy = joints + np.random.default_rng(0).normal(size=joints.shape) * truth.head_size[:, None, None] / 2
    from_file, from_records = pckh.score_against_file(noisy, truth, str(path)), protocol.score(answering(persons, noisy, SIDE), everybody)
    assert 30 < from_file["0.5"]["Mean"] < 50  # 1 - exp(-1/2) of a normal error of half a head
    for threshold, scores in from_file.items():
        assert from_records[threshold] == pytest.approx(scores, abs=0.05)


def test_crops_lead_back_to_the_photograph(joints):
    """Two separate ways from the crop to the photograph agree."""
    persons = people(MPII_16, joints, np.ones((4, 16), bool))
    forward = crops.transform_points(joints, crops.crop_affine(persons.center, persons.scale, np.zeros(4), SIDE))
    np.testing.assert_allclose(answering(persons, joints, SIDE)["joints"], forward, atol=1e-9)
