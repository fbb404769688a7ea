"""Describes one checkpoint on the disk.

That is its paths, its arrays' shapes, what belongs to it, and which step is the best.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from kdpose_jax import buckets
from kdpose_jax.errors import UserError
from kdpose_jax.folders import CHECKPOINTS, INTERRUPTED

STATE, META, METRICS = "state", "meta", "metrics"
# The folders of one network's checkpoints: those of the plan, and the one of the step at which the
# run was told to stop.
FOLDERS = (CHECKPOINTS, INTERRUPTED)


def leaves(tree: Any) -> dict[str, Any]:
    """Lists the arrays (or their descriptions) of a tree by path.

    A path is such as `params/student/head/kernel`. Empty nodes are left out.
    """
    flat = ocp.tree.to_flat_dict(ocp.tree.serialize_tree(tree, keep_empty_nodes=True), sep="/")
    return {path: leaf for path, leaf in sorted(flat.items()) if hasattr(leaf, "shape")}


def stored_leaves(step_directory: epath.Path) -> dict[str, Any]:
    """Returns shape and dtype of a checkpoint's arrays by path, without reading them."""
    return leaves(ocp.StandardCheckpointHandler().metadata(step_directory / STATE).tree)


def require_same_leaves(stored: Mapping[str, Any], wanted: Mapping[str, Any], place: str) -> None:
    """Refuses a checkpoint that differs in the name, shape or dtype of any array.

    Orbax would cast dtypes silently.

    Args:
      stored: the checkpoint's arrays by path.
      wanted: the arrays to restore by path, with shardings.
      place: names the checkpoint in error messages.

    Raises:
      UserError: an array differs. The sentence names the first one.
      ValueError: a wanted array names no devices. Orbax would look for those that it was saved
        from.
    """
    for path in sorted(stored.keys() | wanted.keys()):
        if path in wanted and getattr(wanted[path], "sharding", None) is None:
            raise ValueError(f"the abstract array '{path}' has no sharding")
        found, needed = _described(stored, path), _described(wanted, path)
        if found != needed:
            raise UserError(
                f"{place} has {found} for '{path}' where this run needs {needed}: it belongs to "
                "another model, method or optimiser; use the config it was trained with, or "
                "another folder."
            )


def choose_step(steps: list[int], step: int | None, directory: epath.Path) -> int:
    """Returns `step` if it is among the saved `steps`.

    Raises:
      UserError: it is not among them, or there is no step.
    """
    if not steps:
        raise UserError(
            f"There is no checkpoint in {directory}: train first, or name the folder of a run "
            f"that has one."
        )
    if step not in steps:
        raise UserError(
            f"There is no checkpoint of step {step} in {directory}: the steps there are "
            f"{sorted(steps)}."
        )
    return step


def read_meta(step_directory: epath.Path) -> dict[str, Any]:
    """Reads the `meta` item of one checkpoint.

    Returns:
      `run` (the caller's values) and `ranking` (metric, lowest).

    Raises:
      UserError: the item is missing or damaged.
    """
    with damage_errors(f"The checkpoint of step {step_directory.name} in {step_directory.parent}"):
        meta = json.loads((step_directory / META / "metadata").read_text())
        ranking = {name: meta["ranking"][name] for name in ("metric", "lowest")}
        return {"run": dict(meta["run"]), "ranking": ranking}


def ranking_key(ranking: Mapping[str, Any]) -> Callable[[Mapping[str, float] | None], float]:
    """Makes a function metrics -> number that grows with quality.

    The number is -inf if the ranked metric is missing or not finite.
    """

    def quality(metrics: Mapping[str, float] | None) -> float:
        if (
            metrics is None
            or ranking["metric"] not in metrics
            or not math.isfinite(metrics[ranking["metric"]])
        ):
            return -math.inf
        return -metrics[ranking["metric"]] if ranking["lowest"] else metrics[ranking["metric"]]

    return quality


def best_of(
    metrics: Mapping[int, Mapping[str, float] | None], ranking: Mapping[str, Any]
) -> int | None:
    """Returns the step with the best metrics, None if no step has the ranked metric.

    Of equals it is the newest, as in the preservation policy.
    """
    quality = ranking_key(ranking)
    ranked = [
        (quality(values), step) for step, values in metrics.items() if quality(values) > -math.inf
    ]
    return max(ranked)[1] if ranked else None


@contextlib.contextmanager
def damage_errors(place: str) -> Iterator[None]:
    """Turns whatever a damaged or unreadable checkpoint raises into one sentence about `place`.

    Raises:
      UserError: replaces any exception except that of a device that ran out of memory.
    """
    try:
        yield
    except (UserError, jax.errors.JaxRuntimeError):
        raise
    # Damaged files raise almost anything: OSError, ValueError, KeyError, zstd errors.
    except Exception as error:
        reason = buckets.failure(error)
        if reason is not None:
            raise UserError(
                f"{place} could not be reached ({reason}): give the same command again when the "
                f"bucket answers."
            ) from error
        raise UserError(
            f"{place} is damaged or unreadable ({type(error).__name__}: {one_line(error)}): delete "
            "that step's folder to go on from the step before it."
        ) from error


def _described(tree: Mapping[str, Any], path: str) -> str:
    if path not in tree:
        return "nothing"
    return f"{np.dtype(tree[path].dtype).name}{list(tree[path].shape)}"


def one_line(error: BaseException) -> str:
    """Writes the message of an exception on one line, without its middle if it is long."""
    text = " ".join(str(error).split())
    # The system's reason stands at the end.
    return text if len(text) <= 300 else f"{text[:80]} ... {text[-200:]}"
