"""Looks at the beginning of a file or folder of keypoints, by which its format is recognised."""

import itertools
import os
import zipfile
from typing import Any, NamedTuple

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints.formats import tables
from kdpose_jax.untrusted import bounds, npz, streams
from kdpose_jax.untrusted.documents import parse_json
from kdpose_jax.untrusted.streams import Piece

_PIECES = 24  # parts of a JSON document that are looked at
_FRAME_BYTES = 16 * 2**20  # of a file with the keypoints of one frame
_ENDINGS = (".json", ".txt")  # files with the keypoints of one frame each


class Probe(NamedTuple):
    """What a path holds.

    Attributes:
      path: the file or folder.
      kind: "json", "text", "npz", "npy", or "" for anything else. For a folder, the kind of the
        files in it.
      is_folder: whether it is a folder with a file for each frame.
      pieces: the first parts of the JSON document, of the first file in a folder that has any.
      rows: the first lines of a text, split into cells; as `pieces` for a folder.
      keys: the names of the arrays in an npz file.
    """

    path: str
    kind: str
    is_folder: bool
    pieces: tuple[Piece, ...] = ()
    rows: tuple[list[str], ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def values(self) -> list[Any]:
        """The items of an outermost list."""
        return [piece.value for piece in self.pieces if piece.key is None and piece.in_list]

    @property
    def members(self) -> dict[str, Any]:
        """The members of an outermost object, with the first item of those that are lists."""
        found: dict[str, Any] = {}
        for piece in self.pieces:
            if piece.key is not None:
                found.setdefault(piece.key, piece.value)
        return found


def probe(path: str) -> Probe:
    """Looks at a path.

    Raises:
      UserError: there is nothing, or it cannot be read.
    """
    if os.path.isdir(path):
        return _probe_folder(path)
    if "://" in path:
        raise UserError(f"--keypoints '{path}' is not on a disk: copy it to a folder first.")
    if not os.path.isfile(path):
        raise UserError(f"--keypoints '{path}' does not exist: give the detector's file or folder.")
    if not os.path.getsize(path):
        raise UserError(f"--keypoints '{path}' is empty: give the detector's file or folder.")
    if streams.starts_like_json(path):
        return Probe(path, "json", False, pieces=_pieces(path))
    with open(path, "rb") as file:
        head = file.read(8)
    if head.startswith(b"\x93NUMPY"):
        return Probe(path, "npy", False)
    if zipfile.is_zipfile(path):
        return Probe(path, "npz", False, keys=npz.names_in(path))
    if b"\0" in head and not tables.is_utf16(head):
        return Probe(path, "", False)
    return Probe(path, "text", False, rows=tuple(itertools.islice(tables.rows_of(path), 6)))


def _probe_folder(path: str) -> Probe:
    for ending in _ENDINGS:
        files = files_in(path, ending)
        if len(files) == 1:
            return probe(os.path.join(path, files[0]))
        for name in files:
            file = os.path.join(path, name)
            if ending == ".json" and (pieces := _pieces(file)):
                # An empty list says nothing about the format.
                if pieces[0].value != [] or pieces[0].key is not None:
                    return Probe(path, "json", True, pieces=pieces)
            if ending == ".txt" and os.path.getsize(file):
                rows = tuple(itertools.islice(tables.rows_of(file), 6))
                return Probe(path, "text", True, rows=rows)
        if files:
            raise UserError(
                f"--keypoints '{path}' has no person in any of its {len(files):,} files: look "
                f"whether the detector found anybody, or give another folder."
            )
    raise UserError(
        f"--keypoints '{path}' is a folder without .json and .txt files of frames: give the "
        f"detector's file, or the folder that it wrote."
    )


def files_in(folder: str, ending: str) -> list[str]:
    """Returns the names of the files in a folder with an ending, in the order of their names."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(ending) and not entry.name.startswith(".")
        )


def frame_files(path: str, ending: str) -> list[str]:
    """Returns the paths of the files with one frame each: those of a folder, or the file itself."""
    if os.path.isdir(path):
        return [os.path.join(path, name) for name in files_in(path, ending)]
    return [path]


def load_frame(path: str) -> Any:
    """Reads the JSON file of one frame.

    Raises:
      UserError: it is not JSON, or is larger than a frame can be.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_FRAME_BYTES + 1)
        if len(content) > _FRAME_BYTES:
            raise ValueError(f"more than {_FRAME_BYTES:,} bytes for one frame")
        return parse_json(content)
    except (ValueError, OSError) as error:
        raise UserError(
            f"'{path}' cannot be read as JSON ({type(error).__name__}: {error}): remove it, or let "
            f"the detector write it again."
        ) from error


def pieces_of(path: str) -> Any:
    """Yields the parts of a JSON file as `streams.pieces`; what is wrong becomes one sentence.

    Raises:
      UserError: the file is not JSON, or a part of it is too large.
    """
    try:
        yield from streams.pieces(path)
    except (ValueError, OSError) as error:
        raise UserError(
            f"'{path}' cannot be read as JSON ({type(error).__name__}: {error}): let the detector "
            f"write it again (a part of a file has at most {bounds.JSON_PART:,} characters)."
        ) from error


def _pieces(path: str) -> tuple[Piece, ...]:
    return tuple(itertools.islice(pieces_of(path), _PIECES))
