"""CCA and the projection loss against closed forms, numpy and
docs/methods/cdkd.md#grouping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdpose_jax.methods.cdkd import losses

OPTIONS = {
    "grouping": "floor",
    "order": "temper_then_sum",
    "reduction": "mean",
    "weight": None,
    "target_gradient": True,
}
TOY = {
    "floor": (0.015876, 0.117310, 0.866813),
    "centred": (0.004270, 0.043156, 0.952574),
    "hat": (0.007602, 0.064449, 0.927949),
}


def softmax(values):
    raised = np.exp(values - values.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def logits_of(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def pair(seed, batch, joints, bins):
    return {axis: logits_of(seed + number, batch, joints, bins) for number, axis in enumerate("xy")}


@pytest.mark.parametrize("grouping", list(TOY))
def test_toy(grouping):
    """r = 4, M = 3, teacher logits 0..11, T = 2."""
    matrix = losses.grouping_matrix(grouping, 12, 3)
    found = losses.aligned_log_target(
        jnp.arange(12.0)[None, None], jnp.asarray(2.0), matrix, "temper_then_sum"
    )
    np.testing.assert_allclose(np.exp(found)[0, 0], TOY[grouping], atol=1e-6)


def test_toy_loss():
    student, teacher = (
        {axis: jnp.zeros((1, 1, 3)) for axis in "xy"},
        {axis: jnp.arange(12.0)[None, None] for axis in "xy"},
    )
    loss = losses.alignment_loss(student, teacher, jnp.asarray(2.0), **OPTIONS)
    np.testing.assert_allclose(loss, [2 * 2.630219], rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "k", "floor", "share", "centred"),
    [
        (64, 3, -0.375, 0.375, 0.125),
        (32, 2, -0.436, 0.436, 0.062),
        (64, 2, -0.376, 0.376, 0.125),
        (32, 4, -0.437, 0.437, 0.063),
    ],
)
def test_bias(size, k, floor, share, centred):
    """Mean of (group of the teacher's label - the student's label) over joints all over the crop.

    See docs/methods/cdkd.md#grouping.
    """
    ratio = 256 // size
    x = np.random.default_rng(0).uniform(0, size - 1 / k, 200_000)
    student = np.minimum(np.round(x * k), size * k - 1)
    teacher = np.minimum(np.round(x * ratio * k), 256 * k - 1).astype(int)
    group = {
        name: losses.grouping_matrix(name, 256 * k, size * k) @ np.arange(size * k)
        for name in losses.GROUPINGS
    }
    np.testing.assert_allclose((group["floor"][teacher] - student).mean(), floor, atol=6e-3)
    np.testing.assert_allclose((group["floor"][teacher] != student).mean(), share, atol=6e-3)
    np.testing.assert_allclose((group["centred"][teacher] - student).mean(), centred, atol=6e-3)
    # The hat keeps the teacher's own position t / r but at the upper end.
    inner = np.arange(256 * k) <= ratio * (size * k - 1)
    np.testing.assert_allclose(group["hat"][inner], np.arange(256 * k)[inner] / ratio, atol=1e-9)


@pytest.mark.parametrize("grouping", losses.GROUPINGS)
@pytest.mark.parametrize(("teacher", "student"), [(12, 3), (8, 8), (9, 3)])
def test_groups_keep_all_mass(grouping, teacher, student):
    matrix = losses.grouping_matrix(grouping, teacher, student)
    assert matrix.shape == (teacher, student) and (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(1), 1)
    if grouping == "floor":
        np.testing.assert_array_equal(matrix.sum(0), teacher // student)


def test_ratios_need_not_be_whole_for_the_hat():
    np.testing.assert_allclose(losses.grouping_matrix("hat", 7, 3).sum(1), 1)
    for grouping in ("floor", "centred"):
        with pytest.raises(ValueError, match="cannot be grouped"):
            losses.grouping_matrix(grouping, 7, 3)


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
def test_loss_is_the_divergence(reduction):
    """Against numpy, with a mask; the release's value is B J / M times the plain one.

    See docs/methods/cdkd.md#class-alignment.
    """
    batch, joints, bins, heat = 3, 5, 4, 2.5
    student, teacher = pair(0, batch, joints, bins), pair(5, batch, joints, 4 * bins)
    weight = np.random.default_rng(3).integers(0, 2, (batch, joints)).astype(np.float32)
    wanted = 0.0
    for axis in "xy":
        h = (
            softmax(np.asarray(teacher[axis], np.float64) / heat)
            .reshape(batch, joints, bins, 4)
            .sum(-1)
        )
        wanted = wanted + heat**2 * (
            h * (np.log(h) - np.log(softmax(np.asarray(student[axis], np.float64) / heat)))
        ).sum(-1)
    for mask in (None, weight):
        value = (wanted if mask is None else wanted * mask).mean(1)
        value = value * batch * joints / bins if reduction == "release" else value
        given = None if mask is None else jnp.asarray(mask)
        found = losses.alignment_loss(
            student,
            teacher,
            jnp.asarray(heat),
            **{**OPTIONS, "reduction": reduction, "weight": given},
        )
        np.testing.assert_allclose(found, value, rtol=1e-5)


@pytest.mark.parametrize("grouping", losses.GROUPINGS)
def test_orders_agree_at_temperature_one(grouping):
    student, teacher = pair(0, 2, 3, 4), pair(5, 2, 3, 16)
    one, other = (
        losses.alignment_loss(
            student, teacher, jnp.asarray(1.0), **{**OPTIONS, "grouping": grouping, "order": order}
        )
        for order in losses.ORDERS
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)
    hot = [
        losses.alignment_loss(
            student, teacher, jnp.asarray(4.0), **{**OPTIONS, "grouping": grouping, "order": order}
        )
        for order in losses.ORDERS
    ]
    assert np.abs(hot[0] - hot[1]).max() > 1e-3


@pytest.mark.parametrize("order", losses.ORDERS)
def test_certain_teachers_give_finite_gradients(order):
    """A teacher whose probabilities underflow."""
    student, teacher = (
        pair(0, 2, 3, 4),
        {axis: 300 * logits for axis, logits in pair(5, 2, 3, 16).items()},
    )
    options = {**OPTIONS, "order": order}
    value, gradient = jax.value_and_grad(
        lambda s: losses.alignment_loss(s, teacher, jnp.asarray(1.0), **options).mean()
    )(student)
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_gradients_go_to_the_student_and_the_temperature():
    student, teacher = pair(0, 2, 3, 4), pair(5, 2, 3, 16)

    def loss(student, teacher, heat):
        return losses.alignment_loss(student, teacher, heat, **OPTIONS).mean()

    to_student, to_teacher, to_heat = jax.grad(loss, argnums=(0, 1, 2))(
        student, teacher, jnp.asarray(3.0)
    )
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(to_student)) and to_heat != 0
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(to_teacher))


@pytest.mark.parametrize("order", losses.ORDERS)
def test_temperature_gets_the_slope(order):
    """The whole derivative, by differences in float64.

    With the gradient stopped at h it is another number.
    """
    found = []
    with jax.enable_x64(True):
        student, teacher = (
            jax.tree.map(lambda a: a.astype(jnp.float64), pair(seed, 2, 3, bins))
            for seed, bins in ((0, 4), (5, 16))
        )
        for through in (True, False):
            options = {**OPTIONS, "order": order, "target_gradient": through}

            def loss(heat, options=options):
                return losses.alignment_loss(student, teacher, heat, **options).mean()

            found.append(float(jax.grad(loss)(jnp.asarray(3.0))))
        slope = float(loss(jnp.asarray(3.0 + 1e-5)) - loss(jnp.asarray(3.0 - 1e-5))) / 2e-5
    np.testing.assert_allclose(found[0], slope, rtol=1e-6)
    assert abs(found[1] - slope) > 0.1 * abs(slope)


def test_projection_loss_is_one_minus_the_cosine():
    one, other = (
        np.random.default_rng(seed).normal(size=(3, 2, 4, 4)).astype(np.float32) for seed in (0, 1)
    )
    cosine = [
        (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
        for a, b in zip(one, other, strict=True)
    ]
    found = losses.projection_loss(jnp.asarray(one), jnp.asarray(other))
    np.testing.assert_allclose(found, 1 - np.asarray(cosine), rtol=1e-5)
    np.testing.assert_allclose(
        losses.projection_loss(jnp.asarray(one), jnp.asarray(3 * one)), 0, atol=1e-6
    )
    np.testing.assert_allclose(
        losses.projection_loss(jnp.asarray(one), jnp.asarray(-one)), 2, atol=1e-6
    )
    with pytest.raises((ValueError, TypeError)):  # the shape check of the suite may come first
        losses.projection_loss(jnp.asarray(one), jnp.asarray(other[:, :1]))


def test_dead_projections_are_no_nan():
    zero, other = jnp.zeros((2, 2, 4, 4)), logits_of(0, 2, 2, 4, 4)
    value, gradient = jax.value_and_grad(
        lambda maps: losses.projection_loss(jax.nn.relu(maps), other).sum()
    )(zero)
    assert value == 2 and np.isfinite(gradient).all()
