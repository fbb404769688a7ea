"""Finds the files of a conversion by VideoPose3D's names."""

import dataclasses
import os
import re

from data_prep import cameras, npz
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.untrusted.documents import load_json

H36M = "h36m"
H36M_TEST_SUBJECTS = ("S9", "S11")
# The last of the five published training subjects. A fixed one makes validation scores of all
# conversions comparable (docs/methods/lifting.md#human36m).
H36M_VAL_SUBJECTS = ("S8",)
# This take's mocap is corrupt. Everybody leaves it out (VideoPose3D, prepare_data_h36m.py).
H36M_CORRUPT_TAKE = ("S11", "Directions")


@dataclasses.dataclass(frozen=True)
class Source:
    """Names the files for one conversion."""

    name: str
    positions: str
    keypoints: str | None  # None if there is no file; projections are then computed
    cameras: str
    test_subjects: tuple[str, ...] | None
    val_subjects: tuple[str, ...] | None


def find_files(
    source: str,
    keypoints: str,
    cameras_file: str | None,
    test_subjects: tuple[str, ...] | None,
    val_subjects: tuple[str, ...] | None,
) -> Source:
    """Finds the input files by VideoPose3D's names."""
    if not os.path.isdir(source):
        raise UserError(
            f"--source '{source}' is not a folder: give the folder that holds data_3d_h36m.npz."
        )
    found = [name for name in sorted(os.listdir(source)) if re.fullmatch(r"data_3d_\w+\.npz", name)]
    if len(found) > 1:
        raise UserError(f"'{source}' holds {' and '.join(found)}: keep one data set per folder.")
    name = found[0][len("data_3d_") : -len(".npz")] if found else H36M
    expected = [f"data_3d_{name}.npz", f"data_2d_{name}_{keypoints}.npz"]
    positions, detections = (os.path.join(source, file) for file in expected)
    npz.require_file(positions, expected)
    if not os.path.isfile(detections):
        others = [
            file for file in sorted(os.listdir(source)) if file.startswith(f"data_2d_{name}_")
        ]
        if keypoints != "gt":
            raise UserError(
                f"'{detections}' does not exist; expected in '{source}': {', '.join(expected)}; "
                f"the 2D files there are {', '.join(others) or 'none'}: put the file there, or "
                "choose with --keypoints NAME (gt needs no file)."
            )
        detections = None
    if cameras_file is None:
        own = os.path.join(source, "cameras.json")
        cameras_file = cameras.H36M_TABLE if name == H36M else own
        if not os.path.isfile(cameras_file):
            raise UserError(
                f"'{own}' does not exist: data set '{name}' needs its own camera table, there or "
                f"as --cameras FILE."
            )
    elif not os.path.isfile(cameras_file):
        raise UserError(
            f"--cameras '{cameras_file}' does not exist: give a JSON file (its layout: "
            f"data_prep/cameras.py)."
        )
    if test_subjects is None:
        test_subjects = (
            H36M_TEST_SUBJECTS
            if name == H36M
            else subjects_of_meta(os.path.join(source, "meta.json"), "test")
        )
    if val_subjects is None and name != H36M:
        val_subjects = subjects_of_meta(os.path.join(source, "meta.json"), schema.VAL_SPLIT)
    return Source(name, positions, detections, cameras_file, test_subjects, val_subjects)


def subjects_of_meta(path: str, split: str) -> tuple[str, ...] | None:
    """Reads the test or validation subjects that a `meta.json` names.

    They are under `test_subjects` and `val_subjects`, or under `subjects` with a `split` each.

    Args:
      path: the file.
      split: "test" or "val".

    Returns:
      The names; None if there is no such file, or if it names no validation subjects.
    """
    listed = f"{split}_subjects"
    if not os.path.isfile(path):
        return None
    try:
        meta = load_json(path)
        if listed in meta:
            return tuple(str(subject) for subject in meta[listed])
        if split != "test" and "subjects" not in meta:
            return None
        named = tuple(
            subject for subject, entry in meta["subjects"].items() if entry["split"] == split
        )
        return named if named or split == "test" else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"'{path}' names no {split} subjects ({type(error).__name__}: {error}): give "
            f"--{split}-subjects S1,S2."
        ) from error
