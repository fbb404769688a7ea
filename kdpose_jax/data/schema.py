"""The records on disk: the only file that data_prep (which writes them) and the reader share. Light: TensorFlow is imported late."""

import json
import os
from typing import Any

from kdpose_jax.errors import UserError

KIND = "pose_sequences"
SCHEMA_VERSION = 1
SPLITS = ("train", "test")
METADATA_FILE = "metadata.json"
# tfds's names for a shard, so that `tfds.builder_from_directory` opens the folder as it is.
FILENAME_TEMPLATE = "{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
METADATA_KEYS = (
    "kind", "schema_version", "skeleton", "keypoints", "generated", "fps", "splits", "sources", "settings", "left_out",
)


def hide_accelerators() -> None:
    """Keeps TensorFlow, which only reads and writes files here, away from the devices that JAX computes on."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # unused here, and announced in two lines
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)


def sequence_features(num_joints: int) -> Any:
    """The features of one camera view of one take, as a tfds `FeaturesDict`.

    Args:
      num_joints: J of the skeleton.

    Returns:
      subject, action (what scores are averaged over), take, camera (index), fps, width and height (pixels),
      keypoints_2d `[F, J, 2]` float32 pixels, pose_3d `[F, J, 3]` float32 metres in camera coordinates with the root
      not subtracted, frame_mask `[F]` true for frames that count in evaluation.
    """
    hide_accelerators()
    import numpy as np
    from tensorflow_datasets import features

    def tensor(shape, dtype):  # raw bytes: one copy to parse, where a float list costs a call per number
        return features.Tensor(shape=shape, dtype=dtype, encoding=features.Encoding.BYTES)

    return features.FeaturesDict({
        "subject": features.Text(),
        "action": features.Text(),
        "take": features.Text(),
        "camera": features.Scalar(np.int32),
        "fps": features.Scalar(np.float32),
        "width": features.Scalar(np.int32),
        "height": features.Scalar(np.int32),
        "keypoints_2d": tensor((None, num_joints, 2), np.float32),
        "pose_3d": tensor((None, num_joints, 3), np.float32),
        "frame_mask": tensor((None,), np.bool_),
    })


def shard_name(split: str, index: int, count: int) -> str:
    """File name of a shard: `train.tfrecord-00000-of-00008`."""
    return f"{split}.tfrecord-{index:05d}-of-{count:05d}"


def read_metadata(directory: str) -> dict[str, Any]:
    """Reads and checks the metadata of a converted data set.

    Args:
      directory: folder written by `data_prep.convert`.

    Returns:
      The content of `metadata.json`: kind, schema_version, skeleton, keypoints, generated, fps,
      splits {name: {records, frames, shards {file name: records}}}, sources {file name: sha256}, settings, left_out.

    Raises:
      UserError: no folder, no or unreadable metadata, another kind or schema version, or a shard that is missing.
    """
    path = os.path.join(directory, METADATA_FILE)
    expected = f"{METADATA_FILE}, features.json, dataset_info.json and files like {shard_name('train', 0, 8)}"
    command = f"`python -m data_prep.convert human36m --source DIR --out {directory}`"
    if not os.path.isdir(directory):
        raise UserError(f"Data set folder '{directory}' does not exist (expected there: {expected}): write it with {command}.")
    if not os.path.isfile(path):
        raise UserError(
            f"'{directory}' has no {METADATA_FILE}, so it is not a data set or its conversion did not end (expected there: "
            f"{expected}): write it, or go on where it stopped, with {command}."
        )
    try:
        with open(path, encoding="utf-8") as file:
            metadata = json.load(file)
    except (ValueError, OSError) as error:
        raise UserError(f"'{path}' cannot be read as JSON ({error}): delete the folder and write it again with {command}.") from error
    _check_metadata(metadata, path, command)
    for split in metadata["splits"].values():
        for name in split["shards"]:
            if not os.path.isfile(os.path.join(directory, name)):
                raise UserError(
                    f"'{directory}' lacks '{name}', which its {METADATA_FILE} names: copy it again, or delete the folder and write it "
                    f"with {command}."
                )
    return metadata


def _check_metadata(metadata: Any, path: str, command: str) -> None:
    """Raises UserError unless this code can read the data set that `metadata` describes."""
    kind = metadata["kind"] if isinstance(metadata, dict) and "kind" in metadata else None
    if kind != KIND:
        raise UserError(f"'{path}' is of kind {kind!r} where {KIND!r} is needed: give a folder written with {command}.")
    version = metadata["schema_version"] if "schema_version" in metadata else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"'{path}' has schema version {version!r} and this code reads {SCHEMA_VERSION}: delete the folder and write it again with "
            f"{command}."
        )
    missing = [key for key in METADATA_KEYS if key not in metadata]
    if missing:
        raise UserError(f"'{path}' lacks the entries {', '.join(missing)}: delete the folder and write it again with {command}.")
