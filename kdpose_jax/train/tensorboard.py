"""Writes TensorBoard's event files: TFRecords of TensorFlow's `Event` messages."""

import os
import socket
import time
from typing import Any

from etils import epath

from kdpose_jax.data import schema, tfrecords


class EventFile:
    """A new event file, to which the scalars of a run are appended.

    Args:
      folder: folder of a disk, in which the file is made.
      first_step: the first step that this process takes. TensorBoard hides what earlier files of
        the folder have from this step on, because the run repeats it.

    Raises:
      OSError: the file cannot be written. The methods raise it, too.
    """

    def __init__(self, folder: epath.Path, *, first_step: int):
        tf = schema.load_tensorflow()
        self._messages = tf.compat.v1
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files whose names hold "tfevents", in the order of the names.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        (folder / name).touch()  # Python's error names the file, and TensorFlow's does not
        with tfrecords.file_errors():
            self._records = tf.io.TFRecordWriter(str(folder / name))
        self._append(file_version="brain.Event:2")
        start = self._messages.SessionLog(status=self._messages.SessionLog.START)
        self._append(step=first_step, session_log=start)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Appends the values of one step and returns when the system has them."""
        scalars = [
            self._messages.Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
        ]
        self._append(step=step, summary=self._messages.Summary(value=scalars))
        with tfrecords.file_errors():
            self._records.flush()

    def close(self) -> None:
        """Closes the file."""
        with tfrecords.file_errors():
            self._records.close()

    def _append(self, **content: Any) -> None:
        event = self._messages.Event(wall_time=time.time(), **content)
        with tfrecords.file_errors():
            self._records.write(event.SerializeToString())
