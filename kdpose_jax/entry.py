"""Turns whatever ends an entry point into a sentence and an exit code.

The entry points are `launch.py`, `data_prep.convert`, `kdpose_jax.study.runner` and `kdpose`.
"""

import os
import sys
from typing import TextIO

from kdpose_jax import buckets, files
from kdpose_jax.errors import UserError

GONE = 1  # another process of the run is gone
MISTAKE = 2  # a mistake, a device that is not there or a full disk


def sentence(error: Exception) -> str | None:
    """Returns the sentence for an error that the user can do something about.

    It is None for a bug.
    """
    if isinstance(error, UserError):
        return str(error)
    told = buckets.sentence(error, "The bucket")
    if told is None and isinstance(error, OSError):
        told = files.sentence(error)
    return told


def tell(error: Exception) -> int:
    """Prints the sentence for an error.

    Returns:
      The exit code.

    Raises:
      Exception: the error itself, if it is a bug.
    """
    told = sentence(error)
    if told is None:
        raise error
    say(f"error: {told}", sys.stderr)
    return MISTAKE


def say(line: str, stream: TextIO) -> None:
    """Prints one line.

    Once the stream is closed, its output is dropped.
    """
    try:
        print(line, file=stream, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
