"""Motion files that describe themselves: frame numbers, counts, rates, names, units, letters."""

import dataclasses
import json
import re

import motion_files
import numpy as np
import pytest

from data_prep import convert, motion
from data_prep.mocap import asf_amc, bodies, bvh, cleaning, clip, files, skeletons
from data_prep.mocap.reading import Job, read_job
from kdpose_jax.errors import UserError

FRAMES = 5
MAPS = skeletons.read_maps(skeletons.SHIPPED)
SHIPPED = {one.name: one for one in MAPS}


@pytest.fixture(scope="module")
def good_bvh():
    return motion_files.bvh(seed=1, frames=FRAMES, fps=120, unit=motion_files.CMU_UNIT)[0]


@pytest.fixture(scope="module")
def good_asf():
    return motion_files.asf_amc(seed=2, frames=FRAMES, fps=120)[:2]


def written(path, text, **options):
    path.write_text(text, **options)
    return str(path)


def numbered(text: str, numbers: list) -> str:
    """An AMC file with other frame numbers."""
    given = iter(numbers)
    return re.sub(r"(?m)^\d+$", lambda _: str(next(given)), text)


@pytest.fixture
def amc(good_asf, tmp_path):
    skeleton = asf_amc.read_skeleton(written(tmp_path / "a.asf", good_asf[0]))
    return lambda text: asf_amc.read(written(tmp_path / "a.amc", text), skeleton)


@pytest.mark.parametrize(
    ("numbers", "step", "breaks"),
    [
        ([1, 2, 3, 4, 5], 1, ()),
        ([901, 902, 903, 904, 905], 1, ()),
        ([-2, -1, 0, 1, 2], 1, ()),
        ([1, 2, 60, 61, 62], 1, (2,)),
        ([1, 2, 2, 3, 4], 1, (2,)),
        ([1, 2, 3, 1, 2], 1, (3,)),
        ([1, 2, 4, 3, 5], 1, (2, 3, 4)),
        ([10, 14, 18, 22, 26], 4, ()),
        ([10, 14, 18, 26, 30], 4, (3,)),
    ],
)
def test_frame_numbers_are_times(good_asf, amc, numbers, step, breaks):
    found = amc(numbered(good_asf[1], numbers))
    assert (found.step, found.breaks) == (step, breaks)
    assert found.notes == ({asf_amc.BREAKS: len(breaks)} if breaks else {})
    np.testing.assert_array_equal(found.positions, amc(good_asf[1]).positions)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([1, 1, 1, 1, 1], "line 22: frame 1 follows frame 1, and no number grows"),
        ([5, 4, 3, 2, 1], "frame 4 follows frame 5, and no number grows"),
        (["9" * 5000] * 5, "'9999.*' where the number of the first frame must be"),
        (["\u00b2"] * 5, "'\u00b2' where the number of the first frame must be"),
    ],
)
def test_frame_numbers_that_do_not_count(good_asf, amc, numbers, message):
    with pytest.raises(UserError, match=message):
        amc(numbered(good_asf[1], numbers))


def test_nothing_is_joined_across_a_break():
    rng = np.random.default_rng(0)
    pose = motion.generate(rng, motion.ACTIONS["Walking"], motion.BONES, 240)
    apart = pose.copy()
    apart[100:] += [3.0, 0, 0]  # a jump that would be cut out, were it within a motion
    cleaned = cleaning.clean(apart, 50.0, (100,))
    assert not any(cleaned.cut.values()) and len(cleaned.pieces) == 2
    for piece, part in zip(cleaned.pieces, (pose[:100], pose[100:]), strict=True):
        np.testing.assert_allclose(piece, cleaning.clean(part, 50.0).pieces[0], atol=1e-6)
    assert cleaning.clean(apart, 50.0).cut["a joint too fast"] == 2
    apart[98] = np.nan  # faults beside a break go as ever
    assert [len(piece) for piece in cleaning.clean(apart, 50.0, (100,)).pieces] == [95, 138]


def figure(text: str, frames: int, first: int, gap: int) -> str:
    """An AMC file whose second half is numbered `gap` later."""
    return numbered(text, [first + index + gap * (index >= frames // 2) for index in range(frames)])


def run(source, out, **settings):
    return convert.prepare("mocap", str(out), source=str(source), workers=1, noise=0.0, **settings)


def read(folder):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    return {
        split: list(builder.as_dataset(split=split).as_numpy_iterator())
        for split in ("train", "test")
    }


def test_a_gap_makes_two_takes_and_every_second_frame_half_the_rate(tmp_path):
    for subject, text in (
        ("07", lambda amc: figure(amc, 240, 31, 500)),
        ("35", lambda amc: numbered(amc, range(1, 481, 2))),
    ):
        (tmp_path / "in" / subject).mkdir(parents=True)
        skeleton, motion_text, places = motion_files.asf_amc(seed=int(subject), frames=240, fps=120)
        (tmp_path / "in" / subject / f"{subject}.asf").write_text(skeleton)
        (tmp_path / "in" / subject / f"{subject}_01.amc").write_text(text(motion_text))
    summary = run(tmp_path / "in", tmp_path / "out", test_subjects=("35",))
    # 120 of 240 frames at 120 per second; 240 frames at 60.
    assert summary.splits == {"train": (8, 8 * 50), "test": (4, 4 * 200)} and not summary.left_out
    records = read(tmp_path / "out")
    assert {record["take"] for record in records["train"]} == {b"07/07_01", b"07/07_01 2"}
    _, _, places = motion_files.asf_amc(seed=7, frames=240, fps=120)
    expected = np.linalg.norm(places["lhumerus"] - places["rfemur"], axis=1)
    for record in records["train"]:
        start = 120 if record["take"].endswith(b" 2") else 0
        found = np.linalg.norm(record["pose_3d"][:, 12] - record["pose_3d"][:, 2], axis=1)
        np.testing.assert_allclose(found[::5], expected[start : start + 120 : 12], atol=1e-4)
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    said = {note.split(" (07")[0].split(" (35")[0] for note in metadata["notes"]}
    assert metadata["notes"] == summary.notes and f"{asf_amc.BREAKS}: 1 of 2 files" in said
    assert any(
        note.startswith("frame numbers that grow by more than 1") and "(35/35_01)" in note
        for note in said | set(summary.notes)
    )
    assert any(
        note.startswith("no rate in an AMC file") and "2 of 2 files" in note
        for note in summary.notes
    )


@pytest.mark.parametrize(
    ("frames", "note", "count"),
    [
        (4, bvh.MORE, 1),
        (0, bvh.MORE, 5),
        (-1, bvh.MORE, 6),
        (6, bvh.FEWER, 1),
        (900, bvh.FEWER, 895),
        (5, None, 0),
    ],
)
def test_the_lines_that_are_there_are_taken(good_bvh, tmp_path, frames, note, count):
    expected = bvh.read(written(tmp_path / "a.bvh", good_bvh)).positions
    found = bvh.read(
        written(tmp_path / "b.bvh", good_bvh.replace("Frames: 5", f"Frames: {frames}"))
    )
    np.testing.assert_array_equal(found.positions, expected)
    assert found.notes == ({note: count} if note else {})


@pytest.mark.parametrize("end", ["1.5 2.5", "1.5 -", "1.5 2.5e", "x"])
def test_a_bvh_file_that_is_cut_off_keeps_its_whole_frames(good_bvh, tmp_path, end):
    expected = bvh.read(written(tmp_path / "a.bvh", good_bvh)).positions
    lines = good_bvh.splitlines()
    words = lines[-1].split()
    # The last is of all channels, but its last value is cut.
    lines[-1] = " ".join([*words[:-1], "-"] if end == "x" else [*words[:10], end])
    found = bvh.read(written(tmp_path / "b.bvh", "\n".join(lines)))
    np.testing.assert_array_equal(found.positions, expected[:-1])
    assert found.notes == {clip.CUT: 1}
    lines[-1] = " ".join([*words[:10], "1.2.3", *words[11:]])  # damage, and no end
    with pytest.raises(UserError, match="'1.2.3' is not a number"):
        bvh.read(written(tmp_path / "c.bvh", "\n".join(lines)))


@pytest.mark.parametrize("lost", [1, 4, len("rwrist -12.3456789\n"), 400])
def test_an_amc_file_that_is_cut_off_keeps_its_whole_frames(good_asf, amc, lost):
    expected = amc(good_asf[1]).positions
    values = good_asf[1].rstrip("\n").split(" ")
    text = (
        re.sub(r" \S+$", " -", good_asf[1].rstrip("\n"))
        if lost == 1
        else good_asf[1][: -lost - len(values[-1])]
    )
    found = amc(text)
    np.testing.assert_array_equal(found.positions, expected[:-1])
    assert found.notes == {clip.CUT: 1}


def test_a_bone_that_stands_twice_in_a_frame(good_asf, amc):
    with pytest.raises(UserError, match="bone 'ltibia' stands twice in frame 1"):
        amc(good_asf[1].replace("\nltibia", "\nltibia 3\nltibia", 1))


@pytest.mark.parametrize(
    ("encoding", "newline"),
    [
        ("utf-8-sig", "\r\n"),
        ("utf-16", "\n"),
        ("utf-16-le", "\r\n"),
        ("utf-16-be", "\n"),
        ("utf-8", "\r"),
    ],
)
def test_letters_of_every_kind(good_bvh, good_asf, tmp_path, encoding, newline):
    other = {"encoding": encoding, "newline": newline}
    expected = bvh.read(written(tmp_path / "a.bvh", good_bvh)).positions
    text = (
        good_bvh.replace(" ", "\t ")
        .replace("End\t Site", "End Site")
        .replace("MOTION", "# said by hand\nMOTION\n// too")
    )
    np.testing.assert_array_equal(
        bvh.read(written(tmp_path / "b.bvh", text, **other)).positions, expected
    )
    skeleton = asf_amc.read_skeleton(written(tmp_path / "a.asf", good_asf[0]))
    expected = asf_amc.read(written(tmp_path / "a.amc", good_asf[1]), skeleton).positions
    skeleton = asf_amc.read_skeleton(written(tmp_path / "b.asf", good_asf[0], **other))
    text = re.sub(r"(?m)^(ltibia .*)$", r"\1 # a remark", good_asf[1])
    np.testing.assert_array_equal(
        asf_amc.read(written(tmp_path / "b.amc", text, **other), skeleton).positions, expected
    )


def test_names_that_are_not_ascii(good_bvh, tmp_path):
    """UTF-8 names fit a map in UTF-8; Latin-1 is read as it ever was."""
    text = good_bvh.replace("LeftUpLeg", "Hüfte")
    entry = json.loads(open(skeletons.SHIPPED, encoding="utf-8").read())["cmu_bvh"]
    entry["joints"] |= {"left_hip": "Hüfte", "hip": ["Hüfte", "RightUpLeg"]}
    path = written(
        tmp_path / "map.json", json.dumps({"mine": entry}, ensure_ascii=False), encoding="utf-16"
    )
    for encoding in ("utf-8", "latin-1"):
        found = bvh.read(written(tmp_path / "a.bvh", text, encoding=encoding))
        assert skeletons.choose("a.bvh", found, skeletons.read_maps(path)).name == "mine"


@pytest.mark.parametrize(
    "header",
    [
        "frames 5\nframe time 0.0083333",
        "FRAMES :\t5\nFrameTime:\t0.0083333",
        "Frame Time: 0.0083333\n\nFrames: 5",
    ],
)
def test_headers_in_other_spellings(good_bvh, tmp_path, header):
    expected = bvh.read(written(tmp_path / "a.bvh", good_bvh))
    found = bvh.read(
        written(tmp_path / "b.bvh", good_bvh.replace("Frames: 5\nFrame Time: 0.0083333", header))
    )
    np.testing.assert_array_equal(found.positions, expected.positions)
    assert found.fps == expected.fps


def job_of(path: str, fps: float = 0.0, metres: float = 0.0, skeleton: str = "") -> Job:
    return Job(path, skeleton, fps, metres, "", MAPS, False)


@pytest.mark.parametrize(
    ("frame_time", "message"),
    [
        ("0", "not above 0 seconds, and from 10 to 2000 .* are read: give its rate with --fps"),
        ("-0.01", "a frame time that is not above 0 seconds"),
        (
            "33.3333",
            r"has a frame time of 33.3333 seconds \(0.03 frames per second\), and from 10 to 2000",
        ),
        ("120", r"has a frame time of 120 seconds \(0.00833333 frames per second\)"),
        ("1e-320", r"has a frame time of 0 seconds \(inf frames per second\)"),
    ],
)
def test_frame_times_that_cannot_be(good_bvh, tmp_path, frame_time, message):
    path = written(tmp_path / "a.bvh", good_bvh.replace("0.0083333", frame_time))
    with pytest.raises(UserError, match=message):
        read_job(job_of(path))
    assert read_job(job_of(path, fps=60.0)).frames == FRAMES


def test_a_rounded_frame_time_does_not_cost_the_last_frame():
    rng = np.random.default_rng(3)
    pose = motion.generate(rng, motion.ACTIONS["Waving"], motion.BONES, 241)
    for fps, frame_time in (
        (30, "0.033333"),
        (30, "0.0333333"),
        (120, "0.0083333"),
        (120, "0.00833333"),
    ):
        (piece,) = cleaning.clean(pose, 1 / float(frame_time)).pieces
        assert len(piece) == 240 * 50 // fps + 1
        np.testing.assert_allclose(piece, cleaning.clean(pose, fps).pieces[0], atol=2e-3)
    assert (
        len(cleaning.clean(pose[:-1], 120.0).pieces[0]) == 100
    )  # 239 / 120 s: the hundred and first has no time


def test_what_decides_rate_and_unit_is_said(good_bvh, good_asf, tmp_path):
    figure = written(tmp_path / "a.bvh", good_bvh)
    assert read_job(job_of(figure)).notes == {} == read_job(job_of(figure, fps=120.0)).notes
    assert list(read_job(job_of(figure, fps=60.0)).notes) == [
        "a rate in the file other than that of --fps, which was taken"
    ]
    bones, moved = (
        written(tmp_path / "a.asf", good_asf[0]),
        written(tmp_path / "a.amc", good_asf[1]),
    )
    (assumed,) = read_job(job_of(moved, skeleton=bones)).notes
    assert assumed.startswith(
        "no rate in an AMC file and none by --fps, so that 120 frames per second were taken"
    )
    rated = written(
        tmp_path / "b.amc", good_asf[1].replace(":DEGREES", ":DEGREES\n:SAMPLES-PER-SECOND 60")
    )
    assert list(read_job(job_of(rated, skeleton=bones)).notes) == [
        "an ASF file of another name, the only one beside the AMC file, was taken"
    ]
    assert asf_amc.read(rated, asf_amc.read_skeleton(bones)).fps == 60
    notes = read_job(job_of(moved, fps=120.0, metres=0.05, skeleton=bones)).notes
    assert list(notes) == ["a unit in the file other than that of --unit, which was taken"]


def test_an_asf_file_without_a_unit_asks_for_one(good_asf, tmp_path):
    bones = written(tmp_path / "a.asf", good_asf[0].replace("  length 0.45\n", ""))
    moved = written(tmp_path / "a.amc", good_asf[1])
    with pytest.raises(
        UserError,
        match="Neither '.*a.amc' nor the joint map 'acclaim' says the unit of length: give --unit",
    ):
        read_job(job_of(moved, skeleton=bones))
    assert read_job(job_of(moved, skeleton=bones, metres=motion_files.CMU_UNIT)).frames == FRAMES


@pytest.mark.parametrize(
    ("unit", "hint"),
    [
        (0.01, "cm would make them 0.8"),
        (0.001, "mm would make them 0.8"),
        (0.0254, "inch would make them 0.8"),
    ],
)
def test_a_wrong_unit_comes_with_one_that_fits(tmp_path, unit, hint):
    path = written(tmp_path / "a.bvh", motion_files.bvh(seed=1, frames=2, fps=120, unit=unit)[0])
    with pytest.raises(
        UserError,
        match=rf"has legs of .*: give the file's unit with --unit \({hint}",
    ):
        read_job(job_of(path))


def named(text: str, change) -> str:
    return re.sub(r"(ROOT|JOINT) (\S+)", lambda match: f"{match[1]} {change(match[2])}", text)


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"mixamorig:{name}",
        lambda name: f"mixamorig{name}",
        lambda name: f"Character1_{name}",
        lambda name: f"scene:actor:{name}",
        lambda name: f"my figure {name}",
        lambda name: f"{'arms' if 'Arm' in name else 'rest'}:{name}",
    ],
)
def test_what_stands_before_all_names_is_left_away(good_bvh, tmp_path, change):
    plain, other = (
        bvh.read(written(tmp_path / "a.bvh", text)) for text in (good_bvh, named(good_bvh, change))
    )
    expected, found = (
        skeletons.to_h36m("a.bvh", one, skeletons.choose("a.bvh", one, MAPS), 0, "")
        for one in (plain, other)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda name: f"A_{name}" if name.startswith("Left") else name,
            "none of .* fits, with the joints Hips, A_LeftUpLeg, ",
        ),
        (
            lambda name: f"A_{name}" if name.startswith("Left") else f"B_{name}",
            "none of .* fits, with the joints B_Hips, A_LeftUpLeg, ",
        ),
        (
            lambda name: name.replace("Left", "Links"),
            "none of .* fits, with the joints Hips, LinksUpLeg",
        ),
    ],
)
def test_names_that_are_prefixed_in_part_are_shown(good_bvh, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read_job(job_of(written(tmp_path / "a.bvh", named(good_bvh, change))))


@pytest.mark.parametrize("prefixes", [("A:", "B:"), ("", "ghost:"), ("one_", "two_")])
def test_two_figures_in_a_file_are_not_chosen_between(good_bvh, tmp_path, prefixes):
    one = bvh.read(written(tmp_path / "a.bvh", good_bvh))
    joints = {prefix + name: column for prefix in prefixes for name, column in one.joints.items()}
    with pytest.raises(
        UserError,
        match="'a.bvh' has the joints of 'cmu_bvh' more than once .*: leave one figure",
    ):
        skeletons.choose("a.bvh", dataclasses.replace(one, joints=joints), MAPS)
    # Nor are two of which each lacks a joint.
    partly = {
        name: column
        for name, column in joints.items()
        if name not in (prefixes[0] + "LeftArm", prefixes[1] + "RightArm")
    }
    with pytest.raises(UserError, match="more than once|none of .* fits"):
        skeletons.choose("a.bvh", dataclasses.replace(one, joints=partly), MAPS)


def laid(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    found, without = files.find_files(str(folder))
    pairs = {
        motion_file[len(str(folder)) + 1 :]: skeleton[len(str(folder)) + 1 :]
        for motion_file, skeleton in found
    }
    return pairs, [path[len(str(folder)) + 1 :] for path in without]


def test_every_amc_file_gets_its_own_skeleton_or_none(tmp_path):
    assert laid(tmp_path / "a", ["1.asf", "2.asf", "10_01.amc", "1_01.amc", "2-01.AMC"]) == (
        {"1_01.amc": "1.asf", "2-01.AMC": "2.asf"},
        ["10_01.amc"],
    )
    # 08's skeleton is not there, and 07's is not its own.
    assert laid(tmp_path / "b", ["07.asf", "07_01.amc", "08_01.amc"]) == (
        {"07_01.amc": "07.asf"},
        ["08_01.amc"],
    )
    assert laid(tmp_path / "c", ["HDM_BK.ASF", "cut/HDM_bk_walk.amc"]) == (
        {"cut/HDM_bk_walk.amc": "HDM_BK.ASF"},
        [],
    )
    beside = [
        "skeletons/HDM_bk.asf",
        "skeletons/HDM_bd.asf",
        "walk/HDM_bk_001_120.amc",
        "readme.txt",
        "walk/LICENSE",
    ]
    assert laid(tmp_path / "d", beside) == ({"walk/HDM_bk_001_120.amc": "skeletons/HDM_bk.asf"}, [])
    twice = ["x/07.asf", "y/07.asf", "z/07_01.amc"]
    assert laid(tmp_path / "e", twice) == ({}, ["z/07_01.amc"])


def test_motion_without_its_skeleton_ends_it_or_is_left_out(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    text = motion_files.bvh(seed=5, frames=60, fps=60, unit=motion_files.CMU_UNIT)[0]
    for name in ("a_1.bvh", "b_1.bvh"):
        (source / name).write_text(text)
    (source / "07_01.amc").write_text("")
    (source / "07_02.amc").write_text("")
    with pytest.raises(
        UserError,
        match=r"07_01.amc' has no skeleton: .* \(1 more have none\), or .* --skip-unreadable\.$",
    ):
        run(source, tmp_path / "out")
    summary = run(source, tmp_path / "out", skip_unreadable=True, test_subjects=("b",))
    assert summary.splits == {"train": (4, 200), "test": (4, 200)}
    assert [line.split("'")[1].rpartition("/")[2] for line in summary.left_out] == [
        "07_01.amc",
        "07_02.amc",
    ]


def test_archives_that_are_still_packed(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "allasfamc.zip").write_bytes(b"PK")
    with pytest.raises(
        UserError,
        match=r"holds no \*.bvh and no \*.amc file: unpack 'allasfamc.zip', and give the folder",
    ):
        files.find_files(str(tmp_path / "in"))
    with pytest.raises(
        UserError, match=r"allasfamc.zip' is not a folder: unpack it, and give the folder"
    ):
        files.find_files(str(tmp_path / "in" / "allasfamc.zip"))


@pytest.mark.parametrize("fps", ["0", "-5", "nan", "inf", "60_*=nan", "60,,x"])
def test_rates_that_are_none(fps):
    with pytest.raises(
        UserError, match="--fps has '.*': write a rate from 10 to 2000, or PATTERN=RATE"
    ):
        files.parse_rates(fps)


@pytest.mark.parametrize("unit", ["nan", "-1", "inf", "1000"])
def test_units_that_are_none(unit):
    with pytest.raises(UserError, match=f"--unit is '{unit}'"):
        files.parse_unit(unit)


def test_knees_tell_the_front():
    rng = np.random.default_rng(0)
    pose = np.concatenate(
        [
            motion.generate(rng, motion.ACTIONS[name], motion.BONES, 200)
            for name in ("Walking", "Squatting")
        ]
    )
    assert bodies.doubts([pose]) == [] == bodies.doubts([])
    assert bodies.doubts([pose * [1, -1, 1]]) == [bodies.BACKWARDS]
    exchanged = pose[:, [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13]]
    assert bodies.doubts([exchanged]) == [bodies.BACKWARDS]
    assert bodies.doubts([pose[..., [2, 0, 1]]]) == [bodies.LYING]  # turned, not mirrored
    stiff = pose * [1, -1, 1]
    for hip, knee, ankle in bodies.LEGS:
        straight = (stiff[:, hip] + stiff[:, ankle]) / 2
        stiff[:, knee] = straight + 0.02 * (stiff[:, knee] - straight)
    assert bodies.doubts([stiff]) == []  # knees that hardly bend tell nothing
