"""Keeps the checkpoints of one run with Orbax: the latest and the best.

They can be restored on any device topology, and none is ever half-written.

Layout: `<run>/checkpoints/<step>/{state,meta,metrics,checksums.json}`. `state` has the arrays,
`meta` says what they belong to, and `metrics` has the scores that they reached.

Orbax is named in this folder only.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from kdpose_jax import buckets
from kdpose_jax.checkpoint.integrity import require_whole, write_checksums
from kdpose_jax.checkpoint.stored import (
    choose_step,
    damage_errors,
    leaves,
    one_line,
    ranking_key,
    read_meta,
    require_same_leaves,
    stored_leaves,
)  # fmt: skip
from kdpose_jax.errors import UserError
from kdpose_jax.files import absolute

# Orbax moves old checkpoints here in one step, before it deletes them. A kill could otherwise leave
# a half-deleted checkpoint that looks whole.
_DELETED = "deleted"
# TensorStore reports a failed write as a ValueError that starts with the name of its status.
_STORAGE_STATUS = re.compile(r"[A-Z_]{5,}: ")


class _Manager(ocp.CheckpointManager):
    """Orbax's manager with its own preemption check disabled."""

    def reached_preemption(self, step: int) -> bool:
        """Always returns False.

        JAX's preemption service must be polled with consecutive numbers, as `train.preemption`
        does. Polling it here with step numbers too would lose requests.
        """
        return False


class Checkpoints:
    """Saves and restores the state of one run.

    Opening and reading change nothing on the disk, so that another process may look at a run that
    is still training. The first save makes the folder, and removes files that a killed process left
    half-written. In a run of several processes every process makes the same calls in the same
    order.

    Args:
      directory: the run's `checkpoints` folder; may be relative, `~` or `gs://`.
      keep_latest: how many of the newest checkpoints to keep, at least 1.
      keep_best: how many of the best checkpoints to keep beside them.
      best_metric: key of `metrics` that ranks checkpoints.
      best_is_lowest: True for an error, False for a score.
      asynchronous: whether to write in the background while training goes on.

    Raises:
      UserError: the numbers to keep are impossible, or the folder cannot be read.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        *,
        keep_latest: int,
        keep_best: int,
        best_metric: str,
        best_is_lowest: bool,
        asynchronous: bool,
    ):
        if keep_latest < 1 or keep_best < 0:
            raise UserError(
                f"A run cannot keep {keep_latest} latest and {keep_best} best checkpoints: keep "
                f"at least 1 latest and 0 best."
            )
        # Orbax reports a failure of a relative path only after `save` has reported success.
        self._directory = absolute(directory)
        self._keep = (keep_latest, keep_best)
        self._ranking = {"metric": best_metric, "lowest": best_is_lowest}
        self._asynchronous = asynchronous
        self._writes = False
        self._in_flight: int | None = None
        self._open()

    def save(
        self, step: int, state: Any, meta: Mapping[str, Any], metrics: Mapping[str, float] | None
    ) -> bool:
        """Saves one step. If asynchronous, it returns when the arrays are copied to the host.

        Args:
          step: number of optimiser steps done; a step that is already saved is skipped.
          state: tree of jax arrays; `None` marks a part that the run lacks (such as `ema`).
          meta: JSON values that say what the state belongs to (config text, method, versions,
            teacher fingerprint).
          metrics: scores of this step; None if it was not evaluated. The step can then be
            restored, but is never the best.

        Returns:
          True if the step was saved, False if it existed.

        Raises:
          UserError: this save, or the one before it in the background, could not be written.
        """
        self._open_for_writing(step)
        if step in self._manager.all_steps():
            return False
        values = (
            None if metrics is None else {name: float(value) for name, value in metrics.items()}
        )
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            meta=ocp.args.JsonSave({"run": dict(meta), "ranking": self._ranking}),
        )
        with self._storage_errors():
            # An error of the save before is thereby reported under its own step.
            self._manager.wait_until_finished()
            self.remove_deleted()
            self._in_flight = step
            # `force` overrides Orbax's decision when to save. Here the caller decides.
            self._manager.save(step, args=items, metrics=values, force=True)
            if not self._asynchronous:
                self._manager.wait_until_finished()
        return True

    def latest_step(self) -> int | None:
        """Returns the newest step that is saved or being saved, None if there is none."""
        return self._manager.latest_step()

    def restore(self, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        """Restores the newest state, whole, onto the devices that `abstract_state` names.

        Args:
          abstract_state: tree of `jax.ShapeDtypeStruct` with shardings, on any mesh. The tree is
            the saved one.

        Returns:
          (state, meta): arrays in the tree and shardings of `abstract_state`, and the JSON values
          saved with them.

        Raises:
          UserError: there is no such checkpoint, its state has another model or optimiser, or files
            are damaged.
        """
        self.wait()
        steps = self._manager.all_steps()
        step = choose_step(steps, max(steps, default=None), self._directory)
        place = f"The checkpoint of step {step} in {self._directory}"
        with damage_errors(place):
            require_whole(self._directory / str(step))
            stored = stored_leaves(self._directory / str(step))
        require_same_leaves(stored, leaves(abstract_state), place)
        meta = read_meta(self._directory / str(step))["run"]
        with damage_errors(place):
            restored = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
            )
        return restored.state, meta

    def wait(self) -> None:
        """Returns when the save in the background is on the disk.

        Raises:
          UserError: the save could not be written.
        """
        with self._storage_errors():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save in the background, and releases the threads.

        Call it at the end of a run, so that a failed save is reported.

        Raises:
          UserError: the save in the background could not be written.
        """
        try:
            self.wait()
            if self._writes:
                self.remove_deleted()
        finally:
            self._manager.close()

    def remove_deleted(self) -> None:
        """Deletes the checkpoints that Orbax has moved out of the way.

        If it is killed, the next call deletes the rest.
        """
        deleted = self._directory / _DELETED
        if jax.process_index() == 0 and deleted.exists():
            deleted.rmtree()

    def _open(self) -> None:
        metric_value = ranking_key(self._ranking)
        latest, best = self._keep
        options = ocp.CheckpointManagerOptions(
            create=False,
            cleanup_tmp_directories=self._writes,
            todelete_subdir=None if buckets.is_bucket(self._directory) else _DELETED,
            # Folders are made at once. If one could not be made in the background, the error would
            # come after minutes of waiting.
            async_options=ocp.AsyncOptions(
                post_finalization_callback=self._write_checksums,
                create_directories_asynchronously=False,
            ),
            # Without a policy, a best function would delete the newest checkpoint. Here it only
            # makes Orbax write the metrics.
            best_fn=metric_value,
            preservation_policy=preservation_policy.AnyPreservationPolicy(
                [
                    preservation_policy.LatestN(latest),
                    preservation_policy.BestN(
                        get_metric_fn=metric_value, n=best, keep_checkpoints_without_metrics=False
                    ),
                ]
            ),
        )
        with damage_errors(f"A checkpoint in {self._directory}"):
            self._manager = _Manager(self._directory, options=options)

    def _open_for_writing(self, step: int) -> None:
        if not self._writes:
            self._in_flight = step
            with self._storage_errors():
                self._directory.mkdir(parents=True, exist_ok=True)
            self._writes = True
            self._manager.close()
            self._open()

    def _write_checksums(self) -> None:
        """Writes checksums. Orbax calls it between a checkpoint's last byte and its commit."""
        if jax.process_index() == 0:
            assert self._in_flight is not None  # Orbax calls this within a save, which sets it
            write_checksums(self._directory, self._in_flight)

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Turns a failed write into one sentence.

        Other errors are bugs and pass through.
        """
        try:
            yield
        except Exception as error:
            reason = _storage_failure(error)
            if reason is None:
                raise
            # Orbax has already forgotten the steps that this save would have replaced.
            self._manager.reload()
            raise UserError(
                f"The checkpoint of step {self._in_flight} could not be written to "
                f"{self._directory} ({reason}); the ones before it are intact (latest: step "
                f"{self._manager.latest_step()}): make room there or remove the cause, then run "
                "the same command again."
            ) from error


def _storage_failure(error: BaseException) -> str | None:
    """Says why a write failed, if the storage is to blame, else None."""
    cause: BaseException | None = error
    while cause is not None:
        said = buckets.failure(cause)
        text = said or one_line(cause)
        if (
            said
            or isinstance(cause, OSError)
            or (isinstance(cause, ValueError) and _STORAGE_STATUS.match(text))
        ):
            full = "no space left" in str(cause).lower() or "quota exceeded" in str(cause).lower()
            return "the disk is full: no space left on device" if full else text
        cause = cause.__cause__ or cause.__context__
    return None
