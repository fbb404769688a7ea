"""The one exception that a user's mistake may raise. Imports nothing from the package."""


class UserError(Exception):
    """One sentence that names the value, the place and the remedy.

    The entry points (`launch.py`, `data_prep.convert`) print it without a traceback and exit with code 2.
    """


class StalledError(UserError):
    """Something that the run depends on has stopped answering, so that its threads cannot be waited for."""
