"""What the teachers predict in every training frame, stored once, against direct evaluations."""

import functools
import pathlib

import jax
import numpy as np
import pytest
from etils import epath
from stored_networks import store
from tiny import get_config, mesh_of, run_of, shrink

from kdpose_jax.data import sequences
from kdpose_jax.data.sequences import Motion
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import configs, stored_runs, taught_poses, weights
from kdpose_jax.experiment.run import Context, Run, build, open_training
from kdpose_jax.experiment.teachers import adopt_teacher
from kdpose_jax.folders import WorkFolder
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.train.preemption import Stop

LENGTHS = (20, 5, 13)  # none is a multiple of the windows, and one is shorter
FLIP = list(H36M_17.flip_permutation)
METADATA = dict.fromkeys(configs.DATA_IDENTITY, "made")


def motion():
    generator, count = np.random.default_rng(5), sum(LENGTHS)
    pose = 0.3 * generator.normal(size=(count, 17, 3)).astype(np.float32)
    pose[:, 0] = 0
    return Motion(
        skeleton=H36M_17,
        names=tuple("abc"),
        actions=("walk",) * 3,
        frames=np.array(LENGTHS),
        offset=np.concatenate([[0], np.cumsum(LENGTHS)[:-1]]),
        keypoints_2d=generator.normal(size=(count, 17, 2)).astype(np.float32),
        pose_3d=pose,
        frame_mask=np.ones(count, bool),
    )


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """The folders of a run of each kind of lifter, with random weights."""
    folder = tmp_path_factory.mktemp("teachers")
    names = ("mixste", "videopose3d", "poseformer_v2")
    stored = {
        name: store(folder / name, run_of("lifters", name, "student"), seed)
        for seed, name in enumerate(names)
    }
    stored["keyframes"] = store(folder / "keyframes", run_of("scjd", "demo", "baseline"), 3)
    return stored


def taught(workdir, *paths, shown=None, kept_in=""):
    """Computes or finds the stored poses for a student that learns from poses alone."""
    pathlib.Path(workdir).mkdir(exist_ok=True)
    config = shrink(get_config("scjd", "mocap,student=videopose3d"))
    config.teacher.checkpoint, config.distill.further_teachers = paths[0], tuple(paths[1:])
    config.distill.poses_folder = str(kept_in)
    config.student.network.predicted_frames = 9
    adopt_teacher(config)
    lines = [] if shown is None else shown
    context = Context(
        workdir=epath.Path(workdir),
        training_data=motion(),
        selection_data=None,
        chosen_on="",
        test_data=None,
        mesh=mesh_of(1),
        show=lines.append,
        stop=Stop(),
    )
    run = Run("student", "student", "student", config)
    return taught_poses.teach(run, METADATA, context), run


@functools.cache
def stored_network(path):
    """Loads a stored network: keypoints `[1, N, J, 2]` -> poses `[1, F, J, 3]`."""
    run = stored_runs.run_of_checkpoint(path)
    method = build(run, 1).method
    batch = {"keypoints_2d": np.zeros((1, 89, 17, 2), np.float32)}
    if run.block.network.name != "videopose3d":
        batch["keypoints_2d"] = batch["keypoints_2d"][:, :9]
    params, state, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
        weights.student_variables(params, state),
    )
    network = weights.load_network(run.block.network.name, path, target)
    state = {"student": network["state"]} if network["state"] else {}
    predict = jax.jit(method.predict)
    return lambda points: predict({"student": network["params"]}, state, {"keypoints_2d": points})


def apply_once(path, keypoints):
    """What a stored network predicts in an input, `[N, J, 2]` -> `[F, J, 3]`."""
    return np.asarray(stored_network(path)(keypoints[None])[0])


def direct(path, length, before, after):
    """Evaluates a network by plain loops: windows end to end, the last at the sequence's end, with
    the first and last frame repeated, averaged with the mirrored input's.
    """
    whole, found = motion(), []
    for start, count in zip(whole.offset, LENGTHS, strict=True):
        points = whole.keypoints_2d[start : start + count]
        poses = {}
        for first in range(0, count, length):
            begin = max(0, min(first, count - length))
            rows = [
                min(max(n, 0), count - 1) for n in range(begin - before, begin + length + after)
            ]
            window = points[rows]
            mirrored = window[:, FLIP] * np.array([-1, 1], np.float32)
            pose = apply_once(path, window)
            back = apply_once(path, mirrored)[:, FLIP] * np.array([-1, 1, 1], np.float32)
            for place, value in enumerate((pose + back) / 2):
                if begin + place < count:
                    poses.setdefault(begin + place, value)
        found += [poses[frame] for frame in range(count)]
    return np.stack(found)


# Windows of 9 frames; one frame; VideoPose3D predicts 81 at once, from 4 further ones.
SHAPES = {
    "mixste": (9, 0, 0),
    "keyframes": (9, 0, 0),
    "poseformer_v2": (1, 4, 4),
    "videopose3d": (81, 4, 4),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_frame_is_predicted_once(teachers, name, tmp_path):
    context, _ = taught(tmp_path, teachers[name])
    found = context.training_data.teacher_pose_3d
    assert found.shape == (sum(LENGTHS), 17, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, direct(teachers[name], *SHAPES[name]), atol=2e-5)
    assert (found[:, 0] == 0).all()
    error = np.linalg.norm(found - motion().pose_3d, axis=-1).mean() * 1000
    kept = configs.read_json(WorkFolder(epath.Path(tmp_path)).taught_poses_origin)
    np.testing.assert_allclose(kept["record"]["mpjpe_mm"], error, rtol=1e-5)


def test_several_teachers_are_averaged(teachers, tmp_path):
    names = ("poseformer_v2", "keyframes", "mixste")
    each = [
        taught(tmp_path / name, teachers[name])[0].training_data.teacher_pose_3d for name in names
    ]
    both, _ = taught(tmp_path, *(teachers[name] for name in names))
    np.testing.assert_allclose(both.training_data.teacher_pose_3d, np.mean(each, 0), atol=1e-6)
    assert set(both.taught_by) == {"teacher", "further_teacher_1", "further_teacher_2"}
    assert len(set(both.taught_by.values())) == 3


def test_kept_poses_are_taken_again_unless_teacher_or_data_changed(teachers, tmp_path):
    first, shown = taught(tmp_path, teachers["mixste"])[0], []
    path = WorkFolder(epath.Path(tmp_path)).taught_poses
    changed = np.load(path) + 1  # shows whether the file is read
    np.save(path, changed)
    again, _ = taught(tmp_path, teachers["mixste"], shown=shown)
    np.testing.assert_array_equal(again.training_data.teacher_pose_3d, changed)
    assert again.taught_by == first.taught_by and not any("computing" in line for line in shown)
    other, _ = taught(tmp_path, teachers["keyframes"], shown=shown)
    assert any("computing" in line for line in shown) and other.taught_by != first.taught_by
    back, _ = taught(tmp_path, teachers["mixste"])
    poses = [one.training_data.teacher_pose_3d for one in (first, back)]
    np.testing.assert_array_equal(*poses)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00v\x00", b"[1, 2]"])
def test_damaged_poses_are_told_and_damaged_origins_are_made_again(teachers, tmp_path, content):
    folder, shown = WorkFolder(epath.Path(tmp_path)), []
    first, _ = taught(tmp_path, teachers["mixste"])
    folder.taught_poses_origin.write_bytes(content)
    again, _ = taught(tmp_path, teachers["mixste"], shown=shown)
    assert any("computing" in line for line in shown)
    poses = [one.training_data.teacher_pose_3d for one in (first, again)]
    np.testing.assert_array_equal(*poses)
    folder.taught_poses.write_bytes(content)
    with pytest.raises(UserError, match="taught_poses.npy' is damaged .*: delete it"):
        taught(tmp_path, teachers["mixste"])
    with folder.taught_poses.open("wb") as file:
        np.save(file, poses[0][:-1])
    with pytest.raises(UserError, match=r"is damaged \(its shape is .*: delete it"):
        taught(tmp_path, teachers["mixste"])


def test_runs_may_share_a_folder_of_poses(teachers, tmp_path):
    shared, shown = tmp_path / "shared", []
    first, _ = taught(tmp_path / "a", teachers["mixste"], kept_in=shared)
    second, _ = taught(tmp_path / "b", teachers["mixste"], kept_in=shared, shown=shown)
    assert not any("computing" in line for line in shown)
    poses = [one.training_data.teacher_pose_3d for one in (first, second)]
    np.testing.assert_array_equal(*poses)
    assert not list((tmp_path / "a").iterdir()) and not list((tmp_path / "b").iterdir())


def test_examples_and_their_mirrored_copies_have_the_poses(teachers, tmp_path):
    context, run = taught(tmp_path, teachers["mixste"])
    source, poses = open_training(run, context), context.training_data.teacher_pose_3d
    half = len(source) // 2
    plain, mirrored = source.gather(np.arange(half)), source.gather(np.arange(half, 2 * half))
    assert plain["teacher_pose_3d"].shape == plain["pose_3d"].shape
    np.testing.assert_array_equal(
        mirrored["teacher_pose_3d"], plain["teacher_pose_3d"][:, :, FLIP] * np.array([-1, 1, 1])
    )
    # The student's windows are of 9 frames and centred: the first begins 3 frames before the first
    # of 20 frames, where the first frame is repeated.
    rows = [max(0, frame) for frame in range(-3, 6)]
    np.testing.assert_allclose(plain["teacher_pose_3d"][0], poses[rows])
    np.testing.assert_allclose(plain["pose_3d"][0], motion().pose_3d[rows])
    without = sequences.open_whole(motion(), frames=9, context=(0, 0))
    assert "teacher_pose_3d" not in without.gather(np.arange(1))


def test_a_teacher_that_predicts_nan_is_refused(tmp_path, monkeypatch, teachers):
    nothing = np.full((sum(LENGTHS), 17, 3), np.nan, np.float32)
    monkeypatch.setattr(taught_poses, "mean_prediction", lambda *_: nothing)
    with pytest.raises(UserError, match="one predicts NaN or infinity in training frames"):
        taught(tmp_path, teachers["mixste"])
    assert not WorkFolder(epath.Path(tmp_path)).taught_poses.exists()
