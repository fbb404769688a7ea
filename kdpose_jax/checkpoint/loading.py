"""Reads the parameters of another run: a teacher, or a network to evaluate or predict with."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from kdpose_jax.checkpoint import stored
from kdpose_jax.checkpoint.integrity import (
    ASIDE,
    CHECKSUMS,
    SMALL,
    is_step,
    require_whole,
    steps_in,
)
from kdpose_jax.errors import UserError
from kdpose_jax.files import absolute

FINGERPRINT_LENGTH = 16
# As the last part of a path: the newest checkpoint of the network in front of it.
LATEST = "latest"


def load_variables(
    directory: epath.PathLike, target: Mapping[str, Any], *, prefer_ema: bool
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Restores some variables, without optimiser, from the best checkpoint of another run.

    Args:
      directory: as for `best_checkpoint`.
      target: "params" and, if there are any, "model_state" -> {name of a network or adapter: tree
        of `jax.ShapeDtypeStruct` with shardings}. Other names of the run are not read. Within a
        name everything must agree.
      prefer_ema: whether to take the moving average of the parameters if the run kept one.

    Returns:
      (variables, meta, step): arrays in the tree and shardings of `target`, the JSON values saved
      with them, and their step.

    Raises:
      UserError: there is no such folder, it has no such checkpoint, the checkpoint has another
        model, or files are damaged.
    """
    step_directory = best_checkpoint(directory)
    place = f"The checkpoint of step {step_directory.name} in {step_directory.parent}"
    with stored.damage_errors(place):
        require_whole(step_directory)
        found = stored.stored_leaves(step_directory)
    meta = stored.read_meta(step_directory)
    averaged = prefer_ema and any(path.startswith("ema/") for path in found)
    names = {kind: "ema" if kind == "params" and averaged else kind for kind in target}
    wanted = {names[kind]: entries for kind, entries in target.items()}
    chosen = tuple(f"{kind}/{name}/" for kind, entries in wanted.items() for name in entries)
    stored.require_same_leaves(
        {path: leaf for path, leaf in found.items() if path.startswith(chosen)},
        stored.leaves(wanted),
        place,
    )
    with (
        stored.damage_errors(place),
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer,
    ):
        restored = checkpointer.restore(
            step_directory / stored.STATE,
            args=ocp.args.PyTreeRestore(
                item=wanted,
                restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
                partial_restore=True,
            ),
        )
    return {kind: restored[names[kind]] for kind in target}, meta["run"], int(step_directory.name)


def run_meta(directory: epath.PathLike) -> dict[str, Any]:
    """Returns the JSON values saved with a run's newest checkpoint.

    If the folder of one step is given, they are that step's.

    Raises:
      UserError: there is no such folder, it has no checkpoint, or the checkpoint is damaged.
    """
    step_directory = _named_step(directory) or _newest_checkpoint(directory)
    require_whole(step_directory, SMALL)
    return stored.read_meta(step_directory)["run"]


def require_step(directory: epath.PathLike) -> None:
    """Refuses a path in which `load_variables` would find no best checkpoint.

    It is called before any work.

    Raises:
      UserError: as in `load_variables`, except for errors in the arrays.
    """
    best_checkpoint(directory)


def explicit(path: str) -> str:
    """Replaces a path that ends in "latest" by the folder of the newest checkpoint.

    Other paths stay as they are.

    Raises:
      UserError: there is no checkpoint.
    """
    named = epath.Path(path)
    if named.name != LATEST or named.exists():
        return path
    return str(_named_step(named.parent) or _newest_checkpoint(named.parent))


def network_folder(checkpoint: epath.PathLike) -> epath.Path:
    """Returns the folder of the network that a checkpoint belongs to, from its path alone.

    Args:
      checkpoint: a network's folder, one of its folders of checkpoints, or a step's folder in one.

    Returns:
      The network's folder, or `checkpoint` itself if its path does not show one.
    """
    path = epath.Path(checkpoint)
    if is_step(path.name) and _is_folder_of_steps(path.parent):
        return path.parent.parent
    return path.parent if _is_folder_of_steps(path) else path


def holds_checkpoints(folder: epath.PathLike) -> bool:
    """Returns whether a folder is a network's, which has a folder of checkpoints."""
    return any((epath.Path(folder) / name).is_dir() for name in stored.FOLDERS)


def passed_over(directory: epath.PathLike) -> list[str]:
    """Lists a sentence for each step that is skipped because its copy is incomplete."""
    path = absolute(directory)
    if is_step(path.name):
        return []
    return [
        f"note: step {step} in {folder} has no {CHECKSUMS}, so that it was not written or copied "
        "to its end: it is passed over."
        for folder in _folders_of(path)
        for step in steps_in(folder) if not (folder / str(step) / CHECKSUMS).exists()
    ]  # fmt: skip


def fingerprint(params: Any) -> str:
    """Identifies parameters by their values: sha256 over sorted paths, dtypes, shapes and bytes.

    Args:
      params: tree of numpy or jax arrays, whole on this process.

    Returns:
      The first 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path, leaf in stored.leaves(params).items():
        array = np.asarray(leaf)
        digest.update(f"{path} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array.tobytes())  # in C order, whatever the strides
    return digest.hexdigest()[:FINGERPRINT_LENGTH]


def best_checkpoint(directory: epath.PathLike) -> epath.Path:
    """Finds the folder of a network's best checkpoint.

    Args:
      directory: a run's folder, its `checkpoints` folder, or the folder of one step, which is then
        the one that is returned.

    Raises:
      UserError: there is no such folder, or none of its checkpoints is whole and has a score.
    """
    if named := _named_step(directory):
        return named
    path = absolute(directory)
    found = _steps_of(path)
    # The plan's steps come first: the interrupted one has no scores.
    folder = next(folder for folder in reversed(_folders_of(path)) if folder in found.values())
    return folder / str(_best_step(folder, [step for step in found if found[step] == folder]))


def _newest_checkpoint(directory: epath.PathLike) -> epath.Path:
    """Finds the folder of a network's newest checkpoint. Errors are as in `best_checkpoint`."""
    found = _steps_of(absolute(directory))
    return found[max(found)] / str(max(found))


def _named_step(directory: epath.PathLike) -> epath.Path | None:
    """Returns the folder of a step if the path names one, else None.

    Raises:
      UserError: there is no such folder, or the step is half-written.
    """
    path = absolute(directory)
    if not path.is_dir():
        raise UserError(
            f"There is no folder or file {path} to load a checkpoint from: name the folder of a "
            "run (it contains checkpoints/), or a file of weights."
        )
    if not is_step(path.name):
        return None
    if not ((path / stored.STATE).is_dir() or _is_folder_of_steps(path.parent)):
        return None
    stored.choose_step(steps_in(path.parent), int(path.name), path.parent)
    return path


def _steps_of(path: epath.Path) -> dict[int, epath.Path]:
    """Returns step -> its folder of checkpoints, for a network's whole checkpoints.

    If two folders have one step, it is the plan's.

    Raises:
      UserError: there is none.
    """
    found = {step: folder for folder in _folders_of(path) for step in _whole_steps(folder)}
    if not found:
        raise UserError(_why_there_is_none(path))
    return found


def _folders_of(path: epath.Path) -> list[epath.Path]:
    """Lists the folders of checkpoints at a path. The last has the steps of the plan."""
    there = [path / name for name in reversed(stored.FOLDERS) if (path / name).is_dir()]
    return there if there else [path]


def _is_folder_of_steps(path: epath.Path) -> bool:
    return path.name.removeprefix(ASIDE) in stored.FOLDERS


def _whole_steps(folder: epath.Path) -> list[int]:
    """Lists the steps that were written completely."""
    with stored.damage_errors(f"A checkpoint in {folder}"):
        return [step for step in steps_in(folder) if (folder / str(step) / CHECKSUMS).exists()]


def _why_there_is_none(path: epath.Path) -> str:
    """Makes the sentence for a folder that has no checkpoint."""
    networks = [folder for level in ("*", "*/*") for folder in _networks_below(path, level)]
    if networks:
        named = [str(folder) for folder in networks[:6]]
        which = " or ".join([", ".join(named[:-1]), named[-1]] if named[1:] else named)
        return f"'{path}' is not the folder of one network: name {which}."
    if (path / stored.STATE).is_dir():
        return f"'{path}' is a step's folder under another name: rename it to its step's number."
    if said := passed_over(path):
        return (
            f"There is no whole checkpoint in {path} ({len(said)} were not written or copied to "
            "their end): copy it again."
        )
    return (
        f"There is no checkpoint in {path}: train first, or name the folder of a network that has "
        "one."
    )


def _networks_below(path: epath.Path, level: str) -> list[epath.Path]:
    """Lists folders of networks at a level below a path, in the order of training."""
    places = [place for name in stored.FOLDERS for place in path.glob(f"{level}/{name}")]
    order = ["teacher", "baseline", "student"]

    def rank(folder: epath.Path) -> tuple[epath.Path, int, str]:
        known = order.index(folder.name) if folder.name in order else len(order)
        return folder.parent, known, folder.name

    return sorted({place.parent for place in places if place.is_dir()}, key=rank)


def _best_step(path: epath.Path, steps: list[int]) -> int:
    """Returns the best step by the ranking that the run itself used.

    Raises:
      UserError: no step was evaluated, or the files with the scores are damaged.
    """
    for step in steps:
        require_whole(path / str(step), SMALL)
    ranking = stored.read_meta(path / str(max(steps)))["ranking"]
    files = {step: path / str(step) / stored.METRICS / stored.METRICS for step in steps}
    with stored.damage_errors(f"A checkpoint in {path}"):
        best = stored.best_of(
            {step: json.loads(file.read_text()) for step, file in files.items() if file.exists()},
            ranking,
        )
    if best is None:
        network = network_folder(path)
        raise UserError(
            f"No checkpoint in {path} has a value of '{ranking['metric']}', so that none is the "
            f"best: name the newest with '{network}/{LATEST}', or the folder of a step, or train "
            "on until it is evaluated."
        )
    return best
