"""Finds the number of the frame in the names of files and pictures."""

import os
import re
from collections.abc import Iterable, Sequence

import numpy as np

from kdpose_jax.errors import UserError

# What tools append to the number.
_ENDING = re.compile(r"(_keypoints|_pose|_rendered)?(\.[A-Za-z]\w{0,4})*$")
_NUMBER = re.compile(r"(\d+)(?!.*\d)")
# Numbers that leave more than this share of the frames empty are not numbers of frames.
_SPARSE = 100
_SPARSE_AT_LEAST = 10_000


def frame_number(name: str) -> tuple[str, int | None]:
    """Splits the name of a frame, such as `walk_000000000012_keypoints.json`.

    Returns:
      The name without the number and what follows it, and the last number in the name, None if it
      has none.
    """
    stem = _ENDING.sub("", os.path.basename(name.replace("\\", "/")))
    found = _NUMBER.search(stem)
    return (stem, None) if found is None else (stem[: found.start()], int(found[1][-40:]))


def refuse_folders(names: Iterable[str], place: str) -> None:
    """Refuses pictures of several folders, which are several videos.

    Args:
      names: the pictures' names, with or without folders before them.
      place: names the file in an error.

    Raises:
      UserError: the names are of more than one folder.
    """
    folders = sorted({os.path.dirname(name.replace("\\", "/")) for name in names})
    if len(folders) > 1:
        raise UserError(
            f"{place} has pictures of {len(folders):,} folders ('{folders[0][:60]}' and "
            f"'{folders[1][:60]}'), and each is taken for a video: give a file of one of them."
        )


def frame_numbers(names: Sequence[str], place: str, notes: list[str]) -> list[int]:
    """Finds the numbers of frames by their names.

    Args:
      names: the frames' names, each of them once.
      place: names the file or folder in an error.
      notes: gets a sentence if names have no numbers.

    Raises:
      UserError: the names are of more than one video, or two have one number.
    """
    split = [frame_number(name) for name in names]
    if all(number is None for _, number in split):
        order = sorted(range(len(names)), key=lambda index: names[index])
        if len(names) > 1:
            notes.append(
                f"The names of {len(names):,} frames have no numbers: they were taken in the order "
                f"of their names."
            )
        numbers = [0] * len(names)
        for number, index in enumerate(order):
            numbers[index] = number
        return numbers
    stems = sorted({stem for stem, _ in split})
    if len(stems) > 1:
        raise UserError(
            f"{place} has frames of {len(stems):,} videos ('{stems[0][:60]}' and "
            f"'{stems[1][:60]}' begin their names): give the frames of one video."
        )
    numbers = [number for _, number in split if number is not None]
    if len(numbers) < len(names):
        unnamed = next(
            name for name, (_, number) in zip(names, split, strict=True) if number is None
        )
        raise UserError(
            f"{place}: '{unnamed[:60]}' has no number of a frame in its name, and others have one: "
            f"remove it, or rename it."
        )
    refuse_twice(numbers, place)
    return numbers


def refuse_twice(numbers: Sequence[int], place: str) -> None:
    """Raises UserError if a frame occurs twice."""
    if len(set(numbers)) < len(numbers):
        seen: set[int] = set()
        twice = next(number for number in numbers if number in seen or seen.add(number))  # type: ignore[func-returns-value]
        raise UserError(
            f"{place} has frame {twice} twice: remove one of them (are two videos mixed?)."
        )


def as_frames(numbers: Iterable[int], notes: list[str]) -> np.ndarray:
    """Makes numbers of frames that a video can have.

    Numbers stay as they are, unless they leave nearly all frames empty. Such numbers are ids of
    pictures, or count from a start far away.

    Args:
      numbers: a number for each detection.
      notes: gets a sentence if the numbers were changed.

    Returns:
      Numbers of frames from 0, int64, in the same order.
    """
    listed = list(numbers)
    distinct = sorted(set(listed))
    if not distinct:
        return np.zeros(0, np.int64)
    most = max(_SPARSE * len(distinct), _SPARSE_AT_LEAST)
    lowest, highest = distinct[0], distinct[-1]
    if lowest >= 0 and highest < most:
        if lowest == 1:
            notes.append(
                "Frames are counted from 0, and the file has none with that number: if it counts "
                "from 1, its frames come one later here."
            )
        return np.asarray(listed, np.int64)
    if highest - lowest < most:
        notes.append(f"Frames are counted from {lowest}, the lowest number in the file.")
        return np.asarray([number - lowest for number in listed], np.int64)
    notes.append(
        f"The {len(distinct):,} numbers of frames lie between {lowest} and {highest}, too far "
        f"apart for one video: frames are counted in their order."
    )
    rank = {number: place for place, number in enumerate(distinct)}
    return np.asarray([rank[number] for number in listed], np.int64)
