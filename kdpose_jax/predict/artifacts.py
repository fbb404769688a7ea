"""Opens files that `--mode export` wrote, with the .json beside them."""

import pathlib
from typing import Any, NamedTuple

from etils import epath

from kdpose_jax import buckets
from kdpose_jax.errors import UserError
from kdpose_jax.export.formats import table
from kdpose_jax.export.formats.signature import Runner, Signature
from kdpose_jax.predict.description import LIFTER, Description, from_dict
from kdpose_jax.predict.lifter import Lifter
from kdpose_jax.predict.pictures import PictureNetwork
from kdpose_jax.untrusted.documents import load_json

SIDECAR = "kdpose_jax export"
VERSION = 1
FASTEST = 10_000  # frames per second


class Artifact(NamedTuple):
    """An exported file that is open.

    Attributes:
      path: the file.
      format: the name of its format.
      about: the network's description.
      sidecar: everything in the .json beside it.
      compute: examples `[B, ...]` float32 -> the outputs.
    """

    path: pathlib.Path
    format: str
    about: Description
    sidecar: dict[str, Any]
    compute: Runner


def is_artifact(path: str) -> bool:
    """Tells whether a path names an exported file, by its name."""
    return table.format_of(pathlib.Path(path)) is not None


def open_artifact(path: str) -> Artifact:
    """Opens an exported file in its own runtime.

    Args:
      path: the file, or the folder of a SavedModel; on a disk.

    Raises:
      UserError: it is not there or damaged, its .json is missing or of another version, or a
        package that runs it is missing.
    """
    if buckets.is_bucket(path):
        raise UserError(f"'{path}' is in a bucket: copy the file and its .json to a disk first.")
    file = pathlib.Path(path)
    name = table.format_of(file)
    if name is None:
        known = ", ".join(one.suffix for one in table.FORMATS.values())
        raise UserError(f"'{path}' is not an exported file: its name must end in one of {known}.")
    if not file.exists():
        raise UserError(f"There is no '{path}': export a network with --mode export first.")
    sidecar, about = read_sidecar(sidecar_of(file))
    table.require_packages(name, to_write=False)
    signature = Signature(about.input_name, about.input_shape, about.output_names)
    return Artifact(file, name, about, sidecar, table.run(name, file, signature))


def sidecar_of(file: pathlib.Path) -> pathlib.Path:
    """Returns the path of the .json that belongs to an exported file."""
    name = table.format_of(file)
    assert name is not None  # the caller has checked it
    return file.with_name(file.name.removesuffix(table.FORMATS[name].suffix) + ".json")


def read_sidecar(path: pathlib.Path) -> tuple[dict[str, Any], Description]:
    """Reads the .json beside exported files.

    Returns:
      Everything in it, and the network's description.

    Raises:
      UserError: it is missing, damaged or of another version.
    """
    try:
        found = load_json(epath.Path(path))
    except FileNotFoundError:
        raise UserError(
            f"There is no '{path}', which says what the exported file reads: keep the two together."
        ) from None
    except ValueError as error:
        raise UserError(f"'{path}' is damaged ({error}): export the network again.") from None
    kind = found.get("kind") if isinstance(found, dict) else None
    if not isinstance(found, dict) or kind != SIDECAR:
        raise UserError(f"'{path}' was not written by --mode export: export the network again.")
    if found.get("version") != VERSION:
        raise UserError(
            f"'{path}' has version {found.get('version')!r:.20}, and this program reads {VERSION}: "
            "export the network again with this version."
        )
    return found, from_dict(found.get("network"), str(path))


def rate_of(artifact: Artifact) -> float | None:
    """Returns the frames per second that a network was trained at; None if nobody knows."""
    training = artifact.sidecar.get("training")
    data = training.get("data") if isinstance(training, dict) else None
    fps = data.get("fps") if isinstance(data, dict) else None
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps < FASTEST:
        return None
    return float(fps)


def network_of(artifact: Artifact) -> Lifter | PictureNetwork:
    """Makes a network that computes with an exported file."""
    note = f"'{artifact.path.name}' computes, in {artifact.format}."
    compute = artifact.compute
    if artifact.about.kind == LIFTER:
        return Lifter(artifact.about, lambda windows: compute(windows)[0], (note,))
    return PictureNetwork(artifact.about, compute, (note,))
