"""Reads TFRecord shards into host memory, and names the file and the record of any damage."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from kdpose_jax.data import schema
from kdpose_jax.errors import UserError


def read_records(directory: str | pathlib.Path, split: str, metadata: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All records of a split, in the order in which they were written.

    Args:
      directory: the data set.
      split: its split.
      metadata: its `metadata.json`, checked.

    Yields:
      One decoded record after another: numpy arrays, Python strings and numbers.

    Raises:
      UserError: a shard is missing, cut off, or fails its checksum; names the shard and the record.
    """
    schema.hide_accelerators()
    import tensorflow as tf  # imported late: starting it takes seconds that a mistyped flag need not cost
    import tensorflow_datasets as tfds

    try:
        features = tfds.builder_from_directory(directory).info.features
    except Exception as error:  # tfds raises almost anything
        what = " ".join(str(error).split())
        raise UserError(
            f"features.json or dataset_info.json of '{directory}' is damaged ({type(error).__name__}: {what[:120]}); convert the data set "
            "again into a new folder."
        ) from error
    for name, count in metadata["splits"][split]["shards"].items():
        path = pathlib.Path(directory) / name
        for number, raw in enumerate(_raw_records(tf, path, count)):
            try:
                record = features.deserialize_example_np(raw)
            except Exception as error:  # protobuf and tfds raise many kinds
                raise UserError(_damage(path, number, f"cannot be parsed: {error}")) from error
            yield {key: _plain(value) for key, value in record.items()}


def _raw_records(tf: Any, path: pathlib.Path, count: int) -> Iterator[bytes]:
    if not path.exists():
        raise UserError(f"Shard '{path}' is missing: convert the data set again into a new folder.")
    shard = iter(tf.data.TFRecordDataset(str(path)))
    for number in range(count):
        try:
            raw = next(shard).numpy()
        except StopIteration:
            raise UserError(_damage(path, number, f"is missing: the file ends after {number} of {count}")) from None
        except tf.errors.DataLossError as error:
            raise UserError(_damage(path, number, f"is damaged: {error.message.split('[')[0].strip()}")) from None
        yield raw
    if next(shard, None) is not None:
        raise UserError(_damage(path, count, f"should not be there: the metadata counts {count}"))


def _damage(path: pathlib.Path, number: int, what: str) -> str:
    return f"'{path}', record {number}, {what}; convert the data set again into a new folder."


def _plain(value: Any) -> Any:
    """Text as a string; scalars as Python numbers; arrays as they are."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value
    value = value.item() if isinstance(value, (np.ndarray, np.generic)) else value
    return value.decode() if isinstance(value, bytes) else value
