"""2D against 3D: what fits is passed in silence, and each way of not fitting is told by its name or
refused.
"""

import dataclasses
import json
import re

import numpy as np
import pytest

from data_prep import fitting
from data_prep.human36m import convert as human36m
from data_prep.human36m import files
from data_prep.mpi_inf_3dhp import release
from data_prep.mpi_inf_3dhp.views import View, pair_of
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import COCO_17, H36M_17, MPII_16

WIDTH, HEIGHT = 1280, 720
FRAMES = 80
# Places of Human3.6M's 17 joints in a standing body that faces +x, metres.
BODY = np.asarray(
    [
        [0, 0, 0.93],
        [0, -0.12, 0.93],
        [0, -0.12, 0.5],
        [0, -0.13, 0.09],
        [0, 0.12, 0.93],
        [0, 0.12, 0.5],
        [0, 0.13, 0.09],
        [0, 0, 1.17],
        [0, 0, 1.42],
        [0.04, 0, 1.53],
        [0, 0, 1.65],
        [0, 0.18, 1.4],
        [0.03, 0.25, 1.13],
        [0.1, 0.28, 0.9],
        [0, -0.18, 1.4],
        [0.03, -0.25, 1.13],
        [0.1, -0.28, 0.9],
    ]
)


def motion(seed, frames=FRAMES):
    """World `[F, 17, 3]`: the body turns, sways, walks a little, and swings its right arm and left
    leg.
    """
    t = np.arange(frames) / 50
    pose = np.repeat(BODY[None], frames, axis=0)
    for joints, pivot, sign in (((15, 16), 14, 1), ((5, 6), 4, -1)):
        angle = sign * (0.5 + 0.6 * np.sin(5 * t + seed))[:, None, None]
        arm = pose[:, list(joints)] - pose[:, [pivot]]
        x, z = arm[..., :1], arm[..., 2:]
        turned = np.concatenate(
            [
                np.cos(angle) * x - np.sin(angle) * z,
                arm[..., 1:2],
                np.sin(angle) * x + np.cos(angle) * z,
            ],
            axis=-1,
        )
        pose[:, list(joints)] = turned + pose[:, [pivot]]
    turn = 0.8 * np.sin(1.1 * t + seed) + seed
    c, s = np.cos(turn)[:, None], np.sin(turn)[:, None]
    x, y = pose[..., 0].copy(), pose[..., 1].copy()
    pose[..., 0], pose[..., 1] = c * x - s * y + 0.5 * np.sin(1.7 * t)[:, None], s * x + c * y
    return pose


def camera(azimuth):
    """Rotation (world to camera) and t of a camera four metres and a half away."""
    place = np.asarray([4.5 * np.cos(azimuth), 4.5 * np.sin(azimuth), 1.3])
    z = np.asarray([0, 0, 0.9]) - place
    z /= np.linalg.norm(z)
    x = np.cross(z, [0, 0, 1])
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    return rotation, -rotation @ place


def see(pose, view):
    rotation, t = view
    local = pose @ rotation.T + t
    return (local[..., :2] / local[..., 2:] * 900 + [WIDTH / 2, HEIGHT / 2]).astype(np.float32)


VIEWS = [camera(0.3 + 1.5 * index) for index in range(3)]
TAKES = {
    subject: {f"walk_{take}": motion(2.0 * number + take) for take in (1, 2, 3)}
    for number, subject in enumerate(("P1", "P2"))
}


def entry(view, **place):
    return {"w": WIDTH, "h": HEIGHT, "f": [900, 900], "c": [WIDTH / 2, HEIGHT / 2]} | (
        place or {"R": view[0].tolist(), "t": view[1].tolist()}
    )


def detections(noise=0.0):
    rng = np.random.default_rng(3)
    found = {
        who: {take: [see(pose, view) for view in VIEWS] for take, pose in takes.items()}
        for who, takes in TAKES.items()
    }
    for takes in found.values():
        for views in takes.values():
            for view in views:
                view += rng.normal(0, 1, view.shape) * noise
    return found


METADATA = {
    "num_joints": 17,
    "layout_name": "h36m",
    "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
}


@pytest.fixture
def load(tmp_path):
    """Writes files and reads them as the converter does."""

    def read(two_d, *, takes=TAKES, metadata=METADATA, table=None, name="lab"):
        np.savez(tmp_path / f"data_3d_{name}.npz", positions_3d=takes)
        (tmp_path / f"data_2d_{name}_gt.npz").unlink(missing_ok=True)
        if two_d is not None:
            np.savez(tmp_path / f"data_2d_{name}_gt.npz", positions_2d=two_d, metadata=metadata)
        table = (
            {who: [entry(view) for view in VIEWS] for who in ("P1", "P2")}
            if table is None
            else table
        )
        (tmp_path / "cameras.json").write_text(json.dumps(table))
        source = files.find_files(str(tmp_path), "gt", None, ("P2",), None)
        recordset = human36m._load(source, "gt", 50.0)
        *notes, without_val = recordset.described["notes"]  # there is one training subject
        assert without_val.startswith("no split 'val', as P1 is the only training subject")
        described = {**recordset.described, "notes": notes}
        return dataclasses.replace(recordset, described=described)

    return read


def each(change, found):
    """`change` applied to every view."""
    return {
        who: {take: [change(view) for view in views] for take, views in takes.items()}
        for who, takes in found.items()
    }


def test_what_fits_is_passed_in_silence(load):
    for noise in (0.0, 5.0):
        recordset = load(detections(noise))
        assert recordset.described == {"fps": 50.0, "notes": []} and recordset.left_out == []
        assert {split: len(views) for split, views in recordset.items.items()} == {
            "train": 9,
            "test": 9,
        }
    recordset = load(None)
    assert recordset.described["notes"] == []


def in_order(names, extra):
    """2D of joints in another order: what Human3.6M does not have is near the head."""

    def change(view):
        return np.stack(
            [
                view[:, H36M_17.joints.index(name)]
                if name in H36M_17.joints
                else view[:, 10] + 3 * index
                for index, name in enumerate((*names, *extra))
            ],
            axis=1,
        )

    return change


SIDES = [(side, part) for part in ("shoulder", "elbow", "wrist") for side in ("right", "left")]
BODY_25 = [
    "nose",
    "neck_base",
    *(f"right_{part}" for part in ("shoulder", "elbow", "wrist")),
    *(f"left_{part}" for part in ("shoulder", "elbow", "wrist")),
    "middle",
    *(f"right_{part}" for part in ("hip", "knee", "ankle")),
    *(f"left_{part}" for part in ("hip", "knee", "ankle")),
    "right_eye",
    "left_eye",
]
OPENPOSE_18 = [name for name in BODY_25 if name != "middle"] + ["right_ear"]
PANOPTIC = [
    "base",
    "nose",
    "middle",
    *(f"left_{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    *(f"right_{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    "left_eye",
    "left_ear",
]
LSP = [
    "right_ankle",
    "right_knee",
    "right_hip",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_wrist",
    "right_elbow",
    "right_shoulder",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "base",
    "top",
    "a",
    "b",
    "c",
]
EXCHANGED = [
    name.replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")
    for name in H36M_17.joints
]


@pytest.mark.parametrize(("names", "words"), [
    (COCO_17.joints, "COCO's order"), (MPII_16.joints, "MPII's order"), (BODY_25, "OpenPose's "
                                                                                  "BODY_25"),
    (OPENPOSE_18, "OpenPose's COCO-18"), (PANOPTIC, "CMU Panoptic"), (LSP, "LSP's order"),
    (EXCHANGED, "left and right exchanged"), (H36M_17.joints[::-1], r"the limbs are its joints "
                                                                    r"\[12, 15,"),
])  # fmt: skip
def test_another_order_of_joints_is_refused_by_its_name(load, names, words):
    """Although the metadata says Human3.6M's."""
    extra = ["x"] * (17 - len(names))
    with pytest.raises(UserError, match=f"9 of the 9 views of subject 'P1' does not fit .*{words}"):
        load(each(in_order(names, extra), detections(3.0)))


def test_metadata_is_believed_unless_geometry_says_otherwise(load):
    coco = METADATA | {
        "layout_name": "coco",
        "keypoints_symmetry": [list(COCO_17.left), list(COCO_17.right)],
    }
    with pytest.raises(
        UserError,
        match="layout 'coco' and left and right joints that are COCO's.*fit the projected 3D in "
        "COCO's order",
    ):
        load(each(in_order(COCO_17.joints, ()), detections()), metadata=coco)
    for metadata, words in (
        (coco, "layout 'coco' and left and right joints that are COCO's"),
        (METADATA | {"layout_name": "mpii"}, "layout 'mpii'"),
        (
            METADATA | {"keypoints_symmetry": METADATA["keypoints_symmetry"][::-1]},
            "left and right joints that are exchanged",
        ),
    ):
        (note,) = load(detections(2.0), metadata=metadata).described["notes"]
        assert words in note and "its joints fit the 3D in Human3.6M's order" in note
    far = each(lambda view: view + np.float32([500, 0]), detections())
    with pytest.raises(
        UserError, match="names layout 'mpii', and Human3.6M's 17 joints are needed"
    ):
        load(far, metadata=METADATA | {"layout_name": "mpii"})
    for quiet in (
        {"num_joints": 17},
        METADATA | {"layout_name": "my studio"},
        METADATA | {"layout_name": 3, "keypoints_symmetry": "ab"},
    ):
        assert load(detections(), metadata=quiet).described["notes"] == []


@pytest.mark.parametrize(("change", "words"), [
    (lambda view: view / WIDTH * 2 - np.float32([1, HEIGHT / WIDTH]), "coordinates with x from "
                                                                      "-1.00 to 1.00 and y from "
                                                                      "-0.56 to 0.56"),
    (lambda view: view / np.float32([WIDTH, HEIGHT]), "coordinates with x from 0.00 to 1.00 and y "
                                                      "from 0.00 to 1.00"),
    (lambda view: view * 1.5, "a picture of 1.50 times the width and 1.50 times the height"),
    (lambda view: np.float32([WIDTH, 0]) + view * np.float32([-1, 1]), "when it is mirrored"),
    (lambda view: np.float32([0, HEIGHT]) + view * np.float32([1, -1]), "when it is upside down"),
    (lambda view: view[..., ::-1], "x and y exchanged"),
    (lambda view: in_order(COCO_17.joints, ())(view) / 2, "COCO's order, a picture of 0.50 times"),
])  # fmt: skip
def test_another_scale_is_refused(load, change, words):
    with pytest.raises(UserError, match=f"views of subject 'P1' does not fit .*{words}"):
        load(each(change, detections(0.0)))


def test_single_takes_are_told_with_their_distance(load):
    found = detections(2.0)
    found["P2"]["walk_1"] = [view + np.float32([150, -20]) for view in found["P2"]["walk_1"]]
    found["P2"]["walk_3"] = found["P2"]["walk_3"][1:] + found["P2"]["walk_3"][:1]
    found["P1"]["walk_2"][1] = np.concatenate(
        [found["P1"]["walk_2"][1][6:], found["P1"]["walk_2"][1][-1:].repeat(6, axis=0)]
    )
    shifted, turned, late = load(found).described["notes"]
    assert shifted.startswith("P2 walk_1, cameras 0, 1, 2: the 2D is 15") and re.search(
        r"after a shift by \(-1(49|50|51), (19|20|21)\) pixels$", shifted
    )
    assert (
        turned.startswith("P2 walk_3, cameras 0, 1, 2: ")
        and "the projection of camera 1, the projection of camera 2" in turned
    )
    assert late.startswith("P1 walk_2, camera 1: ") and late.endswith(
        "it fits the 3D of 6 frames later"
    )


def test_the_list_ends_with_a_count(load):
    takes = {who: {f"go_{number}": motion(number) for number in range(13)} for who in ("P1", "P2")}
    found = {
        who: {
            take: [see(pose, view) + np.float32([90 + 5 * number, 0]) for view in VIEWS]
            for number, (take, pose) in enumerate(one.items())
        }
        for who, one in takes.items()
    }
    notes = load(found, takes=takes).described["notes"]
    assert (
        len(notes) == fitting.LISTED + 1
        and notes[-1] == "and 16 more takes whose 2D does not fit their 3D"
    )
    assert "go_12" in notes[0] and "go_12" in notes[1]


def test_exchanged_cameras_and_other_conventions_are_refused(load):
    table = {who: [entry(view) for view in (VIEWS[1], VIEWS[0], VIEWS[2])] for who in ("P1", "P2")}
    with pytest.raises(
        UserError,
        match=r"6 of the 9 views of subject 'P1'.*fits the projection of camera 1: bring the "
        r"cameras",
    ):
        load(detections(2.0), table=table)
    conventions = (
        (
            [{"R": view[0].tolist(), "T": view[1].tolist()} for view in VIEWS],
            "R and T as world to camera",
        ),
        (
            [{"R": view[0].tolist(), "T": (-view[0].T @ view[1]).tolist()} for view in VIEWS],
            "R as world to camera beside",
        ),
        (
            [{"R": view[0].tolist(), "t": (-view[0].T @ view[1]).tolist()} for view in VIEWS],
            "t as the camera's place",
        ),
    )
    for places, words in conventions:
        wrong = {
            who: [entry(view, **place) for view, place in zip(VIEWS, places, strict=True)]
            for who in ("P1", "P2")
        }
        with pytest.raises(UserError, match=f"another reading of the table: {words}"):
            load(detections(2.0), table=wrong)
    wrong = {
        who: [entry(view, **place) for view, place in zip(VIEWS, conventions[0][0], strict=True)]
        for who in ("P1", "P2")
    }
    with pytest.raises(
        UserError,
        match=r"behind the camera and \d+% outside its picture; they lie inside with .*write t "
        r"for T",
    ):
        load(None, table=wrong)  # projections: every number of them would be the clip's


def test_projections_outside_the_picture_are_counted(load):
    takes = {who: dict(one) for who, one in TAKES.items()}
    near = TAKES["P1"]["walk_1"] + 3.6 * np.asarray(
        [np.cos(0.3), np.sin(0.3), 0]
    )  # less than a metre from camera 0
    takes["P1"]["walk_1"] = near
    local = near @ VIEWS[0][0].T + VIEWS[0][1]
    clipped = int((np.abs(local[..., :2]) > local[..., 2:]).any(-1).sum())
    assert clipped > 0
    notes = load(None, takes=takes).described["notes"]
    assert (
        notes[0].startswith("P1 camera 0: of 4,080 joints ")
        and f"{clipped:,} are projected to the edge" in notes[0]
    )
    assert "lie outside the picture" in notes[0]


@pytest.mark.parametrize("mark", [0.0, -1.0, 412.5])
def test_marks_of_missing_joints_are_counted(load, mark):
    found = detections(2.0)
    for frame in range(10, 30):
        found["P1"]["walk_1"][2][frame, [3, 9, 13]] = mark
    (note,) = load(found).described["notes"]
    assert (
        note.startswith("60 joints of the 2D have one and the same value")
        and "(P1 walk_1 camera 2: 60 of 1,360)" in note
    )


def hole(kind, view):
    return {
        "none": None,
        "empty": view[:0],
        "flat": np.zeros((len(view), 17, 0), np.float32),
        "list": [],
        "nan": view * np.nan,
        "zeros": view * 0,
        "minus": view * 0 - 1,
        "object": np.array(None, object),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["none", "empty", "flat", "list", "nan", "zeros", "minus", "object"]
)
def test_views_without_values_are_left_out_and_named(load, kind):
    found = detections()
    found["P1"]["walk_2"][1] = hole(kind, found["P1"]["walk_2"][1])
    recordset = load(found)
    assert recordset.left_out == ["P1 walk_2 camera 1: no 2D"]
    kept = [(view.take, view.index) for view in recordset.items["train"]]
    assert len(kept) == 8 and ("walk_2", 1) not in kept and ("walk_2", 2) in kept
    (third,) = [
        view for view in recordset.items["train"] if (view.take, view.index) == ("walk_2", 2)
    ]
    np.testing.assert_allclose(
        human36m.make_record(third)["keypoints_2d"], see(TAKES["P1"]["walk_2"], VIEWS[2])
    )


def test_scores_and_short_numbers_are_told(load):
    scored = each(
        lambda view: np.concatenate([view, np.full((*view.shape[:2], 1), 0.9)], axis=-1),
        detections(),
    )
    recordset = load(scored)
    assert recordset.described["notes"] == [
        "18 views hold scores behind x and y, which are not used"
    ]
    assert recordset.items["train"][0].keypoints_2d.shape == (FRAMES, 17, 2)
    logits = each(
        lambda view: np.concatenate([view, view], axis=-1).astype(np.float16), detections()
    )
    first, second = load(logits).described["notes"]
    assert (
        first == "18 views hold scores behind x and y, which are not used"
        and "float16, which rounds it by up to 0.25 pixels" in second
    )


def longer(view, frames):
    return np.concatenate([view, np.repeat(view[-1:], frames, axis=0)])


def test_few_frames_more_or_less_are_cut_and_counted(load):
    found = detections()
    found["P1"]["walk_1"][0] = longer(found["P1"]["walk_1"][0], 10)
    found["P1"]["walk_2"][2] = found["P1"]["walk_2"][2][:-4]
    recordset = load(found)
    assert recordset.described["notes"] == [
        "the 2D has up to 10 frames more than the 3D, which are cut (views: 1)",
        "the 3D has up to 4 frames more than the 2D, which are cut (views: 1)",
    ]
    assert sorted(view.frames for view in recordset.items["train"]) == [FRAMES - 4, *[FRAMES] * 8]


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (2 * FRAMES, "160 frames of 2D for 80 of 3D, a ratio of 2.00: the 2D seems to have twice"),
        (2 * FRAMES + 1, "the 2D seems to have twice"),
        (3 * FRAMES, "three times"),
        (FRAMES + 11, "more than the few frames"),
        (FRAMES // 2, "40 frames of 2D for 80 of 3D, a ratio of 0.50: the 3D seems to have twice"),
    ],
)
def test_more_frames_are_refused_with_their_ratio(load, frames, words):
    with pytest.raises(UserError, match=words):
        load(each(lambda view: longer(view, frames)[:frames], detections()))


def test_a_short_take_of_twice_the_rate_is_refused(load):
    takes = {who: {"hop_1": motion(1, 8)} for who in ("P1", "P2")}
    found = {who: {"hop_1": [see(motion(1, 16), view) for view in VIEWS]} for who in takes}
    with pytest.raises(UserError, match="16 frames of 2D for 8 of 3D, a ratio of 2.00"):
        load(found, takes=takes)


def test_one_view_that_ends_early_is_left_out(load):
    found = detections()
    found["P2"]["walk_3"][0] = found["P2"]["walk_3"][0][:30]
    assert load(found).left_out == ["P2 walk_3 camera 0: 30 frames of 2D for 80 of 3D"]


def test_what_one_file_alone_has_is_left_out_and_named(load):
    found = detections()
    found["P3"] = found["P4"] = {"walk_1": found["P1"]["walk_1"]}
    found["P1"]["extra"] = found["P1"]["walk_1"]
    del found["P2"]["walk_2"]
    assert load(found).left_out == [
        "P3, P4: 2D without 3D",
        "P1 extra: 2D without 3D",
        "P2 walk_2: 3D without 2D",
    ]
    del found["P2"]
    with pytest.raises(
        UserError,
        match=r"no 2D of subject 'P2' .*there: subjects P1, P3, P4.*remove the subject from the 3D",
    ):
        load(found)


@pytest.mark.parametrize("change", [
    lambda pose: pose / 10,  # another unit
    lambda pose: in_order(COCO_17.joints, ())(pose),
    lambda pose: pose[:, [10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6, 0, 7, 9]],  # 3DHP's
])  # fmt: skip
def test_3d_that_is_no_body_is_refused(load, change):
    """The 2D has the same order, so that it fits."""
    takes = {who: {take: change(pose) for take, pose in one.items()} for who, one in TAKES.items()}
    with pytest.raises(
        UserError, match="'P1': its limbs have lengths .* that nobody has in metres"
    ):
        load(None, takes=takes)


@pytest.mark.parametrize("fps", [0.0, -5.0, float("nan"), float("inf"), 1e6])
def test_rates_that_are_none_are_refused(tmp_path, fps):
    with pytest.raises(UserError, match=re.escape(f"--fps is {fps:g}: give the frames per second")):
        human36m.convert(str(tmp_path), str(tmp_path / "out"), "gt", None, None, None, fps, 1)


# MPI-INF-3DHP: no cameras in the files.


def sequence(subject="S1", scale=1.0, change=lambda pixels: pixels, seed=1.0):
    """Eight views of a sequence, made from three cameras; bodies of `scale`, scaled about the
    camera as univ_annot3 is.
    """
    pose = motion(seed, 120)
    views = []
    for index in range(3):
        rotation, t = VIEWS[index]
        local = (pose @ rotation.T + t).astype(np.float32)
        pixels = change(local[..., :2] / local[..., 2:] * 1500 + 1024).astype(np.float32)
        views.append(
            View(
                subject,
                "Seq1",
                index,
                25.0,
                (2048, 2048),
                pixels,
                local * scale,
                np.ones(len(local), bool),
            )
        )
    return views


def told(views):
    findings = fitting.Findings("'annot.mat'", "")
    for view in views:
        findings.add(pair_of(view, [other for other in views if other is not view]))
    findings.refuse()
    return findings.notes()


def test_3dhp_that_fits_is_passed_in_silence():
    assert told(sequence(scale=0.92)) == []


@pytest.mark.parametrize(("change", "words"), [
    (lambda pixels: 2048 - pixels, "upside down"),
    # Half of 1500 pixels of focal length over 1024.
    (lambda pixels: pixels / 1024 - 1, "x from -0.73 to 0.73"),
    (lambda pixels: pixels[:, list(H36M_17.flip_permutation)], "left and right exchanged"),
    (lambda pixels: pixels * 0.1, "focal length of 150 and 150 pixels"),
])  # fmt: skip
def test_3dhp_in_another_scale_or_order_is_refused(change, words):
    with pytest.raises(UserError, match=f"3 of the 3 views of subject 'S1' does not fit .*{words}"):
        told(sequence(change=change))


def test_3dhp_cameras_and_frames_that_do_not_belong_together_are_told():
    first, second, third = sequence()
    exchanged = [
        dataclasses.replace(first, keypoints_2d=second.keypoints_2d),
        second,
        third,
    ]
    (note,) = told(exchanged)
    assert note.startswith("S1 Seq1, camera 0: ") and note.endswith("it fits the 3D of camera 1")
    late = [
        dataclasses.replace(first, keypoints_2d=np.roll(first.keypoints_2d, 7, axis=0)),
        second,
        third,
    ]
    (note,) = told(late)
    assert note.endswith("it fits the 3D of 7 frames earlier")


def test_3dhp_bodies_of_one_size():
    """The body of this file measures 430 + 240 + 250 mm from knee to neck, in its own size."""
    assert release.compare_sizes(sequence("S1") + sequence("S2")) == []
    (note,) = release.compare_sizes(sequence("S1") + sequence("S2", scale=1.06))
    assert (
        note.startswith("the bodies measure 920 mm (S1 Seq1) to 975 mm (S2 Seq1) from knee to neck")
        and "annot3 seems" in note
    )
    assert len(release.compare_sizes(sequence("S1", scale=0.9))) == 1  # one size, and not that one


def test_3dhp_frames_of_the_protocol():
    test = [dataclasses.replace(sequence()[0], subject=name, take=name) for name in ("TS1", "TS5")]
    test[1].valid[:] = False
    assert release.compare_frames(sequence("S8"), test) == [
        "S8 Seq1: 120 frames where the data set has 6,468", "TS1: 120 valid frames where the "
                                                            "protocol has 603",
        "TS5: 0 valid frames where the protocol has 276",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_any_numbers_end_in_records_or_in_a_sentence(load, seed):
    rng = np.random.default_rng(seed)
    odd = np.float32([0, -1, 1e-38, 1e38, -3e38, 7, 500])
    for frames in (1, 2, 5):
        takes = {who: {"walk_1": motion(seed, frames)} for who in ("P1", "P2")}
        found = {
            who: {"walk_1": [see(takes[who]["walk_1"], view) for view in VIEWS]} for who in takes
        }
        for view in found["P1"]["walk_1"]:
            chosen = rng.random(view.shape) < rng.choice([0.1, 0.6, 1.0])
            view[chosen] = rng.choice(odd, chosen.sum())
        if seed % 2:
            takes["P2"]["walk_1"][rng.random((frames, 17)) < 0.5] = rng.choice([0.0, 49.0, -49.0])
        try:
            recordset = load(found, takes=takes)
        except UserError as error:
            assert "\n" not in str(error) and str(error).endswith(".")
        else:
            assert all(isinstance(note, str) for note in recordset.described["notes"])
