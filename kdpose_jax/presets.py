"""Finds the experiments, the studies, the converters and the sample clip of a command.

In a checkout they lie beside the package. In an installed package they lie inside it.
"""

import importlib.util
import pathlib
import sys
from importlib import resources

# The folder in an installed package that holds `configs`, `data_prep` and `samples`.
BUNDLED = "bundled"
SAMPLES = "samples"


def bundled() -> pathlib.Path | None:
    """Returns the folder that holds them in an installed package, None in a checkout."""
    place = pathlib.Path(str(resources.files("kdpose_jax") / BUNDLED))
    return place if place.is_dir() else None


def bring_in() -> None:
    """Lets this process import `configs` and `data_prep` if the package has them bundled."""
    place = bundled()
    if place is not None and str(place) not in sys.path:
        sys.path.insert(0, str(place))


def converter_command() -> str:
    """Returns the words that start a conversion, for messages and help."""
    return "python -m data_prep.convert" if bundled() is None else "kdpose convert"


def folder() -> pathlib.Path | None:
    """Returns the folder `configs`, None if it cannot be imported."""
    spec = importlib.util.find_spec("configs")
    places = (spec.submodule_search_locations or ()) if spec is not None else ()
    found = (pathlib.Path(place) for place in places)
    return next((place for place in found if (place / "scjd.py").is_file()), None)


def names(part: str = "") -> list[str]:
    """Lists the names that may stand for a file, in order. Files of shared parts have none.

    Args:
      part: "" for experiments, "studies" for studies.
    """
    place = folder()
    if place is None:
        return []
    declares = "def get_study(" if part == "studies" else "def get_config("
    files = (place / part).glob("[a-z]*.py")
    return sorted(file.stem for file in files if declares in file.read_text(encoding="utf-8"))


def resolve(text: str, part: str = "") -> str:
    """Replaces a name such as `scjd` by its file. Other texts stay as they are.

    The text behind the colon is kept.

    Args:
      text: NAME or PATH, with or without :PRESET,OPTION=VALUE.
      part: as in `names`.
    """
    name, colon, rest = text.partition(":")
    place = folder()
    if place is None or pathlib.Path(name).exists() or name not in names(part):
        return text
    return f"{place / part / name}.py{colon}{rest}"


def sample(path: str) -> str:
    """Replaces the path of a sample clip, `samples/NAME`, by its file. Others stay as they are.

    Args:
      path: what the user wrote. A file that is there is taken as it is.
    """
    parts, place = pathlib.Path(path).parts, folder()
    if place is None or len(parts) != 2 or parts[0] != SAMPLES or pathlib.Path(path).exists():
        return path
    found = place.parent / SAMPLES / parts[1]
    return str(found) if found.is_file() else path
