"""The task loss against MixSTE's run.py (files mixste_loss* of the golden folder)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import close, golden_files, numbers_in, single_slack

from kdpose_jax.losses.lifting import lifting_loss

FILES = golden_files("mixste_loss*")
# float64 as the README asks, float32 to ten times what the reference is off its own float64 twin,
# by the README's table.
RELATIVE = {
    np.float64: {"output": 1e-9, "grad": 1e-9},
    np.float32: {"output": 1e-6, "grad": 9.6e-7},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", FILES)
def test_released_loss(path, dtype):
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    smoothness, velocity = numbers_in(
        json.loads(str(arrays["config"][0]))["config"]["formula"],
        r"^loss_total = weighted_mpjpe \+ ([\d.]+) \* mean\(w_j .* \+ ([\d.]+) \* "
        r"mean_velocity_error_train",
    )

    def loss(predicted, target):
        total, terms = lifting_loss(
            predicted,
            target,
            joint_weights=arrays["input/joint_weight"],
            smoothness_weight=smoothness,
            velocity_weight=velocity,
        )
        return total.mean(), {name: value.mean() for name, value in terms.items()}

    with jax.enable_x64(dtype == np.float64):
        inputs = [jnp.asarray(arrays[f"input/{name}"], dtype) for name in ("pred", "gt")]
        (total, terms), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(*inputs)
        total, terms, gradient = jax.tree.map(np.asarray, (total, terms, gradient))
    assert total.dtype == gradient.dtype == dtype
    ours = {
        "loss_3d_pos": terms["joint_error"],
        "dif_seq": terms["smoothness"],
        "loss_diff": smoothness * terms["smoothness"] + velocity * terms["velocity_error"],
        "loss_total": total,
    }
    suffix, relative = ("64" if dtype == np.float64 else ""), RELATIVE[dtype]
    if dtype == np.float32:
        relative = {kind: single_slack(arrays, kind, least) for kind, least in relative.items()}
    for name, value in ours.items():
        close(value, arrays[f"output{suffix}/{name}"], relative["output"], name)
    close(gradient, arrays[f"grad{suffix}/pred"], relative["grad"], "grad/pred")
    # run.py multiplies by the loss on the way back; this is what it amounts to.
    close(
        total * gradient,
        arrays[f"grad{suffix}/pred_as_trained"],
        2 * relative["grad"],
        "grad/pred_as_trained",
    )
