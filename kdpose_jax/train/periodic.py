"""What a run says while it trains: metrics.jsonl, TensorBoard's events and the progress line."""

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath
from tensorboardX.event_file_writer import EventsWriter  # TensorBoard's files without TensorFlow
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from kdpose_jax import buckets
from kdpose_jax.files import write_atomically
from kdpose_jax.untrusted.documents import parse_json

# A bucket takes one version of an object a second; its copy of a log need not be fresher than this.
SECONDS_BETWEEN_UPLOADS = 60.0


class Lines:
    """A file of JSON objects, one per line, each with its step; what a run wrote after its last checkpoint is dropped when it goes on.

    On a disk every line is there at once. A bucket knows no appending: there the file is written anew, at `sync` and every
    `SECONDS_BETWEEN_UPLOADS`.

    Args:
      path: of the file.
      first_step: steps whose lines are kept; later ones are written again.
      writes: False on all processes but one.
    """

    def __init__(self, path: epath.Path, *, first_step: int, writes: bool):
        self._path, self._file, self._unappended = path, None, None
        if not writes:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = _lines_until(path, first_step)
        write_atomically(path, "".join(kept).encode())
        if buckets.is_bucket(path):
            self._unappended, self._synced = kept, time.monotonic()
        else:
            self._file = path.open("a")

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends one line, which is on the disk when this returns: no later checkpoint may survive without it."""
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
        """Returns when a bucket has all that was written so far; on a disk it is there already."""
        if self._unappended is not None:
            write_atomically(self._path, "".join(self._unappended).encode())
            self._synced = time.monotonic()

    def close(self) -> None:
        """Closes the file."""
        self.sync()
        if self._file is not None:
            self._file.close()


class MetricsLog:
    """`metrics.jsonl`, the record of a run (one object per interval), and TensorBoard's view of it.

    Args:
      directory: the run's folder.
      first_step: steps whose lines are kept; see `Lines`.
      writes: False on all processes but one.
    """

    def __init__(self, directory: str, *, first_step: int, writes: bool):
        self._lines = Lines(
            epath.Path(directory) / "metrics.jsonl", first_step=first_step, writes=writes
        )
        self._folder, self._events, self._staged = epath.Path(directory) / "tensorboard", None, None
        if writes:
            folder = self._folder
            if buckets.is_bucket(directory):
                self._staged = tempfile.TemporaryDirectory()
                folder = epath.Path(self._staged.name)
            folder.mkdir(parents=True, exist_ok=True)
            # Not tensorboardX's SummaryWriter: its thread dies of a full disk, and its queue then blocks the run for ever.
            self._events = EventsWriter(str(folder / "events"))
            self._event(
                first_step + 1, session_log=SessionLog(status=SessionLog.START)
            )  # hides what is written again

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line; a value that is not finite becomes null, as JSON has no NaN."""
        self._lines.write(
            step, {name: value if math.isfinite(value) else None for name, value in values.items()}
        )
        if self._events is not None:
            for name, value in values.items():
                self._event(step, summary=scalar(name, value))
            self._events.flush()

    def sync(self) -> None:
        """Returns when a bucket has all that was written so far; on a disk it is there already."""
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

    def _event(self, step: int, **content: Any) -> None:
        self._events.write_event(Event(step=step, wall_time=time.time(), **content))


def _lines_until(path: epath.Path, step: int) -> list[str]:
    kept = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            if parse_json(line)["step"] <= step:
                kept.append(line.decode() + "\n")
        except (ValueError, KeyError, TypeError):  # the line that a kill cut off
            continue
    return kept


class Progress:
    """The progress line: step, epoch, rate, loss terms and time left.

    Args:
      name: of the run.
      first_step: steps taken before this process started.
      steps: steps in all.
      steps_per_epoch: need not be whole.
      unit: what the rate counts, and how many of it one step has (for example frames).
      shown: metrics in the line; the log has all of them.
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
        self.name, self._shown = name, shown
        self._steps, self._steps_per_epoch, self._unit, self._show = (
            steps,
            steps_per_epoch,
            unit,
            show,
        )
        self._last_step, self._last_time = first_step, time.perf_counter()
        self._rate = 0.0  # steps per second, smoothed, so that the time left does not jump

    def say(self, what: str) -> None:
        """Shows a line of the run that is not about its progress."""
        self._show(f"{self.name}  {what}")

    def restart_clock(self, step: int) -> None:
        """Leaves what was done until now (compiling, evaluating, saving) out of the rate."""
        self._last_step, self._last_time = step, time.perf_counter()

    def line(self, step: int, means: Mapping[str, float], waited: float) -> dict[str, float]:
        """Shows a line.

        Args:
          step: steps taken.
          means: mean of every metric since the last line.
          waited: seconds that the loop stood waiting for data since then.

        Returns:
          The rate and the wait by name, for the log.
        """
        seconds = max(time.perf_counter() - self._last_time, 1e-9)
        rate = (step - self._last_step) / seconds
        measured = (
            step > self._last_step
        )  # not where the first step, which compiles, has a line of its own
        self._rate = rate if not self._rate else 0.7 * self._rate + 0.3 * rate
        name, per_step = self._unit
        terms = "  ".join(f"{key} {means[key]:.4g}" for key in self._shown if key in means)
        speed = f"{rate * per_step:,.0f} {name}/s  " if measured else ""
        left = f"  {_clock((self._steps - step) / self._rate)} left" if measured else ""
        self._show(
            f"{self.name}  step {step}/{self._steps}  epoch {step / self._steps_per_epoch:.2f}  {speed}{terms}{left}"
        )
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
    """(sum, count) pairs of several steps -> means, divided once."""
    names = collected[0] if collected else ()
    return {
        name: float(
            sum(metrics[name][0] for metrics in collected)
            / sum(metrics[name][1] for metrics in collected)
        )
        for name in names
    }
