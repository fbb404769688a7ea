"""Draws the README's picture: `python -m scripts.readme_picture` after `make demo`.

One window of generated motion: what the teacher reads, what the student reads, and the poses that
both predict beside the true one.
"""

import argparse
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from etils import epath

from kdpose_jax.experiment import stored_runs, weights
from kdpose_jax.experiment.modules import protocol as protocol_of
from kdpose_jax.experiment.run import Context, Run, build_method, open_protocol, plan_of
from kdpose_jax.folders import WorkFolder
from kdpose_jax.skeletons import SKELETONS, Skeleton
from kdpose_jax.tasks.sparse_lifting import keyframe_grid
from kdpose_jax.train import sharding
from kdpose_jax.train.preemption import Stop

TEACHER, STUDENT, TRUTH = "#3b6fb6", "#d1495b", "#8a8f98"
SHOWN = 9  # frames of the window in the two rows
TURN = 35  # degrees about the vertical, by which the 3D poses are seen from another side


def main() -> None:
    """Draws the picture of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/scjd_demo", help="the demo's work directory")
    parser.add_argument("--out", default="docs/pictures/distillation.png", help="the picture")
    options = parser.parse_args()
    folder = WorkFolder(epath.Path(options.run))
    predictions = {}
    for name in ("teacher", "student"):
        run = stored_runs.run_of_checkpoint(str(folder.run(name).path))
        batch, predictions[name] = predict(run, folder)
    skeleton = SKELETONS[run.config.data.skeleton]
    keyframes = keyframe_grid(run.config, "student").keyframes
    draw(batch, predictions, keyframes, skeleton, pathlib.Path(options.out))


def predict(run: Run, folder: WorkFolder) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns a test window and the pose that a network predicts for it, `[F, J, 3]` metres."""
    mesh = sharding.make_mesh()
    test = protocol_of(run.config.eval.protocol).read(str(folder.records), "test")
    context = Context(folder.path, None, test, mesh, print, Stop())
    source = open_protocol(run, context).source
    batch = source.gather(np.asarray([len(source) // 2]))
    run, method = build_method(run, plan_of(run, 1))
    params, model_state, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    everywhere = sharding.replicated(mesh)
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
        weights.student_variables(params, model_state),
    )
    checkpoint = str(folder.run(run.name).path)
    network = weights.load_network(run.block.network.name, checkpoint, target)
    predicted = method.predict({"student": network["params"]}, {}, batch)
    return {name: np.asarray(array[0]) for name, array in batch.items()}, np.asarray(predicted[0])


def draw(
    batch: dict[str, np.ndarray],
    predictions: dict[str, np.ndarray],
    keyframes: np.ndarray,
    skeleton: Skeleton,
    out: pathlib.Path,
) -> None:
    """Draws the two rows of 2D skeletons and the three 3D poses of the middle frame."""
    middle = len(batch["pose_3d"]) // 2
    figure = plt.figure(figsize=(10, 3.2), dpi=200)
    shown = np.arange(middle - SHOWN // 2, middle + SHOWN // 2 + 1)
    rows = (
        ("Teacher: MixSTE reads every frame", TEACHER, shown),
        (f"Student reads one frame in {keyframes[1] - keyframes[0]}", STUDENT, keyframes),
    )
    for row, (title, color, read) in enumerate(rows):
        figure.text(0.01, 0.91 - 0.49 * row, title, fontsize=13, color=color)
        axes = figure.add_axes((0.01, 0.49 - 0.49 * row, 0.54, 0.4))
        for place, frame in enumerate(shown):
            points = batch["keypoints_2d"][frame] - batch["keypoints_2d"][middle].mean(0)
            width, tone = (1.8, color) if frame in read else (1.0, "#d9dbe0")
            for parent, child in skeleton.bones:
                pair = points[[parent, child]]
                axes.plot(pair[:, 0] + 0.42 * place, -pair[:, 1], color=tone, lw=width)
        axes.set_aspect("equal", anchor="W")
        axes.axis("off")
    figure.text(0.575, 0.91, f"3D pose of the middle frame, turned by {TURN}°", fontsize=13)
    poses = {name: predicted[middle] for name, predicted in predictions.items()}
    axes = figure.add_axes((0.57, 0.06, 0.42, 0.84))
    draw_poses(axes, batch["pose_3d"][middle], poses, skeleton)
    note = "Generated motion of the demo; it says nothing about any real data set."
    figure.text(0.99, 0.01, note, ha="right", fontsize=8.5, color="#777777")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, facecolor="white")
    print(f"drew {out}")


def draw_poses(
    axes: plt.Axes, truth: np.ndarray, predicted: dict[str, np.ndarray], skeleton: Skeleton
) -> None:
    """Draws the true pose and the predicted ones, `[J, 3]` metres, side by side."""
    turn = np.radians(TURN)
    colors = {"truth": TRUTH, "teacher": TEACHER, "student": STUDENT}
    for place, (name, pose) in enumerate({"truth": truth, **predicted}.items()):
        x = np.cos(turn) * pose[:, 0] + np.sin(turn) * pose[:, 2] + 1.1 * place
        for bone in map(list, skeleton.bones):
            axes.plot(x[bone], -pose[bone, 1], color=colors[name], lw=2.4)
        error = 1000 * np.linalg.norm(pose - truth, axis=-1).mean()
        label = name if name == "truth" else f"{name}, {error:.0f} mm"
        axes.text(1.1 * place, 0.8, label, ha="center", fontsize=12, color=colors[name])
    axes.set_aspect("equal")
    axes.axis("off")


if __name__ == "__main__":
    main()
