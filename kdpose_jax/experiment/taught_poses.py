"""Computes once what the teachers predict in every training frame, and keeps it for the student.

A teacher may be any network of the task: each has windows and a context of its own.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import Float

from kdpose_jax import files, processes
from kdpose_jax.data import sequences
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import runner
from kdpose_jax.evaluate.metrics.poses_3d import mpjpe_per_frame
from kdpose_jax.experiment import configs, existing, splits, teachers
from kdpose_jax.experiment.evaluation import keep_record, kept_record
from kdpose_jax.experiment.existing import Trained
from kdpose_jax.experiment.run import Context, Run, build, reads
from kdpose_jax.folders import WorkFolder
from kdpose_jax.train import compiling, sharding


def teach(run: Run, metadata: dict[str, Any], context: Context) -> Context:
    """Adds what the teachers predict to the training data, if the run's method reads it.

    Args:
      run: the student's run, whose config names the teachers.
      metadata: the data set's metadata.
      context: the training data, devices and folder.

    Returns:
      A context whose training data have the mean of the teachers' predictions.

    Raises:
      UserError: a checkpoint holds another network, or a prediction is not finite.
      Stopped: the program was told to stop.
    """
    if not build(run, 1).method.reads_teacher_poses:
        return context
    folder = WorkFolder(epath.Path(run.config.distill.poses_folder or context.workdir))
    data = context.training_data
    runs, _ = teachers.teacher_runs(run.config)
    networks = [restored(teacher, context) for teacher in runs]
    fingerprints = {
        teacher.name: network.fingerprint for teacher, network in zip(runs, networks, strict=True)
    }
    split = "+".join(splits.training_splits(run.config, metadata))
    origin = origin_of(fingerprints, metadata, split)
    record = kept_record(folder.taught_poses_origin, origin)
    is_kept = record is not None and folder.taught_poses.exists()
    if processes.first_process_says(is_kept):
        mean = kept_poses(folder, data.pose_3d.shape)
    else:
        count = f"{len(data.frame_mask):,} training frames"
        context.show(f"computing what {len(runs)} teacher(s) predict in {count}, with flip")
        mean = mean_prediction(networks, context)
    error_mm = 1000 * float(mpjpe_per_frame(mean, data.pose_3d).mean())
    if not np.isfinite(error_mm):
        paths = ", ".join(f"'{teacher.config.teacher.checkpoint}'" for teacher in runs)
        raise UserError(
            f"Of the teachers {paths}, one predicts NaN or infinity in training frames: give "
            "others."
        )
    if not is_kept and jax.process_index() == 0:
        write(folder, mean, origin, error_mm)
    processes.wait_for_all("the teachers' poses are written")
    context.show(
        f"teachers' poses  {folder.taught_poses}: MPJPE {error_mm:.2f} mm on the training split"
    )
    return dataclasses.replace(
        context,
        training_data=dataclasses.replace(data, teacher_pose_3d=mean),
        taught_by=fingerprints,
        sources={},  # examples without the poses, which would stay in memory beside the new ones
    )


def restored(teacher: Run, context: Context) -> Trained:
    """Loads a teacher onto the devices."""
    source = sequences.open_whole(context.training_data, **reads(teacher, training=False))
    example = source.gather(np.arange(1))
    checkpoint = teacher.config.teacher.checkpoint
    return existing.restore(teacher, checkpoint, example, sharding.replicated(context.mesh))


def mean_prediction(networks: Sequence[Trained], context: Context) -> Float[np.ndarray, "N J 3"]:
    """Averages what networks predict in every training frame, in float32 and with test-time flip.

    Returns:
      Metres, relative to the root.
    """
    total: Any = 0.0
    for network in networks:
        context.stop.obey()
        source = sequences.open_whole(context.training_data, **reads(network.run, training=False))
        with jax.default_matmul_precision("highest"):  # on TPU the default is one bfloat16 pass
            predicted = runner.predict_all(
                compiling.jit(network.method.predict_with_flip, context.mesh),
                network.params,
                network.model_state,
                source,
                batch=sharding.evaluation_batch(network.run.config.eval.batch, context.mesh),
                sharding=sharding.over_batch(context.mesh),
            )
        total = total + sequences.each_frame_once(source, predicted)
    return np.asarray(total / len(networks), np.float32)


def origin_of(fingerprints: dict[str, str], metadata: dict[str, Any], split: str) -> dict[str, Any]:
    """Says what the stored poses depend on."""
    return {
        "teachers": fingerprints,
        "data": configs.data_checksum(metadata),
        "split": split,
    }


def kept_poses(folder: WorkFolder, shape: tuple[int, ...]) -> Float[np.ndarray, "N J 3"]:
    """Reads the stored poses, which must have this shape.

    Raises:
      UserError: the file is damaged.
    """
    try:
        with folder.taught_poses.open("rb") as file:
            poses = np.load(file, allow_pickle=False)
        if poses.shape != shape:
            raise ValueError(f"its shape is {poses.shape}")
    except (ValueError, EOFError) as error:
        raise UserError(
            f"'{folder.taught_poses}' is damaged ({error}): delete it, and the same command "
            "computes it again."
        ) from error
    return poses


def write(
    folder: WorkFolder, poses: Float[np.ndarray, "N J 3"], origin: dict[str, Any], error_mm: float
) -> None:
    """Writes the poses, and last where they come from: without that, they do not count."""
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.taught_poses_origin.unlink(missing_ok=True)
    with files.written_whole(folder.taught_poses) as file:
        np.save(file, poses, allow_pickle=False)
    keep_record(folder.taught_poses_origin, origin, {"mpjpe_mm": error_mm})
