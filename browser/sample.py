"""Makes the clip that the page shows before the user opens a file: generated, so seen by nobody."""

from typing import Any

import numpy as np

from data_prep import motion, synthetic
from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import layouts
from kdpose_jax.keypoints.tracks import Keypoints, Track
from kdpose_jax.skeletons import H36M_17, Skeleton

# A person that no generated data set has, because theirs are called G1, G2, ...
CLIP = synthetic.View("sample", "Walking", "Walking", index=0, frames=200, noise=0.004, seed=0)
NAME = "a generated walk, as a detector with small errors sees it"


def sample_for(wanted: Skeleton) -> dict[str, Any] | None:
    """Makes the clip in the joints that a network reads.

    Args:
      wanted: the network's joints.

    Returns:
      `file`, which the page reads like a user's; `truth`, the true pose of every frame relative to
      the root, `[T][J][3]` metres, None where it has other joints; and `name`. None if the joints
      cannot be made of Human3.6M's.
    """
    record = synthetic.make_record(CLIP)
    points = record["keypoints_2d"].astype(np.float64)
    size = (record["width"], record["height"])
    found = Keypoints(
        tracks=(Track("1", np.arange(len(points)), points, np.ones(points.shape[:2])),),
        joints=layouts.find_layout(H36M_17.name).joints,
        layout=H36M_17.name,
        size=size,
        fps=motion.FPS,
        length=len(points),
        format="generated",
        notes=(),
    )
    try:
        found = layouts.convert(found, wanted.joints)
    except UserError:
        return None
    truth = None
    if wanted.name == H36M_17.name:
        pose = record["pose_3d"]
        truth = np.round((pose - pose[:, [wanted.root]]).astype(np.float64), 4).tolist()
    file = {
        "size": list(map(int, size)),
        "fps": motion.FPS,
        "joints": list(wanted.joints),
        "keypoints_2d": np.round(found.tracks[0].points, 2).tolist(),
    }
    return {"name": NAME, "file": file, "truth": truth}
