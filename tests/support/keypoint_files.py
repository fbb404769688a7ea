"""Writes keypoints as detectors do, from the documents of each tool, for the tests of the readers.

The orders of joints are typed here once more, by the tools' own names.
"""

import csv
import json
import pathlib

import numpy as np

COCO_17 = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
    "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle"
).split()
# CMU OpenPose, doc/02_output.md: POSE_BODY_25_BODY_PARTS and POSE_COCO_BODY_PARTS.
BODY_25 = (
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist MidHip RHip RKnee RAnkle LHip LKnee "
    "LAnkle REye LEye REar LEar LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel"
).split()
COCO_18 = (
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist RHip RKnee RAnkle LHip LKnee LAnkle "
    "REye LEye REar LEar"
).split()
# Halpe-FullBody, README.
HALPE_26 = (
    "Nose LEye REye LEar REar LShoulder RShoulder LElbow RElbow LWrist RWrist LHip RHip LKnee "
    "RKnee LAnkle RAnkle Head Neck Hip LBigToe RBigToe LSmallToe RSmallToe LHeel RHeel"
).split()
# MediaPipe, pose_landmarker: PoseLandmark.
MEDIAPIPE_33 = (
    "NOSE LEFT_EYE_INNER LEFT_EYE LEFT_EYE_OUTER RIGHT_EYE_INNER RIGHT_EYE RIGHT_EYE_OUTER "
    "LEFT_EAR RIGHT_EAR MOUTH_LEFT MOUTH_RIGHT LEFT_SHOULDER RIGHT_SHOULDER LEFT_ELBOW RIGHT_ELBOW "
    "LEFT_WRIST RIGHT_WRIST LEFT_PINKY RIGHT_PINKY LEFT_INDEX RIGHT_INDEX LEFT_THUMB RIGHT_THUMB "
    "LEFT_HIP RIGHT_HIP LEFT_KNEE RIGHT_KNEE LEFT_ANKLE RIGHT_ANKLE LEFT_HEEL RIGHT_HEEL "
    "LEFT_FOOT_INDEX RIGHT_FOOT_INDEX"
).split()
# COCO-WholeBody: the body, six joints of the feet, then the face and the hands.
COCO_133 = (
    COCO_17
    + "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel".split()
    + [f"face-{index}" for index in range(68)]
    + [f"{side}_hand_{index}" for side in ("left", "right") for index in range(21)]
)
SIZE = (1280, 720)


def scene(joints: int, persons: int = 1, frames: int = 6, seed: int = 0) -> np.ndarray:
    """Persons beside each other who walk to the right: `[P, T, K, 3]`, x y score.

    Numbers have two decimals, so that texts hold them exactly.
    """
    rng = np.random.default_rng(seed)
    values = np.zeros((persons, frames, joints, 3))
    values[..., :2] = rng.uniform((50, 100), (150, 600), (persons, 1, joints, 2)).round(2)
    values[..., 0] += 300 * np.arange(persons)[:, None, None] + 2 * np.arange(frames)[:, None]
    values[..., 2] = rng.uniform(0.3, 0.9, (persons, frames, joints)).round(2)
    return values.round(2)


def write_json(path: pathlib.Path, value) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return str(path)


def openpose(folder, values, *, stem="walk", first=0, ids=None, scale=None, key="people") -> str:
    """`--write_json`; `scale` as `--keypoint_scale`: 3 is 0..1 and 4 is -1..1, of zeros too."""
    for frame in range(values.shape[1]):
        people = []
        for person in range(len(values)):
            joints = values[person, frame].copy()
            if np.isnan(joints).all():
                continue
            joints[np.isnan(joints).any(axis=-1)] = 0
            if scale is not None:
                joints[:, :2] = joints[:, :2] / SIZE * (2 if scale == 4 else 1) - (scale == 4)
            people.append(
                {
                    "person_id": [-1 if ids is None else ids[person]],
                    "pose_keypoints_2d": joints.reshape(-1).tolist(),
                    "face_keypoints_2d": [],
                    "hand_left_keypoints_2d": [],
                    "hand_right_keypoints_2d": [],
                    "pose_keypoints_3d": [],
                }
            )
        write_json(
            pathlib.Path(folder) / f"{stem}_{frame + first:012d}_keypoints.json",
            {"version": 1.3, key: people},
        )
    return str(folder)


def alphapose(path, values, *, idx=lambda frame, person: person + 1, name="{}.jpg", form=None):
    """alphapose-results.json, by pPose_nms.py, write_json."""
    entries, pictures = [], {}
    for frame in range(values.shape[1]):
        for person in range(len(values)):
            joints = values[person, frame]
            low, high = joints[:, :2].min(0), joints[:, :2].max(0)
            entry = {
                "image_id": name.format(frame),
                "category_id": 1,
                "keypoints": joints.reshape(-1).tolist(),
                "score": 2.5,
                "box": [*low.tolist(), *(high - low).tolist()],
            }
            if idx is not None:
                entry["idx"] = idx(frame, person)
            entries.append(entry)
            # 18 joints, the neck between the shoulders, in the order of write_json's indexarr.
            neck = joints[[5, 6]].mean(axis=0)
            order = [0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
            flat = np.concatenate([joints[:17], neck[None]])[order].reshape(-1).tolist()
            people, key = ("bodies", "joints") if form == "cmu" else ("people", "pose_keypoints_2d")
            picture = pictures.setdefault(
                name.format(frame), {"version": "AlphaPose v0.3", people: []}
            )
            picture[people].append({key: flat})
    return write_json(pathlib.Path(path), entries if form is None else pictures)


def detectron2(path, values, empty=()) -> str:
    """infer_video_d2.py: for each frame [[], keypoints], with [] where nobody was found."""
    frames = np.empty((values.shape[1], 2), object)
    for frame in range(values.shape[1]):
        rows = values[:, frame].astype(np.float32)
        found = np.stack([rows[..., 0], rows[..., 1], 0 * rows[..., 0], rows[..., 2]], axis=1)
        frames[frame, 0] = []
        frames[frame, 1] = [] if frame in empty else found
    metadata = {"w": SIZE[0], "h": SIZE[1]}
    np.savez_compressed(path, boxes=frames, segments=[None], keypoints=frames, metadata=metadata)
    return str(path)


def videopose3d(path, videos: dict[str, np.ndarray]) -> str:
    """prepare_data_2d_custom.py."""
    metadata = {
        "layout_name": "coco",
        "num_joints": 17,
        "keypoints_symmetry": [[1, 3], [2, 4]],
        "video_metadata": {name: {"w": SIZE[0], "h": SIZE[1]} for name in videos},
    }
    positions = {
        name: {"custom": [points[..., :2].astype(np.float32)]} for name, points in videos.items()
    }
    np.savez_compressed(path, positions_2d=positions, metadata=metadata)
    return str(path)


def instances(values: np.ndarray, frame: int, ids=None) -> list[dict]:
    """split_instances of MMPose 1.3.2, whose bbox is a list in a list."""
    found = []
    for person in range(len(values)):
        joints = values[person, frame]
        found.append(
            {
                "keypoints": joints[:, :2].tolist(),
                "keypoint_scores": joints[:, 2].tolist(),
                "bbox": [[0.0, 0.0, 10.0, 10.0]],
                "bbox_score": 0.9,
                **({"track_id": ids[person]} if ids else {}),
            }
        )
    return found


def mmpose_frames(values, first=0, ids=None) -> list[dict]:
    return [
        {"frame_id": frame + first, "instances": instances(values, frame, ids)}
        for frame in range(values.shape[1])
    ]


def ultralytics_txt(folder, values, *, confidence=False, ids=None, stem="walk", dims=3) -> str:
    """save_txt: all numbers are shares of the picture; frames count from 1."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(values.shape[1]):
        lines = []
        for person in range(len(values)):
            joints = values[person, frame].copy()
            joints[:, :2] /= SIZE
            line = [0, 0.5, 0.5, 0.2, 0.4, *joints[:, :dims].reshape(-1).tolist()]
            line += [0.875] if confidence else []
            line += [ids[person]] if ids else []
            lines.append(" ".join(f"{value:.9g}" for value in line))
        (folder / f"{stem}_{frame + 1}.txt").write_text("".join(f"{one}\n" for one in lines))
    return str(folder)


def ultralytics_frame(values: np.ndarray, frame: int, ids=None) -> list[dict]:
    """Results.summary() of one frame."""
    return [
        {
            "name": "person",
            "class": 0,
            "confidence": 0.9,
            "box": {"x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0},
            **({"track_id": ids[person]} if ids else {}),
            "keypoints": {
                "x": values[person, frame, :, 0].tolist(),
                "y": values[person, frame, :, 1].tolist(),
                "visible": values[person, frame, :, 2].tolist(),
            },
        }
        for person in range(len(values))
    ]


def landmarks(joints: np.ndarray) -> list[dict]:
    """NormalizedLandmarks of one person, `[33, 3]`."""
    return [
        {"x": x / SIZE[0], "y": y / SIZE[1], "z": -0.1, "visibility": score, "presence": 0.99}
        for x, y, score in joints.tolist()
    ]


def table(path, rows) -> str:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def deeplabcut(path, values, names, individuals=None, scores=True) -> str:
    """create_df_from_prediction as csv: three or four rows of header, one column of frames."""
    coords = ["x", "y", "likelihood"] if scores else ["x", "y"]
    columns = [
        (person, name, kind)
        for person in (individuals or [""])
        for name in names
        for kind in coords
    ]
    head = [["scorer"] + ["DLC_resnet50"] * len(columns)]
    head += [["individuals"] + [one for one, _, _ in columns]] if individuals else []
    head += [["bodyparts"] + [one for _, one, _ in columns]]
    head += [["coords"] + [one for _, _, one in columns]]
    body = []
    for frame in range(values.shape[1]):
        cells = values[:, frame, :, : len(coords)].reshape(-1)
        body.append([frame, *("" if np.isnan(one) else f"{one:.6g}" for one in cells)])
    return table(path, head + body)
