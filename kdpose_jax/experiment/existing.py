"""Finds networks that exist: their runs, their methods and their variables."""

import dataclasses
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from kdpose_jax.checkpoint import loading
from kdpose_jax.contracts import Batch, Method, Tree
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import configs, stored_runs, teachers, weights
from kdpose_jax.experiment.run import Run, build_method, plan_of


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network with its variables on the devices.

    Attributes:
      run: the run that trained it, without distillation.
      method: its method, which predicts.
      params: the run's parameters, {"student": tree}.
      model_state: its batch statistics, {"student": tree}, or {} if it has none.
      fingerprint: identifies the variables by their values.
    """

    run: Run
    method: Method
    params: Tree
    model_state: Tree
    fingerprint: str


def restore(run: Run, checkpoint: str, example: Batch, sharding: jax.sharding.Sharding) -> Trained:
    """Loads a network without its teacher.

    Args:
      run: the run that trained it.
      checkpoint: the network's folder or one of its steps, or a PyTorch file.
      example: a batch of one example for the shapes; may be abstract.
      sharding: where the variables go.

    Raises:
      UserError: the checkpoint holds another network.
    """
    # With all distillation weights at zero, no teacher needs to be built.
    alone = dataclasses.replace(run, config=configs.without_distillation(run.config))
    alone, method = build_method(alone, plan_of(run, 1))
    params, model_state, _ = jax.eval_shape(method.init, jax.random.key(0), example)
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        weights.student_variables(params, model_state),
    )
    network = weights.load_network(alone.block.network.name, checkpoint, target)
    return Trained(
        run=alone,
        method=method,
        params={"student": network["params"]},
        model_state={"student": network["state"]} if network["state"] else {},
        fingerprint=loading.fingerprint(network),
    )


def find_run(
    checkpoint: str, config: ConfigDict | None, *, named: str = "--checkpoint"
) -> tuple[Run, list[str]]:
    """Makes the run of a checkpoint, with notes.

    Args:
      checkpoint: the network's folder or one of its steps, or a PyTorch file.
      config: the experiment's config, which a file of weights needs; None takes the stored one.
      named: the flag or the argument that names the checkpoint, for error messages.

    Raises:
      UserError: there is no such network, or the config has another one.
    """
    if weights.is_weight_file(checkpoint):
        return run_of_file(checkpoint, config, named)
    return run_of_network(checkpoint, config)


def run_of_file(checkpoint: str, config: ConfigDict | None, named: str) -> tuple[Run, list[str]]:
    """Makes the run that scores a file of PyTorch weights as the config's teacher, with notes.

    Raises:
      UserError: there is no config, or the file is not of its teacher.
    """
    if config is None:
        raise UserError(
            f"'{checkpoint}' says nothing of its data: give its experiment with --config, for "
            f"example configs/scjd.py:h36m."
        )
    config.teacher.checkpoint = checkpoint
    notes = teachers.adopt_teacher(config, named=named)
    return teachers.teacher_run(config, pathlib.Path(checkpoint).name), notes


def run_of_network(checkpoint: str, config: ConfigDict | None) -> tuple[Run, list[str]]:
    """Makes the run that scores a network of ours from its stored config, with notes.

    A config on the command line decides the data and the protocol.

    Raises:
      UserError: the folder holds no whole checkpoint, or the config has another network.
    """
    run = stored_runs.run_of_checkpoint(checkpoint)
    loading.require_step(checkpoint)
    return with_config(run, config, checkpoint), loading.passed_over(checkpoint)


def with_config(run: Run, config: ConfigDict | None, checkpoint: str) -> Run:
    """Takes the data and the protocol from a config on the command line, if there is one.

    Raises:
      UserError: the config has another network.
    """
    if config is not None:
        refuse_other_network(config, run, checkpoint)
        if config.data.records or config.data.source:
            fields = ("records", "source", "converter")
            run.config.data.update({name: config.data[name] for name in fields})
        run.config.eval = configs.copy_of(config.eval)
    return run


def refuse_other_network(config: ConfigDict, stored: Run, checkpoint: str) -> None:
    """Refuses a config whose network is not the checkpoint's.

    It compares the method, the trained block's parts, and the data fields that must fit them.

    Raises:
      UserError: a field differs. The sentence names it and both values.
    """
    remedy = "give the config it was trained with, or no --config"
    stage = "student"
    if stored.method_name == config.teacher.method and stored.method_name != config.method:
        stage = "teacher"  # the checkpoint is the teacher of such an experiment
    wanted = Run(stored.name, stored.title, stage, config)
    if stage == "teacher":
        wanted = teachers.teacher_run(config, stored.name)
    if wanted.method_name != stored.method_name:  # blocks of different methods cannot be compared
        raise UserError(
            f"'{checkpoint}' has method {stored.method_name} and the config says "
            f"{wanted.method_name}: {remedy}."
        )

    def deciding(run: Run) -> dict[str, Any]:
        parts = {f"{stage}.{part}": run.block[part].to_dict() for part in wanted.block.shape}
        fitting = {f"data.{name}": run.config.data[name] for name in config.data.must_fit}
        return configs.flatten(parts | fitting)

    in_config, in_checkpoint = deciding(wanted), deciding(stored)
    for name in sorted(in_config | in_checkpoint):
        there = in_checkpoint[name] if name in in_checkpoint else "none"
        here = in_config[name] if name in in_config else "none"
        if there != here:
            raise UserError(
                f"'{checkpoint}' has {name} {there} and the config says {here}: {remedy}."
            )
