"""SCJD: 3D pose lifting, a student from teachers; by default on keyframes, from a dense MixSTE.

Source: "SCJD: Sparse Correlation and Joint Distillation for Efficient 3D Human Pose Estimation",
arXiv 2503.14097. Only its abstract was available. The forms and weights of the distillation terms
are this project's design, and are marked "inferred" below. Everything about MixSTE is from its
released code.

  python launch.py --config configs/scjd.py
      demo: generated motion and tiny networks, minutes on 2 cores. Its numbers mean nothing beside
      any data set's.
  python launch.py --config configs/scjd.py:mocap --config.data.source=DIR
      Recorded motion, and networks for a few hours on 2 cores.
      Options: frames=27, r=3, files=npz|motion, test=S5+S7 (test subjects), val=S8+S9 (validation
      subjects, which choose checkpoints; without val= they are drawn out of the others), and
      student=mixste|mixste_hot|poseformer_v2|videopose3d, teacher_network=(the same names),
      teacher=new|PATH|PATH+PATH.
      files=npz: 17 joints in VideoPose3D's layout with their own cameras. A meta.json beside them
      may name the test subjects.
      files=motion: a folder of BVH or ASF/AMC files, for example CMU's `subjects`, seen by four
      cameras of ours. Without test=, a fifth of the subjects is drawn.
      More settings (units, rates, joint maps): `python -m data_prep.convert mocap --help`, or
      --config.data.converter.settings.NAME=VALUE.
  python launch.py --config configs/scjd.py:h36m --config.data.source=DIR
      Human3.6M in VideoPose3D's files, full size.
      Options: frames=243|81|27, student=S-B|S-S|S-M|S-XS (MixSTE) or mixste_hot|poseformer_v2|
      videopose3d, r=3|5|9, recipe=parity|recommended, teacher=new|PATH|PATH+PATH,
      teacher_network=mixste|mixste_hot|poseformer_v2|videopose3d, selection=validation|published.
      selection=published trains on all published training subjects, and chooses checkpoints on the
      test split, as in the papers. recipe=parity does so without being told.
      Published: MixSTE, 243 frames, CPN input, 40.9 mm MPJPE.
      Not run by us: we had no Human3.6M licence.
      Hours (arithmetic, not measured): the teacher takes about 1.8 EFLOP in 160 epochs, which is
      5 h at 100 TFLOP/s sustained. The student takes about a third of it.
  python launch.py --config configs/scjd.py:3dhp --config.data.source=DIR
      MPI-INF-3DHP, full size, from the official files or P-STMO's two npz files. 2D input is the
      ground truth's.
      Options: frames=81|27|9, student=S-B|S-S|S-M|S-XS, r=3|9, recipe=parity|recommended,
      teacher=new|PATH|PATH+PATH, selection=validation|published, pose=univ_annot3|annot3. The
      protocol uses univ_annot3. annot3 has the true scale and is not comparable with published
      figures.
      Scored as in P-STMO: the centre frame of a window around every valid frame.
      Published, 81 frames, MPJPE mm / PCK / AUC: PoseFormerV2 27.8 / 97.9 / 78.8, TCPFormer 15.0 /
      99.0 / 87.7.
      Not run by us: we had no licence of the data set.
      Joints are put into Human3.6M's order, so that a network of one data set fits the other.

student=NAME and teacher_network=NAME take the networks of configs/lifters.py. A pair in which one
is not MixSTE learns from the teacher's poses alone: embedding and attention have the weight 0. A
teacher=PATH is the folder of any lifter's run, or a published file of teacher_network. The poses
of several teachers (PATH+PATH) are averaged.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import blocks, networks
from kdpose_jax.errors import require
from kdpose_jax.skeletons import H36M_17

# Options of every preset, with their defaults.
OPTIONS = {
    "demo": {"student": "mixste", "teacher": "new", "teacher_network": "mixste"},
    "mocap": {
        "frames": 27,
        "r": 3,
        "files": "npz",
        "test": "",
        "val": "",
        "student": "mixste",
        "teacher": "new",
        "teacher_network": "mixste",
    },
    "h36m": {
        "frames": 243,
        "student": "S-B",
        "r": 3,
        "recipe": "recommended",
        "teacher": "new",
        "selection": "",
        "teacher_network": "mixste",
    },
    "3dhp": {
        "frames": 81,
        "student": "S-B",
        "r": 3,
        "recipe": "recommended",
        "teacher": "new",
        "pose": "univ_annot3",
        "selection": "",
    },
}
# Width, depth: docs/methods/scjd.md#student
STUDENTS = {"S-B": (256, 8), "S-M": (256, 4), "S-S": (128, 8), "S-XS": (128, 4)}


def get_config(text: str = "") -> ConfigDict:
    """Builds the experiment of `configs/scjd.py[:preset[,option=value...]]`."""
    preset, chosen = parse(text, {})
    return experiment("scjd", preset, chosen)


def parse(text: str, further: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Parses a preset and its options, for a config with the same presets and `further` options."""
    preset = text.split(",")[0].strip() or next(iter(OPTIONS))
    return blocks.parse_preset(
        text, tuple(OPTIONS), {**(OPTIONS[preset] if preset in OPTIONS else {}), **further}
    )


def experiment(name: str, preset: str, chosen: dict[str, Any]) -> ConfigDict:
    """Builds an experiment on this data, teacher and student, with SCJD's distillation."""
    config = base()
    {"demo": demo, "mocap": mocap, "h36m": h36m, "3dhp": mpi_inf_3dhp}[preset](config, **chosen)
    config.name = f"{name}_{preset}"
    return config


def base() -> ConfigDict:
    """Lists every field with its default and its origin, with those of `blocks.experiment`."""
    config = blocks.experiment("scjd", "lifting", "sequences")
    config.data.update(
        {
            "skeleton": "h36m_17",
            "joints": H36M_17.num_joints,
            "must_fit": ("frames", "joints"),  # what teacher and student must have in common
            "frames": 27,
            "training": ConfigDict(
                {
                    "stride": 0,  # frames between training windows; 0: end to end (MixSTE)
                    "flip": True,  # a mirrored copy of every window is a second example (MixSTE)
                }
            ),
        }
    )
    config.teacher = teacher_block()
    # A teacher that exists may depend on another number of frames.
    frames = config.data.get_oneway_ref("frames")
    config.teacher.data = ConfigDict({"frames": frames})
    config.student = student_block()
    config.distill = distill_block()
    config.eval = blocks.evaluation(
        "pose3d",
        batch=64,  # windows per device
        settings={
            "windows": "compat",  # shown in tables; the results have `exact` too
            "flip": True,  # test-time flip, shown in tables; the results have both
            # Keyframes are also scored alone. 1: they are not (`correlated` ones have no grid).
            "keyframe_stride": config.student.input.get_oneway_ref("stride"),
            "keyframe_offset": config.student.input.get_oneway_ref("offset"),
        },
    )
    return config


def teacher_block() -> ConfigDict:
    """Configures the dense teacher and its training."""
    return ConfigDict(
        {
            "shape": ("network",),
            # A run or a PyTorch file. Empty: the teacher is trained into <workdir>/teacher.
            "checkpoint": "",
            "method": "supervised",
            "network": networks.mixste_block(512, 8, heads=8, drop_path=0.1),
            "pretrained": "",  # PyTorch weights that training starts from
            "loss": ConfigDict({"smoothness": 0.5, "velocity": 2.0}),  # MixSTE run.py
            "optim": blocks.adamw(4e-5, weight_decay=0.1, clip_norm=0.0),  # MixSTE run.py
            "train": blocks.train(batch=4, epochs=160.0, ema_decay=0.0),
        }
    )


def student_block() -> ConfigDict:
    """Configures the sparse student and its training."""
    return ConfigDict(
        {
            "shape": ("network", "input"),  # the blocks that decide the parameters
            "network": networks.mixste_block(256, 8, heads=8, drop_path=0.1),
            "pretrained": "",
            "input": ConfigDict(
                {  # inferred, docs/methods/scjd.md#keyframes
                    "stride": 3,
                    "offset": -1,  # -1: the centred grid
                    "phase_augmentation": True,
                    "selection": "uniform",
                    "upsampling": "linear_pose",
                    "ends": "hold",
                }
            ),
            "loss": ConfigDict({"smoothness": 0.5, "velocity": 2.0}),
            # Recommended by docs/methods/scjd.md#schedule
            "optim": blocks.adamw(2e-4, weight_decay=0.05, clip_norm=1.0),
            "train": blocks.train(batch=16, epochs=120.0, ema_decay=0.999),
        }
    )


def distill_block() -> ConfigDict:
    """Configures what the student learns from the teacher."""
    return ConfigDict(
        {  # inferred, docs/methods/scjd.md#joint-embedding and on
            # From docs/results/motion.md. An argument about magnitudes gave 0.02, 1.0 and 1.0, with
            # which the first two terms have no effect (docs/methods/scjd.md#total-loss).
            "weights": ConfigDict({"embedding": 1.0, "attention": 30.0, "temporal": 0.3}),
            "embedding": ConfigDict(
                {
                    "context": "dynamic",
                    "reach": -1,  # w; -1: r
                    "temperature": 0.1,
                    "feature": "spatial",
                    "motion_weight": False,
                    "layers": (),  # 0-based layers; empty: the last third
                }
            ),
            # Runs or PyTorch files whose poses are averaged with those of teacher.checkpoint.
            "further_teachers": (),
            # Keeps what the teachers predict in every training frame, for several runs that have
            # the same teachers. Empty: the work directory.
            "poses_folder": "",
            "layer_map": (),  # 0-based teacher layer of every student layer; empty: in proportion
            # `kl` needs a 20th of the weight.
            "attention": ConfigDict({"kind": "mse", "heads": "mean", "gather": "keyframe"}),
            "temporal": ConfigDict(
                {
                    "velocity": 2.0,
                    "correlation": 0.1,
                    # True: count only where the teacher is nearer to the truth than the student.
                    "gate": False,
                }
            ),
            "warmup_epochs": 5.0,  # used by the embedding and attention terms
            "decay_fraction": 0.0,
        }
    )


def demo(config: ConfigDict, *, student: str, teacher: str, teacher_network: str) -> None:
    """Sets generated motion and tiny networks."""
    config.data.converter = ConfigDict({"name": "synthetic", "settings": ConfigDict({"seed": 0})})
    config.teacher.network = networks.mixste_block(32, 2, heads=4, drop_path=0.0)
    config.student.network = networks.mixste_block(16, 2, heads=4, drop_path=0.0)
    for stage in (config.teacher, config.student):
        blocks.quick_stage(
            stage,
            5e-3,
            epochs=4.0,
            warmup_epochs=0.5,
            ema_decay=0.99,
            evaluate_every_epochs=1.0,
            evaluate_examples=256,
        )
    config.distill.warmup_epochs = 0.5
    config.eval.latency_runs = 20
    config.eval.latency_batches = (1, 16)
    set_lifters(config, "demo", student=student, teacher_network=teacher_network)
    set_teachers(config, teacher)


def mocap(
    config: ConfigDict,
    *,
    frames: int,
    r: int,
    files: str,
    test: str,
    val: str,
    student: str,
    teacher: str,
    teacher_network: str,
) -> None:
    """Sets recorded motion, and networks for a few hours on 2 cores.

    The files have 17 joints in VideoPose3D's layout, or are BVH and ASF/AMC files.
    """
    require("option files of preset mocap", files, ("npz", "motion"))
    subjects = {
        f"{split}_subjects": tuple(subject for subject in named.split("+") if subject)
        for split, named in (("test", test), ("val", val))
    }
    if files == "npz":
        settings = {"keypoints": "det", "cameras_file": "", **subjects}
    else:
        settings = {name: "" for name in ("map_file", "unit", "up", "fps", "subject", "action")}
        settings |= {
            **subjects,
            "noise": 0.01,
            "seed": 0,
            "skip_unreadable": False,
        }
    name = {"npz": "human36m", "motion": "mocap"}[files]
    config.data.converter = ConfigDict({"name": name, "settings": ConfigDict(settings)})
    config.data.frames = frames
    config.student.input.stride = r
    config.teacher.network = networks.mixste_block(64, 4, heads=4, drop_path=0.0)
    config.student.network = networks.mixste_block(32, 2, heads=4, drop_path=0.0)
    for stage, epochs in ((config.teacher, 1.25), (config.student, 1.0)):
        blocks.quick_stage(
            stage,
            6e-3,
            epochs=epochs,
            warmup_epochs=0.02,
            ema_decay=0.999,
            evaluate_every_epochs=0.25,
            evaluate_examples=512,
        )
        # Small batches learn far more from the same frames (docs/results/motion.md).
        stage.train.batch = 4
        stage.network.joint_position_std = 1.0
    config.distill.warmup_epochs = 0.05
    config.eval.batch = 8  # fits a CPU core's cache
    set_lifters(config, "mocap", student=student, teacher_network=teacher_network)
    set_teachers(config, teacher)


def set_lifters(config: ConfigDict, preset: str, *, student: str, teacher_network: str) -> None:
    """Replaces MixSTE by other networks, in the teacher, the student or both."""
    allowed = (*STUDENTS, *networks.LIFTERS) if preset == "h36m" else networks.LIFTERS
    require(f"option student of preset {preset}", student, allowed)
    require(f"option teacher_network of preset {preset}", teacher_network, networks.LIFTERS)
    if teacher_network != "mixste":
        set_lifter(config, "teacher", teacher_network, preset)
    if student in networks.LIFTERS and student != "mixste":
        set_lifter(config, "student", student, preset)
        config.student.shape = ("network",)
        del config.student.input
        config.eval.settings.keyframe_stride, config.eval.settings.keyframe_offset = 1, -1


def set_lifter(config: ConfigDict, stage: str, name: str, preset: str) -> None:
    """Sets a network of configs/networks.py, with as many predicted frames in a batch as before."""
    frames, block = config.data.frames, config[stage]
    require(f"option frames of preset {preset}", frames, networks.FILTERS)
    block.network, recipe = networks.build(name, preset, frames)
    predicted = frames if networks.predicts_windows(block.network) else 1
    if stage == "student" and predicted == 1:
        # A single frame has no motion. With nine frames an example, and as many in a batch,
        # VideoPose3D did not learn (docs/results/frontier.md).
        config.distill.temporal.velocity = config.distill.temporal.correlation = 0.0
    block.loss = networks.task_loss(predicted)
    budget = frames * block.train.batch
    if preset == "h36m":
        budget, epochs = 1024, recipe["published_epochs"]  # as in configs/lifters.py
        block.optim = recipe["optim"]
        block.train = blocks.train(batch=1, epochs=epochs, ema_decay=block.train.ema_decay)
    block.train.batch = max(1, budget // predicted)
    evaluated = networks.evaluated_frames(block.network, frames)
    block.train.evaluate_examples = block.train.evaluate_examples * frames // evaluated
    config.eval.settings.windows = "exact"  # as for networks that predict one frame at a time
    config.distill.weights.embedding = config.distill.weights.attention = 0.0


def set_teachers(config: ConfigDict, paths: str) -> None:
    """Sets teachers that exist: `new` for none, or paths with a plus between them."""
    if paths != "new":
        first, *further = paths.split("+")
        config.teacher.checkpoint, config.distill.further_teachers = first, tuple(further)


def h36m(
    config: ConfigDict, *, frames: int, student: str, r: int, teacher_network: str, **options: str
) -> None:
    """Sets Human3.6M at full size. `options` are the others of `full_size`."""
    require("option frames of preset h36m", frames, (243, 81, 27))
    require("option r of preset h36m", r, (3, 5, 9))
    config.data.converter = ConfigDict(
        {
            "name": "human36m",
            "settings": ConfigDict(
                {
                    "keypoints": "cpn_ft_h36m_dbb",
                    "cameras_file": "",
                    "test_subjects": (),
                    "val_subjects": (),
                }
            ),
        }
    )
    size = "S-B" if student in networks.LIFTERS else student
    full_size(config, "h36m", frames=frames, student=size, r=r, **options)
    set_lifters(config, "h36m", student=student, teacher_network=teacher_network)
    set_compute(config, options["recipe"])


def mpi_inf_3dhp(config: ConfigDict, *, frames: int, r: int, pose: str, **options: str) -> None:
    """Sets MPI-INF-3DHP at full size. `options` are those of `full_size`.

    The protocol is P-STMO's (docs/methods/lifting.md#mpi-inf-3dhp).
    """
    require("option frames of preset 3dhp", frames, (81, 27, 9))
    # These strides divide the windows and keep their centres.
    require("option r of preset 3dhp", r, (3, 9))
    require("option pose of preset 3dhp", pose, ("univ_annot3", "annot3"))
    config.data.converter = ConfigDict(
        {
            "name": "mpi_inf_3dhp",
            "settings": ConfigDict({"layout": "", "pose_source": pose, "val_subjects": ()}),
        }
    )
    config.eval = blocks.evaluation("mpi_inf_3dhp", batch=64, settings={"flip": True})
    full_size(config, "3dhp", frames=frames, r=r, **options)
    for stage in (config.teacher, config.student):
        # About as many as the test frames. A validation subject has 100,000 frames in eight views.
        stage.train.evaluate_examples = 3000


def full_size(
    config: ConfigDict,
    preset: str,
    *,
    frames: int,
    student: str,
    r: int,
    recipe: str,
    teacher: str,
    selection: str,
) -> None:
    """Sets the networks and the recipes of the large data sets."""
    require(f"option student of preset {preset}", student, STUDENTS)
    require(f"option recipe of preset {preset}", recipe, ("parity", "recommended"))
    config.data.frames = frames
    published = "published" if recipe == "parity" else "validation"
    blocks.select(config, preset, selection, default=published)
    set_teachers(config, teacher)
    config.teacher.train.batch = 1024 // frames  # 1024 frames per batch, as in MixSTE
    # docs/methods/lifting.md#latency
    config.eval.latency_warmup, config.eval.latency_runs = 50, 200
    width, depth = STUDENTS[student]
    config.student.network = networks.mixste_block(
        width, depth, heads=8, drop_path=0.1 if width > 128 else 0.05
    )
    set_compute(config, recipe)
    config.student.input.stride = r
    config.student.train.batch = 16 * 243 // frames
    config.student.optim.warmup_epochs = 2.0
    if recipe == "parity":
        config.student.optim = blocks.adamw(4e-5, weight_decay=0.1, clip_norm=1.0)
        config.student.network.drop_path = 0.1
        config.student.input.phase_augmentation = False
        config.student.train = blocks.train(batch=1024 // frames, epochs=120.0, ema_decay=0.0)


def set_compute(config: ConfigDict, recipe: str) -> None:
    """Sets the type of the blocks: bfloat16 is for TPUs and GPUs.

    A CPU multiplies float32 values faster.
    """
    for stage in (config.teacher, config.student):
        stage.network.compute = "bfloat16" if recipe == "recommended" else "float32"
