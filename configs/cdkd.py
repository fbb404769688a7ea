"""CDKD: 2D pose in low-resolution pictures, distilled from a high-resolution teacher.

The student sees 64x64 or 32x32 pixels, the teacher 256x256.

Source: "Cross-Domain Knowledge Distillation for Low-Resolution Human Pose Estimation", arXiv
2405.11448. Its abstract and its released code were available, its tables were not.

`mode` says how slips in the code (docs/methods/cdkd.md#deviations) are treated:
  paper    Corrected. Gradients reach the student and the projectors, and the temperature is trained
           against the student.
  release  As released. Two of the three ideas get no gradient, and the third gets next to none. It
           gives a row for audits.
  plus     `paper` with this project's own changes: unbiased class alignment, exact flip shift,
           Kronecker projectors, a low temperature, Gaussian labels and decoding by expectation. Its
           baseline has the last three too. At 32 pixels of the full sizes, k is 4.

  python launch.py --config configs/cdkd.py
      demo: generated pictures and narrow networks, minutes on 2 cores. Its numbers mean nothing
      beside any data set's.
  python launch.py --config configs/cdkd.py:pictures --config.data.source=DIR
      Photographs in MPII's layout without head boxes, and narrow networks.
      Options: size=64|32, mode=paper|release|plus, teacher_size=128|256, head=simdr|heatmap.
  python launch.py --config configs/cdkd.py:mpii64 --config.data.source=DIR
      MPII or COCO at full size: mpii32, mpii64, coco32, coco64.
      Options: mode=paper|release|plus, teacher=new|PATH, head=simdr|heatmap, imagenet=PATH (HRNet's
      ImageNet weights, from which the published recipe starts), selection=validation|published.
      selection=published trains on the validation pictures too, and chooses checkpoints on the test
      split, as in the papers.
      Published for MPII 64x64 without distillation, HRNet-W32, PCKh@0.5: SimDR 78.7, heatmap 76.4
      (SimCC). CDKD's own numbers were not available.
      Not run by us: we had neither data set.
      Hours (arithmetic, not measured): 210 epochs of MPII are about 0.13 EFLOP, which is an hour at
      40 TFLOP/s sustained. COCO takes seven times that.

`head=heatmap` trains HRNet's heatmap network of the student's size alone. SimDR and CDKD are
compared with this baseline. It has no teacher: CDKD distils logits of SimDR's bins, which a heatmap
does not have.
"""

from ml_collections import ConfigDict

from configs import blocks
from kdpose_jax.errors import require
from kdpose_jax.skeletons import COCO_17, MPII_16

MODES = ("paper", "release", "plus")
HEADS = ("simdr", "heatmap")
SIZES = {"mpii32": 32, "mpii64": 64, "coco32": 32, "coco64": 64}
# Preset -> alpha, beta and batch of the released configs. The release multiplies alpha and beta by
# 0.4. Its term with beta is a sum over the batch (docs/methods/cdkd.md#released-weights).
RELEASED_WEIGHTS = {
    "mpii32": (1.0, 0.1, 128),
    "mpii64": (1e-4, 1e-5, 32),
    "coco32": (1.0, 1e-4, 32),
    "coco64": (1.0, 1e-3, 8),
}


def get_config(text: str = "") -> ConfigDict:
    """Builds the experiment of `configs/cdkd.py[:preset[,option=value...]]`."""
    full = {"mode": "paper", "teacher": "new", "imagenet": "", "head": "simdr", "selection": ""}
    options = {"": {"mode": "paper"}, "demo": {"mode": "paper"}}
    options["pictures"] = {"size": 64, "mode": "paper", "teacher_size": 128, "head": "simdr"}
    options |= dict.fromkeys(RELEASED_WEIGHTS, full)
    preset = text.split(",")[0].strip()
    presets = ("demo", "pictures", *RELEASED_WEIGHTS)
    preset, chosen = blocks.parse_preset(
        text, presets, options[preset] if preset in options else {}
    )
    require(f"option mode of preset {preset}", chosen["mode"], MODES)
    head = chosen.pop("head") if "head" in chosen else "simdr"
    require(f"option head of preset {preset}", head, HEADS)
    if head == "heatmap":  # trained alone, so the options of CDKD do not apply
        for name, without in (("mode", "paper"), ("teacher", "new")):
            if name in chosen:
                require(
                    f"option {name} of preset {preset} with head=heatmap", chosen[name], (without,)
                )
    config = base()
    mode = chosen.pop("mode")
    if preset == "demo":
        demo(config, mode)
    elif preset == "pictures":
        pictures(config, mode, **chosen)
    else:
        full_size(config, preset, mode, **chosen)
    if head == "heatmap":
        heatmap(config)
    config.name = (
        f"cdkd_{preset}"
        + ("" if mode == "paper" else f"_{mode}")
        + ("" if head == "simdr" else f"_{head}")
    )
    return config


def base() -> ConfigDict:
    """Lists every field with its default and its origin, with those of `blocks.experiment`."""
    config = blocks.experiment("cdkd", "pose2d", "persons")
    config.data.update(
        {
            "skeleton": MPII_16.name,
            "joints": MPII_16.num_joints,
            "split_ratio": 3.0,  # k: bins per pixel
            "must_fit": ("joints", "split_ratio"),  # what teacher and student must have in common
            # As HRNet does for MPII.
            "training": augmentation(
                scale_factor=0.25, rotation_factor=30.0, half_body_probability=0.0
            ),
        }
    )
    config.teacher = teacher_block()
    config.student = student_block()
    config.decode = ConfigDict(
        {
            # Bins that the mirrored x logits are shifted by: `one` as released, `exact` k - 1.
            "flip_shift": "one",
            "merge": "probabilities",  # SimCC: softmax, then mean
            "coordinate": "argmax",
            "score": "max",
        }
    )
    config.distill = distill_block()
    config.eval = blocks.evaluation("mpii", batch=32, settings={"flip": True})
    config.gradient_report = True
    return config


def teacher_block() -> ConfigDict:
    """Configures the teacher on large crops and its training."""
    return ConfigDict(
        {
            "shape": ("network", "input"),  # the blocks that decide the parameters
            # A run or a PyTorch file. Empty: the teacher is trained into <workdir>/teacher.
            "checkpoint": "",
            "method": "supervised",
            "network": network(32),
            "pretrained": "",  # HRNet's ImageNet weights, from which training starts
            "input": ConfigDict({"size": 256}),
            "loss": task_loss("norm", smoothing=0.2),  # SimCC
            "optim": adam(1e-3),
            # SimCC: 32 on each of 4 GPUs.
            "train": blocks.train(batch=128, epochs=210.0, ema_decay=0.0),
        }
    )


def student_block() -> ConfigDict:
    """Configures the student on small crops and its training."""
    return ConfigDict(
        {
            "shape": ("network", "input"),
            "network": network(32),
            "pretrained": "",
            "input": ConfigDict({"size": 64}),
            "loss": task_loss("mean", smoothing=0.2),  # docs/methods/cdkd.md#total-loss
            "optim": adam(1e-3),
            # The same for all students: docs/methods/cdkd.md#recipe
            "train": blocks.train(batch=128, epochs=210.0, ema_decay=0.0),
        }
    )


def distill_block() -> ConfigDict:
    """Configures what the student learns from the teacher."""
    return ConfigDict(
        {
            # Inferred. The release's alignment weight at MPII 32x32 is 0.08 in these units
            # (docs/methods/cdkd.md#released-weights). 1 did harm (docs/results/pictures.md).
            "weights": ConfigDict({"projection": 0.1, "alignment": 0.1}),
            "projection": ConfigDict(
                {  # SAPE, docs/methods/cdkd.md#projector-ensemble
                    "kind": "dense",
                    "rank": 128,  # used by `lowrank`
                    "ensemble": 3,
                    "projector_activation": "relu",
                    "teacher_activation": "none",
                    "student_gradient": True,  # released code: False
                    "trained": True,  # released code: False
                    "chunked": False,  # True: joint by joint, to save memory
                }
            ),
            "alignment": ConfigDict(
                {  # CCA, docs/methods/cdkd.md#class-alignment
                    "grouping": "floor",
                    "order": "temper_then_sum",
                    "mask": "none",
                    "reduction": "mean",  # released code: a sum over the batch
                    # The temperature's gradient passes the softened target (CTKD).
                    # Released code: False.
                    "target_gradient": True,
                }
            ),
            "temperature": ConfigDict(
                {  # ETHT, docs/methods/cdkd.md#temperature
                    "start": 1.0,
                    "range": 20.0,
                    "initial": 1.0,
                    # CTKD's lambda at the start and the end. The released code has 1 and 0, which
                    # lose the sign. (0.9 and 0.1 were tried too.)
                    "reversal": (0.0, -1.0),
                    "loops": 0.0,  # epochs until the reversal is complete; 0: all epochs
                    "trained": True,  # released code: False
                    # CTKD trains it by plain gradient descent with rate 0.05.
                    "learning_rate_factor": 50.0,
                    "limit": 6.0,  # largest absolute value of tau
                }
            ),
        }
    )


def network(
    width: int, *, stem_width: int = 64, blocks: int = 4, modules: tuple[int, ...] = (1, 4, 3)
) -> ConfigDict:
    """Configures an HRNet with a head, as published except for the width."""
    return ConfigDict(
        {
            "name": "hrnet",
            "width": width,
            "stem_width": stem_width,
            "blocks": blocks,
            "modules": modules,  # in stages 2, 3 and 4; fewer numbers mean fewer stages
            "head": "simdr",  # or `heatmap`, with the supervised method only
            # The head's kernels before training, as released. `marginal` is ours and learns
            # faster from a random start.
            "head_start": "uniform",
            "compute": "float32",
            "remat": False,
        }
    )


def augmentation(
    *, scale_factor: float, rotation_factor: float, half_body_probability: float
) -> ConfigDict:
    """Configures the augmentation of training pictures (HRNet, JointsDataset)."""
    return ConfigDict(
        {
            "scale_factor": scale_factor,
            "rotation_factor": rotation_factor,  # degrees
            "flip": True,
            "half_body_probability": half_body_probability,
        }
    )


def task_loss(form: str, *, smoothing: float, sigma: float = 6.0) -> ConfigDict:
    """Configures the task loss. A heatmap head reads sigma and scale only."""
    # The Gaussian forms take sigma in bins, heatmaps in cells.
    return ConfigDict({"form": form, "smoothing": smoothing, "sigma": sigma, "scale": 1.0})


def adam(learning_rate: float) -> ConfigDict:
    """Configures Adam as in the released code.

    The rate drops tenfold after 170 and 200 epochs. Weights do not decay.
    """
    optim = blocks.adamw(learning_rate, weight_decay=0.0, clip_norm=0.0)
    optim.schedule = "steps"
    return optim


def set_mode(config: ConfigDict, mode: str, preset: str) -> None:
    """Turns the options of `paper`, which `base` has, into those of another mode.

    `preset` names the released weights.
    """
    distill = config.distill
    if mode == "release":
        alpha, beta, batch = RELEASED_WEIGHTS[preset]
        distill.weights = ConfigDict(
            {
                "projection": 0.4 * alpha,
                "alignment": 0.4 * beta * batch / config.student.train.batch,
            }
        )
        distill.projection.student_gradient = False
        distill.projection.trained = False
        distill.alignment.reduction = "release"
        distill.alignment.target_gradient = False
        distill.temperature.range = 20.0
        distill.temperature.reversal = (1.0, 0.0)
        distill.temperature.loops = 210.0
        distill.temperature.trained = False
        config.student.loss = ConfigDict(config.teacher.loss.to_dict())
        config.student.loss.scale = 1000.0
    if mode == "plus":  # all these changes are ours
        distill.projection.kind = "kron"
        distill.alignment.grouping = "hat"
        distill.temperature.range = 3.0
        config.decode.flip_shift = "exact"
        config.decode.coordinate = "expectation"
        config.student.loss = task_loss(
            "mean_gaussian", smoothing=0.0, sigma=2.0 * config.data.split_ratio / 3.0
        )


def narrow(
    config: ConfigDict,
    mode: str,
    *,
    size: int,
    split_ratio: float,
    epochs: float,
    learning_rate: float,
    evaluate_examples: int,
) -> None:
    """Sets networks and schedules for 2 cores.

    There a teacher of 256x256 pixels would train at a fifth of the speed of one of 128x128.
    """
    config.teacher.input.size = 128
    config.teacher.network = network(8, stem_width=16, blocks=1, modules=(1, 1, 1))
    config.student.network = network(8, stem_width=16, blocks=1, modules=(1, 1, 1))
    config.student.input.size = size
    config.data.split_ratio = split_ratio
    config.distill.projection.kind = (
        "kron"  # dense ones would have hundreds of millions of parameters
    )
    # Ours: targets softened 16 times or more say little (docs/results/pictures.md).
    config.distill.temperature.range = 3.0
    for stage in (config.teacher, config.student):
        stage.network.head_start = "marginal"
        blocks.quick_stage(
            stage,
            learning_rate,
            epochs=epochs,
            warmup_epochs=0.5,
            ema_decay=0.0,
            evaluate_every_epochs=epochs / 4,
            evaluate_examples=evaluate_examples,
        )
        # A fixed norm would weigh the modes' losses, which differ in scale, unequally.
        stage.optim.clip_norm = 0.0
    set_mode(config, mode, "mpii32" if size == 32 else "mpii64")
    # The teacher learns faster from Gaussian labels than from one bin.
    config.teacher.loss = task_loss("mean_gaussian", smoothing=0.0, sigma=4.0 * split_ratio / 3.0)


def demo(config: ConfigDict, mode: str) -> None:
    """Sets generated pictures and narrow networks."""
    config.data.converter = ConfigDict({"name": "people", "settings": ConfigDict({"seed": 0})})
    # Pictures are only mirrored. In so few epochs, networks learn half as much from pictures that
    # are also turned and scaled.
    config.data.training = augmentation(
        scale_factor=0.0, rotation_factor=0.0, half_body_probability=0.0
    )
    narrow(
        config,
        mode,
        size=32,
        split_ratio=2.0,
        epochs=12.0,
        learning_rate=3e-3,
        evaluate_examples=128,
    )
    config.teacher.input.size = 64
    config.eval.latency_runs = 20
    config.eval.latency_batches = (1, 16)


def pictures(config: ConfigDict, mode: str, *, size: int, teacher_size: int) -> None:
    """Sets photographs in MPII's layout, scored by PCK because they have no head boxes."""
    require("option size of preset pictures", size, (64, 32))
    require("option teacher_size of preset pictures", teacher_size, (128, 256))
    splits = ("train", "val", "test")
    files = [f"{split}_{what}" for what in ("annotations", "images") for split in splits]
    config.data.converter = ConfigDict(
        {"name": "mpii", "settings": ConfigDict(dict.fromkeys(files, ""))}
    )
    config.eval = blocks.evaluation(
        "pck", batch=32, settings={"flip": True, "reference": "torso", "threshold": 0.2}
    )
    config.distill.weights.alignment = 0.5  # docs/results/pictures.md
    # One k for both sizes, so that one teacher serves both.
    narrow(
        config,
        mode,
        size=size,
        split_ratio=3.0,
        epochs=20.0,
        learning_rate=3e-3,
        evaluate_examples=0,
    )
    config.teacher.input.size = teacher_size


def full_size(
    config: ConfigDict, preset: str, mode: str, *, teacher: str, imagenet: str, selection: str
) -> None:
    """Sets MPII or COCO as in the released code, with the recipe of docs/methods/cdkd.md#recipe."""
    blocks.select(config, preset, selection, default="validation")
    size = SIZES[preset]
    if preset.startswith("coco"):
        config.data.skeleton, config.data.joints = COCO_17.name, COCO_17.num_joints
        config.data.training = augmentation(
            scale_factor=0.35, rotation_factor=45.0, half_body_probability=0.3
        )
        config.data.converter = ConfigDict(
            {"name": "coco", "settings": ConfigDict({"detections": ""})}
        )
        config.eval = blocks.evaluation(
            "coco",
            batch=32,
            settings={
                "flip": True,
                # Tables show this one, as every released config does. The results have detector
                # boxes too.
                "boxes": "ground_truth",
                "joint_threshold": 0.02,  # SimCC at low resolution; 0.2 for heatmaps
                "nms": "hard",
                "nms_threshold": 0.9,
            },
        )
        config.teacher.loss = task_loss("sum", smoothing=0.1)
        config.student.loss.smoothing = 0.1
    else:
        config.data.converter = ConfigDict({"name": "mpii", "settings": ConfigDict()})
    config.data.split_ratio = 4.0 if mode == "plus" and size == 32 else {32: 2.0, 64: 3.0}[size]
    width = 48 if preset == "coco64" else 32
    for stage in (config.teacher, config.student):
        stage.network = network(width)
        stage.pretrained = imagenet
    config.student.input.size = size
    config.teacher.checkpoint = "" if teacher == "new" else teacher
    config.eval.latency_warmup, config.eval.latency_runs = 50, 200
    set_mode(config, mode, preset)
    # Dense projectors of 64 pixels have 0.8 or 0.9 G weights, which 8 chips of 16 GB hold only
    # together (docs/running/pods.md#large-adapters-fsdp).
    config.student.train.fsdp = size == 64 and config.distill.projection.kind == "dense"


def heatmap(config: ConfigDict) -> None:
    """Replaces SimDR by heatmaps in the student, which is trained alone (HRNet).

    Labels and decoding: docs/methods/pose2d.md#heatmaps.
    """
    config.method = "supervised"
    config.student.train.fsdp = False
    config.student.network.head = "heatmap"
    # For maps of 8x8 and 16x16 cells; HRNet uses 2 for 64x64 (256 pixels). The loss, half of a mean
    # square, is HRNet's too.
    config.student.loss.sigma = 1.0
    if config.eval.protocol == "coco":
        # As in HRNet. A heatmap's peak is near 1; a probability over bins is not.
        config.eval.settings.joint_threshold = 0.2
