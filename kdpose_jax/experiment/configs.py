"""The config of a run: checked before anything starts, written beside what it made, compared when it goes on."""

import importlib
import inspect
import json
import math
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from kdpose_jax.errors import UserError
from kdpose_jax.files import write_atomically
from kdpose_jax.untrusted.documents import load_json

# What may differ when a run goes on: nothing that its numbers depend on.
MAY_CHANGE = (
    "platform", "eval.latency", "checkpoint.", "data.source", "data.records",
    ".train.log_every_steps", ".train.log_examples", ".train.patience_seconds", ".train.fsdp",
)  # fmt: skip
PLATFORMS = ("cpu", "gpu", "tpu")
# Lowest values of fields that teacher and student have.
LOWEST = (
    ("train", "batch", 1), ("train", "accumulate", 1), ("train", "log_every_steps", 1), ("train", "save_every_steps", 0),
    ("train", "evaluate_every_epochs", 0), ("train", "evaluate_examples", 0), ("train", "patience_seconds", 1),
    ("optim", "learning_rate", 0), ("optim", "weight_decay", 0), ("optim", "warmup_epochs", 0), ("optim", "clip_norm", 0),
)  # fmt: skip
CONFIG_FILE, DATA_FILE = "config.json", "data.json"
# What of a data set's metadata says that it is the same one, wherever it lies now.
DATA_IDENTITY = ("kind", "schema_version", "skeleton", "keypoints", "splits", "sources", "settings")
# What every stored config must have to be used by this version.
REQUIRED = (
    "task", "method", "teacher.method", "teacher.pretrained", "student.pretrained", "data.reader", "eval.protocol", "gradient_report",
)  # fmt: skip
# What distill.temperature.reversal was called before it was two numbers.
OLD_REVERSALS = {"reversed": [0.0, -1.0], "release": [1.0, 0.0]}
# What the modules that a config names must have.
NEEDED = {
    "data": ("KIND", "read", "open_training"),
    "evaluate": ("check_settings", "read", "open_protocol"),
    "methods": ("TASKS", "TITLE", "reads", "build"),
}


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries -> {"a.b.c": value}; lists become tuples, as JSON knows no tuples."""
    flat = {}
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
        case {"distill": {"temperature": {"reversal": str(name)} as temperature}} if name in OLD_REVERSALS:
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
    path = workdir / CONFIG_FILE
    if not path.exists():
        return
    changed = differences(upgraded(read_json(path)), as_dict(config))
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"'{workdir}' holds a run of another config ({'; '.join(changed[:3])}{more}): use another --workdir, or the "
            "config of that run."
        )


def holds_other_data(workdir: epath.Path, metadata: dict[str, Any]) -> bool:
    """Whether the run in a work directory was begun with other data."""
    path = workdir / DATA_FILE
    return path.exists() and read_json(path) != json.loads(json.dumps(data_identity(metadata)))


def data_identity(metadata: dict[str, Any]) -> dict[str, Any]:
    """What of a data set's metadata says that it is the same one."""
    return {name: metadata[name] for name in DATA_IDENTITY}


def claim(workdir: epath.Path, config: ConfigDict, metadata: dict[str, Any]) -> None:
    """Writes config and data identity into the work directory; done when all that can be checked was found right."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / DATA_FILE, data_identity(metadata))
    write_json(workdir / CONFIG_FILE, as_dict(config))


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
        raise UserError(f"'{path}' is damaged ({error}): use another --workdir, or delete that folder.") from error
    return found


def write_json(path: epath.Path, content: Any) -> None:
    """Writes a JSON file of a work directory whole or not at all."""
    write_atomically(path, json.dumps(content, indent=1).encode())


def check(config: ConfigDict) -> None:
    """Checks what can be checked without data: before the first device call.

    Raises:
      UserError: an unknown method or protocol, or a value out of its range.
    """
    check_values(config)
    if load("methods", config.teacher.method, "teacher.method").TITLE:
        raise UserError(f"teacher.method is '{config.teacher.method}', which has a teacher itself: use supervised.")
    for field, name in (("method", config.method), ("teacher.method", config.teacher.method)):
        tasks = load("methods", name, field).TASKS
        if config.task not in tasks:
            raise UserError(f"task is '{config.task}' and {field} '{name}' has {', '.join(sorted(tasks))}: change one.")
    check_protocol(config)
    load("data", config.data.reader, "data.reader")

def check_values(config: ConfigDict) -> None:
    """Checks the values that nothing need be imported for, which takes seconds.

    Raises:
      UserError: one is out of its range.
    """
    if config.platform not in ("", *PLATFORMS):
        raise UserError(f"platform is '{config.platform}': use one of {', '.join(PLATFORMS)}, or leave it empty for what is there.")
    for name in ("teacher", "student"):
        block = config[name].train
        if not 0 < block.epochs < math.inf:
            raise UserError(f"{name}.train.epochs is {block.epochs}: it must be greater than 0.")
        for part, field, lowest in LOWEST:
            if field in config[name][part] and not lowest <= config[name][part][field] < math.inf:  # older runs lack some
                raise UserError(f"{name}.{part}.{field} is {config[name][part][field]}: it must be at least {lowest}.")
        if not 0 <= block.ema_decay < 1:
            raise UserError(f"{name}.train.ema_decay is {block.ema_decay}: it must be at least 0 and below 1.")
    if config.seed < 0:
        raise UserError(f"seed is {config.seed}: it must be at least 0.")
    for field in ("batch", "latency_warmup", "latency_runs"):
        if config.eval[field] < 1:
            raise UserError(f"eval.{field} is {config.eval[field]}: it must be at least 1.")
    batches = config.eval.latency_batches
    if not batches or not all(type(batch) is int and batch >= 1 for batch in batches):
        raise UserError(f"eval.latency_batches is {batches}: name at least one number of examples per call, each at least 1.")


def check_protocol(config: ConfigDict) -> None:
    """Checks the protocol and that it takes the settings that the config has for it."""
    check_settings = load("evaluate", config.eval.protocol, "eval.protocol").check_settings
    wanted, given = set(inspect.signature(check_settings).parameters), set(config.eval.settings)
    if wanted != given:
        raise UserError(
            f"eval.protocol is '{config.eval.protocol}', whose settings are {', '.join(sorted(wanted))}, and eval.settings has "
            f"{', '.join(sorted(given))}: choose the config of that protocol."
        )
    check_settings(**config.eval.settings)


def load(room: str, name: str, field: str) -> Any:
    """The module that a config names, such as `methods.scjd.method`."""
    package = f"kdpose_jax.{room}.{name}" + (".method" if room == "methods" else "")
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not package.startswith(error.name):
            raise
        raise UserError(f"{field} is '{name}', and there is no kdpose_jax/{room}/{name}: check its spelling.") from None
    if not all(hasattr(module, needed) for needed in NEEDED[room]):
        raise UserError(f"{field} is '{name}', and kdpose_jax/{room}/{name} is no {field.split('.')[-1]}: check its spelling.")
    return module


def of_teacher(config: ConfigDict) -> ConfigDict:
    """The config of the teacher's own training: its block in the student's place, under its own method."""
    derived = ConfigDict(as_tuples(config.to_dict()))
    derived.method = config.teacher.method
    derived.student = ConfigDict(as_tuples(config.teacher.to_dict()))
    return derived


def of_baseline(config: ConfigDict) -> ConfigDict:
    """The config of the student without distillation: every weight of `distill.weights` zero."""
    derived = ConfigDict(as_tuples(config.to_dict()))
    for name in derived.distill.weights:
        derived.distill.weights[name] = 0.0
    return derived


def as_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of a config's dictionary without references to it."""
    return {name: as_tuples(value) if isinstance(value, dict) else value for name, value in values.items()}
