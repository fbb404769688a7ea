"""Finds the run that a checkpoint or an exported file belongs to."""

from typing import Any

from etils import epath

from kdpose_jax.checkpoint import loading
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import configs, splits
from kdpose_jax.experiment.run import Run
from kdpose_jax.experiment.weights import is_weight_file


def run_folder(checkpoint: str) -> epath.Path:
    """Returns the folder of the run that a checkpoint belongs to.

    A PyTorch file has no run, so it gets a folder under `runs`.
    """
    path = epath.Path(checkpoint)
    if is_weight_file(checkpoint):
        return epath.Path("runs").resolve() / path.name / "imported"
    return loading.network_folder(path)


def which_checkpoint(path: str) -> str:
    """Says which checkpoint `weights.load_network` takes, and which examples chose it."""
    if is_weight_file(path):
        return "imported from PyTorch"
    name = epath.Path(path).name
    if name.isdigit():
        return f"of step {name}"
    meta = loading.run_meta(path)
    # In versions that did not store it, the test split chose every checkpoint.
    return f"the best on {meta['chosen_on'] if 'chosen_on' in meta else splits.ON_TEST}"


def run_of_checkpoint(path: str) -> Run:
    """Returns the run that a checkpoint belongs to, as it was trained.

    Raises:
      UserError: there is no such run, or its config is of a version that this one cannot use.
    """
    return run_of_meta(loading.run_meta(path), path, run_folder(path).name)


def run_of_meta(meta: dict[str, Any], path: str, name: str) -> Run:
    """Makes the run that a checkpoint or an exported file says that it belongs to.

    Args:
      meta: its "config" and "stage".
      path: where it is, for error messages.
      name: the network's name.

    Raises:
      UserError: the config is of a version that this one cannot use.
    """
    try:
        config = configs.from_dict(configs.upgraded(meta["config"]))
        names = configs.flatten(config.to_dict())
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"'{path}' holds no config of a run ({type(error).__name__}: {error}): give another "
            f"run."
        ) from error
    missing = [name for name in configs.REQUIRED if name not in names]
    if missing:
        raise UserError(
            f"'{path}' was trained by another version of this program (its config lacks "
            f"{', '.join(missing)}): use the commit that its results.json names, or train it again."
        )
    # Until version 0.2 a teacher's config had the teacher's block in the student's place.
    stage = meta["stage"] if meta.get("stage") in ("teacher", "student") else "student"
    return Run(name, name, stage, config)
