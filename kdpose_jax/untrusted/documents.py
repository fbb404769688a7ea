"""JSON files of users."""

import json
from typing import Any

from etils import epath

from kdpose_jax.untrusted import bounds


def load_json(path: epath.PathLike) -> Any:
    """The content of a JSON file.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no JSON, nested beyond Python's recursion limit, or larger than `bounds.JSON`.
    """
    path = epath.Path(path)
    size = path.stat().length
    if size > bounds.JSON:
        raise ValueError(f"{size:,} bytes, and at most {bounds.JSON:,} are read")
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
      ValueError: it is no JSON, or nested beyond Python's recursion limit.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("values nested too deeply") from None
