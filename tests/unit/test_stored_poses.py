"""Files of poses that users bring: what is taken, what is assumed and what is refused."""

import io
import re
import zipfile

import moving_person
import numpy as np
import pytest

from kdpose_jax.errors import UserError
from kdpose_jax.poses.axes import to_camera, to_y_up, to_z_up
from kdpose_jax.poses.stored_poses import read_poses
from kdpose_jax.skeletons import COCO_17, H36M_17, MPII_16

WALK = moving_person.walk(12).astype(np.float32)
PLAIN = {"pose_3d": WALK, "fps": 30, "joints": np.asarray(H36M_17.joints)}


def stored(tmp_path, **changes):
    """The path of a plain file with some arrays replaced; None leaves an array out."""
    arrays = {key: value for key, value in (PLAIN | changes).items() if value is not None}
    np.savez(tmp_path / "poses.npz", **arrays)
    return str(tmp_path / "poses.npz")


def read(path, fps=None, axes=None, layout=None):
    return read_poses(path, fps, axes, layout)


@pytest.mark.parametrize(
    ("axes", "order", "signs"),
    [
        ("y_up", [0, 1, 2], [1, 1, 1]),
        ("camera", [0, 1, 2], [1, -1, -1]),
        ("z_up", [2, 0, 1], [1, 1, 1]),
    ],
)
def test_axes_are_those_in_which_people_stand(axes, order, signs, tmp_path):
    pose = WALK[..., order] * np.float32(signs)
    video = read(stored(tmp_path, pose_3d=pose))
    (person,) = video.persons
    np.testing.assert_array_equal(person.pose_3d, WALK * np.float32([1, -1, -1]))
    assert any(f"'{axes}' was taken" in note for note in video.notes)
    assert any("has no keypoints" in note for note in video.notes)
    told = read(stored(tmp_path, pose_3d=pose), axes=axes)
    np.testing.assert_array_equal(told.persons[0].pose_3d, person.pose_3d)
    assert not any("was taken (" in note for note in told.notes)
    assert (video.length, video.fps, video.size, video.root) == (12, 30.0, None, 0)
    assert video.parents == H36M_17.parents and person.valid.all() and person.seen.all()


def test_turning_there_and_back():
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(to_camera(to_y_up(points), "y_up"), points)
    np.testing.assert_array_equal(to_camera(to_z_up(points), "z_up"), points)
    for turned in (to_y_up, to_z_up):  # no mirror
        assert np.linalg.det(turned(np.eye(3))) == pytest.approx(1)


def test_people_who_lie_need_the_flag(tmp_path):
    lying = WALK[..., [1, 2, 0]] * np.float32([1, 1, 1])
    with pytest.raises(UserError, match="do not stand along one: add --axes with one of camera, y"):
        read(stored(tmp_path, pose_3d=lying))
    assert read(stored(tmp_path, pose_3d=lying), axes="y_up").length == 12
    with pytest.raises(UserError, match="--axes is 'up': use one of camera, y_up, z_up"):
        read(stored(tmp_path), axes="up")


def test_several_persons_and_another_order_of_joints(tmp_path):
    order = np.random.default_rng(1).permutation(17)
    names = np.asarray(H36M_17.joints)[order]
    both = np.stack([WALK, WALK + 1])[:, :, order]
    video = read(stored(tmp_path, pose_3d=both, joints=names))
    assert [person.name for person in video.persons] == ["0", "1"]
    for joint, parent in enumerate(video.parents):
        above = H36M_17.parents[H36M_17.joints.index(video.joints[joint])]
        assert (video.joints[parent] if parent >= 0 else None) == (
            H36M_17.joints[above] if above >= 0 else None
        )
    assert video.joints[video.root] == "hip"


def test_gaps_are_masked_and_counted(tmp_path):
    pose = WALK.copy()
    pose[3] = np.nan
    pose[7, 5] = np.inf
    video = read(stored(tmp_path, pose_3d=pose))
    (person,) = video.persons
    assert np.flatnonzero(~person.valid).tolist() == [3]
    assert np.isnan(person.pose_3d[7, 5]).all() and np.isfinite(person.pose_3d[7, 6]).all()
    assert any("no pose in 1 of 12 frames" in note for note in video.notes)


@pytest.mark.parametrize(
    "changes",
    [
        {"fps": np.asarray([30.0])},
        {"fps": np.float32(30), "joints": np.asarray(H36M_17.joints, object)},
        {"joints": None, "joint_names": np.asarray(H36M_17.joints)},
        {"joints": np.asarray(H36M_17.joints, "S")},
        {"pose_3d": np.asfortranarray(WALK, np.float64)},
        {"pose_3d": WALK[None]},
        {"pose_3d": WALK.astype(">f4")},
        {"parents": np.asarray(H36M_17.parents)},
        {"something": np.arange(3), "size": np.asarray([640, 480])},
    ],
)
def test_ways_to_store_the_same(changes, tmp_path):
    video = read(stored(tmp_path, **changes))
    assert (video.fps, video.joints, video.parents) == (30.0, H36M_17.joints, H36M_17.parents)
    np.testing.assert_array_equal(video.persons[0].pose_3d, WALK * np.float32([1, -1, -1]))


def test_flags_give_what_a_file_lacks(tmp_path):
    video = read(stored(tmp_path, fps=None, joints=None), fps=25, layout="h36m_17")
    assert (video.fps, video.joints) == (25.0, H36M_17.joints)
    assert read(stored(tmp_path), fps=50).fps == 50.0


def test_unknown_joints_have_no_bones(tmp_path):
    names = [f"j{number}" for number in range(17)]
    video = read(stored(tmp_path, joints=names), axes="y_up")
    assert set(video.parents) == {-1}
    assert any("no bones were taken, and 'j0' counts as the root" in note for note in video.notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pose_3d": None}, "has no array 'pose_3d' (it holds fps, joints): store the poses"),
        ({"pose_3d": WALK[..., :2]}, "(pose_3d) has shape [12, 17, 2]: give numbers as [frames"),
        ({"pose_3d": WALK[:0]}, "(pose_3d) has shape [0, 17, 3]"),
        ({"pose_3d": np.asarray(["a"])}, "(pose_3d) has shape []: give numbers"),
        ({"pose_3d": WALK * 1000}, "metres: divide it by 1000"),
        ({"pose_3d": WALK / 50}, "metres: convert it"),
        ({"fps": None}, "does not say its rate: add --fps"),
        ({"fps": 0}, "(fps) is 0: add --fps with frames per second, above 0"),
        ({"fps": -25.0}, "(fps) is -25: add --fps"),
        ({"fps": np.nan}, "(fps) is nan: add --fps"),
        ({"fps": "30"}, "(fps) is not one number: add --fps"),
        ({"fps": [30, 25]}, "(fps) is not one number"),
        ({"joints": None}, "does not name its 17 joints: add --joints with one of h36m_17, mpii"),
        ({"joints": np.asarray(MPII_16.joints)}, "has 16 different names, and pose_3d has 17"),
        ({"joints": ["hip"] * 17}, "has 1 different names, and pose_3d has 17 joints"),
        ({"joints": np.arange(17)}, "(joints) must hold texts"),
        ({"parents": np.arange(16)}, "(parents) must be 17 whole numbers"),
        ({"parents": (np.arange(17) + 1) % 17}, "(parents) leads from joint 0 to no root"),
        ({"parents": [40] + [0] * 16}, "(parents) leads from joint 0 to no root"),
        ({"parents": [-1] + [0] * 16, "root": 17}, "(root) is 17: it must be one of 17 joints"),
        ({"keypoints_2d": WALK}, "(keypoints_2d) has shape [12, 17, 3]"),
        ({"valid": np.asarray(["yes"] * 12)}, "(valid) has shape [12] and type <U3"),
        ({"frames": [13]}, "(first_frame, frames) has values outside of its 12 frames"),
        ({"first_frame": [-1]}, "(first_frame, frames) has values outside"),
        ({"first_frame": [0.5]}, "(first_frame) must be a whole number"),
        ({"persons": ["a", "b"]}, "(persons) has 2 different names for 1 persons"),
        ({"size": [0, 480]}, "(size) is 0x480, and both must be above 0"),
        ({"axes": "left"}, "(axes) is 'left': add --axes with one of"),
    ],
)
def test_bad_files_get_one_sentence(changes, words, tmp_path):
    with pytest.raises(UserError, match=re.escape(words)):
        read(stored(tmp_path, **changes))


def test_flags_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match="--fps is 0: give frames per second, above 0"):
        read(stored(tmp_path), fps=0.0)
    with pytest.raises(UserError, match="--joints is 'smpl': use one of h36m_17"):
        read(stored(tmp_path), layout="smpl")
    with pytest.raises(UserError, match="--joints mpii_16 has 16 different names"):
        read(stored(tmp_path), layout="mpii_16")
    assert (
        read(stored(tmp_path, joints=None), axes="y_up", layout="coco_17").joints == COCO_17.joints
    )


def test_files_that_are_no_npz(tmp_path):
    with pytest.raises(UserError, match="is not a file: give an npz file with pose_3d"):
        read(str(tmp_path / "absent.npz"))
    path = stored(tmp_path)
    content = (tmp_path / "poses.npz").read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"PK" + content[9:], b'{"pose_3d": []}'):
        (tmp_path / "poses.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="is not a whole npz file"):
            read(path)


def test_claims_and_code_are_refused(tmp_path):
    """An array that claims a terabyte, and a pickle that would run something."""

    class Runs:
        def __reduce__(self):
            return (print, ("ran",))

    path = stored(tmp_path, joints=np.asarray([Runs()] * 17, object))
    with pytest.raises(UserError):
        read(path)
    member = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**30, 17, 3)}
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(tmp_path / "poses.npz", "w") as archive:
        archive.writestr("pose_3d.npy", member.getvalue())
    with pytest.raises(UserError, match="damaged"):
        read(path)


def test_frames_before_persons_are_refused(tmp_path):
    both = np.stack([WALK, WALK + np.float32([1, 0, 0])], axis=1)
    with pytest.raises(UserError, match=r"12 persons in 2 frames.*swapaxes\(0, 1\)"):
        read(stored(tmp_path, pose_3d=both))
    assert len(read(stored(tmp_path, pose_3d=both.swapaxes(0, 1))).persons) == 2
    many = np.stack([WALK[:2] + np.float32([one, 0, 0]) for one in range(5)])
    assert len(read(stored(tmp_path, pose_3d=many)).persons) == 5
