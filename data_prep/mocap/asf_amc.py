"""Reads Acclaim's ASF (skeleton) and AMC (motion) files.

A bone has a length and a direction, and angles turn it about its own axes.
"""

import dataclasses
import math
import re

import numpy as np

from data_prep.mocap import clip
from data_prep.mocap.clip import Clip, fault, numbers

INCH = 0.0254
ROOT = "root"
TURNS = ("rx", "ry", "rz")
SHIFTS = ("tx", "ty", "tz")
RATE = ":samples-per-second"
FRAME_NUMBER = re.compile(r"[+-]?\d{1,15}", re.ASCII)
BREAKS = (
    "places where the frame numbers leave some out, repeat one or go back, and where the motion is "
    "cut in two"
)


@dataclasses.dataclass
class Bone:
    """Describes a bone that starts at its parent's end, with `length` along `direction`.

    `angles` about the axes `order` turn the file's axes into its own.
    """

    name: str
    line: int
    direction: np.ndarray | None = None
    length: float | None = None
    angles: np.ndarray | None = None
    order: str = "xyz"
    channels: tuple[str, ...] = ()
    parent: str = ""


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Holds an ASF file's content.

    Attributes:
      path: the file.
      bones: the root and every bone below it, parents first.
      metres: length of the file's unit; None if the file does not say.
      degrees: factor that turns the file's angles into degrees.
    """

    path: str
    bones: tuple[Bone, ...]
    metres: float | None
    degrees: float


def read_skeleton(path: str) -> Skeleton:
    """Reads an ASF file.

    Its unit of length is 1 / `length` inches (CMU and HDM05: 1 / 0.45).

    Raises:
      UserError: a line is not ASF; the message names it.
    """
    lines = clip.read_lines(path)
    metres, degrees, section = None, 1.0, ""
    bones = {ROOT: Bone(ROOT, -1, np.zeros(3), 0.0, np.zeros(3))}
    parents: dict[str, tuple[str, int]] = {}
    bone = None
    for index, line in enumerate(lines):
        words = line.split("#")[0].split()
        key = words[0].lower() if words else ""
        if key.startswith(":"):
            section, bone = key, bones[ROOT] if key == ":root" else None
            if bone is not None:
                bone.line = index
        elif section == ":units" and key == "length":
            units = numbers(path, index, words[1:], 1, "length")[0]
            if units <= 0:
                raise fault(path, index, f"the unit of length is 1/{units:g} of an inch")
            metres = INCH / units
        elif section == ":units" and key == "angle":
            degrees = _degrees(path, index, words[-1])
        elif section == ":bonedata" and key == "begin":
            bone = Bone("", index)
        elif section == ":bonedata" and key == "end" and bone is not None:
            _check_bone(path, bone, bones)
            bones[bone.name] = bone
            bone = None
        elif section in (":root", ":bonedata") and words and bone is not None:
            _read_bone_line(path, index, words, bone)
        elif section == ":hierarchy" and key not in ("", "begin", "end"):
            for child in words[1:]:
                if child in parents or child == ROOT:
                    raise fault(path, index, f"bone '{child}' has a parent already")
                parents[child] = (words[0], index)
    if bones[ROOT].line < 0 or not parents:
        missing = ":root" if bones[ROOT].line < 0 else ":hierarchy"
        raise fault(
            path, len(lines) - 1, f"the file ends without a {missing}, so this is not an ASF file"
        )
    return Skeleton(path, _in_order(path, bones, parents), metres, degrees)


def _degrees(path: str, line: int, word: str) -> float:
    """Returns the factor that turns angles into degrees."""
    known = {"deg": 1.0, "degrees": 1.0, "rad": 180 / math.pi, "radians": 180 / math.pi}
    if word.lower() not in known:
        raise fault(path, line, f"the unit of angles is '{word[:20]}' where deg or rad must be")
    return known[word.lower()]


def _read_bone_line(path: str, line: int, words: list[str], bone: Bone) -> None:
    """Reads one line about :root or a bone; limits, masses and the like are skipped."""
    key, values = words[0].lower(), words[1:]
    name = f"{key} of bone '{bone.name}'"
    if key == "name" and bone.name != ROOT:
        bone.name = " ".join(values)
    elif key == "direction":
        bone.direction = numbers(path, line, values, 3, name)
    elif key == "length":
        bone.length = numbers(path, line, values, 1, name)[0]
    elif key == "orientation" and bone.name == ROOT:
        bone.angles = numbers(path, line, values, 3, name)
    elif key == "axis":
        if not values or sorted(values[-1].lower()) != ["x", "y", "z"]:
            raise fault(
                path,
                line,
                f"{name} is '{' '.join(values)[:40]}' where an order such as XYZ must be",
            )
        bone.order = values[-1].lower()
        if bone.name != ROOT:
            bone.angles = numbers(path, line, values[:-1], 3, name)
    elif key in ("dof", "order"):
        bone.channels = tuple(value.lower() for value in values)
        allowed = SHIFTS + TURNS if bone.name == ROOT else TURNS
        wrong = [value for value in bone.channels if value not in allowed]
        if wrong:
            raise fault(
                path, line, f"'{wrong[0]}' of bone '{bone.name}' is none of {', '.join(allowed)}"
            )


def _check_bone(path: str, bone: Bone, bones: dict[str, Bone]) -> None:
    """Raises UserError unless a finished bone is complete."""
    parts = {
        "name": bone.name or None,
        "direction": bone.direction,
        "length": bone.length,
        "axis": bone.angles,
    }
    missing = [name for name, value in parts.items() if value is None]
    if missing:
        raise fault(path, bone.line, f"bone '{bone.name}' has no {missing[0]}")
    if bone.name in bones:
        raise fault(path, bone.line, f"a second bone '{bone.name}'")


def _in_order(
    path: str, bones: dict[str, Bone], parents: dict[str, tuple[str, int]]
) -> tuple[Bone, ...]:
    """Sorts the bones below the root, parents first."""
    children: dict[str, list[str]] = {}
    for child, (parent, line) in parents.items():
        unknown = [name for name in (parent, child) if name not in bones]
        if unknown:
            raise fault(path, line, f"bone '{unknown[0]}' is not in :bonedata")
        bones[child].parent = parent
        children.setdefault(parent, []).append(child)
    order = [ROOT]
    for name in order:  # grows during the loop
        order += children[name] if name in children else []
    return tuple(bones[name] for name in order)


def read(path: str, skeleton: Skeleton) -> Clip:
    """Reads an AMC file and poses its skeleton.

    Args:
      path: the AMC file.
      skeleton: the skeleton from its ASF file.

    Returns:
      The clip, with "root" and each bone's end under the bone's name. Hardly any file states its
      rate.

    Raises:
      UserError: a line is not AMC or does not fit the skeleton; the message names it.
    """
    lines = clip.read_lines(path)
    degrees, fps, blocks = skeleton.degrees, None, []
    for index, line in enumerate(lines):
        if line.lower().startswith(RATE):
            fps = float(numbers(path, index, line.split()[1:], 1, RATE)[0])
        elif line.startswith(":"):
            degrees = (
                _degrees(path, index, line[1:])
                if line[1:].lower() in ("degrees", "radians")
                else degrees
            )
        elif FRAME_NUMBER.fullmatch(line):
            blocks.append(index)
        elif line and not line.startswith("#") and not blocks:
            raise fault(path, index, f"'{line[:40]}' where the number of the first frame must be")
    if not blocks:
        raise fault(path, len(lines) - 1, "the file ends without a frame")
    clip.require_size(path, len(blocks), len(skeleton.bones))
    moving = {bone.name: len(bone.channels) for bone in skeleton.bones if bone.channels}
    notes: dict[str, int] = {}
    ends = [*blocks[1:], len(lines)]
    if len(blocks) > 1 and _is_cut(lines[blocks[-1] + 1 :], moving):
        clip.add_note(notes, clip.CUT, 1)
        blocks, ends = blocks[:-1], ends[:-1]
    rows = [
        _read_frame(path, lines, start, end, moving, skeleton.path)
        for start, end in zip(blocks, ends, strict=True)
    ]
    step, breaks = _continuity(path, lines, blocks)
    clip.add_note(notes, BREAKS, len(breaks))
    posed = _pose(skeleton, np.asarray(rows, np.float64), degrees)
    return dataclasses.replace(posed, fps=fps, step=step, breaks=breaks, notes=notes)


def _continuity(path: str, lines: list[str], blocks: list[int]) -> tuple[int, tuple[int, ...]]:
    """Returns the usual step between frame numbers, and the frames where another step ends.

    If most steps do not agree, the usual step is 1.

    Raises:
      UserError: frame numbers do not grow.
    """
    steps = np.diff([int(lines[index]) for index in blocks])
    if not len(steps):
        return 1, ()
    sizes, counts = np.unique(steps[steps > 0], return_counts=True)
    if not len(sizes):
        raise fault(
            path,
            blocks[1],
            f"frame {lines[blocks[1]]} follows frame {lines[blocks[0]]}, and no number grows",
        )
    step = int(sizes[counts.argmax()]) if 2 * counts.max() > len(steps) else 1
    return step, tuple(int(frame) for frame in np.flatnonzero(steps != step) + 1)


def _words(line: str) -> list[str]:
    """Splits a line into words, without its remark.

    A remark is a word of its own, because -1.#IND is a number.
    """
    words = line.split()
    return words[: next((index for index, word in enumerate(words) if word.startswith("#")), None)]


def _is_cut(lines: list[str], moving: dict[str, int]) -> bool:
    """Tells whether the last frame's lines end too early, as in a file that was cut off."""
    rows = [words for words in map(_words, lines) if words]
    if len(rows) != len(moving):
        return len(rows) < len(moving)
    name, values = rows[-1][0], rows[-1][1:]
    if name not in moving:
        return any(one.startswith(name) for one in moving) and not values
    if len(values) < moving[name]:
        return True
    try:
        clip.number(values[-1])
    except ValueError:
        return not clip.comma_hint(values[-1])
    return False


def _read_frame(
    path: str, lines: list[str], start: int, end: int, moving: dict[str, int], skeleton: str
) -> list[float]:
    """Reads the values of the frame whose number stands in line `start`.

    They are in the order of `moving` (bone -> number of channels).
    """
    found: dict[str, list[float]] = {}
    for index in range(start + 1, end):
        words = _words(lines[index])
        if not words:
            continue
        name, values = words[0], words[1:]
        if name not in moving:
            raise fault(path, index, f"bone '{name[:40]}' does not move by '{skeleton}'")
        if len(values) != moving[name]:
            raise fault(
                path,
                index,
                f"bone '{name}' has {len(values)} values where '{skeleton}' has {moving[name]} "
                f"degrees of freedom",
            )
        if name in found:
            raise fault(path, index, f"bone '{name}' stands twice in frame {lines[start]}")
        try:
            found[name] = [clip.number(value) for value in values]
        except ValueError:
            text = " ".join(values)
            raise fault(
                path,
                index,
                f"bone '{name}' has '{text[:60]}' where numbers must be{clip.comma_hint(text)}",
            ) from None
    if len(found) < len(moving):
        missing = next(name for name in moving if name not in found)
        raise fault(path, start, f"frame {lines[start]} has no values for bone '{missing}'")
    return [value for name in moving for value in found[name]]


def _pose(skeleton: Skeleton, values: np.ndarray, degrees: float) -> Clip:
    """Computes forward kinematics.

    A bone's angles M are about its own axes C, so its turn is parent * C * M * C^-1.
    """
    whole = np.isfinite(values).all(axis=1)
    values = np.where(whole[:, None], values, 0.0)
    names = {bone.name: index for index, bone in enumerate(skeleton.bones)}
    positions, rotations, column = np.zeros((len(values), len(names), 3)), [], 0
    for index, bone in enumerate(skeleton.bones):
        own = dict(
            zip(bone.channels, values[:, column : column + len(bone.channels)].T, strict=True)
        )
        column += len(bone.channels)
        axes = clip.turn(bone.order, bone.angles[None] * skeleton.degrees)
        turns = [name for name in bone.channels if name in TURNS]
        angles = (
            np.stack([own[name] for name in turns], axis=1) * degrees
            if turns
            else np.zeros((len(values), 0))
        )
        turned = axes * clip.turn("".join(name[1] for name in turns), angles) * axes.inv()
        if bone.name == ROOT:
            start = np.stack(
                [own[name] if name in own else np.zeros(len(values)) for name in SHIFTS], axis=1
            )
        else:
            start, turned = positions[:, names[bone.parent]], rotations[names[bone.parent]] * turned
        positions[:, index] = start + turned.apply(bone.direction * bone.length)
        rotations.append(turned)
    positions[~whole] = np.nan
    return Clip(names, positions, rotations, None, skeleton.metres)
