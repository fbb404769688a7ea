"""Builds lifting networks from their config blocks, for every method that lifts."""

from typing import Any

import jax.numpy as jnp

from kdpose_jax.errors import UserError
from kdpose_jax.models.mixste import MixSTE

COMPUTE_TYPES = {"float32": None, "bfloat16": jnp.dtype(jnp.bfloat16)}


def build_mixste(network: Any, *, joints: int, frames: int, training: bool, place: str) -> MixSTE:
    """MixSTE from a `network` block.

    Args:
      network: config block: width, depth, heads, mlp_ratio, drop_path, compute, remat.
      joints: number of joints.
      frames: number of frames that it reads.
      training: compute in the block's type; otherwise in float32.
      place: name of the block in errors.

    Returns:
      The module.

    Raises:
      UserError: a value that no network can have.
    """
    if network.compute not in COMPUTE_TYPES:
        raise UserError(f"{place}.compute is '{network.compute}': set it to one of {sorted(COMPUTE_TYPES)}.")
    if network.heads < 1 or network.width % network.heads:
        raise UserError(f"{place}.width {network.width} is no multiple of {place}.heads {network.heads}: change one.")
    if min(network.depth, frames, network.width) < 1:
        raise UserError(f"{place} has depth {network.depth}, width {network.width} and {frames} frames: use at least 1.")
    if not 0 <= network.drop_path < 1:
        raise UserError(f"{place}.drop_path is {network.drop_path}: use a probability from 0 to below 1.")
    return MixSTE(
        joints=joints,
        frames=frames,
        width=network.width,
        depth=network.depth,
        heads=network.heads,
        mlp_ratio=network.mlp_ratio,
        drop_path=network.drop_path,
        dtype=COMPUTE_TYPES[network.compute] if training else None,
        remat=network.remat and training,
    )
