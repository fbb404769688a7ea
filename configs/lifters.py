"""Lifting networks of the literature, each trained alone and all scored alike.

Each network has the task loss with which it was published.

  python launch.py --config configs/lifters.py:mixste
      Zhang et al., MixSTE, CVPR 2022: all frames of a window.
  python launch.py --config configs/lifters.py:mixste_hot
      Li et al., HoT on MixSTE, CVPR 2024: all frames, from a third of them after the first blocks.
  python launch.py --config configs/lifters.py:poseformer_v2
      Zhao et al., PoseFormerV2, CVPR 2023: the middle frame of a window.
  python launch.py --config configs/lifters.py:videopose3d
      Pavllo et al., VideoPose3D, CVPR 2019: any number of frames.

Options of every preset:
  data=demo|mocap|h36m  demo: generated motion and tiny networks, minutes on 2 cores. Its numbers
                        mean nothing beside any data set's.
                        mocap: 17-joint motion files and narrow networks, hours on 2 cores.
                        h36m: Human3.6M and the published sizes.
                        mocap and h36m need --config.data.source=DIR or records, as in
                        configs/scjd.py.
  frames=27|81|243      Frames that a prediction depends on. 0: 243 for h36m, 27 for the others.
  epochs=E              0: 4 for demo, 1.25 for mocap, as published for h36m.
  test=S5+S7            Test subjects of mocap.
  val=S8+S9             Validation subjects of mocap, which choose checkpoints. Empty: drawn out of
                        the training subjects.
  selection=validation|published
                        published: trains on the validation subjects too, and the test split chooses
                        checkpoints, as in the papers.

All networks have one budget. In an epoch, every network predicts every training frame once, and
once mirrored. Every batch has equally many predicted frames: the multiple of frames= next below
108 for mocap and 432 for demo, but at least one window. For h36m, MixSTE and HoT have the multiple
next below 1024, and the others have 1024, as published. With equal epochs=, all networks therefore
take the same steps over the same frames. All are scored with every real frame counted once.

Published, Human3.6M, CPN input, MPJPE: MixSTE 40.9 mm (243 frames), HoT 41.0 (243), PoseFormerV2
45.2 (243) and 47.9 (27), VideoPose3D 46.8 (243). Not run by us: we had no Human3.6M licence.
"""

from ml_collections import ConfigDict

from configs import blocks, networks, scjd
from kdpose_jax.errors import require

DATA = ("demo", "mocap", "h36m")


def get_config(text: str = "") -> ConfigDict:
    """Builds the experiment of `configs/lifters.py[:preset[,option=value...]]`."""
    options = {"data": "demo", "frames": 0, "epochs": 0.0}
    options |= {"test": "", "val": "", "selection": ""}
    preset, chosen = blocks.parse_preset(text, tuple(networks.LIFTERS), options)
    data, frames = chosen["data"], chosen["frames"]
    require(f"option data of preset {preset}", data, DATA)
    require(f"option frames of preset {preset}", frames, (0, *networks.FILTERS))
    frames = frames or (243 if data == "h36m" else 27)
    config = base(data, frames, chosen["test"], chosen["val"])
    blocks.select(config, preset, chosen["selection"], default="validation")
    config.student.network, recipe = networks.build(preset, data, frames)
    predicted = frames if networks.predicts_windows(config.student.network) else 1
    config.student.loss = networks.task_loss(predicted)
    train(config, data, predicted=predicted, epochs=chosen["epochs"], **recipe)
    # `--mode eval` reads PyTorch weights as a teacher's. Here the teacher is the network itself.
    config.teacher = ConfigDict({**config.student, "checkpoint": "", "method": config.method})
    config.name = f"lifters_{preset}"
    return config


def base(data: str, frames: int, test: str, val: str) -> ConfigDict:
    """Configures what all networks share."""
    config = ConfigDict()
    config.name = ""
    config.method = "supervised"
    config.task = "lifting"
    config.seed = 0
    config.baseline = False  # there is no distillation to leave out
    config.platform = ""  # cpu, gpu or tpu: refuse to start on another; empty takes what is there
    config.data = scjd.base().data
    config.data.frames = frames
    files = {
        "keypoints": "cpn_ft_h36m_dbb" if data == "h36m" else "det",
        "cameras_file": "",
        "test_subjects": tuple(subject for subject in test.split("+") if subject),
        "val_subjects": tuple(subject for subject in val.split("+") if subject),
    }
    config.data.converter = ConfigDict(
        {"name": "synthetic", "settings": {"seed": 0}}
        if data == "demo"
        else {"name": "human36m", "settings": files}
    )
    config.student = ConfigDict({"shape": ("network",), "pretrained": ""})
    config.distill = ConfigDict({"weights": ConfigDict()})
    config.eval = blocks.evaluation(
        "pose3d",
        batch=1,
        settings={
            "windows": "exact",  # as for networks that predict one frame at a time
            "flip": True,
            "keyframe_stride": 1,
            "keyframe_offset": -1,
        },
    )
    config.checkpoint = blocks.checkpoint()
    config.gradient_report = False
    config.run = ConfigDict({"steps": 0, "steps_per_epoch": 0.0})  # filled in from the data
    return config


def train(
    config: ConfigDict,
    data: str,
    *,
    predicted: int,
    epochs: float,
    optim: ConfigDict,
    published_epochs: float,
    evaluated: int,
) -> None:
    """Sets the optimiser, the loop and the sizes of evaluation.

    Args:
      config: the experiment's config.
      data: one of `DATA`.
      predicted: frames that a training example predicts.
      epochs: epochs to train; 0 for the default of the data.
      optim: the published optimiser, used for h36m.
      published_epochs: the published epochs, used for h36m.
      evaluated: examples that evaluation predicts at once per device, used for h36m.
    """
    student = config.student
    frames = networks.evaluated_frames(student.network, config.data.frames)
    if data == "h36m":
        student.optim = optim
        student.train = blocks.train(
            batch=1024 // predicted, epochs=epochs or published_epochs, ema_decay=0.0
        )
        student.train.evaluate_examples = 27 * 1024 // frames
        # docs/methods/lifting.md#latency
        config.eval.latency_warmup, config.eval.latency_runs = 50, 200
        config.eval.latency_batches = (1, 64 * 243 // frames)
    else:
        demo = data == "demo"
        blocks.quick_stage(
            student,
            5e-3 if demo else 6e-3,
            epochs=epochs or (4.0 if demo else 1.25),
            warmup_epochs=0.5 if demo else 0.02,
            ema_decay=0.99 if demo else 0.999,
            evaluate_every_epochs=1.0 if demo else 0.25,
            evaluate_examples=27 * 256 // frames,
        )
        # Both numbers are as in configs/scjd.py.
        window, budget = config.data.frames, 432 if demo else 108
        student.train.batch = max(window, budget // window * window) // predicted
        config.eval.latency_runs = 20
        config.eval.latency_batches = (1, 432 // frames)
    # An eighth fits a CPU core's cache.
    config.eval.batch = evaluated if data == "h36m" else max(1, evaluated // 8)
