"""SimDR bins, Gaussian labels and heatmaps against SimCC's dataset (files targets_2d* of the golden
folder).
"""

import json

import numpy as np
import pytest
from golden import golden_files

from kdpose_jax.codecs import keypoints_2d

FILES = golden_files("targets_2d*")


@pytest.fixture(scope="module", params=FILES)
def cases(request):
    if request.param is None:
        pytest.skip("no golden file targets_2d*")
    with np.load(request.param, allow_pickle=False) as file:
        arrays = dict(file)
    cases = []
    for name, config in json.loads(str(arrays["config"][0]))["config"]["cases"].items():
        given, wanted = (
            {
                key.removeprefix(prefix): array
                for key, array in arrays.items()
                if key.startswith(prefix)
            }
            for prefix in (f"input/{name}/", f"output/{name}/")
        )
        cases.append(
            (
                config,
                given["joints"][:, :2],
                given["joints_vis"][:, 0],
                given["joints_weight"][:, 0],
                wanted,
            )
        )
    assert cases
    return cases


def expected(weight, wanted, config, joints_weight):
    """The reference multiplies by the weights of limbs where it is told to, which is no matter of
    the labels.
    """
    weight = weight * joints_weight if config["use_different_joints_weight"] else weight
    np.testing.assert_allclose(weight, wanted[:, 0], rtol=1e-6)


def test_bins(cases):
    for config, joints, visible, joints_weight, wanted in cases:
        bins, weight = keypoints_2d.to_bins(
            joints, visible, size=tuple(config["image_size"]), split_ratio=config["split"]
        )
        expected(weight, wanted["simdr_weight"], config, joints_weight)
        np.testing.assert_array_equal(bins, wanted["simdr_bins"])


def test_gaussians(cases):
    for config, joints, visible, joints_weight, wanted in cases:
        x, y, weight = keypoints_2d.to_gaussians(
            joints,
            visible,
            size=tuple(config["image_size"]),
            split_ratio=config["split"],
            sigma=config["sigma"],
        )
        np.testing.assert_allclose(x, wanted["sa_simdr_x"], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(y, wanted["sa_simdr_y"], rtol=1e-5, atol=1e-7)
        expected(weight, wanted["sa_simdr_weight"], config, joints_weight)


def test_heatmaps(cases):
    for config, joints, visible, joints_weight, wanted in cases:
        sizes = {"size": tuple(config["image_size"]), "heatmap_size": tuple(config["heatmap_size"])}
        heatmaps, weight = keypoints_2d.to_heatmaps(joints, visible, **sizes, sigma=config["sigma"])
        np.testing.assert_allclose(heatmaps, wanted["heatmap"], rtol=1e-5, atol=1e-7)
        expected(weight, wanted["heatmap_weight"], config, joints_weight)
