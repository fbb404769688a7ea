"""Trains one network of an experiment into its folder, unless it is trained already."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from kdpose_jax import processes
from kdpose_jax.checkpoint.integrity import set_damaged_aside
from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.contracts import Batch, EvaluationProtocol, Source
from kdpose_jax.data.batches import TrainBatches, to_global
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import runner
from kdpose_jax.experiment import configs, gradients, memory, splits, weights
from kdpose_jax.experiment.run import Built, Context, Run, build, open_selection, open_training
from kdpose_jax.folders import RunFolder
from kdpose_jax.train import compiling, loop, sharding, state
from kdpose_jax.train.logs import Lines, MetricsLog, Progress
from kdpose_jax.train.step import build_step


@dataclasses.dataclass(frozen=True)
class Stored:
    """The checkpoints of a run.

    Attributes:
      checkpoints: those of the steps at which the plan saves.
      interrupted: the one of the step at which the run was told to stop.
    """

    checkpoints: Checkpoints
    interrupted: Checkpoints


@dataclasses.dataclass(frozen=True)
class Start:
    """Where training begins.

    Attributes:
      state: the state, which is new or restored.
      interval: metrics since the last line of the log, if the run was stopped between two lines.
      frozen: the teachers.
      fingerprints: name of a teacher -> fingerprint of its weights.
      example: the first examples, for shapes and for the report of the gradients.
      root_key: the key from which the key of every step is folded.
    """

    state: state.TrainState
    interval: list[loop.Measured]
    frozen: Any
    fingerprints: Mapping[str, str]
    example: Batch
    root_key: jax.Array


def check_run(run: Run, context: Context) -> None:
    """Shows what a run will hold in memory, and refuses a run that cannot be trained.

    Raises:
      UserError: the run does not fit into memory, its network lacks the batch statistics that the
        config has an option for, or its pretrained weights are another network's.
    """
    source = open_training(run, context)
    built = build(run, len(source))
    block, example = built.run.block, source.gather(np.arange(1))
    if built.method.reads_teacher_poses:  # the teachers may not exist yet: for the shapes
        example["teacher_pose_3d"] = example["pose_3d"]
    if block.train.batch_statistics == "device":
        _, model_state, _ = jax.eval_shape(built.method.init, jax.random.key(0), example)
        if not jax.tree.leaves(model_state):
            raise UserError(
                f"{run.stage}.train.batch_statistics is 'device', and {block.network.name} has no "
                "batch normalisation: set it to 'global'."
            )
    needed = memory.estimate(
        built.method,
        built.optimizer,
        example,
        batch=block.train.batch,
        accumulate=block.train.accumulate,
        devices=context.mesh.size,
        with_ema=block.train.ema_decay > 0,
        fsdp=block.train.fsdp,
        platform=context.mesh.devices.flat[0].platform,
    )
    context.show(f"{run.name:9s} will hold about {needed}")
    memory.require_room(run.name, needed, jax.local_devices()[0])
    if block.pretrained:
        params, model_state, _ = jax.eval_shape(built.method.init, jax.random.key(0), example)
        variables = weights.student_variables(params, model_state)
        weights.check_pretrained(run.stage, block, variables)


def train_run(run: Run, context: Context) -> epath.Path:
    """Trains a run, from its last checkpoint if it has one.

    Returns:
      The run's folder.

    Raises:
      UserError: options of the config do not fit together, or as in `loop.Training.run`.
      Stopped: as in `loop.Training.run`.
    """
    folder = RunFolder(context.workdir / run.name)
    source, protocol = open_training(run, context), open_selection(run, context)
    built = build(run, len(source))
    with open_stored(folder, built, protocol, context.show) as stored:
        if processes.first_process_says(is_trained(folder, stored, built)):
            steps = built.plan.steps
            context.show(f"{run.name}  trained already: {steps} steps in {folder.path}")
        else:
            start = start_of(folder, stored, built, source, context)
            train_from(start, folder, stored, built, source, protocol, context)
    if jax.process_index() == 0 and folder.interrupted.exists():
        folder.interrupted.rmtree()
    return folder.path


@contextlib.contextmanager
def open_stored(
    folder: RunFolder, built: Built, protocol: EvaluationProtocol, show: Callable[[str], None]
) -> Iterator[Stored]:
    """Opens the run's checkpoints after setting damaged ones aside, and closes them at the end."""
    if jax.process_index() == 0:
        for place in (folder.checkpoints, folder.interrupted):
            set_damaged_aside(place, show)
    processes.wait_for_all("damaged checkpoints are set aside")
    options = built.run.config.checkpoint
    shared = {
        "best_metric": protocol.best_metric,
        "best_is_lowest": protocol.best_is_lowest,
        "asynchronous": options.asynchronous,
    }
    with (
        contextlib.closing(
            Checkpoints(
                folder.checkpoints,
                keep_latest=options.keep_latest,
                keep_best=options.keep_best,
                **shared,
            )
        ) as checkpoints,
        contextlib.closing(
            Checkpoints(folder.interrupted, keep_latest=1, keep_best=0, **shared)
        ) as interrupted,
    ):
        checkpoints.remove_deleted()  # a run that only writes its report saves nothing
        yield Stored(checkpoints, interrupted)


def is_trained(folder: RunFolder, stored: Stored, built: Built) -> bool:
    """Returns whether the run has nothing left to do."""
    reported = not reports_gradients(built) or gradients.is_whole(folder.gradients)
    return stored.checkpoints.latest_step() == built.plan.steps and reported


def reports_gradients(built: Built) -> bool:
    """Returns whether the run measures how strongly each term pulls."""
    taught = bool(built.method.teachers) or built.method.reads_teacher_poses
    return built.run.config.gradient_report and taught


def start_of(
    folder: RunFolder, stored: Stored, built: Built, source: Source, context: Context
) -> Start:
    """Makes a new state, or restores the newest one on the disk.

    Raises:
      UserError: the run was begun with another teacher.
    """
    config, block, mesh = built.run.config, built.run.block, context.mesh
    share = block.train.batch // jax.process_count()
    first = source.gather(np.arange(share) % len(source))
    example = to_global(first, sharding.over_batch(mesh))
    first_key, root_key = keys_of(config.seed, sharding.replicated(mesh))
    kept = {"with_ema": block.train.ema_decay > 0, "mesh": mesh, "fsdp": block.train.fsdp}
    network = config.teacher.network.name
    frozen, fingerprints = weights.load_frozen(built.method, network, example, first_key, mesh)
    fingerprints = {**context.taught_by, **fingerprints}
    newest = newest_of(stored.checkpoints, stored.interrupted)
    if newest is None:
        current = state.create(built.method, built.optimizer, example, first_key, **kept)
        current = with_pretrained(built.run, current) if block.pretrained else current
        return Start(current, [], frozen, fingerprints, example, root_key)
    described = state.describe(built.method, built.optimizer, example, **kept)
    restored, meta = newest.restore(vars(described))
    if meta["teachers"] != fingerprints:
        raise UserError(
            f"'{folder.path}' was begun with another teacher than '{config.teacher.checkpoint}' "
            "holds now: give that one again, or use another --workdir."
        )
    current = state.TrainState(**restored)
    step = f"{int(current.step)} of {built.plan.steps}"
    context.show(f"{built.run.name}  goes on from step {step}")
    return Start(current, loop.interval_of(meta), frozen, fingerprints, example, root_key)


def train_from(
    start: Start,
    folder: RunFolder,
    stored: Stored,
    built: Built,
    source: Source,
    protocol: EvaluationProtocol,
    context: Context,
) -> None:
    """Trains to the end of the plan. Measures the terms' gradients before and after."""
    options, plan = built.run.block.train, built.plan
    step, writes = int(start.state.step), jax.process_index() == 0
    log = MetricsLog(folder.path, first_step=step - 1 if start.interval else step, writes=writes)
    examples = None
    if options.log_examples:
        examples = Lines(folder.examples, first_step=step, writes=writes)
    batches = TrainBatches(
        source,
        seed=built.run.config.seed,
        batch=options.batch,
        first_step=step,
        sharding=sharding.over_batch(context.mesh),
        patience=options.patience_seconds,
    )
    measure = gradients.term_norms(built.method)
    if reports_gradients(built) and step == 0:
        report_gradients(folder, "start", measure, start.state, start)
    training = loop.Training(
        start.state,
        start.interval,
        computation=computation_of(built, start, protocol, context.mesh),
        batches=batches,
        plan=plan,
        storage=loop.Storage(
            stored.checkpoints,
            stored.interrupted,
            meta_of(built.run, start, context.chosen_on),
            log,
            examples,
        ),
        progress=Progress(
            built.run.name,
            first_step=step,
            steps=plan.steps,
            steps_per_epoch=plan.steps_per_epoch,
            unit=(source.unit[0], source.unit[1] * options.batch),
            shown=shown_metrics(built.run),
            show=context.show,
        ),
        stop=context.stop,
    )
    try:
        final = training.run()
    finally:
        batches.close()
        log.close()
        if examples is not None:
            examples.close()
    if reports_gradients(built):
        report_gradients(folder, "end", measure, final, start)


def computation_of(
    built: Built, start: Start, protocol: EvaluationProtocol, mesh: jax.sharding.Mesh
) -> loop.Computation:
    """Builds what the loop computes: the step, and the evaluation that chooses among steps."""
    options = built.run.block.train
    return loop.Computation(
        step=build_step(
            built.method,
            built.optimizer,
            ema_decay=options.ema_decay,
            accumulate=options.accumulate,
            statistics_per_device=options.batch_statistics == "device",
            layout=state.layout(start.state),
        ),
        frozen=start.frozen,
        root_key=start.root_key,
        learning_rate=built.rate,
        evaluate=quick_evaluation(built, protocol, mesh),
        evaluated_on=splits.selection_split(built.run.config),
    )


def shown_metrics(run: Run) -> tuple[str, ...]:
    """Names the metrics in the progress line. The log has all metrics."""
    return ("loss", "task", *(f"weighted_{name}" for name in run.config.distill.weights))


def keys_of(seed: int, everywhere: jax.sharding.Sharding) -> tuple[jax.Array, jax.Array]:
    """Makes the key of the initialisation and the root key of the steps.

    They are made on their devices. A process cannot put an array onto another process's devices.
    """

    def keys() -> tuple[jax.Array, jax.Array]:
        first, root = jax.random.split(jax.random.key(seed))
        return first, root

    return jax.jit(keys, out_shardings=everywhere)()


def report_gradients(
    folder: RunFolder, when: str, measure: Callable, current: state.TrainState, start: Start
) -> None:
    """Writes the norms of the terms' gradients on the first examples, without augmentation."""
    key = jax.random.fold_in(start.root_key, int(current.step))
    measured = measure(current, start.frozen, start.example, key)
    norms = {name: float(value) for name, value in measured.items()}
    if jax.process_index() == 0:
        gradients.write(folder.gradients, when, norms)


def with_pretrained(run: Run, fresh: state.TrainState) -> state.TrainState:
    """Fills published weights into the network of a state at step 0."""
    variables = weights.student_variables(fresh.params, fresh.model_state)
    filled = weights.start_from(run.block.network.name, run.block.pretrained, variables)
    model_state = fresh.model_state
    if filled["state"]:
        model_state = {**model_state, "student": filled["state"]}
    params = {**fresh.params, "student": filled["params"]}
    ema = fresh.ema
    if ema is not None:
        ema = {**ema, "student": jax.tree.map(jnp.copy, filled["params"])}
    return dataclasses.replace(fresh, params=params, model_state=model_state, ema=ema)


def meta_of(run: Run, start: Start, chosen_on: str) -> dict[str, Any]:
    """Collects what a checkpoint says about its run, and on which examples the best is chosen."""
    return {
        "config": configs.as_dict(run.config),
        "method": run.method_name,
        "stage": run.stage,
        "teachers": dict(start.fingerprints),
        "chosen_on": chosen_on,
    }


def newest_of(checkpoints: Checkpoints, interrupted: Checkpoints) -> Checkpoints | None:
    """Returns the folder with the newest checkpoint, or None.

    If both have the same step, the plan's is taken: its evaluation and logging are complete.
    """
    steps = {}
    for folder in (interrupted, checkpoints):
        step = folder.latest_step()
        if step is not None:
            steps[step] = folder
    return steps[max(steps)] if steps else None


def quick_evaluation(
    built: Built, protocol: EvaluationProtocol, mesh: jax.sharding.Mesh
) -> Callable[[state.TrainState], Mapping[str, float]]:
    """Makes the light evaluation during training: state -> scores."""
    source, score = protocol.quick(built.run.block.train.evaluate_examples)
    predict = compiling.jit(built.method.predict, mesh)
    batch = sharding.evaluation_batch(built.run.config.eval.batch, mesh)

    def evaluate(current: state.TrainState) -> Mapping[str, float]:
        with jax.default_matmul_precision("highest"):  # on TPU the default is one bfloat16 pass
            predicted = runner.predict_all(
                predict,
                current.evaluated_params,
                current.model_state,
                source,
                batch=batch,
                sharding=sharding.over_batch(mesh),
            )
        return score(predicted)

    return evaluate
