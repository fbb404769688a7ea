"""Makes test splits of persons in memory, and predictors that answer for them.

Use `from people import people, answering, crop_of, unpack`.
"""

import pathlib
import stat
import zipfile

import cv2
import numpy as np
import pytest
from golden import SHARED_DATA

from kdpose_jax.codecs import crops
from kdpose_jax.data.persons import Persons
from kdpose_jax.skeletons import Skeleton

MOST_BYTES = 2**28


def shared_archive(name: str) -> zipfile.ZipFile:
    """Opens an archive of shared pictures; skips the test if it is absent."""
    path = SHARED_DATA / "images2d" / name
    if not path.is_file():
        pytest.skip(f"no {path} (set KDPOSE_SHARED_DATA)")
    return zipfile.ZipFile(path)


def unpack(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Unzips an archive of shared pictures into a folder.

    It unzips only if all entries are plain files of bounded size that stay in the folder.
    """
    with shared_archive(name) as archive:
        for member in archive.infolist():
            inside = (folder / member.filename).resolve().is_relative_to(folder.resolve())
            assert inside and not stat.S_ISLNK(member.external_attr >> 16), (
                f"{name}: {member.filename} leads out of the folder"
            )
        assert sum(member.file_size for member in archive.infolist()) < MOST_BYTES, (
            f"{name} is larger than it should be"
        )
        archive.extractall(folder)
    return folder


def people(
    skeleton: Skeleton, joints: np.ndarray, visible: np.ndarray, **arrays: np.ndarray
) -> Persons:
    """Makes persons on black photographs of 64 x 48 pixels.

    Boxes and sizes are made up if `arrays` does not have them.
    """
    count = len(joints)
    encoded = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].ravel()
    spread = np.arange(count, dtype=np.float32)
    given = {
        "image_id": np.arange(count) + 100,
        "person_id": np.arange(count) + 1,
        "region": np.tile(np.array([0, 0, 64, 48], np.int32), (count, 1)),
        "photograph": np.tile(np.array([64, 48], np.int32), (count, 1)),
        "center": np.stack([200 + 3 * spread, 300 - 7 * spread], -1),
        "scale": np.stack([1 + 0.1 * spread, 1 + 0.1 * spread], -1),
        "score": np.ones(count, np.float32),
        "area": np.full(count, 5000, np.float32),
        "head_size": np.full(count, 40, np.float32),
    }
    return Persons(
        records="nowhere",
        skeleton=skeleton,
        reach=crops.NO_REACH,
        file=tuple(f"{number:03d}.jpg" for number in range(count)),
        image=(encoded,) * count,
        joints=np.where(visible[..., None], joints, 0).astype(np.float32),
        visible=visible,
        unseen=0,
        unseen_joints=np.zeros(skeleton.num_joints, int),
        **(given | arrays),
    )


def crop_of(joints: np.ndarray, persons: Persons, side: int) -> np.ndarray:
    """Maps a photograph to a crop, written out: p' = (S / (200 s)) (p - c) + S / 2.

    See docs/methods/pose2d.md#crops.
    """
    width = 200 * persons.scale.astype(np.float64)[:, None, :1]
    return side / width * (joints - persons.center.astype(np.float64)[:, None]) + side / 2


def answering(
    persons: Persons, joints: np.ndarray, side: int, scores: np.ndarray | float = 1.0
) -> dict[str, np.ndarray]:
    """Answers like a network that finds these photograph joints `[N, J, 2]` on the crops."""
    return {
        "joints": crop_of(joints, persons, side),
        "scores": np.broadcast_to(scores, joints.shape[:2]),
    }
