"""Writes checksums of a checkpoint's files, and sets aside checkpoints that fail them.

Checksums are written before a checkpoint is committed. TensorStore checks its indices but not the
arrays' bytes. Most flipped bytes would be restored without a word.
"""

import json
import re
from collections.abc import Callable
from concurrent import futures

from etils import epath

from kdpose_jax import buckets, files
from kdpose_jax.errors import UserError
from kdpose_jax.files import write_atomically
from kdpose_jax.untrusted.documents import load_json

CHECKSUMS = "checksums.json"
# Orbax writes these two while it commits. They hold nothing of the state, but the first must be
# JSON.
_METADATA, _COMMITTED = "_CHECKPOINT_METADATA", "commit_success.txt"
# The small parts of a checkpoint: the run it belongs to, and its scores.
SMALL = ("meta/", "metrics/")
# Prefix of the folder that damaged checkpoints are moved to.
ASIDE = "damaged-"
_STEP = re.compile("0|[1-9][0-9]*")


class DamagedCheckpoint(UserError):
    """Tells that a checkpoint's files differ from what was written."""


def write_checksums(directory: epath.Path, step: int) -> None:
    """Writes the checksums of a checkpoint that is being saved.

    It is called when the checkpoint's files are there but before it has its final name.

    Args:
      directory: the `checkpoints` folder.
      step: the checkpoint's step.
    """
    for folder in directory.iterdir():
        if folder.name == str(step) or folder.name.startswith(f"{step}."):
            found = files.checksums(_files(folder))
            write_atomically(folder / CHECKSUMS, json.dumps(found, indent=1).encode())


def is_step(name: str) -> bool:
    """Returns whether a folder's name is a step number, and so a checkpoint's."""
    return _STEP.fullmatch(name) is not None


def steps_in(directory: epath.Path) -> list[int]:
    """Lists the steps in a folder of checkpoints in order, complete or not.

    In a bucket, uncommitted ones are left out. Orbax skips them, and removes them at the next save.
    """
    found = [entry for entry in directory.iterdir() if is_step(entry.name)]
    if buckets.is_bucket(directory):
        return sorted(int(step.name) for step in found if (step / _COMMITTED).exists())
    return sorted(int(step.name) for step in found if step.is_dir())


def damage(step_directory: epath.Path, parts: tuple[str, ...] = ("",)) -> str | None:
    """Says what is wrong with a checkpoint's files; None if they are as written.

    A checkpoint gets its name after its checksums are written. One without checksums comes from a
    copy that was interrupted. Files that a file manager or an evaluation added are
    not damage.

    Args:
      step_directory: the checkpoint's folder.
      parts: prefixes of the names of the files to compare, such as "meta/".
    """
    if not (step_directory / CHECKSUMS).exists():
        return f"{CHECKSUMS} is missing: it was not written or copied to its end"
    for name in (_METADATA, CHECKSUMS):
        try:
            expected = dict(load_json(step_directory / name))
        except (OSError, ValueError, TypeError):
            return f"{name} cannot be read"
    if not expected or any(name.startswith("/") or ".." in name.split("/") for name in expected):
        return f"{CHECKSUMS} is not what was written"

    def difference(name: str) -> str | None:
        path = step_directory / name
        if not path.is_file():
            return f"{name} is missing"
        return None if files.sha256(path) == expected[name] else f"{name} is not what was written"

    names = sorted(name for name in expected if name.startswith(parts))
    with futures.ThreadPoolExecutor(files.AT_ONCE) as pool:
        return next(filter(None, pool.map(difference, names)), None)


def require_whole(step_directory: epath.Path, parts: tuple[str, ...] = ("",)) -> None:
    """Refuses a checkpoint whose files differ from what was written.

    Args:
      step_directory: the checkpoint's folder.
      parts: as for `damage`.

    Raises:
      DamagedCheckpoint: a file differs. The sentence names the folder, the step and the file.
    """
    found = damage(step_directory, parts)
    if found is not None:
        raise DamagedCheckpoint(
            f"The checkpoint of step {step_directory.name} in {step_directory.parent} is damaged "
            f"({found}): delete that step's folder to go on from the step before it, or copy it "
            "again."
        )


def set_damaged_aside(directory: epath.Path, show: Callable[[str], None]) -> None:
    """Moves damaged checkpoints out of a folder, and says so.

    From the newest checkpoint backwards, every file is compared until one checkpoint is whole. A
    run is resumed from that one. In older checkpoints only the small files are compared: the run
    chooses its best step by the scores in them.

    Args:
      directory: the `checkpoints` folder. Damaged ones go to `damaged-<name>` beside it.
      show: prints one line.
    """
    if not directory.is_dir():
        return
    parts: tuple[str, ...] = ("",)
    steps = steps_in(directory)
    for step in reversed(steps):
        found = damage(directory / str(step), parts)
        if found is None:
            parts = SMALL
            continue
        aside = directory.parent / f"{ASIDE}{directory.name}"
        aside.mkdir(parents=True, exist_ok=True)
        number = sum(1 for entry in aside.iterdir() if entry.name.split(".")[0] == str(step))
        target = aside / (f"{step}.{number}" if number else str(step))
        (directory / str(step)).rename(target)
        left = "the one before is used" if step > steps[0] else "there is none before it"
        show(
            f"warning: the checkpoint of step {step} in {directory} is damaged ({found}): "
            f"moved to {target}" + ("" if parts == SMALL else f", {left}")
        )


def _files(step_directory: epath.Path) -> dict[str, epath.Path]:
    """Lists a new checkpoint's files by path, except those that its commit changes."""
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
