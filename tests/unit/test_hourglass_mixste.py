"""HoT on MixSTE.

The frames it keeps against plain loops, and the whole network against one written in PyTorch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from golden import precision
from torch_states import hourglass_mixste_state

from kdpose_jax.models.hourglass_mixste import HourglassMixSTE, distances, representative_frames
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.pytorch.mixste import convert_hourglass_mixste_state

B, F, J, C, DEPTH, HEADS, DENSE, KEPT = 2, 7, 3, 8, 3, 2, 2, 4


def peaks_by_loops(gap, count, neighbours):
    """Density peaks of one window, frame by frame.

    Of equally dense frames the earlier one counts as the denser.
    """
    frames = len(gap)
    density = [np.exp(-np.mean(np.sort(gap[i])[:neighbours] ** 2)) for i in range(frames)]
    by_density = sorted(range(frames), key=lambda i: (-density[i], i))
    score = {}
    for rank, i in enumerate(by_density):
        nearest = min((gap[i][j] for j in by_density[:rank]), default=gap.max())
        score[i] = nearest * density[i]
    return sorted(sorted(range(frames), key=lambda i: (-score[i], i))[:count])


def test_kept_frames_against_loops():
    """Windows with twins among their frames.

    Never are both kept while another frame is left out.
    """
    generator = np.random.default_rng(0)
    points = generator.normal(size=(40, 12, 3)).astype(np.float32)
    points[:, 5], points[:, 11] = points[:, 2], points[:, 0]
    gap = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    for neighbours in (2, 4):
        chosen = np.asarray(
            jax.jit(representative_frames, static_argnums=(1, 2))(jnp.asarray(gap), 5, neighbours)
        )
        assert chosen.tolist() == [peaks_by_loops(window, 5, neighbours) for window in gap]
        assert not any({2, 5} <= set(row) or {0, 11} <= set(row) for row in chosen.tolist())
    assert representative_frames(jnp.zeros((1, 6, 6)), 3, 2).tolist() == [
        [0, 1, 2]
    ]  # nothing moves, and as many are kept


def test_distances():
    points = np.random.default_rng(1).normal(size=(2, 6, 5)).astype(np.float32) + 10
    points[:, 4] = points[:, 1]
    found = np.asarray(jax.jit(distances)(points))
    wanted = np.linalg.norm(
        points[:, :, None].astype(np.float64) - points[:, None], axis=-1
    ) / np.sqrt(5)
    np.testing.assert_allclose(
        found, wanted, atol=2e-3
    )  # the root of what rounding leaves of a difference of squares
    apart = wanted > 0
    np.testing.assert_allclose(found[apart], wanted[apart], rtol=1e-5)
    assert (np.diagonal(found, axis1=1, axis2=2) == 0).all()


def attend(query, key, value):
    """Multi-head attention of `[N, S, C]` tokens, whose heads are neighbouring channels."""
    split = [
        part.unflatten(-1, (HEADS, C // HEADS)).transpose(1, 2) for part in (query, key, value)
    ]
    return torch.nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def lift_in_torch(state, keypoints_2d):
    """(pose, kept frames) by HoT's layers, from a state with its names.

    See docs/methods/lifting.md#hot.
    """

    def linear(name, tokens):
        return torch.nn.functional.linear(tokens, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, tokens, epsilon=1e-6):
        return torch.nn.functional.layer_norm(
            tokens, tokens.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], epsilon
        )

    def block(name, tokens):  # [N, S, C]
        tokens = tokens + linear(
            f"{name}.attn.proj",
            attend(*linear(f"{name}.attn.qkv", norm(f"{name}.norm1", tokens)).chunk(3, -1)),
        )
        hidden = torch.nn.functional.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", tokens)))
        return tokens + linear(f"{name}.mlp.fc2", hidden)

    def temporal(function, tokens):  # over the frames of every joint
        return (
            function(tokens.transpose(1, 2).flatten(0, 1))
            .unflatten(0, (len(tokens), J))
            .transpose(1, 2)
        )

    def pair(layer, tokens):
        tokens = norm("Spatial_norm", block(f"STEblocks.{layer}", tokens.flatten(0, 1))).unflatten(
            0, tokens.shape[:2]
        )
        if layer == 0:
            tokens = tokens + state["Temporal_pos_embed"][:, :, None]
        return norm(
            "Temporal_norm", temporal(lambda rows: block(f"TTEblocks.{layer}", rows), tokens)
        )

    tokens = linear("Spatial_patch_to_embedding", keypoints_2d) + state["Spatial_pos_embed"][None]
    for layer in range(DENSE):
        tokens = pair(layer, tokens)
    means = tokens.mean(2)
    gaps = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist") / C**0.5
    kept = torch.tensor([peaks_by_loops(gap.numpy(), KEPT, 2) for gap in gaps])
    tokens = torch.stack([window[frames] for window, frames in zip(tokens, kept, strict=True)])
    tokens = tokens + state["pos_embed_token"][:, :, None]
    for layer in range(DENSE, DEPTH):
        tokens = pair(layer, tokens)

    def recover(rows):
        queries = state["x_token"].expand(len(rows), -1, -1)
        asked, keys, values = (
            linear(f"cross_attention.linear_{name}", queries if name == "q" else rows)
            for name in "qkv"
        )
        return queries + linear("cross_attention.proj", attend(asked, keys, values))

    return linear("head.1", norm("head.0", temporal(recover, tokens), 1e-5)), kept


def test_network_against_torch():
    state = {
        name: value.double() for name, value in hourglass_mixste_state(F, J, C, DEPTH, KEPT).items()
    }
    keypoints_2d = torch.randn(
        (B, F, J, 2), generator=torch.Generator().manual_seed(9), dtype=torch.float64
    )
    wanted, kept = lift_in_torch(state, keypoints_2d)
    params, sizes = convert_hourglass_mixste_state(
        {name: value.numpy() for name, value in state.items()}
    )
    assert sizes == {
        "frames": F,
        "joints": J,
        "width": C,
        "depth": DEPTH,
        "mlp_ratio": 2.0,
        "kept_frames": KEPT,
    }
    sizes.pop("kept_frames")
    network = HourglassMixSTE(
        MixSTE(heads=HEADS, drop_path=0.0, **sizes),
        dense_pairs=DENSE,
        kept_frames=KEPT,
        neighbours=2,
    )
    with precision(np.float64):
        run = jax.jit(lambda params, keypoints_2d: network.apply({"params": params}, keypoints_2d))
        pose, features = jax.tree.map(np.asarray, run(params, jnp.asarray(keypoints_2d.numpy())))
    assert (
        features["kept"].tolist() == kept.tolist()
        and len({tuple(row) for row in kept.tolist()}) == B
    )
    np.testing.assert_allclose(
        pose, wanted.numpy(), atol=1e-9 * np.abs(wanted.numpy()).max(), rtol=0
    )
