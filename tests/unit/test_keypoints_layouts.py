"""Layouts of joints: names, and the recipes for joints that a layout lacks."""

import itertools

import keypoint_files as files
import numpy as np
import pytest

from kdpose_jax import skeletons
from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import joint_names, layouts
from kdpose_jax.keypoints.tracks import Keypoints, Track

H36M, MPII = skeletons.H36M_17.joints, skeletons.MPII_16.joints


def keypoints_of(joints, seed=0, layout="x"):
    """Random points of one person, and the points by joint."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 500, (5, len(joints), 2))
    scores = rng.uniform(0.2, 0.9, (5, len(joints)))
    track = Track("1", np.arange(5), points, scores)
    read = Keypoints((track,), tuple(joints), layout, None, None, 5, "x", ())
    return read, {name: points[:, index] for index, name in enumerate(joints)}


def layout(name):
    return keypoints_of(layouts.layouts()[name].joints, layout=name)


def converted(read, wanted):
    result = layouts.convert(read, wanted)
    assert result.joints == tuple(wanted)
    track = result.tracks[0]
    return {name: track.points[:, index] for index, name in enumerate(wanted)}, result


def test_layouts_agree_with_the_skeletons_and_the_tools():
    known = layouts.layouts()
    for skeleton in skeletons.SKELETONS.values():
        assert known[skeleton.name].joints == skeleton.joints
    tools = {
        "body_25": files.BODY_25,
        "coco_18": files.COCO_18,
        "halpe_26": files.HALPE_26,
        "mediapipe_33": files.MEDIAPIPE_33,
        "coco_133": files.COCO_133[:23],
    }
    for name, theirs in tools.items():
        ours = [layouts.spellings()[layouts.plain(one)] for one in theirs]
        assert tuple(ours) == known[name].joints


def test_spellings_of_sides():
    for side, part in itertools.product(("left", "right"), ("shoulder", "elbow", "hip", "ankle")):
        letter = side[0]
        for spelled in (
            f"{side}_{part}", f"{side.title()}{part.title()}", f"{letter.upper()}_{part}",
            f"{part}-{side}", f"{part}.{letter.upper()}", f" {letter} {part} ", f"{letter}{part}",
        ):  # fmt: skip
            assert layouts.spellings()[layouts.plain(spelled)] == f"{side}_{part}", spelled
    short = {"RSho": "right_shoulder", "LElb": "left_elbow", "RWri": "right_wrist"}
    short |= {"LAnk": "left_ankle", "LSmallToe": "left_small_toe", "MidHip": "pelvis"}
    for spelled, joint in short.items():
        assert layouts.spellings()[layouts.plain(spelled)] == joint


def test_coco_to_human36m_by_mmpose():
    read, points = layout("coco_17")
    found, result = converted(read, H36M)
    hips, shoulders = (
        (points[f"left_{part}"] + points[f"right_{part}"]) / 2 for part in ("hip", "shoulder")
    )
    expected = {
        "hip": hips,
        "thorax": shoulders,
        "spine": (hips + shoulders) / 2,
        "neck": points["nose"],
        "head": (points["left_eye"] + points["right_eye"]) / 2,
    }
    for name in H36M:
        wanted = expected[name] if name in expected else points[name]
        np.testing.assert_allclose(found[name], wanted, err_msg=name)
    said = result.notes[-1]
    assert "5 were made" in said and "the middle of the eyes (left_eye, right_eye)" in said
    scores, index = read.tracks[0].scores, read.joints.index
    lowest = np.minimum(scores[:, index("left_hip")], scores[:, index("right_hip")])
    np.testing.assert_array_equal(result.tracks[0].scores[:, 0], np.float32(lowest))


def test_halpe_and_body_25_give_hip_and_neck():
    read, points = layout("halpe_26")
    found, _ = converted(read, H36M)
    expected = {
        "hip": points["pelvis"],
        "thorax": points["neck_base"],
        "spine": (points["pelvis"] + points["neck_base"]) / 2,
        "neck": points["nose"],
        "head": points["head_top"],
    }
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name], wanted, err_msg=name)
    read, points = layout("body_25")
    found, _ = converted(read, H36M)
    np.testing.assert_allclose(found["hip"], points["pelvis"])
    np.testing.assert_allclose(found["thorax"], points["neck_base"])


def test_coco_to_mpii():
    read, points = layout("coco_17")
    found, _ = converted(read, MPII)
    thorax = (points["left_shoulder"] + points["right_shoulder"]) / 2
    np.testing.assert_allclose(found["thorax"], thorax)
    np.testing.assert_allclose(found["upper_neck"], (thorax + points["nose"]) / 2)
    top = points["left_eye"] + points["right_eye"] - points["nose"]
    np.testing.assert_allclose(found["head_top"], top)


def test_mpii_and_human36m_into_each_other():
    read, points = layout("mpii_16")
    found, _ = converted(read, H36M)
    for ours, theirs in {"hip": "pelvis", "neck": "upper_neck", "head": "head_top"}.items():
        np.testing.assert_array_equal(found[ours], np.float32(points[theirs]))
    read, points = layout("h36m_17")
    found, _ = converted(read, MPII)
    for ours, theirs in {"pelvis": "hip", "upper_neck": "neck", "head_top": "head"}.items():
        np.testing.assert_array_equal(found[ours], np.float32(points[theirs]))


def test_missing_ingredients_make_a_joint_missing():
    read, points = layout("coco_17")
    track = read.tracks[0]
    track.points[3, read.joints.index("left_hip")] = np.nan
    track.scores[3, read.joints.index("left_hip")] = 0
    found, result = converted(read, H36M)
    for name in H36M:
        missing = np.isnan(found[name]).all(axis=-1)
        assert missing.tolist() == [False] * 3 + [name in ("hip", "spine", "left_hip"), False]
    assert result.tracks[0].scores[3, H36M.index("spine")] == 0


def test_the_same_joints_stay_as_they_are():
    read, _ = layout("h36m_17")
    assert layouts.convert(read, H36M) is read


def test_joints_that_cannot_be_made_are_one_sentence():
    read, _ = keypoints_of(["nose", "left_knee"])
    with pytest.raises(UserError, match=r"The network reads hip, right_hip, .*nose, left_knee"):
        layouts.convert(read, H36M)
    read, _ = layout("mpi_15")  # has no nose
    with pytest.raises(UserError, match=r"reads neck, which"):
        layouts.convert(read, H36M)


def test_names_of_human36m_keep_their_own_meaning():
    named = joint_names.identify([*H36M][::-1], "'a'", None, None)
    assert (named.layout, named.joints, named.columns[0]) == ("h36m_17", H36M, 16)
    named = joint_names.identify(["Neck", "LHip", "RHip"], "'a'", None, None)
    assert named.joints == ("neck_base", "left_hip", "right_hip")
    assert "'Neck' for neck_base" in named.notes[0]


def test_names_that_cannot_be_used_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="'l hip' and 'hip_left' of 'a' both mean left_hip"):
        joint_names.identify(["l hip", "hip_left"], "'a'", None, None)
    with pytest.raises(UserError, match="names the joint 'Nose' twice"):
        joint_names.identify(["Nose", "nose"], "'a'", None, None)
    with pytest.raises(UserError, match="lacks left_eye, .* of --joints coco_17"):
        joint_names.identify(["nose", "tail"], "'a'", "coco_17", None)
    with pytest.raises(UserError, match="--joints is 'coco': use one of coco_17"):
        layouts.find_layout("coco")
    with pytest.raises(UserError, match="--map names 'Nase', and 'a' has no joint of this name"):
        joint_names.identify(["nose"], "'a'", None, {"Nase": "nose"})
    for content, said in (
        ("[1]", "is not a table of names"),
        ('{"a": 1}', "is not a table of names"),
        ('{"a": "left_ankel"}', "did you mean 'left_ankle'"),
        ("{", "cannot be read as JSON"),
    ):
        (tmp_path / "m.json").write_text(content)
        with pytest.raises(UserError, match=said):
            joint_names.read_map(str(tmp_path / "m.json"))


def test_layouts_by_count():
    assert layouts.layout_of(17, None, "'a'", ("coco_17", "halpe_26")).name == "coco_17"
    with pytest.raises(UserError, match="16 joints .* does not name them: give --joints mpii_16"):
        layouts.layout_of(16, None, "'a'", ("coco_17",))
    with pytest.raises(UserError, match="12 joints .*no layout has that many"):
        layouts.layout_of(12, None, "'a'", ())
    with pytest.raises(UserError, match="has 25 .* use --joints body_25"):
        layouts.layout_of(25, "coco_17", "'a'", ())
