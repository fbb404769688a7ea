"""Has what all protocols share about test-time flip.

A record of `EvaluationProtocol.full` has scores with and without it, and the table shows one of
them.
"""

from collections.abc import Mapping
from typing import Any

from kdpose_jax.errors import UserError


def shown(record: Mapping[str, Any], flip: bool) -> Any:
    """Returns the entry of a record that the table shows."""
    return record["flip" if flip else "plain"]


def words(flip: bool) -> str:
    """Says how predictions were made, for `conditions`."""
    return f"{'with' if flip else 'without'} test-time flip"


def check(flip: object) -> None:
    """Checks the setting `flip`.

    Raises:
      UserError: it is neither True nor False.
    """
    if not isinstance(flip, bool):
        raise UserError(f"eval.settings.flip is {flip!r}: set it to True or False.")
