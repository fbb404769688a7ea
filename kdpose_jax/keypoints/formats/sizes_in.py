"""Reads the size of a video from the metadata of a file."""

from typing import Any


def size_in(metadata: Any) -> tuple[int, int] | None:
    """Returns the width `w` and the height `h`, pixels; None where they are not above 0."""
    if not isinstance(metadata, dict):
        return None
    sides = []
    for name in ("w", "h"):
        try:
            side = int(metadata.get(name))  # type: ignore[arg-type]  # what fails is caught
        except (TypeError, ValueError, OverflowError):
            return None
        if not 0 < side < 10**6:
            return None
        sides.append(side)
    return sides[0], sides[1]
