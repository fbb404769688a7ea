"""MPJPE, PCK and AUC against MPI-INF-3DHP's official tool (pck_auc_3dhp of the golden folder),
through the protocol and to its digits.
"""

import numpy as np
import pytest
from golden import golden_files

from kdpose_jax.data.sequences import Motion
from kdpose_jax.evaluate.metrics import pck_3d
from kdpose_jax.evaluate.protocols import mpi_inf_3dhp
from kdpose_jax.skeletons import H36M_17

# Where the joints of H36M_17 are called what the file calls them.
NAMES = {
    "hip": "pelvis",
    "thorax": "neck",
    "neck": "head",
    "head": "head_top",
    "spine": "spine",
    **{
        f"{side}_{part}": f"{side}_{part}"
        for side in ("left", "right")
        for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    },
}
FRAMES = 3


@pytest.mark.parametrize("path", golden_files("pck_auc_3dhp*"))
def test_official_tool(path, monkeypatch):
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    named = {str(name): index for index, name in enumerate(arrays["joint_names"])}
    order = [named[NAMES[joint]] for joint in H36M_17.joints]
    sequences = sorted({name.split("/")[1] for name in arrays if name.startswith("input/")})
    target, predicted, activity = (
        [arrays[f"input/{name}/{kind}"] for name in sequences]
        for kind in ("gt_mm", "pred_mm", "activity")
    )
    frames = np.array([len(labels) for labels in activity])
    motion = Motion(
        skeleton=H36M_17,
        names=tuple(f"{name}/{name}/0" for name in sequences),
        actions=tuple(sequences),
        frames=frames,
        offset=np.concatenate([[0], np.cumsum(frames)[:-1]]),
        keypoints_2d=np.zeros((frames.sum(), 17, 2), np.float32),
        pose_3d=np.concatenate(target)[:, order] / 1000,
        frame_mask=np.ones(frames.sum(), bool),
    )
    labelled = mpi_inf_3dhp.LabelledMotion(motion, np.concatenate(activity))
    protocol = mpi_inf_3dhp.open_protocol(labelled, frames=FRAMES, context=(0, 0), flip=False)
    centre = np.concatenate(predicted)[:, order] / 1000
    windows = np.stack([centre + 9, centre, centre - 9], axis=1)  # the other frames do not count

    errors = protocol.errors(windows, np.arange(len(windows)))
    expected = np.concatenate([arrays[f"output/{name}/joint_error_mm"] for name in sequences])[
        :, order
    ]
    np.testing.assert_allclose(errors, expected, rtol=1e-9, atol=1e-9)
    # Ours agree to the picometre, which decides on which side of a threshold a tie falls: the
    # tables are those of the tool's own.
    monkeypatch.setattr(
        mpi_inf_3dhp.Protocol, "errors", lambda self, predicted, chosen: expected[chosen]
    )
    scores = protocol.score(windows)
    labels = sorted(set(np.concatenate(activity)))
    rows = {"sequence": ([scores["sequences"][name] for name in sequences], range(len(sequences)))}
    activities = [scores["activities"][mpi_inf_3dhp.activity_name(label)] for label in labels]
    # A table has a row for every label.
    rows["activity"] = ([*activities, scores["pooled"]], [*(label - 1 for label in labels), -1])
    for kind, (parts, chosen) in rows.items():
        chosen = list(chosen)
        averages = arrays[f"output/{kind}_mpjpe_average_mm"][chosen]
        np.testing.assert_allclose([part["mpjpe_mm"] for part in parts], averages, rtol=1e-9)
        for measure in ("pck", "auc"):
            table = [[*part[f"{measure}_by_group"].values(), part[measure]] for part in parts]
            np.testing.assert_allclose(
                table,
                arrays[f"output/{kind}_{measure}"][chosen],
                rtol=1e-9,
                err_msg=f"{kind} {measure}",
            )
    group_names = [str(name).lower() for name in arrays["group_names"][:-1]]
    assert all(
        ours.startswith(theirs) for ours, theirs in zip(pck_3d.GROUPS, group_names, strict=True)
    )
    row = protocol.row({"plain": scores})
    np.testing.assert_allclose(
        row["mean_pck"], arrays["output/sequence_pck"][:, -1].mean(), rtol=1e-9
    )
    np.testing.assert_allclose(row["pck"], arrays["output/activity_pck"][-1, -1], rtol=1e-9)
