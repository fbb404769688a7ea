"""Every distillation term of SCJD against plain loops, eager and jitted.

Written from docs/methods/scjd.md#joint-embedding to docs/methods/scjd.md#temporal-consistency.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scjd_scene import correlation_oracle

from kdpose_jax.methods.scjd import losses, schedule
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.tasks import sparse_lifting

B, F, J, C, A = 2, 9, 5, 6, 2
GRID = np.array([1, 4, 7])
CHOSEN = np.array([[0, 4, 8], [2, 3, 7]])  # keyframes of each window's own, at the very ends too
wraps = pytest.mark.parametrize(
    "wrap", [lambda function: function, jax.jit], ids=["eager", "jitted"]
)
both_grids = pytest.mark.parametrize("keyframes", [GRID, CHOSEN], ids=["grid", "per window"])


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def attention_maps(*shape, seed=0):
    """Random probabilities, rows sum to 1: `[..., J, J]`."""
    scores = np.exp(2 * draw(*shape, seed=seed))
    return scores / scores.sum(-1, keepdims=True)


def keyframes_of(keyframes, window):
    return keyframes if keyframes.ndim == 1 else keyframes[window]


def context_oracle(embeddings, keyframes, context, reach, temperature):
    """alpha_{k,m,j} over all frames m: `[B, K, J, F]`."""
    count = keyframes.shape[-1]
    alpha = np.zeros((B, count, J, F))
    for b, k, j in np.ndindex(B, count, J):
        middle = keyframes_of(keyframes, b)[k]
        scores = {}
        for m in range(max(0, middle - reach), min(F - 1, middle + reach) + 1):
            one, other = (
                embeddings[b, middle, j].astype(np.float64),
                embeddings[b, m, j].astype(np.float64),
            )
            cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
            scores[m] = {
                "dynamic": np.exp(cosine / temperature),
                "mean": 1.0,
                "keyframe": float(m == middle),
            }[context]
        for m, score in scores.items():
            alpha[b, k, j, m] = score / sum(scores.values())
    return alpha


@wraps
@both_grids
@pytest.mark.parametrize(
    ("context", "reach"),
    [("dynamic", 3), ("mean", 3), ("keyframe", 3), ("dynamic", 0), ("mean", 0), ("dynamic", 12)],
)
def test_context_weights(wrap, keyframes, context, reach):
    embeddings = draw(B, F, J, C)

    def weights(embeddings, keyframes):
        return losses.context_weights(
            embeddings, keyframes, context=context, reach=reach, temperature=0.3
        )

    found = np.asarray(wrap(weights)(jnp.asarray(embeddings), jnp.asarray(keyframes, jnp.int32)))
    np.testing.assert_allclose(
        found, context_oracle(embeddings, keyframes, context, reach, 0.3), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def test_still_joints_average_and_fast_ones_keep_to_the_keyframe():
    embeddings = np.tile(draw(1, 1, J, C), (1, F, 1, 1))
    embeddings[:, :, 1] = draw(1, F, C, seed=5)  # joint 1 changes at every frame
    weights = losses.context_weights(
        jnp.asarray(embeddings), jnp.asarray([4]), context="dynamic", reach=2, temperature=0.05
    )
    np.testing.assert_allclose(weights[0, 0, 0, 2:7], 0.2, atol=1e-5)
    assert weights[0, 0, 1, 4] > 0.99


@wraps
@both_grids
@pytest.mark.parametrize("trailing", [(C,), (A, J), ()], ids=["embeddings", "attention", "scalars"])
def test_gathered_context(wrap, keyframes, trailing):
    values, alpha = (
        draw(B, F, J, *trailing),
        context_oracle(draw(B, F, J, C), keyframes, "dynamic", 3, 0.5),
    )
    found = wrap(losses.gather_context)(jnp.asarray(values), jnp.asarray(alpha, jnp.float32))
    expected = np.zeros((B, 3, J, *trailing))
    for b, k, j in np.ndindex(B, 3, J):
        for m in range(F):
            expected[b, k, j] += alpha[b, k, j, m] * values[b, m, j]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def normed(values):
    """LN0 in float64."""
    centred = values - values.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


@wraps
@pytest.mark.parametrize("weighted", [False, True])
def test_embedding_loss(wrap, weighted):
    student, teacher = draw(B, 3, J, C), 5 * draw(B, 3, J, C, seed=1) + 2
    omega = np.abs(draw(B, 3, J, seed=2)) if weighted else None
    found = wrap(
        lambda *arrays: losses.embedding_loss(
            *arrays, None if omega is None else jnp.asarray(omega)
        )
    )(jnp.asarray(student), jnp.asarray(teacher))
    expected = np.zeros(B)
    for b, k, j, c in np.ndindex(B, 3, J, C):
        difference = (
            normed(student[b, k, j].astype(np.float64))[c]
            - normed(teacher[b, k, j].astype(np.float64))[c]
        )
        expected[b] += difference**2 * (1.0 if omega is None else omega[b, k, j]) / (3 * J * C)
    assert found.shape == (B,)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_embedding_loss_is_free_of_scale_and_ranges_from_0_to_4():
    values = jnp.asarray(draw(B, 3, J, 64))
    np.testing.assert_allclose(losses.embedding_loss(values, 7 * values + 3, None), 0, atol=1e-6)
    np.testing.assert_allclose(losses.embedding_loss(values, -values, None), 4, rtol=1e-4)
    unrelated = losses.embedding_loss(values, jnp.asarray(draw(B, 3, J, 64, seed=9)), None)
    np.testing.assert_allclose(unrelated, 2, atol=0.3)


@wraps
@both_grids
@pytest.mark.parametrize("reach", [0, 2, 20])
def test_motion_weights(wrap, keyframes, reach):
    """Mean speed of the input around each keyframe, per joint, mean 1 over a window.

    A step of the last frame does not exist.
    """
    keypoints_2d = draw(B, F, J, 2)
    found = wrap(lambda points, chosen: losses.motion_weights(points, chosen, reach))(
        jnp.asarray(keypoints_2d), jnp.asarray(keyframes, jnp.int32)
    )
    expected = np.zeros((B, 3, J))
    for b, k, j in np.ndindex(B, 3, J):
        middle = keyframes_of(keyframes, b)[k]
        near = range(max(0, middle - reach), min(F - 2, middle + reach) + 1)
        speeds = [np.linalg.norm(keypoints_2d[b, m + 1, j] - keypoints_2d[b, m, j]) for m in near]
        expected[b, k, j] = np.mean(speeds) if speeds else 0.0
    expected /= expected.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_adjacency():
    """16 bones both ways and 17 self loops; two bones apart count a half in `hop2`.

    See docs/methods/scjd.md#adjacent-joint-attention.
    """
    hops = H36M_17.hops()
    near = losses.adjacency(hops, "mse")
    assert near.sum() == 49 and (near == near.T).all() and (np.diag(near) == 1).all()
    assert [j for j in range(17) if near[8, j]] == [7, 8, 9, 11, 14]  # the thorax
    np.testing.assert_array_equal(losses.adjacency(hops, "kl"), near)
    assert losses.adjacency(hops, "full").sum() == 17 * 17
    wide = losses.adjacency(hops, "hop2")
    two_apart = {
        (i, j)
        for i in range(17)
        for j in range(17)
        if i != j and not near[i, j] and (near[i] * near[j]).any()
    }
    assert {(i, j) for i in range(17) for j in range(17) if wide[i, j] == 0.5} == two_apart
    np.testing.assert_array_equal(wide[near == 1], 1)
    assert (8, 0) in two_apart and (8, 12) in two_apart and wide.sum() == 49 + 0.5 * len(two_apart)


CHAIN = np.abs(np.subtract.outer(np.arange(J), np.arange(J)))  # hops of a chain of joints


@wraps
@pytest.mark.parametrize("heads", [1, A])
@pytest.mark.parametrize("kind", losses.ATTENTION_KINDS)
def test_attention_loss(wrap, kind, heads):
    student, teacher = attention_maps(B, 3, heads, J, J), attention_maps(B, 3, heads, J, J, seed=1)
    adjacent = losses.adjacency(CHAIN, kind)
    found = wrap(lambda *maps: losses.attention_loss(*maps, adjacent, kind))(
        *(jnp.asarray(m, jnp.float32) for m in (student, teacher))
    )
    expected = np.zeros(B)
    for b, k, a, i in np.ndindex(B, 3, heads, J):
        if kind != "kl":
            weighted = sum(
                adjacent[i, j] * (student[b, k, a, i, j] - teacher[b, k, a, i, j]) ** 2
                for j in range(J)
            )
            expected[b] += weighted / (3 * heads * adjacent.sum())
            continue
        near = [j for j in range(J) if abs(i - j) <= 1]
        rows = [maps[b, k, a, i, near] for maps in (student, teacher)]
        p_student, p_teacher = (row / row.sum() for row in rows)
        divergence = (p_teacher * np.log(p_teacher / p_student)).sum()
        expected[b] += (divergence + (rows[1].sum() - rows[0].sum()) ** 2) / (3 * heads * J)
    assert found.shape == (B,)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", losses.ATTENTION_KINDS)
def test_equal_attention_has_no_loss_and_finite_gradients(kind):
    """Also where attention is so sharp that float32 rounds an entry to zero."""
    maps = attention_maps(B, 3, 1, J, J).astype(np.float32)
    maps[0, 0, 0, 0] = np.eye(J)[0]
    adjacent = losses.adjacency(CHAIN, kind)

    def loss(student):
        return losses.attention_loss(student, jnp.asarray(maps), adjacent, kind).sum()

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(maps))
    np.testing.assert_allclose(value, 0, atol=1e-6)
    assert np.isfinite(gradient).all()
    other = jax.grad(loss)(jnp.asarray(attention_maps(B, 3, 1, J, J, seed=3), jnp.float32))
    assert np.isfinite(other).all() and np.abs(other).max() > 0


def test_attention_outside_the_neighbourhood_counts_only_in_full():
    student, teacher = attention_maps(B, 3, 1, J, J), attention_maps(B, 3, 1, J, J)
    student[..., 0, 3], student[..., 0, 4] = student[..., 0, 4].copy(), student[..., 0, 3].copy()
    for kind in losses.ATTENTION_KINDS:
        maps = (jnp.asarray(m, jnp.float32) for m in (student, teacher))
        value = losses.attention_loss(*maps, losses.adjacency(CHAIN, kind), kind)
        assert (value > 1e-5).all() if kind == "full" else (np.abs(value) < 1e-7).all(), kind


@wraps
def test_correlation_loss(wrap):
    """Cosines of a joint's positions around its mean, by loops; the mean itself does not count."""
    student, teacher = 0.1 * draw(B, F, J, 3), 0.1 * draw(B, F, J, 3, seed=1)
    loss = wrap(losses.correlation_loss)
    found = loss(jnp.asarray(student), jnp.asarray(teacher))
    expected = correlation_oracle(student.astype(np.float64), teacher.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    moved = jnp.asarray(student + draw(B, 1, J, 3, seed=2))
    np.testing.assert_allclose(loss(jnp.asarray(student), moved), 0, atol=1e-8)


@wraps
def test_correlation_of_joints_that_hardly_move(wrap):
    """Noise of a tenth of a millimetre has no correlation; the root has none and no gradient; and
    gradients are bounded everywhere.
    """
    loss = wrap(losses.correlation_loss)
    still, noisy = jnp.zeros((B, F, J, 3)), jnp.asarray(1e-4 * draw(B, F, J, 3))
    assert (np.asarray(loss(still, still)) == 0).all() and (loss(still, noisy) < 1e-7).all()
    walk = jnp.asarray(np.cumsum(0.1 * draw(B, F, J, 3), axis=1)).at[:, :, 0].set(0)
    for pose in (still, noisy, walk):
        gradient = wrap(jax.grad(lambda pose: losses.correlation_loss(pose, walk).sum()))(pose)
        assert np.isfinite(gradient).all() and np.abs(gradient).max() < 1 / losses.STILL
    assert (np.asarray(losses.motion_correlation(walk))[:, 0] == 0).all()


@wraps
@pytest.mark.parametrize("velocity_weight", [0.0, 2.0])
@pytest.mark.parametrize("correlation_weight", [0.0, 0.7])
def test_temporal_loss(wrap, velocity_weight, correlation_weight):
    student, teacher, weights = (
        draw(B, F, J, 3),
        draw(B, F, J, 3, seed=1),
        np.array([1, 2.5, 0, 4, 1.5]),
    )
    options = weights, velocity_weight, correlation_weight
    found = wrap(lambda *poses: losses.temporal_loss(*poses, *options))(
        jnp.asarray(student), jnp.asarray(teacher)
    )
    expected = np.zeros(B)
    for b, t, j in np.ndindex(B, F, J):
        expected[b] += weights[j] * np.linalg.norm(student[b, t, j] - teacher[b, t, j]) / (F * J)
        if t:
            steps = [pose[b, t, j] - pose[b, t - 1, j] for pose in (student, teacher)]
            expected[b] += velocity_weight * np.linalg.norm(steps[0] - steps[1]) / ((F - 1) * J)
    expected += correlation_weight * correlation_oracle(student, teacher)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 2])
def test_terms_of_few_frames(frames):
    """A single frame has a distance, and two frames a velocity too."""
    student, teacher = (jnp.asarray(draw(B, frames, J, 3, seed=seed)) for seed in (0, 1))
    found = losses.temporal_loss(student, teacher, np.ones(J), 2.0 * (frames > 1), 0.0)
    expected = np.linalg.norm(student - teacher, axis=-1).mean((1, 2))
    if frames > 1:
        moved = np.diff(student, axis=1) - np.diff(teacher, axis=1)
        expected = expected + 2 * np.linalg.norm(moved, axis=-1).mean((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@wraps
@pytest.mark.parametrize("velocity_weight", [0.0, 2.0])
def test_gate_counts_only_where_the_teacher_is_nearer_to_the_truth(wrap, velocity_weight):
    student, teacher, truth = draw(B, F, J, 3), draw(B, F, J, 3, seed=1), draw(B, F, J, 3, seed=2)
    weights = np.array([1, 2.5, 0, 4, 1.5])

    def gated(student, teacher, truth):
        return losses.temporal_loss(student, teacher, weights, velocity_weight, 0.0, truth)

    found = wrap(gated)(*map(jnp.asarray, (student, teacher, truth)))
    expected, counted = np.zeros(B), np.zeros((B, F, J), bool)
    for b, t, j in np.ndindex(B, F, J):
        one, other, true = student[b, t, j], teacher[b, t, j], truth[b, t, j]
        counted[b, t, j] = np.linalg.norm(other - true) < np.linalg.norm(one - true)
        expected[b] += counted[b, t, j] * weights[j] * np.linalg.norm(one - other) / (F * J)
        if t:
            one, other, true = (
                pose[b, t, j] - pose[b, t - 1, j] for pose in (student, teacher, truth)
            )
            nearer = np.linalg.norm(other - true) < np.linalg.norm(one - true)
            expected[b] += velocity_weight * nearer * np.linalg.norm(one - other) / ((F - 1) * J)
    assert 0 < counted.sum() < counted.size
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    gradient = jax.grad(lambda pose: gated(pose, jnp.asarray(teacher), jnp.asarray(truth)).sum())(
        jnp.asarray(student)
    )
    if not velocity_weight:
        assert not np.any(np.asarray(gradient)[~counted])
        assert np.all(np.any(np.asarray(gradient)[counted & (weights > 0)], axis=-1))


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda a, b: losses.embedding_loss(a, b, None), [(B, 3, J, C), (B, 1, J, C)]),
        (lambda a, b: losses.embedding_loss(a, b, None), [(B, 3, J, C), (B, 3, J, C + 1)]),
        (
            lambda a, b: losses.attention_loss(a, b, np.ones((J, J)), "mse"),
            [(B, 3, A, J, J), (B, 3, 1, J, J)],
        ),
        (
            lambda a, b: losses.attention_loss(a, b, np.ones((J, J)), "kl"),
            [(B, 3, 1, J, J), (B, 1, 1, J, J)],
        ),
        (losses.correlation_loss, [(B, F, J, 3), (B, 1, J, 3)]),
        (losses.correlation_loss, [(B, F, J, 3), (B, F, 1, 3)]),
        (
            lambda a, b: losses.temporal_loss(a, b, np.ones(J), 0.0, 0.0),
            [(B, F, J, 3), (B, 1, J, 3)],
        ),
    ],
)
def test_shapes_that_would_broadcast_raise(function, shapes):
    with pytest.raises((ValueError, TypeError)):
        function(*(jnp.ones(shape) for shape in shapes))


def test_ramp():
    """0 to 1 over the warm-up, and on request to 0 over the last fifth of the run."""

    def values(**options):
        return jax.jit(jax.vmap(lambda step: schedule.ramp(step, **options)))(
            jnp.asarray([0, 5, 10, 50, 80, 90, 100])
        )

    np.testing.assert_allclose(values(warmup_steps=0, steps=100, decay_fraction=0.0), [1] * 7)
    np.testing.assert_allclose(
        values(warmup_steps=10, steps=100, decay_fraction=0.0), [0, 0.5, 1, 1, 1, 1, 1]
    )
    np.testing.assert_allclose(
        values(warmup_steps=0, steps=100, decay_fraction=0.2), [1, 1, 1, 1, 1, 0.5, 0], atol=1e-6
    )
    np.testing.assert_allclose(
        values(warmup_steps=20, steps=100, decay_fraction=0.2),
        [0, 0.25, 0.5, 1, 1, 0.5, 0],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (8, 8, (1, 2, 3, 4, 5, 6, 7, 8)),
        (4, 8, (2, 4, 6, 8)),
        (2, 8, (4, 8)),
        (1, 8, (8,)),
        (3, 8, (3, 5, 8)),
        (2, 3, (2, 3)),
        (4, 2, (1, 1, 2, 2)),
    ],
)
def test_layer_map(student, teacher, expected):
    """l(m) = m L_T / L_S rounded, from 1 (docs/methods/scjd.md#layer-map); the last layers meet."""
    assert tuple(layer + 1 for layer in sparse_lifting.layer_map(student, teacher)) == expected


@pytest.mark.parametrize(
    ("depth", "expected"), [(8, (6, 7)), (6, (4, 5)), (4, (3,)), (3, (2,)), (2, (1,)), (1, (0,))]
)
def test_last_third(depth, expected):
    assert schedule.last_third(depth) == expected
