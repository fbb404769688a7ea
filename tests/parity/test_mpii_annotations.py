"""MPII's annotation convention against HRNet's mpii.py (`db_*` of `pckh_mpii*`)."""

import numpy as np
import pytest
from golden import golden_files

from data_prep import mpii


@pytest.mark.parametrize("path", golden_files("pckh_mpii*"))
def test_center_scale_and_joints(path):
    with np.load(path) as golden:
        given, scales = golden["input/anno_center"], golden["input/anno_scale"]
        center, scale = golden["output/db_center"], golden["output/db_scale"]
        joints, visible = (
            golden["output/db_joints"][..., :2],
            golden["output/db_joints_vis"][..., 0],
        )
    for index in range(len(given)):
        raw = joints[index] + 1  # the file's own pixels, from 1
        ours = mpii.from_annotation(given[index], float(scales[index]), raw)
        np.testing.assert_allclose(ours[0], center[index], rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(ours[1], scale[index], rtol=1e-12)
        entry = {
            "image": "a.jpg",
            "center": given[index].tolist(),
            "scale": float(scales[index]),
            "joints": raw.tolist(),
            "joints_vis": visible[index].astype(int).tolist(),
        }
        (person,) = mpii.read_persons([entry], "list.json")
        np.testing.assert_allclose(person.center, center[index], rtol=1e-6)
        np.testing.assert_allclose(person.scale, scale[index], rtol=1e-6)
        np.testing.assert_allclose(
            person.joints, joints[index] * visible[index][:, None], rtol=1e-6
        )
        np.testing.assert_array_equal(person.visible, visible[index] > 0)
