"""Generated photographs.

The labels agree with what is painted, and the files with the layouts of MPII and COCO.
"""

import hashlib
import json
import pathlib

import cv2
import numpy as np
import pytest
import scipy.io

from data_prep.people import bodies, painting, scenes
from data_prep.people import generate as people
from kdpose_jax import files, skeletons
from kdpose_jax.errors import UserError

SETTINGS = dict(
    train_pictures=5, val_pictures=2, test_pictures=4, picture_size=160, seed=3, workers=1
)
# MPII's names in the order of its file (docs/methods/pose2d.md#mpii), and COCO's.
MPII_ORDER = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck "
    "head_top right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist"
).split()
COCO_ORDER = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
    "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle"
).split()
# What meets in a joint, painted; the chest's side covers a shoulder, the pelvis a hip.
MEETING = {
    f"{side}_{joint}": [f"{side}_{part}" for part in parts] + trunk
    for side in ("left", "right")
    for joint, parts, trunk in (
        ("shoulder", ["upper_arm"], ["chest"]),
        ("elbow", ["upper_arm", "forearm"], []),
        ("wrist", ["forearm", "hand"], []),
        ("hip", ["thigh"], ["pelvis", "belly"]),
        ("knee", ["thigh", "shank"], []),
        ("ankle", ["shank", "foot"], []),
    )
}


def contents(folder: pathlib.Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def mpii(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "mpii"
    people.write_layout(str(folder), layout="mpii", **SETTINGS)
    return folder


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "coco"
    people.write_layout(str(folder), layout="coco", **SETTINGS)
    return folder


@pytest.fixture(scope="module")
def photographs():
    return [scenes.photograph(11, "train", index, 256) for index in range(24)]


def test_the_orders_of_the_joints():
    assert (
        list(skeletons.MPII_16.joints) == MPII_ORDER
        and list(skeletons.COCO_17.joints) == COCO_ORDER
    )


def test_two_processes_and_another_run_write_the_same_bytes(mpii, tmp_path):
    people.write_layout(
        str(tmp_path / "again"), layout="mpii", **SETTINGS | dict(workers=2, train_pictures=20)
    )
    again, first = contents(tmp_path / "again"), contents(mpii)
    same = [
        name
        for name in first
        if name.startswith("images")
        or name.endswith(("held_out.json", "valid.json", "gt_valid.mat"))
    ]
    assert len(same) == 14 and all(again[name] == first[name] for name in same)
    assert json.loads((tmp_path / "again/annot/train.json").read_text())[:5] == json.loads(
        (mpii / "annot/train.json").read_text()
    )


def test_another_seed_is_another_picture():
    first, other = scenes.photograph(3, "train", 0, 96), scenes.photograph(4, "train", 0, 96)
    assert (
        first.image.shape != other.image.shape
        or np.abs(first.image.astype(int) - other.image).mean() > 5
    )
    test = scenes.photograph(3, "test", 0, 96)
    assert (
        first.image.shape != test.image.shape
        or np.abs(first.image.astype(int) - test.image).mean() > 5
    )


def test_a_finished_folder_is_left_alone_and_another_is_refused(mpii, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in mpii.rglob("*")}
    people.write_layout(str(mpii), layout="mpii", **SETTINGS)
    assert before == {path: path.stat().st_mtime_ns for path in mpii.rglob("*")}
    for change in (dict(seed=4), dict(picture_size=128), dict(layout="coco")):
        with pytest.raises(UserError, match=f"differs in {next(iter(change))}"):
            people.write_layout(str(mpii), **dict(layout="mpii") | SETTINGS | change)
    (tmp_path / "holiday.jpg").write_text("a user's own")
    with pytest.raises(UserError, match="holds other files"):
        people.write_layout(str(tmp_path), layout="mpii", **SETTINGS)


def test_a_run_killed_before_its_first_file_goes_on(tmp_path):
    """The name of the part is the one that the writer of small files gives it, whatever that is."""
    settings = dict(layout="mpii") | SETTINGS | dict(train_pictures=1, test_pictures=1)
    (tmp_path / ".lock").write_text("")
    files.partial_name(tmp_path / "people.json").write_text('{"sett')
    (tmp_path / ".people.json.4711.partial").write_text('{"sett')  # as an earlier version named it
    people.write_layout(str(tmp_path), **settings)
    assert json.loads((tmp_path / "people.json").read_text())["finished"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annot", "images", "people.json"]


def test_what_a_kill_left_goes_at_the_next_start(tmp_path):
    settings = dict(layout="mpii") | SETTINGS | dict(train_pictures=1, test_pictures=1)
    people.write_layout(str(tmp_path), **settings)
    whole = contents(tmp_path)
    for finished in (True, False):
        path = tmp_path / "people.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": finished}))
        (tmp_path / ".lock").write_text("")
        files.partial_name(tmp_path / "annot" / "train.json").write_text("[")
        people.write_layout(str(tmp_path), **settings)
        assert contents(tmp_path) == whole


def test_an_interrupted_run_goes_on(mpii, tmp_path):
    folder = tmp_path / "half"
    (folder / "images").mkdir(parents=True)
    settings = dict(layout="mpii") | {
        name: value for name, value in SETTINGS.items() if name != "workers"
    }
    (folder / "people.json").write_text(json.dumps({"settings": settings, "finished": False}))
    (folder / "images/000000001.jpg").write_bytes(b"cut off")
    people.write_layout(str(folder), layout="mpii", **SETTINGS)
    assert contents(folder) == contents(mpii)


@pytest.mark.parametrize(
    "setting",
    [
        dict(train_pictures=0),
        dict(val_pictures=0),
        dict(test_pictures=0),
        dict(picture_size=8),
        dict(seed=-1),
        dict(layout="lsp"),
    ],
)
def test_settings_out_of_range(tmp_path, setting):
    with pytest.raises(UserError, match=f"--{next(iter(setting)).replace('_', '-')} "):
        people.write_layout(str(tmp_path / "data"), **dict(layout="mpii") | SETTINGS | setting)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("valid", 4)])
def test_mpii_files(mpii, split, count):
    records = json.loads((mpii / f"annot/{split}.json").read_text())
    assert len(records) == count
    for record in records:
        image = cv2.imread(str(mpii / "images" / record["image"]))
        height, width, _ = image.shape
        assert max(width, height) == 160 and image.std() > 10
        joints, visible = np.asarray(record["joints"]), np.asarray(record["joints_vis"])
        assert joints.shape == (16, 2) and set(visible.tolist()) <= {0, 1} and visible.sum() >= 6
        # Coordinates start at 1.
        assert ((joints[visible == 1] >= 1) & (joints[visible == 1] <= [width, height])).all()
        np.testing.assert_array_equal(joints[visible == 0], -1)
        # As the reader of HRNet takes it: the joints within the square of 250 scale around the
        # shifted centre.
        center = np.asarray(record["center"]) + [0, 15 * record["scale"]]
        assert np.abs(joints[visible == 1] - center).max() <= 100 * record["scale"] + 2
        assert 0.2 < record["scale"] * 200 / 160 <= 1


def test_mpii_test_set_for_pckh(mpii):
    stored = scipy.io.loadmat(str(mpii / "annot/gt_valid.mat"))
    records = json.loads((mpii / "annot/valid.json").read_text())
    names = stored["dataset_joints"]
    for name, index in (
        ("head", 9),
        ("lsho", 13),
        ("rsho", 12),
        ("lwri", 15),
        ("rank", 0),
        ("lhip", 3),
        ("rkne", 1),
        ("relb", 11),
    ):
        assert np.where(names == name)[1][0] == index  # as HRNet's evaluation looks them up
    shapes = {"jnt_missing": (16, 4), "pos_gt_src": (16, 2, 4), "headboxes_src": (2, 2, 4)}
    assert {name: stored[name].shape for name in shapes} == shapes
    for index, record in enumerate(records):
        np.testing.assert_array_equal(1 - stored["jnt_missing"][:, index], record["joints_vis"])
        np.testing.assert_array_equal(stored["pos_gt_src"][..., index], record["joints"])
        low, high = stored["headboxes_src"][..., index]
        for joint in (8, 9):
            if record["joints_vis"][joint]:
                point = np.asarray(record["joints"][joint])
                assert (low <= point + 1e-3).all() and (point - 1e-3 <= high).all()
        assert 0.04 < 0.6 * np.linalg.norm(high - low) / (200 * record["scale"]) < 0.35


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 4)])
def test_coco_files(coco, split, count):
    table = json.loads((coco / f"annotations/person_keypoints_{split}2017.json").read_text())
    assert (
        len(table["images"]) == count
        and table["categories"][0]["keypoints"] == COCO_ORDER
        and table["categories"][0]["id"] == 1
    )
    images = {image["id"]: image for image in table["images"]}
    assert (
        len({entry["id"] for entry in table["annotations"]}) == len(table["annotations"]) >= count
    )
    for image in images.values():
        assert image["file_name"] == f"{image['id']:012d}.jpg"
        assert cv2.imread(str(coco / f"{split}2017" / image["file_name"])).shape == (
            image["height"],
            image["width"],
            3,
        )
    for entry in table["annotations"]:
        image, keypoints = images[entry["image_id"]], np.asarray(entry["keypoints"]).reshape(17, 3)
        assert (
            entry["num_keypoints"] == (keypoints[:, 2] > 0).sum()
            and entry["iscrowd"] == 0
            and entry["category_id"] == 1
        )
        assert (
            set(keypoints[:, 2].tolist()) <= {0, 1, 2} and not keypoints[keypoints[:, 2] == 0].any()
        )
        left, top, width, height = entry["bbox"]
        assert (
            left >= 0
            and top >= 0
            and left + width <= image["width"]
            and top + height <= image["height"]
        )
        assert 0 < entry["area"] <= width * height
        seen = keypoints[keypoints[:, 2] == 2, :2]
        assert ((seen >= [left - 1, top - 1]) & (seen <= [left + width, top + height])).all()


def test_both_layouts_show_the_same_people(mpii, coco):
    common = [
        (MPII_ORDER.index(name), COCO_ORDER.index(name))
        for name in MPII_ORDER
        if name in COCO_ORDER
    ]
    assert len(common) == 12
    for ours, theirs, split in (("train", "train", "train2017"), ("valid", "val", "val2017")):
        records = json.loads((mpii / f"annot/{ours}.json").read_text())
        table = json.loads((coco / f"annotations/person_keypoints_{theirs}2017.json").read_text())
        # The first of each picture.
        in_focus = {entry["image_id"]: entry for entry in reversed(table["annotations"])}
        for record, image in zip(records, table["images"], strict=True):
            assert (mpii / "images" / record["image"]).read_bytes() == (
                coco / split / image["file_name"]
            ).read_bytes()
            keypoints = np.asarray(in_focus[image["id"]]["keypoints"]).reshape(17, 3)
            for one, other in common:
                assert (keypoints[other, 2] > 0) == record["joints_vis"][one]
                if record["joints_vis"][one]:
                    np.testing.assert_allclose(
                        np.asarray(record["joints"][one]) - 1, keypoints[other, :2], atol=2e-3
                    )


def test_joints_lie_under_what_is_painted_of_them():
    """Of a body alone.

    Every joint's pixel shows the body, in front of the joint, and right in front of it a part that
    meets there.
    """
    below = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        body = bodies.make_body(rng, np.zeros(2))
        turn = rng.uniform(0, 2 * np.pi)
        position = np.asarray([4 * np.cos(turn), 4 * np.sin(turn), 1.2])
        view = painting.looking(
            position, body.joints["pelvis"], 0.0, 300.0, np.asarray([160.0, 160.0]), (320, 320)
        )
        canvas = painting.Canvas(view, np.asarray([0.0, 0, 1]), 0.5)
        bodies.paint_body(canvas, body, 0)
        for name, part_names in MEETING.items():
            depth = view.to_camera(body.joints[name])[2]
            column, row = np.round(view.project(body.joints[name])).astype(int)
            _, part = bodies.seen_part(canvas.label[row, column])
            assert part >= 0 and canvas.depth[row, column] < depth
            if depth - canvas.depth[row, column] < 0.07:  # no other limb fits in between
                assert bodies.PARTS[part] in part_names
                below += 1
    assert below > 150  # of 30 x 12, shoulders and hips being deeper


def test_left_and_right_are_where_the_body_faces():
    for seed in range(10):
        joints = bodies.make_body(np.random.default_rng(seed), np.zeros(2)).joints
        ears = joints["left_ear"] - joints["right_ear"]
        ahead = joints["nose"] - (joints["left_ear"] + joints["right_ear"]) / 2
        upward = joints["head_top"] - joints["upper_neck"]
        assert np.cross(ahead, upward) @ ears < 0  # right is ahead x up
        assert (joints["left_eye"] - joints["right_eye"]) @ ears > 0 and (
            joints["left_shoulder"] - joints["right_shoulder"]
        ) @ ears > 0
        assert 0.18 < np.linalg.norm(upward) < 0.26


def test_a_joint_that_nothing_covers_is_seen_and_one_behind_a_thing_is_not(photographs):
    hidden = 0
    for photograph in photographs:
        owners, _ = bodies.seen_part(photograph.label)
        for index, person in enumerate(photograph.people):
            assert person.seen <= person.inside
            for name in person.inside:
                column, row = np.round(person.joints[name]).astype(int)
                if owners[row, column] != index:
                    assert name not in person.seen
                    hidden += 1
            # Limbs lie within the outline of their person, hidden or not.
            for name in person.inside - {"head_top", *[name for name in bodies.FACE]}:
                column, row = person.joints[name]
                assert (
                    person.box[0] <= column + 1
                    and column - 1 <= person.box[2]
                    and person.box[1] <= row + 1
                    and row - 1 <= person.box[3]
                )
    assert hidden > 20


def test_the_person_in_focus_can_be_recognised(photographs):
    for photograph in photographs:
        owners, parts = bodies.seen_part(photograph.label)
        person = photograph.people[0]
        assert photograph.image.dtype == np.uint8 and photograph.image.shape == (
            *photograph.label.shape,
            3,
        )
        assert (owners == 0).sum() == person.seen_area > 0.015 * owners.size
        assert len(set(parts[owners == 0].tolist())) >= 6
        assert len(person.inside) >= 8
    sizes = [
        np.ptp(photograph.people[0].box.reshape(2, 2), axis=0).max() for photograph in photographs
    ]
    assert np.std(sizes) > 15  # several scales
    assert len({photograph.image.shape for photograph in photographs}) > 2


def test_the_head_box_is_around_the_painted_head(photographs):
    compared = 0
    for photograph in photographs:
        owners, parts = bodies.seen_part(photograph.label)
        for index, person in enumerate(photograph.people):
            x0, y0, x1, y1 = person.head_box
            for name in ("head_top", "upper_neck"):
                column, row = person.joints[name]
                assert x0 <= column <= x1 and y0 <= row <= y1
            rows, columns = np.nonzero((owners == index) & (parts == bodies.PARTS.index("head")))
            if len(rows) < 30:
                continue
            # Long hair, a cap's brim and the nose stand out of it a little.
            grow = 0.3 * max(x1 - x0, y1 - y0)
            outside = (columns < x0 - 1) | (columns > x1 + 1) | (rows < y0 - 1) | (rows > y1 + 1)
            assert (
                outside.mean() < 0.35
                and columns.min() > x0 - grow - 2
                and columns.max() < x1 + grow + 2
            )
            compared += 1
    assert compared >= 24


def test_a_camera_projects_by_hand():
    view = painting.looking(
        np.asarray([0.0, -4, 1]),
        np.asarray([0.0, 0, 1]),
        0.0,
        200.0,
        np.asarray([80.0, 60.0]),
        (160, 120),
    )
    # Looking along y: x is to the right, z up.
    points = np.asarray([[0.0, 0, 1], [1, 0, 1], [0, 0, 2], [1, 4, 1]])
    np.testing.assert_allclose(view.project(points), [[80, 60], [130, 60], [80, 10], [105, 60]])
    canvas = painting.Canvas(view, np.asarray([0.0, 0, 1]), 0.5)
    grey = painting.textured(np.random.default_rng(0), np.ones(3), np.ones(3), "plain", 1.0, 0.0)
    canvas.ellipsoid(np.asarray([0.0, 0, 1]), np.eye(3), np.asarray([0.4, 0.4, 0.4]), grey, 1, 0)
    # A sphere's outline is a circle of focal x r / sqrt(d^2 - r^2) pixels, its nearest point at d -
    # r.
    radius = 200 * 0.4 / np.sqrt(4**2 - 0.4**2)
    np.testing.assert_allclose((canvas.label == 1).sum(), np.pi * radius**2, rtol=0.03)
    np.testing.assert_allclose(canvas.depth[60, 80], 3.6, atol=1e-5)
    canvas.capsule(
        np.asarray([-0.4, -1, 1]),
        np.asarray([0.4, -1.0, 1]),
        (0.1, 0.1),
        np.eye(3)[[0, 1]],
        grey,
        2,
        1,
    )
    # In front: 0.8 m long and 0.2 m wide at 3 m, with round ends.
    scale = 200 / 3
    np.testing.assert_allclose(
        (canvas.label == 2).sum(), (0.8 * 0.2 + np.pi * 0.1**2) * scale**2, rtol=0.04
    )
    np.testing.assert_allclose(canvas.depth[60, 80], 2.9, atol=1e-5)
    assert canvas.covered[0].sum() > (canvas.label == 1).sum()
