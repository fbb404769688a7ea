"""OpenPose's `--write_json`: a file for each frame, and what others write in its layout.

Layout: CMU OpenPose, doc/02_output.md. Pose2Sim writes Halpe-26 so, and AlphaPose its `--format
open` and `cmu`, in the folder `sep-json`.
"""

import os
from collections.abc import Iterator
from typing import Any

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints.formats import naming, probing
from kdpose_jax.keypoints.formats.cleaning import PIXELS, SHARES, SIGNED_SHARES
from kdpose_jax.keypoints.formats.collecting import REPAIR, Collector, numbers
from kdpose_jax.keypoints.formats.identities import identities
from kdpose_jax.keypoints.formats.options import Options
from kdpose_jax.keypoints.formats.probing import Probe
from kdpose_jax.keypoints.tracks import Keypoints

NAME = "openpose"
WHAT = "OpenPose: a folder of json files, or the file of one frame"
LAYOUTS = ("body_25", "coco_18", "halpe_26", "mpi_15", "coco_17", "coco_133", "halpe_136")
# The list of persons in a frame, and what their joints are called.
_PEOPLE = ("people", "bodies")
_JOINTS = ("pose_keypoints_2d", "pose_keypoints", "joints")


def recognises(probe: Probe) -> bool:
    """Tells whether a path holds the frames of OpenPose."""
    return probe.kind == "json" and any(name in probe.members for name in _PEOPLE)


def read(path: str, options: Options) -> Keypoints:
    """Reads a folder or the file of one frame.

    Raises:
      UserError: a file is damaged, or there is no person.
    """
    files = probing.frame_files(path, ".json")
    collector = Collector(path)
    numbers = naming.frame_numbers(
        [os.path.basename(file) for file in files], collector.place, collector.notes
    )
    for number, file in sorted(zip(numbers, files, strict=True)):
        add_people(collector, number, probing.load_frame(file), f"'{file}'")
    return collector.finish(
        NAME,
        options,
        LAYOUTS,
        units=(PIXELS, SHARES, SIGNED_SHARES),
        length=max(numbers, default=-1) + 1,
    )


def add_people(collector: Collector, frame: int, content: Any, where: str) -> None:
    """Adds the persons of one frame.

    Raises:
      UserError: the content is not a frame of OpenPose.
    """
    for person in _people(content, where):
        key = next((name for name in _JOINTS if name in person), None)
        if key is None:
            raise UserError(f"{where} has a person without pose_keypoints_2d: {REPAIR}.")
        values = numbers(person[key], where)
        if not len(values):
            collector.count("persons have hands or a face alone and were left out")
            continue
        ids = person["person_id"] if "person_id" in person else None
        collector.add(frame, values, identities(ids), where)


def _people(content: Any, where: str) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        for name in _PEOPLE:
            if isinstance(content.get(name), list):
                for person in content[name]:
                    if not isinstance(person, dict):
                        raise UserError(
                            f"{where} has {str(person)[:60]!r} where a person must be: {REPAIR}."
                        )
                    yield person
                return
    raise UserError(f"{where} has no list 'people', so it is not a frame of OpenPose: {REPAIR}.")
