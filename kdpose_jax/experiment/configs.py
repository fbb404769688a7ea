"""Stores configs, compares them and reads those of older versions.

A config is written beside the results of its run. It is compared when the run is resumed.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import files
from kdpose_jax.errors import UserError
from kdpose_jax.folders import WorkFolder
from kdpose_jax.untrusted.documents import load_json

# Fields that may differ when a run is resumed. The run's numbers do not depend on them.
MAY_CHANGE = (
    "platform", "eval.latency", "checkpoint.", "data.source", "data.records",
    ".train.log_every_steps", ".train.log_examples", ".train.patience_seconds", ".train.fsdp",
    ".network.remat", ".network.scan",
)  # fmt: skip
# Fields that hold checkpoints, whose path may end in "latest", and all fields that hold paths. Not
# every method has all of them.
CHECKPOINT_PATHS = ("teacher.checkpoint", "distill.further_teachers")
PATHS = (
    *CHECKPOINT_PATHS,
    "teacher.pretrained",
    "student.pretrained",
    "data.records",
    "data.source",
    "distill.poses_folder",
)
# Metadata entries that identify a data set, wherever its files lie.
DATA_IDENTITY = ("kind", "schema_version", "skeleton", "keypoints", "splits", "sources", "settings")
# Fields without which this version cannot use a stored config.
REQUIRED = (
    "task",
    "method",
    "teacher.method",
    "teacher.pretrained",
    "student.pretrained",
    "data.reader",
    "data.selection",
    "eval.protocol",
    "gradient_report",
)
# Names of distill.temperature.reversal in versions where it was not yet two numbers.
OLD_REVERSALS = {"reversed": [0.0, -1.0], "release": [1.0, 0.0]}


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Turns nested dictionaries into {"a.b.c": value}, and lists, as JSON has them, into tuples."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = tuple(value) if isinstance(value, list) else value
    return flat


def as_dict(config: ConfigDict) -> dict[str, Any]:
    """Turns the resolved config into plain values that JSON can store."""
    return json.loads(json.dumps(config.to_dict()))


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """Turns the result of `as_dict` back into a config."""

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: tuples(entry) for name, entry in value.items()}
        return tuple(tuples(entry) for entry in value) if isinstance(value, list) else value

    return ConfigDict(tuples(values))


def change_paths(
    config: ConfigDict | dict[str, Any],
    change: Callable[[str], str],
    fields: Sequence[str] = PATHS,
) -> None:
    """Changes the paths in a config, in place.

    Args:
      config: the config, or the result of `as_dict`.
      change: makes the new path of an old one, which may be empty.
      fields: some of `PATHS`. A field may be absent. One that holds several paths drops those that
        become empty.
    """
    for field in fields:
        block, name = field.split(".")
        if name not in config[block]:
            continue
        value = config[block][name]
        if isinstance(value, tuple | list):
            config[block][name] = type(value)(filter(None, map(change, value)))
        else:
            config[block][name] = change(value)


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Replaces fields of older versions in a stored config, and adds new ones."""
    new = json.loads(json.dumps(values))
    match new:
        case {"distill": {"temperature": {"reversal": str(name)} as temperature}} if (
            name in OLD_REVERSALS
        ):
            temperature["reversal"] = OLD_REVERSALS[name]
    match new:
        case {"data": {"train_split": _, "test_split": _} as data}:
            # All training subjects were in one split, and the test split chose checkpoints.
            del data["train_split"], data["test_split"]
            data["selection"] = "published"
    for stage in ("teacher", "student"):
        match new:
            case dict() if stage in new:
                match new[stage]:
                    case {"network": {"name": "videopose3d"} as network}:
                        network.setdefault("dense_kernels", False)
                        network.setdefault("predicted_frames", 1)
                    case {"network": {"name": "poseformer_v2"} as network}:
                        network.setdefault("predicted_frames", 1)
                    case {"network": {"name": "mixste" | "mixste_hot"} as network}:
                        network.setdefault("scan", False)
                match new[stage]:
                    case {"train": dict() as train}:
                        train.setdefault("batch_statistics", "global")
    return new


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Lists the keys whose values differ, as "key: 1 became 2". Skips those in `MAY_CHANGE`."""
    one, two = flatten(first), flatten(second)
    keys = [key for key in sorted(one | two) if not any(part in key for part in MAY_CHANGE)]
    absent = "absent"
    return [
        f"{key}: {one[key] if key in one else absent} became {two[key] if key in two else absent}"
        for key in keys
        if (key in one) != (key in two) or (key in one and one[key] != two[key])
    ]


def refuse_other_run(workdir: epath.Path, config: ConfigDict) -> None:
    """Refuses a work directory that holds a run of another config.

    Raises:
      UserError: the directory belongs to another config.
    """
    path = WorkFolder(workdir).config
    if not path.exists():
        return
    stored, wanted = upgraded(read_json(path)), as_dict(config)
    changed = differences(without_unused(stored, wanted), wanted)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"'{workdir}' holds a run of another config ({'; '.join(changed[:3])}{more}): use "
            "another --workdir, or the config of that run."
        )


def without_unused(stored: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Drops options that this version lacks and that the stored run had switched off."""
    known = flatten(wanted)
    return {
        name: value
        for name, value in flatten(stored).items()
        if name in known or value not in (False, 0)
    }


def holds_other_data(workdir: epath.Path, metadata: dict[str, Any]) -> bool:
    """Returns whether the run in a work directory was begun with other data."""
    path = WorkFolder(workdir).data_identity
    return path.exists() and read_json(path) != json.loads(json.dumps(data_identity(metadata)))


def data_identity(metadata: dict[str, Any]) -> dict[str, Any]:
    """Picks the metadata entries that identify a data set."""
    return {name: metadata[name] for name in DATA_IDENTITY}


def data_checksum(metadata: dict[str, Any]) -> str:
    """Returns the sha256 of what identifies a data set, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(data_identity(metadata), sort_keys=True).encode()).hexdigest()


def claim(workdir: epath.Path, config: ConfigDict, metadata: dict[str, Any]) -> None:
    """Writes config and data identity into the work directory.

    Call it only after all checks have passed: it marks the directory as this run's.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    folder = WorkFolder(workdir)
    files.write_json(folder.data_identity, data_identity(metadata))
    files.write_json(folder.config, as_dict(config))


def read_json(path: epath.Path) -> dict[str, Any]:
    """Reads a JSON file of a work directory, which must hold an object.

    Raises:
      UserError: the file is not JSON, does not hold an object, or has NaN or infinity.
    """
    try:
        found = load_json(path)
        if not isinstance(found, dict):
            raise ValueError("it does not hold an object")
        json.dumps(found, allow_nan=False)
    except ValueError as error:
        raise UserError(
            f"'{path}' is damaged ({error}): use another --workdir, or delete that folder."
        ) from error
    return found


def without_distillation(config: ConfigDict) -> ConfigDict:
    """Copies a config with every weight of `distill.weights` at zero: the student's baseline."""
    derived = copy_of(config)
    for name in derived.distill.weights:
        derived.distill.weights[name] = 0.0
    return derived


def copy_of(config: ConfigDict) -> ConfigDict:
    """Makes an unlocked deep copy, without the references that a config file may hold."""
    return ConfigDict(plain(config.to_dict()))


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Makes a deep copy of a config's nested dictionaries."""
    return {
        name: plain(value) if isinstance(value, dict) else value for name, value in values.items()
    }
