"""The forms of attention against numpy, and which form each platform runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdpose_jax.models import attending, attending_tpu

HEADS = 3
FORMS = {
    "as written": attending._attend,
    "cpu": attending._attend_on_cpu,
    "tpu": attending_tpu.attend_in_steps,
}


def expected(qkv: np.ndarray, axis: int) -> np.ndarray:
    """Mixes values token by token, in float64."""
    if axis == -3:
        return expected(qkv.swapaxes(1, 2), -2).swapaxes(1, 2)
    width = qkv.shape[-1] // 3
    size, mixed = width // HEADS, np.zeros((*qkv.shape[:-1], width))
    for batch, row in np.ndindex(*qkv.shape[:2]):
        for head in range(HEADS):
            start = head * size
            query, key, value = (
                qkv[batch, row, :, part * width + start :][:, :size] for part in range(3)
            )
            logits = query @ key.T / np.sqrt(size)
            shares = np.exp(logits - logits.max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
            mixed[batch, row, :, start : start + size] = shares @ value
    return mixed


def example(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws queries, keys and values, and a gradient of what is mixed."""
    draw = np.random.default_rng(0)
    return (
        draw.normal(size=(2, rows, columns, 3 * HEADS * 4)),
        draw.normal(size=(2, rows, columns, HEADS * 4)),
    )


# 19 columns are two blocks of the TPU's kernel and a part of one; 8 are one.
@pytest.mark.parametrize(("rows", "columns"), [(5, 19), (5, 8), (1, 7), (3, 1)])
@pytest.mark.parametrize("axis", [-2, -3])
@pytest.mark.parametrize("form", FORMS)
def test_all_forms_mix_as_numpy_does(form, axis, rows, columns):
    qkv, _ = example(rows, columns)
    found = FORMS[form](jnp.asarray(qkv, jnp.float32), HEADS, axis)
    np.testing.assert_allclose(found, expected(qkv, axis), atol=2e-6)


@pytest.mark.parametrize(("rows", "columns"), [(5, 19), (1, 7)])
@pytest.mark.parametrize("axis", [-2, -3])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_the_slopes_of_numpys_values(form, axis, rows, columns):
    """Along a direction, against central differences in float64."""
    qkv, towards = example(rows, columns)
    given = jnp.asarray(qkv, jnp.float32)
    _, back = jax.vjp(lambda qkv: FORMS[form](qkv, HEADS, axis), given)
    (gradient,) = back(jnp.asarray(towards, jnp.float32))
    for seed in range(3):
        direction = np.random.default_rng(seed).normal(size=qkv.shape)
        ahead, behind = (
            (expected(qkv + sign * 1e-5 * direction, axis) * towards).sum() for sign in (1, -1)
        )
        slope = np.vdot(np.asarray(gradient, np.float64), direction)
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("axis", [-2, -3])
def test_large_logits_do_not_overflow(axis):
    qkv, towards = example(4, 9)
    qkv[..., : 2 * HEADS * 4] *= 100
    for form in FORMS.values():
        mixed, back = jax.vjp(lambda x, form=form: form(x, HEADS, axis), jnp.float32(qkv))
        np.testing.assert_allclose(mixed, expected(qkv, axis), atol=1e-3)
        assert np.isfinite(back(jnp.float32(towards))[0]).all()


@pytest.mark.parametrize("axis", [-2, -3])
def test_what_lies_behind_the_last_column_is_not_read(axis):
    """The kernel's last block reaches over the array's end, where the interpreter puts NaN."""
    qkv, towards = example(2, 11)
    mixed, back = jax.vjp(lambda x: attending_tpu.attend_in_steps(x, HEADS, axis), jnp.float32(qkv))
    assert np.isfinite(mixed).all() and np.isfinite(back(jnp.float32(towards))[0]).all()


def test_probabilities_are_shares_of_one():
    qkv, _ = example(5, 6)
    rows = attending.probabilities(jnp.float32(qkv), HEADS, -2)
    columns = attending.probabilities(jnp.float32(qkv), HEADS, -3)
    assert rows.shape == (2, 5, HEADS, 6, 6) and columns.shape == (2, 6, HEADS, 5, 5)
    turned = attending.probabilities(jnp.float32(qkv.swapaxes(1, 2)), HEADS, -2)
    np.testing.assert_allclose(columns, turned, atol=1e-6)
    np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("platform", "dtype", "kernels"),
    [("tpu", "bfloat16", 2), ("tpu", "float32", 2), ("cuda", "float32", 0), ("cpu", "float32", 0)],
)
def test_only_tpus_run_the_kernels(platform, dtype, kernels):
    def gradient(qkv):
        return jax.grad(lambda qkv: attending.attend(qkv, 8, -3).astype(jnp.float32).sum())(qkv)

    described = jax.ShapeDtypeStruct((1, 17, 27, 192), dtype)
    with jax.numpy_dtype_promotion("standard"):  # to choose the softmax's type
        traced = jax.jit(gradient).trace(described)
    lowered = traced.lower(lowering_platforms=(platform,))
    assert lowered.as_text().count("@tpu_custom_call") == kernels


def test_sequences_too_long_for_the_chip_take_the_form_as_written():
    fits = functools.partial(attending_tpu.fits, dtype=jnp.bfloat16, axis=-2)
    assert fits((1, 17, 243, 3 * 512)) and not fits((1, 17, 2187, 3 * 512))
    assert attending_tpu.fits((1, 17, 2187, 3 * 512), jnp.bfloat16, -3)
    assert not attending_tpu.fits((1, 17, 243, 3 * 512), jnp.float64, -2)
