"""PyTorch states with published names, made here: what an import is tried on."""

import torch


def mixste_state(frames=5, joints=3, width=8, depth=2) -> dict[str, torch.Tensor]:
    """A random state with the names and shapes of MixSTE2's, written down here independently of the importer."""
    shapes = {"Spatial_pos_embed": (1, joints, width), "Temporal_pos_embed": (1, frames, width)}
    shapes |= {"Spatial_patch_to_embedding.weight": (width, 2), "Spatial_patch_to_embedding.bias": (width,)}
    for block in [f"{kind}.{layer}" for kind in ("STEblocks", "TTEblocks") for layer in range(depth)]:
        for name, outputs, inputs in (
            ("attn.qkv", 3 * width, width), ("attn.proj", width, width), ("mlp.fc1", 2 * width, width), ("mlp.fc2", width, 2 * width),
        ):  # fmt: skip
            shapes |= {f"{block}.{name}.weight": (outputs, inputs), f"{block}.{name}.bias": (outputs,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"{block}.{name}.weight": (width,), f"{block}.{name}.bias": (width,)}
    for name in ("Spatial_norm", "Temporal_norm", "head.0"):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    shapes |= {"head.1.weight": (3, width), "head.1.bias": (3,)}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def hrnet_state(width=4, stem_width=4, blocks=1, modules=(1, 1, 2), joints=3, head=(64, 128, 128), seed=0) -> dict[str, torch.Tensor]:
    """A random state with the names and shapes of PoseHighResolutionNet's, written down here independently of the importer.

    Args:
      width: channels of the first branch.
      stem_width: channels of the stem.
      blocks: basic blocks per branch.
      modules: modules of stages 2, 3 and 4.
      joints: number of joints.
      head: bins of x, bins of y and cells of a joint's map; () for a heatmap network.
      seed: of the values.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def add(conv, norm, outputs, inputs, kernel):
        shapes.update({f"{conv}.weight": (outputs, inputs, kernel, kernel), f"{norm}.num_batches_tracked": ()})
        shapes.update({f"{norm}.{name}": (outputs,) for name in ("weight", "bias", "running_mean", "running_var")})

    add("conv1", "bn1", stem_width, 3, 3)
    add("conv2", "bn2", stem_width, stem_width, 3)
    inputs = stem_width
    for name in ("layer1.0", "layer1.1", "layer1.2", "layer1.3"):
        add(f"{name}.conv1", f"{name}.bn1", stem_width, inputs, 1)
        add(f"{name}.conv2", f"{name}.bn2", stem_width, stem_width, 3)
        add(f"{name}.conv3", f"{name}.bn3", inputs := 4 * stem_width, stem_width, 1)
    add("layer1.0.downsample.0", "layer1.0.downsample.1", inputs, stem_width, 1)
    widths = [width, 2 * width, 4 * width, 8 * width]
    add("transition1.0.0", "transition1.0.1", width, inputs, 3)
    for number, before in ((1, inputs), (2, widths[1]), (3, widths[2])):
        add(f"transition{number}.{number}.0.0", f"transition{number}.{number}.0.1", widths[number], before, 3)
    for branches, count in zip((2, 3, 4), modules, strict=True):
        for module in range(count):
            name = f"stage{branches}.{module}"
            for block in [f"{name}.branches.{branch}.{block}" for branch in range(branches) for block in range(blocks)]:
                channels = widths[int(block.split(".")[3])]
                add(f"{block}.conv1", f"{block}.bn1", channels, channels, 3)
                add(f"{block}.conv2", f"{block}.bn2", channels, channels, 3)
            for i in range(1 if branches == 4 and module == count - 1 else branches):
                for j in range(i + 1, branches):
                    add(f"{name}.fuse_layers.{i}.{j}.0", f"{name}.fuse_layers.{i}.{j}.1", widths[i], widths[j], 1)
                for j in range(i):
                    for k in range(i - j):
                        fuse = f"{name}.fuse_layers.{i}.{j}.{k}"
                        add(f"{fuse}.0", f"{fuse}.1", widths[i if k == i - j - 1 else j], widths[j], 3)
    shapes |= {"final_layer.weight": (joints, width, 1, 1), "final_layer.bias": (joints,)}
    for axis, bins in zip("xy", head, strict=False):
        shapes |= {f"mlp_head_{axis}.weight": (bins, head[2]), f"mlp_head_{axis}.bias": (bins,)}
    generator = torch.Generator().manual_seed(seed)
    counters = {name: torch.tensor(7) for name in shapes if name.endswith("num_batches_tracked")}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} | counters
