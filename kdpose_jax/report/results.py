"""Writes and reads results.json, and reads metrics.jsonl."""

import importlib.metadata
import json
import math
import operator
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

import kdpose_jax
from kdpose_jax.contracts import RATE
from kdpose_jax.errors import UserError
from kdpose_jax.files import write_atomically
from kdpose_jax.untrusted.documents import load_json, parse_json

SCHEMA_VERSION = 1
# Keys of a network's cost -> headers of tables.
COSTS = {
    "parameters": "parameters",
    "macs_linear_per_output": "MACs/{unit}, linear",
    "macs_total_per_output": "with attention",
}

# Splits that are scored during training, as in the keys of metrics.jsonl, and their titles.
CHOSEN_ON = {"val": "validation", "test": "test"}

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def fingerprint(precision: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Collects what a number depends on beside the config: code, versions, devices, precision.

    Args:
      precision: compute type of the run, for example "bfloat16".
      extra: further entries (teacher, data, the config).

    Returns:
      A plain dictionary. `commit` is None if the code is not a git checkout.
    """
    devices = jax.devices()
    commit, changed = _git_state()
    return {
        "version": kdpose_jax.__version__,
        "commit": commit,
        "uncommitted_changes": changed,
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in _LIBRARIES},
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "host_cores": host_cores(),
        "process_count": jax.process_count(),
        "precision": precision,
        # jax gives its config this attribute when it is imported, which the stubs do not have.
        "matmul_precision": jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        or "default",
        **extra,
    }


def host_cores() -> int:
    """Counts the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_state() -> tuple[str | None, bool | None]:
    """Returns (commit, whether tracked files differ from it).

    It is (None, None) if git does not track this package. A checkout that merely surrounds the
    installed package says nothing about it.
    """
    package = os.path.dirname(kdpose_jax.__file__)
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        changed = bool(_git(package, "status", "--porcelain", "--untracked-files=no"))
        return _git(package, "rev-parse", "HEAD"), changed
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(root: str, *arguments: str) -> str:
    completed = subprocess.run(
        ["git", "-C", root, *arguments], check=True, capture_output=True, text=True, timeout=30
    )
    return completed.stdout.strip()


def write_results(
    path: epath.PathLike, networks: Mapping[str, Mapping[str, Any]], origin: Mapping[str, Any]
) -> None:
    """Writes results.json completely or not at all.

    Args:
      path: the file; its folder exists. May be on a bucket.
      networks: name -> its record (scores, cost, ...): dictionaries, lists, numbers, texts, numpy
        values. NaN and infinity, which JSON lacks, become null.
      origin: the fingerprint.

    Raises:
      UserError: the file cannot be written (full disk, no permission). An older file then stays as
        it was.
    """
    document = {"schema_version": SCHEMA_VERSION, "fingerprint": origin, "networks": networks}
    text = json.dumps(plain(document), indent=2, allow_nan=False) + "\n"
    # Lists of numbers go into one line each. A line break in JSON is never inside a text.
    text = re.sub(r"\[\n[^\[\]{}\"]*\]", lambda found: _in_one_line(found.group()), text)
    write_atomically(path, text.encode())


def _in_one_line(numbers: str) -> str:
    return f"[{' '.join(numbers.strip('[]').split())}]"


def largest_call(cost: Mapping[str, Any]) -> int:
    """Returns the number of examples in the largest timed call."""
    return max(int(key.removeprefix(RATE)) for key in cost if key.startswith(RATE))


def read_results(path: epath.PathLike) -> dict[str, Any]:
    """Reads a results.json.

    Returns:
      {"schema_version", "fingerprint", "networks"}, as written.

    Raises:
      UserError: there is no such file, it is not JSON, or it has another schema version.
    """
    path = epath.Path(path)
    try:
        document = load_json(path)
    except FileNotFoundError:
        raise UserError(f"There is no {path}: run the evaluation (--mode eval) first.") from None
    except ValueError as error:
        raise UserError(
            f"{path} is not valid JSON ({error}): delete it and run the evaluation again."
        ) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION or not {"fingerprint", "networks"} <= document.keys():
        raise UserError(
            f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}: run the "
            f"evaluation again."
        )
    document = plain(document)  # other writers may have NaN and infinity
    origin, networks = document["fingerprint"], document["networks"]
    blocks = [origin, *networks.values()] if isinstance(networks, dict) else [None]
    if not all(isinstance(block, dict) for block in blocks):
        raise UserError(
            f"{path} is damaged (its fingerprint or a network is not an object): delete it and run "
            "the evaluation again."
        )
    return document


def read_metrics(path: epath.PathLike) -> list[dict[str, Any]]:
    """Reads a metrics.jsonl, which a killed or resumed run may have written.

    Returns:
      The records in order of "step". Of two records of one step with the same keys, the later one
      counts: a resumed run repeated the step.

    Raises:
      UserError: there is no such file, or a line before the last one is damaged.
    """
    path = epath.Path(path)
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise UserError(f"There is no {path}: train first, or name the folder of a run.") from None
    records = {}
    for number, line in enumerate(lines, 1):
        try:
            record = parse_json(line)
            values = dict(record).values()
            if not all(value is None or isinstance(value, int | float) for value in values):
                raise ValueError("a value that is not a number")
            records[operator.index(record["step"]), frozenset(record)] = record
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # the run was killed while it wrote this line
                break
            raise UserError(
                f"{path}, line {number}, is not a record with a step: delete that line."
            ) from None
    return sorted(records.values(), key=lambda record: record["step"])


def plain(value: Any) -> Any:
    """Turns NumPy values and tuples into values that JSON knows. NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
