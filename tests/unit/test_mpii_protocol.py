"""MPII's protocol: PCKh by hand, persons without a record, data that it does not fit."""

import dataclasses
import json

import numpy as np
import pytest
from people import answering, people

from kdpose_jax.codecs import crops
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.metrics import pckh
from kdpose_jax.evaluate.protocols import mpii
from kdpose_jax.skeletons import COCO_17, MPII_16

SIDE = 32


@pytest.fixture
def joints():
    return np.random.default_rng(1).uniform(100, 400, (4, 16, 2))


def open_protocol(persons, flip=True):
    return mpii.open_protocol(persons, views={"image": SIDE, "teacher_image": 256}, flip=flip)


def test_groups_are_the_skeletons_joints():
    words = {
        "Head": "head_top",
        "Shoulder": "shoulder",
        "Elbow": "elbow",
        "Wrist": "wrist",
        "Hip": "hip",
        "Knee": "knee",
        "Ankle": "ankle",
    }
    for group, members in pckh.GROUPS.items():
        named = {
            joint
            for joint, name in enumerate(MPII_16.joints)
            if name.split("_", 1)[-1] == words[group] or name == words[group]
        }
        assert set(members) == named, group
    assert set(range(16)) - set(pckh.MEAN_OVER) == {
        MPII_16.joints.index("pelvis"),
        MPII_16.joints.index("thorax"),
    }


def test_truth_scores_100(joints):
    persons = people(MPII_16, joints, np.ones((4, 16), bool))
    protocol = open_protocol(persons)
    record = json.loads(
        json.dumps(
            protocol.full({"plain": 0, "flip": 0}, lambda _: answering(persons, joints, SIDE))
        )
    )
    everything = dict.fromkeys([*pckh.GROUPS, "Mean"], 100.0)
    assert record == {
        **dict.fromkeys(
            ("plain", "flip"), {"0.5": everything, "0.1": everything, "0.11": everything}
        ),
        "persons": 4,
        "unseen": 0,
    }
    assert protocol.conditions.endswith(". 4 of 4 annotated persons were predicted.")
    assert protocol.row(record) == {"pckh": 100.0, "pckh_0.1": 100.0}
    assert {column.key for column in protocol.columns} == protocol.row(
        record
    ).keys() and protocol.best_metric in protocol.row(record)


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
    assert (
        half["Head"] == pytest.approx(200 / 3) and half["Shoulder"] == 100 and half["Ankle"] == 100
    )
    assert half["Mean"] == pytest.approx(100 * 54 / 55)
    assert (
        tenth["Shoulder"] == 87.5
        and tenth["Ankle"] == 87.5
        and tenth["Mean"] == pytest.approx(100 * 52 / 55)
    )
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
    scores = protocol.score(answering(persons, predicted, SIDE), np.arange(4), np.zeros(16, int))[
        "0.5"
    ]
    assert scores["Head"] is None and scores["Mean"] == 100
    source, score = protocol.quick(0)
    np.testing.assert_array_equal(source.examples, [0, 1, 3])
    answer = answering(persons, predicted, SIDE)
    assert score({name: array[[0, 1, 3]] for name, array in answer.items()}) == {"pckh": 100.0}


def test_persons_without_a_record_count_as_missed(joints):
    """Official code predicts on their black crops.

    Here their joints are wrong by decree, and the table says so.
    """
    unseen_joints = np.zeros(16, int)
    unseen_joints[[9, 13, 12, 6]] = [2, 1, 0, 2]  # head top, shoulders, pelvis
    persons = dataclasses.replace(
        people(MPII_16, joints, np.ones((4, 16), bool)), unseen=2, unseen_joints=unseen_joints
    )
    protocol = open_protocol(persons)
    answer = answering(persons, joints, SIDE)
    record = protocol.full({"plain": 0, "flip": 0}, lambda _: answer)
    scores = record["plain"]["0.5"]
    assert (record["persons"], record["unseen"]) == (4, 2)
    assert (
        scores["Head"] == pytest.approx(100 * 4 / 6)
        and scores["Shoulder"] == pytest.approx((80 + 100) / 2)
        and scores["Knee"] == 100
    )
    # 14 joints of 4 persons, and 3 that are missed: the pelvis is in no figure.
    assert scores["Mean"] == pytest.approx(100 * 56 / 59)
    told = "4 of 6 annotated persons were predicted. The joints of the others count as wrong"
    assert told in protocol.conditions
    assert protocol.quick(0)[1](answer) == {"pckh": 100.0}  # the chosen alone


def test_data_that_pckh_does_not_fit(joints):
    visible = np.ones((4, 16), bool)
    with pytest.raises(
        UserError,
        match=r"1 of 4 test persons have no head size, the first in '002.jpg'.*set eval.protocol "
        r"to 'pck'",
    ):
        open_protocol(
            people(MPII_16, joints, visible, head_size=np.array([1, 1, 0, 1], np.float32))
        )
    with pytest.raises(
        UserError,
        match="needs the joints of mpii_16 and this data set has coco_17: set eval.protocol to "
        "'pck'",
    ):
        open_protocol(people(COCO_17, np.zeros((4, 17, 2)), np.ones((4, 17), bool)))
    with pytest.raises(UserError, match="No person of the split has a labelled joint"):
        open_protocol(people(MPII_16, joints, np.zeros((4, 16), bool)))
    with pytest.raises(UserError, match="flip is 1: set it to True or False"):
        mpii.check_settings(flip=1)


def test_crops_lead_back_to_the_photograph(joints):
    """Two separate ways from the crop to the photograph agree."""
    persons = people(MPII_16, joints, np.ones((4, 16), bool))
    forward = crops.transform_points(
        joints, crops.crop_affine(persons.center, persons.scale, np.zeros(4), SIDE)
    )
    np.testing.assert_allclose(answering(persons, joints, SIDE)["joints"], forward, atol=1e-9)
