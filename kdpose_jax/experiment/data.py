"""The data stage: records that exist, or made from raw files, or generated."""

from collections.abc import Callable

from etils import epath
from ml_collections import ConfigDict

from data_prep import convert
from kdpose_jax.errors import UserError


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
