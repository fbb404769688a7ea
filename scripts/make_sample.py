"""Makes the sample clip of keypoints: `python -m scripts.make_sample`.

Two generated persons move in front of one camera for eight seconds. A simulated detector finds them
with errors, loses a joint for a moment now and then, and sees the second person a second late. The
motion and the error are those of the demo's data (`data_prep/synthetic.py`), and neither person is
in these.
"""

import argparse
import pathlib

import numpy as np

from data_prep import cameras, motion, synthetic
from kdpose_jax.skeletons import H36M_17

FRAMES, EVERY = 400, 2  # generated frames, and which of them the video has: 25 per second
NOISE = 0.01  # as in the demo's data
PEOPLE = (
    ("Walking", (0.0, 0.0)),
    ("Waving", (-1.0, 1.6)),
)  # action, and where on the floor, metres
LATE = 25  # frames of the video before the second person is seen
LOST = 10  # the longest time that a joint is lost, frames: 0.4 s
SEED = 2026


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="samples/two_people.npz", help="the file")
    out = pathlib.Path(parser.parse_args().out)
    out.parent.mkdir(parents=True, exist_ok=True)
    arrays = clip()
    del arrays["pose_3d"]  # a detector does not know it
    np.savez_compressed(out, **arrays)
    print(f"wrote {out}, {out.stat().st_size / 1000:.0f} kB")


def clip() -> dict[str, np.ndarray]:
    """Generates the clip.

    Returns:
      What the file holds, and the true poses: `keypoints_2d` `[2, T, 17, 2]` float32, pixels, NaN
      where a joint was not found; `scores` `[2, T, 17]` float16; `joint_names`, `fps`, `size`; and
      `pose_3d` `[2, T, 17, 3]` float32, metres in the camera's axes, relative to the hip.
    """
    camera = synthetic.studio_cameras("sample", SEED)[0]
    points, scores, poses = zip(*(_person(*person, camera) for person in PEOPLE), strict=True)
    found, certain = np.stack(points), np.stack(scores)
    found[1, :LATE], certain[1, :LATE] = np.nan, 0
    return {
        "keypoints_2d": found,
        "scores": certain,
        "joint_names": np.asarray(H36M_17.joints),
        "fps": np.asarray(motion.FPS / EVERY),
        "size": np.asarray([camera.width, camera.height]),
        "pose_3d": np.stack(poses),
    }


def _person(
    action: str, place: tuple[float, float], camera: cameras.Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Generates one person: keypoints with what was lost, scores, and the true pose."""
    rng = synthetic.generator(SEED, action)
    world = motion.generate(rng, motion.ACTIONS[action], motion.body(rng), FRAMES) + [*place, 0.0]
    pose = cameras.world_to_camera(world, camera.orientation, camera.translation)
    true = cameras.project_to_2d(pose, camera.intrinsic)
    found = synthetic.detect(pose, camera, NOISE, rng)
    distance = np.linalg.norm(found - true, axis=-1)
    scores = 1 / (1 + (distance / (2 * NOISE * camera.width)) ** 2)
    found, scores, pose = found[::EVERY], scores[::EVERY], pose[::EVERY]
    found = np.round(found, 1)
    for joint in range(len(H36M_17.joints)):
        for part in (0, 1):  # once in each half of the clip, in which it is found around it
            first = LATE + 5 + part * (len(found) - LATE) // 2
            start = rng.integers(first, first + (len(found) - LATE) // 2 - LOST - 10)
            lost = slice(start, start + rng.integers(2, LOST + 1))
            found[lost, joint], scores[lost, joint] = np.nan, 0
    relative = pose - pose[:, [H36M_17.root]]
    return found, scores.astype(np.float16), relative.astype(np.float32)


if __name__ == "__main__":
    main()
