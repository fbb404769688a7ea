"""Turns blocks of predicted poses into files of one or several formats."""

import dataclasses
import os
import re
import types
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from kdpose_jax import buckets, files
from kdpose_jax.errors import UserError, require
from kdpose_jax.poses import axes, height, trajectory
from kdpose_jax.poses.predicted import Poses, PosesOfPerson
from kdpose_jax.poses.writers import to_json
from kdpose_jax.poses.writers.spool import Person, Recording, Spool
from kdpose_jax.poses.writers.table import FORMATS, Format, WritingOptions, check


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
      paths: the files, in the order in which they were written.
      notes: sentences on what was assumed, scaled or left out.
    """

    paths: tuple[epath.Path, ...]
    notes: tuple[str, ...]


class Outputs:
    """Collects blocks of poses and writes the files when the last one is there.

    Use it as a context: leaving it early leaves no file. Memory holds one block at a time, and the
    disk what was predicted.
    """

    def __init__(self, base: epath.PathLike, formats: Sequence[str], options: WritingOptions):
        """Prepares the outputs.

        Args:
          base: the path of the files without their suffix. Its folder is made if needed.
          formats: names of formats.
          options: what the user asks for.

        Raises:
          UserError: a format is unknown.
        """
        for name in formats:
            require("--format", name, FORMATS)
        self._base, self._options = files.absolute(base), options
        self._formats = [name for name in FORMATS if name in formats]
        self._base.parent.mkdir(parents=True, exist_ok=True)
        folder = None
        if not buckets.is_bucket(self._base):
            folder = os.fspath(self._base.parent)
            files.remove_dead(folder, self._base.name)
        self._spool, self._length = Spool(folder), 0
        self._solved, self._unsolved = 0, 0  # frames with and without an estimated root

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._spool.close()

    def append(self, poses: Poses) -> None:
        """Adds a block: frames that follow those of the same persons so far.

        Raises:
          UserError: as for `check`.
          ValueError: the block does not fit those before it.
        """
        has_3d = all(person.pose_3d is not None for person in poses.persons)
        check(self._formats, self._options, poses, has_3d)
        self._length = poses.length
        persons = tuple(self._placed(self._cut(person), poses) for person in poses.persons)
        self._spool.append(dataclasses.replace(poses, persons=persons))

    def finish(self) -> Written:
        """Writes the files.

        Raises:
          UserError: no frame is there, an option cannot be met, a file cannot be written, or a
            format cannot hold the poses. Files of the formats before it in `FORMATS` are whole
            then.
        """
        recording = self._spool.recording()
        if recording is None:
            frames = self._options.frames
            place = "" if frames is None else f" in --frames {frames[0]}:{frames[1]}"
            raise UserError(
                f"there is no person{place} of the video's {self._length:,} frames: give other "
                "frames or another file."
            )
        notes = (*self._root_notes(recording), *self._scale(recording))
        about = dataclasses.replace(recording.about, notes=(*recording.about.notes, *notes))
        recording = dataclasses.replace(recording, about=about)
        paths, said = [], list(notes)
        for name in self._formats:
            for path, one in self._parts(name, recording):
                made, more = _write(path, FORMATS[name], one)
                paths += made
                said += more
        return Written(tuple(paths), tuple(dict.fromkeys(said)))

    @property
    def frames(self) -> int:
        """Number of frames of all persons that are there."""
        return sum(person.length for person in self._spool.persons.values())

    def thinned(self, stride: int) -> Poses:
        """Reads one frame in `stride` into memory, for a page: as `finish` has written them.

        Args:
          stride: the frames of the video are read whose number divides by it.

        Returns:
          The poses, relative to the root joint.
        """
        recording = self._spool.recording()
        assert recording is not None  # `finish` refuses it
        root, persons = recording.about.root, []
        for person in (one.thinned(stride) for one in recording.persons):
            if person.pose_3d is not None:
                pose_3d = person.pose_3d - person.pose_3d[:, root, None]
                person = dataclasses.replace(person, pose_3d=pose_3d)
            persons.append(person)
        return dataclasses.replace(recording.about, persons=tuple(persons))

    def _cut(self, person: PosesOfPerson) -> PosesOfPerson:
        """Returns the part of a block that lies in the frames to write, which may be empty."""
        if self._options.frames is None:
            return person
        start, stop = (frame - person.first_frame for frame in self._options.frames)
        inside = slice(max(start, 0), max(stop, 0))
        arrays: dict[str, Any] = {
            field.name: value[inside]
            for field in dataclasses.fields(person)
            if isinstance(value := getattr(person, field.name), np.ndarray)
        }
        return dataclasses.replace(person, first_frame=person.first_frame + inside.start, **arrays)

    def _placed(self, person: PosesOfPerson, poses: Poses) -> PosesOfPerson:
        """Moves the root of a block by the rule that the user chose."""
        pose = person.pose_3d
        if pose is None or self._options.root == "given":
            return person
        if self._options.root == "floor":
            return dataclasses.replace(person, pose_3d=trajectory.on_floor(pose))
        assert self._options.focal is not None and poses.size is not None
        pose = pose - pose[:, poses.root, None]
        path = trajectory.root_path(
            pose, person.keypoints_2d, person.scores, self._options.focal, poses.size
        )
        solved = np.isfinite(path).all(axis=1)
        self._solved += int((person.valid & solved).sum())
        self._unsolved += int((person.valid & ~solved).sum())
        pose = (pose + path[:, None]).astype(np.float32)
        return dataclasses.replace(person, pose_3d=pose, valid=person.valid & solved)

    def _root_notes(self, recording: Recording) -> tuple[str, ...]:
        """Says where the root is."""
        if self._options.root == "floor":
            return (
                "The lowest joint of every frame was put on the floor: jumps are lost, and the "
                "hips do not move sideways.",
            )
        if self._options.root == "camera":
            if self._solved == 0:
                raise UserError(
                    f"--root camera finds no place in any of {self._unsolved:,} frames, because "
                    "their keypoints are missing or do not fit the poses: use --root floor."
                )
            return (
                f"The root's path is an estimate from the keypoints and a focal length of "
                f"{self._options.focal:g} pixels, relative to the camera: its depth is in "
                f"proportion to the size of the poses; {self._unsolved:,} frames without a "
                "solution were masked.",
            )
        if recording.has_3d and not recording.moves:
            return (
                "The root joint stays at the origin, because poses are predicted relative to it "
                "(--root floor puts the feet on the floor).",
            )
        return ()

    def _scale(self, recording: Recording) -> list[str]:
        """Scales every person to the height that the user gave."""
        wanted = self._options.height
        if wanted is None:
            return []
        notes = []
        for person in recording.persons:
            found = height.estimated_height(
                person.sample(), recording.about.joints, recording.about.parents
            )
            if found <= 0:
                raise UserError(
                    f"--height is {wanted:g}, and the bones of person '{person.name}' have no "
                    "length: leave --height out."
                )
            person.scale = wanted / found
            notes.append(
                f"Person '{person.name}' was scaled by {person.scale:.3f}, from {found:.2f} m (the "
                "median lengths of the bones from the ankles to the head, and the ankles' height) "
                f"to {wanted:g} m."
            )
        return notes

    def _parts(self, name: str, recording: Recording) -> Iterable[tuple[epath.Path, Recording]]:
        """Lists the files of a format: (path, what it holds)."""
        folder, stem = self._base.parent, self._base.name
        if not FORMATS[name].for_each:
            return [(folder / f"{stem}.{name}", recording)]
        ends = _endings(recording.persons)
        return [
            (folder / f"{stem}{end}.{name}", dataclasses.replace(recording, persons=(person,)))
            for end, person in zip(ends, recording.persons, strict=True)
        ]


def write(
    poses: Poses, base: epath.PathLike, formats: Sequence[str], options: WritingOptions
) -> Written:
    """Writes poses that are in memory; arguments and errors are those of `Outputs`."""
    with Outputs(base, formats, options) as outputs:
        outputs.append(poses)
        return outputs.finish()


def split_path(path: epath.PathLike) -> tuple[epath.Path, str]:
    """Splits the path of an output into the path without its suffix and the format's name.

    Raises:
      UserError: the suffix is that of no format.
    """
    path = epath.Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        listed = ", ".join(f".{name}" for name in FORMATS)
        raise UserError(f"--out is '{path}': let it end in one of {listed}.")
    return path.parent / path.stem, suffix


def _endings(persons: Sequence[Person]) -> list[str]:
    """Makes what tells the files of several persons apart; one person needs nothing."""
    if len(persons) == 1:
        return [""]
    endings: list[str] = []
    for person in persons:
        end = "_" + (re.sub(r"[^\w-]+", "_", person.name)[:60] or "person")
        number = 1
        while end.lower() in (one.lower() for one in endings):
            number += 1
            end = f"{end.removesuffix(f'-{number - 1}')}-{number}"
        endings.append(end)
    return endings


def _write(
    path: epath.Path, format: Format, recording: Recording
) -> tuple[list[epath.Path], tuple[str, ...]]:
    """Writes one file, and the remarks beside it if it cannot hold them."""
    with files.written_whole(path) as file:
        notes = format.write(file, recording)
    if format.remarks:
        return [path], notes
    beside = path.parent / f"{path.name}.json"
    remarks = to_json.remarks(recording) | {
        "persons": [
            {"name": one.name, "first_frame": one.first_frame, "frames": one.length}
            for one in recording.persons
        ],
        "units": {"pose_3d": format.unit, "keypoints_2d": "pixels"},
        "axes": axes.AXES[format.axes],
        "notes": [*recording.about.notes, *notes],
    }
    files.write_json(beside, remarks)
    return [path, beside], notes
