"""The data stage: records that exist, or made from raw files, or generated."""

from etils import epath
from ml_collections import ConfigDict

from data_prep import convert
from kdpose_jax.errors import UserError


def prepare_records(config: ConfigDict, workdir: epath.Path) -> str:
    """The folder of records that a run reads, converted first where it must be.

    Args:
      config: reads `data.records`, `data.source` and `data.converter`.
      workdir: records go to its `data` folder where the config names none.

    Returns:
      The folder.

    Raises:
      UserError: there is nothing to read, or the conversion failed.
    """
    data = config.data
    generated = data.converter.name == "synthetic"
    if data.records and not data.source:
        return data.records
    if data.converter.name not in ("synthetic", "human36m"):
        raise UserError(f"data.converter.name is '{data.converter.name}': use synthetic or human36m.")
    if not data.source and not generated:
        settings = data.converter.settings
        raise UserError(
            f"'{config.name}' needs its raw files: give their folder with --config.data.source=DIR (expected there: "
            f"data_3d_<name>.npz and data_2d_<name>_{settings.keypoints}.npz in VideoPose3D's layout; the README's section "
            "Data says where to get them), or records written by `python -m data_prep.convert` with "
            "--config.data.records=DIR."
        )
    settings = {name: value for name, value in data.converter.settings.items() if value not in ("", ())}
    if data.source:
        settings["source"] = data.source
    out = data.records or str(workdir / "data")
    convert.prepare(data.converter.name, out, **settings)
    return out
