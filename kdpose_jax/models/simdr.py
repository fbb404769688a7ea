"""The SimDR head: coordinates as classes, one linear map per axis from a joint's whole map (SimCC, ECCV 2022; spec/cdkd.md 2.1)."""

import math
from typing import TypedDict

import flax.linen as nn
from jaxtyping import Array, Float

from kdpose_jax.models.attention import Linear


class SimDRPrediction(TypedDict):
    """Logits over the bins of each axis.

    Attributes:
      x: columns, `[B, J, Mx]`.
      y: rows, `[B, J, My]`.
    """

    x: Float[Array, "B J Mx"]
    y: Float[Array, "B J My"]


def count_bins(size: tuple[int, int], split_ratio: float) -> tuple[int, int]:
    """Bins of both axes: pixels times bins per pixel, rounded down.

    Args:
      size: width and height of the input in pixels.
      split_ratio: bins per pixel k; where it was computed as bins over pixels, its round-off does not cost a bin.
    """
    width, height = size
    return math.floor(width * split_ratio + 1e-6), math.floor(height * split_ratio + 1e-6)


class SimDRHead(nn.Module):
    """Two linear maps, shared by all joints.

    Attributes:
      bins: number of bins of x and of y.
    """

    bins: tuple[int, int]

    @nn.compact
    def __call__(self, joint_maps: Float[Array, "B J H W"]) -> SimDRPrediction:
        rows = joint_maps.reshape(*joint_maps.shape[:2], -1)  # [B, J, H, W] -> [B, J, HW]
        columns, lines = self.bins
        return SimDRPrediction(x=Linear(columns, name="x")(rows), y=Linear(lines, name="y")(rows))
