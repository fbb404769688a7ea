"""HRNet: parallel branches of different resolutions, which each module mixes.

Source: Sun et al., HRNet, CVPR 2019, and its released code, which SimCC and CDKD copy
(docs/methods/pose2d.md#hrnet). Parameter names are ours; `pytorch.hrnet` maps the published ones
onto them.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdpose_jax.models.convolution import ConvNorm

# The fourth branch has stride 32, so the sides of the input must be multiples of 32.
STRIDE = 32
BOTTLENECKS = 4
BOTTLENECK_EXPANSION = 4

Branches = tuple[Float[Array, "B _ _ _"], ...]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut around them.

    Attributes:
      dtype: compute type.
    """

    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, inputs: Float[Array, "B H W C"], train: bool) -> Float[Array, "B H W C"]:
        width = inputs.shape[-1]
        hidden = nn.relu(ConvNorm(width, 3, dtype=self.dtype, name="first")(inputs, train))
        return nn.relu(inputs + ConvNorm(width, 3, dtype=self.dtype, name="second")(hidden, train))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 convolutions, with a shortcut around them.

    The shortcut has a 1x1 convolution where the width changes.

    Attributes:
      width: inner channels; the output has 4 times as many.
      dtype: compute type.
    """

    width: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, inputs: Float[Array, "B H W C"], train: bool) -> Float[Array, "B H W D"]:
        outputs = BOTTLENECK_EXPANSION * self.width
        hidden = nn.relu(ConvNorm(self.width, 1, dtype=self.dtype, name="first")(inputs, train))
        hidden = nn.relu(ConvNorm(self.width, 3, dtype=self.dtype, name="second")(hidden, train))
        hidden = ConvNorm(outputs, 1, dtype=self.dtype, name="third")(hidden, train)
        if inputs.shape[-1] != outputs:
            inputs = ConvNorm(outputs, 1, dtype=self.dtype, name="shortcut")(inputs, train)
        return nn.relu(inputs + hidden)


def upsample_nearest(inputs: Float[Array, "B H W C"], factor: int) -> Float[Array, "B h w C"]:
    """Repeats every row and every column `factor` times."""
    return inputs.repeat(factor, axis=1).repeat(factor, axis=2)


class ExchangeModule(nn.Module):
    """Basic blocks on every branch, then sums of all branches at each output's resolution.

    Attributes:
      width: number C of channels of branch 0; branch b has 2^b C.
      blocks: basic blocks per branch.
      outputs: number of branches to output; the network's last module needs one.
      dtype: compute type.
    """

    width: int
    blocks: int
    outputs: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, branches: Branches, train: bool) -> Branches:
        refined = []
        for number, branch in enumerate(branches):
            for block in range(self.blocks):
                branch = BasicBlock(self.dtype, name=f"branch_{number}_block_{block}")(
                    branch, train
                )
            refined.append(branch)
        outputs = []
        for target in range(self.outputs):
            terms = [
                self.bring(branch, source, target, train) for source, branch in enumerate(refined)
            ]
            outputs.append(nn.relu(sum(terms[1:], start=terms[0])))
        return tuple(outputs)

    def bring(
        self, branch: Float[Array, "B H W C"], source: int, target: int, train: bool
    ) -> Float[Array, "B h w D"]:
        """Brings branch `source` to the resolution and the channels of branch `target`."""
        name = f"fuse_{target}_{source}"
        if source == target:
            return branch
        if source > target:
            narrowed = ConvNorm(self.width * 2**target, 1, dtype=self.dtype, name=name)(
                branch, train
            )
            return upsample_nearest(narrowed, 2 ** (source - target))
        steps = target - source
        for step in range(steps - 1):
            halve = ConvNorm(
                self.width * 2**source, 3, stride=2, dtype=self.dtype, name=f"{name}_{step}"
            )
            branch = nn.relu(halve(branch, train))
        return ConvNorm(
            self.width * 2**target, 3, stride=2, dtype=self.dtype, name=f"{name}_{steps - 1}"
        )(branch, train)


class HRNet(nn.Module):
    """The backbone, up to branch 0 of the last module.

    Attributes:
      width: number C of channels of branch 0; 32 or 48 in the published networks.
      stem_width: channels of the stem, and inner channels of the bottlenecks after it (published:
        64).
      blocks: basic blocks per branch of a module (published: 4).
      modules: number of modules in stages 2, 3 and 4, which have 2, 3 and 4 branches (published: 1,
        4, 3). A shorter tuple leaves out the last stages.
      dtype: compute type; parameters and normalisation are float32.
      remat: True recomputes the modules in the backward pass instead of storing their activations.
    """

    width: int
    stem_width: int
    blocks: int
    modules: tuple[int, ...]
    dtype: jnp.dtype | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "B H W 3"], train: bool) -> Float[Array, "B h w C"]:
        """Computes the map.

        Args:
          images: normalised images, whose sides are multiples of 32.
          train: True normalises by the batch and updates the running statistics (collection
            `batch_stats`).

        Returns:
          Features of stride 4.
        """
        exchange = nn.remat(ExchangeModule, static_argnums=(2,)) if self.remat else ExchangeModule
        hidden = nn.relu(
            ConvNorm(self.stem_width, 3, stride=2, dtype=self.dtype, name="stem_0")(images, train)
        )
        hidden = nn.relu(
            ConvNorm(self.stem_width, 3, stride=2, dtype=self.dtype, name="stem_1")(hidden, train)
        )
        for block in range(BOTTLENECKS):
            hidden = Bottleneck(self.stem_width, self.dtype, name=f"layer1_{block}")(hidden, train)
        branches: Branches = (
            nn.relu(ConvNorm(self.width, 3, dtype=self.dtype, name="transition1_0")(hidden, train)),
        )
        for stage, modules in enumerate(self.modules, start=2):
            # Each stage adds a branch, computed from the branch of lowest resolution. Stage 2 has
            # none yet and takes the output of layer1.
            last = hidden if stage == 2 else branches[-1]
            added = ConvNorm(
                self.width * 2 ** (stage - 1),
                3,
                stride=2,
                dtype=self.dtype,
                name=f"transition{stage - 1}_{stage - 1}",
            )
            branches = (*branches, nn.relu(added(last, train)))
            for module in range(modules):
                outputs = 1 if stage == len(self.modules) + 1 and module == modules - 1 else stage
                name = f"stage{stage}_{module}"
                branches = exchange(self.width, self.blocks, outputs, self.dtype, name=name)(
                    branches, train
                )
        return branches[0]
