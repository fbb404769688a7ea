"""Finding networks that exist already: teachers of a method, and the network of a checkpoint."""

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
from kdpose_jax.experiment import configs
from kdpose_jax.experiment.run import Run
from kdpose_jax.pytorch import importing, videopose3d
from kdpose_jax.train import sharding

TEACHER = "--config.teacher.checkpoint (or the preset's teacher=)"


def is_weight_file(path: str) -> bool:
    """Whether a path names a file of weights, whatever it is called; a run of ours is a folder."""
    return bool(path) and epath.Path(path).is_file()


def adopt_teacher(config: ConfigDict, *, named: str = TEACHER) -> list[str]:
    """Takes the teacher's sizes from its checkpoint, so that nobody has to repeat them.

    Args:
      config: the blocks of `teacher` that its `shape` names are replaced where `teacher.checkpoint`
        is given.
      named: the flag or field that the user named the checkpoint with, for errors.

    Returns:
      What a given file of weights does not tell and the config had to, and what of it was left out,
      as sentences.

    Raises:
      UserError: no such checkpoint, or one whose sizes do not fit the student's.
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
        if trained.method_name != block.method:
            raise UserError(
                f"'{path}' was trained with method '{trained.method_name}', and teacher.method is "
                f"'{block.method}': "
                "give a run of that method."
            )
        if trained.config.task != config.task:
            raise UserError(
                f"'{path}' was trained for task '{trained.config.task}', and task is "
                f"'{config.task}': "
                "give a run of that task."
            )
        found = {name: trained.config.data[name] for name in config.data.must_fit}
        for part in block.shape:
            block[part] = trained.block[part]
    for name in config.data.must_fit:
        if name in found and found[name] != config.data[name]:
            raise UserError(
                f"The teacher '{path}' has {name} {found[name]}, and data.{name} is "
                f"{config.data[name]}: set --config.data.{name}="
                f"{found[name]} or the preset's option, or give another teacher."
            )
    return notes


@contextlib.contextmanager
def naming(named: str) -> Iterator[None]:
    """Puts the flag or field that named a file in front of what is wrong with the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{named}: {error}") from error


def read_sizes(config: ConfigDict) -> tuple[dict[str, Any], list[str]]:
    """The sizes that the teacher's file of weights shows, and what of the file was not taken as it
    is.

    Raises:
      UserError: it is not such a file, holds another network, or fits several of which none is the
        config's.
    """
    path, network = config.teacher.checkpoint, config.teacher.network
    imported = importing.import_network(network.name, path)
    found, notes = dict(imported["sizes"]), list(imported["notes"])
    if "readings" in found:
        try:
            chosen, choice = videopose3d.choose_reading(found.pop("readings"), config.data.frames)
        except UserError as error:
            raise UserError(f"The PyTorch file {path} cannot be used: {error}") from error
        found |= chosen
        notes += choice
    return found, [f"note: '{path}': {note}." for note in notes]


def stored_run(path: str) -> Run:
    """The run that a checkpoint belongs to, as it was trained.

    Raises:
      UserError: no such run, or one of a version of this program whose configs were others.
    """
    meta = loading.run_meta(path)
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
            f"{', '.join(missing)}): use the commit that "
            "its results.json names, or train it again."
        )
    # Until version 0.2 a teacher's config had the teacher's block in the student's place.
    stage = meta["stage"] if meta.get("stage") in ("teacher", "student") else "student"
    name = run_folder(path).name
    return Run(name, name, stage, config)


def which_checkpoint(path: str) -> str:
    """Which of a run's checkpoints `load_network` takes, in words."""
    if is_weight_file(path):
        return "imported from PyTorch"
    name = epath.Path(path).name
    return (
        f"of step {name}" if name.isdigit() else "the best on the test split, as in the literature"
    )


def run_folder(checkpoint: str) -> epath.Path:
    """The folder of the run that a checkpoint belongs to.

    For a PyTorch file one under `runs`, as it has none.
    """
    path = epath.Path(checkpoint)
    if is_weight_file(checkpoint):
        return epath.Path("runs").resolve() / path.name / "imported"
    return loading.network_folder(path)


def assumptions(config: ConfigDict, found: dict[str, Any]) -> list[str]:
    """What the teacher's file of weights does not tell and the config had to, as sentences.

    Args:
      config: of the experiment.
      found: the sizes that the file shows.
    """
    path, fields = config.teacher.checkpoint, configs.flatten(config.to_dict())
    assumed = [
        (words, field)
        for field, words in importing.UNSHOWN.items()
        if field in fields and field.rsplit(".", 1)[1] not in found
    ]
    return [
        f"note: '{path}' does not say {words}: {fields[field]}, from {field}, is assumed."
        for words, field in assumed
    ]


def variables_of(name: str, params: Any, model_state: Any) -> dict[str, Any]:
    """One network out of a run's variables.

    {"params", "state"}, the state empty where it has none.
    """
    return {"params": params[name], "state": model_state[name] if name in model_state else {}}


def load_frozen(
    method: Method, network: str, example: Any, key: jax.Array, mesh: Any
) -> tuple[Any, dict[str, str]]:
    """The teachers of a method, on the devices.

    Args:
      method: with its teachers; each `checkpoint` is a run or a PyTorch file.
      network: name of their architecture, which a PyTorch file does not tell.
      example: a batch, for the shapes.
      key: for the shapes.
      mesh: the devices.

    Returns:
      `frozen` and the fingerprint of each teacher.
    """
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
    """The variables of one network from a run (its best checkpoint) or a PyTorch file.

    Args:
      network: name of its architecture.
      path: of either.
      target: {"params", "state"}, abstract, with shardings.

    Raises:
      UserError: it holds another network.
    """
    if not is_weight_file(path):
        wanted = {"params": {"student": target["params"]}}
        if target["state"]:
            wanted["model_state"] = {"student": target["state"]}
        restored, _, _ = loading.load_variables(path, wanted, which="best", prefer_ema=True)
        return variables_of(
            "student", restored["params"], restored["model_state"] if target["state"] else {}
        )
    imported = importing.import_network(network, path)
    found = {"params": imported["params"], "state": imported["state"]}
    require_same_shapes(path, found, target)
    return jax.tree.map(lambda values, like: jax.device_put(values, like.sharding), found, target)


def start_from(network: str, path: str, variables: dict[str, Any]) -> dict[str, Any]:
    """A new network with the pretrained part of it filled in.

    Args:
      network: name of its architecture.
      path: a PyTorch file with weights of the part (or all) of it that is published pretrained.
      variables: {"params", "state"} as initialised, on the devices.

    Returns:
      The same trees; what the file lacks (heads) keeps its initialisation.

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
    """Published weights that part of a network can start from.

    Args:
      network: name of its architecture.
      path: a PyTorch file.
      variables: {"params", "state"} of the network, for the shapes; may be abstract.

    Returns:
      Path in `variables` -> weights, for what the file has.

    Raises:
      UserError: no such file, or one of another network.
    """
    found, wanted = _by_path(importing.import_pretrained(network, path)), _by_path(variables)
    require_same_shapes(path, found, {name: leaf for name, leaf in wanted.items() if name in found})
    return found


def require_same_shapes(path: str, found: Any, wanted: Any) -> None:
    """Refuses a file whose arrays are not those of the config's network."""
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
    """Reads the published weights that a stage starts from and compares their shapes, before
    anything is trained.

    Args:
      stage: name of the block, for the error.
      block: the stage's config block.
      variables: {"params", "state"} of its network, abstract.

    Raises:
      UserError: no such file, or one of another network.
    """
    field = f"--config.{stage}.pretrained"
    name, options = block.network.name, importing.PRESET_OPTIONS
    with naming(f"{field} (or the preset's {options[name]}=)" if name in options else field):
        read_pretrained(block.network.name, block.pretrained, variables)


def resolve(path: str) -> str:
    """Absolute form of a path, so that a run may be started from anywhere.

    An empty one stays so.
    """
    return str(files.absolute(path)) if path else path
