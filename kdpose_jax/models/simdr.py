"""The SimDR head: coordinates as classes, one linear map per axis from a joint's whole map.

Source: SimCC, ECCV 2022; docs/methods/pose2d.md#simdr-head.
"""

from typing import TypedDict

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float

from kdpose_jax.models.layers import Linear

HEAD_STARTS = ("uniform", "marginal")
# Deviation of the noise on `marginal` kernels, whose entries lie in [0, 1]: it lets the cells of a column learn apart.
_MARGINAL_NOISE = 0.01


class SimDRPrediction(TypedDict):
    """Logits over the bins of each axis.

    Attributes:
      x: columns, `[B, J, Mx]`.
      y: rows, `[B, J, My]`.
    """

    x: Float[Array, "B J Mx"]
    y: Float[Array, "B J My"]


def marginal_kernel(cells: int, bins: int) -> np.ndarray:
    """Linear interpolation from cells to bins over the same length; bins beyond the outer cells' centres take the outer cells.

    Args:
      cells: along the axis of a map.
      bins: along the same axis of the picture.

    Returns:
      `[cells, bins]`, whose columns sum to 1.
    """
    positions = (np.arange(bins) + 0.5) * cells / bins - 0.5  # of the bins' centres, in cells
    distance = np.clip(positions, 0, cells - 1) - np.arange(cells)[:, None]
    return np.maximum(0.0, 1.0 - np.abs(distance)).astype(np.float32)


class SimDRHead(nn.Module):
    """Two linear maps, shared by all joints.

    Attributes:
      bins: number of bins of x and of y.
      start: what the kernels are before training: `uniform`, as released, or `marginal`, our own: a bin's logit is the sum of
        the map over the other axis, interpolated, so that where a map is high is where the joint is from the first step on.
    """

    bins: tuple[int, int]
    start: str = "uniform"

    @nn.compact
    def __call__(self, joint_maps: Float[Array, "B J H W"]) -> SimDRPrediction:
        rows = joint_maps.reshape(*joint_maps.shape[:2], -1)  # [B, J, H, W] -> [B, J, HW]
        height, width = joint_maps.shape[2:]
        columns, lines = self.bins
        if self.start == "uniform":
            return SimDRPrediction(
                x=Linear(columns, name="x")(rows), y=Linear(lines, name="y")(rows)
            )
        across = np.tile(marginal_kernel(width, columns), (height, 1))  # [HW, Mx]
        down = np.repeat(marginal_kernel(height, lines), width, axis=0)  # [HW, My]
        return SimDRPrediction(
            x=nn.Dense(columns, kernel_init=_near(across), name="x")(rows),
            y=nn.Dense(lines, kernel_init=_near(down), name="y")(rows),
        )


def _near(kernel: np.ndarray) -> nn.initializers.Initializer:
    noise = nn.initializers.normal(_MARGINAL_NOISE)
    return lambda key, shape, dtype=np.float32: (
        jax.numpy.asarray(kernel, dtype) + noise(key, shape, dtype)
    )
