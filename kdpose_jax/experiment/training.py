"""Trains one network of an experiment into its folder, or finds it trained there already."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import processes
from kdpose_jax.checkpoint.integrity import set_damaged_aside
from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.checkpoint.stored import FOLDERS
from kdpose_jax.contracts import Method, Source
from kdpose_jax.data.batches import TrainBatches, to_global
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import runner
from kdpose_jax.experiment import caching, configs, gradients, memory, weights
from kdpose_jax.train import loop, optim, sharding, state
from kdpose_jax.train.logs import Lines, MetricsLog
from kdpose_jax.train.preemption import Stop
from kdpose_jax.train.step import build_step

RATE_SETTINGS = (
    "schedule", "learning_rate", "decay_per_epoch", "drop_epochs", "drop_factor", "final_learning_rate", "warmup_epochs",
)  # fmt: skip
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
      training_data: what the reader read; None where nothing is trained.
      test_data: what the protocol read.
      mesh: the devices.
      show: prints one line.
      stop: whether the run was told to stop.
      sources: training examples opened so far, by what was asked for; opening them may copy all data.
    """

    workdir: epath.Path
    training_data: Any
    test_data: Any
    mesh: jax.sharding.Mesh
    show: Callable[[str], None]
    stop: Stop
    sources: dict[str, Source] = dataclasses.field(default_factory=dict)


def open_training(config: ConfigDict, around: Surroundings) -> Source:
    """The training examples as a run's method reads them; runs that read the same share them."""
    reader = configs.load("data", config.data.reader, "data.reader")
    asked = {"seed": config.seed, **reads(config, training=True), **config.data.training.to_dict()}
    key = json.dumps(asked, sort_keys=True)
    if key not in around.sources:
        around.sources[key] = reader.open_training(around.training_data, **asked)
    return around.sources[key]


def open_protocol(config: ConfigDict, around: Surroundings) -> Any:
    """The evaluation of a run's network."""
    protocol = configs.load("evaluate", config.eval.protocol, "eval.protocol")
    return protocol.open_protocol(around.test_data, **reads(config, training=False), **config.eval.settings)


def reads(config: ConfigDict, *, training: bool) -> dict[str, Any]:
    """What the batches of a run hold, as its method says."""
    return configs.load("methods", config.method, "method").reads(config, training=training)


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
    return configs.load("methods", config.method, "method").build(config), config


def build_optimizer(
    method: Method, config: ConfigDict, plan: loop.Plan
) -> tuple[Callable[[Any], Any], optax.GradientTransformation]:
    """The learning rate of a run, and its optimiser."""
    block = config.student.optim
    rate = optim.learning_rate(
        **{name: block[name] for name in RATE_SETTINGS}, steps=plan.steps, steps_per_epoch=plan.steps_per_epoch
    )
    return rate, optim.build_optimizer(rate, **{name: block[name] for name in OPTIMIZER_SETTINGS}, groups=method.groups)


def check_run(run: Run, around: Surroundings) -> None:
    """Says what a run will hold in memory, from shapes alone, and refuses what cannot be trained: before anything is.

    Raises:
      UserError: it does not fit into memory, would wait for no batch, or its pretrained weights are of another network.
    """
    source = open_training(run.config, around)
    trial = ConfigDict(configs.as_tuples(run.config.to_dict()))
    plan = plan_of(trial, len(source))
    method, config = build_method(trial, plan)
    _, optimizer = build_optimizer(method, config, plan)
    block, example = config.student.train, source.gather(np.arange(1))
    if block.patience_seconds < 1:
        raise UserError(f"train.patience_seconds of the {run.name} is {block.patience_seconds:g}: use at least 1.")
    needed = memory.estimate(
        method,
        optimizer,
        example,
        batch=block.batch,
        accumulate=block.accumulate,
        devices=around.mesh.size,
        with_ema=block.ema_decay > 0,
        fsdp=block.fsdp,
    )
    around.show(f"{run.name:9s} will hold about {needed}")
    memory.require_room(run.name, needed, jax.local_devices()[0])
    if config.student.pretrained:
        params, model_state, _ = jax.eval_shape(method.init, jax.random.key(0), example)
        weights.check_pretrained(run.name, config.student, weights.variables_of("student", params, model_state))


def train_run(run: Run, around: Surroundings) -> epath.Path:
    """Trains a run, from its last checkpoint where it has one.

    Args:
      run: what to train.
      around: data and devices.

    Returns:
      Its folder.

    Raises:
      UserError: see `loop.train`, or options of the config that do not fit.
      Stopped: see `loop.train`.
    """
    directory = around.workdir / run.name
    source, protocol = open_training(run.config, around), open_protocol(run.config, around)
    plan = plan_of(run.config, len(source))
    method, config = build_method(run.config, plan)
    block = config.student.train
    if jax.process_index() == 0:
        for folder in FOLDERS:
            set_damaged_aside(directory / folder, around.show)
    processes.wait_for_all("damaged checkpoints are set aside")
    opened = [open_checkpoints(directory / folder, config, protocol) for folder in FOLDERS]
    with closing(opened[0]) as checkpoints, closing(opened[1]) as interrupted:
        checkpoints.remove_deleted()  # a run that has only its report left to write saves nothing
        reports = config.gradient_report and bool(method.teachers)
        trained = checkpoints.latest_step() == plan.steps and (not reports or gradients.is_whole(directory))
        if processes.first_process_says(trained):
            around.show(f"{run.name}  trained already: {plan.steps} steps in {directory}")
            remove_interrupted(directory)
            return directory
        over_batch, everywhere = sharding.over_batch(around.mesh), sharding.replicated(around.mesh)
        first_key, root_key = keys_of(config.seed, everywhere)
        rate, optimizer = build_optimizer(method, config, plan)
        example = to_global(source.gather(np.arange(block.batch // jax.process_count()) % len(source)), over_batch)
        current = state.create(
            method, optimizer, example, first_key, with_ema=block.ema_decay > 0, mesh=around.mesh, fsdp=block.fsdp
        )
        frozen, fingerprints = weights.load_frozen(method, config.teacher.network.name, example, first_key, around.mesh)
        newest = newest_of(checkpoints, interrupted)
        interval: list[loop.Measured] = []
        if newest is None and config.student.pretrained:
            current = with_pretrained(config, current)
        if newest is not None:
            restored, meta = newest.restore(vars(state.abstract(current)))
            if meta["teachers"] != fingerprints:
                raise UserError(
                    f"'{directory}' was begun with another teacher than '{config.teacher.checkpoint}' holds now: give that one again, "
                    "or use another --workdir."
                )
            current, interval = state.TrainState(**restored), loop.interval_of(meta)
            around.show(f"{run.name}  goes on from step {int(current.step)} of {plan.steps}")
        source = caching.with_cached_targets(method, frozen, source, config, around.mesh, around.show)
        step, writes = int(current.step), jax.process_index() == 0
        log = MetricsLog(str(directory), first_step=step - 1 if interval else step, writes=writes)
        examples = Lines(directory / "examples.jsonl", first_step=step, writes=writes) if block.log_examples else None
        batches = TrainBatches(
            source, seed=config.seed, batch=block.batch, first_step=step, sharding=over_batch, patience=block.patience_seconds
        )
        measure = gradients.term_norms(method)
        if reports and step == 0:
            report_gradients(directory, "start", measure, current, frozen, example, root_key)
        try:
            current = loop.train(
                run.name,
                state=current,
                interval=interval,
                step_function=build_step(
                    method, optimizer, ema_decay=block.ema_decay, accumulate=block.accumulate, layout=state.layout(current)
                ),
                frozen=frozen,
                batches=batches,
                root_key=root_key,
                plan=plan,
                learning_rate=rate,
                evaluate=quick_evaluation(method, config, protocol, around.mesh),
                shown=("loss", "task", *(f"weighted_{name}" for name in config.distill.weights)),
                storage=loop.Storage(checkpoints, interrupted, meta_of(config, fingerprints), log, examples),
                stop=around.stop,
                unit=(source.unit[0], source.unit[1] * block.batch),
                show=around.show,
            )
        finally:
            batches.close()
            log.close()
            if examples is not None:
                examples.close()
        if reports:
            report_gradients(directory, "end", measure, current, frozen, example, root_key)
    remove_interrupted(directory)
    return directory


def keys_of(seed: int, everywhere: jax.sharding.Sharding) -> tuple[jax.Array, jax.Array]:
    """The key of the initialisation and the root key of the steps, made in place: a process cannot put an array onto another's devices."""

    def keys() -> tuple[jax.Array, jax.Array]:
        first, root = jax.random.split(jax.random.key(seed))
        return first, root

    return jax.jit(keys, out_shardings=everywhere)()


def report_gradients(
    directory: epath.Path, when: str, measure: Callable, current: state.TrainState, frozen: Any, batch: Any, key: jax.Array
) -> None:
    """Measures the terms of a method on the first examples, not augmented, and writes their gradients' norms into the run's folder."""
    measured = measure(current, frozen, batch, jax.random.fold_in(key, int(current.step)))
    norms = {name: float(value) for name, value in measured.items()}
    if jax.process_index() == 0:
        gradients.write(directory, when, norms)


def with_pretrained(config: ConfigDict, fresh: state.TrainState) -> state.TrainState:
    """A state at step 0 whose student starts from published weights."""
    variables = weights.variables_of("student", fresh.params, fresh.model_state)
    filled = weights.start_from(config.student.network.name, config.student.pretrained, variables)
    model_state = {**fresh.model_state, "student": filled["state"]} if filled["state"] else fresh.model_state
    params = {**fresh.params, "student": filled["params"]}
    ema = None if fresh.ema is None else {**fresh.ema, "student": jax.tree.map(jnp.copy, filled["params"])}
    return dataclasses.replace(fresh, params=params, model_state=model_state, ema=ema)


def meta_of(config: ConfigDict, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    return {"config": configs.as_dict(config), "method": config.method, "teachers": dict(fingerprints)}


def open_checkpoints(directory: epath.Path, config: ConfigDict, protocol: Any) -> Checkpoints:
    """The checkpoints of a run in one of `FOLDERS`."""
    planned = directory.name == FOLDERS[0]
    return Checkpoints(
        directory,
        keep_latest=config.checkpoint.keep_latest if planned else 1,
        keep_best=config.checkpoint.keep_best if planned else 0,
        best_metric=protocol.best_metric,
        best_is_lowest=protocol.best_is_lowest,
        asynchronous=config.checkpoint.asynchronous,
    )


def remove_interrupted(directory: epath.Path) -> None:
    """Deletes the state at which a run was told to stop, when the run is over."""
    folder = directory / FOLDERS[1]
    if jax.process_index() == 0 and folder.exists():
        folder.rmtree()


def newest_of(checkpoints: Checkpoints, interrupted: Checkpoints) -> Checkpoints | None:
    """Where the newest state lies; of one step the planned one, after which everything has been done. None: nowhere."""
    steps = {step: found for found in (interrupted, checkpoints) if (step := found.latest_step()) is not None}
    return steps[max(steps)] if steps else None


def quick_evaluation(
    method: Method, config: ConfigDict, protocol: Any, mesh: jax.sharding.Mesh
) -> Callable[[state.TrainState], Mapping[str, float]]:
    """The light evaluation during training: state -> scores."""
    source, score = protocol.quick(config.student.train.evaluate_examples)
    predict = jax.jit(method.predict)

    def evaluate(current: state.TrainState) -> Mapping[str, float]:
        with jax.default_matmul_precision("highest"):  # on TPU the default is one bfloat16 pass
            predicted = runner.predict_all(
                predict,
                current.evaluated_params,
                current.model_state,
                source,
                batch=sharding.evaluation_batch(config.eval.batch, mesh),
                sharding=sharding.over_batch(mesh),
            )
        return score(predicted)

    return evaluate
