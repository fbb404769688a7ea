"""Keyframe grids, the way back to all frames, and the sparse network around them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdpose_jax.codecs.keyframes import CENTRED, KeyframeGrid
from kdpose_jax.models import initial
from kdpose_jax.models.keyframes import most_correlated, take_frames
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.models.sparse_mixste import SparseMixSTE
from kdpose_jax.models.upsampling import (
    UPSAMPLINGS,
    CrossAttentionRecovery,
    interpolation_matrix,
    upsample,
)

B, F, J, C, STRIDE = 2, 9, 3, 8, 3
PHASES = tuple(
    (frames, stride, offset)
    for frames in (11,)
    for stride in (1, 2, 3, 5)
    for offset in range(stride)
)


def interpolation_oracle(keyframes, frames, ends):
    """The matrix row by row, from the definition: `[F, K]`."""
    matrix, last = np.zeros((frames, len(keyframes))), len(keyframes) - 1
    for t in range(frames):
        left = max((k for k in range(last + 1) if keyframes[k] <= t), default=0)
        left = min(left, last - 1)
        share = (t - keyframes[left]) / (keyframes[left + 1] - keyframes[left])
        share = min(max(share, 0.0), 1.0) if ends == "hold" else share
        matrix[t, left] += 1 - share
        matrix[t, left + 1] += share
    return matrix


def test_grid_is_every_rth_frame():
    for frames in range(1, 30):
        for stride in range(1, 10):
            for offset in range(stride):
                expected = list(range(offset, frames, stride))
                grid = KeyframeGrid(frames, stride, offset)
                assert grid.keyframes.tolist() == expected
                assert grid.count == len(expected)
                assert np.flatnonzero(grid.mask).tolist() == expected


@pytest.mark.parametrize(("frames", "stride"), [(243, 3), (243, 9), (81, 3), (27, 3), (27, 9)])
def test_centred_grids_of_the_spec(frames, stride):
    """T / r keyframes, symmetric, with the centre frame among them.

    See docs/methods/scjd.md#keyframes.
    """
    keyframes = KeyframeGrid.from_options(frames, stride, CENTRED).keyframes
    assert len(keyframes) == frames // stride
    assert (keyframes + keyframes[::-1] == frames - 1).all()
    assert (frames - 1) // 2 in keyframes


@pytest.mark.parametrize(("stride", "offset"), [(0, 0), (10, 0), (3, 3), (3, -2)])
def test_grids_that_no_window_has(stride, offset):
    with pytest.raises(ValueError, match=r"is -?\d+: use"):
        KeyframeGrid.from_options(9, stride, offset)


def test_grid_that_does_not_fit():
    """r = 5 on 243 frames: 49 keyframes 2, 7, ..., 242, without the centre.

    See docs/methods/scjd.md#keyframes.
    """
    keyframes = KeyframeGrid.from_options(243, 5, CENTRED).keyframes
    assert (len(keyframes), keyframes[0], keyframes[1], keyframes[-1], 121 in keyframes) == (
        49,
        2,
        7,
        242,
        False,
    )


@pytest.mark.parametrize("ends", ["hold", "extrapolate"])
def test_matrix_of_every_phase(ends):
    for frames, stride, offset in PHASES:
        keyframes = KeyframeGrid(frames, stride, offset).keyframes
        matrix = np.asarray(interpolation_matrix(jnp.asarray(keyframes), frames, ends))
        assert matrix.shape == (frames, len(keyframes))
        np.testing.assert_allclose(matrix, interpolation_oracle(keyframes, frames, ends), atol=1e-6)
        np.testing.assert_allclose(matrix.sum(-1), 1, atol=1e-6)
        # A signal that is linear in time comes back exactly; beyond the keyframes only where it is
        # extrapolated.
        time = np.arange(frames)
        signal = 0.25 - 0.5 * time
        inside = (
            (time >= keyframes[0]) & (time <= keyframes[-1])
            if ends == "hold"
            else np.ones(frames, bool)
        )
        np.testing.assert_allclose((matrix @ signal[keyframes])[inside], signal[inside], atol=2e-5)
        if ends == "hold":
            held = np.where(time < keyframes[0], signal[keyframes[0]], signal[keyframes[-1]])
            np.testing.assert_allclose(
                (matrix @ signal[keyframes])[~inside], held[~inside], atol=1e-6
            )


@pytest.mark.parametrize("wrap", [lambda function, **_: function, jax.jit], ids=["eager", "jitted"])
def test_matrix_of_uneven_keyframes(wrap):
    """Keyframes of each window's own, against numpy.interp."""
    generator = np.random.default_rng(4)
    keyframes = np.stack([np.sort(generator.choice(20, 6, replace=False)) for _ in range(5)])
    compute = wrap(interpolation_matrix, static_argnums=(1, 2))
    hold, extrapolated = (
        np.asarray(compute(jnp.asarray(keyframes), 20, ends)) for ends in ("hold", "extrapolate")
    )
    assert hold.shape == (5, 20, 6)
    np.testing.assert_allclose(hold.sum(-1), 1, atol=1e-6)
    values = generator.normal(size=(5, 6))
    for window in range(5):
        expected = np.interp(np.arange(20), keyframes[window], values[window])
        np.testing.assert_allclose(hold[window] @ values[window], expected, atol=1e-5)
        np.testing.assert_allclose(
            extrapolated[window],
            interpolation_oracle(keyframes[window], 20, "extrapolate"),
            atol=1e-5,
        )


@pytest.mark.parametrize("ends", ["hold", "extrapolate"])
@pytest.mark.parametrize("keyframes", [[3], [[3], [0]]])
def test_one_keyframe_is_held(keyframes, ends):
    matrix = np.asarray(interpolation_matrix(jnp.asarray(keyframes), 5, ends))
    assert matrix.shape == (*np.shape(keyframes)[:-1], 5, 1)
    assert (matrix == 1).all()


@pytest.mark.parametrize("per_window", [False, True])
def test_upsample_and_take_frames(per_window):
    generator = np.random.default_rng(5)
    values = generator.normal(size=(B, 4, J, C)).astype(np.float32)
    matrix = generator.normal(size=(B, F, 4) if per_window else (F, 4)).astype(np.float32)
    chosen = generator.integers(-2, 6, (B, 3) if per_window else (3,))
    dense, picked = (
        upsample(jnp.asarray(matrix), jnp.asarray(values)),
        take_frames(jnp.asarray(values), jnp.asarray(chosen)),
    )
    for b in range(B):
        own, frames = (matrix[b], chosen[b]) if per_window else (matrix, chosen)
        np.testing.assert_allclose(dense[b], np.tensordot(own, values[b], 1), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(picked[b], values[b][np.clip(frames, 0, 3)])


@pytest.mark.parametrize("platform", ["default", "tpu"])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("per_window", [False, True])
def test_frames_are_taken_exactly_on_every_platform(monkeypatch, platform, axis, per_window):
    values = np.random.default_rng(7).normal(size=(B, 4, 4, J, C)).astype(np.float32)
    chosen = np.array([[3, 0, 3], [-2, 5, 1]] if per_window else [2, 9, -1])
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *given, **forms: forms[platform](*given)
    )
    picked = take_frames(jnp.asarray(values), jnp.asarray(chosen), axis)
    for b in range(B):
        frames = np.clip(chosen[b] if per_window else chosen, 0, 3)
        np.testing.assert_array_equal(picked[b], np.take(values[b], frames, axis - 1))


@pytest.mark.parametrize(("frames", "stride"), [(9, 3), (11, 3), (10, 4), (7, 5), (6, 1)])
def test_most_correlated_frame_of_a_group(frames, stride):
    keypoints_2d = np.random.default_rng(6).normal(size=(B, frames, J, 2)).astype(np.float32)
    grid = KeyframeGrid.from_options(frames, stride, CENTRED)
    found = np.asarray(jax.jit(most_correlated, static_argnums=1)(keypoints_2d, grid))
    starts = range(0, frames, stride)[: grid.count]
    for window, keyframes in zip(keypoints_2d, found, strict=True):
        for k, start in enumerate(starts):  # with the centred grid the groups begin at 0, r, 2 r
            group = range(start, min(start + stride, frames))
            apart = [
                sum(np.linalg.norm(window[m] - window[other], axis=-1).mean() for other in group)
                for m in group
            ]
            assert keyframes[k] == group[int(np.argmin(apart))]


def small_network(frames=F // STRIDE):
    return MixSTE(joints=J, frames=frames, width=C, depth=1, heads=2, mlp_ratio=2.0, drop_path=0.0)


def sparse(upsampling, selection="uniform", ends="hold"):
    return SparseMixSTE(
        network=small_network(),
        grid=KeyframeGrid(F, STRIDE, 1),
        offsets=(1, 0, 2),
        selection=selection,
        upsampling=upsampling,
        ends=ends,
    )


@pytest.fixture(scope="module")
def keypoints_2d():
    return jnp.asarray(np.random.default_rng(7).normal(size=(B, F, J, 2)), jnp.float32)


@functools.cache
def initial_params(upsampling):
    module = sparse(upsampling)
    return initial.variables(module, jax.random.key(0), jnp.zeros((B, F, J, 2)))["params"]


@functools.cache
def applied(upsampling, **options):
    module = sparse(upsampling, **options)
    return jax.jit(
        lambda params, keypoints_2d, offset: module.apply({"params": params}, keypoints_2d, offset)
    )


@pytest.fixture(scope="module")
def lifted(keypoints_2d):
    """The plain network on the keyframes of an offset, with the parameters that all sparse networks
    start from.
    """
    params = {"params": initial_params("linear_pose")["network"]}
    encode, decode = (
        jax.jit(functools.partial(small_network().apply, params, method=name))
        for name in ("encode", "decode")
    )
    return {
        o: np.asarray(encode(keypoints_2d[:, o::STRIDE])["temporal"][-1]) for o in range(STRIDE)
    }, decode


@pytest.mark.parametrize("offset", range(STRIDE))
@pytest.mark.parametrize("upsampling", ["linear_pose", "linear_feat", "learned"])
def test_sparse_network_interpolates(keypoints_2d, lifted, upsampling, offset):
    """Poses or embeddings of the keyframes, brought to all frames.

    `learned` starts at the linear matrix in every phase.
    """
    tokens, decode = lifted
    params = {**initial_params(upsampling), "network": initial_params("linear_pose")["network"]}
    pose, features = applied(upsampling)(params, keypoints_2d, offset)
    matrix = interpolation_oracle(np.arange(offset, F, STRIDE), F, "hold").astype(np.float32)
    if upsampling == "linear_feat":
        expected = decode(np.einsum("fk,bkjc->bfjc", matrix, tokens[offset]))
    else:
        expected = np.einsum("fk,bkjc->bfjc", matrix, decode(tokens[offset]))
    np.testing.assert_allclose(pose, expected, atol=1e-5)
    assert features["keyframes"].tolist() == list(range(offset, F, STRIDE))
    np.testing.assert_allclose(features["matrix"], matrix, atol=1e-6)
    np.testing.assert_allclose(features["network"]["temporal"][-1], tokens[offset], atol=1e-5)


def test_evaluation_uses_the_first_offset(keypoints_2d):
    module = sparse("linear_pose")
    pose, features = jax.jit(module.apply)({"params": initial_params("linear_pose")}, keypoints_2d)
    assert features["keyframes"].tolist() == [1, 4, 7]
    np.testing.assert_allclose(
        pose, applied("linear_pose")(initial_params("linear_pose"), keypoints_2d, 1)[0], atol=1e-6
    )


def test_frames_between_the_keyframes_are_not_seen(keypoints_2d):
    run = applied("linear_pose")
    changed = keypoints_2d.at[:, ::STRIDE].add(1.0).at[:, 2::STRIDE].add(-1.0)  # all but 1, 4, 7
    params = initial_params("linear_pose")
    np.testing.assert_array_equal(run(params, keypoints_2d, 1)[0], run(params, changed, 1)[0])
    assert np.abs(run(params, keypoints_2d, 0)[0] - run(params, changed, 0)[0]).max() > 1e-3


def test_chosen_keyframes_keep_their_time(keypoints_2d):
    """The correlated variant lifts other frames in every window, and interpolates between their
    true times.
    """
    params = initial_params("linear_pose")
    pose, features = applied("linear_pose", selection="correlated")(params, keypoints_2d, 1)
    keyframes = np.asarray(features["keyframes"])
    np.testing.assert_array_equal(
        keyframes, most_correlated(keypoints_2d, KeyframeGrid(F, STRIDE, 1))
    )
    assert (keyframes != keyframes[:1]).any() and (np.diff(keyframes) != STRIDE).any(), (
        "the example shows nothing"
    )
    chosen = np.take_along_axis(np.asarray(keypoints_2d), keyframes[..., None, None], axis=1)
    at_keyframes, _ = jax.jit(small_network().apply)(
        {"params": params["network"]}, jnp.asarray(chosen)
    )
    for b in range(B):
        expected = np.tensordot(interpolation_oracle(keyframes[b], F, "hold"), at_keyframes[b], 1)
        np.testing.assert_allclose(pose[b], expected, atol=1e-5)


def test_learned_matrix_is_one_per_phase(keypoints_2d):
    matrices = np.asarray(initial_params("learned")["upsampler"]["matrix"])
    for place, offset in enumerate((1, 0, 2)):
        np.testing.assert_allclose(
            matrices[place],
            interpolation_oracle(np.arange(offset, F, STRIDE), F, "hold"),
            atol=1e-6,
        )
    run = applied("learned")
    gradient = jax.jit(jax.grad(lambda params: jnp.square(run(params, keypoints_2d, 0)[0]).sum()))(
        initial_params("learned")
    )
    used = np.abs(np.asarray(gradient["upsampler"]["matrix"])).max((1, 2)) > 0
    assert used.tolist() == [False, True, False]


def test_cross_attention_recovery_against_loops():
    """Queries, keys and values by separate linear maps with bias, a residual onto the queries.

    4 C^2 + 4 C + T C parameters.
    """
    module, heads = CrossAttentionRecovery(frames=F, heads=2), 2
    tokens = np.random.default_rng(8).normal(size=(B, 4, J, C)).astype(np.float32)
    params = initial.variables(module, jax.random.key(1), tokens)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 4 * C * C + 4 * C + F * C
    assert (np.asarray(params["queries"]) == 0).all()
    params["queries"] = jax.random.normal(jax.random.key(2), (1, F, C))
    found = np.asarray(jax.jit(module.apply)({"params": params}, tokens))

    def linear(name, values):
        return values @ np.asarray(params[name]["kernel"], np.float64) + np.asarray(
            params[name]["bias"]
        )

    queries, size = np.asarray(params["queries"], np.float64)[0], C // heads
    for b in range(B):
        for j in range(J):
            query, key, value = (
                linear("query", queries),
                linear("key", tokens[b, :, j]),
                linear("value", tokens[b, :, j]),
            )
            mixed = np.zeros((F, C))
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                share = np.exp(query[:, part] @ key[:, part].T / np.sqrt(size))
                mixed[:, part] = share / share.sum(1, keepdims=True) @ value[:, part]
            np.testing.assert_allclose(found[b, :, j], queries + linear("out", mixed), atol=1e-5)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_every_parameter_trains(keypoints_2d, upsampling):
    """Away from the initialisation (zero queries hide their map) every parameter has a gradient,
    but for biases of keys.
    """
    generator = np.random.default_rng(9)
    noisy = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.3 * generator.normal(size=leaf.shape).astype(np.float32),
        initial_params(upsampling),
    )
    target = generator.normal(size=(B, F, J, 3)).astype(np.float32)
    run = applied(upsampling)
    gradient = jax.jit(
        jax.grad(lambda params: jnp.square(run(params, keypoints_2d, 0)[0] - target).mean())
    )(noisy)
    sizes = {
        jax.tree_util.keystr(where, simple=True, separator="/"): float(jnp.abs(leaf).max())
        for where, leaf in jax.tree.leaves_with_path(gradient)
    }
    useless = {"upsampler/key/bias"} & sizes.keys()  # shifts all logits of a query alike
    assert all(size > 1e-5 for name, size in sizes.items() if name not in useless), sizes
    assert all(sizes[name] < 1e-6 for name in useless)
    assert any(name.startswith("upsampler") for name in sizes) == (
        upsampling in ("learned", "cross_attn")
    )
