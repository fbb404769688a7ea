"""COCO's results format, and its annotations.

Layout: cocodataset.org, format of results and of data. PoseTrack adds `track_id`.
"""

import collections
from typing import Any

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import joint_names
from kdpose_jax.keypoints.formats import naming, probing
from kdpose_jax.keypoints.formats.alphapose import Pictures, is_result, name_of
from kdpose_jax.keypoints.formats.collecting import REPAIR, Collector, numbers
from kdpose_jax.keypoints.formats.identities import identities
from kdpose_jax.keypoints.formats.options import Options
from kdpose_jax.keypoints.formats.probing import Probe
from kdpose_jax.keypoints.tracks import Keypoints

NAME = "coco"
WHAT = "COCO: results, or annotations with the pictures' sizes"
LAYOUTS = ("coco_17", "coco_133", "halpe_26", "halpe_136")
_PERSON = 1  # the id of COCO's category


def recognises(probe: Probe) -> bool:
    """Tells whether a path holds COCO's results or annotations."""
    if probe.kind != "json" or probe.is_folder:
        return False
    if probe.values:
        first = probe.values[0]
        return is_result(first) and not (
            isinstance(first["image_id"], str) or "idx" in first or "box" in first
        )
    images, persons = (probe.members.get(name) for name in ("images", "annotations"))
    return is_result(persons) or (isinstance(images, dict) and "id" in images)


class _Annotations:
    """What a file of annotations says beside its persons."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}  # an image's id -> its name
        self.sizes: collections.Counter[tuple[int, int]] = collections.Counter()
        self.persons: list[int] = []
        self.joints: list[str] | None = None
        self._has_person = False

    def take_image(self, image: Any) -> None:
        name = name_of(image.get("id")) if isinstance(image, dict) else None
        if name is None:
            return
        self.files[name] = str(image.get("file_name", ""))
        size = image.get("width"), image.get("height")
        if all(type(side) is int and 0 < side < 10**6 for side in size):
            self.sizes[size] += 1  # type: ignore[index]  # both are whole numbers

    def take_category(self, category: Any) -> None:
        if not isinstance(category, dict) or type(category.get("id")) is not int:
            return
        names = category.get("keypoints")
        is_person = str(category.get("name")).lower() == "person"
        if is_person and not self._has_person:  # others that have joints are animals
            self._has_person, self.persons, self.joints = True, [], None
        if is_person or (names and not self._has_person):
            self.persons.append(category["id"])
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                self.joints = names


def _described(path: str) -> _Annotations:
    """Reads what annotations say beside their persons, behind which it may stand."""
    found = _Annotations()
    for piece in probing.pieces_of(path):
        if piece.key is None:  # results
            break
        if piece.in_list and piece.key == "images":
            found.take_image(piece.value)
        elif piece.in_list and piece.key == "categories":
            found.take_category(piece.value)
    return found


def read(path: str, options: Options) -> Keypoints:
    """Reads results or annotations.

    Raises:
      UserError: the file is damaged, or there is no person.
    """
    collector, pictures, found = Collector(path), Pictures(), _described(path)
    others: collections.Counter[str] = collections.Counter()
    for index, piece in enumerate(probing.pieces_of(path)):
        if piece.in_list and piece.key in (None, "annotations"):
            entry, where = piece.value, f"{collector.place}, entry {index}"
            if piece.key and isinstance(entry, dict) and "keypoints" not in entry:
                others["boxes without joints"] += 1
                continue
            if not is_result(entry):
                raise UserError(
                    f"{where} is {str(entry)[:60]!r}, which lacks image_id or keypoints: {REPAIR}."
                )
            category = entry.get("category_id", _PERSON)
            if entry.get("iscrowd") == 1 or category not in (found.persons or [_PERSON]):
                others[f"category {category!r}"[:40]] += 1
                continue
            frame = pictures.index(entry["image_id"], where)
            values = entry["keypoints"]
            if piece.key == "annotations":
                values = _as_scores(values, where)
            ids = identities(entry["track_id"]) if "track_id" in entry else ()
            collector.add(frame, values, ids, where)
    if others and not len(collector):
        raise UserError(
            f"{collector.place} has {others.total():,} entries and none of a person: give persons "
            f"category_id {_PERSON} (these are {', '.join([*others][:10])})."
        )
    collector.count(
        "entries of crowds, of other categories or without joints were left out", others.total()
    )
    collector.renumber(_frames(pictures, found, collector))
    if len(found.sizes) > 1:
        collector.notes.append(f"The pictures have {len(found.sizes):,} sizes; none was taken.")
    named = None
    if found.joints is not None and len(found.joints) == collector.joints:
        named = joint_names.identify(found.joints, collector.place, options.joints, options.names)
    return collector.finish(
        NAME,
        options,
        LAYOUTS,
        named=named,
        size=next(iter(found.sizes)) if len(found.sizes) == 1 else None,
        sorts=False,
    )


def _as_scores(values: Any, where: str) -> Any:
    """Turns the visibility of annotations (0 not labelled, 1 hidden, 2 visible) into scores."""
    flat = numbers(values, where)
    flat[2::3] = type(flat)("d", (min(one, 1.0) for one in flat[2::3]))
    return flat


def _frames(pictures: Pictures, found: _Annotations, collector: Collector) -> list[int]:
    """Numbers frames by the names of the pictures if these count, else by their ids."""
    files = [found.files.get(name, "") for name in pictures.names]
    naming.refuse_folders(files, collector.place)
    split = [naming.frame_number(file) for file in files]
    if all(number is not None for _, number in split) and len(set(split)) == len(split):
        if len({stem for stem, _ in split}) == 1:
            return [number for _, number in split if number is not None]
    return naming.frame_numbers(pictures.names, collector.place, collector.notes)
