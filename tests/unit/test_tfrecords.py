"""Damaged shards are named with their record, wherever the damage is."""

import os
import subprocess
import sys

import pytest
from etils import epath
from repository import REPOSITORY

from kdpose_jax.data import schema, tfrecords
from kdpose_jax.errors import UserError

tf = schema.load_tensorflow()
RECORDS = (b"one", b"two")
FRAME = 16  # bytes around a record: its length and two checksums


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "train.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    return path


def read(path):
    return list(tfrecords._raw_records(tf, epath.Path(path), len(RECORDS)))


def test_every_flipped_byte_and_every_cut_is_found(shard):
    assert read(shard) == list(RECORDS)
    content = shard.read_bytes()
    ends = [
        sum(len(record) + FRAME for record in RECORDS[: number + 1])
        for number in range(len(RECORDS))
    ]
    assert ends[-1] == len(content)
    flips = [
        (place, content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        for place in range(len(content))
    ]
    for place, damaged in [
        *flips,
        *((place, content[:place]) for place in range(0, len(content), 5)),
    ]:
        number = next(number for number, end in enumerate(ends) if place < end)
        shard.write_bytes(damaged)
        with pytest.raises(
            UserError,
            match=rf"train.tfrecord-00000-of-00001', record {number}, is (damaged|missing)",
        ):
            read(shard)
    shard.write_bytes(content + content[: len(RECORDS[0]) + FRAME])
    with pytest.raises(UserError, match="record 2, should not be there: the metadata counts 2"):
        read(shard)


LOADS = """
import os, sys
from kdpose_jax.data import schema
schema.load_tensorflow()
print("keras" in sys.modules, os.environ["TF_USE_LEGACY_KERAS"])
"""


def test_keras_is_not_loaded_and_the_users_choice_of_keras_stays():
    """Keras takes seconds of every start."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TF_USE_LEGACY_KERAS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", LOADS], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["False 0"]
