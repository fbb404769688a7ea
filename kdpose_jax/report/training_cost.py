"""Says what a training cost: examples that were seen, and core-hours."""

from collections.abc import Mapping, Sequence
from typing import Any


def training_cost(
    records: Sequence[Mapping[str, Any]], *, batch: int, unit: tuple[str, int], cores: int
) -> dict[str, Any]:
    """Sums up the log of a training.

    Args:
      records: the records of its metrics.jsonl, in order of "step".
      batch: examples of a step.
      unit: what an example consists of, as `Source.unit` says it: a plural noun and how many.
      cores: cores that the process had.

    Returns:
      "steps"; "seen", the number of `unit`s in all steps, and "unit", the noun; "core_hours" of the
      steps, without compiling and evaluation, or None if the log has no times.
    """
    steps = max((record["step"] for record in records), default=0)
    timed = [record["interval_seconds"] for record in records if "interval_seconds" in record]
    hours = sum(timed) * cores / 3600 if timed else None
    return {"steps": steps, "seen": steps * batch * unit[1], "unit": unit[0], "core_hours": hours}
