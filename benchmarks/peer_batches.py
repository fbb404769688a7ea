"""The batches of the PyTorch references, made by the code in their checkouts."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks import peers
from kdpose_jax.skeletons import H36M_17

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB


def window_batches(
    folder: pathlib.Path,
    checkout: str,
    keypoints_2d: list[np.ndarray],
    pose_3d: list[np.ndarray],
    *,
    length: int,
    batch: int,
) -> Iterator[tuple[Any, Any]]:
    """Yields shuffled windows as tensors without end, as the checkout's run.py makes them.

    Args:
      folder: DIR of --peers.
      checkout: MixSTE or VideoPose3D.
      keypoints_2d: each sequence's `[F, J, 2]`.
      pose_3d: each sequence's `[F, J, 3]`.
      length: frames of a window.
      batch: windows of a batch.
    """
    generators = peers.module(folder, checkout, "common.generators")
    kind = {"MixSTE": "ChunkedGenerator_Seq", "VideoPose3D": "ChunkedGenerator"}[checkout]
    left, right = list(H36M_17.left), list(H36M_17.right)
    generator = getattr(generators, kind)(
        batch,
        None,
        pose_3d,
        keypoints_2d,
        length,
        shuffle=True,
        augment=True,
        kps_left=left,
        kps_right=right,
        joints_left=left,
        joints_right=right,
    )
    while True:
        for _, poses, keypoints in generator.next_epoch():
            yield (
                torch.from_numpy(poses.astype("float32")),
                torch.from_numpy(keypoints.astype("float32")),
            )


class Photographs:
    """CDKD's JointsDataset over a list of persons, which a DataLoader's workers build themselves.

    Args:
      folder: DIR of --peers.
      persons: for each person image (a path), center, scale, joints_3d and joints_3d_vis.
      size: side of the student's crops; the teacher's have 256.
      flip_pairs: joints that a mirror swaps.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        persons: list[dict[str, Any]],
        size: int,
        flip_pairs: list[tuple[int, int]],
    ):
        self.folder, self.persons, self.size, self.flip_pairs = folder, persons, size, flip_pairs
        self.dataset: Any = None

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, number: int) -> Any:
        if self.dataset is None:
            self.dataset = self._open()
        return self.dataset[number][:4]  # both crops, bins, weights; without the description

    def _open(self) -> Any:
        config = peers.cdkd_config(self.folder, self.size, 3.0)
        kind = peers.module(self.folder, f"{peers.CDKD}/lib", "dataset.JointsDataset").JointsDataset
        dataset = kind(config, "", "train", True, normalized, "simdr", 3.0)
        dataset.num_joints = len(self.persons[0]["joints_3d"])
        dataset.flip_pairs, dataset.db = self.flip_pairs, self.persons
        return dataset


def normalized(picture: np.ndarray) -> Any:
    """Does what torchvision's ToTensor and Normalize do, which CDKD's train.py applies."""
    tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float().div_(255)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return tensor.sub_(mean).div_(deviation)


def crop_batches(photographs: Photographs, *, batch: int, workers: int) -> Iterator[Any]:
    """Yields batches of a DataLoader without end.

    The workers are new processes: forks of one with JAX's threads may hang.
    """
    loader = torch.utils.data.DataLoader(
        photographs,
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    while True:
        yield from loader
