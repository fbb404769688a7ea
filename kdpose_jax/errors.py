"""What a user's mistake raises, and the end of a run that was told to stop. Imports nothing from the package."""


class UserError(Exception):
    """One sentence that names the value, the place and the remedy.

    The entry points (`launch.py`, `data_prep.convert`) print it without a traceback and exit with code 2.
    """


class Preempted(Exception):
    """The run was told to stop (SIGTERM) and has saved what it had; says where it stands.

    `launch.py` exits with code 75, which says: give the same command again.
    """
