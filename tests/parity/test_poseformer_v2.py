"""Our PoseFormerV2 with imported weights against the released network (files poseformerv2_* of the
golden folder).
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import close, golden_files, part, precision, single_slack

from kdpose_jax.models.poseformer_v2 import (
    PoseFormerV2,
    along_time,
    cosine_transform,
    inverse_cosine_transform,
)
from kdpose_jax.pytorch.poseformer_v2 import convert_poseformer_v2_state

FILES = golden_files("poseformerv2_*")
# The README: float64 to 1e-9; float32 to ten times what the reference is off its own float64 twin,
# which a file shows by its `output/` and `output64/`, and which for the values on the way is 5.9e-7
# of the largest value in the worst file.
FLOAT64_RELATIVE = 1e-9
FLOAT32_RELATIVE = 5.9e-6


@functools.cache
def load(path):
    """(arrays, our network, its parameters) of one golden file."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    config = json.loads(str(arrays["config"][0]))["config"]
    params, sizes = convert_poseformer_v2_state(part(arrays, "param/"))
    network = PoseFormerV2(
        joints=config["num_joints"],
        frames=config["num_frame"],
        kept_frames=config["number_of_kept_frames"],
        kept_coefficients=config["number_of_kept_coeffs"],
        width=config["embed_dim_ratio"],
        depth=config["depth"],
        heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        drop_path=0.0,
    )
    assert sizes == {name: getattr(network, name) for name in sizes}, (
        "the importer reads other sizes off the weights"
    )
    return arrays, network, params


@functools.cache
def forward(path, dtype):
    """(pose, features, transform of the first coordinate and its inverse) in one precision, numpy
    arrays.
    """
    arrays, network, params = load(path)

    def run(params, keypoints_2d):
        pose, features = network.apply({"params": params}, keypoints_2d)
        transformed = along_time(cosine_transform(network.frames), keypoints_2d[:1, :, :, 0])
        return (
            pose,
            features,
            transformed,
            along_time(inverse_cosine_transform(network.frames), transformed),
        )

    with precision(dtype):
        inputs = jax.tree.map(
            lambda array: jnp.asarray(array, dtype), (params, arrays["input/pose2d"])
        )
        return jax.tree.map(np.asarray, jax.jit(run)(*inputs))


@pytest.mark.parametrize("path", FILES)
def test_float64(path):
    arrays, _, _ = load(path)
    pose, _, transformed, back = forward(path, np.float64)
    assert pose.dtype == np.float64
    close(pose, arrays["output64/pose"], FLOAT64_RELATIVE, "pose")
    close(transformed[0].T, arrays["output64/dct"], FLOAT64_RELATIVE, "dct")
    close(back[0].T, arrays["output64/idct_of_dct"], FLOAT64_RELATIVE, "idct_of_dct")


@pytest.mark.parametrize("path", FILES)
def test_pose_float32(path):
    arrays, _, _ = load(path)
    pose = forward(path, np.float32)[0]
    single, double = arrays["output/pose"], arrays["output64/pose"]
    assert pose.dtype == np.float32
    np.testing.assert_allclose(pose, single, rtol=0, atol=10 * np.abs(single - double).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", FILES)
def test_values_on_the_way(path, dtype):
    """Every recorded value, in both precisions (it was recorded in float32 alone)."""
    arrays, network, params = load(path)
    features = forward(path, dtype)[1]
    ours = {f"blocks.{layer}": tokens for layer, tokens in enumerate(features["tokens"])}
    ours["Spatial_norm"] = features["joints"].reshape(-1, *features["joints"].shape[2:])
    ours["dct_coefficients"] = features["coefficients"]
    last, norm = (
        np.asarray(ours[f"blocks.{network.depth - 1}"], np.float64),
        params["temporal_norm"],
    )
    centred = last - last.mean(-1, keepdims=True)
    ours["Temporal_norm"] = (
        centred / np.sqrt(last.var(-1, keepdims=True) + 1e-6) * norm["scale"] + norm["bias"]
    )
    recorded = part(arrays, "inter/")
    assert recorded and recorded.keys() <= ours.keys()
    for name, value in recorded.items():
        close(ours[name], value, single_slack(arrays, "output", FLOAT32_RELATIVE), name)
