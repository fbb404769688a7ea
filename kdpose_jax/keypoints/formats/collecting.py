"""Collects detections while a file is read, and makes keypoints of them."""

import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import joint_names, layouts, persons, posture
from kdpose_jax.keypoints.formats import cleaning, naming
from kdpose_jax.keypoints.formats.options import Options
from kdpose_jax.keypoints.persons import Detections
from kdpose_jax.keypoints.tracks import Keypoints
from kdpose_jax.untrusted import bounds

_AT_ONCE = 10_000  # detections that are converted together
# The identity of the only person that a file can have.
ONE: tuple[str, ...] = ("1",)


class Collector:
    """Takes the detections of a file one by one. Three numbers of a joint take 12 bytes.

    They are float32, which is exact to 1/1000 of a pixel in pictures of up to 16,384 pixels.

    Attributes:
      path: the file or folder.
      place: names it in errors.
      notes: sentences on the file.
      counts: what the detections lacked, in words -> how often.
    """

    def __init__(self, path: str):
        self.path, self.place = path, f"'{path}'"
        self.notes: list[str] = []
        self.counts: dict[str, int] = {}
        self._values = array.array("f")
        self._numbers: list[int] = []
        self._ids: list[tuple[str, ...]] = []
        self._shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._joints = 0

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def joints(self) -> int:
        """How many joints a detection has; 0 before the first."""
        return self._joints

    def add(
        self, frame: int, triples: Any, ids: Sequence[str] = (), where: str | None = None
    ) -> None:
        """Adds the detection of a person.

        Args:
          frame: number of the frame.
          triples: x, y and score of each joint, flat.
          ids: the person's identities in the file; none if the file has none, more than one if it
            merged several.
          where: names the detection in errors; None for the file and the frame.

        Raises:
          UserError: something in it is not a number, or another detection had more or fewer joints,
            or the file has more than `bounds.KEYPOINTS`.
        """
        where = where or f"{self.place}, frame {frame}"
        values = numbers(triples, where)
        if len(values) % 3 or not len(values):
            raise UserError(
                f"{where} has {len(values)} numbers for the joints of a person, which are not "
                f"triples of x, y and score: {REPAIR}."
            )
        joints = len(values) // 3
        if self._joints not in (0, joints):
            raise UserError(
                f"{where} has {joints} joints and those before it have {self._joints}: give a file "
                f"of one layout."
            )
        self._joints = joints
        if len(self._ids) * joints > bounds.KEYPOINTS:
            raise UserError(
                f"{self.place} has more than {bounds.KEYPOINTS:,} joints: split the video into "
                f"parts."
            )
        self._values.frombytes(_in_float32(values))
        self._numbers.append(frame)
        key = tuple(ids)
        self._ids.append(self._shared.setdefault(key, key))

    def add_all(self, frames: Sequence[int], triples: np.ndarray, ids: Sequence[str] = ()) -> None:
        """Adds the detections of one person in many frames.

        Args:
          frames: numbers of the frames, `[T]`.
          triples: x, y and score of each joint, `[T, K, 3]`.
          ids: the person's identities in the file.

        Raises:
          UserError: see `add`.
        """
        if not len(frames):
            return
        self.add(frames[0], triples[0].reshape(-1), ids)
        if triples.size // 3 + len(self._ids) * self._joints > bounds.KEYPOINTS:
            raise UserError(
                f"{self.place} has more than {bounds.KEYPOINTS:,} joints: split the video into "
                f"parts."
            )
        for start in range(1, len(triples), _AT_ONCE):
            self._values.frombytes(_in_float32(triples[start : start + _AT_ONCE]))
        self._numbers.extend(frames[1:])
        self._ids.extend([self._ids[-1]] * (len(frames) - 1))

    def renumber(self, numbers: Sequence[int]) -> None:
        """Replaces the frame of each detection by `numbers[frame]`."""
        self._numbers = [numbers[frame] for frame in self._numbers]

    def count(self, what: str, number: int = 1) -> None:
        """Counts what a note says, such as "entries of other categories"."""
        if number:
            self.counts[what] = self.counts.get(what, 0) + number

    def finish(
        self,
        format_name: str,
        options: Options,
        usual: Sequence[str] = (),
        named: joint_names.Named | None = None,
        units: Sequence[str] = (cleaning.PIXELS,),
        length: int = 0,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        sorts: bool = True,
    ) -> Keypoints:
        """Makes keypoints of what was collected.

        Args:
          format_name: name of the format.
          options: what the user says.
          usual: layouts of this format, for a file that does not name its joints.
          named: the joints that the file names; None if it does not.
          units: the units that the coordinates may have. Their range says which one it is.
          length: number of frames that the file says it has, with those without persons.
          size: the size that the file says.
          fps: the rate that the file says.
          sorts: whether detections that stand out of the frames' order are worth a note.

        Raises:
          UserError: there is no person, or the layout or the size is not known.
        """
        if not self._ids:
            raise UserError(
                f"{self.place} ({format_name}) has no person in any frame: look whether the "
                f"detector found anybody, or give another file."
            )
        named = named or self._by_count(format_name, options, usual)
        values = self._take_values(named.columns)
        size, fps, notes = _settle(size, fps, options)
        notes += cleaning.to_pixels(values, units, size, self.place)
        notes += cleaning.mark_missing(values)
        if not (values[..., 2] > 0).any():
            raise UserError(
                f"{self.place} ({format_name}) has {len(self._ids):,} persons and not one joint "
                f"with a score above 0 and a place: look whether the detector found anybody, or "
                f"give another file."
            )
        notes += cleaning.require_inside(values, size, self.place)
        notes += posture.doubts(values, named.joints)
        first, frames = self._numbers[0], naming.as_frames(self._numbers, notes)
        if (np.diff(frames) < 0).any() and sorts:
            notes.append("Frames stood out of order in the file; they were sorted by number.")
        tracks, more = persons.track(Detections(frames, values, self._ids), self.place)
        counted = [f"{number:,} {what}." for what, number in self.counts.items()]
        return Keypoints(
            tracks=tracks,
            joints=named.joints,
            layout=named.layout,
            size=size,
            fps=fps,
            # The number of frames means nothing where frames were counted anew.
            length=max(length if frames[0] == first else 0, int(frames.max()) + 1),
            format=format_name,
            notes=(*self.notes, *named.notes, *counted, *notes, *more),
        )

    def _by_count(
        self, format_name: str, options: Options, usual: Sequence[str]
    ) -> joint_names.Named:
        """Finds the joints of a file that does not name them."""
        if options.names is not None:
            raise UserError(
                f"--map names joints, and {self.place} ({format_name}) has joints without names: "
                f"give --joints LAYOUT in its place."
            )
        layout = layouts.layout_of(self._joints, options.joints, self.place, usual)
        notes = []
        if options.joints is None:
            notes.append(f"Joints were taken as {layout.name}, because they are {self._joints}.")
        if others := layout.total - len(layout.joints):
            notes.append(
                f"{others} of the {layout.total} joints of {layout.name} were left out (face, "
                f"hands)."
            )
        columns = tuple(range(len(layout.joints)))
        return joint_names.Named(layout.name, layout.joints, columns, tuple(notes))

    def _take_values(self, columns: Sequence[int]) -> np.ndarray:
        """Returns x, y and score of some joints, `[N, len(columns), 3]`; forgets the others."""
        values = np.frombuffer(self._values, np.float32)
        values = values.reshape(len(self._ids), self._joints, 3)
        self._values = array.array("f")
        return values if list(columns) == list(range(self._joints)) else values[:, list(columns)]


REPAIR = "repair the file, or let the detector write it again"


def _in_float32(values: Any) -> bytes:
    """Returns numbers as the bytes of float32. Those beyond its range become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).tobytes()


def numbers(values: Any, where: str) -> array.array:
    """Returns a flat list of numbers, with NaN for null.

    Raises:
      UserError: it is not a list, or a member is not a number of float64.
    """
    if isinstance(values, list | tuple | array.array | np.ndarray):
        try:
            return array.array("d", values)
        except (TypeError, ValueError, OverflowError):
            for value in values:
                if value is not None and not _is_number(value):
                    raise UserError(
                        f"{where} has {str(value)[:60]!r} where a number must be: {REPAIR}."
                    ) from None
            return array.array("d", (float("nan") if one is None else one for one in values))
    raise UserError(f"{where} has {str(values)[:60]!r} where a list of numbers must be: {REPAIR}.")


def _is_number(value: Any) -> bool:
    try:
        array.array("d", (value,))
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def require_scores(third: np.ndarray, where: str) -> None:
    """Refuses 3D poses: their third number is often negative or large, and a score is neither.

    Args:
      third: the third number of each joint, `[..., K]`.
      where: names the array in the error.

    Raises:
      UserError: the numbers are not scores.
    """
    finite = third[np.isfinite(third)]
    if finite.size and ((finite < 0).mean() > 0.05 or np.abs(finite).max() > 100):
        raise UserError(
            f"{where} has third numbers between {finite.min():.3g} and {finite.max():.3g}, which "
            f"are not scores (are these 3D poses?): give x, y and score, or x and y alone."
        )


def _settle(
    size: tuple[int, int] | None, fps: float | None, options: Options
) -> tuple[tuple[int, int] | None, float | None, list[str]]:
    """Chooses size and rate: the user's, else the file's, else those of a video beside it."""
    notes, near = [], options.near
    if size and options.size and size != options.size:
        notes.append(
            f"The size {options.size[0]}x{options.size[1]} was taken in place of the file's "
            f"{size[0]}x{size[1]}."
        )
    if fps and options.fps and fps != options.fps:
        notes.append(
            f"{options.fps:g} frames per second were taken in place of the file's {fps:g}."
        )
    size, fps = options.size or size, options.fps or fps
    if near and not size:
        size = near.size
        notes.append(f"The size {size[0]}x{size[1]} was taken from '{near.path}'.")
    if near and near.fps and not fps:
        fps = near.fps
        notes.append(f"The rate of {fps:g} frames per second was taken from '{near.path}'.")
    return size, fps, notes
