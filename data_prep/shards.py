"""Writes one shard, or tfds's metadata, in a worker process.

TensorFlow is imported here, and only in workers' calls.
"""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

from etils import epath

from kdpose_jax import buckets, files
from kdpose_jax.data import schema, tfrecords


def write_shard(
    path: str,
    items: list[Any],
    make_record: Callable[[Any], dict[str, Any]],
    kind: str,
    num_joints: int,
) -> None:
    """Writes one shard under a temporary name and renames it when it is whole.

    Args:
      path: the shard.
      items: items in the records' order.
      make_record: item -> record of `schema.features_of(kind, num_joints)`.
      kind: the records' kind.
      num_joints: number J of joints.

    Raises:
      OSError: ENOSPC if the disk is full, EIO for TensorFlow's other errors with the file.
    """
    features = _features(kind, num_joints)
    tf = schema.load_tensorflow()
    partial = files.partial_name(path)
    try:
        with tfrecords.file_errors(), tf.io.TFRecordWriter(str(partial)) as writer:
            for item in items:
                example = tf.train.Example.FromString(features.serialize_example(make_record(item)))
                # tfds leaves the fields' order to chance, but the same input must
                # give the same bytes.
                writer.write(example.SerializeToString(deterministic=True))
        if not buckets.is_bucket(path):
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        with tfrecords.file_errors():
            partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError), tfrecords.file_errors():
            partial.unlink()
        raise


def write_tfds_metadata(
    out: str, kind: str, num_joints: int, shards: list[tuple[str, str, int]]
) -> None:
    """Writes features.json and dataset_info.json.

    With them `tfds.builder_from_directory(out)` opens the folder.

    Args:
      out: the folder.
      kind: the records' kind.
      num_joints: number J of joints.
      shards: (split, file name, number of records) for every shard, in order.
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
    with tfrecords.file_errors():
        tfds.folder_dataset.write_metadata(
            data_dir=out,
            features=features,
            split_infos=infos,
            filename_template=schema.FILENAME_TEMPLATE,
            check_data=False,
        )


@functools.lru_cache(maxsize=1)
def _features(kind: str, num_joints: int) -> Any:
    return schema.features_of(kind, num_joints)
