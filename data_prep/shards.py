"""What a worker process does.

Writes one shard, or the metadata of tfds. TensorFlow is imported here and only in workers' calls.
"""

import contextlib
import errno
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath

from kdpose_jax import buckets, files
from kdpose_jax.data import schema


def write_shard(
    path: str,
    items: list[Any],
    make_record: Callable[[Any], dict[str, Any]],
    kind: str,
    num_joints: int,
) -> None:
    """Writes one shard under a temporary name and renames it when it is whole.

    Args:
      path: of the shard.
      items: in the order of the records.
      make_record: item -> record of `schema.features_of(kind, num_joints)`.
      kind: of the records.
      num_joints: J.

    Raises:
      OSError: ENOSPC if the disk is full, EIO for anything else that TensorFlow says of the file.
    """
    features = _features(kind, num_joints)
    import tensorflow as tf

    partial = files.partial_name(path)
    try:
        with _file_errors(), tf.io.TFRecordWriter(str(partial)) as writer:
            for item in items:
                example = tf.train.Example.FromString(features.serialize_example(make_record(item)))
                # tfds leaves the order of the fields to chance; the same input shall give the same
                # bytes.
                writer.write(example.SerializeToString(deterministic=True))
        if not buckets.is_bucket(path):
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        with _file_errors():
            partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError), _file_errors():
            partial.unlink()
        raise


def end_with_parent() -> None:
    """Makes a worker process end when its parent does, however that ends.

    Without it, those of a killed run would stay for ever.
    """
    # Of a Ctrl-C, which all processes of a terminal get, the parent speaks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # likewise
    # With which a pool ends its workers; the parent had it blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def watch() -> None:
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def write_tfds_metadata(
    out: str, kind: str, num_joints: int, shards: list[tuple[str, str, int]]
) -> None:
    """Writes features.json and dataset_info.json, so that `tfds.builder_from_directory(out)` opens
    the folder.

    Args:
      out: the folder.
      kind: of the records.
      num_joints: J.
      shards: (split, file name, records) of every shard, in order.
    """
    features = _features(kind, num_joints)
    import tensorflow_datasets as tfds

    infos = []
    for split in dict.fromkeys(split for split, _, _ in shards):
        members = [(name, records) for owner, name, records in shards if owner == split]
        template = tfds.core.ShardedFileTemplate(
            data_dir=out, template=schema.FILENAME_TEMPLATE, split=split, filetype_suffix="tfrecord"
        )
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[records for _, records in members],
                num_bytes=sum((epath.Path(out) / name).stat().length for name, _ in members),
                filename_template=template,
            )
        )
    with _file_errors():
        tfds.folder_dataset.write_metadata(
            data_dir=out,
            features=features,
            split_infos=infos,
            filename_template=schema.FILENAME_TEMPLATE,
            check_data=False,
        )


@contextlib.contextmanager
def _file_errors() -> Iterator[None]:
    """TensorFlow's errors as OSError: they cannot cross a process boundary as they are."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        code = errno.ENOSPC if isinstance(error, tf.errors.ResourceExhaustedError) else errno.EIO
        raise OSError(code, error.message) from None


@functools.lru_cache(maxsize=1)
def _features(kind: str, num_joints: int) -> Any:
    return schema.features_of(kind, num_joints)
