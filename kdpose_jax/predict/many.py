"""Predicts many files with one command: lists them, shares them out, and skips what is done."""

import dataclasses
import glob
import hashlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from kdpose_jax import files
from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import sizes
from kdpose_jax.keypoints.formats import recognise
from kdpose_jax.untrusted.documents import load_json

_ENDINGS = (".json", ".npz", ".npy", ".csv", ".txt")
DONE = ".done.json"  # the ending of the file that says that a video's outputs are whole
_TOLD = 5  # failures that the last sentence names


class CommandError(UserError):
    """A mistake in the command itself, which every input would run into."""


def inputs_in(kind: str, path: str) -> list[str] | None:
    """Lists the files and folders of keypoints, or the videos, that a path stands for.

    Args:
      kind: the flag that has the path, `keypoints` or `video`.
      path: its value: a file, a folder, or a pattern such as `clips/*.json`.

    Returns:
      The paths, sorted; None if the path is that of one video.

    Raises:
      UserError: a pattern fits nothing, a folder has no videos, or two paths would have outputs of
        one name.
    """
    if "://" in path:
        return None  # reading it says what is wrong
    if os.path.exists(path):
        if not os.path.isdir(path) or (kind == "keypoints" and recognise.is_video(path)):
            return None
        may_be = _may_be_keypoints if kind == "keypoints" else _may_be_video
        found = [os.path.join(path, name) for name in sorted(os.listdir(path))]
        found = [one for one in found if may_be(one)]
        if not found and kind == "video":
            raise UserError(
                f"--video '{path}' is a folder without videos ({', '.join(sizes.VIDEOS)}): give a "
                "video, a folder of videos or a pattern."
            )
        if not found:
            return None  # reading it says what is wrong
    elif glob.has_magic(path):
        found = sorted(glob.glob(path))
        if not found:
            raise UserError(f"--{kind} '{path}' fits no file: give a file, folder or pattern.")
    else:
        return None
    stems: dict[str, str] = {}
    for one in found:
        stem = stem_of(one)
        if stem in stems:
            raise UserError(
                f"'{stems[stem]}' and '{one}' would both be written as '{stem}': rename one of "
                "them, or predict them into different folders."
            )
        stems[stem] = one
    return found


def _may_be_keypoints(path: str) -> bool:
    name = os.path.basename(path)
    return not name.startswith(".") and (os.path.isdir(path) or name.lower().endswith(_ENDINGS))


def _may_be_video(path: str) -> bool:
    name = os.path.basename(path)
    return not name.startswith(".") and os.path.isfile(path) and name.lower().endswith(sizes.VIDEOS)


def stem_of(path: str) -> str:
    """Returns the name that the outputs of a path have, without folder and suffix."""
    name = os.path.basename(os.path.abspath(path))
    return name if os.path.isdir(path) else os.path.splitext(name)[0]


@dataclasses.dataclass(frozen=True)
class Task:
    """What every file of a command has in common, by which a finished one is known.

    Attributes:
      fingerprint: identifies the network's variables.
      options: every flag that decides the outputs.
    """

    fingerprint: str
    options: dict[str, Any]

    def mark_of(self, path: str) -> str:
        """Identifies the outputs of a path: by the options and the content of the input."""
        inside = [path]
        if os.path.isdir(path):
            inside = [entry.path for entry in sorted(os.scandir(path), key=lambda one: one.name)]
        found = [(os.path.basename(one), os.stat(one)) for one in inside]
        stats = [(name, one[stat.ST_SIZE], one[stat.ST_MTIME]) for name, one in found]
        content = json.dumps([self.fingerprint, self.options, stats], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def is_done(base: epath.Path, mark: str) -> bool:
    """Returns whether a video's outputs are there and are of this task."""
    path = base.parent / (base.name + DONE)
    try:
        said = load_json(path)
        return said["mark"] == mark and all((base.parent / one).exists() for one in said["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # it is written again


def set_done(
    base: epath.Path, mark: str, written: Sequence[epath.Path], notes: Sequence[str]
) -> None:
    """Says that a video's outputs are whole, and keeps its notes."""
    content = {"mark": mark, "files": [path.name for path in written], "notes": list(notes)}
    files.write_json(base.parent / (base.name + DONE), content)


def run_all(
    paths: Sequence[str],
    folder: epath.Path,
    task: Task,
    predict: Callable[[str, epath.Path], tuple[Sequence[epath.Path], Sequence[str]]],
    show: Callable[[str], None],
    share: tuple[int, int],
) -> None:
    """Predicts every path that is not done. A file that cannot be read does not stop the others.

    Args:
      paths: the files and folders of keypoints, or the videos.
      folder: takes the outputs, named as their inputs.
      task: what the files have in common.
      predict: (path, base of its outputs) -> the files that it wrote, and its notes.
      show: prints one line.
      share: (index, count) of this process among those that share the paths.

    Raises:
      UserError: some paths could not be predicted. The others are written.
      CommandError: no path can be predicted by this command. It is not tried on the others.
    """
    own, failed, skipped = paths[share[0] :: share[1]], [], 0
    for number, path in enumerate(own, 1):
        base = folder / stem_of(path)
        mark = task.mark_of(path)
        if is_done(base, mark):
            skipped += 1
            continue
        show(f"[{number}/{len(own)}] {path}")
        try:
            written, notes = predict(path, base)
        except CommandError:
            raise
        except UserError as error:
            show(f"error: {error}")
            failed.append(f"{os.path.basename(path)}: {error}")
            continue
        set_done(base, mark, written, notes)
    if skipped:
        show(f"{skipped} of {len(own)} were done before, and were left as they are.")
    if failed:
        more = f" (and {len(failed) - _TOLD} more)" if len(failed) > _TOLD else ""
        raise UserError(
            f"{len(failed)} of {len(own)} inputs could not be predicted: "
            f"{' '.join(failed[:_TOLD])}{more}"
        )
