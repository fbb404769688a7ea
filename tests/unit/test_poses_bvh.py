"""BVH of predicted poses: read by the converter's reader and by forward kinematics of the tests."""

import dataclasses
import json
import re

import moving_person
import numpy as np
import pytest

from data_prep.mocap import bvh
from kdpose_jax.errors import UserError
from kdpose_jax.poses import rig
from kdpose_jax.poses.stored_poses import read_poses
from kdpose_jax.poses.writers import outputs, to_bvh
from kdpose_jax.poses.writers.table import WritingOptions
from kdpose_jax.skeletons import COCO_17, H36M_17, MPII_16

NOTHING = WritingOptions(height=None, root="given", focal=None, frames=None)
MILLIMETRE = 1e-3
# Four decimals of a centimetre, and six of a degree, along a chain of bones.
ROUNDING = 5e-6


def written(video, tmp_path, options=NOTHING):
    """The notes about BVH, and the text of the BVH file of a video's only person."""
    notes = outputs.write(video, tmp_path / "walk", ["bvh"], options).notes
    return [note for note in notes if note.startswith("BVH")], (tmp_path / "walk.bvh").read_text()


def matrix(axis, degrees):
    """The rotation about X, Y or Z."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return {
        "X": np.asarray([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "Y": np.asarray([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "Z": np.asarray([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]


def posed(text):
    """Joint -> places `[T, 3]` metres, by forward kinematics with one matrix after the other."""
    hierarchy, motion = text.split("MOTION\n")
    rows = [list(map(float, line.split())) for line in motion.splitlines()[2:]]
    places = {}
    for frame, row in enumerate(rows):
        values, stack, name = iter(row), [], None
        for line in hierarchy.splitlines():
            words = line.split()
            if words[0] in ("ROOT", "JOINT", "End"):
                name = words[1]
            elif words[0] == "{":
                stack.append(stack[-1] if stack else (np.zeros(3), np.eye(3)))
            elif words[0] == "OFFSET":
                place, turn = stack[-1]
                stack[-1] = (place + turn @ np.asarray(words[1:], np.float64), turn)
            elif words[0] == "CHANNELS":
                place, turn = stack[-1]
                moved = np.zeros(3)
                for channel in words[2:]:
                    if channel.endswith("position"):
                        moved["XYZ".index(channel[0])] = next(values)
                    else:
                        turn = turn @ matrix(channel[0], next(values))
                stack[-1] = (place + moved, turn)
                places.setdefault(name, np.zeros((len(rows), 3)))[frame] = stack[-1][0] / 100
            elif words[0] == "}":
                stack.pop()
        assert next(values, None) is None
    return places


def offsets(text):
    """Joint -> length of its OFFSET, metres."""
    found = re.findall(r"(?:ROOT|JOINT) (\S+)\s+\{\s+OFFSET (\S+) (\S+) (\S+)", text)
    return {name: np.linalg.norm(np.asarray(numbers, float)) / 100 for name, *numbers in found}


def angles(text):
    """The rotation channels, `[T, C]` degrees."""
    rows = text.split("MOTION\n")[1].splitlines()[2:]
    return np.asarray([row.split() for row in rows], np.float64)[:, 3:]


@pytest.mark.parametrize("turns", [0, 2.5])
def test_rigid_motion_comes_back(turns, tmp_path):
    walk = moving_person.walk(90, turns=turns)
    notes, text = written(moving_person.poses(moving_person.person(walk, relative=False)), tmp_path)
    assert "Frames: 90\nFrame Time: 0.0333333\n" in text
    assert "joints lie 0.0 mm from the prediction in the mean and 0.0 mm at most" in notes[0]
    clip, ours = bvh.read(str(tmp_path / "walk.bvh")), posed(text)
    assert clip.notes == {} and clip.fps == pytest.approx(30, abs=1e-4)
    for joint, name in enumerate(H36M_17.joints):
        np.testing.assert_allclose(ours[name], walk[:, joint], atol=ROUNDING, err_msg=name)
        found = clip.positions[:, clip.joints[name]] / 100
        np.testing.assert_allclose(found, ours[name], atol=1e-9, err_msg=name)


def test_poses_from_a_file_of_another_program(tmp_path):
    """Plain arrays with z up: BVH has y up, and the rate and the root's path of the file."""
    walk = moving_person.walk(60, fps=25)[..., [2, 0, 1]]
    np.savez(tmp_path / "poses.npz", pose_3d=walk.astype(np.float32), fps=25, joints=H36M_17.joints)
    video = read_poses(str(tmp_path / "poses.npz"), None, None, None)
    notes, text = written(video, tmp_path)
    assert "Frame Time: 0.04\n" in text and any("'z_up' was taken" in note for note in video.notes)
    places = posed(text)
    for joint, name in enumerate(H36M_17.joints):
        np.testing.assert_allclose(places[name], walk[:, joint][:, [1, 2, 0]], atol=MILLIMETRE / 10)


def test_bones_are_rigid_and_the_distance_is_told(tmp_path):
    walk = moving_person.walk(100)
    wobbling = walk + np.random.default_rng(0).normal(0, 0.004, walk.shape)
    notes, text = written(
        moving_person.poses(moving_person.person(wobbling, relative=False)), tmp_path
    )
    places = posed(text)
    found = np.stack([places[name] for name in H36M_17.joints], axis=1)
    distance = np.linalg.norm(found - wobbling, axis=-1) * 1000
    told = re.search(r"lie (\S+) mm from the prediction in the mean and (\S+) mm at most", notes[0])
    assert float(told[1]) == pytest.approx(distance.mean(), abs=0.06) and distance.mean() > 1
    assert float(told[2]) == pytest.approx(distance.max(), abs=0.06)
    beside = json.loads((tmp_path / "walk.bvh.json").read_text())
    assert notes[0] in beside["notes"] and beside["units"]["pose_3d"] == "centimetres"
    lengths = offsets(text)
    for parent, child in H36M_17.bones:
        bone = np.linalg.norm(wobbling[:, child] - wobbling[:, parent], axis=-1)
        assert lengths[H36M_17.joints[child]] == pytest.approx(np.median(bone), abs=1e-5)
        # Every bone points from its start to the predicted place of its end.
        ours = found[:, child] - found[:, parent]
        wanted = wobbling[:, child] - found[:, parent]
        wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
        np.testing.assert_allclose(ours / lengths[H36M_17.joints[child]], wanted, atol=1e-4)


def test_twist_is_not_invented(tmp_path):
    """A bone that swings has no turn about itself, so its local rotation's axis is across it."""
    walk = moving_person.walk(50, turns=1)
    points = walk.astype(np.float64)
    nodes = rig.build_rig(H36M_17.joints, H36M_17.parents, points)
    local, _ = rig.follower(nodes).follow(points)
    assert [node.name for node in nodes if node.frame] == ["hip", "thorax"]
    swinging = [index for index, node in enumerate(nodes) if node.target is not None]
    assert len(swinging) == 16
    for index in swinging:
        turn = local[:, index]
        axis = np.stack([turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]], -1)
        axis -= np.stack([turn[:, 1, 2], turn[:, 2, 0], turn[:, 0, 1]], -1)
        np.testing.assert_allclose(axis @ nodes[index].rest, 0, atol=1e-12)


def test_pelvis_and_chest_have_all_three_angles(tmp_path):
    walk = moving_person.walk(40, turns=0.7)
    nodes = rig.build_rig(H36M_17.joints, H36M_17.parents, walk)
    local, _ = rig.follower(nodes).follow(walk)
    left = walk[:, 4] - walk[:, 1]
    np.testing.assert_allclose(
        local[:, 0, :, 0], left / np.linalg.norm(left, axis=-1, keepdims=True), atol=1e-12
    )
    spine = walk[:, 7] - walk[:, 0]
    np.testing.assert_allclose(np.einsum("ti,ti->t", local[:, 0, :, 2], spine), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(local), 1, atol=1e-12)


def test_angles_do_not_jump(tmp_path):
    """Three turns about the vertical, bent forward beyond a right angle: the angles go on."""
    walk = moving_person.walk(100, turns=3)
    bend = np.radians(np.linspace(-150, 150, 100))
    bent = walk - walk[:, :1]
    y, z = bent[..., 1].copy(), bent[..., 2].copy()
    bent[..., 1] = np.cos(bend)[:, None] * y - np.sin(bend)[:, None] * z
    bent[..., 2] = np.sin(bend)[:, None] * y + np.cos(bend)[:, None] * z
    for poses, limit in ((walk, 30), (bent, 100)):
        _, text = written(moving_person.poses(moving_person.person(poses)), tmp_path)
        values = angles(text)
        assert np.isfinite(values).all() and np.abs(np.diff(values, axis=0)).max() < limit
        places = posed(text)
        for joint, name in enumerate(H36M_17.joints):
            np.testing.assert_allclose(
                places[name], poses[:, joint] - poses[:, 0], atol=ROUNDING, err_msg=name
            )
    _, text = written(moving_person.poses(moving_person.person(walk)), tmp_path)
    assert np.ptp(angles(text)[:, 2]) > 1000


def test_blocks_are_one_motion(tmp_path, monkeypatch):
    video = moving_person.poses(moving_person.person(moving_person.walk(50, turns=2)))
    _, whole = written(video, tmp_path)
    monkeypatch.setattr("kdpose_jax.poses.writers.spool.BLOCK", 7)
    assert written(video, tmp_path)[1] == whole


def test_gaps_cannot_be_held(tmp_path):
    walk = moving_person.walk(60)
    person = moving_person.person(walk, "P1", 100, masked=[0, 1, *range(20, 30), 55])
    video = moving_person.poses(person)
    words = (
        "person 'P1' has no pose in 13 of 60 frames, which --format bvh cannot hold: give --frames "
        "130:155 for the longest run without a gap, or interpolate over longer gaps with --gap."
    )
    with pytest.raises(UserError, match=re.escape(words)):
        written(video, tmp_path)
    assert not list(tmp_path.iterdir())
    options = dataclasses.replace(NOTHING, frames=(130, 155))
    assert "Frames: 25\n" in written(video, tmp_path, options)[1]
    person.valid[:] = False
    with pytest.raises(UserError, match="person 'P1' has no frame with a whole pose"):
        written(video, tmp_path)


def test_other_formats_are_whole_when_bvh_refuses(tmp_path):
    video = moving_person.poses(moving_person.person(moving_person.walk(9), masked=[4]))
    with pytest.raises(UserError, match="cannot hold"):
        outputs.write(video, tmp_path / "walk", ["bvh", "npz"], NOTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.npz"]


def test_every_person_gets_a_file(tmp_path):
    persons = [moving_person.person(moving_person.walk(9 + n), f"{n}", n) for n in range(3)]
    done = outputs.write(moving_person.poses(*persons), tmp_path / "walk", ["bvh"], NOTHING)
    assert [path.name for path in done.paths[::2]] == ["walk_0.bvh", "walk_1.bvh", "walk_2.bvh"]
    assert "Frames: 11\n" in (tmp_path / "walk_2.bvh").read_text()
    assert sum("mm at most" in note for note in done.notes) == 3


MPII_OF_H36M = (3, 2, 1, 4, 5, 6, 0, 8, 9, 10, 16, 15, 14, 11, 12, 13)
COCO_OF_H36M = (10, 9, 10, 9, 10, 11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3)


@pytest.mark.parametrize(
    ("skeleton", "order", "turning"),
    [(MPII_16, MPII_OF_H36M, ["pelvis", "thorax"]), (COCO_17, COCO_OF_H36M, [])],
    ids=["mpii_16", "coco_17"],
)
def test_other_trees(skeleton, order, turning, tmp_path):
    """Bones of any tree point where the prediction points; COCO's face is in three dimensions."""
    pose = moving_person.walk(30)[:, list(order)]
    if skeleton is COCO_17:
        pose[:, 1:5] += np.asarray(
            [[0.03, 0.04, 0], [-0.03, 0.04, 0], [0.08, 0, -0.1], [-0.08, 0, -0.1]]
        )
    video = moving_person.poses(moving_person.person(pose, relative=False), skeleton=skeleton)
    notes, text = written(video, tmp_path)
    nodes = rig.build_rig(skeleton.joints, skeleton.parents, pose)
    assert [node.name for node in nodes if node.frame] == turning
    assert (", ".join(turning) or "none of the joints") in notes[1]
    places = posed(text)
    lengths = offsets(text)
    for parent, child in skeleton.bones:
        name, above = skeleton.joints[child], skeleton.joints[parent]
        wanted = pose[:, child] - places[above]
        wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
        found = (places[name] - places[above]) / lengths[name]
        np.testing.assert_allclose(found, wanted, atol=1e-4, err_msg=name)


def test_joints_without_bones_are_refused(tmp_path):
    video = moving_person.poses(moving_person.person(moving_person.walk(3)))
    loose = dataclasses.replace(video, parents=(-1,) * 17)
    with pytest.raises(UserError, match="--format bvh needs the bones.*--format trc or c3d"):
        written(loose, tmp_path)


def test_a_pose_in_one_point_keeps_the_frame_before(tmp_path):
    """A collapsed prediction has no directions: nothing is NaN, and the distance tells."""
    walk = moving_person.walk(10)
    walk[4] = walk[4, :1]
    notes, text = written(moving_person.poses(moving_person.person(walk)), tmp_path)
    values = angles(text)
    np.testing.assert_array_equal(values[4], values[3])
    assert float(re.search(r"(\S+) mm at most", notes[0])[1]) > 500
    walk[:] = 0
    _, text = written(moving_person.poses(moving_person.person(walk)), tmp_path)
    assert not angles(text).any() and set(offsets(text).values()) == {0}


def test_half_a_turn_has_an_axis():
    rest = np.asarray([0.0, -1, 0])
    turn = rig.shortest_rotation(rest, np.asarray([[0.0, 1, 0], [0, -1, 0], [1, 0, 0]]))
    np.testing.assert_allclose(turn @ rest, [[0, 1, 0], [0, -1, 0], [1, 0, 0]], atol=1e-15)
    np.testing.assert_allclose(np.linalg.det(turn), 1)
    np.testing.assert_allclose(turn[1], np.eye(3))


@pytest.mark.parametrize("x", [89.9999999, 90, -90, 30])
def test_angles_at_the_lock(x):
    turn = matrix("Z", 20) @ matrix("X", x) @ matrix("Y", 50)
    z, x, y = to_bvh.continuous_angles(turn[None, None], np.zeros((1, 3)))[0, 0]
    np.testing.assert_allclose(matrix("Z", z) @ matrix("X", x) @ matrix("Y", y), turn, atol=1e-7)
