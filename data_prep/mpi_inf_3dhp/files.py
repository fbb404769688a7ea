"""Finds the files of a conversion, in the official layout or in P-STMO's."""

import dataclasses
import glob
import os

from data_prep.mpi_inf_3dhp.release import SEQUENCES, TEST_SEQUENCES
from kdpose_jax.errors import UserError

OFFICIAL, NPZ = "official", "npz"
LAYOUTS = (OFFICIAL, NPZ)
NPZ_FILES = {"train": "data_train_3dhp.npz", "test": "data_test_3dhp.npz"}
TEST_FOLDERS = (
    "",
    "mpi_inf_3dhp_test_set",
    os.path.join("mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set"),
)


@dataclasses.dataclass(frozen=True)
class Files:
    """Names the files for one conversion."""

    layout: str
    train: list[str]
    test: list[str]


def find_files(source: str, layout: str | None) -> Files:
    """Finds a folder's layout, and each split's files."""
    if not os.path.isdir(source):
        raise UserError(
            f"--source '{source}' is not a folder: give the folder that holds S1/Seq1/annot.mat "
            f"or {NPZ_FILES['train']}."
        )
    places = os.path.join(glob.escape(source), "S[0-9]*", "Seq[0-9]*", "annot.mat")
    train = [path for path in sorted(glob.glob(places)) if name_of(path) in SEQUENCES]
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
    missing = [split for split, paths in found.items() if not paths]
    if missing:
        raise UserError(
            f"'{source}' has no file of the split '{missing[0]}'; expected there: "
            f"{expected['train']}, {expected['test']}, or P-STMO's {NPZ_FILES['train']} and "
            f"{NPZ_FILES['test']}: put them there or give another --source."
        )
    return Files(layout, **found)


def name_of(path: str) -> tuple[str, str]:
    """Returns an annot.mat's (subject, sequence)."""
    folder, sequence = os.path.split(os.path.dirname(path))
    return os.path.basename(folder), sequence
