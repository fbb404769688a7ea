"""Decoding with and without flip against SimCC's validation and HRNet's inference (files decode_2d*
of the golden folder).
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import golden_files, permutation_of

from kdpose_jax.codecs import keypoints_2d

FILES = golden_files("decode_2d*")


@pytest.fixture(scope="module", params=FILES)
def golden(request):
    if request.param is None:
        pytest.skip("no golden file decode_2d*")
    with np.load(request.param, allow_pickle=False) as file:
        arrays = dict(file)
    return arrays, json.loads(str(arrays["config"][0]))["config"]


def in_picture(joints, arrays, size):
    """Crop pixels -> picture pixels by docs/methods/pose2d.md#crops, rotation 0."""
    factor = 200 * arrays["input/scale"][:, :1] / size[0]
    return (joints - np.asarray(size) / 2) * factor[:, None] + arrays["input/center"][:, None]


def test_simdr(golden):
    arrays, config = golden
    size, ratio, permutation = (
        config["image_size"],
        config["split"],
        permutation_of(config["pairs"], config["joints"]),
    )
    logits = [arrays[f"input/logits_{name}"] for name in ("x", "y", "x_flipped", "y_flipped")]
    cases = [
        (kind, flip) for kind in ("simdr", "sa_simdr") for flip in ("", "_flip", "_flip_shift")
    ]
    for kind, flip in cases:
        for library in (np, jnp):
            x, y, *flipped = (library.asarray(array) for array in logits)
            if flip:
                back = keypoints_2d.mirror_back(
                    *flipped, flip_permutation=permutation, shift=int(flip == "_flip_shift")
                )
                x, y = keypoints_2d.merge_flip(
                    (x, y), back, merge="probabilities" if kind == "simdr" else "logits"
                )
            else:
                x, y = keypoints_2d.probabilities(x), keypoints_2d.probabilities(y)
            score = "max" if kind == "simdr" else "min"
            joints, scores = keypoints_2d.decode(
                x, y, split_ratio=ratio, coordinate="argmax", score=score
            )
            assert isinstance(joints, np.ndarray if library is np else jax.Array)
            wanted = arrays[f"output/{kind}{flip}/preds"]
            np.testing.assert_allclose(
                in_picture(np.asarray(joints), arrays, size), wanted[..., :2], rtol=1e-5, atol=1e-3
            )
            np.testing.assert_allclose(scores, wanted[..., 2], rtol=1e-5)


def test_heatmaps(golden):
    arrays, config = golden
    heatmaps = arrays["input/heatmap"]
    height, width = heatmaps.shape[2:]
    cells, peaks = keypoints_2d.decode_heatmaps(heatmaps, size=(width, height), quarter=False)
    np.testing.assert_array_equal(cells, arrays["output/heatmap_argmax/preds"])
    np.testing.assert_array_equal(peaks, arrays["output/heatmap_argmax/maxvals"][..., 0])
    for name, quarter in (("plain", False), ("quarter", True)):
        for library in (np, jnp):
            joints, peaks = keypoints_2d.decode_heatmaps(
                library.asarray(heatmaps), size=(width, height), quarter=quarter
            )
            placed = in_picture(np.asarray(joints), arrays, (width, height))
            np.testing.assert_allclose(
                placed, arrays[f"output/heatmap_{name}/preds"], rtol=1e-5, atol=1e-3
            )
            np.testing.assert_array_equal(peaks, arrays[f"output/heatmap_{name}/maxvals"][..., 0])
    # A crop of another size than the map: every cell is so many pixels wide.
    joints, _ = keypoints_2d.decode_heatmaps(heatmaps, size=(4 * width, 4 * height), quarter=False)
    np.testing.assert_array_equal(joints, 4 * cells)
