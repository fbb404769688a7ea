"""Reads launch.py's command line, and explains mistakes in it.

It needs only the words and the config. A mistake is therefore told before the slow imports.
"""

import ast
import difflib
import importlib.machinery
import math
import os
import re
import types
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from kdpose_jax import files, presets
from kdpose_jax.errors import UserError

_CONFIG = re.compile(r"--?config(?:=(.*))?", re.DOTALL)
_FIELD = re.compile(r"--?(no)?config\.([^=]*)(?:=(.*))?", re.DOTALL)
_BOOLEANS = ("true", "false", "t", "f", "1", "0", "yes", "no", "y", "n")  # absl's
# Type of a field's default -> what the field takes, in words.
_KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a tuple",
}


def with_config(words: Sequence[str]) -> tuple[list[str], str]:
    """Finds the config that the command line names, and fills in `~` in its path.

    Returns:
      The command line, and FILE[:PRESET,...] or "" if no config is named.

    Raises:
      UserError: two configs are named, no name follows `--config`, or there is no such file.
    """
    found, named = list(words), []
    for index, word in enumerate(words):
        match = _CONFIG.fullmatch(word)
        if index == 0 or match is None:
            continue
        if match[1] is None:
            if index + 1 == len(words) or words[index + 1].startswith("-"):
                raise UserError("--config names no file: write, for example, --config scjd.")
            found[index + 1] = presets.resolve(files.home_filled_in(words[index + 1]))
            named.append(found[index + 1])
        else:
            path = presets.resolve(files.home_filled_in(match[1]))
            found[index] = f"--config={path}"
            named += [path] if path else []
    if len(named) > 1:
        raise UserError(
            f"--config stands twice ('{named[0]}' and '{named[1]}'): name one experiment for each "
            f"command."
        )
    if named:
        _require_file(named[0].partition(":")[0])
    return found, named[0] if named else ""


def _require_file(path: str) -> None:
    """Raises UserError unless there is a config file of this name."""
    if os.path.isfile(path):
        return
    known = {os.path.join("configs", f"{name}.py"): name for name in presets.names()}
    here, elsewhere = os.getcwd(), os.path.normpath(path) in known
    if os.path.isdir(path):
        said = f"'{path}' is a folder and not a config file"
    else:
        said = (
            f"There is no config file '{path}' in '{here}'"
            if not os.path.isabs(path)
            else f"There is no config file '{path}'"
        )
    if elsewhere:
        remedy = f"write --config {known[os.path.normpath(path)]}, which works in every folder"
    elif near := difflib.get_close_matches(path, [*known, *known.values()], 1, 0.7):
        remedy = f"did you mean --config {near[0]}?"
    else:
        remedy = f"use one of {', '.join(known.values())}, or the path of your own"
    raise UserError(f"{said}: {remedy}{'' if remedy.endswith('?') else '.'}")


def load(text: str) -> ConfigDict:
    """Loads the config of FILE[:PRESET,...], without the fields that the command line sets.

    Raises:
      UserError: the file is not a config, or it refuses the preset.
    """
    path, _, preset = text.partition(":")
    loader = importlib.machinery.SourceFileLoader("config_of_the_command_line", path)
    module = types.ModuleType(loader.name)
    try:
        loader.exec_module(module)
        config = module.get_config(preset) if ":" in text else module.get_config()
    except UserError:
        raise
    except Exception as error:  # a user's file may raise anything
        lines = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {' '.join(lines[-1].split())}"
        if isinstance(error, AttributeError) and not hasattr(module, "get_config"):
            reason = "it has no function get_config"
        raise UserError(
            f"'{path}' cannot be used as a config ({reason}): see configs/scjd.py for what one "
            f"looks like."
        ) from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"'{path}' cannot be used as a config (get_config returns {config!r:.40}): see "
            f"configs/scjd.py."
        )
    return config


def fields(words: Sequence[str]) -> Iterator[tuple[str, str, str | None]]:
    """Finds each word that sets a field: (word, dotted name, value).

    The value is None if the word is `--noconfig.NAME` or no value follows.
    """
    for index, word in enumerate(words):
        match = _FIELD.fullmatch(word)
        if index == 0 or match is None:
            continue
        value = match[3]
        if (
            value is None
            and not match[1]
            and index + 1 < len(words)
            and not words[index + 1].startswith("-")
        ):
            value = words[index + 1]
        yield word.partition("=")[0], match[2], value


def check_words(words: Sequence[str], config: ConfigDict | None, flags: Sequence[str]) -> None:
    """Checks that every word fits the config.

    Args:
      words: the command line.
      config: the config from its file; None if no config is named.
      flags: names of the flags that are not fields.

    Raises:
      UserError: the config lacks a field, a value has another type, or a flag does not exist.
    """
    place = next(
        (index for index, word in enumerate(words) if index and _CONFIG.fullmatch(word)), 0
    )
    for word, _, _ in fields(words[:place]):
        raise UserError(
            f"{word} stands before --config, whose fields are not known there: write --config "
            f"FILE first."
        )
    for word, name, value in fields(words):
        if config is None:
            raise UserError(
                f"{word} sets a field of a config, and no config is named: write --config FILE "
                f"before it."
            )
        default = _leaf(word, name, config)
        kind = type(default)
        if value is None and kind is not bool:
            raise UserError(
                f"{word} has no value: write --config.{name}=VALUE, where the value is "
                f"{_KINDS[kind]}."
            )
        if value is not None and not _fits(default, value):
            example = f", such as {default}" if kind in (int, float, tuple) else ""
            raise UserError(
                f"{word} is '{value}', and this field takes {_KINDS[kind]}{example}: write "
                f"--config.{name}=VALUE."
            )
    for index, word in enumerate(words):
        name = word.lstrip("-").partition("=")[0]
        if (
            index
            and word.startswith("-")
            and config is not None
            and name
            and name not in flags
            and name.split(".")[0] in config
        ):
            raise UserError(
                f"'{word}' is not a flag: write --config.{word.lstrip('-')} for a field of the "
                f"config."
            )


def _leaf(word: str, name: str, config: ConfigDict) -> Any:
    """Returns the config's value for a dotted name.

    Raises:
      UserError: there is no such field, or the name stands for a block.
    """
    block: Any = config
    parts = name.split(".")
    for depth, part in enumerate(parts):
        place = f"'{'.'.join(parts[:depth])}'" if depth else "the config"
        if not isinstance(block, ConfigDict):
            raise UserError(
                f"{word}: {place} is one value and has no fields: write "
                f"--config.{'.'.join(parts[:depth])}=VALUE."
            )
        if part not in block:
            near = difflib.get_close_matches(part, list(block), 1, 0.6)
            if near:
                meant = ".".join([*parts[:depth], near[0], *parts[depth + 1 :]])
                raise UserError(
                    f"{word}: {place} has no field '{part}': did you mean --config.{meant}?"
                )
            known = ", ".join(sorted(block)) or "none here"
            raise UserError(f"{word}: {place} has no field '{part}': its fields are {known}.")
        block = block[part]
    if isinstance(block, ConfigDict):
        inside = (
            ", ".join(f"--config.{name}.{field}" for field in sorted(block))
            or "there are none here"
        )
        raise UserError(
            f"{word} is a block of fields and takes no value itself: set its fields ({inside})."
        )
    return block


def _fits(default: Any, value: str) -> bool:
    """Returns whether a value's text can be read with the type of the field's default.

    The entries of a tuple must have the type of the default's first entry.
    """
    kind = type(default)
    try:
        if kind is bool:
            return value.lower() in _BOOLEANS
        if kind is tuple:
            read = ast.literal_eval(value)
            entries = read if isinstance(read, tuple | list) else (read,)
            wanted: dict[type, type | tuple[type, ...]]
            wanted = {int: int, float: (int, float), str: str}
            return not default or all(
                isinstance(entry, wanted.get(type(default[0]), object)) for entry in entries
            )
        if kind in (int, float):
            kind(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False
    return True


def check_numbers(config: ConfigDict) -> None:
    """Checks that every number of a config is finite. NaN and infinity pass every parser.

    Raises:
      UserError: a number is not finite.
    """

    def walk(value: Any, place: str) -> None:
        if isinstance(value, ConfigDict):
            for name, entry in value.items():
                walk(entry, f"{place}.{name}")
        elif isinstance(value, tuple | list):
            for entry in value:
                walk(entry, place)
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(
                f"--config{place} is {value}, which is not a finite number: give a number."
            )

    walk(config, "")
