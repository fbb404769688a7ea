"""A 2D pose network: HRNet, one map per joint, and a SimDR or a heatmap head.

Source: SimCC's and CDKD's released code; docs/methods/pose2d.md#hrnet.
"""

from typing import TypedDict

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdpose_jax.codecs.keypoints_2d import count_bins
from kdpose_jax.models.convolution import convolution_init
from kdpose_jax.models.hrnet import STRIDE, HRNet
from kdpose_jax.models.simdr_head import SimDRHead
from kdpose_jax.precision import float32_or_wider

HEADS = ("simdr", "heatmap")


class PoseFeatures(TypedDict):
    """What a forward pass returns beside its prediction.

    Attributes:
      joint_maps: the maps that the head reads, `[B, J, h, w]`, float32; CDKD distils them.
    """

    joint_maps: Float[Array, "B J h w"]


class PoseNet(nn.Module):
    """The network. Strides and stages do not depend on the size of the input.

    Attributes:
      joints: number J of joints.
      size: width and height of the input, pixels, multiples of 32.
      width: channels of HRNet's branch 0.
      stem_width: channels of HRNet's stem.
      blocks: basic blocks per branch of a module.
      modules: number of modules in stages 2, 3 and 4; a shorter tuple leaves out the last stages.
      head: `simdr` or `heatmap`.
      split_ratio: k, bins per pixel of the SimDR head.
      head_start: the SimDR head's kernels before training, `uniform` or `marginal`.
      dtype: compute type of the backbone; parameters are float32, and normalisation and heads
        compute in float32.
      remat: True recomputes the stages' modules in the backward pass.
    """

    joints: int
    size: tuple[int, int]
    width: int = 32
    stem_width: int = 64
    blocks: int = 4
    modules: tuple[int, ...] = (1, 4, 3)
    head: str = "simdr"
    split_ratio: float = 2.0
    head_start: str = "uniform"
    dtype: jnp.dtype | None = None
    remat: bool = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], train: bool = False
    ) -> tuple[dict[str, Float[Array, "B J ..."]], PoseFeatures]:
        """Locates joints.

        Args:
          images: RGB, normalised by ImageNet's mean and deviation.
          train: True normalises by the batch and updates the running statistics (collection
            `batch_stats`).

        Returns:
          The prediction in float32, which is `{"x": [B, J, W k], "y": [B, J, H k]}`, logits, or
          `{"heatmap": [B, J, h, w]}`; and the features.

        Raises:
          ValueError: the images have another size than the network, a side is not a multiple of 32,
            or the head is not known.
        """
        if self.head not in HEADS:
            raise ValueError(
                f"No pose network has a head '{self.head}': use one of {', '.join(HEADS)}."
            )
        columns, rows = self.size
        if images.shape[1:3] != (rows, columns) or rows % STRIDE or columns % STRIDE:
            raise ValueError(
                f"Images of {images.shape[2]}x{images.shape[1]} pixels do not fit a network of "
                f"size {columns}x{rows}: use one size for both, with sides that are multiples of "
                f"{STRIDE}."
            )
        backbone = HRNet(
            self.width,
            self.stem_width,
            self.blocks,
            self.modules,
            self.dtype,
            self.remat,
            name="backbone",
        )
        features = backbone(images, train)
        features = float32_or_wider(features)
        joint_maps = nn.Conv(
            self.joints, (1, 1), kernel_init=convolution_init(), name="final_layer"
        )(features)
        # [B, h, w, J] -> [B, J, h, w], the order of the head's weights
        joint_maps = joint_maps.transpose(0, 3, 1, 2)
        shown = PoseFeatures(joint_maps=joint_maps)
        if self.head == "heatmap":
            return {"heatmap": joint_maps}, shown
        bins = count_bins(self.size, self.split_ratio)
        logits = SimDRHead(bins, self.head_start, name="head")(joint_maps)
        return {"x": logits["x"], "y": logits["y"]}, shown
