"""Shrinks every experiment until it compiles in seconds.

Use `from tiny import EXPERIMENTS, first_steps`.
"""

import dataclasses
import importlib
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict
from repository import REPOSITORY

from kdpose_jax.contracts import Method
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import configs, pipeline
from kdpose_jax.experiment.run import Run, build, reads
from kdpose_jax.skeletons import SKELETONS
from kdpose_jax.train import state
from kdpose_jax.train.step import build_step

BATCH = 2
# New values for all fields with these names. The teacher is wider, so that nothing fits by
# accident.
SMALL = {
    "width": 8, "depth": 1, "heads": 2, "frames": 9, "batch": BATCH, "warmup_epochs": 0.0,
    "stem_width": 8, "blocks": 1, "modules": (1,), "size": 32, "split_ratio": 2.0, "sigma": 2.0,
    "kept_frames": 3, "kept_coefficients": 3, "filters": (3, 3), "dense_pairs": 1,
}  # fmt: skip
SMALL_TEACHER = {"width": 16, "size": 64}
# These fields decide neither a step's program nor what is trained. Runs that differ only in them
# count as one.
BESIDE_THE_POINT = (
    "name",
    "eval",
    "checkpoint",
    "converter",
    "selection",
    "epochs",
    "pretrained",
    "optim",
    "training",
    "log_every_steps",
    "save_every_steps",
    "evaluate_every_epochs",
    "evaluate_examples",
    # Start values, the order and the number of joints, and what only several devices differ in.
    "joint_position_std",
    "skeleton",
    "joints",
    "fsdp",
    "batch_statistics",
)
# Parameters whose gradient is zero at the first step, because ETHT's reversal grows from zero
# (docs/methods/cdkd.md#temperature).
NOT_AT_ONCE = ("temperature",)
# Parameters whose gradient at the first step is only rounding. They multiply HoT's queries, which
# start at zero, or they are a bias that shifts all of a query's logits alike
# (docs/methods/lifting.md#hot).
NO_FIRST_GRADIENT = ("recovery/query/kernel", "recovery/key/bias")


def config_files() -> list[str]:
    """Lists the modules in configs/ that define experiments."""
    return sorted(
        path.stem
        for path in (REPOSITORY / "configs").glob("*.py")
        if "def get_config(" in path.read_text()
    )


def get_config(file: str, text: str) -> ConfigDict:
    """Returns the experiment `configs/FILE.py:TEXT`, unchanged."""
    return importlib.import_module(f"configs.{file}").get_config(text)


def presets(file: str) -> list[str]:
    """Lists a config's presets, which it names when it refuses another one."""
    try:
        get_config(file, "no such preset")
    except UserError as error:
        return re.search(r"use one of (.*)\.$", str(error))[1].split(", ")
    raise AssertionError(f"configs/{file}.py takes any preset")


EXPERIMENTS = [(file, preset) for file in config_files() for preset in presets(file)]


def shrink(config: ConfigDict, sizes: dict[str, Any] | None = None) -> ConfigDict:
    """Replaces sizes by their field names, in every block."""
    sizes = SMALL if sizes is None else sizes
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            if "network" in config and name == "data":
                continue  # a teacher's has references to the experiment's
            shrink(value, sizes | SMALL_TEACHER if name == "teacher" else sizes)
        # A name such as `heads` may also be a mode.
        elif name in sizes and type(value) is type(sizes[name]):
            config[name] = sizes[name]
    return config


def run_on(config: ConfigDict, stage: str = "student") -> Run:
    """Makes a run from a config."""
    return Run(stage, stage, stage, config)


def built_on(config: ConfigDict, examples: int) -> tuple[Method, ConfigDict]:
    """Builds the method for a student's run on `examples` examples, and locks its config."""
    built = build(run_on(config), examples)
    return built.method, built.run.config


def example_batch(
    config: ConfigDict, count: int = BATCH, seed: int = 0, stage: str = "student"
) -> dict[str, jax.Array]:
    """Makes a batch as the config's reader would; a new reader needs its lines here."""
    run = run_on(config, stage)
    generator = np.random.default_rng(seed)
    if config.data.reader == "sequences":
        asked = reads(run, training=True)
        (before, after), frames = asked["context"], asked["frames"]
        shape = (count, before + frames + after, config.data.joints)
        pose_3d = np.cumsum(generator.normal(size=(*shape, 3)), axis=1) * 0.1
        pose_3d[:, :, SKELETONS[config.data.skeleton].root] = 0
        keypoints_2d = pose_3d[..., :2] + 0.01 * generator.normal(size=(*shape, 2))
        batch = {"keypoints_2d": keypoints_2d, "pose_3d": pose_3d[:, before : before + frames]}
        if build(run, 64).method.reads_teacher_poses:
            noise = 0.03 * generator.normal(size=batch["pose_3d"].shape)
            batch["teacher_pose_3d"] = batch["pose_3d"] + noise
        return {name: jnp.asarray(array, jnp.float32) for name, array in batch.items()}
    if config.data.reader == "persons":
        joints, side = config.data.joints, run.block.input.size
        places = generator.uniform(0, side - 1, size=(count, joints, 2))
        batch = {
            "joints": jnp.asarray(places, jnp.float32),
            "joint_weight": jnp.asarray(generator.uniform(size=(count, joints)) < 0.8, jnp.float32),
        }
        for name, size in reads(run, training=True)["views"].items():
            batch[name] = jnp.asarray(
                generator.integers(0, 256, size=(count, size, size, 3)), jnp.uint8
            )
        return batch
    raise AssertionError(f"tests/support/tiny.py knows no batch of reader '{config.data.reader}'")


def prediction_shapes(config: ConfigDict, batch: dict[str, jax.Array]) -> Any:
    """Returns the task's canonical prediction as a tree of shapes.

    A new task needs its line here.
    """
    if config.task == "lifting":
        return batch["pose_3d"].shape
    return {"pose2d": {"joints": batch["joints"].shape, "scores": batch["joints"].shape[:2]}}[
        config.task
    ]


def run_of(file: str, preset: str, name: str) -> Run:
    """Makes one run (teacher, baseline or student) in a shrunk experiment."""
    return {run.name: run for run in pipeline.planned_runs(shrink(get_config(file, preset)))}[name]


RUNS = [
    pytest.param(file, preset, run.name, id=f"{file}-{preset}-{run.name}")
    for file, preset in EXPERIMENTS
    for run in pipeline.planned_runs(get_config(file, preset))
]


def mesh_of(devices: int) -> Mesh:
    """Makes a mesh like the trainer's on some of the devices."""
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def recording() -> optax.GradientTransformation:
    """Passes gradients on, and keeps the last ones as its state."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda updates, _, params=None: (updates, updates),
    )


@dataclasses.dataclass(frozen=True)
class Started:
    """Holds a run after two steps.

    Attributes:
      run: the run with its locked config.
      method: the method, whose loss counts how often it is traced.
      batch: the batch in both steps.
      frozen: the teachers.
      states: states before, after one step and after two steps, without the optimiser's part.
      gradients: gradients in the first step.
      metrics: metrics in both steps, (sum, count).
      traces: number of traces of the loss, and number of the step's programs, after the second
        step.
      prediction: the student's prediction after two steps.
    """

    run: Run
    method: Method
    batch: dict[str, jax.Array]
    frozen: Any
    states: list[state.TrainState]
    gradients: Any
    metrics: list[dict[str, tuple[np.ndarray, np.ndarray]]]
    traces: tuple[int, int]
    prediction: Any


def first_steps(file: str, preset: str, name: str) -> Started:
    """Trains a run for two steps.

    All tests in a session share the result. So do runs whose steps are the same.
    """
    run = run_of(file, preset, name)
    config = run.config
    flat = configs.flatten(config.to_dict())
    counts = {
        key: value
        for key, value in flat.items()
        if not any(word in key.split(".") for word in BESIDE_THE_POINT)
    }
    taught = any(flat[f"distill.weights.{weight}"] for weight in config.distill.weights)
    if run.stage == "teacher":
        unread = ("student.", "distill.", "method")
        counts = {key: value for key, value in counts.items() if not key.startswith(unread)}
        counts = {key.replace("teacher.", "student."): value for key, value in counts.items()}
        counts["method"] = counts.pop("student.method")
    elif not taught or config.method == config.teacher.method:
        counts = {
            key: value
            for key, value in counts.items()
            if not key.startswith(("teacher.", "distill."))
        }
    else:  # The teacher is given, and how it was trained does not matter.
        counts = {
            key: value
            for key, value in counts.items()
            if not key.startswith(("teacher.loss.", "teacher.train."))
        }
    # Only the existence of an average, of smoothing or of a term matters, not its strength.
    counts |= {
        key: value > 0
        for key, value in counts.items()
        if key.endswith(("ema_decay", "loss.smoothing")) or key.startswith("distill.weights.")
    }
    key = json.dumps(counts, sort_keys=True)
    if key not in _STARTED:
        _STARTED[key] = _take_first_steps(file, preset, name)
    return _STARTED[key]


_STARTED: dict[str, Started] = {}


def kept(current: state.TrainState) -> state.TrainState:
    """Copies a state without the optimiser's part, which would fill the memory."""
    return jax.tree.map(np.array, dataclasses.replace(current, opt_state=None))


def _take_first_steps(file: str, preset: str, name: str) -> Started:
    built = build(run_of(file, preset, name), 64)
    run, method = built.run, built.method
    traced, loss = [], method.loss

    def counted(*arguments):
        traced.append(1)
        return loss(*arguments)

    method = dataclasses.replace(method, loss=counted)
    optimizer = optax.chain(recording(), built.optimizer)
    everywhere = NamedSharding(mesh_of(1), PartitionSpec())
    batch = jax.device_put(
        example_batch(run.config, stage=run.stage), NamedSharding(mesh_of(1), PartitionSpec("data"))
    )
    key = jax.device_put(jax.random.key(run.config.seed), everywhere)
    decay = run.block.train.ema_decay
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer power
        current = state.create(
            method, optimizer, batch, key, with_ema=decay > 0, mesh=mesh_of(1), fsdp=False
        )
        frozen = (
            jax.device_put(jax.jit(lambda: method.init(key, batch)[2])(), everywhere)
            if method.teachers
            else {}
        )
        step = build_step(
            method,
            optimizer,
            ema_decay=decay,
            accumulate=1,
            statistics_per_device=False,
            layout=state.layout(current),
        )
        states, metrics, gradients = [kept(current)], [], []
        for _ in range(2):
            current, values = step(current, frozen, batch, key)
            states.append(kept(current))
            metrics.append(jax.tree.map(np.asarray, values))
            gradients.append(jax.tree.map(np.array, current.opt_state[0]))
    prediction = jax.jit(method.predict)(current.evaluated_params, current.model_state, batch)
    return Started(
        run=run,
        method=method,
        batch=batch,
        frozen=frozen,
        states=states,
        gradients=gradients[0],
        metrics=metrics,
        traces=(len(traced), step._cache_size()),
        prediction=jax.tree.map(np.asarray, prediction),
    )
