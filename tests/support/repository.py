"""Finds the repository: the folder in which launch.py lies."""

import importlib.util
import pathlib

_launcher = importlib.util.find_spec("launch")
assert _launcher and _launcher.origin, "tests are run from the repository's root"
REPOSITORY = pathlib.Path(_launcher.origin).resolve().parent
