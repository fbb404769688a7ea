"""Builds our networks from presets, as a run does, with random weights or from shapes alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from configs import cdkd, scjd
from configs.networks import mixste_block
from kdpose_jax.contracts import Source
from kdpose_jax.data.batches import TrainBatches
from kdpose_jax.evaluate import cost
from kdpose_jax.experiment import memory, pipeline
from kdpose_jax.experiment.run import Built, Run, build, reads
from kdpose_jax.experiment.training import keys_of
from kdpose_jax.train import compiling, sharding, state
from kdpose_jax.train.step import TrainStep, build_step

EXAMPLES = 100_000  # of a training set; they decide the schedule alone


def run_of(config: Any, stage: str) -> Run:
    """Returns the run that trains a stage of an experiment."""
    return next(run for run in pipeline.planned_runs(config) if run.name == stage)


def lifting_run(frames: int, width: int, depth: int, batch: int) -> Run:
    """Describes a MixSTE with MixSTE's own recipe, which SCJD's teacher has."""
    config = scjd.get_config("h36m")
    config.data.frames = frames
    config.teacher.network = mixste_block(width, depth, heads=8, drop_path=0.1)
    config.teacher.train.batch = batch
    return run_of(config, "teacher")


def student_run(student: str) -> Run:
    """Describes SCJD's student of one of its sizes, with 243 frames."""
    return run_of(scjd.get_config(f"h36m,student={student}"), "student")


def picture_run(size: int, batch: int) -> Run:
    """Describes an HRNet-W32 with a SimDR head for small crops, with SimCC's recipe."""
    config = cdkd.get_config(f"mpii{size}")
    config.teacher.input.size = size
    config.teacher.train.batch = batch
    return run_of(config, "teacher")


def abstract_batch(run: Run, count: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Describes a training batch as the config's reader gives it."""
    joints, asked = run.config.data.joints, reads(run, training=True)
    shapes: dict[str, tuple[int, ...]]
    if run.config.data.reader == "sequences":
        frames = asked["frames"]
        shapes = {
            "keypoints_2d": (frames + sum(asked["context"]), joints, 2),
            "pose_3d": (frames, joints, 3),
        }
        if build(run, EXAMPLES).method.reads_teacher_poses:
            shapes["teacher_pose_3d"] = shapes["pose_3d"]
        pictures = {}
    else:
        shapes = {"joints": (joints, 2), "joint_weight": (joints,)}
        pictures = {name: (side, side, 3) for name, side in asked["views"].items()}
    return {
        name: jax.ShapeDtypeStruct((count, *shape), kind)
        for kind, named in ((np.float32, shapes), (np.uint8, pictures))
        for name, shape in named.items()
    }


def random_batch(run: Run, count: int) -> dict[str, jax.Array]:
    """Draws a batch: pixels, joints inside the crop, poses of about a metre."""
    generator, batch = np.random.default_rng(0), {}
    for name, array in abstract_batch(run, count).items():
        if array.dtype == np.uint8:
            drawn = generator.integers(0, 256, array.shape, np.uint8)
        elif name == "joints":
            drawn = generator.uniform(0, run.block.input.size - 1, array.shape)
        elif name == "joint_weight":
            drawn = np.ones(array.shape)
        else:
            drawn = 0.3 * generator.standard_normal(array.shape)
        batch[name] = jnp.asarray(drawn, array.dtype)
    return batch


@dataclasses.dataclass
class Training:
    """A run on the devices, which takes steps.

    Attributes:
      built: the run, its method and its optimiser.
      mesh: the devices.
      step: takes one step.
      state: the state, which each step replaces.
      frozen: teachers, with random weights.
      root_key: the key from which the key of every step is folded.
    """

    built: Built
    mesh: Mesh
    step: TrainStep
    state: state.TrainState
    frozen: Any
    root_key: jax.Array

    def advance(self, batch: Any) -> Any:
        """Takes one step, and returns its metrics without waiting for them."""
        self.state, metrics = self.step(self.state, self.frozen, batch, self.root_key)
        return metrics

    def count_flops(self, batch: Any) -> float:
        """Counts the floating-point operations in the products of one step."""
        arguments = (self.state, self.frozen, batch, self.root_key)
        return 2.0 * cost.count_macs(self.step, *arguments).total


def start(run: Run, example: Any) -> Training:
    """Builds a run's step, and makes its first state, as training does.

    Args:
      run: the run.
      example: a batch, for the shapes.
    """
    built, mesh = build(run, EXAMPLES), sharding.make_mesh()
    options = built.run.block.train
    first_key, root_key = keys_of(built.run.config.seed, sharding.replicated(mesh))
    current = state.create(
        built.method,
        built.optimizer,
        example,
        first_key,
        with_ema=options.ema_decay > 0,
        mesh=mesh,
        fsdp=options.fsdp,
    )
    frozen = jax.jit(lambda key, batch: built.method.init(key, batch)[2])(first_key, example)
    return Training(built, mesh, step_of(built, state.layout(current)), current, frozen, root_key)


def step_of(built: Built, layout: state.TrainState) -> TrainStep:
    """Builds the step of a run as `experiment/training.py` does."""
    options = built.run.block.train
    return build_step(
        built.method,
        built.optimizer,
        ema_decay=options.ema_decay,
        accumulate=options.accumulate,
        statistics_per_device=options.batch_statistics == "device",
        layout=layout,
    )


def share_of(run: Run, devices: int) -> int:
    """Computes how many examples of a preset's batch each device has.

    A batch that is too small for the devices becomes the smallest one that they can share.
    """
    options = run.block.train
    return max(options.batch // devices, options.accumulate)


def traced_step(run: Run, mesh: Mesh, share: int) -> jax.stages.Traced:
    """Traces the step of a run from shapes alone, ready to be lowered and compiled.

    Args:
      run: the run.
      mesh: the devices, which may be described only.
      share: examples of a batch on each device.
    """
    built, batch = build(run, EXAMPLES), abstract_batch(run, share * mesh.size)
    options, everywhere = built.run.block.train, sharding.replicated(mesh)
    key = jax.eval_shape(lambda: jax.random.key(0))
    described = state.describe(
        built.method,
        built.optimizer,
        batch,
        with_ema=options.ema_decay > 0,
        mesh=mesh,
        fsdp=options.fsdp,
    )
    frozen = jax.eval_shape(lambda key, batch: built.method.init(key, batch)[2], key, batch)
    return step_of(built, state.layout(described)).trace(
        described,
        placed(frozen, everywhere),
        placed(batch, sharding.over_batch(mesh)),
        placed(key, everywhere),
    )


def placed(tree: Any, where: jax.sharding.Sharding) -> Any:
    """Describes arrays that lie on devices."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree)


def estimated_memory(run: Run, devices: int, share: int) -> memory.Bytes:
    """Estimates what the step of a run holds on each TPU, as a run does before it starts."""
    built = build(run, EXAMPLES)
    options = built.run.block.train
    return memory.estimate(
        built.method,
        built.optimizer,
        abstract_batch(built.run, 1),
        batch=share * devices,
        accumulate=options.accumulate,
        devices=devices,
        with_ema=options.ema_decay > 0,
        fsdp=options.fsdp,
        platform="tpu",
    )


def predictor(run: Run, count: int) -> tuple[Callable[[], Any], float]:
    """Makes the call that evaluation makes for one batch.

    Args:
      run: the run, whose network gets random weights.
      count: examples in the batch.

    Returns:
      The call, which waits for its result; the floating-point operations in its products.
    """
    built = build(run, EXAMPLES)
    batch = random_batch(built.run, count)
    params, model_state, _ = jax.jit(built.method.init)(jax.random.key(0), batch)
    read = {name: batch[name] for name in ("keypoints_2d", "image") if name in batch}
    predict = compiling.jit(built.method.predict, sharding.make_mesh())

    def call() -> Any:
        with jax.default_matmul_precision("highest"):
            return jax.block_until_ready(predict(params, model_state, read))

    return call, 2.0 * cost.count_macs(predict, params, model_state, read).total


def delivered(source: Source, batch: int) -> tuple[TrainBatches, Any]:
    """Returns a run's batches, and what waits for the next one on the device."""
    place = sharding.over_batch(sharding.make_mesh())
    batches = TrainBatches(
        source, seed=0, batch=batch, first_step=0, sharding=place, patience=300.0
    )
    return batches, lambda: jax.block_until_ready(next(batches))
