"""Lifting networks of the literature, in three sizes, with their published recipes."""

from typing import Any

from ml_collections import ConfigDict

from configs import blocks

# Filters of VideoPose3D; frames and coefficients that PoseFormerV2 keeps (their README).
FILTERS = {27: (3, 3, 3), 81: (3, 3, 3, 3), 243: (3, 3, 3, 3, 3)}
KEPT = {27: 3, 81: 9, 243: 27}


def build(name: str, data: str, frames: int) -> tuple[ConfigDict, dict[str, Any]]:
    """Configures a network of `LIFTERS`.

    Args:
      name: its name.
      data: `demo`, `mocap` or `h36m`, which decides its size; h36m has the published one.
      frames: number of frames that a prediction depends on.

    Returns:
      Its `network` block, and its recipe: the published `optim` and `published_epochs`, and how
      many examples evaluation predicts at once per device (`evaluated`).
    """
    return LIFTERS[name](data, frames)


def predicts_windows(network: ConfigDict) -> bool:
    """Returns whether a network predicts all frames that it reads."""
    return network.name in ("mixste", "mixste_hot")


def evaluated_frames(network: ConfigDict, frames: int) -> int:
    """Returns the number of frames that an example of evaluation predicts."""
    if predicts_windows(network):
        return frames
    return network.evaluated_frames if "evaluated_frames" in network else 1


def task_loss(predicted: int) -> ConfigDict:
    """Configures MixSTE's task loss, or the plain MPJPE of a single frame."""
    if predicted == 1:
        return ConfigDict({"smoothness": 0.0, "velocity": 0.0})
    return ConfigDict({"smoothness": 0.5, "velocity": 2.0})  # MixSTE run.py


def mixste_block(width: int, depth: int, *, heads: int, drop_path: float) -> ConfigDict:
    """Configures a MixSTE, with `mlp_ratio` as released."""
    return ConfigDict(
        {
            "name": "mixste",
            "width": width,
            "depth": depth,
            "heads": heads,
            "mlp_ratio": 2.0,
            "drop_path": drop_path,
            "compute": "float32",
            "remat": False,
            "scan": False,  # a loop over the pairs (docs/methods/lifting.md#types)
            "joint_position_std": 0.0,  # deviation of initial joint positions; released: 0
        }
    )


def transformer(
    name: str, width: int, depth: int, heads: int, drop_path: float, **further: Any
) -> ConfigDict:
    """Configures a transformer: the fields that MixSTE has, and `further` ones."""
    return ConfigDict(
        {**mixste_block(width, depth, heads=heads, drop_path=drop_path), "name": name, **further}
    )


def mixste(data: str, frames: int) -> tuple[ConfigDict, dict[str, Any]]:
    """Configures MixSTE. Sizes and recipe are from its run.py; HoT trains it for 160 epochs."""
    sizes = {"demo": (32, 2, 4, 0.0), "mocap": (64, 4, 4, 0.0), "h36m": (512, 8, 8, 0.1)}
    recipe = {
        "optim": blocks.adamw(4e-5, weight_decay=0.1, clip_norm=0.0),
        "published_epochs": 160.0,
        "evaluated": 64,
    }
    network = transformer("mixste", *sizes[data])
    network.joint_position_std = 1.0 if data == "mocap" else 0.0  # docs/results/motion.md
    return network, recipe


def mixste_hot(data: str, frames: int) -> tuple[ConfigDict, dict[str, Any]]:
    """Configures HoT on MixSTE.

    Sizes are from its common/arguments.py: 81 of 243 frames, before the fourth of eight pairs.
    """
    network, recipe = mixste(data, frames)
    further = {
        "dense_pairs": {"demo": 1, "mocap": 2, "h36m": 3}[data],
        "kept_frames": frames // 3,
        "neighbours": 2,
    }
    return ConfigDict({**network, "name": "mixste_hot", **further}), recipe


def poseformer_v2(data: str, frames: int) -> tuple[ConfigDict, dict[str, Any]]:
    """Configures PoseFormerV2.

    Sizes and recipe are from its common/arguments.py and run_poseformer.py. `width` is the width of
    a joint. A frame has 17 times as much.
    """
    sizes = {"demo": (4, 2, 4, 0.0), "mocap": (8, 4, 8, 0.0), "h36m": (32, 4, 8, 0.1)}
    recipe = {
        "optim": blocks.adamw(1e-4, weight_decay=0.1, clip_norm=0.0),
        "published_epochs": 200.0,
        "evaluated": 1024,
    }
    kept = {"kept_frames": KEPT[frames], "kept_coefficients": KEPT[frames]}
    network = transformer("poseformer_v2", *sizes[data], predicted_frames=1, **kept)
    # Its joints have channels of their own, and it has no loop over its blocks.
    del network.joint_position_std, network.scan
    return network, recipe


def videopose3d(data: str, frames: int) -> tuple[ConfigDict, dict[str, Any]]:
    """Configures VideoPose3D.

    Sizes and recipe are from its common/arguments.py, the 80 epochs from its README. It was trained
    with AMSGrad; here it is trained with Adam. The share of a batch in its running statistics fell
    from 0.1 to 0.001; here it stays 0.1.
    """
    network = ConfigDict(
        {
            "name": "videopose3d",
            "filters": FILTERS[frames],
            "width": {"demo": 64, "mocap": 256, "h36m": 1024}[data],
            "dropout": 0.25 if data == "h36m" else 0.0,
            "causal": False,  # True: a frame depends only on itself and earlier frames
            # True: a filter has a weight for every frame in its reach (--dense).
            "dense_kernels": False,
            "predicted_frames": 1,  # of a training example; 1 as published
            # Frames that one dense pass of evaluation predicts.
            "evaluated_frames": 972 if data == "h36m" else 81,
            "compute": "float32",
        }
    )
    adam = blocks.adamw(1e-3, weight_decay=0.0, clip_norm=0.0)
    adam.decay_per_epoch = 0.95
    return network, {"optim": adam, "published_epochs": 80.0, "evaluated": 8}


LIFTERS = {
    "mixste": mixste,
    "mixste_hot": mixste_hot,
    "poseformer_v2": poseformer_v2,
    "videopose3d": videopose3d,
}
