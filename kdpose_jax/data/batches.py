"""Turns examples of a source into global device arrays, for training and for evaluation."""

import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import cast

import jax
import numpy as np

from kdpose_jax.contracts import Batch, Source
from kdpose_jax.data import order
from kdpose_jax.errors import StalledError

BATCHES_AHEAD = 2  # how many are prepared while the loop computes
SECONDS_TO_CLOSE = 10.0  # how long `close` waits for the batch that is being read


class TrainBatches:
    """The batches of a run from a given step on, which a thread prepares ahead of the loop.

    Args:
      source: the examples.
      seed: the run's seed, which decides their order.
      batch: global batch size.
      first_step: number of steps that the run has already taken.
      sharding: how the batch axis is spread over the devices.
      patience: seconds that `next` waits for a batch before it treats the input as hung.

    Attributes:
      waited: seconds that the last call of `next` waited for data.
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int,
        batch: int,
        first_step: int,
        sharding: jax.sharding.Sharding,
        patience: float,
    ):
        self.waited = 0.0
        self._step, self._patience = first_step, patience
        self._ready: queue.Queue = queue.Queue(maxsize=BATCHES_AHEAD)
        self._closed = threading.Event()

        def fill() -> None:
            step = first_step
            while not self._closed.is_set():
                item: Batch | Exception
                try:
                    examples, passes = order.batch_examples(
                        seed, step, batch, len(source), jax.process_index(), jax.process_count()
                    )
                    item = to_global(
                        {**source.gather(examples, passes), "example": examples.astype(np.int32)},
                        sharding,
                    )
                except Exception as error:  # passed to the loop, which would otherwise wait forever
                    item = error
                while not self._closed.is_set():
                    try:
                        self._ready.put(item, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if isinstance(item, Exception):
                    return
                step += 1

        self._thread = threading.Thread(target=fill, daemon=True, name="train-batches")
        self._thread.start()

    def __next__(self) -> Batch:
        """Returns the next batch.

        Raises:
          StalledError: no batch came in time.
        """
        start = time.perf_counter()
        try:
            item = self._ready.get(timeout=self._patience)
        except queue.Empty:
            raise StalledError(
                f"No batch came for {self._patience:g} s at step {self._step}, so the input is "
                "taken for hung: look at the machine's disks, threads and memory and give the same "
                "command again, or raise train.patience_seconds if it is only slow."
            ) from None
        self.waited = time.perf_counter() - start
        if isinstance(item, Exception):
            raise item
        self._step += 1
        return item

    def close(self) -> None:
        """Stops the thread; waits for it at most `SECONDS_TO_CLOSE`, as it may hang."""
        self._closed.set()
        self._thread.join(timeout=SECONDS_TO_CLOSE)


def evaluation_batches(
    source: Source, batch: int, sharding: jax.sharding.Sharding
) -> Iterator[Batch]:
    """Yields all examples in order, each exactly once, in batches of one size.

    Args:
      source: the examples.
      batch: global batch size.
      sharding: how the batch axis is spread over the devices.

    Yields:
      Global arrays. `mask` `[batch]` is False where an example only fills up the last batch.
    """
    hosts, host = jax.process_count(), jax.process_index()
    share = batch // hosts
    for start in range(0, len(source), batch):
        examples = start + host * share + np.arange(share)
        mask = examples < len(source)
        gathered = source.gather(np.minimum(examples, len(source) - 1))
        yield to_global({**gathered, "example": examples.astype(np.int32), "mask": mask}, sharding)


def to_global(batch: Batch, sharding: jax.sharding.Sharding) -> Batch:
    """Combines the hosts' shares of a batch into arrays over all devices."""
    if jax.process_count() == 1:
        return _placer(sharding)(batch)
    arrays = {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }
    return cast(Batch, arrays)


@functools.cache
def _placer(sharding: jax.sharding.Sharding) -> Callable[[Batch], Batch]:
    """Makes what puts a host's batch onto its devices: a program that returns its arguments.

    `device_put` and its relatives spend more time per array in Python than gathering a batch takes.
    """
    return jax.jit(lambda batch: batch, in_shardings=sharding, out_shardings=sharding)
