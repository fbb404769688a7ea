"""Defines what a user's mistake raises, and the exit codes of a run that was told to stop.

Imports nothing from the package.
"""

import signal
from collections.abc import Iterable
from typing import Any

LONGEST = 2000
# Exit codes of a run that was told to stop, by a closed terminal too: EX_TEMPFAIL of sysexits.h,
# which a restart script takes for "run it again", and the shell's for Ctrl-C.
EXIT_CODES: dict[int, int] = {signal.SIGTERM: 75, signal.SIGINT: 130, signal.SIGHUP: 75}


class UserError(Exception):
    """One sentence that names the value, the place and the remedy.

    The entry points (`launch.py`, `data_prep.convert`) print it without a traceback and exit with
    code 2.
    """

    def __init__(self, sentence: str):
        # Names from files may hold line breaks, and control characters that a terminal obeys. A
        # long sentence keeps its end, where the remedy stands.
        shown = (
            sentence
            if len(sentence) <= LONGEST
            else f"{sentence[: LONGEST // 2]} ... {sentence[-LONGEST // 2 :]}"
        )
        super().__init__("".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown))


def require(place: str, value: Any, allowed: Iterable[Any]) -> None:
    """Refuses a value that is not one of the allowed ones.

    Args:
      place: the flag or field as the user wrote it.
      value: its value.
      allowed: the values that it may have, in the order of the message.

    Raises:
      UserError: the value is another one.
    """
    values = list(allowed)
    if value not in values:
        raise UserError(f"{place} is '{value}': use one of {', '.join(map(str, values))}.")


class StalledError(UserError):
    """Tells that something the run depends on no longer answers.

    Its threads cannot be waited for.
    """
