"""Our windows against the generators of VideoPose3D and MixSTE (files generators_3d* of the golden
folder), bit for bit.
"""

import dataclasses
import functools
import itertools
import json
import pathlib

import numpy as np
import pytest
from golden import golden_files

from kdpose_jax.data.sequences import Motion, windows_of
from kdpose_jax.data.windows import Windows, centred_starts, evaluation_starts
from kdpose_jax.skeletons import H36M_17, Skeleton

FILES = golden_files("generators_3d*")


@functools.cache
def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file), json.loads(str(file["config"][0]))["config"]


def cases() -> list:
    """One test per case of every file; the skipped entry where there is none."""
    found = []
    for file in FILES:
        path = file.values[0]
        names = read(path)[1]["cases"] if path is not None else [None]
        found += [
            pytest.param(path, name, id=f"{file.id}-{name}", marks=file.marks) for name in names
        ]
    return found


def motion_of(arrays: dict[str, np.ndarray], skeleton: Skeleton) -> Motion:
    """The sequences of a file, end to end.

    Their poses are taken as they are: the generators change nothing but the sides.
    """
    names = [
        str(number) for number in range(sum(name.startswith("input/pose2d/") for name in arrays))
    ]
    frames = np.array([len(arrays[f"input/pose2d/{name}"]) for name in names])
    return Motion(
        skeleton=skeleton,
        names=tuple(names),
        actions=tuple(names),
        frames=frames,
        offset=np.cumsum(frames) - frames,
        keypoints_2d=np.concatenate([arrays[f"input/pose2d/{name}"] for name in names]),
        pose_3d=np.concatenate([arrays[f"input/pose3d/{name}"] for name in names]),
        frame_mask=np.ones(frames.sum(), bool),
    )


def cameras_of(arrays: dict[str, np.ndarray], augment: bool) -> np.ndarray:
    """The camera vector of every sequence, those of the mirrored copies after all others, as
    `Motion.with_flips` has it.
    """
    plain = np.stack([arrays[name] for name in arrays if name.startswith("input/camera/")])
    mirrored = plain.copy()
    mirrored[:, [2, 7]] *= -1  # c_x and p_1
    return np.concatenate([plain, mirrored]) if augment else plain


def batches_of(case: dict, motion: Motion, sequences: int):
    """(windows, numbers of their sequences, numbers of the windows in the batch) of every batch,
    epoch after epoch.
    """
    copies = len(motion.frames) // sequences
    if "chunk_length" not in case:  # whole sequences, each a batch with its mirrored copy
        for sequence in range(sequences):
            own = sequence + sequences * np.arange(copies)
            yield (
                windows_of_sequences(motion, own, int(motion.frames[sequence])),
                own,
                np.arange(copies),
            )
        return
    length = case["chunk_length"]
    starts = [centred_starts(int(frames), length, length) for frames in motion.frames]
    windows = windows_of(motion, starts, length)
    owner = np.repeat(np.arange(len(starts)), [len(start) for start in starts])
    # The reference lists, sequence by sequence, the plain rows and then the flipped ones.
    rows = np.concatenate(
        [
            np.flatnonzero(owner == s + sequences * copy)
            for s in range(sequences)
            for copy in range(copies)
        ]
    )
    shuffle = np.random.RandomState(case["random_seed"]) if case["shuffle"] else None
    while True:
        epoch = shuffle.permutation(rows) if shuffle else rows
        for first in range(0, len(rows), case["batch_size"]):
            yield windows, owner, epoch[first : first + case["batch_size"]]


def windows_of_sequences(motion: Motion, chosen: np.ndarray, length: int) -> Windows:
    return Windows(motion.offset[chosen], motion.frames[chosen], np.zeros(len(chosen), int), length)


@pytest.mark.parametrize(("path", "name"), cases())
def test_generator(path, name):
    arrays, config = read(path)
    skeleton = dataclasses.replace(
        H36M_17, left=tuple(config["left"]), right=tuple(config["right"])
    )
    case, plain = config["cases"][name], motion_of(arrays, skeleton)
    if "receptive_field" in case:
        check_evaluation(arrays, name, case, plain)
        return
    motion = plain.with_flips() if case["augment"] else plain
    cameras = cameras_of(arrays, case["augment"])
    shift = case["causal_shift"] if "causal_shift" in case else 0
    expected = {key for key in arrays if key.startswith(f"output/{name}/")}
    assert len(expected) == 3 * case["batches"]
    batches = batches_of(case, motion, len(plain.frames))
    for number, (windows, owner, chosen) in enumerate(itertools.islice(batches, case["batches"])):
        context = windows.rows(chosen, before=case["pad"] + shift, after=case["pad"] - shift)
        output = f"output/{name}/{number}"
        np.testing.assert_array_equal(motion.keypoints_2d[context], arrays[f"{output}/pose2d"])
        np.testing.assert_array_equal(
            motion.pose_3d[windows.rows(chosen)], arrays[f"{output}/pose3d"]
        )
        np.testing.assert_array_equal(cameras[owner[chosen]], arrays[f"{output}/camera"])


def check_evaluation(arrays: dict[str, np.ndarray], name: str, case: dict, motion: Motion) -> None:
    """MixSTE's eval_data_prepare: windows end to end, the last one aligned to the end."""
    sequence, length = case["sequence"], case["receptive_field"]
    starts = [np.zeros(0, int)] * len(motion.frames)
    starts[sequence] = evaluation_starts(int(motion.frames[sequence]), length)
    windows = windows_of(motion, starts, length)
    rows = windows.rows(np.arange(len(windows)))
    np.testing.assert_array_equal(motion.keypoints_2d[rows], arrays[f"output/{name}/pose2d"])
    np.testing.assert_array_equal(motion.pose_3d[rows], arrays[f"output/{name}/pose3d"])
