"""Boxes against joints and photographs: what is refused, by the reading that fits, and what
passes."""

import numpy as np
import pytest

from data_prep import boxes
from kdpose_jax.errors import UserError

WIDTH, HEIGHT = 640.0, 480.0


def persons(count, seed=0, joints=17):
    """Boxes (x, y, width, height) in photographs of 640 x 480, joints in them, a fifth of them
    unlabelled."""
    generator = np.random.default_rng(seed)
    size = generator.uniform([50, 90], [180, 260], (count, 2))
    corner = generator.uniform([20, 10], [WIDTH, HEIGHT] - size - 10)
    places = corner[:, None] + size[:, None] * generator.uniform(0.05, 0.95, (count, joints, 2))
    return (
        np.hstack([corner, size]),
        places,
        generator.uniform(size=(count, joints)) > 0.2,
        np.tile([WIDTH, HEIGHT], (count, 1)),
    )


def check(stated, where, readings=boxes.BOXES):
    _, joints, visible, sizes = where
    return boxes.check_annotated(stated, readings, joints, visible, sizes, "f.json")


def readings_of(box):
    """The same boxes as other tools write them, worked out here, -> the words of the refusal."""
    x, y, w, h = box.T
    return {
        "x1, y1, x2, y2": np.stack([x, y, x + w, y + h], 1),
        "centre x, centre y, width, height": np.stack([x + w / 2, y + h / 2, w, h], 1),
        "y, x, height, width": np.stack([y, x, h, w], 1),
        "y1, x1, y2, x2": np.stack([y, x, y + h, x + w], 1),
        "x1, x2, y1, y2": np.stack([x, x + w, y, y + h], 1),
        "centre x, centre y and sizes in units of 200 pixels": np.stack(
            [x + w / 2, y + h / 2, w / 200, h / 200], 1
        ),
    }


def test_what_the_layout_says_passes():
    for count in (1, 2, 3, 300):
        for seed in range(20 if count < 300 else 1):
            where = persons(count, seed)
            assert check(where[0], where) == []


@pytest.mark.parametrize("name", readings_of(np.zeros((0, 4))))
def test_other_readings_are_named(name):
    where = persons(200)
    with pytest.raises(
        UserError,
        match=f"f.json': 1?[0-9]+ of 200 boxes fit the labelled joints as {name} and not as x, y, "
        f"width, height",
    ):
        check(readings_of(where[0])[name], where)
    for seed in range(10):  # of a few, something is said at least
        few = persons(3, seed)
        try:
            said = check(readings_of(few[0])[name], few)
        except UserError:
            continue
        own = np.median(
            boxes.overlap(
                boxes._corner(readings_of(few[0])[name]), boxes.squares_of_joints(few[1], few[2])
            )
        )
        assert said or own > 0.4, "a box that is nearly the right one may pass"


def test_fractions_are_refused():
    box, joints, visible, sizes = persons(2)
    with pytest.raises(
        UserError,
        match="2 of 2 boxes lie in the first 2 pixels, as fractions of width and height do",
    ):
        boxes.check_annotated(
            box / np.tile(sizes, 2), boxes.BOXES, joints, visible, sizes, "f.json"
        )
    with pytest.raises(UserError, match="the joints of 2 of 2 persons lie in the first 2 pixels"):
        boxes.check_annotated(box, boxes.BOXES, joints / sizes[:, None], visible, sizes, "f.json")


def mpii(count):
    """Centre and scale as MPII has them."""
    where = persons(count, joints=16)
    box = where[0]
    return np.hstack([box[:, :2] + box[:, 2:] / 2, box[:, 3:] / 200]), where


@pytest.mark.parametrize("count", [2, 50])
def test_scales(count):
    stated, where = mpii(count)
    assert check(stated, where, boxes.CENTRES) == []
    for wrong, words in (
        (stated * [1, 1, 200], "a centre and a scale in pixels"),
        (stated[:, [1, 0, 2]], r"a centre \(y, x\) in pixels"),
        (stated / [200, 200, 1], ""),
    ):
        try:
            said = check(wrong, where, boxes.CENTRES)
            assert count == 2 and said
        except UserError as error:
            assert words.replace("\\", "") in str(error)


def test_photographs_and_joints_of_different_sizes():
    box, joints, visible, sizes = persons(30)
    with pytest.raises(
        UserError,
        match="% of the labelled joints lie outside their photographs: give the photographs of the "
        "size",
    ):
        boxes.check_annotated(box, boxes.BOXES, joints, visible, sizes / 4, "f.json")
    with pytest.raises(
        UserError,
        match="boxes of [0-9]+ of 30 persons show less than half of their labelled joints: give "
        "boxes and joints",
    ):
        boxes.check_annotated(box / 2, boxes.BOXES, joints, visible, sizes, "f.json")
    box[7] = [5, 5, 20, 20]
    assert boxes.check_annotated(box, boxes.BOXES, joints, visible, sizes, "f.json")[-1] == (
        "the boxes of 1 of 30 persons show less than half of their labelled joints"
    )


def test_boxes_of_whole_persons_may_leave_the_photograph():
    """Where they fit the joints, far beyond is only counted."""
    box, joints, visible, sizes = persons(30)
    far = np.tile([WIDTH / 2, HEIGHT / 2], (30, 1))
    notes = boxes.check_annotated(
        box,
        boxes.BOXES,
        np.clip(joints, 0, far[:, None]),
        visible & (joints < far[:, None]).all(-1),
        far,
        "f",
    )
    assert any(
        "boxes reach beyond their photograph by more than a tenth of its side" in note
        for note in notes
    )


def detect(stated, box, sizes):
    """`stated`: as many boxes of every photograph, each of which has one annotated person,
    `box`."""
    owners, each = np.arange(len(box)), len(stated) // len(box)
    return boxes.check_detected(
        stated, np.repeat(owners, each), box, owners, np.repeat(sizes, each, 0), "d.json"
    )


def test_detections_are_compared_with_the_annotated_persons():
    """Corners that stay within the photograph, which only persons can show; false alarms beside
    every true box."""
    box, _, _, sizes = persons(40)
    box[:, :2] *= 0.3
    alarms = persons(40, seed=5)[0]
    assert detect(np.stack([box, alarms], 1).reshape(-1, 4), box, sizes) == []
    for name, other in readings_of(box).items():
        with pytest.raises(UserError, match=f"boxes fit the annotated persons as {name}"):
            detect(other, box, sizes)
    # nobody is annotated there: the photograph alone tells
    corners = readings_of(persons(40)[0])["x1, y1, x2, y2"]
    with pytest.raises(
        UserError, match="boxes reach beyond their photograph .*: are they x1, y1, x2, y2?"
    ):
        boxes.check_detected(
            corners, np.arange(40), np.zeros((0, 4)), np.zeros(0, int), sizes, "d.json"
        )


def test_detections_of_other_pictures_are_doubted():
    box, _, _, sizes = persons(40)
    assert any(
        "of 40 annotated persons have no box on them" in note
        for note in detect(persons(40, seed=9)[0] * [1, 1, 0.2, 0.2], box, sizes)
    )
