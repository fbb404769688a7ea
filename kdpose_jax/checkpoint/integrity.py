"""Checksums of a checkpoint's files, written before it is committed, and what is done with a checkpoint that fails them.

TensorStore checks its indices and not the arrays' bytes: of flipped bytes most would be restored without a word.
"""

import hashlib
import json
from collections.abc import Callable

from etils import epath

from kdpose_jax.errors import UserError
from kdpose_jax.files import write_atomically

CHECKSUMS = "checksums.json"
# Orbax writes these two while it commits; nothing of the state is in them, but the first must be JSON.
_METADATA, _COMMITTED = "_CHECKPOINT_METADATA", "commit_success.txt"
_CHUNK = 2**20


class DamagedCheckpoint(UserError):
    """Files of a checkpoint are not what was written."""


def write_checksums(directory: epath.Path, step: int) -> None:
    """Writes down the checksums of a checkpoint that is being saved; called when its files are there and before it has its name.

    Args:
      directory: the `checkpoints` folder.
      step: of the save.
    """
    for folder in directory.iterdir():
        if folder.name == str(step) or folder.name.startswith(f"{step}."):
            found = {name: _sha256(path) for name, path in _files(folder).items()}
            write_atomically(folder / CHECKSUMS, json.dumps(found, indent=1).encode())


def damage(step_directory: epath.Path) -> str | None:
    """What is wrong with the files of a checkpoint, in words; None if they are as written, or were written without checksums."""
    path = step_directory / CHECKSUMS
    if not path.exists():
        return None
    for name in (_METADATA, CHECKSUMS):
        try:
            expected = dict(json.loads((step_directory / name).read_text()))
        except (OSError, ValueError, TypeError):
            return f"{name} cannot be read"
    found = _files(step_directory)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} does not belong to it"
        if _sha256(found[name]) != expected[name]:
            return f"{name} is not what was written"
    return None


def require_whole(step_directory: epath.Path) -> None:
    """Refuses a checkpoint whose files are not what was written.

    Raises:
      DamagedCheckpoint: names its folder, its step and the file.
    """
    found = damage(step_directory)
    if found is not None:
        raise DamagedCheckpoint(
            f"The checkpoint of step {step_directory.name} in {step_directory.parent} is damaged ({found}): delete that step's folder to "
            "go on from the step before it."
        )


def set_damaged_aside(directory: epath.Path, show: Callable[[str], None]) -> None:
    """Moves the newest checkpoints of a folder out of the way until one is whole, and says so.

    Args:
      directory: the `checkpoints` folder; they go to `damaged-<name>` beside it.
      show: prints one line.
    """
    if not directory.is_dir():
        return
    steps = sorted((int(entry.name) for entry in directory.iterdir() if entry.name.isdigit()), reverse=True)
    for step in steps:
        found = damage(directory / str(step))
        if found is None:
            return
        aside = directory.parent / f"damaged-{directory.name}"
        aside.mkdir(parents=True, exist_ok=True)
        number = sum(1 for entry in aside.iterdir() if entry.name.split(".")[0] == str(step))
        target = aside / (f"{step}.{number}" if number else str(step))
        (directory / str(step)).rename(target)
        show(f"warning: the checkpoint of step {step} in {directory} is damaged ({found}): moved to {target}, the one before is used")


def _files(step_directory: epath.Path) -> dict[str, epath.Path]:
    """The files of a checkpoint by their path in it, those left out that change while it is committed."""
    found, folders = {}, [(step_directory, "")]
    while folders:
        folder, prefix = folders.pop()
        for entry in folder.iterdir():
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                folders.append((entry, f"{name}/"))
            elif entry.name not in (CHECKSUMS, _METADATA, _COMMITTED):
                found[name] = entry
    return found


def _sha256(path: epath.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
