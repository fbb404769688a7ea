"""Every source of keypoints, read from a file in its tool's own layout."""

import json
import subprocess
import sys

import keypoint_files as files
import numpy as np
import pytest
from repository import REPOSITORY

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints.formats.recognise import read_keypoints

SIZE = files.SIZE
NOSE, LEFT_ANKLE = 0, 15  # of COCO's 17


def test_readers_need_neither_jax_nor_tensorflow_nor_opencv():
    """They start fast, whatever the file."""
    program = "import sys; import kdpose_jax.keypoints.formats.recognise; "
    program += "sys.exit(bool({'jax', 'tensorflow', 'cv2', 'PIL', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY).returncode == 0


def require_scene(keypoints, values, first=0, joints=None):
    """The tracks are the persons of the scene, in its order."""
    joints = values.shape[2] if joints is None else joints
    assert len(keypoints.tracks) == len(values)
    for track, expected in zip(keypoints.tracks, values[:, :, :joints], strict=True):
        np.testing.assert_array_equal(track.frames, np.arange(first, first + len(expected)))
        np.testing.assert_allclose(track.points, expected[..., :2], atol=1e-4)
        np.testing.assert_allclose(track.scores, expected[..., 2], atol=1e-6)


@pytest.mark.parametrize(
    ("joints", "layout", "named"),
    [
        (files.BODY_25, "body_25", {"Neck": "neck_base", "MidHip": "pelvis", "LHeel": "left_heel"}),
        (files.COCO_18, "coco_18", {"RShoulder": "right_shoulder", "LEar": "left_ear"}),
        (
            files.HALPE_26,
            "halpe_26",
            {"Head": "head_top", "Hip": "pelvis", "RAnkle": "right_ankle"},
        ),
    ],
)
def test_openpose_layouts(joints, layout, named, tmp_path):
    values = files.scene(len(joints), persons=2)
    read = read_keypoints(files.openpose(tmp_path / "a", values), size=SIZE)
    assert (read.format, read.layout, read.length, read.size) == ("openpose", layout, 6, SIZE)
    require_scene(read, values)
    for theirs, ours in named.items():
        assert read.joints[joints.index(theirs)] == ours
    assert any("recognised as openpose" in note for note in read.notes)
    assert any("no id" in note for note in read.notes)
    assert f"Joints were taken as {layout}, because they are {len(joints)}." in read.notes


@pytest.mark.parametrize("scale", [3, 4])
def test_openpose_scales(scale, tmp_path):
    values = files.scene(25)
    values[0, 2, 4] = np.nan
    read = read_keypoints(files.openpose(tmp_path / "a", values, scale=scale), size=SIZE)
    (track,) = read.tracks
    np.testing.assert_allclose(track.points, values[0, ..., :2], atol=1e-4)
    assert np.isnan(track.points[2, 4]).all() and track.scores[2, 4] == 0
    said = "from 0 to 1" if scale == 3 else "from -1 to 1"
    assert any(said in note for note in read.notes)
    with pytest.raises(UserError, match="--size 1920x1080"):
        read_keypoints(str(tmp_path / "a"))


def test_openpose_empty_frames_ids_and_first_frame(tmp_path):
    values = files.scene(25, persons=2)
    values[:, 1] = np.nan  # nobody
    values[1, 4] = np.nan
    folder = files.openpose(tmp_path / "a", values, ids=[7, 3], first=9)
    one, other = read_keypoints(folder).tracks
    assert (one.name, other.name) == ("7", "3")
    assert one.frames.tolist() == [9, 11, 12, 13, 14] and other.frames.tolist() == [9, 11, 12, 14]
    assert read_keypoints(folder).length == 15


def test_openpose_one_frame(tmp_path):
    values = files.scene(25, frames=1)
    folder = files.openpose(tmp_path / "a", values)
    require_scene(read_keypoints(f"{folder}/walk_000000000000_keypoints.json"), values)


def test_alphapose_sorts_pictures_as_numbers(tmp_path):
    values = files.scene(17, persons=2, frames=12)
    path = files.alphapose(tmp_path / "alphapose-results.json", values)
    entries = json.loads((tmp_path / "alphapose-results.json").read_text())
    (tmp_path / "text.json").write_text(json.dumps(sorted(entries, key=lambda e: e["image_id"])))
    for name in (path, str(tmp_path / "text.json")):
        read = read_keypoints(name)
        assert (read.format, read.layout) == ("alphapose", "coco_17")
        require_scene(read, values)
    assert any("out of order" in note for note in read.notes)


@pytest.mark.parametrize(
    "idx", [lambda f, p: p + 1, lambda f, p: [float(p + 1)], lambda f, p: [[p + 1]]]
)
@pytest.mark.parametrize("joints", [26, 136])
def test_alphapose_ids_and_halpe(joints, idx, tmp_path):
    values = files.scene(joints, persons=2)
    read = read_keypoints(files.alphapose(tmp_path / "a.json", values, idx=idx))
    assert [track.name for track in read.tracks] == ["1", "2"]
    assert read.layout == f"halpe_{joints}" and len(read.joints) == 26
    require_scene(read, values, joints=26)
    assert any("110 of the 136" in note for note in read.notes) == (joints == 136)


@pytest.mark.parametrize("form", ["cmu", "open"])
def test_alphapose_forms_of_openpose(form, tmp_path):
    values = files.scene(17, persons=2, frames=3)
    read = read_keypoints(files.alphapose(tmp_path / "a.json", values, form=form))
    assert (read.format, read.layout) == ("alphapose", "coco_18")
    for track, expected in zip(read.tracks, values, strict=True):
        middle = expected[:, [5, 6], :2].mean(axis=1)
        np.testing.assert_allclose(track.points[:, 1], middle, atol=1e-9)
        ankle = read.joints.index("left_ankle")
        np.testing.assert_array_equal(
            track.points[:, ankle], np.float32(expected[:, LEFT_ANKLE, :2])
        )
    pictures = json.loads((tmp_path / "a.json").read_text())
    for name, content in pictures.items():  # the folder sep-json beside it
        files.write_json(tmp_path / "sep-json" / f"{name.split('.')[0]}.json", content)
    assert read_keypoints(str(tmp_path / "sep-json")).tracks[1].points.shape == (3, 18, 2)


def test_detectron2(tmp_path):
    values = files.scene(17, persons=2)
    read = read_keypoints(files.detectron2(tmp_path / "raw.npz", values, empty=(2,)))
    assert (read.format, read.layout, read.size) == ("detectron2", "coco_17", SIZE)
    assert read.length == 6 and all(
        track.frames.tolist() == [0, 1, 3, 4, 5] for track in read.tracks
    )
    for track, expected in zip(read.tracks, values, strict=True):
        np.testing.assert_allclose(track.points, expected[track.frames, :, :2], atol=1e-4)
        np.testing.assert_allclose(track.scores, expected[track.frames, :, 2], atol=1e-6)


def test_videopose3d(tmp_path):
    dance, walk = files.scene(17, frames=8)[0], files.scene(17, seed=1)[0]
    path = files.videopose3d(tmp_path / "data_2d_custom_a.npz", {"dance.mp4": dance})
    read = read_keypoints(path)
    assert (read.format, read.layout, read.size) == ("videopose3d", "coco_17", SIZE)
    np.testing.assert_array_equal(read.tracks[0].points, dance[..., :2].astype(np.float32))
    assert (read.tracks[0].scores == 1).all() and any("no scores" in note for note in read.notes)
    path = files.videopose3d(tmp_path / "two.npz", {"dance.mp4": dance, "walk.mp4": walk})
    with pytest.raises(UserError, match=r"2 videos: choose one with --clip \(dance.mp4, walk.mp4"):
        read_keypoints(path)
    assert read_keypoints(path, clip="walk.mp4").length == 6
    with pytest.raises(UserError, match="--clip run is not in"):
        read_keypoints(path, clip="run")


@pytest.mark.parametrize("first", [0, 1])
def test_mmpose_inferencer(first, tmp_path):
    values = files.scene(17, persons=2)
    path = files.write_json(tmp_path / "a.json", files.mmpose_frames(values, first))
    read = read_keypoints(path)
    assert (read.format, read.layout, read.length) == ("mmpose", "coco_17", 6 + first)
    require_scene(read, values, first)


def test_mmpose_dead_joints_are_missing(tmp_path):
    values = files.scene(17)
    values[0, 3, 9] = (-1.6, -1.6, 0.0)
    (track,) = read_keypoints(
        files.write_json(tmp_path / "a.json", files.mmpose_frames(values))
    ).tracks
    assert np.isnan(track.points[3, 9]).all() and np.isfinite(track.points[4]).all()


def test_mmpose_demo_names_joints_and_tracks(tmp_path):
    values = files.scene(133, persons=2)
    names = {str(index): name for index, name in enumerate(files.COCO_133)}
    content = {
        "meta_info": {"dataset_name": "coco_wholebody", "keypoint_id2name": names},
        "instance_info": files.mmpose_frames(values, ids=[4, 2]),
    }
    read = read_keypoints(files.write_json(tmp_path / "a.json", content))
    assert [track.name for track in read.tracks] == ["4", "2"]
    assert read.layout == "coco_133" and read.joints[-1] == "right_heel"
    require_scene(read, values, joints=23)
    names |= {"0": "left_ankle", "15": "nose"}  # another order is another meaning
    swapped = read_keypoints(files.write_json(tmp_path / "b.json", content))
    nose = swapped.joints.index("nose")
    np.testing.assert_array_equal(
        swapped.tracks[0].points[:, nose], np.float32(values[0, :, 15, :2])
    )


def test_mmpose_pictures(tmp_path):
    values = files.scene(17, persons=2)
    for frame in range(6):
        files.write_json(tmp_path / "p" / f"{frame:05d}.json", files.instances(values, frame))
    require_scene(read_keypoints(str(tmp_path / "p")), values)
    require_scene(read_keypoints(str(tmp_path / "p" / "00002.json")), values[:, 2:3])


@pytest.mark.parametrize("confidence", [False, True])
@pytest.mark.parametrize("ids", [None, [5, 2]])
@pytest.mark.parametrize("dims", [2, 3])
def test_ultralytics_txt(confidence, ids, dims, tmp_path):
    values = files.scene(17, persons=2)
    folder = files.ultralytics_txt(
        tmp_path / "labels", values, confidence=confidence, ids=ids, dims=dims
    )
    (tmp_path / "labels" / "walk_9.txt").write_text("")
    read = read_keypoints(folder, size=SIZE)
    assert (read.format, read.layout) == ("ultralytics", "coco_17")
    if dims == 2:
        values[..., 2] = 1
    require_scene(read, values, first=1)
    assert [track.name for track in read.tracks] == (["5", "2"] if ids else ["1", "2"])


def test_ultralytics_low_joints_at_zero_are_missing(tmp_path):
    values = files.scene(17)
    values[0, 1, 7] = (0, 0, 0.31)  # as 8.3.0 writes a joint with a confidence below 0.5
    folder = files.ultralytics_txt(tmp_path / "labels", values)
    (track,) = read_keypoints(folder, size=SIZE).tracks
    assert np.isnan(track.points[1, 7]).all() and track.scores[1, 7] == 0


def test_ultralytics_json(tmp_path):
    values = files.scene(17, persons=2)
    frames = [files.ultralytics_frame(values, frame, ids=[1, 8]) for frame in range(6)]
    read = read_keypoints(files.write_json(tmp_path / "a.json", [[], *frames, []]))
    assert (read.format, read.length) == ("ultralytics", 8)
    require_scene(read, values, first=1)
    require_scene(read_keypoints(files.write_json(tmp_path / "b.json", frames[3])), values[:, 3:4])
    for frame, content in enumerate(frames):
        files.write_json(tmp_path / "f" / f"walk_{frame}.json", content)
    require_scene(read_keypoints(str(tmp_path / "f")), values)


def coco_results(values, first=0):
    return [
        {
            "image_id": frame + first,
            "category_id": 1,
            "keypoints": values[person, frame].reshape(-1).tolist(),
            "score": 0.9,
        }
        for frame in range(values.shape[1])
        for person in range(len(values))
    ]


def test_coco_results(tmp_path):
    values = files.scene(17, persons=2)
    entries = [*coco_results(values), {**coco_results(values)[0], "category_id": 18}]
    read = read_keypoints(files.write_json(tmp_path / "a.json", entries))
    assert (read.format, read.layout, read.size) == ("coco", "coco_17", None)
    require_scene(read, values)
    assert any(note.startswith("1 entries of crowds, of other") for note in read.notes)


def test_coco_ids_of_pictures_are_not_frames(tmp_path):
    values = files.scene(17, frames=3)
    entries = coco_results(values)
    for entry, image in zip(entries, (397133, 37777, 252219), strict=True):
        entry["image_id"] = image
    read = read_keypoints(files.write_json(tmp_path / "a.json", entries))
    np.testing.assert_array_equal(read.tracks[0].points[0], np.float32(values[0, 1, :, :2]))
    assert read.length == 3 and any("counted in their order" in note for note in read.notes)


def test_coco_annotations(tmp_path):
    values = files.scene(17, frames=4)
    values[..., 2] = 2
    values[0, 2, 5] = 0  # not labelled
    annotations = [
        {**entry, "id": index, "iscrowd": 0, "track_id": 6, "category_id": 3}
        for index, entry in enumerate(coco_results(values, first=100))
    ]
    content = {
        "info": {},
        "images": [
            {"id": 100 + n, "file_name": f"a/frame_{n:04d}.jpg", "width": 1280, "height": 720}
            for n in range(4)
        ],
        "annotations": [*annotations, {**annotations[0], "iscrowd": 1}, {"id": 9, "bbox": [1]}],
        "categories": [{"id": 3, "name": "person", "keypoints": files.COCO_17}],
    }
    read = read_keypoints(files.write_json(tmp_path / "a.json", content))
    assert (read.format, read.size, read.length) == ("coco", SIZE, 4)
    (track,) = read.tracks
    assert track.name == "6" and (track.scores[0] == 1).all()
    assert np.isnan(track.points[2, 5]).all() and np.isfinite(track.points[3]).all()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda persons, n: {"frame": n, "pose_landmarks": persons},
        lambda persons, n: {"frame": n, "pose_landmarks": persons[0] if persons else None},
        lambda persons, n: {"landmarks": persons, "worldLandmarks": [[{"x": 0, "y": 0}] * 33]},
        lambda persons, n: persons[0] if persons else [],
        lambda persons, n: {"poseLandmarks": {"landmark": persons[0]}} if persons else None,
        lambda persons, n: (
            [v for one in persons[0] for v in list(one.values())[:4]] if persons else []
        ),
        lambda persons, n: (
            dict(zip(files.MEDIAPIPE_33, persons[0], strict=True)) if persons else {}
        ),
    ],
)
def test_mediapipe_json(wrap, tmp_path):
    values = files.scene(33)
    frames = [
        wrap([files.landmarks(values[0, n])] if n != 2 else [], n) for n in range(values.shape[1])
    ]
    for content in (frames, {"fps": 30, "frames": frames}):
        read = read_keypoints(files.write_json(tmp_path / "a.json", content), size=SIZE)
        assert (read.format, read.layout, read.length) == ("mediapipe", "mediapipe_33", 6)
        (track,) = read.tracks
        assert track.frames.tolist() == [0, 1, 3, 4, 5]
        np.testing.assert_allclose(track.points, values[0, track.frames, :, :2], atol=1e-4)
        np.testing.assert_allclose(track.scores, values[0, track.frames, :, 2], atol=1e-6)
    assert read.fps == 30


def test_mediapipe_two_persons_outside_the_picture_and_pixels(tmp_path):
    values = files.scene(33, persons=2)
    values[..., 30:, 1] += 200  # feet below the picture
    frames = [[files.landmarks(one) for one in values[:, n]] for n in range(6)]
    path = files.write_json(tmp_path / "a.json", frames)
    require_scene(read_keypoints(path, size=SIZE), values)
    with pytest.raises(UserError, match="from 0 to 1, and the size of the video is not known"):
        read_keypoints(path)
    for frame, persons in zip(frames, values.swapaxes(0, 1), strict=True):
        for person, joints in zip(frame, persons, strict=True):
            for landmark, (x, y, _) in zip(person, joints, strict=True):
                landmark |= {"x": x, "y": y}
    require_scene(read_keypoints(files.write_json(tmp_path / "b.json", frames)), values)


def test_mediapipe_world_landmarks_are_refused(tmp_path):
    """They are metres around the hip."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.8, 0.8, (33, 2)).tolist()
    frames = [[{"x": x, "y": y, "z": 0.1, "visibility": 0.9} for x, y in points]] * 3
    with pytest.raises(UserError, match="neither pixels nor shares"):
        read_keypoints(files.write_json(tmp_path / "a.json", frames), size=SIZE)


def test_mediapipe_csv(tmp_path):
    values = files.scene(33)
    shares = values[0] / (*SIZE, 1)
    named = [
        ["frame", *(f"{n}_{k}" for n in files.MEDIAPIPE_33 for k in ("x", "y", "z", "visibility"))]
    ]
    numbered = [[f"{k}{n}" for n in range(1, 34) for k in "xyzv"]]
    long = [["frame", "landmark", "x", "y", "z", "visibility"]]
    for n, frame in enumerate(shares.tolist()):
        cells = [v for x, y, score in frame for v in (x, y, -0.1, score)]
        named.append([n, *cells])
        numbered.append(cells)
        long += [[n, j, x, y, -0.1, score] for j, (x, y, score) in enumerate(frame)]
    for rows in (named, numbered, long):
        read = read_keypoints(files.table(tmp_path / "a.csv", rows), size=SIZE)
        assert read.layout == "mediapipe_33", read.notes
        require_scene(read, values)


DLC_NAMES = [
    "nose", "leftEye", "rightEye", "left_ear", "right ear", "LShoulder", "R_Shoulder", "elbow_l",
    "elbow.r", "LeftWrist", "RIGHT-WRIST", "lhip", "rhip", "l_knee", "r_knee", "LAnk", "RAnk",
]  # fmt: skip


@pytest.mark.parametrize("individuals", [None, ["anna", "ben"]])
@pytest.mark.parametrize("scores", [True, False])
def test_deeplabcut(individuals, scores, tmp_path):
    values = files.scene(17, persons=2 if individuals else 1)
    values[-1, 1] = np.nan  # the individual is absent
    path = files.deeplabcut(tmp_path / "a.csv", values, DLC_NAMES, individuals, scores)
    read = read_keypoints(path)
    assert (read.format, read.layout, read.length) == ("deeplabcut", "coco_17", 6)
    assert [track.name for track in read.tracks] == (individuals or ["1"])
    last = read.tracks[-1]
    assert last.frames.tolist() == [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(last.points, np.float32(values[-1, last.frames, :, :2]))
    expected = values[-1, last.frames, :, 2] if scores else np.ones((5, 17))
    np.testing.assert_array_equal(last.scores, np.float32(expected))
    assert any("'elbow_l' for left_elbow" in note for note in read.notes)


def test_deeplabcut_by_a_map(tmp_path):
    values = files.scene(3)
    path = files.deeplabcut(tmp_path / "a.csv", values, ["snout", "pawL", "pawR"])
    with pytest.raises(UserError, match="names no joint that is known .*--map FILE.json"):
        read_keypoints(path)
    table = files.write_json(tmp_path / "m.json", {"snout": "nose", "pawR": "RWrist"})
    read = read_keypoints(path, map_file=table)
    assert (read.joints, read.layout) == (("nose", "right_wrist"), "own")
    np.testing.assert_array_equal(read.tracks[0].points, np.float32(values[0][:, [0, 2], :2]))
    assert any("1 joints of the file were left out: pawL" in note for note in read.notes)


@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("persons", [1, 2])
def test_own_arrays(kind, dims, persons, tmp_path):
    values = files.scene(17, persons)
    array = values[..., :dims] if persons > 1 else values[0, ..., :dims]
    path = str(tmp_path / f"a.{kind}")
    (np.save if kind == "npy" else np.savez_compressed)(path, array)
    with pytest.raises(UserError, match="--joints coco_17 or h36m_17"):
        read_keypoints(path)
    read = read_keypoints(path, joints="coco_17")
    if dims == 2:
        values[..., 2] = 1
    require_scene(read, values)
    assert [track.name for track in read.tracks] == (["1"] if persons == 1 else ["0", "1"])


def test_cameras_of_freemocap_are_no_persons(tmp_path):
    values = files.scene(33, persons=3)
    path = str(tmp_path / "2dData_numCams_numFrames_numTrackedPoints_pixelXY.npy")
    np.save(path, np.concatenate([values[..., :2], values[:, :, :20, :2]], axis=2))
    with pytest.raises(UserError, match=r"3 videos: choose one with --clip \(0, 1, 2\)"):
        read_keypoints(path)
    with pytest.raises(UserError, match="--clip 3 is not in"):
        read_keypoints(path, clip="3")
    read = read_keypoints(path, clip="1")
    values[..., 2] = 1
    require_scene(read, values[1:2])
    assert read.layout == "mediapipe_33" and "without 20 points" in " ".join(read.notes)
    np.save(path, values[:, :, :17, :2])
    with pytest.raises(UserError, match="17 points, and FreeMoCap"):
        read_keypoints(path, clip="1")


def test_a_clip_of_a_file_with_one_video(tmp_path):
    np.save(tmp_path / "a.npy", files.scene(17)[0])
    files.alphapose(tmp_path / "a.json", files.scene(17))
    for name in ("a.npy", "a.json"):
        with pytest.raises(UserError, match="--clip 2: .* is of one video: leave --clip out"):
            read_keypoints(str(tmp_path / name), joints="coco_17", clip="2")


def test_own_npz_says_all_about_itself(tmp_path):
    values = files.scene(17)
    values[0, 2] = np.nan
    names = ["hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
             "spine", "thorax", "neck", "head", "left_shoulder", "left_elbow", "left_wrist",
             "right_shoulder", "right_elbow", "right_wrist"]  # fmt: skip
    np.savez(
        tmp_path / "a.npz", keypoints_2d=values[0, ..., :2].astype(np.float32), fps=25.0,
        scores=values[0, ..., 2], joint_names=np.asarray(names), size=np.asarray(SIZE),
        pose_3d=np.zeros((6, 17, 3)),
    )  # fmt: skip
    read = read_keypoints(str(tmp_path / "a.npz"))
    assert (read.layout, read.fps, read.size) == ("h36m_17", 25, SIZE)
    assert read.tracks[0].frames.tolist() == [0, 1, 3, 4, 5] and read.length == 6


def test_own_csv(tmp_path):
    values = files.scene(17, persons=2)
    rows = [["frame", "person", *(f"{n}_{k}" for n in files.COCO_17 for k in ("x", "y", "score"))]]
    for n in range(6):
        rows += [[n, "ab"[p], *values[p, n].reshape(-1)] for p in (0, 1)]
    for mark in ",;\t":
        (tmp_path / "a.csv").write_text("\n".join(mark.join(map(str, row)) for row in rows))
        read = read_keypoints(str(tmp_path / "a.csv"))
        assert (read.format, read.layout) == ("plain", "coco_17")
        assert [track.name for track in read.tracks] == ["a", "b"]
        require_scene(read, values)


def test_case_alphapose_two_persons_who_change_places(tmp_path):
    """Ids that say nothing at first, 17 frames left out, and pictures as 0.jpg to 89.jpg."""
    values = files.scene(26, persons=2, frames=90)
    path = files.alphapose(
        tmp_path / "alphapose-results.json", values, idx=lambda f, p: [0.0] if f < 5 else p + 1
    )
    entries = json.loads((tmp_path / "alphapose-results.json").read_text())
    kept = []
    for frame in range(90):
        pair = entries[2 * frame : 2 * frame + 2]
        kept += [] if 31 <= frame < 48 else pair if frame % 7 else pair[::-1]
    files.write_json(tmp_path / "alphapose-results.json", kept)
    read = read_keypoints(path, size=SIZE)
    frames = [frame for frame in range(90) if not 31 <= frame < 48]
    assert sorted(track.name for track in read.tracks) == ["1", "2"] and read.length == 90
    for track in read.tracks:
        expected = values[int(track.name) - 1, frames]
        assert track.frames.tolist() == frames
        np.testing.assert_array_equal(track.points, np.float32(expected[..., :2]))
    assert any(note.startswith("10 detections share their id") for note in read.notes)


def test_frames_before_persons_are_refused(tmp_path):
    values = files.scene(17, persons=3, frames=12)[..., :2]
    np.save(tmp_path / "a.npy", values.swapaxes(0, 1))
    with pytest.raises(UserError, match=r"12 persons in 3 frames.*swapaxes\(0, 1\)"):
        read_keypoints(str(tmp_path / "a.npy"), joints="coco_17")
    # More persons than frames, who stand apart from each other.
    np.save(tmp_path / "b.npy", files.scene(17, persons=5, frames=3))
    assert len(read_keypoints(str(tmp_path / "b.npy"), joints="coco_17").tracks) == 5


def test_a_list_of_frames_with_nobody_in_some(tmp_path):
    values = files.scene(17, persons=2)
    frames = np.empty(8, object)
    for n in range(6):
        frames[n] = values[:, n]
    frames[1], frames[2] = values[:1, 1], values[0, 2]
    frames[7] = np.zeros((0, 17, 3))
    np.savez(tmp_path / "a.npz", keypoints_2d=frames, when=np.asarray(["2020"], "datetime64[D]"))
    read = read_keypoints(str(tmp_path / "a.npz"), joints="coco_17")
    assert read.length == 8
    assert [track.frames.tolist() for track in read.tracks] == [[0, 1, 2, 3, 4, 5], [0, 3, 4, 5]]
    for person, track in enumerate(read.tracks):
        expected = values[person, track.frames].astype(np.float32)
        np.testing.assert_array_equal(track.points, expected[..., :2])
        np.testing.assert_array_equal(track.scores, expected[..., 2])
    frames[4] = np.zeros((17, 5))
    np.savez(tmp_path / "a.npz", keypoints_2d=frames)
    with pytest.raises(UserError, match=r"frame 4 has the shape \[17, 5\]"):
        read_keypoints(str(tmp_path / "a.npz"), joints="coco_17")


def standing(frames=20):
    """COCO's joints of a person of 170 pixels who stands and walks to the right, `[T, 17, 2]`."""
    down = [10, 7, 7, 8, 8, 30, 30, 60, 60, 85, 85, 90, 90, 130, 130, 170, 170]
    across = [0, 3, -3, 6, -6, 18, -18, 22, -22, 24, -24, 12, -12, 12, -12, 12, -12]
    points = np.stack([across, down], axis=-1) + [300.0, 200.0]
    return points + np.arange(frames)[:, None, None] * [2.0, 0.0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda points: points, None),
        (lambda points: points[..., ::-1], "x and y are exchanged"),
        (lambda points: np.stack([points[..., 0], 720 - points[..., 1]], -1), "y counts upwards"),
        (lambda points: points[:5, :, ::-1], None),  # too few to tell
    ],
)
def test_axes_that_no_standing_person_has(change, said, tmp_path):
    np.save(tmp_path / "a.npy", change(standing()))
    notes = read_keypoints(str(tmp_path / "a.npy"), joints="coco_17").notes
    found = [note for note in notes if note.startswith("Heads are")]
    assert (said in found[0] if said else not found) and len(found) <= 1


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_joints_at_minus_one_are_missing(share, tmp_path):
    points = standing()
    gone = np.random.default_rng(0).random(points.shape[:2]) < share
    gone[0] = False
    points[gone] = -1
    np.save(tmp_path / "a.npy", points)
    read = read_keypoints(str(tmp_path / "a.npy"), joints="coco_17", size=SIZE)
    frames = read.tracks[0].frames
    np.testing.assert_array_equal(read.tracks[0].scores == 0, gone[frames])
    np.testing.assert_array_equal(np.isnan(read.tracks[0].points[..., 0]), gone[frames])


def test_videopose3d_layouts_and_scores(tmp_path):
    def written(metadata, dims=2):
        points = files.scene(17)[0, ..., :dims].astype(np.float32)
        np.savez(tmp_path / "v.npz", positions_2d={"x": {"custom": [points]}}, metadata=metadata)
        return read_keypoints(str(tmp_path / "v.npz"))

    coco = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
    h36m = [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]  # VideoPose3D, prepare_data_h36m.py
    assert written({}).layout == written({"keypoints_symmetry": coco}).layout == "coco_17"
    assert written({"layout_name": "COCO "}).layout == "coco_17"
    assert written({"keypoints_symmetry": h36m}).layout == "h36m_17"
    for metadata in ({"layout_name": "coco", "keypoints_symmetry": h36m},
                     {"keypoints_symmetry": [[1], [2]]}, {"layout_name": "mpii"}):  # fmt: skip
        with pytest.raises(UserError, match="give --joints coco_17 or h36m_17"):
            written(metadata)
    read = written({}, dims=3)
    np.testing.assert_array_equal(read.tracks[0].scores, files.scene(17)[0, ..., 2].astype("f4"))


def wide_rows(numbers, head, persons=None):
    """A csv's rows with `head` above the frames' numbers, and persons' names under `track`."""
    values = files.scene(17, len(persons or "a"), len(numbers))
    columns = [f"{name}_{kind}" for name in files.COCO_17 for kind in ("x", "y", "score")]
    rows = [[head, *(["track"] if persons else []), "note", *columns]]
    for frame, number in enumerate(numbers):
        for person, name in enumerate(persons or "a"):
            flat = values[person, frame].reshape(-1)
            rows.append([number, *([name] if persons else []), "", *flat])
    return rows, values


@pytest.mark.parametrize(
    ("head", "name"),
    [("frame_idx", "{}"), ("Frame #", "{}.0"), ("filename", "walk/{:05d}.jpg"), ("img", "{}.png")],
)
def test_columns_of_frames(head, name, tmp_path):
    rows, values = wide_rows([name.format(2 * n) for n in range(6)], head, persons="ab")
    read = read_keypoints(files.table(tmp_path / "a.csv", rows))
    for person, track in enumerate(read.tracks):
        assert track.name == "ab"[person] and track.frames.tolist() == [0, 2, 4, 6, 8, 10]
        np.testing.assert_array_equal(track.points, values[person, ..., :2].astype(np.float32))
    assert any("1 columns were not read: note." in note for note in read.notes)


def test_columns_that_number_no_frames(tmp_path):
    rows, _ = wide_rows([n / 30 for n in range(6)], "time")
    read = read_keypoints(files.table(tmp_path / "a.csv", rows))
    assert read.length == 6 and any("No column numbers the frames" in one for one in read.notes)
    assert any("2 columns were not read: time, note." in note for note in read.notes)


@pytest.mark.parametrize(("first", "said"), [(0, False), (1, True), (2, False)])
def test_frames_that_may_count_from_one(first, said, tmp_path):
    rows, _ = wide_rows(range(first, first + 5), "frame")
    read = read_keypoints(files.table(tmp_path / "a.csv", rows))
    assert read.tracks[0].frames.tolist() == list(range(first, first + 5))
    assert any("one later here" in note for note in read.notes) == said


def test_a_table_in_utf_16(tmp_path):
    rows, values = wide_rows(range(4), "frame")
    text = "\r\n".join("\t".join(map(str, row)) for row in rows)
    (tmp_path / "a.txt").write_bytes(text.encode("utf-16"))
    read = read_keypoints(str(tmp_path / "a.txt"))
    np.testing.assert_array_equal(read.tracks[0].points, values[0, ..., :2].astype(np.float32))


def test_coco_annotations_as_other_tools_write_them(tmp_path):
    values = files.scene(17)
    values[..., 2] = 2
    names = [name.upper() for name in reversed(files.COCO_17)]
    content = {
        "images": [
            {"id": float(n + 7), "file_name": f"v/{n}.jpg", "width": 64, "height": 48}
            for n in range(6)
        ],
        "annotations": [
            {"image_id": n + 7, "category_id": 3, "keypoints": values[0, n, ::-1].reshape(-1)
             .tolist()} for n in range(6)
        ],
        "categories": [
            {"id": 3, "name": "person", "keypoints": names},
            {"id": 1, "name": "dog", "keypoints": ["nose", "tail"]},
        ],
    }  # fmt: skip
    path = files.write_json(tmp_path / "a.json", content)
    with pytest.raises(UserError, match="outside a video of 64x48"):
        read_keypoints(path)  # the images with float ids say the size
    read = read_keypoints(path, size=SIZE)
    assert read.layout == "coco_17" and read.tracks[0].frames.tolist() == list(range(6))
    np.testing.assert_array_equal(read.tracks[0].points, values[0, ..., :2].astype(np.float32))
