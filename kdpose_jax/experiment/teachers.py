"""Finds the teachers that a config names, and makes their runs."""

from typing import Any

from ml_collections import ConfigDict

from kdpose_jax.errors import UserError
from kdpose_jax.experiment import configs
from kdpose_jax.experiment.run import Run
from kdpose_jax.experiment.stored_runs import run_of_checkpoint
from kdpose_jax.experiment.weights import is_weight_file, naming
from kdpose_jax.pytorch import importing, videopose3d

TEACHER = "--config.teacher.checkpoint (or the preset's teacher=)"
FURTHER = "--config.distill.further_teachers (or the preset's teacher=)"


def adopt_teacher(config: ConfigDict, *, named: str = TEACHER) -> list[str]:
    """Takes the teacher's sizes from its checkpoint, so that users need not repeat them.

    Args:
      config: the config. If `teacher.checkpoint` is given, it replaces the blocks that decide the
        teacher's parameters (`teacher.shape`), its loss, and the fields of `teacher.data`.
      named: the flag or field that names the checkpoint, for error messages.

    Returns:
      Sentences on a file of weights: what it does not say, so that the config decided, and what in
      it was left out.

    Raises:
      UserError: there is no such checkpoint, or its sizes do not fit the student's.
    """
    path, block = config.teacher.checkpoint, config.teacher
    if not path:
        return []
    notes: list[str] = []
    if is_weight_file(path):
        with naming(named):
            found, notes = read_sizes(config)
        for part in block.shape:
            block[part].update({name: found[name] for name in block[part] if name in found})
        notes += assumptions(config, found)
    else:
        with naming(named):
            trained = run_of_checkpoint(path)
        if trained.config.task != config.task:
            raise UserError(
                f"'{path}' was trained for task '{trained.config.task}', and task is "
                f"'{config.task}': give a run of that task."
            )
        found = {name: trained.config.data[name] for name in config.data.must_fit}
        with block.unlocked():  # the command line locks the config
            for part in set(block.shape) - set(trained.block.shape):
                del block[part]
            block.shape = trained.block.shape
            for part in (*block.shape, "loss"):  # its loss fits the frames that it predicts
                block[part] = trained.block[part]
    own = block.data if "data" in block else ()  # what need not be as the student's
    for name in config.data.must_fit:
        if name in found and name in own:
            block.data[name] = found[name]
        elif name in found and found[name] != config.data[name]:
            raise UserError(
                f"The teacher '{path}' has {name} {found[name]}, and data.{name} is "
                f"{config.data[name]}: set --config.data.{name}="
                f"{found[name]} or the preset's option, or give another teacher."
            )
    return notes


def teacher_run(config: ConfigDict, name: str) -> Run:
    """Makes the run of the config's teacher.

    Fields of `teacher.data`, if there are any, replace those of `data`.
    """
    config = configs.copy_of(config)
    if "data" in config.teacher:
        config.data.update(config.teacher.data)
    return Run(name, name, "teacher", config)


def further_teachers(config: ConfigDict) -> tuple[str, ...]:
    """Returns the checkpoints of the teachers beside `teacher.checkpoint`."""
    return tuple(config.distill.further_teachers) if "further_teachers" in config.distill else ()


def teacher_runs(config: ConfigDict) -> tuple[list[Run], list[str]]:
    """Makes the runs of all teachers, with notes on the files of weights of further ones.

    Args:
      config: a config that has taken the sizes of `teacher.checkpoint` (`adopt_teacher`).

    Raises:
      UserError: as for `adopt_teacher`.
    """
    runs, notes = [teacher_run(config, "teacher")], []
    for number, path in enumerate(further_teachers(config), 1):
        own = configs.copy_of(config)
        own.teacher.checkpoint = path
        notes += adopt_teacher(own, named=FURTHER)
        runs.append(teacher_run(own, f"further_teacher_{number}"))
    return runs, notes


def read_sizes(config: ConfigDict) -> tuple[dict[str, Any], list[str]]:
    """Reads the sizes in the teacher's file of weights.

    Returns:
      The sizes, and sentences on what in the file was not taken as it is.

    Raises:
      UserError: it is not a file of weights, it holds another network, or it fits several networks
        and none of them is the config's.
    """
    path, network = config.teacher.checkpoint, config.teacher.network
    imported = importing.import_network(network.name, path)
    found, notes = dict(imported["sizes"]), list(imported["notes"])
    if "readings" in found:
        frames = teacher_run(config, network.name).config.data.frames
        try:
            chosen, choice = videopose3d.choose_reading(found.pop("readings"), frames)
        except UserError as error:
            raise UserError(f"The PyTorch file {path} cannot be used: {error}") from error
        found |= chosen
        notes += choice
    return found, [f"note: '{path}': {note}." for note in notes]


def assumptions(config: ConfigDict, found: dict[str, Any]) -> list[str]:
    """Lists in sentences what the teacher's file does not say and the config decided.

    Args:
      config: the experiment's config.
      found: the sizes that the file shows.
    """
    path, fields = config.teacher.checkpoint, configs.flatten(config.to_dict())
    assumed = [
        (words, own if (own := f"teacher.{field}") in fields else field)
        for field, words in importing.UNSHOWN.items()
        if field in fields and field.rsplit(".", 1)[1] not in found
    ]
    return [
        f"note: '{path}' does not say {words}: {fields[field]}, from {field}, is assumed."
        for words, field in assumed
    ]
