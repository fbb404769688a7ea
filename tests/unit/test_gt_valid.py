"""The official file that PCKh is counted against.

Read, and refused where it is not what it should be.
"""

import numpy as np
import picture_sets
import pytest
import scipy.io

from data_prep import gt_valid
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.metrics import pckh

NOBODY = np.zeros(16, int)


@pytest.fixture
def joints():
    return np.random.default_rng(1).uniform(100, 400, (4, 16, 2))


def official(joints):
    """An official file's content, every head box 30 wide and 40 high: a head size of 30."""
    count = len(joints)
    boxes = np.zeros((2, 2, count))
    boxes[1] = [[30] * count, [40] * count]
    return {
        "dataset_joints": picture_sets.cells(picture_sets.MPII_NAMES),
        "jnt_missing": np.zeros((16, count), np.uint8),
        "pos_gt_src": (joints + 1).transpose(1, 2, 0),
        "headboxes_src": boxes,
    }


def write(path, content):
    scipy.io.savemat(path, content)
    return str(path)


def test_official_file(tmp_path, joints):
    content = official(joints)
    content["jnt_missing"][3, 1], content["pos_gt_src"][3, :, 1] = 1, np.nan
    truth = gt_valid.read(write(tmp_path / "gt_valid.mat", content), "none")
    np.testing.assert_allclose(truth.head_size, 30)
    np.testing.assert_allclose(
        np.delete(truth.joints, 1, 0), np.delete(joints, 1, 0), atol=1e-9
    )  # from 0
    assert np.argwhere(~truth.labelled).tolist() == [[1, 3]]
    for shift, expected in ((0, 100.0), (14.9, 100.0), (15.1, 0.0)):
        scores = pckh.score(
            joints + (shift, 0), truth.joints, truth.labelled, truth.head_size, NOBODY
        )
        assert scores["0.5"]["Mean"] == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"jnt_missing": None}, "lacks jnt_missing: give"),
        ({"headboxes_src": np.zeros((2, 2, 3))}, "arrays of shapes .* instead of"),
        ({"pos_gt_src": np.full((16, 2, 4), "x")}, "arrays of shapes .* instead of"),
        (
            {"jnt_missing": scipy.sparse.csc_matrix(np.eye(16, 4))},
            "cannot be read as a MATLAB file .*'jnt_missing' of class 5",
        ),
        ({"pos_gt_src": np.full((16, 2, 4), np.nan)}, "poses that are NaN or infinite"),
        ({"headboxes_src": np.full((2, 2, 4), np.inf)}, "poses that are NaN or infinite"),
        (
            {"dataset_joints": picture_sets.cells(picture_sets.MPII_NAMES[::-1])},
            "not MPII's in their order",
        ),
        ({"dataset_joints": np.array([["rank"] * 16], object)}, "not MPII's in their order"),
        ({"headboxes_src": np.zeros((2, 2, 4))}, "head box of sample 0 in .* has no size"),
    ],
)
def test_another_content(tmp_path, joints, changed, message):
    content = {
        name: value for name, value in {**official(joints), **changed}.items() if value is not None
    }
    with pytest.raises(UserError, match=f"{message}.*, or --head-boxes none.$"):
        gt_valid.read(write(tmp_path / "gt_valid.mat", content), "--head-boxes none")


@pytest.mark.parametrize(
    "content", [b"", b"no MATLAB file, " * 40, None], ids=["empty", "text", "absent"]
)
def test_no_matlab_file(tmp_path, content):
    path = tmp_path / "gt_valid.mat"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        UserError, match="cannot be read as a MATLAB file .*: give the gt_valid.mat"
    ) as caught:
        gt_valid.read(str(path), "none")
    assert "\n" not in str(caught.value)
