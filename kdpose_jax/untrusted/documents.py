"""Reads users' JSON files."""

import json
from typing import Any

from etils import epath

from kdpose_jax.untrusted import bounds


def load_json(path: epath.PathLike) -> Any:
    """Reads a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
      OSError: the file cannot be read.
      ValueError: see `parse_json`; or the file is larger than `bounds.JSON`.
    """
    path = epath.Path(path)
    size = path.stat().length
    if size > bounds.JSON:
        raise ValueError(f"{size:,} bytes, and at most {bounds.JSON:,} are read")
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Returns the value of a JSON text.

    NaN and Infinity are read as Python's `json` writes them: a run that diverged has them in its
    metrics. Callers that need finite numbers check for them.

    Raises:
      ValueError: the text is not JSON, or it is nested beyond Python's recursion limit, or an
        object has a key twice, which would lose the first value.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=unique_entries)
    except RecursionError:
        raise ValueError("values nested too deeply") from None


def unique_entries(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object's entries.

    Raises:
      ValueError: a key stands there twice.
    """
    entries: dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"the key {name[:60]!r} stands twice in one object")
        entries[name] = value
    return entries
