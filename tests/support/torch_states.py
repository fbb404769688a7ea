"""Makes PyTorch states with published names, on which imports are tried."""

import torch


def mixste_state(frames=5, joints=3, width=8, depth=2) -> dict[str, torch.Tensor]:
    """Makes a random state with MixSTE2's names and shapes.

    They are written down here independently of the importer.
    """
    shapes = {"Spatial_pos_embed": (1, joints, width), "Temporal_pos_embed": (1, frames, width)}
    shapes |= {
        "Spatial_patch_to_embedding.weight": (width, 2),
        "Spatial_patch_to_embedding.bias": (width,),
    }
    for block in [
        f"{kind}.{layer}" for kind in ("STEblocks", "TTEblocks") for layer in range(depth)
    ]:
        for name, outputs, inputs in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 2 * width, width),
            ("mlp.fc2", width, 2 * width),
        ):  # fmt: skip
            shapes |= {
                f"{block}.{name}.weight": (outputs, inputs),
                f"{block}.{name}.bias": (outputs,),
            }
        for name in ("norm1", "norm2"):
            shapes |= {f"{block}.{name}.weight": (width,), f"{block}.{name}.bias": (width,)}
    for name in ("Spatial_norm", "Temporal_norm", "head.0"):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    shapes |= {"head.1.weight": (3, width), "head.1.bias": (3,)}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def hourglass_mixste_state(frames=5, joints=3, width=8, depth=2, kept=3) -> dict[str, torch.Tensor]:
    """Makes a random state with the names and shapes of HoT's MixSTE.

    They are written down here independently of the importer.
    """
    shapes = {"pos_embed_token": (1, kept, width), "x_token": (1, frames, width)}
    for name in ("linear_q", "linear_k", "linear_v", "proj"):
        shapes |= {
            f"cross_attention.{name}.weight": (width, width),
            f"cross_attention.{name}.bias": (width,),
        }
    return mixste_state(frames, joints, width, depth) | _random(shapes, seed=1)


def poseformer_v2_state(
    joints=3, width=4, depth=2, kept=3, coefficients=2
) -> dict[str, torch.Tensor]:
    """Makes a random state with PoseTransformerV2's names and shapes.

    They are written down here independently of the importer.
    """
    whole = joints * width
    shapes: dict[str, tuple[int, ...]] = {"Spatial_pos_embed": (1, joints, width)}
    shapes |= {
        "Temporal_pos_embed": (1, kept, whole),
        "Temporal_pos_embed_": (1, coefficients, whole),
    }
    shapes |= {"weighted_mean.weight": (1, coefficients, 1), "weighted_mean_.weight": (1, kept, 1)}
    shapes |= {"weighted_mean.bias": (1,), "weighted_mean_.bias": (1,)}
    linears = [
        ("Joint_embedding", width, 2),
        ("Freq_embedding", whole, 2 * joints),
        ("head.1", 3 * joints, 2 * whole),
    ]
    norms = [("Spatial_norm", width), ("Temporal_norm", whole), ("head.0", 2 * whole)]
    for layer in range(depth):
        for name, size, mlps in (
            (f"Spatial_blocks.{layer}", width, ("mlp",)),
            (f"blocks.{layer}", whole, ("mlp1", "mlp2")),
        ):
            linears += [(f"{name}.attn.qkv", 3 * size, size), (f"{name}.attn.proj", size, size)]
            linears += [(f"{name}.{mlp}.fc1", 2 * size, size) for mlp in mlps] + [
                (f"{name}.{mlp}.fc2", size, 2 * size) for mlp in mlps
            ]
            norms += [(f"{name}.norm{number}", size) for number in range(1, 2 + len(mlps))]
    for name, outputs, inputs in linears:
        shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    for name, size in norms:
        shapes |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
    return _random(shapes, seed=2)


def videopose3d_state(joints=3, width=4, filters=(3, 5)) -> dict[str, torch.Tensor]:
    """Makes a random state with TemporalModel's names and shapes.

    They are written down here independently of the importer.
    """
    shapes = {
        "expand_conv.weight": (width, 2 * joints, filters[0]),
        "shrink.weight": (3 * joints, width, 1),
        "shrink.bias": (3 * joints,),
    }
    norms = ["expand_bn"]
    for block, reach in enumerate(filters[1:]):
        shapes |= {
            f"layers_conv.{2 * block}.weight": (width, width, reach),
            f"layers_conv.{2 * block + 1}.weight": (width, width, 1),
        }
        norms += [f"layers_bn.{2 * block}", f"layers_bn.{2 * block + 1}"]
    for norm in norms:
        shapes |= {
            f"{norm}.{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")
        }
    return _random(shapes, seed=3) | {
        f"{norm}.num_batches_tracked": torch.tensor(7) for norm in norms
    }


def _random(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def hrnet_state(
    width=4, stem_width=4, blocks=1, modules=(1, 1, 2), joints=3, head=(64, 128, 128), seed=0
) -> dict[str, torch.Tensor]:
    """Makes a random state with PoseHighResolutionNet's names and shapes.

    They are written down here independently of the importer.

    Args:
      width: channels of the first branch.
      stem_width: channels of the stem.
      blocks: basic blocks per branch.
      modules: modules of stages 2, 3 and 4.
      joints: number of joints.
      head: bins of x, bins of y and cells of a joint's map; () for a heatmap network.
      seed: seed for the values.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def add(conv, norm, outputs, inputs, kernel):
        shapes.update(
            {f"{conv}.weight": (outputs, inputs, kernel, kernel), f"{norm}.num_batches_tracked": ()}
        )
        shapes.update(
            {
                f"{norm}.{name}": (outputs,)
                for name in ("weight", "bias", "running_mean", "running_var")
            }
        )

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
        add(
            f"transition{number}.{number}.0.0",
            f"transition{number}.{number}.0.1",
            widths[number],
            before,
            3,
        )
    for branches, count in zip((2, 3, 4), modules, strict=True):
        for module in range(count):
            name = f"stage{branches}.{module}"
            for block in [
                f"{name}.branches.{branch}.{block}"
                for branch in range(branches)
                for block in range(blocks)
            ]:
                channels = widths[int(block.split(".")[3])]
                add(f"{block}.conv1", f"{block}.bn1", channels, channels, 3)
                add(f"{block}.conv2", f"{block}.bn2", channels, channels, 3)
            for i in range(1 if branches == 4 and module == count - 1 else branches):
                for j in range(i + 1, branches):
                    add(
                        f"{name}.fuse_layers.{i}.{j}.0",
                        f"{name}.fuse_layers.{i}.{j}.1",
                        widths[i],
                        widths[j],
                        1,
                    )
                for j in range(i):
                    for k in range(i - j):
                        fuse = f"{name}.fuse_layers.{i}.{j}.{k}"
                        add(
                            f"{fuse}.0",
                            f"{fuse}.1",
                            widths[i if k == i - j - 1 else j],
                            widths[j],
                            3,
                        )
    shapes |= {"final_layer.weight": (joints, width, 1, 1), "final_layer.bias": (joints,)}
    for axis, bins in zip("xy", head, strict=False):
        shapes |= {f"mlp_head_{axis}.weight": (bins, head[2]), f"mlp_head_{axis}.bias": (bins,)}
    generator = torch.Generator().manual_seed(seed)
    counters = {name: torch.tensor(7) for name in shapes if name.endswith("num_batches_tracked")}
    return {
        name: torch.randn(shape, generator=generator) for name, shape in shapes.items()
    } | counters
