"""Loads a network for use: `kdpose_jax.load`."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from kdpose_jax import buckets, files, presets
from kdpose_jax.checkpoint import loading
from kdpose_jax.contracts import Predict
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import checks, command_line, data, existing, stored_runs, weights
from kdpose_jax.experiment.existing import Trained
from kdpose_jax.experiment.run import Run
from kdpose_jax.predict import artifacts
from kdpose_jax.predict.description import LIFTER, PICTURES, Description, describe
from kdpose_jax.predict.lifter import Lifter
from kdpose_jax.predict.pictures import PictureNetwork
from kdpose_jax.train import compiling, devices
from kdpose_jax.untrusted.documents import load_json

Network = Lifter | PictureNetwork


def load(path: str | os.PathLike, *, config: str | ConfigDict | None = None) -> Network:
    """Loads a network; see `kdpose_jax.load`."""
    place = files.absolute_or_empty(os.fspath(path))
    if artifacts.is_artifact(place):
        return artifacts.network_of(artifacts.open_artifact(place))
    checkpoint = accessible(place)
    run, notes = find(checkpoint, config)
    return network_of_run(run, notes, checkpoint)


def load_by_flags(checkpoint: str, config: ConfigDict | None) -> tuple[Network, float | None]:
    """Loads the network that `--checkpoint` and `--config` name.

    Returns:
      The network, and the frames per second that it was trained at; None if its records are not
      there, or it is a network for pictures.

    Raises:
      UserError: there is no such network, or it needs a config.
    """
    place = files.absolute_or_empty(checkpoint)
    if artifacts.is_artifact(place):
        artifact = artifacts.open_artifact(place)
        return artifacts.network_of(artifact), artifacts.rate_of(artifact)
    place = accessible(place)
    run, notes = existing.find_run(place, config)
    network = network_of_run(run, notes, place)
    rate = rate_of_records(run, place) if network.kind == LIFTER else None
    return network, rate


def accessible(path: str) -> str:
    """Returns the folder that a checkpoint's path stands for.

    Raises:
      UserError: there is no checkpoint, or its bucket cannot be read.
    """
    checkpoint = loading.explicit(path)
    buckets.check_access(checkpoint, writes=False)
    return checkpoint


def network_of_run(run: Run, notes: Sequence[str], checkpoint: str) -> Network:
    """Restores the network of a run; errors are those of `restore`."""
    description, trained, mesh = restore(run, checkpoint)
    return network_of(description, trained, mesh, tuple(notes))


def rate_of_records(run: Run, checkpoint: str) -> float | None:
    """Returns the frames per second of the records of a run; None if they are not there."""
    try:
        records = data.kept_records(run.config, stored_runs.run_folder(checkpoint))
        metadata = load_json(epath.Path(records) / schema.METADATA_FILE) if records else {}
        return float(metadata["fps"]) if "fps" in metadata else None
    except (UserError, OSError, ValueError, TypeError):
        return None  # said later: the rate is not known


def find(checkpoint: str, config: str | ConfigDict | None) -> tuple[Run, list[str]]:
    """Makes the run of a checkpoint, with notes.

    Args:
      checkpoint: the network's folder or one of its steps, or a file of weights.
      config: names the experiment, such as `scjd:h36m` or `configs/scjd.py:h36m`, or is its config.

    Raises:
      UserError: there is no such network, or the config is missing or has another one.
    """
    if weights.is_weight_file(checkpoint) and config is None:
        raise UserError(
            f"'{checkpoint}' says nothing of its data: name its experiment with config, for example"
            " kdpose_jax.load(path, config='scjd:h36m')."
        )
    if isinstance(config, str):
        presets.bring_in()
        words, named = command_line.with_config(["load", f"--config={config}"])
        config = command_line.load(named)
    if config is not None:
        checks.check_values(config)
    return existing.find_run(checkpoint, config, named="kdpose_jax.load")


def restore(run: Run, checkpoint: str) -> tuple[Description, Trained, Mesh]:
    """Loads a network's variables onto this process's first device, which is a mesh of its own.

    Raises:
      UserError: the checkpoint holds another network, or no device can be used.
    """
    devices.find("")
    axis = (jax.sharding.AxisType.Auto,)
    mesh = Mesh(np.asarray(jax.local_devices()[:1]), ("data",), axis_types=axis)
    about = describe(run, "")
    kind = np.uint8 if about.kind == PICTURES else np.float32
    example: Any = {about.input_name: jax.ShapeDtypeStruct((1, *about.input_shape), kind)}
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    trained = existing.restore(run, checkpoint, example, everywhere)
    return describe(run, trained.fingerprint), trained, mesh


def network_of(
    description: Description, trained: Trained, mesh: Mesh, notes: tuple[str, ...]
) -> Network:
    """Makes the network that computes with JAX."""
    method = trained.method
    notes = tuple(note.removeprefix("note: ") for note in notes)  # printed ones have the word
    plain = computation(method.predict, description, trained, mesh)
    if description.kind == PICTURES:
        flipped = computation(method.predict_with_flip, description, trained, mesh)
        return PictureNetwork(description, plain, notes, compute_with_flip=flipped)
    return Lifter(description, lambda windows: plain(windows)[0], notes)


def computation(
    function: Predict, description: Description, trained: Trained, mesh: Mesh
) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """Compiles a prediction, in float32 as in evaluation.

    Args:
      function: `predict` or `predict_with_flip` of the network's method.
      description: names the input and the outputs.
      trained: the network.
      mesh: its device.

    Returns:
      Examples `[B, *input_shape]` -> the outputs, in the order of `output_names`.
    """
    predict = compiling.jit(function, mesh)

    def compute(examples: np.ndarray) -> tuple[np.ndarray, ...]:
        batch: Any = {description.input_name: examples}
        with jax.default_matmul_precision("highest"):
            predicted = predict(trained.params, trained.model_state, batch)
        if isinstance(predicted, dict):
            return tuple(np.asarray(predicted[name]) for name in description.output_names)
        return (np.asarray(predicted),)

    return compute
