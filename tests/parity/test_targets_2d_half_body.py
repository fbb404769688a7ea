"""Half bodies against SimCC's half_body_transform (`targets_2d*`)."""

import json
import re

import numpy as np
import pytest
from golden import golden_files

from kdpose_jax.codecs import crops


@pytest.mark.parametrize("path", golden_files("targets_2d*"))
def test_half_body(path):
    with np.load(path) as golden:
        described = json.loads(str(golden["config"][0]))["config"]["half_body"]
        aspect = float(re.search(r"aspect ([\d.]+)", described).group(1))
        upper = tuple(range(int(re.search(r"joints 0 to (\d+) are upper", described).group(1)) + 1))
        joints, visible = (
            golden["input/half_body/joints"][:, :2],
            golden["input/half_body/joints_vis"][:, 0] > 0,
        )
        cases = sorted(
            key.split("/")[2]
            for key in golden.files
            if key.startswith("output/half_body/") and key.endswith("/draw")
        )
        draws = [float(golden[f"output/half_body/{case}/draw"]) for case in cases]
        expected = [
            (golden[f"output/half_body/{case}/center"], golden[f"output/half_body/{case}/scale"])
            for case in cases
        ]
    assert draws
    for draw, (center, scale) in zip(draws, expected, strict=True):
        ours = crops.half_body(joints, visible, upper, draw, aspect)
        # The reference takes means of float32.
        np.testing.assert_allclose(ours[0], center, rtol=2e-6)
        np.testing.assert_allclose(ours[1], scale, rtol=2e-6)
