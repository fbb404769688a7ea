"""Our PCKh against HRNet's and SimCC's (files pckh_mpii* of the golden folder)."""

import numpy as np
import pytest
import scipy.io
from golden import golden_files

from data_prep import gt_valid
from kdpose_jax.evaluate.metrics import pckh

RELATIVE = 1e-9  # float64 in the reference
# Output folder of the reference -> our threshold; the other entry of its table is its own PCKh@0.1.
CASES = {"simcc_0.5": ("0.5", "0.1"), "simcc_0.1": ("0.1", "0.1"), "hrnet_0.5": ("0.5", "0.11")}


@pytest.mark.parametrize("path", golden_files("pckh_mpii*"))
def test_scores(path, tmp_path):
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    names = np.empty((1, len(arrays["joint_names"])), object)
    names[0] = [np.array([name]) for name in arrays["joint_names"]]
    official = tmp_path / "gt_valid.mat"
    scipy.io.savemat(
        official,
        {
            "dataset_joints": names,
            "jnt_missing": arrays["input/jnt_missing"],
            "pos_gt_src": arrays["input/gt_1based"],
            "headboxes_src": arrays["input/headboxes"],
        },
    )
    truth = gt_valid.read(str(official), "none")
    predicted = arrays["input/preds_0based"][..., :2]
    scores = pckh.score(predicted, truth.joints, truth.labelled, truth.head_size, np.zeros(16, int))
    found = {
        name.split("/")[1] for name in arrays if name.startswith("output/") and name.count("/") == 2
    }
    assert found and found <= CASES.keys()
    for case in sorted(found):
        threshold, small_threshold = CASES[case]
        expected = {
            name.split("/")[2]: value
            for name, value in arrays.items()
            if name.startswith(f"output/{case}/")
        }
        assert expected.keys() == {*pckh.GROUPS, "Mean", "Mean@0.1"}, case
        ours = {**scores[threshold], "Mean@0.1": scores[small_threshold]["Mean"]}
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, rtol=RELATIVE, err_msg=f"{case} {name}")
