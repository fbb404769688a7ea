"""Describes the records on disk, for `data_prep`, which writes them, and for the readers.

The module is light to import: TensorFlow is imported only where it is needed.
"""

import dataclasses
import os
from typing import Any

from etils import epath

from kdpose_jax import presets
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import SKELETONS
from kdpose_jax.untrusted.documents import load_json

SCHEMA_VERSION = 1
# Examples that are taken out of training, and choose checkpoints. Not all records have them.
VAL_SPLIT = "val"
SPLITS = ("train", VAL_SPLIT, "test")
# The persons of the test photographs according to a detector, where its file was converted too.
DETECTIONS_SPLIT = "test_detections"
METADATA_FILE = "metadata.json"
NAMED_SUBJECTS = 8  # of a split, in a sentence
# TFDS's template for shards, so that `tfds.builder_from_directory` can open the folder.
FILENAME_TEMPLATE = "{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
METADATA_KEYS = (
    "kind",
    "schema_version",
    "skeleton",
    "keypoints",
    "generated",
    "splits",
    "sources",
    "settings",
    "left_out",
)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of records.

    Attributes:
      name: its name in the metadata.
      unit: what the size of a split is counted in, "frames" or "persons".
      contents: what the records show, for titles.
      keys: entries of its metadata beside METADATA_KEYS.
      converter: a converter that writes this kind, for commands in messages.
    """

    name: str
    unit: str
    contents: str
    keys: tuple[str, ...]
    converter: str


SEQUENCES = Kind("pose_sequences", "frames", "motion", ("fps",), "human36m")
PERSONS = Kind("person_images", "persons", "pictures", ("notes", "files", "unseen"), "mpii")
KINDS = {kind.name: kind for kind in (SEQUENCES, PERSONS)}


def load_tensorflow() -> Any:
    """Loads TensorFlow, which only reads and writes files here, without the devices of JAX.

    It takes seconds, so that it is called where the first file is read or written.

    Returns:
      The module `tensorflow`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # unused, and TensorFlow prints about it
    given = os.environ["TF_USE_LEGACY_KERAS"] if "TF_USE_LEGACY_KERAS" in os.environ else None
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # otherwise it loads Keras too, which takes seconds
    try:
        import tensorflow as tf
    finally:  # `tf.keras` reads it again, if another part of the process wants Keras
        del os.environ["TF_USE_LEGACY_KERAS"]
        if given is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = given
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf


def sequence_features(num_joints: int) -> Any:
    """Describes a record of one camera's view of one take, as a TFDS `FeaturesDict`.

    Args:
      num_joints: number J of joints in the skeleton.

    Returns:
      - subject, action (the group that scores are averaged over), take: text;
      - camera: index;
      - fps: frames per second;
      - width, height: pixels;
      - keypoints_2d: `[F, J, 2]` float32, pixels;
      - pose_3d: `[F, J, 3]` float32, metres, camera coordinates, the root not subtracted;
      - frame_mask: `[F]`, true for frames that count in evaluation.
    """
    features, tensor = _feature_kinds()
    import numpy as np

    return features.FeaturesDict(
        {
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
        }
    )


def person_features(num_joints: int) -> Any:
    """Describes a record of one person in a photograph, as a TFDS `FeaturesDict`.

    Pixels count from 0 at the centre of the photograph's first pixel.

    Args:
      num_joints: number J of joints in the skeleton.

    Returns:
      - file: name of the photograph;
      - image_id: number of the photograph;
      - person_id: id of the annotation (COCO), or index in the list (MPII) or file (detections);
      - image: the region as JPEG or PNG, uint8 bytes;
      - region: `[4]`, x, y, width and height inside the photograph, pixels;
      - photograph: `[2]`, width and height, pixels;
      - center: `[2]`, pixels;
      - scale: `[2]`, units of 200 pixels, with the padding of 1.25;
      - joints: `[J, 2]`, pixels, 0 where not labelled;
      - visible: `[J]`;
      - score: score of the box, 1 for annotated boxes;
      - area: area of the segment, square pixels, 0 for none;
      - head_size: 0.6 of the head box's diagonal, pixels, 0 for none.
    """
    features, tensor = _feature_kinds()
    import numpy as np

    return features.FeaturesDict(
        {
            "file": features.Text(),
            "image_id": features.Scalar(np.int64),
            "person_id": features.Scalar(np.int64),
            "image": tensor((None,), np.uint8),
            "region": tensor((4,), np.int32),
            "photograph": tensor((2,), np.int32),
            "center": tensor((2,), np.float32),
            "scale": tensor((2,), np.float32),
            "joints": tensor((num_joints, 2), np.float32),
            "visible": tensor((num_joints,), np.bool_),
            "score": features.Scalar(np.float32),
            "area": features.Scalar(np.float32),
            "head_size": features.Scalar(np.float32),
        }
    )


def features_of(kind: str, num_joints: int) -> Any:
    """Describes a record of the kind with this name."""
    return {SEQUENCES.name: sequence_features, PERSONS.name: person_features}[kind](num_joints)


def _feature_kinds() -> tuple[Any, Any]:
    """Returns TFDS's module of features, and a function that makes array features of raw bytes.

    Bytes are parsed in one copy; a list of numbers would cost a call for each of them.
    """
    load_tensorflow()
    from tensorflow_datasets import features

    def tensor(shape, dtype):
        return features.Tensor(shape=shape, dtype=dtype, encoding=features.Encoding.BYTES)

    return features, tensor


def shard_name(split: str, index: int, count: int) -> str:
    """Returns the file name of a shard, such as `train.tfrecord-00000-of-00008`."""
    return f"{split}.tfrecord-{index:05d}-of-{count:05d}"


def read_metadata(directory: epath.PathLike, kind: Kind) -> dict[str, Any]:
    """Reads and checks the metadata of a converted data set.

    Args:
      directory: folder written by `data_prep.convert`.
      kind: the kind of records that is needed.

    Returns:
      The content of `metadata.json`. Every kind has
      - kind, schema_version, skeleton, keypoints, generated, settings, left_out;
      - splits: {name: {records, frames (sequences only), shards {file name: records},
        sha256 {file name: checksum}}}, for the names in `SPLITS` that there are. They also say
        what a split holds: subjects (sequences), or a rule in words (persons). Older records
        do not, and have no split `val`;
      - sources: {file name: sha256}.
      Sequences also have
      - fps;
      - notes, if there are any: what the conversion changed and what does not fit;
      - activities, if the set labels its test frames: {subject: [[label, frames in a row], ...]}.
      Persons also have
      - notes: what the conversion changed;
      - files: {file name: sha256} of files beside the shards;
      - unseen: {split: {persons, joints}}, how many persons have no record, as their box is outside
        the photograph, and how often each joint `[J]` is labelled on them.

    Raises:
      UserError: the folder or a file is missing, the metadata cannot be read, or they are of
        another kind or schema version.
    """
    folder = epath.Path(directory)
    path = folder / METADATA_FILE
    shards = shard_name("train", 0, 8)
    expected = f"{METADATA_FILE}, features.json, dataset_info.json and files like {shards}"
    start = presets.converter_command()
    command = f"`{start} {kind.converter} --source DIR --out {directory}`"
    if not folder.is_dir():
        raise UserError(
            f"Data set folder '{directory}' does not exist (expected there: {expected}): write it "
            f"with {command}."
        )
    if not path.is_file():
        raise UserError(
            f"'{directory}' has no {METADATA_FILE}, so it is not a data set or its conversion did "
            f"not end (expected there: {expected}): write it, or go on where it stopped, with "
            f"{command}."
        )
    try:
        metadata = load_json(path)
    except (ValueError, OSError) as error:
        raise UserError(
            f"'{path}' cannot be read as JSON ({error}): delete the folder and write it again with "
            f"{command}."
        ) from error
    _check_metadata(metadata, kind, path, command)
    present = {entry.name for entry in folder.iterdir()}
    for name in _file_names(metadata):
        if name not in present:
            raise UserError(
                f"'{directory}' lacks '{name}', which its {METADATA_FILE} names: copy it again, or "
                f"delete the folder and write it with {command}."
            )
    return metadata


def contents_of(split: dict[str, Any]) -> str:
    """Says in words which subjects or photographs a split has; "" if older metadata do not say.

    Args:
      split: an entry of `splits` in the metadata.
    """
    if "rule" in split:
        return split["rule"]
    if "subjects" not in split:
        return ""
    subjects = split["subjects"]
    shown = ", ".join(subjects[:NAMED_SUBJECTS])
    more = f" and {len(subjects) - NAMED_SUBJECTS} more" if len(subjects) > NAMED_SUBJECTS else ""
    return f"subject{'s' if len(subjects) > 1 else ''} {shown}{more}"


def require_splits(
    records: epath.PathLike, metadata: dict[str, Any], splits: tuple[str, ...]
) -> None:
    """Refuses records that lack one of some splits.

    Raises:
      UserError: a split is not there.
    """
    for split in splits:
        if split not in metadata["splits"]:
            there = sorted(metadata["splits"])
            raise UserError(f"'{records}' has no split '{split}' but {there}: name one of these.")


def _file_names(metadata: dict[str, Any]) -> list[str]:
    """Lists the names of all shards and of the files beside them."""
    shards = [name for split in metadata["splits"].values() for name in split["shards"]]
    return shards + list(metadata["files"] if "files" in metadata else ())


def _check_metadata(metadata: Any, kind: Kind, path: epath.Path, command: str) -> None:
    """Raises UserError unless this code can read the data set that `metadata` describes."""
    stored = metadata["kind"] if isinstance(metadata, dict) and "kind" in metadata else None
    if stored != kind.name:
        raise UserError(
            f"'{path}' is of kind {stored!r} where {kind.name!r} is needed: give a folder written "
            f"with {command}."
        )
    version = metadata["schema_version"] if "schema_version" in metadata else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"'{path}' has schema version {version!r} and this code reads {SCHEMA_VERSION}: delete "
            f"the folder and write it again with {command}."
        )
    missing = [key for key in METADATA_KEYS + kind.keys if key not in metadata]
    if missing:
        raise UserError(
            f"'{path}' lacks the entries {', '.join(missing)}: delete the folder and write it "
            f"again with {command}."
        )
    wrong = _wrong_entry(metadata, kind)
    if wrong:
        raise UserError(
            f"'{path}' has entries '{wrong}' that are not as they were written: write the folder "
            f"again with {command}."
        )


def _wrong_entry(metadata: dict[str, Any], kind: Kind) -> str:
    """Names the first entry that has another type than the writer gives it; "" for none."""
    if metadata["skeleton"] not in tuple(SKELETONS):
        return "skeleton"
    types = {
        "keypoints": str,
        "generated": bool,
        "sources": dict,
        "settings": dict,
        "left_out": list,
        "notes": list,
        "files": dict,
    }
    for key, value in metadata.items():
        if key in types and not isinstance(value, types[key]):
            return key
        if key in ("left_out", "notes") and not all(isinstance(line, str) for line in value):
            return key
    if "fps" in kind.keys and not isinstance(metadata["fps"], int | float):
        return "fps"
    if "activities" in metadata and not _are_activities(metadata["activities"]):
        return "activities"
    if not isinstance(metadata["splits"], dict) or not all(
        _is_split(split, kind) for split in metadata["splits"].values()
    ):
        return "splits"
    # Files may be beside the metadata and nowhere else.
    if any(os.path.basename(name) != name for name in _file_names(metadata)):
        return "shards or files"
    if kind is PERSONS:
        reach = metadata["settings"]["reach"] if "reach" in metadata["settings"] else None
        if not isinstance(reach, dict) or not all(
            name in reach and _is_reach(reach[name]) for name in metadata["splits"]
        ):
            return "settings.reach"
    return ""


def _are_activities(activities: Any) -> bool:
    if not isinstance(activities, dict) or not all(
        isinstance(runs, list) for runs in activities.values()
    ):
        return False
    pairs = [pair for runs in activities.values() for pair in runs]
    return all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(one) is int and 0 <= one < 2**31 for one in pair)
        for pair in pairs
    )


def _is_split(split: Any, kind: Kind) -> bool:
    counts = ("records", "frames") if kind is SEQUENCES else ("records",)
    if (
        not isinstance(split, dict)
        or not {*counts, "shards"} <= split.keys()
        or not isinstance(split["shards"], dict)
    ):
        return False
    subjects = split["subjects"] if "subjects" in split else []
    if not isinstance(subjects, list) or not all(isinstance(name, str) for name in subjects):
        return False
    if "rule" in split and not isinstance(split["rule"], str):
        return False
    return all(
        type(count) is int and 0 <= count < 2**63
        for count in (*(split[name] for name in counts), *split["shards"].values())
    )


def _is_reach(reach: Any) -> bool:
    kinds = {"scale_factor": int | float, "rotation_factor": int | float, "half_body": bool}
    return isinstance(reach, dict) and all(
        name in reach and isinstance(reach[name], kind) for name, kind in kinds.items()
    )
