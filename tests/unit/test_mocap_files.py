"""BVH and ASF/AMC files.

Joints where forward kinematics of the tests' own puts them, and one sentence for every bad line.
"""

import json
import re

import motion_files
import numpy as np
import pytest

from data_prep.mocap import asf_amc, bvh, clip, skeletons
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.untrusted import bounds

FRAMES = 5
TENTH_OF_A_MILLIMETRE = 1e-4
MAPS = {one.name: one for one in skeletons.read_maps(skeletons.SHIPPED)}


def h36m(places: dict[str, np.ndarray], table: dict[str, list[str]]) -> np.ndarray:
    """The 17 joints by a table of the test's own, z up: the file's z is x, its x is y."""
    return np.stack(
        [np.mean([places[name] for name in table[joint]], axis=0) for joint in H36M_17.joints],
        axis=1,
    )[..., [2, 0, 1]]


def table_of(right: list[str], left: list[str], trunk: list[list[str]]) -> dict[str, list[str]]:
    parts = ["hip", "knee", "ankle", "shoulder", "elbow", "wrist"]
    sides = {"right": right, "left": left}
    limbs = {
        f"{side}_{part}": name.split("+")
        for side in sides
        for part, name in zip(parts, sides[side], strict=True)
    }
    return limbs | dict(zip(["hip", "spine", "thorax", "neck", "head"], trunk, strict=True))


@pytest.fixture(scope="module")
def good_bvh():
    return motion_files.bvh(seed=1, frames=FRAMES, fps=120, unit=motion_files.CMU_UNIT)


@pytest.fixture(scope="module")
def good_asf():
    return motion_files.asf_amc(seed=2, frames=FRAMES, fps=120)


def written(path, text):
    path.write_text(text)
    return str(path)


def test_bvh_joints_are_where_the_channels_put_them(good_bvh, tmp_path):
    text, places = good_bvh
    path = written(tmp_path / "a.bvh", text)
    read = bvh.read(path)
    assert read.fps == pytest.approx(120, abs=1e-3) and set(read.joints) == set(places)
    for name, expected in places.items():
        found = read.positions[:, read.joints[name]] * motion_files.CMU_UNIT
        np.testing.assert_allclose(found, expected, atol=TENTH_OF_A_MILLIMETRE, err_msg=name)
    limbs = ["UpLeg", "Leg", "Foot", "Arm", "ForeArm", "Hand"]
    trunk = [["LeftUpLeg", "RightUpLeg"], ["Spine"], ["Neck"], ["Neck1", "Head"], ["Head_End"]]
    table = table_of([f"Right{name}" for name in limbs], [f"Left{name}" for name in limbs], trunk)
    chosen = skeletons.choose(path, read, tuple(MAPS.values()))
    assert chosen.name == "cmu_bvh"
    np.testing.assert_allclose(
        skeletons.to_h36m(path, read, chosen, 0, ""),
        h36m(places, table),
        atol=TENTH_OF_A_MILLIMETRE,
    )


def test_asf_bones_end_where_the_angles_put_them(good_asf, tmp_path):
    skeleton, text, places = good_asf
    path = written(tmp_path / "a.amc", text)
    read = asf_amc.read(path, asf_amc.read_skeleton(written(tmp_path / "a.asf", skeleton)))
    assert (
        read.fps is None
        and set(read.joints) == set(places)
        and read.metres == pytest.approx(0.0254 / 0.45)
    )
    for name, expected in places.items():
        found = read.positions[:, read.joints[name]] * read.metres
        np.testing.assert_allclose(found, expected, atol=TENTH_OF_A_MILLIMETRE, err_msg=name)
    sides = [
        [f"{side}{bone}" for bone in ("hipjoint", "femur", "tibia", "clavicle", "humerus")]
        for side in "rl"
    ]
    right, left = (
        [*names, f"{side}radius+{side}wrist"] for names, side in zip(sides, "rl", strict=True)
    )
    trunk = [
        ["lhipjoint", "rhipjoint"],
        ["lowerback"],
        ["thorax"],
        ["lowerneck", "upperneck"],
        ["head"],
    ]
    chosen = skeletons.choose(path, read, tuple(MAPS.values()))
    assert chosen.name == "acclaim"
    found = skeletons.to_h36m(path, read, chosen, 0, "")
    np.testing.assert_allclose(
        found, h36m(places, table_of(right, left, trunk)), atol=TENTH_OF_A_MILLIMETRE
    )
    assert (found[:, 10, 2] > found[:, 0, 2] + 0.3).all()  # the head is above the hips


def test_radians_and_an_axis_order(good_asf, tmp_path):
    """The same skeleton with its angles in radians, and the root's order of angles turned round."""
    skeleton, text, places = good_asf
    factor = np.pi / 180
    axes = re.sub(
        r"axis (\S+) (\S+) (\S+)  XYZ",
        lambda m: f"axis {' '.join(str(float(x) * factor) for x in m.groups())}  XYZ",
        skeleton,
    )
    axes = axes.replace("angle deg", "angle rad").replace(
        "order TX TY TZ RX RY RZ", "order RX RY RZ TX TY TZ"
    )
    lines = []
    for line in text.replace(":DEGREES\n", ":RADIANS\n").splitlines():
        name, *values = line.split()
        if values and name != "#!OML:ASF":
            angles = values[3:] if name == "root" else values
            line = " ".join(
                [
                    name,
                    *(str(float(value) * factor) for value in angles),
                    *(values[:3] if name == "root" else []),
                ]
            )
        lines.append(line)
    read = asf_amc.read(
        written(tmp_path / "a.amc", "\n".join(lines)),
        asf_amc.read_skeleton(written(tmp_path / "a.asf", axes)),
    )
    for name, expected in places.items():
        np.testing.assert_allclose(
            read.positions[:, read.joints[name]] * read.metres,
            expected,
            atol=TENTH_OF_A_MILLIMETRE,
            err_msg=name,
        )


def test_frames_with_nan_are_nan_and_the_others_are_not(good_bvh, good_asf, tmp_path):
    lines = good_bvh[0].splitlines()
    lines[-2] = " ".join(["nan", *lines[-2].split()[1:]])
    positions = bvh.read(written(tmp_path / "a.bvh", "\n".join(lines))).positions
    np.testing.assert_array_equal(
        np.isnan(positions).all(axis=(1, 2)), [False, False, False, True, False]
    )
    text = re.sub(r"(?m)^rtibia .*$", "rtibia NaN", good_asf[1], count=1)
    skeleton = asf_amc.read_skeleton(written(tmp_path / "a.asf", good_asf[0]))
    positions = asf_amc.read(written(tmp_path / "a.amc", text), skeleton).positions
    np.testing.assert_array_equal(
        np.isnan(positions).all(axis=(1, 2)), [True, False, False, False, False]
    )


@pytest.mark.parametrize("spelled", ["-1.#IND", "1.#QNAN0", "nan(ind)", "-nan", "NaN"])
def test_nan_however_it_is_spelled(good_bvh, good_asf, tmp_path, spelled):
    lines = good_bvh[0].splitlines()
    lines[-2] = " ".join([spelled, *lines[-2].split()[1:]])
    positions = bvh.read(written(tmp_path / "a.bvh", "\n".join(lines))).positions
    sound = bvh.read(written(tmp_path / "b.bvh", good_bvh[0])).positions
    assert np.isnan(positions[3]).all()
    np.testing.assert_array_equal(np.delete(positions, 3, 0), np.delete(sound, 3, 0))
    skeleton = asf_amc.read_skeleton(written(tmp_path / "a.asf", good_asf[0]))
    text = re.sub(r"(?m)^rtibia .*$", f"rtibia {spelled}", good_asf[1], count=1)
    assert np.isnan(asf_amc.read(written(tmp_path / "a.amc", text), skeleton).positions[0]).all()


def test_bvh_written_in_other_ways(good_bvh, tmp_path):
    expected = bvh.read(written(tmp_path / "a.bvh", good_bvh[0])).positions
    packed = re.sub(r"\s*\{\s*", " { ", good_bvh[0])
    (tmp_path / "b.bvh").write_text(packed.replace("\n", "\r\n"), encoding="utf-8-sig")
    np.testing.assert_array_equal(bvh.read(str(tmp_path / "b.bvh")).positions, expected)


def test_angles_that_are_radians_are_told(tmp_path):
    """Whoever moves needs more than 6.28 degrees for some joint; a body at rest does not."""
    head = "HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 4 Xposition Zrotation Xrotation "
    head += "Yrotation\n}\nMOTION\nFrames: 3\nFrame Time: 0.02\n"

    def notes(*rows):
        return bvh.read(written(tmp_path / "a.bvh", head + "\n".join(rows))).notes

    assert notes("900 0 0.5 -1.57", "901 0.1 0.9 -1.5", "902 0.2 1 3.1") == {bvh.RADIANS: 1}
    assert notes("1 0 0.5 -1.57", "1 0.1 0.9 -1.5", "1 0.2 1 7") == {}
    assert notes("1 0 0 0", "2 0 0 0.1", "3 0 0 0") == {}
    assert notes("1 0 0.5 nan", "1 0.1 0.9 -1.5", "1 0.2 1.2 3.1") == {bvh.RADIANS: 1}


def refused(call, path, line, message):
    with pytest.raises(UserError, match=message) as caught:
        call()
    text = str(caught.value)
    assert (
        text.startswith(f"'{path}', line {line}: ")
        and "\n" not in text
        and text.endswith(".")
        and ". " not in text
    ), text


@pytest.mark.parametrize(("old", "new", "line", "message"), [
    ("HIERARCHY", "SOMETHING", 1, "no HIERARCHY"),
    ("ROOT Hips", "JOINT Hips", 2, "JOINT where the ROOT must be"),
    ("ROOT Hips", "TREE Hips", 2, "'TREE Hips' where the ROOT must be"),
    ("JOINT LeftUpLeg", "ROOT LeftUpLeg", 6, "a second ROOT"),
    ("JOINT LeftUpLeg", "JOINT", 6, "JOINT without a name"),
    ("JOINT LeftUpLeg", "JOINT Hips", 6, "a second joint 'Hips'"),
    ("\tCHANNELS 1 Xrotation\n", "\n", 10, "joint 'LeftLeg' has no CHANNELS"),
    ("CHANNELS 1 Xrotation", "CHANNELS 2 Xrotation", 13, "joint 'LeftLeg' announces 2 channels "
                                                         "and names 1"),
    ("CHANNELS 1 Xrotation", "CHANNELS 1 Wrotation", 13, "'Wrotation' of joint 'LeftLeg' is not a "
                                                         "channel .Xposition"),
    ("OFFSET 0.0000000 0.0000000 0.0000000\n", "OFFSET 0.0 nan 0.0\n", 4, "OFFSET of 'Hips' is "
                                                                          "'0.0 nan 0.0' where "
                                                                          "finite"),
    ("OFFSET 0.0000000 0.0000000 0.0000000\n", "OFFSET 0.0 0.0\n", 4, "OFFSET of 'Hips' has 2 "
                                                                      "values where 3"),
    ("OFFSET 0.0000000 0.0000000 0.0000000\n", "\n", 2, "joint 'Hips' has no OFFSET"),
    ("Frames: 5", "Frames: 1e300", -6, "1e.300 frames are announced"),
    ("Frames: 5", "Pictures: 5", -7, "Pictures: 5 where 'Frames:' must be"),
    ("Frame Time: 0.0083333", "Frame Time: 0,0083", -6, "is '0,0083' where .*decimal commas as"),
    ("Frame Time: 0.0083333", "Frame Time: soon", -6, "Frame Time: is 'soon' where finite"),
    ("Frame Time: 0.0083333\n", "Frame Time: 0.0083333\n1 2 3\n", -6, "3 values where .* has 54"),
])  # fmt: skip
def test_bad_bvh_lines(good_bvh, tmp_path, old, new, line, message):
    text = good_bvh[0]
    assert old in text
    path = written(tmp_path / "a.bvh", text.replace(old, new, 1))
    total = len(text.replace(old, new, 1).splitlines())
    refused(lambda: bvh.read(path), path, line if line > 0 else total + line + 1, message)


@pytest.mark.parametrize(("change", "line", "message"), [
    (lambda words: words[:-1], -3, "values where the skeleton has .* channels"),
    (lambda words: [*words, "1"], -3, "values where the skeleton has .* channels"),
    (lambda words: ["1,5", *words[1:]], -3, "'1,5' is not a number .write decimal commas"),
    (lambda words: ["1_0", *words[1:]], -3, "'1_0' is not a number: correct"),
])  # fmt: skip
def test_bad_bvh_frames(good_bvh, tmp_path, change, line, message):
    lines = good_bvh[0].splitlines()
    lines[line] = " ".join(change(lines[line].split()))
    path = written(tmp_path / "a.bvh", "\n".join(lines))
    refused(lambda: bvh.read(path), path, len(lines) + line + 1, message)


def test_bvh_that_ends_early(good_bvh, tmp_path):
    lines = good_bvh[0].splitlines()
    path = written(tmp_path / "a.bvh", "\n".join(lines[:20]))
    refused(lambda: bvh.read(path), path, 20, "the file ends before its MOTION")
    path = written(tmp_path / "a.bvh", "\n".join(lines[:-FRAMES]))
    refused(
        lambda: bvh.read(path),
        path,
        len(lines) - FRAMES,
        "5 frames announced and no line of motion",
    )
    path = written(tmp_path / "a.bvh", "HIERARCHY\n")
    refused(lambda: bvh.read(path), path, 1, "the file has no ROOT")
    path = written(tmp_path / "a.bvh", "")
    refused(lambda: bvh.read(path), path, 1, "no HIERARCHY")
    with pytest.raises(UserError, match="cannot be read"):
        bvh.read(str(tmp_path / "none.bvh"))


@pytest.mark.parametrize(("old", "new", "message"), [
    (":root\n", ":base\n", "the file ends without a :root"),
    (":hierarchy\n", ":tree\n", "the file ends without a :hierarchy"),
    ("length 0.45", "length 0", "the unit of length is 1/0 of an inch"),
    ("length 0.45", "length nan", "length is 'nan' where finite numbers"),
    ("angle deg", "angle gon", "the unit of angles is 'gon'"),
    ("axis 0 0 20  XYZ", "axis 0 0 20", "axis of bone 'lfemur' is '0 0 20' where an order such as "
                                        "XYZ"),
    ("axis 0 0 20  XYZ", "axis 0 20  XYZ", "axis of bone 'lfemur' has 2 values where 3"),
    ("     axis 0 0 20  XYZ\n", "\n", "bone 'lfemur' has no axis"),
    ("dof rx ry rz", "dof rx l rz", "'l' of bone 'lfemur' is none of rx, ry, rz"),
    ("order TX", "order XX", "'xx' of bone 'root' is none of tx, ty"),
    ("name ltibia", "name lfemur", "a second bone 'lfemur'"),
    ("lhipjoint lfemur\n", "lhipjoint lthigh\n", "bone 'lthigh' is not in :bonedata"),
    ("lfemur ltibia\n", "lfemur ltibia lfemur\n", "bone 'lfemur' has a parent already"),
])  # fmt: skip
def test_bad_asf_lines(good_asf, tmp_path, old, new, message):
    assert old in good_asf[0]
    path = written(tmp_path / "a.asf", good_asf[0].replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        asf_amc.read_skeleton(path)
    assert re.match(rf"'{path}', line \d+: ", str(caught.value)) and str(caught.value).endswith(".")


@pytest.mark.parametrize(("old", "new", "line", "message"), [
    ("\nltibia", "\nltibia 3.0", 6, "bone 'ltibia' has 2 values where '.*a.asf' has 1 degrees"),
    ("\nltibia", "\nlshin", 6, "bone 'lshin' does not move by '.*a.asf'"),
    ("\nltibia ", "\nltibia x", 6, "bone 'ltibia' has 'x.*' where numbers"),
    ("\n1\n", "\nfirst\n", 4, "'first' where the number of the first frame must be"),
    (":DEGREES", ":DEGREES\n:RADIANSS\n#\n", 0, None),
])  # fmt: skip
def test_bad_amc_lines(good_asf, tmp_path, old, new, line, message):
    skeleton = asf_amc.read_skeleton(written(tmp_path / "a.asf", good_asf[0]))
    path = written(tmp_path / "a.amc", good_asf[1].replace(old, new, 1))
    if message is None:  # other keywords and remarks are left alone
        assert len(asf_amc.read(path, skeleton).positions) == FRAMES
        return
    refused(lambda: asf_amc.read(path, skeleton), path, line if "lt" not in old else 7, message)


def test_amc_without_a_bone_or_frame(good_asf, tmp_path):
    skeleton = asf_amc.read_skeleton(written(tmp_path / "a.asf", good_asf[0]))
    path = written(tmp_path / "a.amc", re.sub(r"(?m)^rwrist .*\n", "", good_asf[1], count=1))
    refused(
        lambda: asf_amc.read(path, skeleton), path, 4, "frame 1 has no values for bone 'rwrist'"
    )
    path = written(tmp_path / "a.amc", ":FULLY-SPECIFIED\n:DEGREES\n")
    refused(lambda: asf_amc.read(path, skeleton), path, 2, "the file ends without a frame")


def plain_clip(names):
    return clip.Clip(
        {name: index for index, name in enumerate(names)},
        np.zeros((1, len(names), 3)),
        [],
        30.0,
        None,
    )


def test_unknown_skeleton_names_its_joints_and_the_way_out():
    with pytest.raises(UserError) as caught:
        skeletons.choose("a.bvh", plain_clip(["pelvis", "l_leg"]), tuple(MAPS.values()))
    assert str(caught.value) == (
        "'a.bvh' has a skeleton that none of acclaim, cmu_bvh, bandai_namco, mixamo fits, with the "
        "joints pelvis, l_leg: say with --map FILE which of them are the 17 (layout: "
        "data_prep/mocap/skeletons.py)."
    )


def test_own_map_with_prefix_offset_and_z_up(good_bvh, tmp_path):
    """The trunk's names behind a prefix.

    The head's top as a point in the head's own axes; z called up.
    """
    text, places = good_bvh
    shipped = json.loads(open(skeletons.SHIPPED, encoding="utf-8").read())["cmu_bvh"]
    own = {"metres": motion_files.CMU_UNIT, "up": "z", "joints": dict(shipped["joints"])}
    own["joints"]["head"] = {
        "joint": "Head",
        "offset": [value / motion_files.CMU_UNIT for value in motion_files.ENDS["Head"]],
    }
    (one,) = skeletons.read_maps(
        written(tmp_path / "map.json", json.dumps({"note": "mine", "own": own}))
    )
    read = bvh.read(written(tmp_path / "a.bvh", re.sub(r"(ROOT|JOINT) ", r"\1 figure:", text)))
    assert skeletons.choose("a.bvh", read, (one,)) is one
    found = skeletons.to_h36m("a.bvh", read, one, 0, "")
    np.testing.assert_allclose(found[:, 10], places["Head_End"], atol=TENTH_OF_A_MILLIMETRE)
    np.testing.assert_allclose(
        skeletons.to_h36m("a.bvh", read, one, 0, "y")[..., [1, 2, 0]], found, atol=1e-12
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.pop("up"), "lacks up"),
        (lambda entry: entry.update(up="x"), "up is 'x' where 'y' or 'z'"),
        (lambda entry: entry.update(metres="cm"), "metres is 'cm'"),
        (lambda entry: entry["joints"].pop("head"), r"all and no others \(head is not right\)"),
        (lambda entry: entry["joints"].update(head=3), "joint 'head' is neither a name"),
        (
            lambda entry: entry["joints"].update(head={"joint": "Head", "offset": [1, 2]}),
            "joint 'head' is neither a name",
        ),
        (lambda entry: entry["joints"].update(head=[]), "joint 'head' is neither a name"),
    ],
)
def test_bad_maps(tmp_path, change, message):
    entry = json.loads(open(skeletons.SHIPPED, encoding="utf-8").read())["acclaim"]
    change(entry)
    with pytest.raises(UserError, match=message):
        skeletons.read_maps(written(tmp_path / "map.json", json.dumps({"own": entry})))


def test_maps_that_are_none(tmp_path):
    for text, message in (
        ("{", "cannot be read as JSON"),
        ("{}", "describes no skeleton"),
        ("[]", "describes no skeleton"),
    ):
        with pytest.raises(UserError, match=message):
            skeletons.read_maps(written(tmp_path / "map.json", text))


def test_wrong_unit_is_seen(good_bvh, tmp_path):
    read = bvh.read(written(tmp_path / "a.bvh", good_bvh[0]))
    with pytest.raises(
        UserError,
        match=r"'a.bvh' has legs of 0.14\d* m where a unit of 0.01 m is taken: give the file's "
        r"unit with --unit",
    ):
        skeletons.to_h36m("a.bvh", read, MAPS["cmu_bvh"], 0.01, "")
    with pytest.raises(UserError, match="Neither 'a.bvh' nor the joint map 'x' says the unit"):
        skeletons.to_h36m(
            "a.bvh", read, skeletons.JointMap("x", 0.0, "y", MAPS["cmu_bvh"].joints), 0, ""
        )


def test_a_brace_that_is_missing_and_joints_below_an_end(good_bvh, tmp_path):
    lines = good_bvh[0].splitlines()
    path = written(tmp_path / "a.bvh", "\n".join(lines[:6] + lines[7:]))
    refused(lambda: bvh.read(path), path, 7, "'OFFSET .*' where the brace of 'LeftUpLeg' must be")
    end = next(index for index, line in enumerate(lines) if "End Site" in line)
    path = written(
        tmp_path / "a.bvh", "\n".join([*lines[: end + 2], "End Site", *lines[end + 2 :]])
    )
    refused(lambda: bvh.read(path), path, end + 3, "End below an End Site")


def test_clips_that_would_take_much_memory(good_bvh, good_asf, tmp_path, monkeypatch):
    figure = written(tmp_path / "a.bvh", good_bvh[0])
    bones, motion = (
        written(tmp_path / "a.asf", good_asf[0]),
        written(tmp_path / "a.amc", good_asf[1]),
    )
    reads = (lambda: bvh.read(figure), lambda: asf_amc.read(motion, asf_amc.read_skeleton(bones)))
    for bound, value, said in (
        ("PLACES", 90, "90 places are read"),
        ("JOINTS", 15, "15 joints and"),
        ("TEXT", 400, "at most 400 are"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(bounds, bound, value)
            for read in reads:
                with pytest.raises(UserError, match=f"{said}.*: cut it into several files."):
                    read()
