"""Task losses of 2D pose against SimCC's and HRNet's core/loss.py (files simcc_losses* of the
golden folder).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import close, golden_files, single_slack

from kdpose_jax.losses import keypoints_2d

FILES = golden_files("simcc_losses*")
# The README: 1e-9 in float64; in float32 ten times what the reference is off its own float64 twin.
RELATIVE = {
    np.float64: {"output": 1e-9, "grad": 1e-9},
    np.float32: {"output": 1.2e-6, "grad": 1.6e-6},
}
SMOOTHED = {"NMTNORMCritierion": "norm", "NMTCritierion": "sum"}


@pytest.fixture(scope="module", params=FILES)
def arrays(request):
    if request.param is None:
        pytest.skip("no golden file simcc_losses*")
    with np.load(request.param, allow_pickle=False) as file:
        return dict(file)


def compare(arrays, name, loss, inputs, dtype):
    """Value and gradients of mean-over-examples of `loss`, in one precision."""
    suffix, relative = ("64" if dtype == np.float64 else ""), RELATIVE[dtype]
    if dtype == np.float32:
        relative = {kind: single_slack(arrays, kind, least) for kind, least in relative.items()}
    with jax.enable_x64(dtype == np.float64), jax.numpy_dtype_promotion("standard"):
        given = {entry: jnp.asarray(arrays[f"input/{entry}"], dtype) for entry in inputs}
        fixed = {
            entry: jnp.asarray(arrays[f"input/{entry}"])
            for entry in arrays_of(arrays) - set(inputs)
        }
        fixed = {
            entry: array.astype(dtype) if array.dtype.kind == "f" else array
            for entry, array in fixed.items()
        }
        value, gradients = jax.jit(
            jax.value_and_grad(lambda given: loss({**fixed, **given}).mean())
        )(given)
        value, gradients = jax.tree.map(np.asarray, (value, gradients))
    assert value.dtype == dtype
    close(value, arrays[f"output{suffix}/{name}"], relative["output"], name)
    for entry in inputs:
        close(
            gradients[entry],
            arrays[f"grad{suffix}/{name}/{entry}"],
            relative["grad"],
            f"{name}/{entry}",
        )


def arrays_of(arrays):
    return {name.removeprefix("input/") for name in arrays if name.startswith("input/")}


def bins_of(values):
    return values["logits_x"].shape[-1], values["logits_y"].shape[-1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_label_smoothing(arrays, dtype):
    names = [name.removeprefix("output/") for name in arrays if name.startswith("output/NMT")]
    assert names
    for name in names:
        kind, smoothing = name.split("_")

        def loss(values, kind=kind, smoothing=float(smoothing)):
            bins = values["target_bin"].astype(jnp.int32)
            x, y = (
                keypoints_2d.smoothed_divergence(
                    values[f"logits_{axis}"], bins[..., number], smoothing=smoothing
                )
                for number, axis in enumerate("xy")
            )
            return keypoints_2d.joint_loss(
                x, y, values["target_weight"][..., 0], bins=bins_of(values), form=SMOOTHED[kind]
            )

        compare(arrays, name, loss, ("logits_x", "logits_y"), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_given_targets(arrays, dtype):
    def loss(values):
        x, y = (
            keypoints_2d.divergence(values[f"logits_{axis}"], values[f"target_{axis}"])
            for axis in "xy"
        )
        return keypoints_2d.joint_loss(
            x, y, values["target_weight"][..., 0], bins=bins_of(values), form="gaussian"
        )

    compare(arrays, "KLDiscretLoss", loss, ("logits_x", "logits_y"), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_heatmaps(arrays, dtype):
    def weighted(values):
        return keypoints_2d.heatmap_error(
            values["heatmap"], values["heatmap_target"], values["heatmap_weight"][..., 0]
        )

    def plain(values):
        heatmap = values["heatmap"]
        return keypoints_2d.heatmap_error(
            heatmap, values["heatmap_target"], jnp.ones(heatmap.shape[:2], heatmap.dtype)
        )

    compare(arrays, "JointsMSELoss_weighted", weighted, ("heatmap",), dtype)
    compare(arrays, "JointsMSELoss_plain", plain, ("heatmap",), dtype)
