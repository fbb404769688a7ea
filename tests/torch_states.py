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
