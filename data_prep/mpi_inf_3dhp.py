"""Converts MPI-INF-3DHP, official or in P-STMO's npz files, to sequence records.

Layouts: docs/methods/lifting.md#mpi-inf-3dhp.
"""

import dataclasses
import glob
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_prep import fitting, matlab, npz, records
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError, require
from kdpose_jax.files import sha256
from kdpose_jax.skeletons import H36M_17

OFFICIAL, NPZ = "official", "npz"
LAYOUTS = (OFFICIAL, NPZ)
# Bodies are brought to one size (the protocol's), or stay as they are.
UNIVERSAL, TRUE_SCALE = "univ_annot3", "annot3"
POSE_SOURCES = (UNIVERSAL, TRUE_SCALE)
NPZ_FILES = {"train": "data_train_3dhp.npz", "test": "data_test_3dhp.npz"}
TEST_FOLDERS = (
    "",
    "mpi_inf_3dhp_test_set",
    os.path.join("mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set"),
)
NUM_CAMERAS, RAW_JOINTS = 14, 28
CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # the cameras at a person's height (P-STMO)
# Frames and frames per second in the training sequences, as P-STMO cuts them. The files say
# neither.
SEQUENCES = {
    ("S1", "Seq1"): (6416, 25),
    ("S1", "Seq2"): (12430, 50),
    ("S2", "Seq1"): (6502, 25),
    ("S2", "Seq2"): (6081, 25),
    ("S3", "Seq1"): (12488, 50),
    ("S3", "Seq2"): (12283, 50),
    ("S4", "Seq1"): (6171, 25),
    ("S4", "Seq2"): (6675, 25),
    ("S5", "Seq1"): (12820, 50),
    ("S5", "Seq2"): (12312, 50),
    ("S6", "Seq1"): (6188, 25),
    ("S6", "Seq2"): (6145, 25),
    ("S7", "Seq1"): (6239, 25),
    ("S7", "Seq2"): (6320, 25),
    ("S8", "Seq1"): (6468, 25),
    ("S8", "Seq2"): (6054, 25),
}
TEST_SEQUENCES = tuple(f"TS{number}" for number in range(1, 7))
VALID_FRAMES = {
    "TS1": 603,
    "TS2": 540,
    "TS3": 505,
    "TS4": 553,
    "TS5": 276,
    "TS6": 452,
}  # frames that count in the protocol
# Distance from knee to neck along the bones, millimetres: univ_annot3's one size, and by how much
# it may differ within a file and from it.
KNEE_TO_NECK, SAME_SIZE, SIZE_RANGE = 920.0, 0.03, 0.06
TEST_FPS = 25.0  # nominal; no file says it, and nothing here depends on it
SIDE = 2048  # side of the studio's square pictures, pixels
LARGEST = 1e9  # millimetres or pixels
OUTDOORS = {"TS5": (1920, 1080), "TS6": (1920, 1080)}
# P-STMO keeps 17 of the 28 joints, which the test files have too. The second row is the index of
# Human3.6M's joints among the 17. Their head is Human3.6M's neck or nose, and their neck is its
# thorax.
RAW_TO_NPZ = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
NPZ_TO_H36M = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Holds one camera's view of one sequence.

    `keypoints_2d` is `[F, 17, 2]` pixels and `pose_3d` `[F, 17, 3]` metres, with Human3.6M's
    joints.
    """

    subject: str
    take: str
    camera: int
    fps: float
    size: tuple[int, int]
    keypoints_2d: np.ndarray
    pose_3d: np.ndarray
    valid: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.valid)


@dataclasses.dataclass(frozen=True)
class _Files:
    """Names the files for one conversion."""

    layout: str
    train: list[str]
    test: list[str]


def convert(
    source: str, out: str, layout: str | None, pose_source: str, workers: int
) -> records.Summary:
    """Converts the official files, or P-STMO's npz files.

    The official files are `S*/Seq*/annot.mat` and `TS*/annot_data.mat`. The others are
    `data_train_3dhp.npz` and `data_test_3dhp.npz`. Both give the same records. Only the official
    files have the test frames' activities, which go into the metadata.

    Args:
      source: the folder.
      out: folder for the records.
      layout: "official" or "npz"; None for the official one if its files exist.
      pose_source: "univ_annot3", or "annot3", which only the official files have.
      workers: number of processes.

    Returns:
      The summary.

    Raises:
      UserError: a file is missing or wrong, or `out` cannot be used.
    """
    require("--pose-source", pose_source, POSE_SOURCES)
    if layout is not None:
        require("--layout", layout, LAYOUTS)
    files = _find_files(source, layout)
    if files.layout == NPZ and pose_source != UNIVERSAL:
        raise UserError(
            f"P-STMO's npz files hold {UNIVERSAL} alone: give the official release for "
            f"--pose-source {pose_source}."
        )
    paths = files.train + files.test
    sources = {os.path.relpath(path, source): sha256(path) for path in paths}
    settings = {"name": "mpi_inf_3dhp", "pose_source": pose_source}
    return records.write_recordset(
        out, schema.SEQUENCES, sources, settings, lambda: _load(files, pose_source), workers
    )


def _find_files(source: str, layout: str | None) -> _Files:
    """Finds a folder's layout, and each split's files."""
    if not os.path.isdir(source):
        raise UserError(
            f"--source '{source}' is not a folder: give the folder that holds S1/Seq1/annot.mat "
            f"or {NPZ_FILES['train']}."
        )
    places = os.path.join(glob.escape(source), "S[0-9]*", "Seq[0-9]*", "annot.mat")
    train = [path for path in sorted(glob.glob(places)) if _name_of(path) in SEQUENCES]
    candidates = [
        (name, os.path.join(source, folder, name, "annot_data.mat"))
        for name in TEST_SEQUENCES
        for folder in TEST_FOLDERS
    ]
    test = list(
        {name: path for name, path in reversed(candidates) if os.path.isfile(path)}.values()
    )[::-1]
    archives = {split: os.path.join(source, name) for split, name in NPZ_FILES.items()}
    if layout is None:
        layout = OFFICIAL if train or not os.path.isfile(archives["train"]) else NPZ
    if layout == OFFICIAL:
        found = {"train": train, "test": test}
        expected = {
            "train": "S1/Seq1/annot.mat and so on",
            "test": "TS1/annot_data.mat and so on (from mpi_inf_3dhp_test_set)",
        }
    else:
        found = {split: [path] if os.path.isfile(path) else [] for split, path in archives.items()}
        expected = NPZ_FILES
    missing = [split for split in schema.SPLITS if not found[split]]
    if missing:
        raise UserError(
            f"'{source}' has no file of the split '{missing[0]}'; expected there: "
            f"{expected['train']}, {expected['test']}, or P-STMO's {NPZ_FILES['train']} and "
            f"{NPZ_FILES['test']}: put them there or give another --source."
        )
    return _Files(layout, **found)


def _name_of(path: str) -> tuple[str, str]:
    """Returns an annot.mat's (subject, sequence)."""
    folder, sequence = os.path.split(os.path.dirname(path))
    return os.path.basename(folder), sequence


def _load(files: _Files, pose_source: str) -> records.Recordset:
    """Reads all files, which have 360 MB for the whole data set."""
    activities: dict[str, list[list[int]]] = {}
    left_out: list[str] = []
    if files.layout == OFFICIAL:
        train = [
            view for path in files.train for view in _official_training(path, pose_source, left_out)
        ]
        test = []
        for path in files.test:
            view, labels = _official_test(path, pose_source)
            test.append(view)
            activities[view.subject] = run_lengths(labels)
    else:
        train, test = list(_npz_training(files.train[0], left_out)), list(_npz_test(files.test[0]))
    if not train:
        raise UserError(
            f"'{files.train[0]}' has no 2D or no 3D in any of the cameras "
            f"{', '.join(map(str, CAMERAS))}: download it again."
        )
    here = {(view.subject, view.take) for view in train}
    left_out += [
        f"{subject} {take}: not there" for subject, take in SEQUENCES if (subject, take) not in here
    ]
    left_out += [
        f"{name}: not there"
        for name in TEST_SEQUENCES
        if name not in {view.subject for view in test}
    ]
    findings = fitting.Findings(" and ".join(f"'{path}'" for path in files.train[:1]), "")
    for view in train + test:
        same = [
            other
            for other in train
            if other is not view and (other.subject, other.take) == (view.subject, view.take)
        ]
        findings.add(_pair(view, same))
    findings.refuse()
    notes = findings.notes() + _compare_with_release(train, test)
    if pose_source == UNIVERSAL:
        notes += _compare_sizes(train + test)
    described = {"fps": TEST_FPS, "notes": notes, "activities": activities}
    items = {"train": train, "test": test}
    return records.Recordset(
        schema.SEQUENCES, H36M_17.name, "gt", False, items, make_record, left_out, described, {}
    )


def _pair(view: View, same: list[View]) -> fitting.Pair:
    """Makes what `fitting` checks, from the frames that count.

    `same` are the other cameras' views of the sequence.
    """
    counted = np.flatnonzero(view.valid) if view.valid.any() else np.arange(view.frames)
    some = counted[fitting.sample(len(counted))]
    others = {
        ("camera", f"the 3D of camera {other.camera}"): _plane(other.pose_3d[some])
        for other in same
        if other.frames == view.frames
    }
    pose = view.pose_3d[counted]
    nothing = np.zeros(pose.shape[:2], bool)  # these files have no projection that could be clipped
    return fitting.Pair(
        view.subject,
        view.take,
        view.camera,
        view.keypoints_2d[counted],
        _plane(pose),
        pose[..., 2],
        nothing,
        others,
        view.size,
        False,
    )


def _plane(pose: np.ndarray) -> np.ndarray:
    """Computes x/z and y/z of `[F, J, 3]`.

    This is the picture without focal length and centre, which the files lack.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return pose[..., :2].astype(np.float64) / pose[..., 2:]


def _compare_with_release(train: list[View], test: list[View]) -> list[str]:
    """Returns notes if numbers of frames differ from the protocol's."""
    frames = {(view.subject, view.take): view.frames for view in train}
    lines = [
        f"{subject} {take}: {count:,} frames where the data set has {SEQUENCES[subject, take][0]:,}"
        for (subject, take), count in frames.items() if count != SEQUENCES[subject, take][0]
    ]  # fmt: skip
    for view in test:
        valid = int(view.valid.sum())
        if valid != VALID_FRAMES[view.subject]:
            lines.append(
                f"{view.subject}: {valid:,} valid frames where the protocol has "
                f"{VALID_FRAMES[view.subject]:,}"
            )
    return fitting.listed(lines, "sequences with other numbers of frames")


def _compare_sizes(views: list[View]) -> list[str]:
    """Returns a note if the bodies do not have the one size that univ_annot3 promises."""
    hip, spine, neck, left_hip, left_knee = (
        H36M_17.joints.index(name) for name in ("hip", "spine", "thorax", "left_hip", "left_knee")
    )
    sizes: dict[str, float] = {}
    for view in views:
        name = view.subject if view.subject == view.take else f"{view.subject} {view.take}"
        if name not in sizes:
            bones = ((left_knee, left_hip), (hip, spine), (spine, neck))
            lengths = [
                np.linalg.norm(view.pose_3d[:, one] - view.pose_3d[:, other], axis=-1)
                for one, other in bones
            ]
            sizes[name] = 1000 * float(np.median(np.sum(lengths, axis=0)))
    low, high = min(sizes, key=sizes.get), max(sizes, key=sizes.get)
    if (
        sizes[high] <= (1 + SAME_SIZE) * sizes[low]
        and max(abs(size / KNEE_TO_NECK - 1) for size in sizes.values()) <= SIZE_RANGE
    ):
        return []
    return [
        f"the bodies measure {sizes[low]:.0f} mm ({low}) to {sizes[high]:.0f} mm ({high}) from "
        f"knee to neck, where {UNIVERSAL} has one size of about {KNEE_TO_NECK:.0f} mm: "
        f"{TRUE_SCALE} seems to stand in its place, and scores do not compare with published ones"
    ]


def run_lengths(labels: np.ndarray) -> list[list[int]]:
    """Encodes labels `[F]` as [label, number of frames in a row], in order."""
    starts = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1))
    return [
        [int(labels[start]), int(count)]
        for start, count in zip(starts, np.diff(starts, append=len(labels)), strict=True)
    ]


def _official_training(path: str, pose_source: str, left_out: list[str]) -> Iterator[View]:
    """Yields the views in one annot.mat; `left_out` gets empty ones.

    The file has cells `[14, 1]` with `[F, 56]` pixels and `[F, 84]` millimetres.
    """
    subject, take = _name_of(path)
    frames, fps = SEQUENCES[subject, take]
    pixels, poses, numbers = matlab.read_v5(path, ("annot2", pose_source, "cameras"))
    if not isinstance(numbers, np.ndarray) or not np.array_equal(
        numbers.ravel(), np.arange(NUM_CAMERAS)
    ):
        raise UserError(
            f"'{path}': cameras are not the numbers from 0 to {NUM_CAMERAS - 1}: download it again."
        )
    for camera in CAMERAS:
        arrays = []
        for name, cells, axes in (("annot2", pixels, 2), (pose_source, poses, 3)):
            place = f"'{path}', {name}, camera {camera}"
            if not isinstance(cells, list) or len(cells) != NUM_CAMERAS:
                raise UserError(f"{place}: no row of {NUM_CAMERAS} cells: download it again.")
            if np.size(cells[camera]) == 0:
                left_out.append(
                    f"{subject} {take} camera {camera}: no {'2D' if axes == 2 else '3D'}"
                )
                break
            flat = _numbers(cells[camera], (None, RAW_JOINTS * axes), place)
            arrays.append(flat.reshape(-1, RAW_JOINTS, axes)[:frames, RAW_TO_NPZ])
        else:
            yield _view(
                subject,
                take,
                camera,
                float(fps),
                *arrays,
                np.ones(len(arrays[0]), np.bool_),
                f"'{path}', camera {camera}",
            )


def _official_test(path: str, pose_source: str) -> tuple[View, np.ndarray]:
    """Reads the view in one annot_data.mat (`[F, 1, 17, 2 or 3]`).

    It also returns the activity of each frame, `[F]` from 1.
    """
    name = os.path.basename(os.path.dirname(path))
    pixels, poses, valid, activity = matlab.read_v73(
        path, ("annot2", pose_source, "valid_frame", "activity_annotation")
    )
    arrays = [
        _numbers(array, (None, 1, H36M_17.num_joints, axes), f"'{path}', {entry}")[:, 0]
        for entry, array, axes in (("annot2", pixels, 2), (pose_source, poses, 3))
    ]
    valid, activity = (
        _numbers(array, (len(arrays[0]), 1), f"'{path}', {entry}")[:, 0]
        for entry, array in (("valid_frame", valid), ("activity_annotation", activity))
    )
    if activity.min() < 0:
        raise UserError(
            f"'{path}', activity_annotation: the label {activity.min():g}: copy or download the "
            f"file again."
        )
    return _view(name, name, 0, TEST_FPS, *arrays, valid != 0, f"'{path}'"), activity.astype(int)


def _npz_training(path: str, left_out: list[str]) -> Iterator[View]:
    """Yields the views in P-STMO's dict["S1 Seq1"] = [dict["0"] = {data_2d, data_3d}, fps].

    `left_out` gets views that are None or empty.
    """
    for sequence, value in _entries(path):
        place = f"'{path}', sequence '{sequence}'"
        name = tuple(sequence.split(" "))
        if (
            name not in SEQUENCES
            or not isinstance(value, (list, tuple))
            or len(value) != 2
            or not isinstance(value[0], dict)
        ):
            raise UserError(
                f"{place} is not one of S1 Seq1 to S8 Seq2 with its cameras and fps: give "
                f"P-STMO's file."
            )
        views, (subject, take) = value[0], name
        for camera in CAMERAS:
            at = f"{place}, camera {camera}"
            if str(camera) in views and _is_hole(views[str(camera)]):
                left_out.append(f"{subject} {take} camera {camera}: no 2D or no 3D")
                continue
            arrays = _npz_arrays(
                views[str(camera)] if str(camera) in views else None, ("data_2d", "data_3d"), at
            )
            yield _view(
                subject,
                take,
                camera,
                float(SEQUENCES[name][1]),
                *arrays,
                np.ones(len(arrays[0]), np.bool_),
                at,
            )


def _npz_test(path: str) -> Iterator[View]:
    """Yields the views in P-STMO's dict["TS1"] = {data_2d, data_3d, valid}."""
    for name, value in _entries(path):
        place = f"'{path}', sequence '{name}'"
        if name not in TEST_SEQUENCES:
            raise UserError(
                f"{place} is not one of {', '.join(TEST_SEQUENCES)}: give P-STMO's file."
            )
        pixels, pose, valid = _npz_arrays(value, ("data_2d", "data_3d", "valid"), place)
        yield _view(name, name, 0, TEST_FPS, pixels, pose, valid != 0, place)


def _is_hole(entry: Any) -> bool:
    """Tells whether a view, its 2D or its 3D is None or empty."""
    if entry is None:
        return True
    parts = [
        entry[name] for name in ("data_2d", "data_3d") if isinstance(entry, dict) and name in entry
    ]
    return any(part is None or (isinstance(part, np.ndarray) and part.size == 0) for part in parts)


def _entries(path: str) -> list[tuple[str, Any]]:
    """Returns the entries in one of P-STMO's files, sorted like the official folders."""
    (content,) = npz.read_pickled_npz(path, ("data",))
    if not isinstance(content, dict) or not content:
        raise UserError(f"'{path}' does not hold a dictionary of sequences: give P-STMO's file.")
    if not all(isinstance(name, str) for name in content):
        raise UserError(f"'{path}' has sequences without a name: give P-STMO's file.")
    return sorted(content.items())


def _npz_arrays(entry: Any, names: tuple[str, ...], place: str) -> list[np.ndarray]:
    """Returns a view's data_2d `[F, 17, 2]`, data_3d `[F, 17, 3]` and, if named, valid `[F]`."""
    missing = [name for name in names if not isinstance(entry, dict) or name not in entry]
    if missing:
        raise UserError(f"{place} lacks {missing[0]}: give P-STMO's file.")
    joints = H36M_17.num_joints
    arrays = [
        _numbers(entry[name], (None, joints, axes), f"{place}, {name}")
        for name, axes in (("data_2d", 2), ("data_3d", 3))
    ]
    if "valid" in names:
        valid = (
            entry["valid"].reshape(-1) if isinstance(entry["valid"], np.ndarray) else entry["valid"]
        )
        arrays.append(_numbers(valid, (len(arrays[0]),), f"{place}, valid"))
    return arrays


def _numbers(value: Any, shape: tuple[int | None, ...], place: str) -> np.ndarray:
    """Reads float64 numbers that a body or a picture may have, and checks their shape.

    None in the shape stands for any length except zero.
    """
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    fits = array.ndim == len(shape) and all(
        size == want or (want is None and size)
        for size, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("frames" if want is None else str(want) for want in shape)
        raise UserError(
            f"{place}: shape {list(array.shape)} where [{wanted}] is needed: copy or download the "
            f"file again."
        )
    bad = ~(np.abs(array) < LARGEST)  # also finds NaN
    if bad.any():
        frame = np.argwhere(bad)[0][0]
        raise UserError(
            f"{place}: NaN, infinite or beyond {LARGEST:,.0f} in frame {frame}: copy or download "
            f"the file again."
        )
    return array


def _view(
    subject: str,
    take: str,
    camera: int,
    fps: float,
    pixels: np.ndarray,
    pose: np.ndarray,
    valid: np.ndarray,
    place: str,
) -> View:
    """Makes a view from P-STMO's 17 joints in pixels and millimetres."""
    if len(pixels) != len(pose):
        raise UserError(
            f"{place}: {len(pixels)} frames of 2D and {len(pose)} of 3D: copy or download the "
            f"file again."
        )
    if np.abs(pose).max() < 50:
        raise UserError(
            f"{place}: no coordinate exceeds {np.abs(pose).max():.1f}, so these seem to be "
            f"metres: give millimetres."
        )
    order = list(NPZ_TO_H36M)
    metres = (pose[:, order] / 1000).astype(np.float32)
    size = OUTDOORS[subject] if subject in OUTDOORS else (SIDE, SIDE)
    return View(
        subject, take, camera, fps, size, pixels[:, order].astype(np.float32), metres, valid
    )


def make_record(view: View) -> dict[str, Any]:
    """Makes a record of `schema.sequence_features` from a view.

    Invalid frames stay as context, and do not count.
    """
    return {
        "subject": view.subject,
        "action": view.take,
        "take": view.take,
        "camera": view.camera,
        "fps": view.fps,
        "width": view.size[0],
        "height": view.size[1],
        "keypoints_2d": view.keypoints_2d,
        "pose_3d": view.pose_3d,
        "frame_mask": view.valid,
    }
