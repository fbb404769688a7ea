"""Trains one network of an experiment into its folder, or finds it trained there already."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import jax
import numpy as np
import optax
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.data.batches import Source, TrainBatches, to_global
from kdpose_jax.evaluate import runner
from kdpose_jax.experiment import caching, networks, settings
from kdpose_jax.methods.api import Method
from kdpose_jax.train import loop, optim, sharding, state
from kdpose_jax.train.periodic import MetricsLog
from kdpose_jax.train.step import build_step

RATE_SETTINGS = ("schedule", "learning_rate", "decay_per_epoch", "final_learning_rate", "warmup_epochs")
OPTIMIZER_SETTINGS = ("weight_decay", "beta1", "beta2", "epsilon", "clip_norm")


@dataclasses.dataclass(frozen=True)
class Run:
    """One network of an experiment.

    Attributes:
      name: also its folder under the work directory.
      title: in tables.
      config: the network that is trained stands in its `student` block.
    """

    name: str
    title: str
    config: ConfigDict


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What all networks of an experiment share.

    Attributes:
      workdir: of the experiment.
      source: training examples; None where nothing is trained.
      protocol: of the evaluation.
      mesh: the devices.
      show: prints one line.
    """

    workdir: epath.Path
    source: Source | None
    protocol: Any
    mesh: jax.sharding.Mesh
    show: Callable[[str], None]


def plan_of(config: ConfigDict, examples: int) -> loop.Plan:
    """Epochs -> steps."""
    block = config.student.train
    steps_per_epoch = examples / block.batch
    return loop.Plan(
        steps=math.ceil(block.epochs * steps_per_epoch),
        steps_per_epoch=steps_per_epoch,
        log_every=block.log_every_steps,
        save_every=block.save_every_steps,
        evaluate_every=math.ceil(block.evaluate_every_epochs * steps_per_epoch),
    )


def build_method(config: ConfigDict, plan: loop.Plan) -> tuple[Method, ConfigDict]:
    """The method of a run whose length is known, and its locked config."""
    config.run.steps, config.run.steps_per_epoch = plan.steps, plan.steps_per_epoch
    config.lock()
    return settings.load("methods", config.method, "method").build(config), config


def build_optimizer(
    method: Method, config: ConfigDict, plan: loop.Plan
) -> tuple[Callable[[Any], Any], optax.GradientTransformation]:
    """The learning rate of a run, and its optimiser."""
    block = config.student.optim
    rate = optim.learning_rate(
        **{name: block[name] for name in RATE_SETTINGS}, steps=plan.steps, steps_per_epoch=plan.steps_per_epoch
    )
    return rate, optim.build_optimizer(rate, **{name: block[name] for name in OPTIMIZER_SETTINGS}, groups=method.groups)


def train_run(run: Run, around: Surroundings) -> epath.Path:
    """Trains a run, from its last checkpoint where it has one.

    Args:
      run: what to train.
      around: data and devices.

    Returns:
      Its folder.

    Raises:
      UserError: see `loop.train`, or options of the config that do not fit.
    """
    directory = around.workdir / run.name
    plan = plan_of(run.config, len(around.source))
    method, config = build_method(run.config, plan)
    block = config.student.train
    with closing(open_checkpoints(directory, config, around.protocol)) as checkpoints:
        if checkpoints.latest_step() == plan.steps:
            around.show(f"{run.name}  trained already: {plan.steps} steps in {directory}")
            return directory
        over_batch, everywhere = sharding.over_batch(around.mesh), sharding.replicated(around.mesh)
        first_key, root_key = jax.device_put(jax.random.split(jax.random.key(config.seed)), everywhere)
        rate, optimizer = build_optimizer(method, config, plan)
        shapes = to_global(around.source.gather(np.arange(block.batch // jax.process_count()) % len(around.source)), over_batch)
        current = state.create(
            method, optimizer, shapes, first_key, with_ema=block.ema_decay > 0, sharding=everywhere
        )
        frozen, fingerprints = networks.load_frozen(method, shapes, first_key, around.mesh)
        if checkpoints.latest_step() is not None:
            restored, _ = checkpoints.restore(vars(state.abstract(current)))
            current = state.TrainState(**restored)
            around.show(f"{run.name}  goes on from step {int(current.step)} of {plan.steps}")
        source = caching.with_cached_targets(method, frozen, around, config)
        log = MetricsLog(str(directory), first_step=int(current.step), writes=jax.process_index() == 0)
        batches = TrainBatches(
            source, seed=config.seed, batch=block.batch, first_step=int(current.step), sharding=over_batch
        )
        try:
            loop.train(
                run.name,
                state=current,
                step_function=build_step(method, optimizer, ema_decay=block.ema_decay),
                frozen=frozen,
                batches=batches,
                root_key=root_key,
                plan=plan,
                learning_rate=rate,
                evaluate=quick_evaluation(method, config, around),
                shown=("loss", "task", *(f"weighted_{name}" for name in config.distill.weights)),
                checkpoints=checkpoints,
                meta=meta_of(config, fingerprints),
                log=log,
                unit=(around.source.unit[0], around.source.unit[1] * block.batch),
                show=around.show,
            )
        finally:
            batches.close()
            log.close()
    return directory


def meta_of(config: ConfigDict, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    return {"config": settings.as_dict(config), "method": config.method, "teachers": dict(fingerprints)}


def open_checkpoints(directory: epath.Path, config: ConfigDict, protocol: Any) -> Checkpoints:
    """The checkpoints of a run."""
    return Checkpoints(
        directory / "checkpoints",
        keep_latest=config.checkpoint.keep_latest,
        keep_best=config.checkpoint.keep_best,
        best_metric=protocol.best_metric,
        best_is_lowest=protocol.best_is_lowest,
        asynchronous=config.checkpoint.asynchronous,
    )


def quick_evaluation(
    method: Method, config: ConfigDict, around: Surroundings
) -> Callable[[state.TrainState], Mapping[str, float]]:
    """The light evaluation during training: state -> scores."""
    source, score = around.protocol.quick(config.student.train.evaluate_examples)
    predict = jax.jit(method.predict)

    def evaluate(current: state.TrainState) -> Mapping[str, float]:
        predicted = runner.predict_all(
            predict,
            current.evaluated_params,
            current.model_state,
            source,
            batch=global_batch(config, around.mesh),
            sharding=sharding.over_batch(around.mesh),
        )
        return score(predicted)

    return evaluate


def global_batch(config: ConfigDict, mesh: jax.sharding.Mesh) -> int:
    """The evaluation batch of all devices together: the same share for each, so that every device runs the same
    program and scores do not depend on how many there are."""
    return config.eval.batch * mesh.size
