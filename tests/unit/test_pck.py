"""PCK and its protocol: counts by hand, unlabelled joints and lengths, settings."""

import json

import numpy as np
import pytest
from people import answering, people

from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.metrics import keypoints_2d
from kdpose_jax.evaluate.protocols import pck
from kdpose_jax.skeletons import COCO_17, H36M_17, MPII_16

SIDE = 64
SETTINGS = {"flip": True, "reference": "torso", "threshold": 0.2}


def test_relative_errors_by_hand():
    predicted = np.array([[[3, 4], [0, 0]], [[10, 0], [0, 1]]], np.float32)
    errors = keypoints_2d.relative_errors(predicted, np.zeros((2, 2, 2)), np.array([10, 2]))
    assert errors.dtype == np.float64
    np.testing.assert_array_equal(errors, [[0.5, 0.0], [5.0, 0.5]])


@pytest.mark.parametrize(
    ("predicted", "target", "length"),
    [
        ((2, 3, 2), (2, 4, 2), [1, 1]),
        ((2, 3, 3), (2, 3, 3), [1, 1]),
        ((2, 3, 2), (2, 3, 2), [1]),
        ((2, 3, 2), (2, 3, 2), [1, 0]),
    ],
)
def test_relative_errors_of_what_does_not_fit(predicted, target, length):
    with pytest.raises(ValueError):
        keypoints_2d.relative_errors(np.ones(predicted), np.ones(target), np.array(length))


def test_pck_by_hand():
    errors = np.array([[0.5, 0.1, 9.0], [0.51, 0.1, 9.0], [0.2, np.nan, 9.0], [0.2, 0.9, 9.0]])
    counted = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]], bool)
    scores = keypoints_2d.pck(
        errors,
        counted,
        0.5,
        groups={"Both": (0, 1), "First": (0,), "Lost": (2,), "Half": (1, 2)},
        mean_over=(0, 1, 2),
    )
    third = 200 / 3  # both joints: 2 correct of 3; the threshold itself is correct
    assert scores == pytest.approx(
        {"Both": third, "First": third, "Lost": None, "Half": third, "Mean": third}
    )
    uneven = keypoints_2d.pck(
        errors, counted & np.array([1, 0, 0]).astype(bool), 0.1, groups={}, mean_over=(0, 1)
    )
    assert uneven == {"Mean": 0.0}
    assert (
        keypoints_2d.pck(errors, np.zeros_like(counted), 0.5, groups={}, mean_over=(0, 1))["Mean"]
        is None
    )


def test_mean_weighs_joints_by_their_counts():
    errors = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    counted = np.array([[1, 1], [1, 0], [1, 0]], bool)
    scores = keypoints_2d.pck(errors, counted, 0.5, groups={"Pair": (0, 1)}, mean_over=(0, 1))
    assert scores == {"Pair": 50.0, "Mean": 75.0}


def standing(skeleton, count=5):
    """Joints at random, but for a torso of exactly 100 pixels (60 across, 80 down) and a head of
    20.
    """
    joints = np.random.default_rng(0).uniform(150, 350, (count, skeleton.num_joints, 2))
    index = skeleton.joints.index
    joints[:, index("right_hip")] = joints[:, index("left_shoulder")] + (-60, 80)
    if "head_top" in skeleton.joints:
        joints[:, index("head_top")] = joints[:, index("upper_neck")] + (12, -16)
    return joints


@pytest.mark.parametrize("skeleton", [MPII_16, COCO_17], ids=lambda skeleton: skeleton.name)
def test_truth_scores_100_and_shifts_by_their_length(skeleton):
    joints = standing(skeleton)
    persons = people(skeleton, joints, np.ones(joints.shape[:2], bool))
    protocol = pck.open_protocol(persons, views={"image": SIDE}, **SETTINGS)
    # 19 pixels of 100 are within 0.2 of the torso and 21 are not; two of the five persons are moved
    # too far.
    shift = np.array([0, 19, 21, 19, 21.0])[:, None, None] * np.array([0.6, 0.8])
    predictions = {
        "plain": answering(persons, joints, SIDE),
        "flip": answering(persons, joints + shift, SIDE),
    }
    record = json.loads(json.dumps(protocol.full(predictions, lambda chosen: chosen)))
    assert record["persons"] == 5
    groups = pck.joint_groups(skeleton)
    assert record["plain"] == dict.fromkeys([*groups, "Mean"], 100.0)
    assert protocol.row(record) == {"pck": 60.0}
    assert protocol.breakdown(record) == dict.fromkeys(groups, 60.0)
    assert (
        protocol.columns[0].header == "PCK@0.2" and protocol.breakdown_title == "PCK@0.2 by joint"
    )


def test_joint_groups():
    groups = pck.joint_groups(MPII_16)
    assert sorted(joint for joints in groups.values() for joint in joints) == [
        j for j in range(16) if j not in (6, 7)
    ]
    assert groups["Ankle"] == (0, 5) and groups["Head top"] == (9,)
    assert {
        len(joints) for name, joints in pck.joint_groups(COCO_17).items() if name != "Nose"
    } == {2}


def test_head_as_the_reference():
    joints = standing(MPII_16)
    persons = people(MPII_16, joints, np.ones(joints.shape[:2], bool))
    protocol = pck.open_protocol(
        persons, views={"image": SIDE}, flip=False, reference="head", threshold=0.5
    )
    np.testing.assert_allclose(protocol.lengths, 20, rtol=1e-5)
    everybody = np.arange(5)
    for shift, expected in ((9.9, 100.0), (10.1, 0.0)):
        assert (
            protocol.score(answering(persons, joints + (0, shift), SIDE), everybody)["Mean"]
            == expected
        )


def test_who_has_no_torso_or_no_joint_does_not_count():
    joints = standing(COCO_17, count=6)
    visible = np.ones(joints.shape[:2], bool)
    visible[1, COCO_17.joints.index("right_hip")] = False
    visible[2] = False
    visible[3, :5] = False
    visible[5, COCO_17.joints.index("left_shoulder")] = False
    joints[4, COCO_17.joints.index("left_shoulder")] = joints[4, COCO_17.joints.index("right_hip")]
    persons = people(COCO_17, joints, visible)
    protocol = pck.open_protocol(persons, views={"image": SIDE}, **SETTINGS)
    assert protocol.test_set == "6 persons, 2 of them with a torso length"
    wrong = joints + np.array([0, 500, 500, 0, 500, 500])[:, None, None]
    wrong[3, :5] += 500  # not labelled
    record = protocol.full({"flip": answering(persons, wrong, SIDE)}, lambda chosen: chosen)
    assert record["persons"] == 2 and protocol.row(record) == {"pck": 100.0}
    source, _ = protocol.quick(0)
    np.testing.assert_array_equal(source.examples, [0, 3])


def test_quick_spreads_over_the_persons():
    joints = standing(COCO_17, count=9)
    persons = people(COCO_17, joints, np.ones(joints.shape[:2], bool))
    protocol = pck.open_protocol(persons, views={"image": SIDE}, **SETTINGS)
    for count, expected in ((3, [0, 4, 8]), (0, range(9)), (100, range(9))):
        source, score = protocol.quick(count)
        np.testing.assert_array_equal(source.examples, expected)
        chosen = people(
            COCO_17,
            joints[expected],
            np.ones((len(source), 17), bool),
            center=persons.center[expected],
            scale=persons.scale[expected],
        )
        assert score(answering(chosen, joints[expected], SIDE)) == {protocol.best_metric: 100.0}
        assert len(source) == len(expected) and source.unit == protocol.unit == ("persons", 1)
    batch = protocol.quick(3)[0].gather(np.array([1]))
    np.testing.assert_allclose(
        batch["joints"], answering(persons, joints, SIDE)["joints"][[4]], atol=1e-3
    )


@pytest.mark.parametrize("name", ["joints", "scores"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_prediction_that_is_no_number(name, value):
    joints = standing(COCO_17)
    persons = people(COCO_17, joints, np.ones(joints.shape[:2], bool))
    protocol = pck.open_protocol(persons, views={"image": SIDE}, **SETTINGS)
    prediction = {key: np.array(array) for key, array in answering(persons, joints, SIDE).items()}
    prediction[name][3, 2] = value
    with pytest.raises(
        UserError,
        match=r"predicted .* of person 4 in '003.jpg' and of 0 more .*: check the checkpoint",
    ):
        protocol.score(prediction, np.arange(5))


def test_a_prediction_of_another_shape():
    joints = standing(COCO_17)
    protocol = pck.open_protocol(
        people(COCO_17, joints, np.ones(joints.shape[:2], bool)), views={"image": SIDE}, **SETTINGS
    )
    with pytest.raises(ValueError, match="holds no poses of 4 persons"):
        protocol.score({"joints": np.zeros((5, 17, 2)), "scores": np.zeros((5, 17))}, np.arange(4))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reference": "foot"}, "reference is 'foot': use one of"),
        ({"threshold": 0.0}, "threshold is 0.0: use"),
        ({"threshold": float("nan")}, "threshold is nan: use"),
        ({"flip": "yes"}, "flip is 'yes': set it to True or False"),
    ],
)
def test_bad_settings(changed, message):
    with pytest.raises(UserError, match=message):
        pck.check_settings(**(SETTINGS | changed))


def test_data_without_the_reference():
    joints = standing(COCO_17)
    persons = people(COCO_17, joints, np.ones(joints.shape[:2], bool))
    with pytest.raises(
        UserError, match="skeleton coco_17 has no upper_neck and no head_top: set it to 'torso'"
    ):
        pck.open_protocol(
            persons, views={"image": SIDE}, flip=True, reference="head", threshold=0.2
        )
    nobody = people(COCO_17, joints, np.zeros(joints.shape[:2], bool))
    with pytest.raises(
        UserError, match="No person of the split has both ends of the torso labelled"
    ):
        pck.open_protocol(nobody, views={"image": SIDE}, **SETTINGS)
    assert "left_shoulder" in H36M_17.joints  # the torso is named alike everywhere
