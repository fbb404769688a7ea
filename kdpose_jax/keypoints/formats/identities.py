"""Reads the identities of persons, which tools write as numbers, texts and lists."""

from typing import Any

_DEPTH = 3  # lists in lists


def identities(value: Any) -> tuple[str, ...]:
    """Returns the identities that a file gives a detection.

    A list of several is what remains of detections that were merged. Numbers below zero, null and
    an empty text say that nobody was tracked.
    """
    found: dict[str, None] = {}
    _add(value, found, _DEPTH)
    return tuple(found)


def _add(value: Any, found: dict[str, None], depth: int) -> None:
    if isinstance(value, list | tuple):
        for one in value[:100] if depth else ():
            _add(one, found, depth - 1)
    elif isinstance(value, float) and value.is_integer() and value >= 0:
        found[str(int(value))] = None
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        found[str(value)] = None
    elif isinstance(value, str) and value.strip() and not value.strip().startswith("-"):
        found[value.strip()[:60]] = None
