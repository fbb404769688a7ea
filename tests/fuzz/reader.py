"""What a target is.

A reader of users' files as a function of bytes, with the smallest files that it accepts.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple


class Reader(NamedTuple):
    """One reader, ready to be fed.

    Attributes:
      read: bytes of a file -> anything; may raise UserError and nothing else.
      seeds: files that it accepts.
      words: parts of such files that mutation would hardly find.
      is_json: whether mutation should go through JSON values.
    """

    read: Callable[[bytes], Any]
    seeds: list[bytes]
    words: tuple[bytes, ...] = ()
    is_json: bool = False


def on_file(path: pathlib.Path, read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A reader of a path as a reader of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def on_bytes(content: bytes) -> Any:
        path.write_bytes(content)
        return read(str(path))

    return on_bytes


def as_json(values: list[Any]) -> list[bytes]:
    """Documents as files."""
    return [json.dumps(value).encode() for value in values]
