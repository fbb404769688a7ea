"""Error against cost: every lifting network at three costs, alone and taught, under one budget.

The largest PoseFormerV2 and the largest VideoPose3D are the teachers: every student learns the
mean of their poses. The cheapest MixSTE student is also taught by the largest MixSTE, from its
poses, its embeddings and its attention (SCJD).

  python -m kdpose_jax.study.runner configs/studies/frontier.py:mocap --config.data.records=DIR
      Recorded motion. Options: epochs=2.5 of all networks, teacher_epochs=2.5 of the largest ones.
      An epoch has every frame once and once mirrored, so that 2.5 epochs see every frame five
      times. `make frontier RECORDS=DIR` is this command on all cores.
  python -m kdpose_jax.study.runner configs/studies/frontier.py
      demo: generated motion and tiny networks, to try the study itself.
  scripts/gpu_frontier.sh
      gpu: larger networks in bfloat16 and batches of 64 windows, for ten minutes of one GPU.

Costs are multiply-adds a frame: about 0.2, 0.7 and 4 million for mocap. A student on keyframes
(MixSTE) reads one frame in three.
"""

from typing import Any, NamedTuple

from configs import blocks
from configs.studies.parts import lifting
from kdpose_jax.study.declare import Of, Row, Run, Study

DATA = ("demo", "mocap", "gpu")
TITLES = {"mixste": "MixSTE", "poseformer_v2": "PoseFormerV2", "videopose3d": "VideoPose3D"}
EPOCHS = {"demo": 4.0, "mocap": 2.5, "gpu": 1.0}
TEACHERS = ("poseformer_v2", "videopose3d")
# Of each, the preset of the two configs.
PRESETS = {"demo": "demo", "mocap": "mocap", "gpu": "mocap"}
GPU_WINDOWS = 64  # of 27 frames in a batch
# The same for all runs, so that what a teacher scored is read and not scored again by each student.
EVALUATION = {"eval.batch": 64, "eval.latency_batches": (1, 64), "eval.latency_runs": 20}


class Size(NamedTuple):
    """One network of the study.

    Attributes:
      network: its name.
      words: says its size in the table.
      fields: the fields of its `network` block that decide the size.
      stride: frames between keyframes; 1 for a network that reads every frame.
    """

    network: str
    words: str
    fields: dict[str, int]
    stride: int = 1


def transformer(network: str, width: int, depth: int, heads: int, stride: int = 1) -> Size:
    """Describes MixSTE or PoseFormerV2, whose width is that of a joint."""
    on = f", keyframes of {stride}" if stride > 1 else ""
    fields = {"width": width, "depth": depth, "heads": heads}
    return Size(network, f"{width} x {depth}{on}", fields, stride)


def convolutional(width: int) -> Size:
    """Describes VideoPose3D."""
    return Size("videopose3d", f"{width}", {"width": width})


# The first of each network is the largest, and the fourth is the MixSTE that SCJD teaches.
SIZES = {
    "demo": (
        transformer("mixste", 32, 2, 4),
        transformer("poseformer_v2", 4, 2, 4),
        convolutional(64),
        transformer("mixste", 16, 2, 4, stride=3),
        convolutional(32),
    ),
    "mocap": (
        transformer("mixste", 64, 4, 4),  # 4.8 M multiply-adds a frame
        transformer("poseformer_v2", 8, 4, 8),  # 3.8 M
        convolutional(640),  # 3.8 M
        transformer("mixste", 32, 2, 4, stride=3),  # 0.21 M
        transformer("poseformer_v2", 2, 2, 2),  # 0.14 M
        convolutional(144),  # 0.21 M
        transformer("mixste", 32, 2, 4),  # 0.66 M
        transformer("poseformer_v2", 4, 2, 4),  # 0.50 M
        convolutional(272),  # 0.71 M
    ),
    "gpu": (
        transformer("mixste", 256, 8, 8),
        transformer("poseformer_v2", 32, 4, 8),
        convolutional(1024),
        transformer("mixste", 128, 4, 8, stride=3),
        transformer("poseformer_v2", 8, 4, 8),
        convolutional(512),
    ),
}


def get_study(text: str = "") -> Study:
    """Builds the study of `configs/studies/frontier.py[:data[,epochs=E,teacher_epochs=E]]`."""
    data, chosen = blocks.parse_preset(text, DATA, {"epochs": 0.0, "teacher_epochs": 0.0})
    epochs = chosen["epochs"] or EPOCHS[data]
    teacher_epochs = chosen["teacher_epochs"] or epochs
    largest = {size.network: size for size in reversed(SIZES[data])}  # the first of each network
    students = [size for size in SIZES[data] if size not in largest.values()]
    records = {"data.records": Of(TEACHERS[0], "data"), **EVALUATION}
    first, *others = (Of(name, "student") for name in TEACHERS)
    poses = {
        **records,
        "teacher.checkpoint": first,
        "distill.further_teachers": tuple(others),
        "distill.poses_folder": Of(TEACHERS[0], "poses"),
    }
    features = {**records, "teacher.checkpoint": Of("mixste", "student")}
    runs = [large(data, largest[name], teacher_epochs, records) for name in TEACHERS]
    for size in students:  # alone first: that needs no teacher
        without = {**records, "method": "supervised"}
        runs.append(small(f"{name(size)}_alone", data, size, epochs, without))
        runs.append(small(name(size), data, size, epochs, poses, teacher=TEACHERS[0]))
    runs.append(large(data, largest["mixste"], teacher_epochs, records))
    runs.append(small("scjd", data, students[0], epochs, features))
    rows = [Row(f"{title(size)}, alone", size.network, seeds=1) for size in largest.values()]
    for size in students:
        rows += [
            Row(f"{title(size)}, alone", f"{name(size)}_alone"),
            Row(
                f"{title(size)}, taught poses",
                name(size),
                against=f"{title(size)}, alone",
            ),
        ]
    rows.append(Row(f"{title(students[0])}, SCJD", "scjd"))
    return Study(
        name=f"frontier_{data}",
        title="Error against cost",
        runs=tuple(runs),
        rows=tuple(rows),
        columns=lifting.COLUMNS[PRESETS[data]],
        unit="frame",
        reference=f"{title(students[0])}, alone",
        published=lifting.PUBLISHED[PRESETS[data]],
        fixed=("data.frames", "student.train.epochs", "student.train.batch"),
        note=(
            f"One budget: students see every training frame {epochs:g} times and its mirror image "
            f"as often, and the largest networks {teacher_epochs:g} times, in batches that predict "
            "as many frames. Validation subjects chose the checkpoints, and the test subjects are "
            f"scored once, every frame once. 'Taught poses' learn the mean of the poses of "
            f"{' and '.join(title(largest[name]) for name in TEACHERS)}. 'SCJD' learns from "
            f"{title(largest['mixste'])}."
        ),
    )


def title(size: Size) -> str:
    """Names a network in the table."""
    return f"{TITLES[size.network]} {size.words}"


def name(size: Size) -> str:
    """Names a student's run."""
    return "_".join([size.network, *map(str, size.fields.values()), f"r{size.stride}"])


def large(data: str, size: Size, epochs: float, fields: dict[str, Any]) -> Run:
    """Declares one of the largest networks, which are trained alone."""
    config = f"configs/lifters.py:{size.network},data={PRESETS[data]},epochs={epochs:g}"
    return Run(size.network, config, {**fields, **sized(size), **on_a_gpu(data, size)})


def on_a_gpu(data: str, size: Size) -> dict[str, Any]:
    """Returns the type and the batch of a network for `gpu`."""
    if data != "gpu":
        return {}
    windows = GPU_WINDOWS * (1 if size.network == "mixste" else 27)
    return {"student.network.compute": "bfloat16", "student.train.batch": windows}


def small(
    run: str,
    data: str,
    size: Size,
    epochs: float,
    fields: dict[str, Any],
    teacher: str = "mixste",
) -> Run:
    """Declares a student, whose teachers and method are in `fields`.

    `teacher` names the network of the first teacher, on which the weights of the terms depend.
    """
    config = f"{lifting.scjd(PRESETS[data])},student={size.network},teacher_network={teacher}"
    own: dict[str, Any] = {"student.train.epochs": epochs, "baseline": False}
    if size.network == "mixste":
        own |= {"student.input.stride": size.stride, "eval.settings.windows": "exact"}
    return Run(run, config, {**fields, **own, **sized(size), **on_a_gpu(data, size)})


def sized(size: Size) -> dict[str, int]:
    """Returns the fields of a network's size."""
    return {f"student.network.{field}": value for field, value in size.fields.items()}
