"""`kdpose_jax.load`: poses as evaluation makes them, and a sentence for what cannot be used."""

import functools
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import stored_networks
from made_input import motion, picture
from repository import REPOSITORY

import kdpose_jax
from kdpose_jax.codecs import crops
from kdpose_jax.data import images
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import existing
from kdpose_jax.predict import batching
from kdpose_jax.skeletons import H36M_17, MPII_16

J = 17
# Random networks predict poses of several metres.
CLOSE = {"rtol": 1e-5, "atol": 3e-5}
LIFTERS = {
    "sparse": ("scjd", "demo", "student"),
    "poseformer": ("lifters", "poseformer_v2", "student"),
    "videopose": ("lifters", "videopose3d", "student"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> the folder of a run; made when it is first asked for."""
    made, top = {}, tmp_path_factory.mktemp("runs")

    def folder(name):
        if name not in made:
            preset = LIFTERS[name] if name in LIFTERS else ("cdkd", "demo", "student")
            made[name] = stored_networks.store_preset(top / name, *preset)
        return made[name]

    return folder


@pytest.fixture(scope="module")
def networks(folders):
    """Name -> the loaded network; loaded when it is first asked for."""
    loaded = {}

    def network(name):
        if name not in loaded:
            loaded[name] = kdpose_jax.load(folders(name))
        return loaded[name]

    return network


@functools.cache
def restored(folder):
    """The method and the variables of a run, by evaluation's own way."""
    run, _ = existing.find_run(folder, None)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    what = run.method.reads(run.config, run.stage, training=False)
    shape = {"image": (1, 32, 32, 3)}
    if "views" not in what:
        shape = {"keypoints_2d": (1, what["frames"] + sum(what["context"]), J, 2)}
    example = {
        name: jax.ShapeDtypeStruct(size, np.uint8 if name == "image" else np.float32)
        for name, size in shape.items()
    }
    trained = existing.restore(run, folder, example, device)
    predict = jax.jit(trained.method.predict)
    flipped = jax.jit(trained.method.predict_with_flip)
    return what, lambda batch, flip=False: jax.tree.map(
        np.asarray, (flipped if flip else predict)(trained.params, trained.model_state, batch)
    )


def lifted_by_loop(folder, video, flip=False):
    """Lifts a video frame by frame: each frame by the first window that has it, edges repeated."""
    what, predict = restored(folder)
    length, (before, after) = what["frames"], what["context"]
    poses, done = [], {}
    for frame in range(len(video)):
        start = frame // length * length
        if start + length > len(video):  # the last window ends with the video
            start = max(0, len(video) - length)
        if start not in done:
            rows = [
                min(max(number, 0), len(video) - 1)
                for number in range(start - before, start + length + after)
            ]
            done[start] = predict({"keypoints_2d": video[rows][None]}, flip)[0]
        poses.append(done[start][frame - start])
    return np.stack(poses)


@pytest.mark.parametrize("name", LIFTERS)
@pytest.mark.parametrize("frames", [1, 9, 31])
def test_every_frame_is_lifted_as_by_the_test_protocol(name, frames, folders, networks):
    video = motion(frames, seed=frames)
    wanted = lifted_by_loop(folders(name), video)
    found = networks(name)(video)
    assert found.shape == (frames, J, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, **CLOSE)
    assert np.abs(wanted).max() > 0.01  # the network says something


@pytest.mark.parametrize("name", LIFTERS)
def test_pieces_give_what_the_whole_video_gives(name, networks):
    network, video = networks(name), motion(47, seed=5)
    whole = network(video)
    for cuts in ([3, 4, 30], [20], list(range(1, 47))):
        streamed = list(network.blocks(iter(np.split(video, cuts))))
        np.testing.assert_allclose(np.concatenate(streamed), whole, **CLOSE)
    short = network.blocks([video[:2]])
    np.testing.assert_allclose(np.concatenate(list(short)), network(video[:2]), **CLOSE)
    with pytest.raises(UserError, match="no keypoints: give at least one frame"):
        list(network.blocks([]))
    with pytest.raises(UserError, match="give pieces of one video"):
        list(network.blocks([video[None]]))


def test_streaming_forgets_what_it_has_lifted(networks):
    """No call of the network gets more windows than its bound, and pieces are let go."""
    network = networks("sparse")
    sizes, compute = [], network._compute
    network._compute = lambda windows: sizes.append(len(windows)) or compute(windows)
    try:
        given = 0

        def pieces():
            nonlocal given
            for number in range(40):
                given += 9
                yield motion(9, seed=number)

        late = [given - 9 * (number + 1) for number, _ in enumerate(network.blocks(pieces()))]
    finally:
        network._compute = compute
    assert max(sizes) == 1 and max(late) <= 9


def test_batches_flip_pixels_and_names(folders, networks):
    network = networks("sparse")
    videos = motion(20, seed=2, videos=3)
    np.testing.assert_allclose(
        network(videos), np.stack([network(video) for video in videos]), **CLOSE
    )
    np.testing.assert_allclose(
        network(videos[0], flip=True),
        lifted_by_loop(folders("sparse"), videos[0], flip=True),
        **CLOSE,
    )
    width, height = 1280, 720
    pixels = (videos.astype(np.float64) + [1, height / width]) * width / 2
    np.testing.assert_allclose(network(pixels, size=(width, height)), network(videos), atol=1e-5)
    named = {joint: pixels[0, :, index] for index, joint in enumerate(H36M_17.joints)}
    backwards = dict(reversed(named.items()))
    np.testing.assert_allclose(
        network(backwards, size=(width, height)), network(videos[0]), atol=1e-5
    )


def test_what_a_network_says_of_itself(folders, networks):
    lifter, pictures = networks("sparse"), networks("pictures")
    assert (lifter.kind, lifter.units, lifter.frames) == ("lifter", "metres", 9)
    assert lifter.joints == H36M_17.joints and lifter.parents == H36M_17.parents
    about = lifter.description
    assert (about.keyframe_stride, about.keyframe_offset, about.predicted) == (3, 1, 9)
    assert (pictures.kind, pictures.units, pictures.frames) == ("pictures", "pixels", 1)
    assert pictures.skeleton == MPII_16 and pictures.description.side == 32
    assert networks("poseformer").description.input_shape == (9, J, 2)
    assert len(lifter.fingerprint) == 16 and lifter.fingerprint != pictures.fingerprint
    step = kdpose_jax.load(f"{folders('sparse')}/checkpoints/{stored_networks.STEP}")
    latest = kdpose_jax.load(f"{folders('sparse')}/latest")
    assert step.fingerprint == latest.fingerprint == lifter.fingerprint


def test_crops_of_the_networks_size_reach_it_unchanged(folders, networks):
    network, (_, predict) = networks("pictures"), restored(folders("pictures"))
    given = np.stack([picture(32, 32, seed) for seed in range(3)])
    for flip in (False, True):
        wanted = predict({"image": given}, flip)
        found = network(given, flip=flip)
        np.testing.assert_allclose(found.joints, wanted["joints"], atol=1e-4)
        np.testing.assert_allclose(found.scores, wanted["scores"], atol=1e-5)
    alone = network(given[1])
    assert alone.joints.shape == (16, 2) and alone.scores.shape == (16,)
    np.testing.assert_allclose(alone.joints, network(given).joints[1], atol=1e-4)


def test_boxes_are_cut_and_joints_mapped_back_as_in_evaluation(folders, networks):
    network, (_, predict) = networks("pictures"), restored(folders("pictures"))
    photograph = picture(120, 200)
    boxes = [[20, 10, 60, 90], [150, 30, 80, 40.5], [-10, -10, 30, 60]]
    found = network(photograph, boxes=boxes)
    for number, (x, y, width, height) in enumerate(boxes):
        side = 1.25 * max(width, height)
        left, top = x + width / 2 - side / 2, y + height / 2 - side / 2
        # Crop pixel i lies at left + i side / 32 of the photograph.
        back = np.asarray([[side / 32, 0, left], [0, side / 32, top]])
        crop = images.warp(photograph, back, 32)
        joints = predict({"image": crop[None]})["joints"][0]
        wanted = joints * side / 32 + [left, top]
        np.testing.assert_allclose(found.joints[number], wanted, atol=1e-3)
    assert network(photograph, boxes=[]).joints.shape == (0, 16, 2)
    big = network([picture(64, 48), picture(32, 32)])
    matrix = crops.crop_affine(np.asarray([24, 32]), np.asarray([0.32, 0.32]), 0.0, 32)
    crop = images.warp(picture(64, 48), crops.invert_affine(matrix), 32)
    wanted = predict({"image": crop[None]})["joints"][0] * 2 - [8, 0]
    np.testing.assert_allclose(big.joints[0], wanted, atol=1e-3)


@pytest.mark.parametrize("largest", [1, 7, 8, 64, 700])
def test_groups_hold_every_example_once(largest):
    for count in (*range(1, 30), 63, 64, 65, 500, 1111):
        listed = list(batching.groups(count, largest))
        assert [first for first, _, _ in listed] == list(
            np.cumsum([0, *(taken for _, taken, _ in listed)])[:-1]
        )
        assert sum(taken for _, taken, _ in listed) == count
        assert all(taken <= size <= max(2 * taken, 1) for _, taken, size in listed)
        assert {size for _, _, size in listed} <= {1, 8, 64, 512} - {0}
        assert max(size for _, _, size in listed) <= largest


WRONG = {
    "joints": (motion(5)[:, :16], {}, "16 joints, and 'sparse' reads the 17 of h36m_17"),
    "nan": (
        np.where(np.arange(5)[:, None, None] == 3, np.nan, motion(5)),
        {},
        "NaN or infinity in 17 place.*first in frame 3, joint 'hip'.*kdpose predict",
    ),
    "scores": (np.ones((5, J, 3)), {}, r"scores: give keypoints_2d\[\.\.\., :2\]"),
    "turned": (motion(5).swapaxes(-1, -2), {}, r"exchanged: give keypoints_2d.swapaxes\(-1, -2\)"),
    "exchanged": (motion(5).swapaxes(0, 1), {}, r"give keypoints_2d.swapaxes\(-2, -3\)"),
    "one frame": (motion(1)[0], {}, r"single frame: give keypoints_2d\[None\]"),
    "no frame": (motion(5)[:0], {}, "at least one frame"),
    "flat": (np.ones(34), {}, r"shape \(34,\): give \[frames, 17, 2\]"),
    "texts": (np.full((5, J, 2), "1"), {}, "type <U1"),
    "ragged": ([[1, 2], [3]], {}, "not an array"),
    "pixels without size": (motion(5) * 900, {}, "give pixels together with size"),
    "size zero": (motion(5) * 900, {"size": (0, 720)}, r"size is \(0, 720\): give .* width and"),
    "size alone": (motion(5) * 900, {"size": 1280}, "size is 1280: give"),
    "size broken": (motion(5) * 900, {"size": (float("nan"), 2)}, "size is"),
    "screen units with size": (motion(5), {"size": (1280, 720)}, "leave size out"),
    "a picture": (picture(32, 32), {}, "is a picture, and 'sparse' lifts 2D keypoints"),
    "names": ({"hip": motion(5)[:, 0]}, {}, "lacks right_hip, .*give exactly hip"),
    "a name too many": (
        {joint: motion(5)[:, 0] for joint in (*H36M_17.joints, "nose")},
        {},
        "has nose, and",
    ),
    "names of other lengths": (
        {joint: motion(5 + (joint == "neck"))[:, 0] for joint in H36M_17.joints},
        {},
        "joints of the shapes",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_keypoints_that_cannot_be_lifted_are_a_sentence(case, networks):
    keypoints, options, said = WRONG[case]
    with pytest.raises(UserError, match=said):
        networks("sparse")(keypoints, **options)


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (motion(5), {}, "looks like keypoints, and 'pictures' is a network for pictures"),
        (motion(5)[0], {}, "looks like keypoints"),
        (np.ones((32, 32), np.uint8), {}, r"give \[height, width, 3\]"),
        (np.ones((32, 32, 4), np.uint8), {}, "four channels"),
        (np.ones((32, 32, 3)), {}, "type float64: give uint8"),
        (np.ones((0, 32, 32, 3), np.uint8), {}, "no pictures"),
        ([], {}, "no pictures"),
        (7, {}, "type int"),
        (picture(32, 32), {"boxes": [[1, 2, 3]]}, r"boxes has shape \(1, 3\)"),
        (picture(32, 32), {"boxes": [[1, 2, 0, 5]]}, r"Box 0 is \[1.0, 2.0, 0.0, 5.0\]"),
        (picture(32, 32), {"boxes": [[1, 2, np.nan, 5]]}, "Box 0 is"),
        (picture(32, 32), {"boxes": "all"}, "not an array of numbers"),
        (picture(32, 32)[None], {"boxes": [[1, 2, 3, 5]]}, "A picture has shape"),
    ],
)
def test_pictures_that_cannot_be_used_are_a_sentence(given, options, said, networks):
    with pytest.raises(UserError, match=said):
        networks("pictures")(given, **options)


def test_what_cannot_be_loaded_is_a_sentence(tmp_path, folders):
    with pytest.raises(UserError, match="no folder or file"):
        kdpose_jax.load(tmp_path / "nothing")
    weights = tmp_path / "mixste.bin"
    weights.write_bytes(b"PK")
    with pytest.raises(UserError, match="says nothing of its data: .*config='scjd:h36m'"):
        kdpose_jax.load(weights)
    with pytest.raises(UserError, match="kdpose_jax.load: "):
        kdpose_jax.load(weights, config="scjd:demo")
    with pytest.raises(UserError, match="There is no config file 'scjt'"):
        kdpose_jax.load(weights, config="scjt")
    with pytest.raises(UserError, match="'.*' has .* and the config says"):
        kdpose_jax.load(folders("sparse"), config="scjd:demo")


def test_loading_needs_neither_tensorflow_nor_a_data_set(folders):
    program = (
        "import sys, numpy, kdpose_jax; "
        f"network = kdpose_jax.load({folders('sparse')!r}); "
        "assert network(numpy.zeros((4, 17, 2))).shape == (4, 17, 3); "
        "heavy = ('tensorflow', 'tensorflow_datasets', 'matplotlib'); "
        "sys.exit(', '.join(name for name in heavy if name in sys.modules) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
