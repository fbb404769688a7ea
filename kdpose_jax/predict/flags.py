"""The flags of `--mode predict`, and of poses in `--mode export`."""

import itertools
import re
from collections.abc import Sequence

from absl import flags

from kdpose_jax import files, presets
from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import gaps, sizes
from kdpose_jax.poses import axes, trajectory
from kdpose_jax.poses.writers.table import FORMATS, WritingOptions
from kdpose_jax.predict.detecting import DETECTORS
from kdpose_jax.predict.request import LiftingOptions, Request

KEYPOINTS = flags.DEFINE_string(
    "keypoints", "", "2D keypoints of a detector: a file, a folder, or a pattern such as 'a/*.json'"
)
VIDEO = flags.DEFINE_string(
    "video", "", "A video, a folder of videos or a pattern; --detector finds their keypoints"
)
PICTURES = flags.DEFINE_string("pictures", "", "A picture, a folder of pictures or a pattern")
BOXES = flags.DEFINE_string(
    "boxes", "", "For --pictures: COCO's annotations or detections; without it a picture is a crop"
)
DETECTOR = flags.DEFINE_enum(
    "detector", "mediapipe", list(DETECTORS), "For --video: the program that finds keypoints"
)
DETECTOR_PYTHON = flags.DEFINE_string(
    "detector_python", "", "For --video: the interpreter of the environment with the detector"
)
TO = flags.DEFINE_string(
    "to", "", f"Formats to write, with commas: html, {', '.join(FORMATS)} (default: npz,html)"
)
SIZE = flags.DEFINE_string("size", "", "Width and height of the video, such as 1920x1080")
FPS = flags.DEFINE_float("fps", None, "Frames per second of the video")
RATE = flags.DEFINE_float(
    "rate", None, "Frames per second that the network was trained at (default: of its records)"
)
JOINTS = flags.DEFINE_string("joints", None, "The layout of the file's keypoints, such as coco_17")
MAP = flags.DEFINE_string("map", None, 'A JSON file of names: {"the file\'s name": "our name"}')
CLIP = flags.DEFINE_string("clip", None, "The video, in a file that holds several")
PERSON = flags.DEFINE_string("person", None, "The person to predict (default: all)")
GAP = flags.DEFINE_float("gap", gaps.GAP, "The longest gap that is interpolated, seconds")
SCORE = flags.DEFINE_float("score", 0.0, "Keypoints with a lower score count as missing")
FLIP = flags.DEFINE_bool("flip", False, "Average with the mirrored prediction, in twice the time")
OVERLAP = flags.DEFINE_bool(
    "overlap",
    True,
    "Average windows that overlap by half, in twice the time; --nooverlap lays them end to end as "
    "in evaluation, and poses jump where they meet",
)
HEIGHT = flags.DEFINE_float("height", None, "The person's height in metres, to which poses scale")
ROOT = flags.DEFINE_enum(
    "root", "given", list(trajectory.ROOTS), "Where the root is: as given, by floor or by camera"
)
FOCAL = flags.DEFINE_float("focal", None, "For --root camera: the focal length, pixels")
FRAMES = flags.DEFINE_string("frames", "", "The frames to write, such as 0:100")
POSES = flags.DEFINE_string(
    "poses", "", "For --mode export: an npz file of poses, to be written as --format"
)
AXES = flags.DEFINE_string(
    "axes", None, f"For --poses: the axes of a file that does not say them, {', '.join(axes.AXES)}"
)

_GIVEN = {"keypoints": KEYPOINTS, "video": VIDEO, "pictures": PICTURES}
_KINDS = tuple(_GIVEN)
_MOTION = ("keypoints", "video")
# Flags, and what must be given for them.
_GOES_WITH = (
    ((*_GIVEN.values(), TO, FLIP), _KINDS),
    ((JOINTS, MAP, CLIP, SIZE), ("keypoints",)),
    ((FPS, RATE, PERSON, GAP, SCORE, OVERLAP), _MOTION),
    ((HEIGHT, ROOT, FOCAL, FRAMES), _MOTION),
    ((DETECTOR, DETECTOR_PYTHON), ("video",)),
    ((BOXES,), ("pictures",)),
)
_OF_POSES = (FPS, JOINTS, HEIGHT, ROOT, FOCAL, FRAMES)  # of `--mode export --poses` too


def check(mode: str) -> None:
    """Checks that the flags fit the mode and one another.

    Raises:
      UserError: one is missing, or goes with another mode.
    """
    of_poses = [flag.name for flag in _OF_POSES] if mode == "export" and POSES.value else []
    for flag in itertools.chain.from_iterable(related for related, _ in _GOES_WITH):
        fits = mode == "predict" or flag.name in of_poses
        if flag.present and not fits:
            raise UserError(f"--{flag.name} goes with --mode predict: leave it out.")
    if AXES.present and not (mode == "export" and POSES.value):
        raise UserError("--axes goes with --poses of --mode export: leave it out.")
    if POSES.present and mode != "export":
        raise UserError("--poses goes with --mode export: give keypoints with --keypoints.")
    if mode != "predict":
        return
    given = [name for name, flag in _GIVEN.items() if flag.value]
    if len(given) != 1:
        raise UserError(
            f"--mode predict was given {_flags(given) or 'nothing'}: give one of --keypoints, "
            "--video and --pictures."
        )
    for related, kinds in _GOES_WITH:
        for flag in related:
            if flag.present and given[0] not in kinds:
                raise UserError(f"--{flag.name} goes with {_flags(kinds)}: leave it out.")


def _flags(kinds: Sequence[str]) -> str:
    return " and ".join(f"--{kind}" for kind in kinds)


def request(checkpoint: str, out: str, source_format: str) -> Request:
    """Makes the request that the flags of `--mode predict` or of `--poses` describe.

    Args:
      checkpoint: the value of `--checkpoint`.
      out: the value of `--out`.
      source_format: the value of `--format`: the format of the keypoints, "" to recognise it.

    Raises:
      UserError: a value cannot be read.
    """
    kind = next((name for name, flag in _GIVEN.items() if flag.value), "keypoints")
    if source_format and kind != "keypoints":
        raise UserError("--format goes with --keypoints: leave it out.")
    return Request(
        checkpoint=checkpoint,
        given=presets.sample(files.home_filled_in(_GIVEN[kind].value)),
        kind=kind,
        out=out,
        formats=tuple(name.strip() for name in TO.value.split(",") if name.strip()),
        reading={
            "format_name": source_format or None,
            "joints": JOINTS.value,
            "map_file": files.home_filled_in(MAP.value) if MAP.value else None,
            "size": sizes.parse_size(SIZE.value) if SIZE.value else None,
            "fps": FPS.value,
            "clip": CLIP.value,
        },
        lifting=LiftingOptions(
            PERSON.value, GAP.value, SCORE.value, RATE.value, FLIP.value, OVERLAP.value
        ),
        writing=WritingOptions(HEIGHT.value, ROOT.value, FOCAL.value, _frames(FRAMES.value)),
        detector=DETECTOR.value,
        python=files.home_filled_in(DETECTOR_PYTHON.value),
        boxes=files.home_filled_in(BOXES.value),
        axes=AXES.value,
    )


def _frames(text: str) -> tuple[int, int] | None:
    """Reads the value of `--frames`."""
    if not text:
        return None
    found = re.fullmatch(r"\s*(\d{1,12})\s*:\s*(\d{1,12})\s*", text)
    if not found:
        raise UserError(
            f"--frames is '{text[:60]}': give the first frame, counted from 0, and the frame "
            "behind the last one, such as 0:100."
        )
    return int(found[1]), int(found[2])
