"""Configs on the disk.

Written beside what a run made, compared when it goes on, read again by later versions.
"""

import json
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import files
from kdpose_jax.errors import UserError
from kdpose_jax.folders import WorkFolder
from kdpose_jax.untrusted.documents import load_json

# What may differ when a run goes on: nothing that its numbers depend on.
MAY_CHANGE = (
    "platform", "eval.latency", "checkpoint.", "data.source", "data.records",
    ".train.log_every_steps", ".train.log_examples", ".train.patience_seconds", ".train.fsdp",
)  # fmt: skip
# What of a data set's metadata says that it is the same one, wherever it lies now.
DATA_IDENTITY = ("kind", "schema_version", "skeleton", "keypoints", "splits", "sources", "settings")
# What every stored config must have to be used by this version.
REQUIRED = (
    "task",
    "method",
    "teacher.method",
    "teacher.pretrained",
    "student.pretrained",
    "data.reader",
    "eval.protocol",
    "gradient_report",
)
# What distill.temperature.reversal was called before it was two numbers.
OLD_REVERSALS = {"reversed": [0.0, -1.0], "release": [1.0, 0.0]}


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries -> {"a.b.c": value}; lists become tuples, as JSON knows no tuples."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = tuple(value) if isinstance(value, list) else value
    return flat


def as_dict(config: ConfigDict) -> dict[str, Any]:
    """The resolved config as plain, JSON-ready values."""
    return json.loads(json.dumps(config.to_dict()))


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """The config that `as_dict` gave."""

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: tuples(entry) for name, entry in value.items()}
        return tuple(tuples(entry) for entry in value) if isinstance(value, list) else value

    return ConfigDict(tuples(values))


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """A stored config with this version's fields in place of older ones, or beside them."""
    new = json.loads(json.dumps(values))
    match new:
        case {"distill": {"temperature": {"reversal": str(name)} as temperature}} if (
            name in OLD_REVERSALS
        ):
            temperature["reversal"] = OLD_REVERSALS[name]
    for stage in ("teacher", "student"):
        match new:
            case dict() if stage in new:
                match new[stage]:
                    case {"network": {"name": "videopose3d"} as network}:
                        network.setdefault("dense_kernels", False)
    return new


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Keys whose values differ, those in `MAY_CHANGE` left out, as "key: 1 became 2"."""
    one, two = flatten(first), flatten(second)
    keys = [key for key in sorted(one | two) if not any(part in key for part in MAY_CHANGE)]
    absent = "absent"
    return [
        f"{key}: {one[key] if key in one else absent} became {two[key] if key in two else absent}"
        for key in keys
        if (key in one) != (key in two) or (key in one and one[key] != two[key])
    ]


def refuse_other_run(workdir: epath.Path, config: ConfigDict) -> None:
    """Checks that a work directory, if it holds a run, holds one of this config.

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
            f"another --workdir, or the "
            "config of that run."
        )


def without_unused(stored: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """A stored config without options that this version lacks and the run had switched off."""
    known = flatten(wanted)
    return {
        name: value
        for name, value in flatten(stored).items()
        if name in known or value not in (False, 0)
    }


def holds_other_data(workdir: epath.Path, metadata: dict[str, Any]) -> bool:
    """Whether the run in a work directory was begun with other data."""
    path = WorkFolder(workdir).data_identity
    return path.exists() and read_json(path) != json.loads(json.dumps(data_identity(metadata)))


def data_identity(metadata: dict[str, Any]) -> dict[str, Any]:
    """What of a data set's metadata says that it is the same one."""
    return {name: metadata[name] for name in DATA_IDENTITY}


def claim(workdir: epath.Path, config: ConfigDict, metadata: dict[str, Any]) -> None:
    """Writes config and data identity into the work directory.

    Done when all that can be checked was found right.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    folder = WorkFolder(workdir)
    files.write_json(folder.data_identity, data_identity(metadata))
    files.write_json(folder.config, as_dict(config))


def read_json(path: epath.Path) -> dict[str, Any]:
    """A JSON file of a work directory, all of which hold an object.

    Raises:
      UserError: it is damaged: not JSON, not an object, or with numbers that JSON does not have.
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
    """A copy in which every weight of `distill.weights` is zero: the student's baseline."""
    derived = copy_of(config)
    for name in derived.distill.weights:
        derived.distill.weights[name] = 0.0
    return derived


def copy_of(config: ConfigDict) -> ConfigDict:
    """An unlocked deep copy, without the references that a config file may hold."""
    return ConfigDict(plain(config.to_dict()))


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of a config's dictionary without references to it."""
    return {
        name: plain(value) if isinstance(value, dict) else value for name, value in values.items()
    }
