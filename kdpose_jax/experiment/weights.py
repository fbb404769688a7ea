"""Loads a network's variables, from a run of ours or from a file of PyTorch weights."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax.checkpoint import loading
from kdpose_jax.contracts import Batch, Method, Tree
from kdpose_jax.errors import UserError
from kdpose_jax.pytorch import importing
from kdpose_jax.train import sharding


def is_weight_file(path: str) -> bool:
    """Returns whether a path is a file of weights, by any name. A run of ours is a folder."""
    return bool(path) and epath.Path(path).is_file()


@contextlib.contextmanager
def naming(named: str) -> Iterator[None]:
    """Puts the flag or field that named a file in front of errors about the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{named}: {error}") from error


def student_variables(params: Tree, model_state: Tree) -> dict[str, Tree]:
    """Takes the student out of a run's variables.

    Returns:
      {"params", "state"}. The state is empty if the network has none.
    """
    return {
        "params": params["student"],
        "state": model_state["student"] if "student" in model_state else {},
    }


def load_frozen(
    method: Method, network: str, example: Batch, key: jax.Array, mesh: jax.sharding.Mesh
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
        return student_variables(
            restored["params"], restored["model_state"] if target["state"] else {}
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
