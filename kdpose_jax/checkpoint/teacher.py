"""Parameters of another run: the teacher of a distillation, or the network to evaluate, export and predict with."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from kdpose_jax.checkpoint import stored
from kdpose_jax.checkpoint.integrity import require_whole
from kdpose_jax.errors import UserError
from kdpose_jax.files import absolute

FINGERPRINT_LENGTH = 16


def load_variables(
    directory: epath.PathLike, target: Mapping[str, Any], *, which: str | int, prefer_ema: bool
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Restores some variables alone, without optimiser, from the checkpoints of another run.

    Args:
      directory: a run's folder, its `checkpoints` folder, or the folder of one step (which then decides the step).
      target: "params" and, where there are any, "model_state" -> {name of a network or adapter: tree of `jax.ShapeDtypeStruct` with
        shardings}. What the run has beside these names is left on the disk; within a name everything must agree.
      which: "best", "latest" or a step.
      prefer_ema: take the moving average of the parameters where the run kept one.

    Returns:
      (variables, meta, step): arrays in the tree and shardings of `target`, the JSON values saved with them, and their step.

    Raises:
      UserError: no such folder, no such checkpoint in it, one of another model, or damaged files.
    """
    step_directory = _step_directory(directory, which)
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
        {path: leaf for path, leaf in found.items() if path.startswith(chosen)}, stored.leaves(wanted), place
    )
    with stored.damage_errors(place), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(
            step_directory / stored.STATE,
            args=ocp.args.PyTreeRestore(
                item=wanted, restore_args=ocp.checkpoint_utils.construct_restore_args(wanted), partial_restore=True
            ),
        )
    return {kind: restored[names[kind]] for kind in target}, meta["run"], int(step_directory.name)


def run_meta(directory: epath.PathLike) -> dict[str, Any]:
    """The JSON values saved with a run's newest checkpoint (or with the one step whose folder is given).

    Raises:
      UserError: no such folder, no checkpoint in it, or a damaged one.
    """
    return stored.read_meta(_step_directory(directory, "latest"))["run"]


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


def _step_directory(directory: epath.PathLike, which: str | int) -> epath.Path:
    """The folder of the checkpoint to read.

    Raises:
      UserError: no such folder or no such checkpoint in it.
    """
    path = absolute(directory)
    if not path.is_dir():
        raise UserError(
            f"There is no folder or file {path} to load a checkpoint from: name the folder of a "
            "run (it contains "
            "checkpoints/), or a file of weights."
        )
    if path.name.isdigit() and (path / stored.STATE).is_dir():
        stored.choose_step(list(ocp.utils.checkpoint_steps(path.parent)), int(path.name), path.parent)  # a half-written one is none
        return path
    if (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    with stored.damage_errors(f"A checkpoint in {path}"):
        steps = list(ocp.utils.checkpoint_steps(path))
    if which == "best" and steps:
        step = _best_step(path, steps)
    else:
        step = max(steps, default=None) if which in ("best", "latest") else which
    return path / str(stored.choose_step(steps, step, path))


def _best_step(path: epath.Path, steps: list[int]) -> int:
    """The best step by the ranking that the run itself used.

    Raises:
      UserError: no step was evaluated.
    """
    ranking = stored.read_meta(path / str(max(steps)))["ranking"]
    files = {step: path / str(step) / stored.METRICS / stored.METRICS for step in steps}
    with stored.damage_errors(f"A checkpoint in {path}"):
        best = stored.best_of({step: json.loads(file.read_text()) for step, file in files.items() if file.exists()}, ranking)
    if best is None:
        raise UserError(
            f"No checkpoint in {path} has a value of '{ranking['metric']}', so that none is the best: evaluate during training, or "
            "name a step's folder or 'latest'."
        )
    return best
