"""Finding networks that exist already: teachers of a method, and the network of a checkpoint."""

from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax.checkpoint import teacher as checkpoint_teacher
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import settings
from kdpose_jax.methods.api import Method
from kdpose_jax.models import torch_import
from kdpose_jax.train import sharding

WEIGHT_FILES = (".bin", ".pth", ".pt", ".pth.tar")


def is_weight_file(path: str) -> bool:
    """Whether a path names PyTorch weights rather than a run of ours."""
    return path.endswith(WEIGHT_FILES)


def adopt_teacher(config: ConfigDict) -> None:
    """Takes the teacher's sizes from its checkpoint, so that nobody has to repeat them.

    Args:
      config: `teacher.network` is replaced where `teacher.checkpoint` is given.

    Raises:
      UserError: no such checkpoint, or one whose sizes do not fit the student's.
    """
    path = config.teacher.checkpoint
    if not path:
        return
    if is_weight_file(path):
        _, found = torch_import.import_mixste(path)
        config.teacher.network.update({name: found.pop(name) for name in ("width", "depth", "mlp_ratio")})
    else:
        trained = settings.from_dict(checkpoint_teacher.run_meta(path)["config"])
        if trained.method != config.teacher.method:
            raise UserError(
                f"'{path}' was trained with method '{trained.method}', and teacher.method is '{config.teacher.method}': "
                "give a run of that method."
            )
        found = {name: trained.data[name] for name in config.data.must_fit}
        config.teacher.network = trained.student.network
    for name in config.data.must_fit:
        if found[name] != config.data[name]:
            raise UserError(
                f"The teacher '{path}' has {name} {found[name]}, and data.{name} is {config.data[name]}: give another "
                "teacher, or leave teacher.checkpoint empty to train one."
            )


def load_frozen(method: Method, example: Any, key: jax.Array, mesh: Any) -> tuple[Any, dict[str, str]]:
    """The teachers of a method, on the devices.

    Args:
      method: with its teachers; each `checkpoint` is a run or a PyTorch file.
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
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), abstract[teacher.name])
        frozen[teacher.name] = load_network(teacher.checkpoint, target)
    return frozen, {name: checkpoint_teacher.fingerprint(params) for name, params in frozen.items()}


def load_network(path: str, target: Any) -> Any:
    """Parameters of one network from a run (its best checkpoint) or a PyTorch file.

    Args:
      path: of either.
      target: abstract parameters with shardings.

    Raises:
      UserError: it holds another network.
    """
    if not is_weight_file(path):
        params, _, _ = checkpoint_teacher.load_params(path, {"student": target}, which="best", prefer_ema=True)
        return params["student"]
    params, _ = torch_import.import_mixste(path)
    wanted, found = (
        {jax.tree_util.keystr(where, simple=True, separator="/"): leaf.shape for where, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (target, params)
    )
    for name in sorted(wanted | found):
        if name not in wanted or name not in found or wanted[name] != found[name]:
            shapes = [shapes[name] if name in shapes else "absent" for shapes in (found, wanted)]
            raise UserError(f"'{path}' has {name} {shapes[0]} where the config's network has {shapes[1]}: correct its block.")
    return jax.tree.map(lambda values, like: jax.device_put(values, like.sharding), params, target)


def resolve(path: str) -> str:
    """Absolute form of a local path, so that a run may be started from anywhere."""
    return str(epath.Path(path).expanduser().resolve()) if path and "://" not in path else path
