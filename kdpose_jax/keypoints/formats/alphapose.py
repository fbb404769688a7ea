"""AlphaPose's alphapose-results.json, in its three forms.

Layout: MVIG-SJTU/AlphaPose, alphapose/utils/pPose_nms.py, write_json. `--format cmu` and `open`
have an object with a member for each picture.
"""

from typing import Any

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints.formats import naming, openpose, probing
from kdpose_jax.keypoints.formats.collecting import REPAIR, Collector
from kdpose_jax.keypoints.formats.identities import identities
from kdpose_jax.keypoints.formats.options import Options
from kdpose_jax.keypoints.formats.probing import Probe
from kdpose_jax.keypoints.tracks import Keypoints

NAME = "alphapose"
WHAT = "AlphaPose: alphapose-results.json, in any --format"
LAYOUTS = ("coco_17", "halpe_26", "halpe_136", "halpe_68", "coco_133", "coco_18")


def recognises(probe: Probe) -> bool:
    """Tells whether a path holds AlphaPose's results."""
    if probe.kind != "json" or probe.is_folder:
        return False
    if probe.values:
        first = probe.values[0]
        return is_result(first) and (
            isinstance(first["image_id"], str) or "idx" in first or "box" in first
        )
    return bool(probe.members) and all(
        isinstance(value, dict) and ("bodies" in value or "people" in value)
        for value in probe.members.values()
    )


def is_result(entry: Any) -> bool:
    """Tells whether an entry is a person in COCO's results format, which AlphaPose extends."""
    return (
        isinstance(entry, dict)
        and "image_id" in entry
        and isinstance(entry.get("keypoints"), list)
        and not any(isinstance(one, list) for one in entry["keypoints"][:1])
    )


def read(path: str, options: Options) -> Keypoints:
    """Reads a file of results.

    Raises:
      UserError: the file is damaged, or there is no person.
    """
    collector, pictures = Collector(path), Pictures()
    for index, piece in enumerate(probing.pieces_of(path)):
        where = f"{collector.place}, entry {index}"
        if piece.key is not None:
            openpose.add_people(collector, pictures.index(piece.key, where), piece.value, where)
        elif piece.in_list:
            if not is_result(piece.value):
                raise UserError(
                    f"{where} is {str(piece.value)[:60]!r}, which lacks image_id or keypoints: "
                    f"{REPAIR}."
                )
            ids = piece.value["idx"] if "idx" in piece.value else None
            frame = pictures.index(piece.value["image_id"], where)
            collector.add(frame, piece.value["keypoints"], identities(ids), where)
    naming.refuse_folders(pictures.names, collector.place)
    collector.renumber(naming.frame_numbers(pictures.names, collector.place, collector.notes))
    return collector.finish(NAME, options, LAYOUTS)


def name_of(image_id: Any) -> str | None:
    """Returns a picture's name, or its id as text, which may be written 7 or 7.0; None for others.

    Raises:
      ValueError: the id has thousands of digits.
    """
    if isinstance(image_id, float) and image_id.is_integer():
        image_id = int(image_id)
    if isinstance(image_id, bool) or not isinstance(image_id, str | int):
        return None
    return str(image_id)


class Pictures:
    """Numbers pictures in the order in which they occur.

    Attributes:
      names: the pictures' names, or their ids as texts.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def index(self, image_id: Any, where: str) -> int:
        """Returns the number of a picture.

        Raises:
          UserError: it is named neither by a text nor by a whole number.
        """
        try:
            name = name_of(image_id)
        except ValueError:  # Python does not print integers of thousands of digits
            raise UserError(f"{where} has an image_id of thousands of digits: {REPAIR}.") from None
        if name is None:
            raise UserError(
                f"{where} has image_id {str(image_id)[:60]!r}, which is neither a name nor a whole "
                f"number: {REPAIR}."
            )
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]
