"""Writes one person as a C3D file: millimetres, z up, one float block.

The layout is the one of "The C3D File Format User Guide" (c3d.org): a header of 512 bytes, the
parameters, then four floats for every point of every frame. The fourth float is 0 for a point that
was computed and not measured, and -1 for a missing point. POINT:UNITS, POINT:X_SCREEN and
POINT:Y_SCREEN say the unit and which axes a screen shows to the right and up.
"""

import struct
import textwrap
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from kdpose_jax.poses import axes
from kdpose_jax.poses.writers.spool import Person, Recording

NOTE = "C3D is in millimetres, with z up and x towards the camera, which is taken as level."
SECTOR = 512
_WORD = 65535  # the largest count that the header and POINT:FRAMES hold
_INTEL = 84
_LINE = 120  # letters of one line of notes; a parameter's dimension is at most 255
_LINES = 200


def write(file: BinaryIO, recording: Recording) -> tuple[str, ...]:
    """Writes the file of the recording's only person.

    Returns:
      What the user should know about the file.
    """
    (person,), about = recording.persons, recording.about
    # Where the data start is one of the parameters, whose length does not depend on its value.
    sectors = len(_parameters(recording, person, 0)) // SECTOR
    start = 2 + sectors
    first, last = _frame_words(person)
    head = struct.pack("<BBHHHHHf", 2, 0x50, len(about.joints), 0, first, last, 0, -1.0)
    head += struct.pack("<HHf", start, 0, about.fps)
    file.write(head.ljust(SECTOR, b"\0"))
    file.write(_parameters(recording, person, start))
    written = 0
    for block in person.blocks():
        assert block.pose_3d is not None
        points = axes.to_z_up(block.pose_3d) * np.float32(1000)
        known = np.isfinite(points).all(axis=-1, keepdims=True)
        records = np.concatenate([np.where(known, points, 0), np.where(known, 0, -1)], axis=-1)
        written += file.write(records.astype("<f4").tobytes())
    file.write(bytes(-written % SECTOR))
    return (NOTE,)


def _frame_words(person: Person) -> tuple[int, int]:
    """Returns the numbers of the first and last frame, which count from 1, for the header."""
    first, last = person.first_frame + 1, person.first_frame + person.length
    return (first, last) if last <= _WORD else (1, min(person.length, _WORD))


def _parameters(recording: Recording, person: Person, start: int) -> bytes:
    """Makes the section of parameters; the data start at sector `start`, counted from 1."""
    about = recording.about
    first, last = person.first_frame + 1, person.first_frame + person.length
    notes = [line for note in about.notes for line in textwrap.wrap(note, _LINE)][:_LINES]
    content = b"".join(
        [
            _group(1, "POINT"),
            _words(1, "USED", [len(about.joints)]),
            _words(1, "FRAMES", [min(person.length, _WORD)]),
            _floats(1, "LONG_FRAMES", [person.length]),
            _words(1, "DATA_START", [start]),
            _floats(1, "SCALE", [-1.0]),
            _floats(1, "RATE", [about.fps]),
            _texts(1, "LABELS", about.joints),
            _texts(1, "DESCRIPTIONS", [""] * len(about.joints)),
            _text(1, "UNITS", "mm"),
            _text(1, "X_SCREEN", "+Y"),
            _text(1, "Y_SCREEN", "+Z"),
            _group(2, "ANALOG"),
            _words(2, "USED", [0]),
            _group(3, "TRIAL"),
            _words(3, "ACTUAL_START_FIELD", _halves(first)),
            _words(3, "ACTUAL_END_FIELD", _halves(last)),
            _group(4, "SUBJECTS"),
            _words(4, "USED", [1]),
            _texts(4, "NAMES", [person.name]),
            _group(5, "KDPOSE"),
            _text(5, "NETWORK", about.network),
            _text(5, "FINGERPRINT", about.fingerprint),
            _texts(5, "NOTES", notes),
        ]
    )
    sectors = -(-(4 + len(content) + 2) // SECTOR)
    return (bytes([1, 0x50, sectors, _INTEL]) + content).ljust(sectors * SECTOR, b"\0")


def _halves(number: int) -> list[int]:
    """Splits a number into its lower and upper 16 bits."""
    return [number & _WORD, number >> 16 & _WORD]


def _group(number: int, name: str) -> bytes:
    """Makes a group, which has a negative number."""
    return _entry(-number, name, b"")


def _words(group: int, name: str, values: Sequence[int]) -> bytes:
    """Makes a parameter of 16-bit numbers without a sign."""
    data = struct.pack(f"<{len(values)}H", *values)
    return _entry(group, name, struct.pack("bB", 2, 1) + bytes([len(values)]) + data)


def _floats(group: int, name: str, values: Sequence[float]) -> bytes:
    data = struct.pack(f"<{len(values)}f", *values)
    return _entry(group, name, struct.pack("bB", 4, 1) + bytes([len(values)]) + data)


def _text(group: int, name: str, value: str) -> bytes:
    data = _ascii(value)
    return _entry(group, name, struct.pack("bB", -1, 1) + bytes([len(data)]) + data)


def _texts(group: int, name: str, values: Sequence[str]) -> bytes:
    """Makes a parameter of texts, which are all as wide as the longest."""
    lines = [_ascii(value) for value in values]
    width = max((len(line) for line in lines), default=0)
    data = b"".join(line.ljust(width) for line in lines)
    return _entry(group, name, struct.pack("bB", -1, 2) + bytes([width, len(lines)]) + data)


def _ascii(text: str) -> bytes:
    return text.encode("ascii", "replace")[:255]


def _entry(number: int, name: str, content: bytes) -> bytes:
    """Makes a group or parameter without a description.

    The distance to the next entry counts from the distance itself.
    """
    distance = struct.pack("<h", 2 + len(content) + 1)
    return struct.pack("bb", len(name), number) + name.encode() + distance + content + b"\0"
