"""Reads users' JSON files piece by piece, so that a file of any size takes little memory.

ijson is not used: it refuses NaN, which Python's `json` writes and detectors' files have.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO

from kdpose_jax.untrusted import bounds
from kdpose_jax.untrusted.documents import unique_entries

_CHUNK = 2**20  # characters that are read at once
_BLANKS = re.compile(r"[ \t\n\r]*")
# What ends a list, an object and a text. A number or a word ends where something else begins.
_CLOSING = ("]", "}", '"')
_WORD = re.compile(r"[-+.\w]*")


class Piece(NamedTuple):
    """One part of a JSON document.

    Attributes:
      key: the member of the outermost object that the part is in; None in an outermost list, and
        for a document that is neither a list nor an object.
      in_list: whether the part is one item of a list, and not a whole value.
      value: the part.
    """

    key: str | None
    in_list: bool
    value: Any


def pieces(path: str) -> Iterator[Piece]:
    """Yields the items of the outermost list, or the members of the outermost object.

    A member that is a list is yielded item by item. One part takes at most `bounds.JSON_PART`
    characters. NaN and Infinity are read, as Python's `json` writes them.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file is not JSON in UTF-8, UTF-16 or UTF-32; a part is too large or nested
        too deeply; or an object has a key twice.
    """
    with open(path, "rb") as file:
        encoding = json.detect_encoding(file.read(4))
    with open(path, encoding=encoding) as file:
        try:
            yield from _document(_Text(file))
        except RecursionError:
            raise ValueError("values nested too deeply") from None


def starts_like_json(path: str) -> bool:
    """Tells whether the first character of a file begins a JSON list or object."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        head = file.read(64)
    text = head.decode(json.detect_encoding(head[:4]), "ignore").removeprefix("\ufeff")
    return text.lstrip()[:1] in ("[", "{")


class _Text:
    """A text that is read in chunks, and the place in it."""

    def __init__(self, file: TextIO):
        self._file, self._decoder = file, json.JSONDecoder(object_pairs_hook=unique_entries)
        self._before = 0  # characters that were dropped
        self._buffer, self._place, self._ended = file.read(_CHUNK).removeprefix("\ufeff"), 0, False

    def peek(self) -> str:
        """Returns the next character that is not blank; "" at the end."""
        while True:
            blanks = _BLANKS.match(self._buffer, self._place)
            assert blanks is not None  # it also matches nothing
            self._place = blanks.end()
            if self._place < len(self._buffer) or not self._more():
                return self._buffer[self._place : self._place + 1]

    def take(self, allowed: str) -> str:
        """Returns the next character, which must be an allowed one."""
        found = self.peek()
        if not found or found not in allowed:
            shown = f"'{found}'" if found else "the end"
            raise ValueError(
                f"{shown} at character {self._before + self._place:,} where one of {allowed} must "
                f"be"
            )
        self._place += 1
        return found

    def value(self) -> Any:
        """Returns the next value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._place)
                if self._ended or self._buffer[end - 1] in _CLOSING or self._is_whole(end):
                    self._place = end
                    return value
            except json.JSONDecodeError as error:
                if self._ended:
                    raise ValueError(
                        f"{error.msg} at character {self._before + error.pos:,}"
                    ) from (error)
            if len(self._buffer) - self._place > bounds.JSON_PART:
                raise ValueError(
                    f"no value ends within {bounds.JSON_PART:,} characters from character "
                    f"{self._before + self._place:,}"
                )
            self._more()

    def _is_whole(self, end: int) -> bool:
        """Tells whether no character of a number or a word may follow in the next chunk.

        "2." and "2e" are decoded as 2, and the chunk may have cut a 2.5 or 2e5.
        """
        word = _WORD.match(self._buffer, end)
        assert word is not None  # it also matches nothing
        return word.end() < len(self._buffer)

    def _more(self) -> bool:
        """Reads as much again as is left over, so that a long value is not decoded too often."""
        left = self._buffer[self._place :]
        chunk = self._file.read(max(_CHUNK, len(left)))
        self._before += self._place
        self._buffer, self._place, self._ended = left + chunk, 0, not chunk
        return bool(chunk)


def _document(text: _Text) -> Iterator[Piece]:
    first = text.peek()
    if first == "[":
        yield from _items(text, None)
    elif first == "{":
        text.take("{")
        keys: set[str] = set()
        while text.peek() != "}":
            if keys:
                text.take(",")
            if text.peek() != '"':
                text.take('"')
            key = text.value()
            if key in keys:
                raise ValueError(f"the key {key[:60]!r} stands twice in one object")
            keys.add(key)
            text.take(":")
            if text.peek() == "[":
                yield from _items(text, key)
            else:
                yield Piece(key, False, text.value())
        text.take("}")
    else:
        yield Piece(None, False, text.value())
    if text.peek():
        raise ValueError("more than one value")


def _items(text: _Text, key: str | None) -> Iterator[Piece]:
    """Yields the items of a list; an empty list is yielded whole."""
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        yield Piece(key, False, [])
        return
    while True:
        yield Piece(key, True, text.value())
        if text.take(",]") == "]":
            return
