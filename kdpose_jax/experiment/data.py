"""Finds the records of an experiment, or makes them from raw files or a generator."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import presets
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError, require
from kdpose_jax.experiment import configs, modules
from kdpose_jax.folders import WorkFolder

if TYPE_CHECKING:  # contracts need jax, which takes a second to import
    from kdpose_jax.contracts import Converters


def prepare_records(
    config: ConfigDict, workdir: epath.Path, converters: "Converters", show: Callable[[str], None]
) -> str:
    """Returns the folder of records that a run reads, after converting raw files if needed.

    Args:
      config: reads `data.records`, `data.source` and `data.converter`.
      workdir: its `data` folder takes the records if the config names no folder.
      converters: make records from raw files.
      show: prints one line.

    Raises:
      UserError: there is nothing to read, or the conversion failed.
    """
    if config.data.records and not config.data.source:
        return config.data.records
    name, settings = conversion(config, converters)
    out = config.data.records or str(WorkFolder(workdir).records)
    try:
        converters.prepare(name, out, show, **settings)
    except UserError as error:
        raise UserError(in_fields(str(error), name, config, converters)) from error
    return out


def check_source(config: ConfigDict, converters: "Converters") -> None:
    """Checks before any work that the data can be read, converted or generated.

    Raises:
      UserError: the folder is not there, the config names none, or a setting of the converter is
        out of its range.
    """
    if config.data.records and not config.data.source:
        return
    name, settings = conversion(config, converters)
    try:
        converters.check(name, settings)
    except UserError as error:
        raise UserError(in_fields(str(error), name, config, converters)) from error


def conversion(config: ConfigDict, converters: "Converters") -> tuple[str, dict[str, Any]]:
    """Returns the name of the converter that makes the records, and its settings.

    Raises:
      UserError: there is no such converter, or it needs raw files and the config names none.
    """
    data = config.data
    name = data.converter.name
    require("data.converter.name", name, converters.CONVERTERS)
    settings = {
        field: value for field, value in data.converter.settings.items() if value not in ("", ())
    }
    if converters.needs_source(name):
        if not data.source:
            raise UserError(
                f"'{config.name}' needs its raw files: give their folder with "
                "--config.data.source=DIR (expected there: "
                f"{converters.expected_files(name, settings)}; docs/data says where to get them), "
                f"or records written by `{presets.converter_command()} {name}` with "
                "--config.data.records=DIR."
            )
        settings["source"] = data.source
    return name, settings


def in_fields(sentence: str, name: str, config: ConfigDict, converters: "Converters") -> str:
    """Replaces a converter's options by config fields in an error sentence.

    Args:
      sentence: the converter's sentence. Text between backquotes is a command and stays as it is.
      name: name of the converter.
      config: the experiment's config. If it has no field for an option, the sentence says whose
        option that is.
      converters: know the options.

    Returns:
      The sentence for a user of launch.py.
    """
    named = {
        "source": "--config.data.source",
        "out": "--config.data.records" if config.data.records else "--workdir",
    }
    named |= {
        field: f"--config.data.converter.settings.{field}"
        for field in config.data.converter.settings
    }
    options, foreign = converters.options(name), []

    def field(match: re.Match[str]) -> str:
        option = match[0]
        if option not in options:
            return option
        action = options[option]
        if action.dest not in named:
            foreign.append(option)
            return option
        return named[action.dest] + ("=True" if action.nargs == 0 else "")

    parts = sentence.split("`")
    parts[::2] = [
        re.sub(r"(?<![^\s(,])--[a-z][a-z0-9-]*(?![\w-])", field, part) for part in parts[::2]
    ]
    said = "`".join(parts)
    if not foreign:
        return said
    command = f"{presets.converter_command()} {name}"
    which = f"{', '.join(dict.fromkeys(foreign))} belongs to `{command}`"
    return f"{said.removesuffix('.')} ({which}, whose records --config.data.records=DIR takes)."


def find_records(
    config: ConfigDict,
    checkpoint: str,
    home: epath.Path,
    workdir: epath.Path | None,
    converters: "Converters",
    show: Callable[[str], None],
) -> str:
    """Returns the folder of records to score a network on, making them again if it can.

    Args:
      config: reads `data`.
      checkpoint: the network's checkpoint, for error messages.
      home: the network's folder. Its parent is searched only if it is the network's run.
      workdir: its `data` folder takes new records. None: the run's or the network's folder does.
      converters: make records from raw files.
      show: prints one line.

    Raises:
      UserError: there is nothing to read, the run was trained on other records than those in its
        folder, or the conversion failed.
    """
    data, run = config.data, home.parent
    kept = kept_records(config, home)
    if kept:
        return kept
    if data.records and not data.source:
        raise UserError(
            f"The records of '{checkpoint}' are not in '{data.records}': name their folder with "
            "--records DIR."
        )
    if data.source and not epath.Path(data.source).is_dir():
        raise UserError(
            f"The records of '{checkpoint}' were made from '{data.source}', which is not a folder "
            "now: name the folder of such records with --records DIR."
        )
    own = not data.records and is_run_of(run, config)
    place = workdir if workdir is not None else run if own else home
    return prepare_records(config, place, converters, show)


def kept_records(config: ConfigDict, home: epath.Path) -> str:
    """Returns the folder of a network's records if they are there, else "".

    Args:
      config: reads `data`.
      home: the network's folder. Its parent is searched only if it is the network's run.

    Raises:
      UserError: the run was trained on other records than those in its folder.
    """
    data, run = config.data, home.parent
    own = not data.records and is_run_of(run, config)
    kept = data.records or (str(WorkFolder(run).records) if own else "")
    if not kept or not (epath.Path(kept) / schema.METADATA_FILE).is_file():
        return ""
    kind = modules.reader(data.reader).KIND
    if own and configs.holds_other_data(run, schema.read_metadata(kept, kind)):
        raise UserError(
            f"'{kept}' holds other data than '{run}' was trained on "
            f"({WorkFolder(run).data_identity.name} says which): name the folder of records "
            "with --records DIR."
        )
    return kept


def is_run_of(folder: epath.Path, config: ConfigDict) -> bool:
    """Returns whether a folder holds a run on this data, and so may hold its records."""
    path = WorkFolder(folder).config
    if not path.is_file():
        return False
    stored, wanted = configs.read_json(path), configs.as_dict(config)
    if not isinstance(stored.get("data"), dict):
        return False
    may_differ = {"records": "", "source": ""}
    return stored["data"] | may_differ == wanted["data"] | may_differ
