"""Writes what a run reports while it trains: metrics.jsonl, TensorBoard's events and lines."""

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from kdpose_jax import buckets
from kdpose_jax.files import write_atomically
from kdpose_jax.folders import RunFolder
from kdpose_jax.train.tensorboard import EventFile
from kdpose_jax.untrusted.documents import parse_json

# A bucket accepts one version of an object per second. Its copy of a log may be this old.
SECONDS_BETWEEN_UPLOADS = 60.0


class Lines:
    """A file of JSON objects, one per line, each with its step.

    When a run resumes, the lines that it wrote after its last checkpoint are dropped. On a disk,
    each line is written at once. In a bucket, a file cannot be appended to, so it is rewritten at
    `sync` and every `SECONDS_BETWEEN_UPLOADS`.

    Args:
      path: path of the file.
      first_step: the last step whose lines stay; later lines are dropped.
      writes: True on one process, False on the others, which write nothing.
    """

    def __init__(self, path: epath.Path, *, first_step: int, writes: bool):
        self._path, self._file, self._unappended = path, None, None
        if not writes:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _lines_until(path, first_step)
        write_atomically(path, "".join(lines).encode())
        if buckets.is_bucket(path):
            self._unappended, self._synced = lines, time.monotonic()
        else:
            self._file = path.open("a")

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends one line and returns when it is on the disk.

        A later checkpoint could otherwise survive a crash that the line does not.
        """
        line = json.dumps({"step": step, **values}) + "\n"
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        elif self._unappended is not None:
            self._unappended.append(line)
            if time.monotonic() - self._synced > SECONDS_BETWEEN_UPLOADS:
                self.sync()

    def sync(self) -> None:
        """Uploads all lines if the file is in a bucket."""
        if self._unappended is not None:
            write_atomically(self._path, "".join(self._unappended).encode())
            self._synced = time.monotonic()

    def close(self) -> None:
        """Closes the file."""
        self.sync()
        if self._file is not None:
            self._file.close()


class MetricsLog:
    """Writes `metrics.jsonl`, the record of a run, and TensorBoard's events.

    The record has one object per interval.

    Args:
      directory: the run's folder.
      first_step: the last step whose lines stay; see `Lines`.
      writes: True on one process, False on the others, which write nothing.
    """

    def __init__(self, directory: epath.PathLike, *, first_step: int, writes: bool):
        run = RunFolder(epath.Path(directory))
        self._lines = Lines(run.metrics, first_step=first_step, writes=writes)
        self._folder, self._events, self._staged = run.tensorboard, None, None
        if writes:
            folder = self._folder
            if buckets.is_bucket(directory):
                self._staged = tempfile.TemporaryDirectory()
                folder = epath.Path(self._staged.name)
            self._events = EventFile(folder, first_step=first_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line; a value that is not finite becomes null, as JSON has no NaN."""
        line = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._lines.write(step, line)
        if self._events is not None:
            self._events.write(step, dict(values))

    def sync(self) -> None:
        """Uploads all lines and events if the folder is in a bucket."""
        self._lines.sync()
        if self._staged is not None:
            for file in sorted(epath.Path(self._staged.name).iterdir()):
                write_atomically(self._folder / file.name, file.read_bytes())

    def close(self) -> None:
        """Closes both files."""
        self.sync()
        self._lines.close()
        if self._events is not None:
            self._events.close()
        if self._staged is not None:
            self._staged.cleanup()


def _lines_until(path: epath.Path, step: int) -> list[str]:
    """Returns the lines of a file up to a step, without a line that is cut off."""
    lines = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            if parse_json(line)["step"] <= step:
                lines.append(line.decode() + "\n")
        except (ValueError, KeyError, TypeError):  # the process was killed while it wrote the line
            continue
    return lines


class Progress:
    """Shows progress lines: step, epoch, rate, loss terms and time left.

    Args:
      name: name of the run.
      first_step: number of steps taken before this process started.
      steps: total number of steps.
      steps_per_epoch: steps per epoch, not necessarily a whole number.
      unit: what the rate counts (for example frames), and how many of them a step has.
      shown: names of the metrics in the line; the log has all metrics.
      show: prints one line.
    """

    def __init__(
        self,
        name: str,
        *,
        first_step: int,
        steps: int,
        steps_per_epoch: float,
        unit: tuple[str, int],
        shown: tuple[str, ...],
        show: Callable[[str], None],
    ):
        self.name = name
        self._steps, self._steps_per_epoch = steps, steps_per_epoch
        self._unit, self._shown, self._show = unit, shown, show
        self._last_step, self._last_time = first_step, time.perf_counter()
        self._rate = 0.0  # steps per second, smoothed, so that the time left does not jump

    def say(self, what: str) -> None:
        """Shows a message of the run."""
        self._show(f"{self.name}  {what}")

    def restart_clock(self, step: int) -> None:
        """Excludes the time since the last line (compiling, evaluating, saving) from the rate."""
        self._last_step, self._last_time = step, time.perf_counter()

    def line(self, step: int, means: Mapping[str, float], waited: float) -> dict[str, float]:
        """Shows a progress line.

        Args:
          step: number of steps taken.
          means: mean of every metric since the last line.
          waited: seconds that the loop waited for data since the last line.

        Returns:
          The rate, the wait and the length of the interval by name, for the log.
        """
        seconds = max(time.perf_counter() - self._last_time, 1e-9)
        rate = (step - self._last_step) / seconds
        measured = step > self._last_step  # False for a line after the first step, which compiles
        self._rate = rate if not self._rate else 0.7 * self._rate + 0.3 * rate
        name, per_step = self._unit
        terms = "  ".join(f"{key} {means[key]:.4g}" for key in self._shown if key in means)
        speed = f"{rate * per_step:,.0f} {name}/s  " if measured else ""
        left = f"  {_clock((self._steps - step) / self._rate)} left" if measured else ""
        epoch = f"{step / self._steps_per_epoch:.2f}"
        place = f"{self.name}  step {step}/{self._steps}  epoch {epoch}"
        self._show(f"{place}  {speed}{terms}{left}")
        self._last_step, self._last_time = step, time.perf_counter()
        rates = {
            f"{name}_per_second": rate * per_step,
            "data_wait_seconds": waited,
            "interval_seconds": seconds,
        }
        return rates if measured else {}


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def mean_metrics(collected: list[dict[str, Any]]) -> dict[str, float]:
    """Turns the (sum, count) pairs of several steps into means."""
    means = {}
    for name in collected[0] if collected else ():
        total = sum(metrics[name][0] for metrics in collected)
        count = sum(metrics[name][1] for metrics in collected)
        means[name] = float(total / count)
    return means
