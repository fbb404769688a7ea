"""Files of keypoints that cannot be used: one sentence each, with the place and a remedy."""

import json
import re
import tracemalloc
import zipfile

import keypoint_files as files
import numpy as np
import pytest

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints.formats import recognise
from kdpose_jax.keypoints.formats.recognise import read_keypoints
from kdpose_jax.untrusted import bounds

VALUES = files.scene(17)


def refused(path, said, **options):
    with pytest.raises(UserError, match=said) as caught:
        read_keypoints(str(path), **options)
    sentence = str(caught.value)
    assert sentence.isprintable() and sentence.endswith(".") and len(sentence) < 700


def changed(tmp_path, change, entries=None):
    """AlphaPose's list after a change."""
    path = tmp_path / "a.json"
    files.alphapose(path, VALUES)
    content = json.loads(path.read_text()) if entries is None else entries
    change(content)
    return files.write_json(path, content)


def test_nothing_there(tmp_path):
    refused(tmp_path / "no.json", "does not exist")
    refused("gs://bucket/a.json", "is not on a disk: copy it")
    (tmp_path / "empty.json").write_text("")
    refused(tmp_path / "empty.json", "is empty")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "is a folder without .json and .txt files")


@pytest.mark.parametrize("content", [b"\x00\x01\x02\x03", b"hello world\n", b"[1]", b'{"a": 1}'])
def test_what_no_detector_writes(content, tmp_path):
    (tmp_path / "a.bin").write_bytes(content)
    refused(tmp_path / "a.bin", "not recognised as keypoints.*--format with one of openpose, alph")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.999])
def test_truncated_files(kept, tmp_path):
    for name, path in {
        "a": files.alphapose(tmp_path / "a.json", VALUES),
        "m": files.write_json(tmp_path / "m.json", files.mmpose_frames(VALUES)),
        "v": files.videopose3d(tmp_path / "v.npz", {"x": VALUES[0]}),
    }.items():
        with open(path, "rb") as file:
            content = file.read()
        cut = tmp_path / f"cut_{name}"
        cut.write_bytes(content[: int(kept * len(content))])
        refused(cut, "cannot be read as JSON|not recognised|not a whole npz")


def test_no_person_in_any_frame(tmp_path):
    for content in ([], {}, [[], []]):
        refused(files.write_json(tmp_path / "e.json", content), "has no entries")
    for frame in range(60):
        files.write_json(tmp_path / "f" / f"{frame}.json", [])
    refused(tmp_path / "f", "no person in any of its 60 files")
    folder = files.openpose(tmp_path / "a", np.full((1, 4, 25, 3), np.nan))
    refused(folder, r"no person")
    frames = [{"frame_id": n, "instances": []} for n in range(4)]
    refused(files.write_json(tmp_path / "m.json", frames), "no person in any frame")
    refused(files.detectron2(tmp_path / "r.npz", VALUES, empty=range(6)), "no person in any frame")
    zeros = np.zeros((1, 3, 25, 3))
    refused(files.openpose(tmp_path / "z", zeros), "not one joint with a score above 0")


def test_wrong_format_says_what_it_looks_like(tmp_path):
    path = files.write_json(tmp_path / "m.json", files.mmpose_frames(VALUES))
    refused(path, "--format is alphapose, and .* looks like mmpose", format_name="alphapose")
    refused(path, "--format is 'openpse': use one of openpose", format_name="openpse")
    assert read_keypoints(path, format_name="mmpose").format == "mmpose"


def test_every_format_refuses_the_files_of_the_others(tmp_path):
    """With `--format`, whatever the file: a sentence, and no guess."""
    paths = {
        "alphapose": files.alphapose(tmp_path / "a.json", VALUES),
        "openpose": files.openpose(tmp_path / "o", files.scene(25)),
        "mmpose": files.write_json(tmp_path / "m.json", files.mmpose_frames(VALUES)),
        "detectron2": files.detectron2(tmp_path / "d.npz", VALUES),
        "videopose3d": files.videopose3d(tmp_path / "v.npz", {"x": VALUES[0]}),
        "ultralytics": files.ultralytics_txt(tmp_path / "u", VALUES),
        "deeplabcut": files.deeplabcut(tmp_path / "l.csv", VALUES, files.COCO_17),
    }
    for name, path in paths.items():
        for other in recognise.FORMATS:
            if other != name:
                refused(path, f"looks like {name}", format_name=other, size=files.SIZE)
                if (name, other) == ("alphapose", "coco"):
                    continue  # AlphaPose's entries are COCO's with more members
                with pytest.raises(UserError):
                    recognise.FORMATS[other].read(path, recognise.Options(size=files.SIZE))


def test_mixed_layouts(tmp_path):
    def mix(entries):
        entries[3]["keypoints"] += [1.0, 2.0, 0.5] * 9

    refused(changed(tmp_path, mix), r"entry 3 has 26 joints and those before it have 17")
    folder = files.openpose(tmp_path / "o", files.scene(25))
    files.openpose(folder, files.scene(18, frames=1), first=6)
    refused(folder, "18 joints and those before it have 25")


@pytest.mark.parametrize("count", [16, 19, 5])
def test_joints_of_no_layout(count, tmp_path):
    path = files.alphapose(tmp_path / "a.json", np.pad(VALUES, ((0, 0), (0, 0), (0, 3), (0, 0))))
    entries = json.loads((tmp_path / "a.json").read_text())
    for entry in entries:
        entry["keypoints"] = entry["keypoints"][: 3 * count]
    files.write_json(tmp_path / "a.json", entries)
    refused(path, f"{count} joints for a person and does not name them")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1.5", "has '1.5' where a number must be"),
        ([1], "where a number must be"),
        ({}, "where a number must be"),
        (10**400, "where a number must be"),
    ],
)
def test_strings_and_others_for_numbers(value, said, tmp_path):
    def spoil(entries):
        entries[2]["keypoints"][4] = value

    refused(changed(tmp_path, spoil), said)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -1e300])
def test_values_that_mean_missing(value, tmp_path):
    def spoil(entries):
        entries[2]["keypoints"][4] = value

    (track,) = read_keypoints(changed(tmp_path, spoil)).tracks
    assert np.isnan(track.points[2, 1]).all() and track.scores[2, 1] == 0
    assert np.isfinite(track.points[3]).all()


def test_negative_scores_mean_missing(tmp_path):
    values = VALUES.copy()
    values[0, 2, 3, 2] = -0.2
    (track,) = read_keypoints(files.alphapose(tmp_path / "a.json", values)).tracks
    assert np.isnan(track.points[2, 3]).all()


@pytest.mark.parametrize("image", [None, True, [1], 1.5, {}])
def test_pictures_without_a_name(image, tmp_path):
    def spoil(entries):
        entries[1]["image_id"] = image

    refused(changed(tmp_path, spoil), "entry 1 has image_id")


def test_frames_of_two_videos(tmp_path):
    folder = files.openpose(tmp_path / "o", files.scene(25))
    files.openpose(folder, files.scene(25), stem="run")
    refused(folder, "frames of 2 videos")
    files.alphapose(tmp_path / "b.json", VALUES, name="b_{}.jpg")
    both = json.loads((tmp_path / "b.json").read_text())
    refused(changed(tmp_path, lambda entries: entries.extend(both)), "frames of 2 videos")


def test_frames_twice(tmp_path):
    frames = files.mmpose_frames(VALUES)
    refused(files.write_json(tmp_path / "m.json", [*frames, frames[2]]), "has frame 2 twice")
    folder = files.openpose(tmp_path / "o", files.scene(25))
    files.write_json(tmp_path / "o" / "walk_2_keypoints.json", {"people": []})
    refused(folder, "has frame 2 twice")
    rows = [["frame", *(f"{n}_{k}" for n in files.COCO_17 for k in "xy")]]
    rows += [[n, *VALUES[0, n, :, :2].reshape(-1)] for n in (0, 1, 1)]
    refused(files.table(tmp_path / "a.csv", rows), "line 4 has frame 1 a second time")


def test_frames_out_of_order_are_sorted_and_said(tmp_path):
    frames = files.mmpose_frames(VALUES)[::-1]
    read = read_keypoints(files.write_json(tmp_path / "m.json", frames))
    np.testing.assert_array_equal(read.tracks[0].points, np.float32(VALUES[0, ..., :2]))
    assert any("out of order" in note for note in read.notes)


@pytest.mark.parametrize("frame", [-1, 1.5, "3", None, True])
def test_numbers_of_frames_that_are_none(frame, tmp_path):
    frames = files.mmpose_frames(VALUES)
    frames[1]["frame_id"] = frame
    refused(files.write_json(tmp_path / "m.json", frames), "entry 1 has frame_id")


def test_a_size_that_the_keypoints_do_not_fit(tmp_path):
    path = files.alphapose(tmp_path / "a.json", files.scene(17, persons=3))
    refused(path, "of the joints lie outside a video of 200x100", size=(200, 100))
    read = read_keypoints(path, size=(640, 480))
    assert any("joints lie outside the video of 640x480" in note for note in read.notes)


def test_the_users_size_and_rate_win(tmp_path):
    path = files.videopose3d(tmp_path / "v.npz", {"x": VALUES[0]})
    read = read_keypoints(path, size=(1920, 1080), fps=24.0)
    assert read.size == (1920, 1080) and read.fps == 24
    assert any("in place of the file's 1280x720" in note for note in read.notes)
    refused(path, "--fps is 0: give frames per second above 0", fps=0.0)


def test_three_dimensions_are_refused(tmp_path):
    poses = np.random.default_rng(0).normal(size=(20, 17, 3))
    np.save(tmp_path / "a.npy", poses)
    refused(tmp_path / "a.npy", "are these 3D poses", joints="coco_17")
    frames = files.mmpose_frames(VALUES)
    frames[0]["instances"][0]["keypoints"][2] = [1, 2, 3]
    refused(files.write_json(tmp_path / "m.json", frames), "3D poses are not read")


@pytest.mark.parametrize("shape", [(17, 2), (5, 17), (0, 17, 2), (2, 3, 4, 5, 2), (5, 17, 4)])
def test_arrays_of_other_shapes(shape, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    refused(tmp_path / "a.npy", "has no array of frames x joints x 2 or 3", joints="coco_17")


def test_pickles_are_not_run(tmp_path):
    class Runs:
        def __reduce__(self):
            return print, ("run",)

    np.savez(tmp_path / "v.npz", positions_2d={"x": {"custom": [Runs()]}}, metadata={})
    refused(tmp_path / "v.npz", "could run code; it was not loaded")
    np.save(tmp_path / "a.npy", np.asarray([Runs()], object), allow_pickle=True)
    refused(tmp_path / "a.npy", "could run code; it was not loaded")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frame,nose_x,nose_y\n0,1,zwei\n", "line 2 has 'zwei' where a number must be"),
        ("frame;nose_x;nose_y\n0;1,5;2\n", "decimal comma: write a point"),
        ("frame,nose_x,nose_y\n0,1\n", "line 2 has 2 cells and its header needs 3"),
        ("frame,nose_x,nose_y\nx,1,2\n", "no number of a frame"),
        ('frame,nose_x,nose_y\n0,"1,2\n', "cannot be read as a table"),
        ("frame,tail_x,tail_y\n0,1,2\n", "names no joint that is known"),
        ("landmark,x,y\nnose,1,2\n", "no column 'frame'"),
        ("frame,landmark,x,y\n0,nose,1,2\n0,nose,1,2\n", "'nose' a second time"),
    ],
)
def test_tables_with_errors(text, said, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    refused(tmp_path / "a.csv", said)


def test_a_long_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "LINE", 1000)
    (tmp_path / "a.csv").write_text("frame,nose_x,nose_y\n" + "1" * 2000)
    refused(tmp_path / "a.csv", "a line of 1,000 characters or more")


def test_more_joints_than_fit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "KEYPOINTS", 60)
    refused(files.alphapose(tmp_path / "a.json", VALUES), "more than 60 joints: split the video")
    np.save(tmp_path / "a.npy", VALUES[0])
    refused(tmp_path / "a.npy", "more than 60 joints: split the video", joints="coco_17")


def test_large_files_are_streamed(tmp_path, monkeypatch):
    """No part is larger than a frame, so a file may be larger than what a part may have."""
    monkeypatch.setattr(bounds, "JSON_PART", 5000)
    values = files.scene(17, persons=2, frames=100)
    path = files.alphapose(tmp_path / "a.json", values)
    assert (tmp_path / "a.json").stat().st_size > 20 * 5000
    read = read_keypoints(path)
    np.testing.assert_array_equal(read.tracks[1].points, np.float32(values[1, ..., :2]))


def test_long_files_are_held_once(tmp_path):
    """x, y and score of a joint take 12 bytes, and the number of the frame a little."""
    values = files.scene(17, persons=2, frames=500)
    path = files.alphapose(tmp_path / "a.json", values)
    read_keypoints(path)  # what is kept for all files
    tracemalloc.start()
    try:
        read = read_keypoints(path)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 16 * 2 * 500 * 17
    np.testing.assert_array_equal(read.tracks[1].points, np.float32(values[1, ..., :2]))
    np.testing.assert_array_equal(read.tracks[0].scores, np.float32(values[0, ..., 2]))


def test_map_without_names(tmp_path):
    table = files.write_json(tmp_path / "m.json", {"a": "nose"})
    path = files.alphapose(tmp_path / "a.json", VALUES)
    refused(path, "has joints without names: give --joints LAYOUT", map_file=table)


def test_sentences_name_no_more_than_fits(tmp_path):
    names = [f"part{index}" * 20 for index in range(400)]
    path = files.deeplabcut(tmp_path / "a.csv", files.scene(400, frames=1), names)
    with pytest.raises(UserError) as caught:
        read_keypoints(path)
    assert len(str(caught.value)) < 2000 and re.search("and 388 more", str(caught.value))


def test_pictures_of_several_folders(tmp_path):
    """Two videos whose frames have different numbers would become one."""
    path = changed(tmp_path, lambda entries: [
        one.update(image_id=f"{'ab'[index // 3]}/{index}.jpg") for index, one in enumerate(entries)
    ])  # fmt: skip
    refused(path, "pictures of 2 folders .'a' and 'b'.*give a file of one of them")
    values = VALUES[0, 0].reshape(-1).tolist()
    content = {
        "images": [{"id": n, "file_name": f"{'ab'[n // 2]}\\{n}.jpg"} for n in range(4)],
        "annotations": [{"image_id": n, "category_id": 1, "keypoints": values} for n in range(4)],
    }
    refused(files.write_json(tmp_path / "c.json", content), "pictures of 2 folders")
    rows = [["image", "nose_x", "nose_y"], ["a/1.jpg", 1, 2], ["b/2.jpg", 1, 2]]
    refused(files.table(tmp_path / "a.csv", rows), "pictures of 2 folders")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([["frame", "nose_x", "nose_y"], [0.0333, 1, 2]], "line 2 has the frame 0.0333, which is"),
        ([["frame", "nose_x", "nose_y", "nose_x"], [0, 1, 2, 3]], "the column 'nose_x' twice"),
    ],
)
def test_columns_with_two_meanings(rows, said, tmp_path):
    refused(files.table(tmp_path / "a.csv", rows), said)


def test_arrays_that_are_no_numbers(tmp_path):
    points = VALUES[0, ..., 0]
    np.savez(tmp_path / "a.npz", keypoints_2d=points + 1j * points)
    refused(tmp_path / "a.npz", r"\(keypoints_2d\) holds values of type complex128.*as numbers")
    np.savez(tmp_path / "s.npz", keypoints_2d=np.zeros((5, 17), [("x", "f4"), ("y", "f4")]))
    refused(tmp_path / "s.npz", r"holds values of type \[\('x'.*as numbers")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("walk_1_keypoints.json", "{}")
    refused(tmp_path / "z.zip", "zip archive of other files than arrays .*unpack it")


def test_three_dimensions_of_deeplabcut(tmp_path):
    rows = [["scorer"] + ["s"] * 3, ["bodyparts"] + ["nose"] * 3, ["coords", "x", "y", "z"]]
    refused(files.table(tmp_path / "a.csv", [*rows, [0, 1, 2, 3]]), "has z in its row 'coords'")
