"""MMPose's inferencer (`pred_out_dir`) and demos (`--save-predictions`).

Layout: mmpose 1.3.2, structures/utils.py, split_instances; apis/inferencers; demo/. A file has one
picture's persons, or the frames of a video; a folder has a file for each picture.
"""

import os
from typing import Any

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import joint_names
from kdpose_jax.keypoints.formats import naming, probing
from kdpose_jax.keypoints.formats.collecting import REPAIR, Collector, numbers
from kdpose_jax.keypoints.formats.identities import identities
from kdpose_jax.keypoints.formats.options import Options
from kdpose_jax.keypoints.formats.probing import Probe
from kdpose_jax.keypoints.tracks import Keypoints

NAME = "mmpose"
WHAT = "MMPose: the json of its inferencer or demos, or a folder of those of pictures"
LAYOUTS = ("coco_17", "halpe_26", "coco_133", "halpe_136")


def recognises(probe: Probe) -> bool:
    """Tells whether a path holds MMPose's predictions."""
    if probe.kind != "json":
        return False
    if probe.values:
        return _is_frame(probe.values[0]) or _is_instance(probe.values[0])
    return "instance_info" in probe.members


def _is_frame(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("instances"), list)


def _is_instance(value: Any) -> bool:
    """Tells whether a value is a person: a list of points, and not the flat list of COCO."""
    if not isinstance(value, dict) or not isinstance(value.get("keypoints"), list):
        return False
    return "keypoint_scores" in value or any(isinstance(one, list) for one in value["keypoints"])


def read(path: str, options: Options) -> Keypoints:
    """Reads a file, or a folder with a file for each picture.

    Raises:
      UserError: a file is damaged, or there is no person.
    """
    collector = Collector(path)
    names: list[str] | None = None
    if os.path.isdir(path):
        _read_folder(path, collector)
    else:
        frames: list[int] = []
        for index, piece in enumerate(probing.pieces_of(path)):
            where = f"{collector.place}, entry {index}"
            if piece.key == "meta_info" and isinstance(piece.value, dict):
                names = _names(piece.value)
            elif piece.in_list and piece.key in (None, "instance_info"):
                if _is_frame(piece.value):
                    frames.append(_number(piece.value, len(frames), where))
                    for instance in piece.value["instances"]:
                        _add(collector, frames[-1], instance, where)
                else:
                    _add(collector, 0, piece.value, where)
        naming.refuse_twice(frames, collector.place)
    named = None
    if names is not None and len(names) == collector.joints:
        named = joint_names.identify(names, collector.place, options.joints, options.names)
    return collector.finish(NAME, options, LAYOUTS, named=named)


def _read_folder(path: str, collector: Collector) -> None:
    files = probing.files_in(path, ".json")
    for number, name in sorted(
        zip(naming.frame_numbers(files, collector.place, collector.notes), files, strict=True)
    ):
        file = os.path.join(path, name)
        content = probing.load_frame(file)
        if isinstance(content, dict):
            content = content.get("instance_info")
        if not isinstance(content, list) or any(_is_frame(one) for one in content):
            raise UserError(
                f"'{file}' does not hold the persons of one picture: give the file of one video, "
                f"or a folder of files of pictures."
            )
        for instance in content:
            _add(collector, number, instance, f"'{file}'")


def _names(meta: dict[str, Any]) -> list[str] | None:
    """Returns the names of the joints in the order of their numbers."""
    table = meta.get("keypoint_id2name")
    if not isinstance(table, dict):
        return None
    found = [table.get(str(index)) for index in range(len(table))]
    return [str(name) for name in found] if all(isinstance(name, str) for name in found) else None


def _number(frame: dict[str, Any], index: int, where: str) -> int:
    """Returns the number of a frame; its place in the file if it has none."""
    number = frame.get("frame_id", index)
    if type(number) is not int or not 0 <= number < 2**53:
        raise UserError(
            f"{where} has frame_id {str(number)[:60]!r} where a whole number must be: {REPAIR}."
        )
    return number


def _add(collector: Collector, frame: int, instance: Any, where: str) -> None:
    if not isinstance(instance, dict) or not isinstance(instance.get("keypoints"), list):
        raise UserError(f"{where} has a person without a list of keypoints: {REPAIR}.")
    points, scores = instance["keypoints"], instance.get("keypoint_scores")
    flat: list[Any] = []
    if scores is None:
        scores = [1.0] * len(points)
    scores = numbers(scores, where)
    if len(scores) != len(points):
        raise UserError(
            f"{where} has a person with {len(points)} keypoints and {len(scores)} scores: {REPAIR}."
        )
    for point, score in zip(points, scores, strict=True):
        if not isinstance(point, list) or len(point) != 2:
            raise UserError(
                f"{where} has the keypoint {str(point)[:60]!r} where x and y must be (3D poses are "
                f"not read): give the predictions of a 2D model."
            )
        flat += (*point, score)
    ids = identities(instance["track_id"]) if "track_id" in instance else ()
    collector.add(frame, flat, ids, where)
