"""The SimDR head: coordinates as classes, one linear map per axis from a joint's whole map.

Source: SimCC, ECCV 2022; docs/methods/pose2d.md#simdr-head.
"""

from typing import TypedDict

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from kdpose_jax.models import initial
from kdpose_jax.models.layers import Linear

HEAD_STARTS = ("uniform", "marginal")
# Standard deviation of the noise on `marginal` kernels, whose entries are in [0, 1]. Without noise,
# the cells of a column would all learn the same.
_MARGINAL_NOISE = 0.01


class SimDRPrediction(TypedDict):
    """Logits over the bins of each axis.

    Attributes:
      x: logits of the horizontal axis, `[B, J, Mx]`.
      y: logits of the vertical axis, `[B, J, My]`.
    """

    x: Float[Array, "B J Mx"]
    y: Float[Array, "B J My"]


def marginal_kernel(cells: int, bins: int) -> np.ndarray:
    """Builds the linear interpolation from cells to bins over the same length.

    Bins beyond the centre of the first or last cell take that cell's value.

    Args:
      cells: number of cells along one axis of a map.
      bins: number of bins along the same axis of the picture.

    Returns:
      `[cells, bins]`, whose columns sum to 1.
    """
    positions = (np.arange(bins) + 0.5) * cells / bins - 0.5  # centres of the bins, in cells
    distance = np.clip(positions, 0, cells - 1) - np.arange(cells)[:, None]
    return np.maximum(0.0, 1.0 - np.abs(distance)).astype(np.float32)


class SimDRHead(nn.Module):
    """Two linear maps, shared by all joints.

    Attributes:
      bins: number of bins of x and of y.
      start: the kernels before training. `uniform` is as released. `marginal` is ours: a bin's
        logit is the map's sum over the other axis, interpolated, so that from the first step on a
        joint is predicted where its map is high.
    """

    bins: tuple[int, int]
    start: str = "uniform"

    @nn.compact
    def __call__(self, joint_maps: Float[Array, "B J H W"]) -> SimDRPrediction:
        rows = joint_maps.reshape(*joint_maps.shape[:2], -1)  # [B, J, H, W] -> [B, J, HW]
        height, width = joint_maps.shape[2:]
        columns, lines = self.bins
        if self.start == "uniform":
            x = Linear(columns, name="x")(rows)
            return SimDRPrediction(x=x, y=Linear(lines, name="y")(rows))
        across = np.tile(marginal_kernel(width, columns), (height, 1))  # [HW, Mx]
        down = np.repeat(marginal_kernel(height, lines), width, axis=0)  # [HW, My]
        return SimDRPrediction(
            x=nn.Dense(columns, kernel_init=initial.normal(_MARGINAL_NOISE, across), name="x")(
                rows
            ),
            y=nn.Dense(lines, kernel_init=initial.normal(_MARGINAL_NOISE, down), name="y")(rows),
        )
