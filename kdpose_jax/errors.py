"""What a user's mistake raises, and the end of a run that was told to stop.

Imports nothing from the package.
"""

import signal

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
        # Names out of files may hold line breaks, and control characters that a terminal obeys; the
        # remedy stands at the end.
        shown = (
            sentence
            if len(sentence) <= LONGEST
            else f"{sentence[: LONGEST // 2]} ... {sentence[-LONGEST // 2 :]}"
        )
        super().__init__("".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown))


class StalledError(UserError):
    """Something that the run depends on has stopped answering, so that its threads cannot be waited
    for.
    """
