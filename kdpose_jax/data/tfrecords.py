"""Reads TFRecord shards into memory, and names the file and the record of any damage.

The errors of whoever writes TFRecords are made here, too.
"""

import contextlib
import errno
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from kdpose_jax import buckets
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import SKELETONS

# Bytes per read: in a bucket, each read is a request.
READ_BYTES = 8 * 2**20


def read_records(
    directory: epath.PathLike, split: str, metadata: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yields all records of a split, in the order in which they were written.

    Args:
      directory: folder of the data set.
      split: name of the split.
      metadata: the content of its `metadata.json`, checked by `schema.read_metadata`.

    Yields:
      Decoded records: NumPy arrays, Python strings and numbers.

    Raises:
      UserError: a shard is missing, cut off or fails its checksum (the message names the record),
        or its bucket cannot be reached.
    """
    tf = schema.load_tensorflow()
    # The folder's features.json is not used: TFDS would import and call whatever it names.
    features = schema.features_of(metadata["kind"], SKELETONS[metadata["skeleton"]].num_joints)
    with buckets.one_sentence(directory):
        for name, count in metadata["splits"][split]["shards"].items():
            path = epath.Path(directory) / name
            for number, raw in enumerate(_raw_records(tf, path, count)):
                try:
                    record = {
                        key: _plain(value)
                        for key, value in features.deserialize_example_np(raw).items()
                    }
                    lacking = [key for key, value in record.items() if value is None]
                    if lacking:
                        raise ValueError(f"no {lacking[0]}")
                except Exception as error:  # protobuf and tfds raise many kinds
                    raise UserError(_damage(path, number, f"cannot be parsed: {error}")) from error
                yield record


def _raw_records(tf: Any, path: epath.Path, count: int) -> Iterator[bytes]:
    if not path.exists():
        raise UserError(f"Shard '{path}' is missing: convert the data set again into a new folder.")
    lengths = _check_lengths(path)
    shard = iter(tf.data.TFRecordDataset(str(path), buffer_size=READ_BYTES))
    for number in range(count):
        # One length at a time: a wrong length that fits is then caught by TensorFlow's checksum.
        next(lengths, None)
        try:
            raw = next(shard).numpy()
        except StopIteration:
            raise UserError(
                _damage(path, number, f"is missing: the file ends after {number} of {count}")
            ) from None
        except tf.errors.OpError as error:
            raise UserError(
                _damage(path, number, f"is damaged: {error.message.split('[')[0].strip()}")
            ) from None
        yield raw
    next(lengths, None)
    if next(shard, None) is not None:
        raise UserError(_damage(path, count, f"should not be there: the metadata counts {count}"))


def _check_lengths(path: epath.Path) -> Iterator[None]:
    """Refuses a record that claims to be longer than the rest of the file.

    TensorFlow would allocate the claimed length and end the process if the memory does not suffice.
    Files in a bucket are not checked: each record would cost a request, and buckets check their
    files themselves.

    Yields:
      None, after every record whose length fits.
    """
    if buckets.is_bucket(path):
        return
    size = path.stat().length
    with open(path, "rb") as file:
        number = position = 0
        while position + 8 <= size:
            file.seek(position)
            length = struct.unpack("<Q", file.read(8))[0]
            position += 16 + length  # the length, its checksum, the record, its checksum
            if position > size:
                what = "is damaged: cut off, or longer than the file by its own account"
                raise UserError(_damage(path, number, what))
            yield
            number += 1


@contextlib.contextmanager
def file_errors() -> Iterator[None]:
    """Turns the errors of TensorFlow's writers into OSError.

    TensorFlow's own errors cannot cross a process boundary.

    Raises:
      OSError: ENOSPC if the disk is full, EFBIG for a file that is too large, EIO for others.
    """
    tf = schema.load_tensorflow()
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise OSError(errno.ENOSPC, error.message) from None
    except tf.errors.OutOfRangeError as error:
        raise OSError(errno.EFBIG, error.message) from None
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message) from None


def _damage(path: epath.Path, number: int, what: str) -> str:
    return f"'{path}', record {number}, {what}; convert the data set again into a new folder."


def _plain(value: Any) -> Any:
    """Converts text to strings and scalars to Python numbers; leaves arrays as they are."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value
    value = value.item() if isinstance(value, (np.ndarray, np.generic)) else value
    return value.decode() if isinstance(value, bytes) else value
