"""Made-up poses of a video, for tests of what is written of them."""

import numpy as np

from kdpose_jax.poses.predicted import Poses, PosesOfPerson
from kdpose_jax.skeletons import COCO_17, H36M_17, Skeleton


def person(
    seed: int,
    frames: int,
    *,
    name: str = "1",
    first: int = 0,
    skeleton: Skeleton = H36M_17,
    lifts: bool = True,
    centre: tuple[float, float] = (600.0, 400.0),
) -> PosesOfPerson:
    """A body whose joints wander smoothly, in metres and in pixels."""
    rng = np.random.default_rng(seed)
    joints = skeleton.num_joints
    time = np.arange(frames)[:, None, None] / 25
    rest = rng.normal(0, [0.25, 0.5, 0.15], (joints, 3))
    sway = rng.normal(0, 0.08, (joints, 3)) * np.sin(2 * time + rng.uniform(0, 6, (joints, 3)))
    pose = rest + sway
    pose = (pose - pose[:, skeleton.root, None]).astype(np.float32)
    pixels = (pose[..., :2] * 180 + centre).astype(np.float32)
    return PosesOfPerson(
        name=name,
        first_frame=first,
        pose_3d=pose if lifts else None,
        keypoints_2d=pixels,
        scores=rng.uniform(0.5, 1, (frames, joints)).astype(np.float32),
        seen=np.ones((frames, joints), bool),
        valid=np.ones(frames, bool),
    )


def masked(one: PosesOfPerson, gone: slice) -> PosesOfPerson:
    """The person without a pose in some frames."""
    fields = {name: getattr(one, name).copy() for name in ("keypoints_2d", "scores", "seen")}
    fields["keypoints_2d"][gone] = np.nan
    fields["scores"][gone], fields["seen"][gone] = 0, False
    valid = one.valid.copy()
    valid[gone] = False
    pose = None if one.pose_3d is None else one.pose_3d.copy()
    if pose is not None:
        pose[gone] = np.nan
    return PosesOfPerson(one.name, one.first_frame, pose, valid=valid, **fields)


def video(
    *persons: PosesOfPerson,
    length: int,
    skeleton: Skeleton = H36M_17,
    size: tuple[int, int] = (1280, 720),
    notes: tuple[str, ...] = (),
    network: str = "runs/demo/student",
) -> Poses:
    """A video of these persons at 25 frames per second, with every ninth frame a keyframe."""
    return Poses(
        persons=persons,
        joints=skeleton.joints,
        parents=skeleton.parents,
        root=skeleton.root,
        fps=25.0,
        size=size,
        length=length,
        network=network,
        fingerprint="3f9a1c0be2d4",
        keyframe_stride=9,
        keyframe_offset=0,
        notes=notes,
    )


def picture_video(frames: int = 12) -> Poses:
    """A video as a network of pictures sees it, without depth."""
    one = person(3, frames, skeleton=COCO_17, lifts=False)
    return video(one, length=frames, skeleton=COCO_17)
