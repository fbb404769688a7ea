"""Keeps predicted poses on disk until the last frame is there, so that memory stays flat.

Some formats need to know about the whole motion before their first line: the number of frames, the
median lengths of bones. Blocks of frames are therefore collected in one file without a name, which
vanishes when the process ends in any way, and are read again in blocks.
"""

import dataclasses
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np

from kdpose_jax.poses.predicted import Poses, PosesOfPerson, joined, thinned

BLOCK = 4096  # frames that are read at once
SAMPLE = 10_000  # frames of which medians are taken, spread evenly
AT_ORIGIN = 1e-6  # metres


class Person:
    """The poses of one person in the spool.

    Attributes:
      name: the person's identity.
      first_frame: number of the first frame in the video, from 0.
      length: number of frames.
      has_3d: whether the poses are 3D, or joints in a picture alone.
      moves: whether the root joint leaves the origin.
      scale: factor for all lengths, which every reading applies.
    """

    def __init__(self, file: IO[bytes], dtype: np.dtype, name: str):
        self.name, self.first_frame, self.length, self.scale = name, 0, 0, 1.0
        self.has_3d, self.moves = "pose_3d" in (dtype.names or ()), False
        self._file, self._dtype = file, dtype
        self._pieces: list[tuple[int, int, int]] = []  # first row, rows, place in the file

    def append(self, rows: np.ndarray, root: int) -> None:
        """Adds frames that follow those that are there; `root` is the root joint's index."""
        if rows.dtype != self._dtype:
            raise ValueError(f"a block of person '{self.name}' has other arrays")
        if self.has_3d:
            self.moves |= bool((np.abs(rows["pose_3d"][:, root]) > AT_ORIGIN).any())
        place = self._file.seek(0, 2)
        self._file.write(rows.tobytes())
        self._pieces.append((self.length, len(rows), place))
        self.length += len(rows)

    def read(self, start: int, stop: int) -> PosesOfPerson:
        """Reads the frames from `start` up to and without `stop`, which count from the first."""
        parts = []
        for first, count, place in self._pieces:
            low, high = max(start, first), min(stop, first + count)
            if low < high:
                self._file.seek(place + (low - first) * self._dtype.itemsize)
                content = self._file.read((high - low) * self._dtype.itemsize)
                parts.append(np.frombuffer(content, self._dtype))
        rows = np.concatenate(parts) if parts else np.zeros(0, self._dtype)
        pose_3d = None
        if self.has_3d:
            pose_3d = rows["pose_3d"] * np.float32(self.scale)
        return PosesOfPerson(
            name=self.name,
            first_frame=self.first_frame + start,
            pose_3d=pose_3d,
            keypoints_2d=rows["keypoints_2d"],
            scores=rows["scores"],
            seen=rows["seen"],
            valid=rows["valid"],
        )

    def blocks(self) -> Iterator[PosesOfPerson]:
        """Reads all frames in order, at most `BLOCK` at once."""
        for start in range(0, self.length, BLOCK):
            yield self.read(start, min(start + BLOCK, self.length))

    def thinned(self, stride: int) -> PosesOfPerson:
        """Reads the frames of the video whose number divides by `stride` into memory."""
        return joined([thinned(block, stride) for block in self.blocks()])

    def sample(self) -> np.ndarray:
        """Reads at most `SAMPLE` poses, spread evenly over the frames, `[S, J, 3]` metres."""
        step = -(-self.length // SAMPLE)
        chosen = []
        for start, block in zip(range(0, self.length, BLOCK), self.blocks(), strict=True):
            assert block.pose_3d is not None
            chosen.append(block.pose_3d[-start % step :: step].copy())  # not the block
        return np.concatenate(chosen)


@dataclasses.dataclass(frozen=True)
class Recording:
    """What a writer gets.

    Attributes:
      about: joints, rate, network and the like; its `persons` are empty.
      persons: the persons, whose poses are read in blocks.
    """

    about: Poses
    persons: tuple[Person, ...]

    @property
    def has_3d(self) -> bool:
        return all(person.has_3d for person in self.persons)

    @property
    def moves(self) -> bool:
        return any(person.moves for person in self.persons)


class Spool:
    """Collects blocks of poses.

    Blocks of several persons may come in any order. Those of one person follow one another in time
    without a gap.
    """

    def __init__(self, folder: str | None):
        """Opens an empty spool in a folder; None takes the system's folder for such files."""
        self._file = tempfile.TemporaryFile(dir=folder)
        self._about: Poses | None = None
        self.persons: dict[str, Person] = {}

    def append(self, poses: Poses) -> None:
        """Adds one block.

        Raises:
          ValueError: the block does not fit those before it.
        """
        about = dataclasses.replace(poses, persons=())
        if self._about is not None:
            notes = (*self._about.notes, *poses.notes)
            about = dataclasses.replace(about, notes=tuple(dict.fromkeys(notes)))
            if about != dataclasses.replace(self._about, notes=about.notes):
                raise ValueError("a block has other joints, another rate or another network")
        self._about = about
        for block in poses.persons:
            rows = _rows(block)
            if block.name not in self.persons:
                self.persons[block.name] = Person(self._file, rows.dtype, block.name)
            person = self.persons[block.name]
            if not len(rows):  # the person keeps the place in the order
                continue
            if not person.length:
                person.first_frame = block.first_frame
            if block.first_frame != person.first_frame + person.length:
                raise ValueError(
                    f"frame {block.first_frame} of person '{block.name}' follows frame "
                    f"{person.first_frame + person.length - 1}"
                )
            person.append(rows, poses.root)

    def recording(self) -> Recording | None:
        """Returns what was collected; None if it is nothing."""
        persons = tuple(person for person in self.persons.values() if person.length)
        if self._about is None or not persons:
            return None
        return Recording(self._about, persons)

    def close(self) -> None:
        self._file.close()


def _rows(block: PosesOfPerson) -> np.ndarray:
    """Packs a block, one record a frame. Infinity becomes NaN, which all formats know."""
    joints = block.scores.shape[1]
    fields: list[tuple] = [("pose_3d", "<f4", (joints, 3))] if block.pose_3d is not None else []
    fields += [
        ("keypoints_2d", "<f4", (joints, 2)),
        ("scores", "<f4", (joints,)),
        ("seen", "?", (joints,)),
        ("valid", "?"),
    ]
    rows = np.zeros(len(block.valid), fields)
    for name in rows.dtype.names or ():
        value = getattr(block, name)
        rows[name] = np.where(np.isfinite(value), value, np.nan) if value.dtype != bool else value
    return rows
