"""The data stage: records that exist, or made from raw files, or generated."""

from collections.abc import Callable

from etils import epath
from ml_collections import ConfigDict

from data_prep import convert
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import settings as run_settings


def prepare_records(config: ConfigDict, workdir: epath.Path, show: Callable[[str], None]) -> str:
    """The folder of records that a run reads, converted first where it must be.

    Args:
      config: reads `data.records`, `data.source` and `data.converter`.
      workdir: records go to its `data` folder where the config names none.
      show: prints one line.

    Returns:
      The folder.

    Raises:
      UserError: there is nothing to read, or the conversion failed.
    """
    data = config.data
    if data.records and not data.source:
        return data.records
    name = data.converter.name
    if name not in convert.CONVERTERS:
        raise UserError(f"data.converter.name is '{name}': use one of {', '.join(convert.CONVERTERS)}.")
    settings = {field: value for field, value in data.converter.settings.items() if value not in ("", ())}
    if convert.needs_source(name):
        if not data.source:
            raise UserError(
                f"'{config.name}' needs its raw files: give their folder with --config.data.source=DIR (expected there: "
                f"{convert.expected_files(name, settings)}; the README's section Data says where to get them), or records "
                f"written by `python -m data_prep.convert {name}` with --config.data.records=DIR."
            )
        settings["source"] = data.source
    out = data.records or str(workdir / "data")
    convert.prepare(name, out, show, **settings)
    return out


def find_records(
    config: ConfigDict,
    checkpoint: str,
    home: epath.Path,
    workdir: epath.Path | None,
    show: Callable[[str], None],
) -> str:
    """The folder of records that a network is scored on; made again where that is possible.

    Args:
      config: reads `data`.
      checkpoint: of the network, for the error.
      home: the network's folder. The folder around it is looked into only where it is its run.
      workdir: records that are made go to its `data` folder; None: to the run's or the network's.
      show: prints one line.

    Returns:
      The folder.

    Raises:
      UserError: there is nothing to read, the run's records are others than those it was trained
        on, or the conversion failed.
    """
    data, run = config.data, home.parent
    own = not data.records and is_run_of(run, config)
    kept = data.records or (str(run / "data") if own else "")
    if kept and (epath.Path(kept) / schema.METADATA_FILE).is_file():
        kind = run_settings.load("data", data.reader, "data.reader").KIND
        if own and run_settings.holds_other_data(run, schema.read_metadata(kept, kind)):
            raise UserError(
                f"'{kept}' holds other data than '{run}' was trained on ({run_settings.DATA_FILE} "
                "says which): name the folder of records with --records DIR."
            )
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
    place = workdir if workdir is not None else run if own else home
    return prepare_records(config, place, show)


def is_run_of(folder: epath.Path, config: ConfigDict) -> bool:
    """Whether a folder is a run with this data, in which a network's records are looked for."""
    path = folder / run_settings.CONFIG_FILE
    if not path.is_file():
        return False
    stored, wanted = run_settings.read_json(path), run_settings.as_dict(config)
    if not isinstance(stored.get("data"), dict):
        return False
    may_differ = {"records": "", "source": ""}
    return stored["data"] | may_differ == wanted["data"] | may_differ
