"""PCK and AUC of 3D poses: thresholds are strict, and a tie stays one on the way through metres."""

import numpy as np
import pytest

from kdpose_jax.evaluate.metrics import pck_3d


@pytest.mark.parametrize("offset", [(150, 0, 0), (0, -90, 120), (100, 50, -100)])
def test_a_joint_at_the_threshold_is_not_nearer(offset):
    """At exactly 150 mm, from places all over the room, of which many give 149.99999999999997 in
    metres.
    """
    target = np.random.default_rng(0).integers(-3000, 3000, size=(500, 17, 3)).astype(np.float64)
    predicted = target + offset
    plain = 1000 * np.linalg.norm(predicted / 1000 - target / 1000, axis=-1)
    assert (plain < 150).any() and (plain > 150).any()  # what is to be rounded off
    errors = pck_3d.errors_mm(predicted / 1000, target / 1000)
    assert (errors == 150).all()
    assert pck_3d.pck(errors) == 0.0 and pck_3d.auc(errors) == 0.0
    assert pck_3d.pck(errors - 1e-8) == 100.0  # a hundredth of a nanometre more than round-off


def test_thresholds_by_hand():
    """31 thresholds from 0 to 150.

    An error of 5 is below 29 of them, one of 0 below 30, one of 150 below none.
    """
    np.testing.assert_allclose(pck_3d.auc(np.array([0.0, 5.0, 150.0])), 100 * (30 + 29) / 3 / 31)
    np.testing.assert_allclose(pck_3d.pck(np.array([0.0, 149.9, 150.0, 151.0])), 50.0)
