"""What one checkpoint on the disk is.

Its paths, its arrays' shapes, what belongs to it, and which step is the best.
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

STATE, META, METRICS = "state", "meta", "metrics"
# Where the checkpoints of one network lie: those of the plan, and the one of the step at which it
# was told to stop.
FOLDERS = ("checkpoints", "interrupted")


def leaves(tree: Any) -> dict[str, Any]:
    """Arrays (or their descriptions) of a tree by path, such as `params/student/head/kernel`.

    Empty nodes left out.
    """
    flat = ocp.tree.to_flat_dict(ocp.tree.serialize_tree(tree, keep_empty_nodes=True), sep="/")
    return {path: leaf for path, leaf in sorted(flat.items()) if hasattr(leaf, "shape")}


def stored_leaves(step_directory: epath.Path) -> dict[str, Any]:
    """Shape and dtype of the arrays in one checkpoint, by path, without reading them."""
    return leaves(ocp.StandardCheckpointHandler().metadata(step_directory / STATE).tree)


def require_same_leaves(stored: Mapping[str, Any], wanted: Mapping[str, Any], place: str) -> None:
    """Refuses a checkpoint that differs in the name, shape or dtype of any array; Orbax would cast
    dtypes silently.

    Args:
      stored: what the checkpoint has, by path.
      wanted: what to restore, by path, with shardings.
      place: what to call the checkpoint in an error.

    Raises:
      UserError: names the first array that differs.
      ValueError: a wanted array names no devices; Orbax would look for those that it was saved
        from.
    """
    for path in sorted(stored.keys() | wanted.keys()):
        if path in wanted and getattr(wanted[path], "sharding", None) is None:
            raise ValueError(f"the abstract array '{path}' has no sharding")
        found, needed = _described(stored, path), _described(wanted, path)
        if found != needed:
            raise UserError(
                f"{place} has {found} for '{path}' where this run needs {needed}: it belongs to "
                f"another model, method or "
                "optimiser; use the config it was trained with, or another folder."
            )


def choose_step(steps: list[int], step: int | None, directory: epath.Path) -> int:
    """`step` if it is among the saved `steps`.

    Raises:
      UserError: it is not, or there is none.
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
    """The `meta` item of one checkpoint: `run` (what the caller saved) and `ranking` (metric,
    lowest).

    Raises:
      UserError: it is missing or damaged.
    """
    with damage_errors(f"The checkpoint of step {step_directory.name} in {step_directory.parent}"):
        meta = json.loads((step_directory / META / "metadata").read_text())
        ranking = {name: meta["ranking"][name] for name in ("metric", "lowest")}
        return {"run": dict(meta["run"]), "ranking": ranking}


def ranking_key(ranking: Mapping[str, Any]) -> Callable[[Mapping[str, float] | None], float]:
    """A function metrics -> number that grows with quality.

    -inf for metrics without a finite value of the ranked one.
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
    """The step with the best metrics (the newest of equals, as the preservation policy has it),
    None without a ranked one.
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
      UserError: in place of any exception but that of a device that ran out of memory.
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
            f"{place} is damaged or unreadable ({type(error).__name__}: {one_line(error)}): "
            f"delete that step's folder to go on from "
            "the step before it."
        ) from error


def _described(tree: Mapping[str, Any], path: str) -> str:
    if path not in tree:
        return "nothing"
    return f"{np.dtype(tree[path].dtype).name}{list(tree[path].shape)}"


def one_line(error: BaseException) -> str:
    """The message of an exception on one line, without its middle if it is long."""
    text = " ".join(str(error).split())
    # The system's reason stands at the end.
    return text if len(text) <= 300 else f"{text[:80]} ... {text[-200:]}"
