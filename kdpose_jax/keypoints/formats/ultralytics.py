"""Ultralytics: `save_txt` (a text for each frame) and `to_json` or `summary`.

Layout: ultralytics/engine/results.py, save_txt and summary. A line of the text is a person: class,
box (4), x y and mostly visibility of each joint, then the confidence (`save_conf`) and the track,
if there are such.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import layouts
from kdpose_jax.keypoints.formats import naming, probing, tables
from kdpose_jax.keypoints.formats.cleaning import PIXELS, SHARES
from kdpose_jax.keypoints.formats.collecting import REPAIR, Collector, numbers
from kdpose_jax.keypoints.formats.identities import identities
from kdpose_jax.keypoints.formats.options import Options
from kdpose_jax.keypoints.formats.probing import Probe
from kdpose_jax.keypoints.tracks import Keypoints
from kdpose_jax.untrusted import streams

NAME = "ultralytics"
WHAT = "Ultralytics: the txt of save_txt in a folder, or the json of to_json and summary"
LAYOUTS = ("coco_17", "halpe_26", "coco_133")
_HEAD = 5  # class and box
_COUNTS = (17, 26, 16, 25, 18, 33, 133)  # joints of models that exist, the usual one first


def recognises(probe: Probe) -> bool:
    """Tells whether a path holds Ultralytics' results."""
    if probe.kind == "text":
        rows = probe.rows
        return (
            bool(rows)
            and all(len(row) > _HEAD + 2 * 15 and all(map(tables.is_number, row)) for row in rows)
            and all(_is_line(row) for row in rows)
        )
    if probe.kind != "json":
        return False
    # A frame without persons is an empty list.
    values = [
        one for value in probe.values for one in (value if isinstance(value, list) else [value])
    ]
    return bool(values) and _is_person(values[0])


def _is_line(row: Sequence[str]) -> bool:
    kind, *box = map(float, row[:_HEAD])
    return kind.is_integer() and kind >= 0 and all(-0.01 <= side <= 1.01 for side in box)


def _is_person(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("keypoints"), dict)


def read(path: str, options: Options) -> Keypoints:
    """Reads texts or JSON, of one frame or of a folder of frames.

    Raises:
      UserError: a file is damaged, or there is no person.
    """
    collector = Collector(path)
    if streams.starts_like_json(path):
        return _read_file(path, collector, options)
    ending = ".txt" if os.path.isfile(path) or probing.files_in(path, ".txt") else ".json"
    files = probing.frame_files(path, ending)
    order = naming.frame_numbers(
        [os.path.basename(file) for file in files], collector.place, collector.notes
    )
    table: list[tuple[int, str, list[float], str]] = []
    for number, file in sorted(zip(order, files, strict=True)):
        if ending == ".json":
            _add_frame(collector, number, probing.load_frame(file), f"'{file}'")
            continue
        for line, row in enumerate(tables.rows_of(file), 1):
            where = f"'{file}', line {line}"
            table.append((number, where, tables.numbers(row, where), row[-1]))
    if ending == ".txt":
        _add_lines(collector, table, options)
        return collector.finish(NAME, options, LAYOUTS, units=(SHARES,))
    return collector.finish(NAME, options, LAYOUTS, units=(PIXELS, SHARES))


def _read_file(path: str, collector: Collector, options: Options) -> Keypoints:
    """Reads one JSON file: the persons of one frame, or a list of them for each frame."""
    frames = 0
    for index, piece in enumerate(probing.pieces_of(path)):
        where = f"{collector.place}, entry {index}"
        if isinstance(piece.value, list):
            _add_frame(collector, index, piece.value, where)
            frames = index + 1
        else:
            _add_frame(collector, 0, [piece.value], where)
    return collector.finish(NAME, options, LAYOUTS, units=(PIXELS, SHARES), length=frames)


def _add_frame(collector: Collector, frame: int, persons: Any, where: str) -> None:
    if not isinstance(persons, list):
        raise UserError(f"{where} is not a list of persons: {REPAIR}.")
    for person in persons:
        if not _is_person(person):
            raise UserError(f"{where} has {str(person)[:60]!r} without keypoints: {REPAIR}.")
        points = person["keypoints"]
        x, y = (numbers(points.get(axis), f"{where} ({axis})") for axis in "xy")
        seen = numbers(points["visible"], where) if points.get("visible") else [1.0] * len(x)
        if not len(x) == len(y) == len(seen):
            raise UserError(
                f"{where} has {len(x)} x, {len(y)} y and {len(seen)} visible: {REPAIR}."
            )
        flat = [value for triple in zip(x, y, seen, strict=True) for value in triple]
        collector.add(frame, flat, identities(person.get("track_id")), where)


def _add_lines(
    collector: Collector, table: Sequence[tuple[int, str, list[float], str]], options: Options
) -> None:
    """Adds the lines of all texts, which have the same columns."""
    lengths = {len(values) for _, _, values, _ in table}
    if not lengths:
        return
    chosen = (layouts.find_layout(options.joints).total,) if options.joints else _COUNTS
    # The confidence is missing in some lines only if persons came from several programs.
    fits = list(_columns(max(lengths) - _HEAD, chosen))
    if not fits or len(lengths) > 2:
        raise UserError(
            f"{collector.place} has lines of {max(lengths)} numbers, which are not class, box and "
            f"joints of a known layout: give --joints, or write joints with model.predict(..., "
            f"save_txt=True)."
        )
    joints, width, more = fits[0]
    for _, where, values, _ in table:
        extra = len(values) - _HEAD - joints * width
        if not 0 <= extra <= more:
            raise UserError(f"{where} has {len(values)} numbers where others have {max(lengths)}.")
    last = [text for _, _, values, text in table if len(values) == max(lengths)]
    tracked = more == 2 or more == 1 and all(text.isdigit() and int(text) > 0 for text in last)
    for number, where, values, _ in table:
        flat = values[_HEAD : _HEAD + joints * width]
        if width == 2:
            pairs = zip(flat[::2], flat[1::2], strict=True)
            flat = [value for x, y in pairs for value in (x, y, 1.0)]
        has_id = tracked and len(values) == max(lengths)
        collector.add(number, flat, identities(values[-1]) if has_id else (), where)


def _columns(numbers_of_joints: int, counts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yields what a line may have: joints, numbers for each, and how many columns behind them."""
    for joints in counts:
        for width in (3, 2):
            more = numbers_of_joints - joints * width
            if 0 <= more <= 2:
                yield joints, width, more
