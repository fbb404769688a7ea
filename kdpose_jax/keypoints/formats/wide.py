"""Reads csv files with columns for each joint, or a row for each joint."""

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import joint_names, layouts
from kdpose_jax.keypoints.formats import naming, tables
from kdpose_jax.keypoints.formats.collecting import ONE, Collector
from kdpose_jax.keypoints.formats.identities import identities
from kdpose_jax.keypoints.formats.options import Options

_SCORES = "score|confidence|conf|likelihood|visibility|visible|presence|probability|prob|c|v|p"
# A column of a joint: its name or number, and which of its numbers the column has.
_AFTER = re.compile(rf"(.*?)[\s_.:\-\[(]*(x|y|z|{_SCORES})[\])]?", re.I)
_BEFORE = re.compile(rf"(x|y|z|{_SCORES})[\s_.:\-]*(\d+)", re.I)
_FRAME = (
    "frame",
    "frameid",
    "framenumber",
    "frameindex",
    "frameno",
    "framenum",
    "frameidx",
    "framenr",
    "image",
    "imageid",
    "imagename",
    "imagefile",
    "imagepath",
    "img",
    "file",
    "filename",
    "filepath",
    "index",
    "",
)
_PERSON = (
    "person",
    "personid",
    "personidx",
    "trackid",
    "trackidx",
    "track",
    "id",
    "identity",
    "individual",
    "instance",
    "instanceid",
    "subject",
    "poseid",
    "bodyid",
)
_JOINT = ("joint", "landmark", "keypoint", "bodypart", "landmarkid", "landmarkname", "name")
_NUMBERS = ("x", "y")


class Header(NamedTuple):
    """What the columns of a table are.

    Attributes:
      joints: joint, as the file names or numbers it -> the columns of x, y and score, -1 if the
        file has no scores.
      frame: the column with the number of the frame; -1 if rows are frames.
      person: the column with the person; -1 if there is one person.
      joint: the column with the joint, where each joint has a row; -1 otherwise.
      unread: names of the columns that are none of these.
      twice: a column of a joint that has the name of another; "" if there is none.
    """

    joints: dict[str, tuple[int, int, int]]
    frame: int
    person: int
    joint: int
    unread: tuple[str, ...] = ()
    twice: str = ""


def header_of(rows: Sequence[Sequence[str]]) -> Header | None:
    """Reads the first row; None if it does not name columns of joints."""
    if not rows:
        return None
    plain = [layouts.plain(cell) for cell in rows[0]]
    frame, person, joint = (
        next((plain.index(name) for name in names if name in plain), -1)
        for names in (_FRAME, _PERSON, _JOINT)
    )
    if joint >= 0 and all(name in plain for name in _NUMBERS):
        score = next((plain.index(name) for name in _SCORES.split("|") if name in plain), -1)
        return Header({"": (plain.index("x"), plain.index("y"), score)}, frame, person, joint)
    found: dict[str, dict[str, int]] = {}
    unread, twice = [], ""
    for column, cell in enumerate(rows[0]):
        after, before = _AFTER.fullmatch(cell), _BEFORE.fullmatch(cell)
        if before:
            name, kind = before[2], before[1].lower()
        elif after:
            name, kind = after[1], after[2].lower()
        else:
            unread += [] if column in (frame, person) or not cell else [cell]
            continue
        place = found.setdefault(name, {})
        if kind in "xy" and kind in place:
            twice = cell
        place.setdefault(kind if kind in "xyz" else "score", column)
    joints = {
        name: (columns["x"], columns["y"], columns.get("score", -1))
        for name, columns in found.items()
        if name and "x" in columns and "y" in columns
    }
    return Header(joints, frame, person, -1, tuple(unread), twice) if joints else None


def read(path: str, collector: Collector, options: Options) -> joint_names.Named | None:
    """Reads a table into a collector.

    Returns:
      The joints that the file names; None if it numbers them.

    Raises:
      UserError: a cell is not a number, or a person is twice in a frame.
    """
    rows = tables.rows_of(path)
    header = header_of([next(rows, [])])
    if header is None:
        raise UserError(
            f"{collector.place} names no columns of joints in its first line: write columns such "
            f"as nose_x, nose_y and nose_score, and frame."
        )
    if header.twice:
        raise UserError(
            f"{collector.place} has the column '{header.twice[:60]}' twice: rename one of them."
        )
    if header.unread:
        collector.notes.append(
            f"{len(header.unread)} columns were not read: {layouts.listed(header.unread)}."
        )
    if header.frame < 0 and header.joint < 0:
        collector.notes.append(
            "No column numbers the frames, so that each row is the frame behind the one before it."
        )
    names = (
        _read_long(rows, header, collector)
        if header.joint >= 0
        else _read_wide(rows, header, collector)
    )
    if all(name.isdigit() for name in names):
        return None
    return joint_names.identify(names, collector.place, options.joints, options.names)


def _in_order(names: Sequence[str]) -> list[str]:
    """Sorts joints that have numbers; named ones stay in the file's order."""
    return sorted(names, key=int) if all(name.isdigit() for name in names) else list(names)


def _read_wide(rows: Iterator[list[str]], header: Header, collector: Collector) -> list[str]:
    """Adds a person for each row; returns the joints in the order in which they were added."""
    names = _in_order(list(header.joints))
    columns = [header.joints[name] for name in names]
    used = max(max(one) for one in columns)
    places = _Places(header, collector)
    for line, row in enumerate(rows, 2):
        where = f"{collector.place}, line {line}"
        if len(row) <= used:
            raise UserError(f"{where} has {len(row)} cells and its header needs {used + 1}.")
        frame, ids = places.of(row, where)
        cells = [row[at] if at >= 0 else "1" for one in columns for at in one]
        collector.add(frame, tables.numbers(cells, where), ids, where)
    return names


def _read_long(rows: Iterator[list[str]], header: Header, collector: Collector) -> list[str]:
    """Collects the rows of a person in a frame, which stand anywhere in the file."""
    ((x, y, score),) = header.joints.values()
    found: dict[tuple[int, tuple[str, ...]], dict[str, tuple[float, float, float]]] = {}
    names: dict[str, None] = {}
    places = _Places(header, collector, is_long=True)
    for line, row in enumerate(rows, 2):
        where = f"{collector.place}, line {line}"
        if len(row) <= max(x, y, score, header.joint):
            raise UserError(f"{where} has {len(row)} cells, which are fewer than its header's.")
        person = found.setdefault(places.of(row, where), {})
        name = row[header.joint]
        if name in person:
            raise UserError(f"{where} has '{name[:60]}' a second time in its frame: remove one.")
        cells = [row[x], row[y], row[score] if score >= 0 else "1"]
        one, two, three = tables.numbers(cells, where)
        person[name], names[name] = (one, two, three), None
    ordered = _in_order(list(names))
    nothing = (float("nan"), float("nan"), 0.0)
    for (frame, ids), person in found.items():
        collector.add(frame, [v for name in ordered for v in person.get(name, nothing)], ids)
    return ordered


class _Places:
    """Finds the frame and the person of each row."""

    def __init__(self, header: Header, collector: Collector, is_long: bool = False):
        self._header, self._collector, self._is_long = header, collector, is_long
        self._seen: set[tuple[int, tuple[str, ...]]] = set()
        self._folders: dict[str, None] = {}
        self._rows = 0

    def of(self, row: Sequence[str], where: str) -> tuple[int, tuple[str, ...]]:
        """Returns the number of a row's frame, and the person's identities."""
        header, frame = self._header, self._rows
        self._rows += 1
        if header.frame >= 0:
            cell = row[header.frame] if header.frame < len(row) else ""
            if tables.is_number(cell) and not _is_whole(cell):
                raise UserError(
                    f"{where} has the frame {cell[:60]}, which is not a whole number: write the "
                    f"frame's number, or call the column 'time', which is not read."
                )
            number = int(float(cell)) if _is_whole(cell) else self._named(cell)
            if number is None:
                raise UserError(f"{where} has no number of a frame ('{cell[:60]}'): repair it.")
            frame = number
        elif self._is_long:
            raise UserError(
                f"{self._collector.place} has a row for each joint and no column 'frame': add it."
            )
        cell, ids = "", ONE
        if header.person >= 0:
            cell = row[header.person] if header.person < len(row) else ""
            ids = identities(float(cell) if _is_whole(cell) else cell)
        place = frame, ids
        if not self._is_long:
            if place in self._seen:
                raise UserError(
                    f"{where} has frame {frame} a second time"
                    + (f" for person '{cell[:60]}'" if cell else " and no column tells persons")
                    + " apart: remove one, or add a column 'person'."
                )
            self._seen.add(place)
        return place

    def _named(self, cell: str) -> int | None:
        """Returns the number in the name of a picture, and keeps the picture's folder."""
        self._folders.setdefault(os.path.dirname(cell.replace("\\", "/")))
        naming.refuse_folders([f"{one}/" for one in self._folders], self._collector.place)
        return naming.frame_number(cell)[1]


def _is_whole(cell: str) -> bool:
    return tables.is_number(cell) and abs(float(cell)) < 2**53 and float(cell).is_integer()
