"""TFRecords and pictures."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import numpy as np

from tests.fuzz.reader import Reader, on_file


def _sequences(folder: pathlib.Path) -> Any:
    """Writes a set of sequences without its shard; returns TensorFlow."""
    from kdpose_jax.data import schema

    tf = schema.load_tensorflow()
    # Takes longer to make than a record to read.
    schema.features_of = functools.cache(schema.features_of)

    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "kind": "pose_sequences",
        "schema_version": 1,
        "skeleton": "h36m_17",
        "keypoints": "gt",
        "generated": True,
        "sources": {},
        "left_out": [],
        "fps": 50,
        "settings": {},
        "splits": {"train": {"records": 1, "frames": 1, "shards": {"shard": 1}}},
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return tf


def _sequence_records() -> list[bytes]:
    from kdpose_jax.data import schema

    record = {
        "subject": "S1",
        "action": "a",
        "take": "a 1",
        "camera": 0,
        "fps": 50.0,
        "width": 9,
        "height": 9,
        "frame_mask": np.ones(1, np.bool_),
        "keypoints_2d": np.zeros((1, 17, 2), np.float32),
        "pose_3d": np.zeros((1, 17, 3), np.float32),
    }
    return [schema.sequence_features(17).serialize_example(record)]


def tfrecord(folder: pathlib.Path) -> Reader:
    """A shard as a file."""
    tf = _sequences(folder)
    from kdpose_jax.data import sequences

    path = folder / "shard"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(_sequence_records()[0])
    return Reader(
        on_file(path, lambda _: sequences.read(str(folder), "train")), [path.read_bytes()]
    )


def record(folder: pathlib.Path) -> Reader:
    """A record as it stands in a shard that is whole."""
    _sequences(folder)
    from kdpose_jax.data import sequences, tfrecords

    (folder / "shard").touch()

    def read(content: bytes) -> None:
        tfrecords._raw_records = lambda *unused: iter([content])
        sequences.read(str(folder), "train")

    words = tuple(
        name.encode()
        for name in (
            "keypoints_2d",
            "pose_3d",
            "frame_mask",
            "camera",
            "width",
            "subject",
            "keypoints_2d/shape",
        )
    )
    return Reader(read, _sequence_records(), words)


def _pictures() -> list[bytes]:
    import cv2

    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    return [
        cv2.imencode(suffix, pixels[..., :channels])[1].tobytes()
        for suffix, channels in ((".jpg", 3), (".png", 3), (".jpg", 1), (".bmp", 3))
    ]


def photograph(folder: pathlib.Path) -> Reader:
    from data_prep import photographs

    def read(path: str) -> None:
        found = photographs.look_at(
            [photographs.Folder(str(folder), ["a.jpg"], "--test-images")], str(folder), False
        )[0]["a.jpg"]
        for used in (found, found.turned()):
            photographs._decode.cache_clear()
            photographs.cut(used, (0, 0, 1, 1), "png")

    return Reader(
        on_file(folder / "a.jpg", read),
        _pictures(),
        (b"\xff\xc0", b"\xff\xc2", b"\xff\xda", b"IHDR", b"IDAT", b"\xff\xff\xff\xff"),
    )


def picture(folder: pathlib.Path) -> Reader:
    """The image of a person's record, whose region is 16 by 16 pixels."""
    from kdpose_jax.data import persons
    from kdpose_jax.skeletons import MPII_16
    from kdpose_jax.untrusted import pictures
    from tests.support.people import people

    region = np.array([[0, 0, 16, 16]], np.int32)
    one = people(
        MPII_16,
        np.zeros((1, 16, 2)),
        np.ones((1, 16), bool),
        region=region,
        photograph=region[:, 2:],
    )

    def read(content: bytes) -> None:
        encoded = np.frombuffer(content, np.uint8)
        # As the reader of records has asked for every one.
        if pictures.is_decodable(encoded, (16, 16)):
            persons.open_evaluation(
                dataclasses.replace(one, image=(encoded,)), views={"image": 8}
            )._decode(0)

    return Reader(
        read,
        _pictures()[:3],
        (b"\xff\xc0", b"\xff\xc2", b"\xff\xda", b"IHDR", b"IDAT", b"\xff\xff\xff\xff"),
    )
