"""Finds networks that exist already: a method's teachers, and a checkpoint's network."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import files
from kdpose_jax.checkpoint import loading
from kdpose_jax.contracts import Method
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import configs, splits
from kdpose_jax.experiment.run import Run
from kdpose_jax.pytorch import importing, videopose3d
from kdpose_jax.train import sharding

TEACHER = "--config.teacher.checkpoint (or the preset's teacher=)"
FURTHER = "--config.distill.further_teachers (or the preset's teacher=)"


def is_weight_file(path: str) -> bool:
    """Returns whether a path is a file of weights, by any name. A run of ours is a folder."""
    return bool(path) and epath.Path(path).is_file()


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
            trained = stored_run(path)
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


@contextlib.contextmanager
def naming(named: str) -> Iterator[None]:
    """Puts the flag or field that named a file in front of errors about the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{named}: {error}") from error


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


def stored_run(path: str) -> Run:
    """Returns the run that a checkpoint belongs to, as it was trained.

    Raises:
      UserError: there is no such run, or its config is of a version that this one cannot use.
    """
    return run_of_meta(loading.run_meta(path), path, run_folder(path).name)


def run_of_meta(meta: dict[str, Any], path: str, name: str) -> Run:
    """Makes the run that a checkpoint or an exported file says that it belongs to.

    Args:
      meta: its "config" and "stage".
      path: where it is, for error messages.
      name: the network's name.

    Raises:
      UserError: the config is of a version that this one cannot use.
    """
    try:
        config = configs.from_dict(configs.upgraded(meta["config"]))
        names = configs.flatten(config.to_dict())
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"'{path}' holds no config of a run ({type(error).__name__}: {error}): give another "
            f"run."
        ) from error
    missing = [name for name in configs.REQUIRED if name not in names]
    if missing:
        raise UserError(
            f"'{path}' was trained by another version of this program (its config lacks "
            f"{', '.join(missing)}): use the commit that its results.json names, or train it again."
        )
    # Until version 0.2 a teacher's config had the teacher's block in the student's place.
    stage = meta["stage"] if meta.get("stage") in ("teacher", "student") else "student"
    return Run(name, name, stage, config)


def which_checkpoint(path: str) -> str:
    """Says which of a run's checkpoints `load_network` takes, and which examples chose it."""
    if is_weight_file(path):
        return "imported from PyTorch"
    name = epath.Path(path).name
    if name.isdigit():
        return f"of step {name}"
    meta = loading.run_meta(path)
    # In versions that did not store it, the test split chose every checkpoint.
    return f"the best on {meta['chosen_on'] if 'chosen_on' in meta else splits.ON_TEST}"


def run_folder(checkpoint: str) -> epath.Path:
    """Returns the folder of the run that a checkpoint belongs to.

    A PyTorch file has no run, so it gets a folder under `runs`.
    """
    path = epath.Path(checkpoint)
    if is_weight_file(checkpoint):
        return epath.Path("runs").resolve() / path.name / "imported"
    return loading.network_folder(path)


def assumptions(config: ConfigDict, found: dict[str, Any]) -> list[str]:
    """Lists, as sentences, what the teacher's file does not say and the config decided.

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


def variables_of(name: str, params: Any, model_state: Any) -> dict[str, Any]:
    """Takes one network out of a run's variables.

    Returns:
      {"params", "state"}. The state is empty if the network has none.
    """
    return {"params": params[name], "state": model_state[name] if name in model_state else {}}


def load_frozen(
    method: Method, network: str, example: Any, key: jax.Array, mesh: Any
) -> tuple[Any, dict[str, str]]:
    """Loads the teachers of a method onto the devices.

    Args:
      method: the method, whose teachers' `checkpoint` is each a run or a PyTorch file.
      network: name of their architecture, which a PyTorch file does not say.
      example: a batch, for the shapes.
      key: any key, for the shapes.
      mesh: the devices.

    Returns:
      Name of a teacher -> variables, and name -> fingerprint.
    """
    if not method.teachers:
        return {}, {}
    _, _, abstract = jax.eval_shape(method.init, key, example)
    everywhere = sharding.replicated(mesh)
    frozen = {}
    for teacher in method.teachers:
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
            abstract[teacher.name],
        )
        frozen[teacher.name] = load_network(network, teacher.checkpoint, target)
    return frozen, {name: loading.fingerprint(variables) for name, variables in frozen.items()}


def load_network(network: str, path: str, target: Any) -> dict[str, Any]:
    """Loads one network from a run (its best checkpoint) or from a PyTorch file.

    Args:
      network: name of its architecture.
      path: path of the run or the file.
      target: {"params", "state"}, abstract, with shardings.

    Raises:
      UserError: the run or the file holds another network.
    """
    if not is_weight_file(path):
        wanted = {"params": {"student": target["params"]}}
        if target["state"]:
            wanted["model_state"] = {"student": target["state"]}
        restored, _, _ = loading.load_variables(path, wanted, prefer_ema=True)
        return variables_of(
            "student", restored["params"], restored["model_state"] if target["state"] else {}
        )
    imported = importing.import_network(network, path)
    found = {"params": imported["params"], "state": imported["state"]}
    require_same_shapes(path, found, target)
    return jax.tree.map(lambda values, like: jax.device_put(values, like.sharding), found, target)


def start_from(network: str, path: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Fills pretrained weights into a new network.

    Args:
      network: name of its architecture.
      path: a PyTorch file with weights of all of the network, or of the part that is published.
      variables: {"params", "state"} as initialised, on the devices.

    Returns:
      The same trees. What the file lacks (heads) keeps its initialisation.

    Raises:
      UserError: the file holds another network.
    """
    found, fresh = read_pretrained(network, path, variables), _by_path(variables)
    filled = [
        jax.device_put(found[name], leaf.sharding) if name in found else leaf
        for name, leaf in fresh.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(variables), filled)


def read_pretrained(network: str, path: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Reads published weights that all or part of a network can start from.

    Args:
      network: name of its architecture.
      path: a PyTorch file.
      variables: {"params", "state"} of the network, for the shapes; may be abstract.

    Returns:
      Path in `variables` -> weights, for what the file has.

    Raises:
      UserError: there is no such file, or it holds another network.
    """
    found, wanted = _by_path(importing.import_pretrained(network, path)), _by_path(variables)
    require_same_shapes(path, found, {name: leaf for name, leaf in wanted.items() if name in found})
    return found


def require_same_shapes(path: str, found: Any, wanted: Any) -> None:
    """Refuses a file whose arrays do not have the names and shapes of the config's network."""
    found, wanted = (
        {name: leaf.shape for name, leaf in _by_path(tree).items()} for tree in (found, wanted)
    )
    for name in sorted(wanted | found):
        if name not in wanted or name not in found or wanted[name] != found[name]:
            shapes = [shapes[name] if name in shapes else "absent" for shapes in (found, wanted)]
            raise UserError(
                f"'{path}' has {name} {shapes[0]} where the config's network has {shapes[1]}: "
                f"correct its block."
            )


def _by_path(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(where, simple=True, separator="/"): leaf
        for where, leaf in jax.tree.leaves_with_path(tree)
    }


def check_pretrained(stage: str, block: ConfigDict, variables: dict[str, Any]) -> None:
    """Checks the published weights that a stage starts from, before anything is trained.

    Args:
      stage: name of the stage's block, for error messages.
      block: the stage's config block.
      variables: {"params", "state"} of its network, abstract.

    Raises:
      UserError: there is no such file, or it holds another network.
    """
    field = f"--config.{stage}.pretrained"
    name, options = block.network.name, importing.PRESET_OPTIONS
    with naming(f"{field} (or the preset's {options[name]}=)" if name in options else field):
        read_pretrained(block.network.name, block.pretrained, variables)


def resolve(path: str) -> str:
    """Makes a path absolute, so that a run may be started from anywhere.

    An empty path stays empty.
    """
    return str(files.absolute(path)) if path else path
