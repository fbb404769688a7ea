"""Writes one person as a BVH file: rigid bones, centimetres, y up.

The rig is the one of `predict/rig.py`. Angles are those of Z, X and Y, in this order. A BVH file
has no place for remarks and none for missing frames.
"""

import re
from typing import BinaryIO

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.poses import axes
from kdpose_jax.poses.rig import Node, build_rig, follower
from kdpose_jax.poses.writers.spool import Person, Recording

CENTIMETRES = 100.0
CHANNELS = "Zrotation Xrotation Yrotation"
POSITIONS = "Xposition Yposition Zposition"
AXES = (
    "BVH is in centimetres, with y up and z towards the camera, which is taken as level (Blender: "
    "import with scale 0.01)."
)
TWIST = (
    "BVH: only {frames} have all three angles; other bones turn by the shortest rotation from "
    "rest, because joints do not show how a bone twists about itself."
)


def write(file: BinaryIO, recording: Recording) -> tuple[str, ...]:
    """Writes the file of the recording's only person.

    Returns:
      What the user should know about the file, with the mean and the largest distance from the
      prediction.

    Raises:
      UserError: the person has frames without a pose, or the joints have no tree.
    """
    (person,), about = recording.persons, recording.about
    check_tree(about.joints, about.parents)
    check_whole(person.name, person.first_frame, whole_frames(person))
    rig = build_rig(about.joints, about.parents, axes.to_y_up(person.sample()))
    file.write(_hierarchy(rig).encode("utf-8", "replace"))
    file.write(f"MOTION\nFrames: {person.length}\nFrame Time: {1 / about.fps:.6g}\n".encode())
    walker, angles = follower(rig), np.zeros((len(rig), 3))
    form = "%.4f %.4f %.4f" + " %.6f" * (3 * len(rig)) + "\n"
    sum_m, largest_m = 0.0, 0.0
    for block in person.blocks():
        assert block.pose_3d is not None
        points = axes.to_y_up(block.pose_3d).astype(np.float64)
        local, places = walker.follow(points)
        turns = continuous_angles(local, angles)
        angles = turns[-1]
        root = points[:, rig[0].joint] * CENTIMETRES
        rows = np.concatenate([root, turns.reshape(len(turns), -1)], axis=1)
        file.write("".join(form % tuple(row) for row in rows.tolist()).encode())
        distance = np.linalg.norm(_at_joints(rig, places, points.shape[1]) - points, axis=-1)
        sum_m += distance.sum()
        largest_m = max(largest_m, float(distance.max()))
    mean_mm = sum_m * 1000 / (person.length * len(about.joints))
    turning = ", ".join(node.name for node in rig if node.frame) or "none of the joints"
    return (
        f"BVH of person '{person.name}': bones are rigid, so that its joints lie {mean_mm:.1f} mm "
        f"from the prediction in the mean and {largest_m * 1000:.1f} mm at most.",
        TWIST.format(frames=turning),
        AXES,
    )


def check_tree(joints: tuple[str, ...], parents: tuple[int, ...]) -> None:
    """Raises UserError if the joints do not make one tree."""
    roots = sum(parent < 0 for parent in parents)
    if roots != 1:
        raise UserError(
            f"--format bvh needs the bones between joints, and {len(joints)} joints from "
            f"'{joints[0]}' to '{joints[-1]}' make no known tree: use the joints of h36m_17 or "
            "mpii_16, or --format trc or c3d."
        )


def whole_frames(person: Person) -> np.ndarray:
    """Finds the frames in which every joint is known, `[T]`."""
    parts = []
    for block in person.blocks():
        assert block.pose_3d is not None
        parts.append(block.valid & np.isfinite(block.pose_3d).all(axis=(1, 2)))
    return np.concatenate(parts)


def check_whole(name: str, first_frame: int, whole: np.ndarray) -> None:
    """Checks that BVH can hold a person's frames.

    Args:
      name: the person's name.
      first_frame: number of the first frame in the video.
      whole: whether all joints are known in the frame, `[T]`.

    Raises:
      UserError: a frame is masked. The sentence names the longest run without a gap.
    """
    if whole.all():
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[False], whole, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    if len(starts) == 0:
        raise UserError(
            f"person '{name}' has no frame with a whole pose: --format bvh cannot hold it, so use "
            "--format csv, or take lower scores with --score."
        )
    longest = int(np.argmax(stops - starts))
    start, stop = first_frame + int(starts[longest]), first_frame + int(stops[longest])
    raise UserError(
        f"person '{name}' has no pose in {int((~whole).sum()):,} of {len(whole):,} frames, which "
        f"--format bvh cannot hold: give --frames {start}:{stop} for the longest run without a "
        "gap, or interpolate over longer gaps with --gap."
    )


def _hierarchy(rig: tuple[Node, ...]) -> str:
    """Writes the tree of joints with their offsets."""
    lines = ["HIERARCHY"]

    def add(index: int, depth: int) -> None:
        node, indent = rig[index], "\t" * depth
        children = [child for child, one in enumerate(rig) if one.parent == index]
        channels = f"6 {POSITIONS} {CHANNELS}" if node.parent < 0 else f"3 {CHANNELS}"
        kind = "ROOT" if node.parent < 0 else "JOINT"
        lines.append(f"{indent}{kind} {_name(node.name)}")
        lines.append(f"{indent}{{")
        lines.append(f"{indent}\tOFFSET {_numbers(node.offset)}")
        lines.append(f"{indent}\tCHANNELS {channels}")
        for child in children:
            add(child, depth + 1)
        if not children:
            end = f"{{\n{indent}\t\tOFFSET {_numbers(np.zeros(3))}\n{indent}\t}}"
            lines.append(f"{indent}\tEnd Site\n{indent}\t{end}")
        lines.append(f"{indent}}}")

    add(0, 0)
    return "\n".join(lines) + "\n"


def _name(text: str) -> str:
    """Makes one word without braces, which are marks of the format."""
    return re.sub(r"[\s{}]+", "_", text)


def _numbers(offset: np.ndarray) -> str:
    return " ".join(f"{value:.4f}" for value in offset * CENTIMETRES + 0.0)


def _at_joints(rig: tuple[Node, ...], places: np.ndarray, joints: int) -> np.ndarray:
    """Picks the place of every predicted joint, `[T, J, 3]`."""
    node_of = {node.joint: index for index, node in reversed(list(enumerate(rig)))}
    return places[:, [node_of[joint] for joint in range(joints)]]


def continuous_angles(rotations: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Finds angles about z, x and y that do not jump.

    A rotation has two such triples, each up to whole turns. The one that is nearest to the frame
    before is taken.

    Args:
      rotations: `[T, N, 3, 3]`, each the product of those about z, x and y.
      before: the angles of the frame before the first, `[N, 3]` degrees.

    Returns:
      `[T, N, 3]` degrees.
    """
    z, x, y = _angles(rotations)
    one = np.stack([z, x, y], axis=-1)
    other = np.stack([z + 180, 180 - x, y + 180], axis=-1)
    start = np.stack([_far(one[0], before), _far(other[0], before)]).argmin(axis=0)
    chosen = np.where(start[:, None] == 0, one, other)
    whole = np.unwrap(np.concatenate([before[None], chosen]), axis=0, period=360)
    largest = np.abs(np.diff(whole, axis=0)).max(axis=(0, 2))
    angles = whole[1:]
    # While no angle steps further than this, the other triple is farther away: by half a turn in z.
    for node in np.flatnonzero(largest > 60):
        last = before[node]
        for frame in range(len(angles)):
            both = np.stack([one[frame, node], other[frame, node]])
            last = _near(both, last)[_far(both, last).argmin()]
            angles[frame, node] = last
    return angles


def _near(angles: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Adds whole turns, so that the angles are as near as possible to those before."""
    return angles + 360 * np.round((before - angles) / 360)


def _far(angles: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Sums how far triples are from those before."""
    return np.abs(_near(angles, before) - before).sum(axis=-1)


def _angles(rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Takes rotations apart into angles about z, x and y, degrees, with x from -90 to 90.

    Where x is a right angle, z and y turn about the same axis, and y is 0.
    """
    cosine = np.hypot(rotations[..., 0, 1], rotations[..., 1, 1])
    x = np.arctan2(rotations[..., 2, 1], cosine)
    locked = cosine < 1e-7
    z = np.where(
        locked,
        np.arctan2(rotations[..., 1, 0], rotations[..., 0, 0]),
        np.arctan2(-rotations[..., 0, 1], rotations[..., 1, 1]),
    )
    y = np.where(locked, 0, np.arctan2(-rotations[..., 2, 0], rotations[..., 2, 2]))
    return np.degrees(z), np.degrees(x), np.degrees(y)
