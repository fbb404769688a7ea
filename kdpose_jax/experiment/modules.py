"""Imports the modules that a config names: readers, protocols and methods."""

import importlib
from typing import TYPE_CHECKING, Any

from kdpose_jax.errors import UserError

if TYPE_CHECKING:  # contracts need jax, which takes a second to import
    from kdpose_jax.contracts import MethodModule, ProtocolModule, Reader

# Room -> names that a module of that kind must have (`contracts`).
NEEDED = {
    "data": ("KIND", "read", "open_training"),
    "evaluate.protocols": ("check_settings", "read", "open_protocol"),
    "methods": ("TASKS", "TITLE", "reads", "build"),
}


def reader(name: str) -> "Reader":
    """Returns the reader that `data.reader` names.

    Raises:
      UserError: there is no such reader.
    """
    return _load("data", name, "data.reader")


def protocol(name: str) -> "ProtocolModule":
    """Returns the protocol that `eval.protocol` names.

    Raises:
      UserError: there is no such protocol.
    """
    return _load("evaluate.protocols", name, "eval.protocol")


def method(name: str, field: str) -> "MethodModule":
    """Returns a method's module.

    Args:
      name: names the method's folder.
      field: the config field that holds the name, `method` or `teacher.method`.

    Raises:
      UserError: there is no such method.
    """
    return _load("methods", name, field)


def _load(room: str, name: str, field: str) -> Any:
    package = f"kdpose_jax.{room}.{name}" + (".method" if room == "methods" else "")
    place = f"kdpose_jax/{room.replace('.', '/')}/{name}"
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not package.startswith(error.name):
            raise
        message = f"{field} is '{name}', and there is no {place}: check its spelling."
        raise UserError(message) from None
    if not all(hasattr(module, needed) for needed in NEEDED[room]):
        kind = field.split(".")[-1]
        raise UserError(f"{field} is '{name}', and {place} is not a {kind}: check its spelling.")
    return module
