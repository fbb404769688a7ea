"""Where the experiments and studies are that a command may name.

Beside the package in a checkout, inside it when installed.
"""

import importlib.util
import pathlib
import sys
from importlib import resources

BUNDLED = "bundled"  # the folder in an installed package that holds `configs` and `data_prep`


def bring_in() -> None:
    """Lets this process import `configs` and `data_prep` if the package has them bundled."""
    bundled = pathlib.Path(str(resources.files("kdpose_jax") / BUNDLED))
    if bundled.is_dir() and str(bundled) not in sys.path:
        sys.path.insert(0, str(bundled))


def folder() -> pathlib.Path | None:
    """The folder `configs`; None where there is none to import."""
    spec = importlib.util.find_spec("configs")
    places = (spec.submodule_search_locations or ()) if spec is not None else ()
    found = (pathlib.Path(place) for place in places)
    return next((place for place in found if (place / "scjd.py").is_file()), None)


def names(part: str = "") -> list[str]:
    """The names that may stand for a file, in order.

    Args:
      part: "" for experiments, "studies" for studies.
    """
    place = folder()
    if place is None:
        return []
    files = (place / part).glob("[a-z]*.py")
    return sorted(file.stem for file in files if file.stem != "blocks")


def resolve(text: str, part: str = "") -> str:
    """A file for a name such as `scjd`, what stands behind the colon kept; other texts as they are.

    Args:
      text: NAME or PATH, perhaps with :PRESET,OPTION=VALUE.
      part: as in `names`.
    """
    name, colon, rest = text.partition(":")
    place = folder()
    if place is None or pathlib.Path(name).exists() or name not in names(part):
        return text
    return f"{place / part / name}.py{colon}{rest}"
