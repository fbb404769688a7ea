"""The networks of the PyTorch references, imported from their checkouts.

Nothing of them stands here.

DIR of --peers holds checkouts named MixSTE, CDKD and VideoPose3D, and may hold a folder `site` with
the packages that they import (docs/running/benchmarks.md#beside-the-pytorch-references).
"""

import dataclasses
import importlib
import importlib.util
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

import torch

from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_17

CDKD = "CDKD/CDKD"
# Imported by the references and not used by what runs here. `timm` needs torchvision, and the
# modules of `nms` must be compiled.
UNUSED = (
    "local_attention",
    "json_tricks",
    "nms.cpu_nms",
    "nms.gpu_nms",
    "timm",
    "timm.data",
    "timm.models",
    "timm.models.helpers",
    "timm.models.layers",
    "timm.models.registry",
)
Call = Callable[[], object]


class Placeholder(types.ModuleType):
    """Stands for a module that is imported only; every name in it is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@dataclasses.dataclass(frozen=True)
class Way:
    """How a reference computes.

    Attributes:
      device: `cpu` or `cuda`.
      bfloat16: whether its layers compute in bfloat16, by torch.autocast.
      compiled: whether its network is compiled, by torch.compile.
    """

    device: str
    bfloat16: bool
    compiled: bool

    def forward(self, network: Any) -> Callable[[Any], Any]:
        """Returns the network's forward pass, with a result in float32."""
        called = torch.compile(network) if self.compiled else network

        def forward(inputs: Any) -> Any:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
                return called(inputs).float()

        return forward


AS_RELEASED = Way("cpu", bfloat16=False, compiled=False)  # but for the device


def device() -> str:
    """Names the device that PyTorch has: `cuda` or `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def prepare(cores: int) -> None:
    """Keeps PyTorch to a number of threads."""
    torch.set_num_threads(cores)


def release() -> None:
    """Gives the GPU's memory back that PyTorch keeps and does not use."""
    torch.cuda.empty_cache()


def module(folder: pathlib.Path, checkout: str, name: str) -> Any:
    """Imports a module of a checkout.

    Afterwards the module cannot be found by its name, as two checkouts have the same names.

    Args:
      folder: DIR of --peers.
      checkout: path in DIR, from which the checkout's own imports begin.
      name: the module.

    Raises:
      UserError: there is no such checkout, or it imports a package that is not there.
    """
    root, site = (folder / checkout).resolve(), str((folder / "site").resolve())
    if not root.is_dir():
        raise UserError(f"--peers '{folder}' has no '{checkout}': clone it there.")
    if site not in sys.path:
        sys.path.append(site)
    add_placeholders(pathlib.Path(site))
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"'{root}' imports {error.name}, which is not there: pip install --no-deps --target "
            f"{site} {error.name}."
        ) from None
    finally:
        sys.path.remove(str(root))
        for added in set(sys.modules) - before:
            if str(getattr(sys.modules[added], "__file__", None)).startswith(f"{root}/"):
                del sys.modules[added]


def add_placeholders(site: pathlib.Path) -> None:
    """Adds modules for the imports that nothing uses, and timm's DropPath from its own file."""
    if UNUSED[0] in sys.modules:
        return
    for name in UNUSED:
        sys.modules[name] = Placeholder(name)
    path = site / "timm" / "layers" / "drop.py"
    spec = importlib.util.spec_from_file_location("timm_layers_drop", path)
    if not path.exists() or spec is None or spec.loader is None:
        raise UserError(
            f"'{path}' is not there, and MixSTE imports it: pip install --no-deps --target {site} "
            "timm."
        )
    drop = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drop)
    sys.modules[spec.name] = drop  # torch.compile looks for it there
    vars(sys.modules["timm.models.layers"])["DropPath"] = drop.DropPath


def mixste(folder: pathlib.Path, frames: int, width: int, depth: int, drop_path: float) -> Any:
    """Builds MixSTE."""
    return module(folder, "MixSTE", "common.model_cross").MixSTE2(
        num_frame=frames,
        num_joints=H36M_17.num_joints,
        in_chans=2,
        embed_dim_ratio=width,
        depth=depth,
        num_heads=8,
        mlp_ratio=2.0,
        qkv_bias=True,
        qk_scale=None,
        drop_path_rate=drop_path,
    )


def mixste_prediction(
    folder: pathlib.Path, frames: int, width: int, depth: int, *, batch: int
) -> Call:
    """Readies MixSTE's forward pass."""
    network = mixste(folder, frames, width, depth, 0.0)
    return prediction(network, torch.randn(batch, frames, H36M_17.num_joints, 2))


def mixste_step(
    folder: pathlib.Path,
    frames: int,
    width: int,
    depth: int,
    *,
    batch: int,
    way: Way = AS_RELEASED,
) -> Call:
    """Readies a training step of MixSTE, with the loss and the optimiser of its run.py."""
    losses = module(folder, "MixSTE", "common.loss")
    network = mixste(folder, frames, width, depth, 0.1).train().to(way.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-5, weight_decay=0.1)
    keypoints_2d = torch.randn(batch, frames, H36M_17.num_joints, 2).to(way.device)
    pose_3d = 0.3 * torch.randn(batch, frames, H36M_17.num_joints, 3).to(way.device)
    weights = torch.tensor(H36M_17.loss_weights, dtype=torch.float32, device=way.device)
    forward = way.forward(network)

    def step() -> float:
        optimizer.zero_grad()
        predicted = forward(keypoints_2d)
        motion = (predicted[:, 1:] - predicted[:, :-1]).square() * weights[:, None]
        velocity = losses.mean_velocity_error_train(predicted, pose_3d, axis=1)
        error = losses.weighted_mpjpe(predicted, pose_3d, weights)
        total = error + 0.5 * motion.mean() + 2.0 * velocity
        total.backward()
        optimizer.step()
        return total.item()

    return step


def prediction(network: Any, inputs: Any) -> Call:
    """Readies a network's forward pass without gradient."""
    network.eval()

    def predict() -> Any:
        with torch.no_grad():
            return network(inputs)

    return predict


def cdkd_config(folder: pathlib.Path, size: int, split_ratio: float) -> Any:
    """Reads CDKD's config of MPII for crops of a size."""
    config = module(folder, f"{CDKD}/lib", "config").cfg.clone()
    config.merge_from_file(
        str(
            folder / CDKD / f"experiments/mpii/norm_w32_{size}x{size}_adam_lr1e-3_ls2e1_split3.yaml"
        )
    )
    config.MODEL.IMAGE_SIZE = [size, size]
    config.MODEL.SIMDR_SPLIT_RATIO = split_ratio
    config.MODEL.HEAD_INPUT = (size // 4) ** 2  # the cells of the network's output
    return config


def hrnet(folder: pathlib.Path, size: int, split_ratio: float) -> Any:
    """Builds HRNet-W32 with a SimDR head."""
    config = cdkd_config(folder, size, split_ratio)
    return module(folder, f"{CDKD}/lib", "models.pose_hrnet").get_pose_net(config, is_train=False)


def hrnet_prediction(folder: pathlib.Path, size: int, split_ratio: float, *, batch: int) -> Call:
    """Readies HRNet's forward pass."""
    return prediction(hrnet(folder, size, split_ratio), torch.randn(batch, 3, size, size))


def hrnet_step(folder: pathlib.Path, size: int, split_ratio: float, *, batch: int) -> Call:
    """Readies a training step of HRNet, with the loss and the optimiser of its config."""
    config = cdkd_config(folder, size, split_ratio)
    network = hrnet(folder, size, split_ratio).train()
    criterion = module(folder, f"{CDKD}/lib", "core.loss").NMTNORMCritierion(
        label_smoothing=config.LOSS.LABEL_SMOOTHING
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=config.TRAIN.LR)
    joints = config.MODEL.NUM_JOINTS
    pictures = torch.randn(batch, 3, size, size)
    bins = torch.randint(0, int(size * split_ratio), (batch, joints, 2))
    weights = torch.ones(batch, joints, 1)

    def step() -> float:
        optimizer.zero_grad()
        x, y = network(pictures)
        total = criterion(x, y, bins, weights)
        total.backward()
        optimizer.step()
        return total.item()

    return step
