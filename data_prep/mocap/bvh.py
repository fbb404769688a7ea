"""Reads BVH files: a tree of joints with offsets, then channel values for each frame."""

import dataclasses
import re
from collections.abc import Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from data_prep.mocap import clip
from data_prep.mocap.clip import Clip, fault, numbers
from kdpose_jax.untrusted import bounds

CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in "XYZ")
END = "_End"  # follows a joint's name to name its End Site
HEADER = {
    "Frames:": re.compile(r"frames\s*:?(.*)", re.IGNORECASE),
    "Frame Time:": re.compile(r"frame\s*time\s*:?(.*)", re.IGNORECASE),
}
REMARKS = ("#", "//")
FEWER = (
    "frames that 'Frames:' announces and the file does not hold (it was cut off, or the number is "
    "wrong)"
)
MORE = "frames beyond those that 'Frames:' announces, which were taken too"
RADIANS = (
    "rotations that all lie within one turn in radians (BVH has degrees: if these are radians, "
    "multiply them by 57.2958)"
)
STIR = 0.2  # by so much some rotation must change; a body at rest says nothing


@dataclasses.dataclass
class _Joint:
    """Describes a joint.

    `line` is its line in the file, and `first` the column of its first channel. `channels` is None
    until they are read.
    """

    name: str
    parent: int
    line: int
    is_end: bool
    offset: np.ndarray | None = None
    channels: tuple[str, ...] | None = None
    first: int = 0


def read(path: str) -> Clip:
    """Reads a BVH file and poses its skeleton.

    Rotations apply in the channels' order, about the joint's own axes, which turn along. Position
    channels replace the offset. Exporters that write them for every joint mean it so.

    Args:
      path: the file.

    Returns:
      The clip, with End Sites as "<joint>_End". It has no unit, and no rate if its frame time is
      not above 0.

    Raises:
      UserError: a line is not BVH; the message names it.
    """
    lines = ["" if line.startswith(REMARKS) else line for line in clip.read_lines(path)]
    joints, line = _read_hierarchy(path, lines)
    clip.require_size(path, len(lines) - line, len(joints))
    frames, frame_time, line = _read_header(path, lines, line + 1)
    rows = [(index, text) for index, text in enumerate(lines[line:], line) if text]
    if not rows:
        raise fault(path, line - 1, f"{frames:g} frames announced and no line of motion")
    notes: dict[str, int] = {}
    values = _read_rows(path, rows, sum(len(joint.channels or ()) for joint in joints), notes)
    clip.add_note(notes, FEWER, max(int(frames) - len(rows), 0))
    clip.add_note(notes, MORE, max(len(rows) - int(frames), 0))
    clip.add_note(notes, RADIANS, int(_seem_radians(joints, values)))
    return dataclasses.replace(
        _pose(joints, values, 1 / frame_time if frame_time > 0 else None), notes=notes
    )


def _read_hierarchy(path: str, lines: list[str]) -> tuple[list[_Joint], int]:
    """Returns the joints, parents first, and the line with MOTION."""
    start = next((index for index, line in enumerate(lines) if line), 0)
    if not lines or lines[start].upper().split()[:1] != ["HIERARCHY"]:
        raise fault(path, start, "no HIERARCHY, so this is not a BVH file")
    joints: list[_Joint] = []
    names: set[str] = set()
    stack: list[int] = []
    opened = True  # a name must be followed by its brace
    for index, text in _pieces(lines, start + 1):
        entry = text.split()
        kind = entry[0].upper()
        if not opened and kind != "{":
            raise fault(
                path, index, f"'{text[:60]}' where the brace of '{joints[-1].name}' must be"
            )
        if kind in ("ROOT", "JOINT", "END"):
            joint = _new_joint(path, index, entry, joints, stack)
            if joint.name in names:
                raise fault(path, index, f"a second joint '{joint.name}'")
            names.add(joint.name)
            joints.append(joint)
            opened = False
        elif kind == "{" and not opened:
            stack.append(len(joints) - 1)
            opened = True
        elif kind == "OFFSET" and stack:
            joints[stack[-1]].offset = numbers(
                path, index, entry[1:], 3, f"OFFSET of '{joints[stack[-1]].name}'"
            )
        elif kind == "CHANNELS" and stack:
            _read_channels(path, index, entry, joints[stack[-1]])
        elif kind == "}" and stack:
            _require_complete(path, joints[stack.pop()])
        elif kind == "MOTION" and joints and not stack:
            column = 0
            for joint in joints:
                joint.first = column
                column += len(joint.channels or ())
            return joints, index
        else:
            raise fault(
                path,
                index,
                f"'{text[:60]}' where {'the ROOT' if not joints else 'a part of the skeleton'} "
                f"must be",
            )
    raise fault(
        path,
        len(lines) - 1,
        "the file ends before its MOTION" if joints else "the file has no ROOT",
    )


def _new_joint(
    path: str, line: int, entry: list[str], joints: list[_Joint], stack: list[int]
) -> _Joint:
    """Returns the joint that a line such as JOINT Head begins, below the last one of `stack`."""
    kind = entry[0].upper()
    if (kind == "ROOT") != (not joints):
        raise fault(path, line, "a second ROOT" if joints else f"{entry[0]} where the ROOT must be")
    if kind != "ROOT" and not stack:
        raise fault(path, line, f"{entry[0]} outside the braces of the ROOT")
    if kind != "ROOT" and joints[stack[-1]].is_end:
        raise fault(path, line, f"{entry[0]} below an End Site")
    if len(entry) < 2:
        raise fault(path, line, f"{entry[0]} without a name")
    parent = stack[-1] if stack else -1
    name = " ".join(entry[1:])
    is_end = kind == "END"
    if is_end:
        ends = sum(joint.is_end and joint.parent == parent for joint in joints)
        name = joints[parent].name + END + (str(ends + 1) if ends else "")
    return _Joint(name, parent, line, is_end, channels=() if is_end else None)


def _require_complete(path: str, joint: _Joint) -> None:
    """Raises UserError unless the joint has its OFFSET and its CHANNELS."""
    missing = "OFFSET" if joint.offset is None else "CHANNELS" if joint.channels is None else ""
    if missing:
        raise fault(path, joint.line, f"joint '{joint.name}' has no {missing}")


def _pieces(lines: list[str], start: int) -> Iterator[tuple[int, str]]:
    """Yields the pieces in the lines, with their line numbers.

    A brace is a piece of its own, on whatever line it stands.
    """
    for index in range(start, len(lines)):
        yield from (
            (index, piece.strip()) for piece in re.split("([{}])", lines[index]) if piece.strip()
        )


def _read_channels(path: str, line: int, words: list[str], joint: _Joint) -> None:
    """Reads a line such as CHANNELS 3 Zrotation Xrotation Yrotation."""
    known = {name.lower(): name for name in CHANNELS}
    channels = tuple(known[word.lower()] if word.lower() in known else word for word in words[2:])
    wrong = [word for word in channels if word not in CHANNELS]
    if wrong:
        raise fault(
            path,
            line,
            f"'{wrong[0]}' of joint '{joint.name}' is not a channel ({', '.join(CHANNELS)})",
        )
    if len(words) < 2 or words[1] != str(len(channels)) or joint.is_end:
        raise fault(
            path,
            line,
            f"joint '{joint.name}' announces {' '.join(words[1:2]) or 'no'} channels and names "
            f"{len(channels)}",
        )
    joint.channels = channels


def _read_header(path: str, lines: list[str], line: int) -> tuple[float, float, int]:
    """Returns the number of frames, the seconds per frame, and the line behind them.

    The file may have the two in either order.
    """
    found: dict[str, float] = {}
    while len(found) < len(HEADER):
        while line < len(lines) and not lines[line]:
            line += 1
        text = " ".join(lines[line].split()) if line < len(lines) else "the end of the file"
        matches = {
            label: pattern.fullmatch(text)
            for label, pattern in HEADER.items()
            if label not in found
        }
        label = next((label for label, match in matches.items() if match), None)
        if label is None:
            raise fault(
                path,
                min(line, len(lines) - 1),
                f"{text[:60]} where '{next(iter(matches))}' must be",
            )
        found[label] = float(numbers(path, line, matches[label][1].split(), 1, label)[0])
        line += 1
    frames, frame_time = (found[label] for label in HEADER)
    if abs(frames) > bounds.PLACES:
        raise fault(path, line - 1, f"{frames:g} frames are announced")
    return frames, frame_time, line


def _read_rows(
    path: str, rows: list[tuple[int, str]], channels: int, notes: dict[str, int]
) -> np.ndarray:
    """Reads the channel values, `[F, channels]`, which may be NaN.

    If the last line ends too early, the file was cut off, and its other frames are kept.
    """
    try:
        values = np.loadtxt([text for _, text in rows], np.float64, comments=None, ndmin=2)
    except ValueError:
        values = np.zeros((0, 0))
    if values.shape == (len(rows), channels):
        return values
    # The slow way finds the faulty line, or NaN in another spelling.
    if len(rows) > 1 and _is_cut(rows[-1][1].split(), channels):
        clip.add_note(notes, clip.CUT, 1)
        rows = rows[:-1]
    return np.asarray([_read_row(path, index, text.split(), channels) for index, text in rows])


def _is_cut(words: list[str], channels: int) -> bool:
    """Tells whether a line of motion ends too early, between two values or within one."""
    if len(words) != channels:
        return len(words) < channels
    try:
        clip.number(words[-1])
    except ValueError:
        return not clip.comma_hint(words[-1])
    return False


def _read_row(path: str, line: int, words: list[str], channels: int) -> list[float]:
    """Reads one line of motion."""
    if len(words) != channels:
        raise fault(path, line, f"{len(words)} values where the skeleton has {channels} channels")
    values = []
    for word in words:
        try:
            values.append(clip.number(word))
        except ValueError:
            raise fault(
                path, line, f"'{word[:60]}' is not a number{clip.comma_hint(word)}"
            ) from None
    return values


def _seem_radians(joints: list[_Joint], values: np.ndarray) -> bool:
    """Tells whether no rotation in `values` `[F, channels]` needs more than 2 pi.

    Whoever moves turns some joint by more than that many degrees.
    """
    channels = [channel for joint in joints for channel in joint.channels or ()]
    turns = values[:, [channel.endswith("rotation") for channel in channels]]
    turns = turns[np.isfinite(turns).all(axis=1)]
    if not turns.size:
        return False
    return bool(np.abs(turns).max() <= 2 * np.pi and np.ptp(turns, axis=0).max() > STIR)


def _pose(joints: list[_Joint], values: np.ndarray, fps: float | None) -> Clip:
    """Computes forward kinematics."""
    whole = np.isfinite(values).all(axis=1)
    values = np.where(whole[:, None], values, 0.0)
    positions, rotations = np.zeros((len(values), len(joints), 3)), []
    for index, joint in enumerate(joints):
        own = values[:, joint.first : joint.first + len(joint.channels)]
        moved = np.tile(joint.offset, (len(values), 1))
        turned = Rotation.identity(len(values))
        for column, channel in enumerate(joint.channels):
            if channel.endswith("position"):
                moved[:, "XYZ".index(channel[0])] = own[:, column]
            else:
                turned = turned * clip.turn(channel[0].lower(), own[:, column : column + 1])
        if joint.parent >= 0:
            moved = positions[:, joint.parent] + rotations[joint.parent].apply(moved)
            turned = rotations[joint.parent] * turned
        positions[:, index] = moved
        rotations.append(turned)
    positions[~whole] = np.nan
    return Clip(
        {joint.name: index for index, joint in enumerate(joints)}, positions, rotations, fps, None
    )
