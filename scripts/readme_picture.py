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

from kdpose_jax.experiment import weights
from kdpose_jax.experiment.modules import protocol as protocol_of
from kdpose_jax.experiment.run import Context, Run, build_method, open_protocol, plan_of
from kdpose_jax.folders import WorkFolder
from kdpose_jax.skeletons import SKELETONS, Skeleton
from kdpose_jax.tasks.sparse_lifting import keyframe_grid
from kdpose_jax.train import sharding
from kdpose_jax.train.preemption import Stop

TEACHER, STUDENT, TRUTH = "#3b6fb6", "#d1495b", "#8a8f98"
SHOWN = 9  # frames of the window in the upper rows


def main() -> None:
    """Draws the picture of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/scjd_demo", help="the demo's work directory")
    parser.add_argument("--out", default="docs/pictures/distillation.png", help="the picture")
    options = parser.parse_args()
    folder = WorkFolder(epath.Path(options.run))
    predictions = {}
    for name in ("teacher", "student"):
        run = weights.stored_run(str(folder.run(name).path))
        batch, predictions[name] = predict(run, folder)
    skeleton = SKELETONS[run.config.data.skeleton]
    keyframes = keyframe_grid(run.config, "student").keyframes
    draw(batch, predictions, keyframes, skeleton, pathlib.Path(options.out))


def predict(run: Run, folder: WorkFolder) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """One test window and the pose that a trained network predicts for it, `[F, J, 3]` metres."""
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
        weights.variables_of("student", params, model_state),
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
    frames = len(batch["pose_3d"])
    middle = frames // 2
    shown = np.arange(middle - SHOWN // 2, middle + SHOWN // 2 + 1)
    figure = plt.figure(figsize=(10, 3.4), dpi=200)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.7, 1), wspace=0.0, hspace=0.2)
    rows = (
        ("Teacher: MixSTE reads every frame", TEACHER, shown),
        (f"Student reads one frame in {keyframes[1] - keyframes[0]}", STUDENT, keyframes),
    )
    for row, (title, color, read) in enumerate(rows):
        axes = figure.add_subplot(grid[row, 0])
        for place, frame in enumerate(shown):
            points = batch["keypoints_2d"][frame] - batch["keypoints_2d"][middle].mean(0)
            used = frame in read
            width, tone = (1.6, color) if used else (0.8, "#d9dbe0")
            for parent, child in skeleton.bones:
                pair = points[[parent, child]]
                axes.plot(pair[:, 0] + 0.42 * place, -pair[:, 1], color=tone, lw=width)
        axes.set_title(title, loc="left", fontsize=11, color=color)
        axes.set_aspect("equal", anchor="W")
        axes.axis("off")
    axes = figure.add_subplot(grid[:, 1], projection="3d")
    poses = (
        ("truth", TRUTH, batch["pose_3d"][middle], 0.0),
        ("teacher", TEACHER, predictions["teacher"][middle], 1.0),
        ("student", STUDENT, predictions["student"][middle], 2.0),
    )
    for name, color, pose, shift in poses:
        for parent, child in skeleton.bones:
            x, y, z = pose[[parent, child]].T
            axes.plot(x + shift, z, -y, color=color, lw=2)
        error = 1000 * np.linalg.norm(pose - batch["pose_3d"][middle], axis=-1).mean()
        label = name if name == "truth" else f"{name}, {error:.0f} mm"
        axes.text(shift, 0, 0.85, label, ha="center", fontsize=7.5, color=color)
    axes.set_box_aspect((2.9, 0.9, 1.8), zoom=1.25)
    axes.view_init(elev=8, azim=-80)
    axes.axis("off")
    note = "Generated motion of the demo; it says nothing about any real data set."
    figure.text(0.99, 0.02, note, ha="right", fontsize=7, color="#777777")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, bbox_inches="tight", facecolor="white")
    print(f"drew {out}")


if __name__ == "__main__":
    main()
