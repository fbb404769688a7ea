"""Pairs the takes of the 3D file with the views of the 2D file."""

import dataclasses
import re

import numpy as np

from data_prep import cameras, fitting
from data_prep.cameras import Camera
from data_prep.human36m.files import H36M, H36M_CORRUPT_TAKE, Source
from data_prep.takes import Detections, Takes2D, Takes3D
from kdpose_jax.errors import UserError

# A take's 2D may have this many frames more or less than its 3D, or this share of them, because
# videos run a few frames longer.
SPARE_FRAMES, SPARE_SHARE = 10, 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Describes one camera's view of one take.

    `keypoints_2d` `[F, J, 2]` pixels or None (then projected), `pose_world` `[F, J, 3]` metres.
    """

    subject: str
    take: str
    index: int
    fps: float
    keypoints_2d: np.ndarray | None
    pose_world: np.ndarray
    camera: Camera

    @property
    def frames(self) -> int:
        return len(self.pose_world)


def check_takes(files: Source, poses: Takes3D, detections: Takes2D) -> list[str]:
    """Removes takes without 2D from `poses`; returns what only one file has.

    Raises:
      UserError: a subject with 3D has no 2D.
    """
    extra = sorted(set(detections) - set(poses), key=natural)
    left_out = [f"{', '.join(extra)}: 2D without 3D"] if extra else []
    for subject in sorted(poses, key=natural):
        there = set(detections[subject]) if subject in detections else set()
        both = there & set(poses[subject])
        if not both:
            other = (
                f"takes {', '.join(sorted(there, key=natural)[:5])}"
                if there
                else f"subjects {', '.join(sorted(detections, key=natural))}"
            )
            raise UserError(
                f"'{files.keypoints}' has no 2D of subject '{subject}' and its takes "
                f"({', '.join(sorted(poses[subject], key=natural)[:5])}), "
                f"which '{files.positions}' has (there: {other}): give the 2D file of this "
                "release, or remove the subject from the 3D."
            )
        known = H36M_CORRUPT_TAKE if files.name == H36M else None
        for take in sorted(there ^ both, key=natural):
            left_out += [f"{subject} {take}: 2D without 3D"] if (subject, take) != known else []
        for take in sorted(set(poses[subject]) - both, key=natural):
            left_out.append(f"{subject} {take}: 3D without 2D")
            del poses[subject][take]
    return left_out


def pair_takes(
    files: Source,
    poses: Takes3D,
    detections: Detections | None,
    tables: dict[str, list[Camera]],
    fps: float,
) -> tuple[list[View], list[str], list[str]]:
    """Pairs each take with its views; 2D and 3D are cut to the shorter one.

    Args:
      files: names the files in messages.
      poses: the 3D.
      detections: the 2D; None if it is projected.
      tables: subject -> cameras.
      fps: the files' frames per second.

    Returns:
      The views, sentences about views without 2D, and notes about frames that were cut.

    Raises:
      UserError: a subject has no cameras, or the numbers of views or frames do not match.
    """
    views: list[View] = []
    left_out: list[str] = []
    cut: dict[str, list[int]] = {}
    for subject in sorted(poses, key=natural):
        if subject not in tables:
            raise UserError(
                f"Camera table '{files.cameras}' has no cameras for subject '{subject}' (it has "
                f"{', '.join(tables)}): give a table with --cameras."
            )
        table = tables[subject]
        for take in sorted(poses[subject], key=natural):
            given = [None] * len(table) if detections is None else detections.takes[subject][take]
            pose = poses[subject][take]
            own, without = _views(files, subject, take, fps, pose, given, table, cut)
            views += own
            left_out += without
    notes = [f"{what.format(max(most))} (views: {len(most):,})" for what, most in cut.items()]
    return views, left_out, notes


def _views(
    files: Source,
    subject: str,
    take: str,
    fps: float,
    pose: np.ndarray,
    given: list[np.ndarray | None],
    table: list[Camera],
    changed: dict[str, list[int]],
) -> tuple[list[View], list[str]]:
    """Returns one take's views, and sentences about views without 2D.

    2D and 3D are cut to the shorter one. `changed` gets the number of frames that each view lost.
    """
    place = f"'{files.keypoints}', subject '{subject}', take '{take}'"
    if len(given) != len(table):
        raise UserError(
            f"{place} has {len(given)} views where the camera table '{files.cameras}' has "
            f"{len(table)} cameras: give the table of these views with --cameras."
        )
    if files.keypoints is None:
        return [
            View(subject, take, index, fps, None, pose, camera)
            for index, camera in enumerate(table)
        ], []
    views, without, short = [], [], []
    for index, (view, camera) in enumerate(zip(given, table, strict=True)):
        if view is None:
            without.append(f"{subject} {take} camera {index}: no 2D")
            continue
        more = len(view) - len(pose)
        spare = max(SPARE_FRAMES, int(SPARE_SHARE * len(pose)))
        ratio = len(view) / len(pose)
        if more > spare or ratio > 1.9:
            raise UserError(
                f"{place}, camera {index}: {len(view)} frames of 2D for {len(pose)} of "
                f"3D{_rates(ratio)}."
            )
        if more < -spare or ratio < 0.6:
            short.append(
                f"{place}, camera {index}: {len(view)} frames of 2D for {len(pose)} of "
                f"3D{_rates(ratio)}."
            )
            without.append(
                f"{subject} {take} camera {index}: {len(view)} frames of 2D for {len(pose)} of 3D"
            )
            continue
        frames = min(len(view), len(pose))
        if more:
            which, other = ("2D", "3D") if more > 0 else ("3D", "2D")
            changed.setdefault(
                f"the {which} has up to {{}} frames more than the {other}, which are cut", []
            ).append(abs(more))
        views.append(View(subject, take, index, fps, view[:frames], pose[:frames], camera))
    if short and not views:
        raise UserError(short[0])
    return views, without


def _rates(ratio: float) -> str:
    """Ends the sentence about numbers of frames that do not match."""
    for times, words in ((2, "twice"), (3, "three times"), (4, "four times"), (5, "five times")):
        for value, which in ((ratio, "2D"), (1 / ratio, "3D")):
            if abs(value / times - 1) < 0.05:
                return (
                    f", a ratio of {ratio:.2f}: the {which} seems to have {words} the other's "
                    "frames per second; bring both to one rate"
                )
    return (
        f", a ratio of {ratio:.2f}, which is more than the few frames that videos run longer: give "
        "the files of one release"
    )


def pair_of(view: View, table: list[Camera]) -> fitting.Pair:
    """Makes what `fitting` checks."""
    some = view.pose_world[fitting.sample(view.frames)]
    others = {}
    for index, camera in enumerate(table):
        if index != view.index:
            others["camera", f"the projection of camera {index}"] = _project(some, camera)[0]
    for words, camera in cameras.other_readings(view.camera).items():
        others["reading", f"another reading of the table: {words}"] = _project(some, camera)[0]
    pixels, local = _project(view.pose_world, view.camera)
    size = (view.camera.width, view.camera.height)
    clipped = cameras.clips(local)
    return fitting.Pair(
        view.subject,
        view.take,
        view.index,
        view.keypoints_2d,
        pixels,
        local[..., 2],
        clipped,
        others,
        size,
        True,
    )


def _project(pose_world: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Projects world coordinates to pixels `[F, J, 2]` and camera axes `[F, J, 3]`, float64."""
    pose = cameras.world_to_camera(
        pose_world.astype(np.float64), camera.orientation, camera.translation
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return cameras.project_to_2d(pose, camera.intrinsic), pose


def natural(name: str) -> list[tuple[int, str]]:
    """Makes a sort key by which S5 comes before S11."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
