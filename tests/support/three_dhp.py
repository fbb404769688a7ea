"""Writes files in the two layouts of MPI-INF-3DHP.

Their numbers are random, and say from which view they come.
"""

import pathlib

import h5py
import numpy as np
import scipy.io

from kdpose_jax.skeletons import H36M_17

# The data set's own names (its README), in the order of the 28 and of the 17.
RAW = (
    "spine3 spine4 spine2 spine pelvis neck head head_top left_clavicle left_shoulder left_elbow "
    "left_wrist left_hand right_clavicle right_shoulder right_elbow right_wrist right_hand "
    "left_hip left_knee left_ankle left_foot left_toe right_hip right_knee right_ankle right_foot "
    "right_toe"
).split()
KEPT = (
    "head_top neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist "
    "right_hip right_knee right_ankle left_hip left_knee left_ankle pelvis spine head"
).split()
OURS = [
    {"hip": "pelvis", "thorax": "neck", "neck": "head", "head": "head_top"}.get(name, name)
    for name in H36M_17.joints
]
FRAMES = {"S1": 5, "S8": 3, "TS1": 7, "TS5": 4}
SEQUENCE = {"S1": "Seq2", "S8": "Seq1"}
VALID = {"TS1": [0, 1, 1, 0, 1, 1, 1], "TS5": [1, 0, 0, 1]}
ACTIVITY = {"TS1": [2, 2, 5, 5, 5, 7, 7], "TS5": [1, 1, 1, 1]}


def joints(subject: str, camera: int, kind: str, names: list[str]) -> np.ndarray:
    """Numbers that say where they come from, `[F, J, 2 or 3]`, pixels or millimetres."""
    frames, axes = FRAMES[subject], 2 if kind == "annot2" else 3
    seed = sum(map(ord, subject + kind)) + camera
    table = np.random.default_rng(seed).normal(0, 400, (frames, len(RAW), axes)) + 1000
    return table[:, [RAW.index(name) for name in names]]


def write_official(folder: pathlib.Path) -> None:
    """Writes the official files: two training subjects and two test sequences."""
    for subject, sequence in SEQUENCE.items():
        cells = {kind: np.empty((14, 1), object) for kind in ("annot2", "annot3", "univ_annot3")}
        for kind, cell in cells.items():
            for camera in range(14):
                cell[camera, 0] = joints(subject, camera, kind, RAW).reshape(FRAMES[subject], -1)
        (folder / subject / sequence).mkdir(parents=True)
        scipy.io.savemat(
            folder / subject / sequence / "annot.mat", cells | {"cameras": np.arange(14)}
        )
    for subject in VALID:
        (folder / "mpi_inf_3dhp_test_set" / subject).mkdir(parents=True)
        with h5py.File(folder / "mpi_inf_3dhp_test_set" / subject / "annot_data.mat", "w") as file:
            for kind in ("annot2", "annot3", "univ_annot3"):
                file[kind] = joints(subject, 0, kind, KEPT)[:, None]
            file["valid_frame"] = np.asarray(VALID[subject], float)[:, None]
            file["activity_annotation"] = np.asarray(ACTIVITY[subject], float)[:, None]


def write_npz(folder: pathlib.Path) -> None:
    """Writes the same views as P-STMO does."""
    train = {
        f"{subject} {sequence}": [
            {
                str(camera): {
                    "data_2d": joints(subject, camera, "annot2", KEPT),
                    "data_3d": joints(subject, camera, "univ_annot3", KEPT),
                }
                for camera in (0, 1, 2, 4, 5, 6, 7, 8)
            },
            {"S1": 50, "S8": 25}[subject],
        ]
        for subject, sequence in SEQUENCE.items()
    }
    test = {
        subject: {
            "data_2d": joints(subject, 0, "annot2", KEPT),
            "data_3d": joints(subject, 0, "univ_annot3", KEPT),
            "valid": np.asarray(VALID[subject], float),
        }
        for subject in VALID
    }
    folder.mkdir(exist_ok=True)
    np.savez(folder / "data_train_3dhp.npz", data=train)
    np.savez(folder / "data_test_3dhp.npz", data=test)
