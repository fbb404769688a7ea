"""Mirroring back against HRNet's and SimCC's flip_back (golden files transforms_2d*)."""

import numpy as np
import pytest
from golden import golden_files, permutation_of

from kdpose_jax.codecs import keypoints_2d

FILES = golden_files("transforms_2d*")


@pytest.fixture(scope="module", params=FILES)
def arrays(request):
    if request.param is None:
        pytest.skip("no golden file transforms_2d*")
    with np.load(request.param, allow_pickle=False) as file:
        return dict(file)


def test_heatmaps(arrays):
    heatmaps = arrays["input/heatmap"]
    permutation = permutation_of(arrays["mpii_pairs"], heatmaps.shape[1])
    back = keypoints_2d.mirror_heatmaps_back(heatmaps, flip_permutation=permutation, shift=False)
    np.testing.assert_array_equal(back, arrays["output/flip_back"])
    shifted = keypoints_2d.mirror_heatmaps_back(heatmaps, flip_permutation=permutation, shift=True)
    np.testing.assert_array_equal(shifted[..., 1:], back[..., :-1])
    np.testing.assert_array_equal(shifted[..., 0], back[..., 0])


@pytest.mark.parametrize("dataset", ["mpii", "coco"])
def test_logits(arrays, dataset):
    logits = arrays[f"input/logits_{dataset}"]
    permutation = permutation_of(arrays[f"{dataset}_pairs"], logits.shape[1])
    x, y = keypoints_2d.mirror_back(logits, logits, flip_permutation=permutation, shift=0)
    np.testing.assert_array_equal(x, arrays[f"output/flip_back_simdr_{dataset}_x"])
    np.testing.assert_array_equal(y, arrays[f"output/flip_back_simdr_{dataset}_y"])


def test_shift_by_one(arrays):
    logits = arrays["input/logits_mpii"]
    permutation = permutation_of(arrays["mpii_pairs"], logits.shape[1])
    x, _ = keypoints_2d.mirror_back(logits, logits, flip_permutation=permutation, shift=1)
    np.testing.assert_array_equal(x, arrays["output/flip_back_simdr_mpii_x_shifted"])
