"""COCO's protocol: OKS and AP by hand, doubles, both kinds of boxes, stored annotations."""

import dataclasses
import io
import json
import math
import pathlib

import numpy as np
import pytest
from people import answering, people, shared_archive
from pycocotools.cocoeval import Params

from kdpose_jax.codecs import crops
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.metrics import coco_ap, keypoints_2d
from kdpose_jax.evaluate.protocols import coco
from kdpose_jax.skeletons import COCO_17, MPII_16

SIDE = 64
SIGMAS = np.array(COCO_17.oks_sigmas)
SETTINGS = {
    "flip": True,
    "boxes": "ground_truth",
    "joint_threshold": 0.02,
    "nms": "hard",
    "nms_threshold": 0.9,
}
TEN = {
    "ap",
    "ap_50",
    "ap_75",
    "ap_medium",
    "ap_large",
    "ar",
    "ar_50",
    "ar_75",
    "ar_medium",
    "ar_large",
}


def annotate(persons):
    """The annotations of these persons, one per picture or more, and one crowd that nothing is to
    be found in.
    """
    found = []
    for number in range(len(persons)):
        triples = np.concatenate(
            [persons.joints[number], 2 * persons.visible[number, :, None]], axis=-1
        )
        found.append(
            {
                "id": int(persons.person_id[number]),
                "image_id": int(persons.image_id[number]),
                "category_id": 1,
                "iscrowd": 0,
                "num_keypoints": int(persons.visible[number].sum()),
                "area": float(persons.area[number]),
                "bbox": [100.0, 100.0, 200.0, 300.0],
                "keypoints": triples.ravel().tolist(),
            }
        )
    crowd = {**found[0], "id": 999, "iscrowd": 1, "num_keypoints": 0, "keypoints": [0] * 51}
    images = sorted({one["image_id"] for one in found})
    return {"images": [{"id": number} for number in images], "annotations": [*found, crowd]}


@pytest.fixture
def joints():
    return np.random.default_rng(2).uniform(100, 400, (6, 17, 2))


def six(joints, **arrays):
    """Six persons in three pictures, half of them medium and half large.

    Four of them lack joints.
    """
    visible = np.ones((6, 17), bool)
    visible[1:5, 3:9] = False
    arrays = {
        "image_id": np.array([7, 7, 8, 8, 9, 9]),
        "area": np.array([5000, 20000] * 3, np.float32),
    } | arrays
    return people(COCO_17, joints, visible, **arrays)


def open_protocol(persons, detections=None, **changed):
    data = coco.CocoPersons(persons, detections, annotate(persons))
    return coco.open_protocol(data, views={"image": SIDE}, **(SETTINGS | changed))


def by_source(answers):
    """A `run` that answers for every source, by its identity."""
    return lambda _, source: next(answer for known, answer in answers if known is source)


def test_oks_by_hand():
    """A joint at a distance of 2 sigma sqrt(2 area) is worth 1/e."""
    area, counted = np.array([400.0, 400.0, 100.0]), np.ones((3, 17), bool)
    counted[1, 1:] = False
    counted[2] = False
    squared = np.zeros((3, 17))
    squared[:, 0] = 2 * 400 * (2 * SIGMAS[0]) ** 2
    found = keypoints_2d.object_keypoint_similarity(squared, area, counted, SIGMAS)
    np.testing.assert_allclose(found, [(16 + math.exp(-1)) / 17, math.exp(-1), 0], rtol=1e-12)
    everywhere = np.broadcast_to(2 * 400 * (2 * SIGMAS) ** 2, (3, 17))
    np.testing.assert_allclose(
        keypoints_2d.object_keypoint_similarity(everywhere, area, counted, SIGMAS)[0], math.exp(-1)
    )


def test_sigmas_are_cocos():
    np.testing.assert_allclose(SIGMAS, Params("keypoints").kpt_oks_sigmas, rtol=1e-12)


@pytest.mark.parametrize(("factor", "ap"), [(1.0, 0.5), (0.5, 0.0), (2.0, 0.9)])
def test_ap_goes_by_the_skeletons_sigmas(factor, ap):
    """The only person's joints are off so far that its OKS is 0.72 with COCO's sigmas.

    OKS is exp(-d^2 / (8 s^2 area)), hence 0.72^(1 / factor^2) with another s. AP is the share of
    the thresholds 0.50, 0.55, ..., 0.95 that it reaches.
    """
    skeleton = dataclasses.replace(COCO_17, oks_sigmas=tuple(factor * SIGMAS))
    truth = np.random.default_rng(4).uniform(100, 400, (1, 17, 2))
    persons = people(skeleton, truth, np.ones((1, 17), bool), area=np.array([20000], np.float32))
    protocol = open_protocol(persons)
    moved = truth.copy()
    moved[..., 0] += SIGMAS * math.sqrt(-8 * math.log(0.72) * 20000)
    answer = answering(persons, moved, SIDE)
    scores = protocol.score(answer, "ground_truth", np.arange(1), protocol.data.annotations)
    assert scores["ap"] == pytest.approx(ap, abs=1e-9)
    assert scores["oks"] == pytest.approx(0.72 ** (1 / factor**2), rel=1e-4)


def test_pose_similarity_takes_the_mean_area():
    poses = np.zeros((2, 17, 2))
    poses[1, :, 0] = 2 * SIGMAS * math.sqrt(2 * 300)
    similarity = keypoints_2d.pose_similarity(poses, np.array([100, 500]), SIGMAS)
    np.testing.assert_allclose(similarity, [[1, math.exp(-1)], [math.exp(-1), 1]], rtol=1e-12)


def test_rescore_by_hand():
    scores = keypoints_2d.rescore(
        np.array([0.5, 0.5, 1.0]),
        np.array([[0.8, 0.4, 0.2], [0.2, 0.1, 0.2], [0.2, 0.3, 0.0]]),
        0.2,
    )
    # A score of the threshold itself does not count.
    np.testing.assert_allclose(scores, [0.5 * 0.6, 0, 0.3])


def test_suppression_by_hand():
    similarity = np.array(
        [[1, 0.95, 0.2, 0.9], [0.95, 1, 0.95, 0.1], [0.2, 0.95, 1, 0.1], [0.9, 0.1, 0.1, 1]]
    )
    scores = np.array([0.9, 0.8, 0.7, 0.95])
    # 3 first; 0 is as similar as the threshold and stays; 1 falls to 0; 2 was only similar to 1.
    np.testing.assert_array_equal(keypoints_2d.suppress(similarity, scores, 0.9), [3, 0, 2])
    np.testing.assert_array_equal(keypoints_2d.suppress(np.eye(3), np.ones(3), 0.9), [2, 1, 0])
    # Softly: 0 is left with 0.9 exp(-0.9) = 0.37, so 1 goes first at 0.8 exp(-0.01 / 0.9), then 0
    # and 2 fall by exp(-0.95^2 / 0.9).
    np.testing.assert_array_equal(
        keypoints_2d.suppress_softly(similarity, scores, 0.9), [3, 1, 2, 0]
    )
    assert len(keypoints_2d.suppress_softly(np.eye(30), np.ones(30), 0.9)) == 20


def test_truth_scores_one(joints, capsys):
    persons = six(joints)
    protocol = open_protocol(persons)
    answers = by_source([(protocol.source, answering(persons, joints, SIDE))])
    record = json.loads(json.dumps(protocol.full({"plain": 0, "flip": 0}, answers)))
    assert record.keys() == {"plain", "flip"}
    scores = record["flip"]["ground_truth"]
    assert scores.keys() == TEN | {"oks", "persons", "kept"}
    assert (
        {scores[name] for name in TEN} == {1.0}
        and scores["oks"] == pytest.approx(1)
        and scores["kept"] == 6
    )
    assert protocol.row(record) == {"ap": 1.0, "ap_50": 1.0, "ap_75": 1.0, "ar": 1.0}
    assert protocol.breakdown(record) == {"medium": 1.0, "large": 1.0}
    assert [column.form(1.0) for column in protocol.columns] == ["100.0"] * 4
    assert protocol.test_set == "6 persons in 3 pictures"
    assert capsys.readouterr().out == ""


def test_one_moved_person_by_hand(joints):
    """At an OKS of 0.72 a person counts for the thresholds 0.5 to 0.7, 5 of the 10."""
    persons = six(joints)
    predicted = joints.copy()
    predicted[5, :, 0] += 2 * SIGMAS * math.sqrt(2 * 20000 * -math.log(0.72))
    protocol = open_protocol(persons)
    scores = np.ones((6, 17))
    scores[5] = 0.5  # last in the order, so that precision is 1 up to a recall of 5/6
    found = protocol.score(
        answering(persons, predicted, SIDE, scores),
        "ground_truth",
        np.arange(6),
        protocol.data.annotations,
    )
    assert found["oks"] == pytest.approx((5 + 0.72) / 6, abs=1e-5)
    assert (
        found["ar"] == pytest.approx((1 + 5 / 6) / 2)
        and found["ar_50"] == 1
        and found["ar_75"] == pytest.approx(5 / 6)
    )
    # Precision is read at the recalls 0, 0.01, ..., 1: 84 of 101 are at most 5/6.
    assert (
        found["ap"] == pytest.approx((1 + 84 / 101) / 2)
        and found["ap_50"] == 1
        and found["ap_75"] == pytest.approx(84 / 101)
    )
    assert found["ap_medium"] == 1 and found["ar_large"] == pytest.approx((1 + 2 / 3) / 2)


def test_doubles_of_a_detector(joints):
    """A second box around everybody: suppressed if its pose is the same, a false alarm if not."""
    persons = six(joints)
    twice = np.concatenate([joints, joints + 0.01])
    found = people(
        COCO_17,
        twice,
        np.zeros((12, 17), bool),
        image_id=np.tile(persons.image_id, 2),
        score=np.repeat([0.9, 0.6], 6).astype(np.float32),
    )
    protocol = open_protocol(persons, found, boxes="detections")
    split = {
        "ground_truth": answering(persons, joints, SIDE),
        "detections": answering(found, twice, SIDE),
    }
    answers = [(protocol.sources[boxes], answer) for boxes, answer in split.items()]
    record = json.loads(json.dumps(protocol.full({"flip": 0}, by_source(answers))))["flip"]
    assert record["detections"]["ap"] == record["ground_truth"]["ap"] == 1
    assert (
        record["detections"]["persons"],
        record["detections"]["kept"],
        record["detections"]["oks"],
    ) == (12, 6, None)
    assert (
        protocol.test_set == "6 persons and 12 detections in 3 pictures"
        and "a detector's boxes" in protocol.conditions
    )

    # False alarms above everybody: of n found persons the n-th is the (6 + n)-th detection,
    # precision 6/12 at best.
    swapped = dataclasses.replace(found, score=np.repeat([0.6, 0.9], 6).astype(np.float32))
    far = np.concatenate([joints, joints + 5000])
    scores = protocol_score(persons, swapped, far)
    assert scores["kept"] == 12 and scores["ar"] == 1 and scores["ap"] == pytest.approx(0.5)
    assert protocol_score(persons, found, far)["ap"] == 1  # below everybody they cost nothing


def protocol_score(persons, detections, joints, **changed):
    protocol = open_protocol(persons, detections, boxes="detections", **changed)
    prediction = answering(detections, joints, SIDE)
    return protocol.score(
        prediction, "detections", np.arange(len(detections)), protocol.data.annotations
    )


def test_soft_suppression_and_the_joint_threshold(joints):
    persons = six(joints)
    twice = np.concatenate([joints, joints])
    found = people(COCO_17, twice, np.zeros((12, 17), bool), image_id=np.tile(persons.image_id, 2))
    assert protocol_score(persons, found, twice)["kept"] == 6
    assert protocol_score(persons, found, twice, nms="soft")["kept"] == 12
    low = answering(persons, joints, SIDE, np.tile([0.3] * 16 + [0.1], (6, 1)))
    for threshold, expected in ((0.02, (16 * 0.3 + 0.1) / 17), (0.2, 0.3), (0.5, 0.0)):
        detections = coco_ap.detections_of(
            joints,
            low["scores"],
            image_id=persons.image_id,
            area=np.ones(6),
            box_score=persons.score,
            sigmas=SIGMAS,
            joint_threshold=threshold,
            nms="hard",
            nms_threshold=0.9,
        )
        assert [one["score"] for one in detections] == pytest.approx([expected] * 6)
        assert [one["image_id"] for one in detections] == [7, 7, 8, 8, 9, 9]


def test_quick_counts_the_chosen_alone(joints):
    persons = six(joints)
    protocol = open_protocol(persons)
    answer = answering(persons, joints + np.array([0, 0, 0, 0, 0, 900])[:, None, None], SIDE)
    source, score = protocol.quick(0)
    np.testing.assert_array_equal(source.examples, range(6))
    full = protocol.score(answer, "ground_truth", np.arange(6), protocol.data.annotations)
    assert score(answer) == {"ap": full["ap"], "oks": full["oks"]} and 0 < full["ap"] < 1
    assert protocol.best_metric in score(answer)
    source, score = protocol.quick(3)
    np.testing.assert_array_equal(source.examples, [0, 2, 5])
    chosen = {name: array[source.examples] for name, array in answer.items()}
    assert score(chosen)["oks"] == pytest.approx(2 / 3)
    # 2 of 3 found, ahead of the false alarm or level with it.
    assert score(chosen)["ap"] == pytest.approx(67 / 101)
    assert protocol.data.annotations == annotate(persons), "the stored annotations stay as they are"


def test_persons_without_a_visible_joint(joints):
    visible = np.ones((6, 17), bool)
    visible[3] = False
    persons = people(COCO_17, joints, visible, image_id=np.array([7, 7, 8, 8, 9, 9]))
    protocol = open_protocol(persons)
    np.testing.assert_array_equal(protocol.quick(0)[0].examples, [0, 1, 2, 4, 5])
    found = protocol.score(
        answering(persons, joints, SIDE), "ground_truth", np.arange(6), protocol.data.annotations
    )
    assert found["oks"] == pytest.approx(1) and found["ar"] == 1


def test_data_that_does_not_fit(joints):
    persons = six(joints)
    with pytest.raises(UserError, match="boxes is 'detections' and the records have no detections"):
        open_protocol(persons, boxes="detections")
    with pytest.raises(
        UserError,
        match="2 pictures of the detections boxes are not in the stored annotations, image_id 70 "
        "for one",
    ):
        open_protocol(
            persons, dataclasses.replace(persons, image_id=np.array([7, 7, 70, 70, 71, 71]))
        )
    with pytest.raises(
        UserError,
        match="needs the joints of coco_17 and this data set has mpii_16: set eval.protocol to "
        "'pck'",
    ):
        open_protocol(people(MPII_16, joints[:, :16], np.ones((6, 16), bool)))
    with pytest.raises(UserError, match="No person of the split has a labelled joint"):
        open_protocol(people(COCO_17, joints, np.zeros((6, 17), bool)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boxes": "all"}, "boxes is 'all': use one of"),
        ({"nms": "none"}, "nms is 'none': use one of"),
        ({"joint_threshold": 1.0}, "joint_threshold is 1.0: use"),
        ({"nms_threshold": 0.0}, "nms_threshold is 0.0: use"),
        ({"flip": None}, "flip is None: set it to True or False"),
    ],
)
def test_bad_settings(changed, message):
    with pytest.raises(UserError, match=message):
        coco.check_settings(**(SETTINGS | changed))


def broken(annotations, field, value):
    annotations["annotations"][2][field] = value
    return annotations


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: [], "holds no lists of images and annotations"),
        (lambda a: {"images": [], "annotations": {}}, "holds no lists of images and annotations"),
        (lambda a: {**a, "images": [{"id": "7"}]}, "has no id in image 0"),
        (lambda a: {**a, "annotations": [7]}, "has no annotation at 0"),
        (lambda a: broken(a, "area", None), "no 'area' .* in annotation 2"),
        (lambda a: broken(a, "bbox", [1, 2, 3]), "no 4 numbers as 'bbox' in annotation 2"),
        (
            lambda a: broken(a, "keypoints", ["1"] * 51),
            "no 51 numbers as 'keypoints' in annotation 2",
        ),
    ],
)
def test_damaged_annotations(tmp_path, joints, change, message):
    path = tmp_path / "test_annotations.json"
    path.write_text(json.dumps(annotate(six(joints))))
    assert len(coco_ap.read_annotations(str(path))["annotations"]) == 7
    path.write_text(json.dumps(change(annotate(six(joints)))))
    with pytest.raises(UserError, match=f"{message}: convert the data set again"):
        coco_ap.read_annotations(str(path))


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 200000])
def test_annotations_that_are_no_json(tmp_path, content):
    path = pathlib.Path(tmp_path, "test_annotations.json")
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as JSON"):
        coco_ap.read_annotations(str(path))
    with pytest.raises(
        UserError, match="There is no '.*gone.json', without which COCO's evaluation cannot run"
    ):
        coco_ap.read_annotations(str(tmp_path / "gone.json"))


def test_real_annotations():
    """Truth as prediction on 80 persons of COCO's val2017, crowds and unlabelled persons around
    them; noise lowers it.
    """
    with shared_archive("coco_mini.zip").open("annotations/person_keypoints_val2017.json") as file:
        annotations = json.load(io.TextIOWrapper(file, "utf-8"))
    listed = [
        one for one in annotations["annotations"] if not one["iscrowd"] and one["num_keypoints"]
    ]
    triples = np.array([one["keypoints"] for one in listed], np.float64).reshape(-1, 17, 3)
    centers, scales = zip(*(crops.box_to_crop(one["bbox"], 1.0) for one in listed), strict=True)
    persons = people(
        COCO_17,
        triples[..., :2],
        triples[..., 2] > 0,
        center=np.array(centers, np.float32),
        scale=np.array(scales, np.float32),
        image_id=np.array([one["image_id"] for one in listed]),
        person_id=np.array([one["id"] for one in listed]),
        area=np.array([one["area"] for one in listed], np.float32),
    )
    assert coco_ap.find_problem(annotations) == ""
    protocol = coco.open_protocol(
        coco.CocoPersons(persons, None, annotations), views={"image": SIDE}, **SETTINGS
    )
    source, score = protocol.quick(0)
    assert len(source) == 80
    assert score(answering(persons, triples[..., :2], SIDE)) == pytest.approx(
        {"ap": 1.0, "oks": 1.0}, abs=1e-6
    )
    deviation = np.sqrt(persons.area)[:, None, None] * SIGMAS[:, None]
    noisy = triples[..., :2] + np.random.default_rng(0).normal(size=(80, 17, 2)) * deviation
    found = score(answering(persons, noisy, SIDE))
    # The mean of exp(-(u^2 + v^2) / 8) for normal u and v is 1 / (1 + 1/4)
    assert found["oks"] == pytest.approx(0.8, abs=0.02)
    assert 0.5 < found["ap"] < 0.95


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4, 5], [4, 4, 4, 4, 4, 4], [-3, -2, -1, 0, 1, 2]])
def test_ids_of_annotations_do_not_change_the_scores(joints, ids):
    """Records that exist hold ids as the file had them; pycocotools takes a match with id 0 for
    none."""
    persons = six(joints, person_id=np.array(ids))
    protocol = open_protocol(persons)
    scores = protocol.score(
        answering(persons, joints, SIDE), "ground_truth", np.arange(6), protocol.data.annotations
    )
    assert {scores[name] for name in TEN} == {1.0}
    chosen, score = protocol.quick(3)  # in pictures 7, 8 and 9
    answer = {
        name: array[chosen.examples] for name, array in answering(persons, joints, SIDE).items()
    }
    if len(set(ids)) == 6:
        assert score(answer)["ap"] == 1.0
