"""The page that runs a network in the browser, in headless Chromium, beside the network itself."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import stored_networks
from moving import masked, person, video

import kdpose_jax
from browser import build, litert
from browser.sample import sample_for
from kdpose_jax.errors import UserError
from kdpose_jax.export.formats import table
from kdpose_jax.keypoints.formats.recognise import read_keypoints
from kdpose_jax.poses.trajectory import ROOTS
from kdpose_jax.poses.writers import outputs
from kdpose_jax.poses.writers.table import WritingOptions
from kdpose_jax.predict import sequences
from kdpose_jax.predict.request import LiftingOptions
from kdpose_jax.skeletons import COCO_17, H36M_17, MPII_16

METRES = 1e-4
KEYFRAMES = "[player.scene.keyframe_stride, player.scene.keyframe_offset]"
FPS, SIZE = 25, (1280, 720)
AS_THEY_ARE = LiftingOptions(person=None, gap=0.5, score=0.0, rate=None, flip=False, overlap=False)
# Name -> preset, and what runs it. All files are opened in the first one, which needs no package.
PAGES = {
    "plain": (("scjd", "demo", "student"), "plain"),
    "sparse": (("scjd", "demo", "student"), "litert"),
    "videopose": (("lifters", "videopose3d", "student"), "litert"),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The name of a page -> its network's run and the page."""
    top, done = tmp_path_factory.mktemp("browser"), {}

    def build_one(name):
        preset, runtime = PAGES[name]
        if runtime == "litert":
            skip_without_litert()
        if name not in done:
            run = stored_networks.store_preset(top / name, *preset)
            done[name] = run, build.build(run, runtime, "", print)
        return done[name]

    return build_one


def skip_without_litert():
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    try:
        table.require_packages("litert", to_write=True)
        litert.install(print)
    except UserError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def demo(built, page):
    """Opens a network's page and waits for its sample; nothing may be said or asked for."""

    def opened(name="plain"):
        run, file = built(name)
        page.media(prefers_reduced_motion="reduce")
        page.open(file)
        wait(page)
        return kdpose_jax.load(run)

    yield opened
    assert page.said == []
    assert [one for one in page.requests if not one.startswith(("file:", "data:", "blob:"))] == []


def wait(page):
    """Waits until every window has its poses."""
    page.run(
        "new Promise((done) => { const look = () => (window.demo.clip && !window.demo.left "
        "|| !window.demo.part('refusal').hidden ? done() : setTimeout(look, 20)); look(); })"
    )
    assert page.run("demo.part('refusal').textContent") == ""


def give(page, file):
    """Chooses a file, as a user does."""
    page.run("{ demo.before = demo.clip; demo.part('refusal').textContent = ''; }")
    root = page.order("DOM.getDocument")["root"]["nodeId"]
    found = page.order("DOM.querySelector", nodeId=root, selector=".file")["nodeId"]
    page.order("DOM.setFileInputFiles", nodeId=found, files=[str(file)])
    page.run(
        "new Promise((done) => { const look = () => (demo.clip !== demo.before "
        "|| demo.part('refusal').textContent ? done() : setTimeout(look, 20)); look(); })"
    )


def in_page(page):
    """(first frame, poses `[T, J, 3]`, keypoints `[T, J, 2]`) of every person."""
    found = page.run(
        "player.scene.persons.map(({ first, frames, network }) => [first, frames, "
        "Array.from(network.space, (one) => (Number.isNaN(one) ? null : one)), "
        "Array.from(network.picture, (one) => (Number.isNaN(one) ? null : one))])"
    )
    return [
        (
            first,
            np.array(space, float).reshape(frames, -1, 3),
            np.array(picture, float).reshape(frames, -1, 2),
        )
        for first, frames, space, picture in found
    ]


def by_this_program(file, network, **reading):
    """What `kdpose predict` makes of a file.

    (first frame, poses, keypoints) of every person; (stride, first one) of the keyframes.
    """
    keypoints = read_keypoints(str(file), **reading)
    ready = sequences.prepare(keypoints, network, AS_THEY_ARE, "it")
    keyframes = [ready.about.keyframe_stride, ready.about.keyframe_offset]
    persons = {}
    for block in sequences.lift(ready, network, AS_THEY_ARE):
        for one in block.persons:
            persons.setdefault(one.name, []).append(one)
    found = [
        (
            parts[0].first_frame,
            np.concatenate([part.pose_3d for part in parts]),
            np.concatenate([part.keypoints_2d for part in parts]),
        )
        for parts in persons.values()
    ]
    return found, keyframes


def agree(found, wanted):
    assert len(found) == len(wanted)
    for (first, space, picture), (wanted_first, wanted_space, wanted_picture) in zip(
        found, wanted, strict=True
    ):
        assert first == wanted_first
        np.testing.assert_allclose(picture, wanted_picture, atol=1e-3)
        np.testing.assert_allclose(space, wanted_space, rtol=1e-6, atol=METRES)


@pytest.mark.parametrize("name", list(PAGES))
def test_the_sample_is_lifted_as_by_the_network(name, demo, page):
    network = demo(name)
    sample = sample_for(H36M_17)
    points = np.array(sample["file"]["keypoints_2d"])
    wanted = network(points, size=tuple(sample["file"]["size"]))
    [(first, space, _)] = in_page(page)
    assert first == 0
    np.testing.assert_allclose(space, wanted, rtol=1e-6, atol=METRES)
    # Three frames in the middle of which the student reads one.
    assert page.run(KEYFRAMES) == ([1, 0] if name == "videopose" else [3, 1])
    assert page.run("/^\\d+\\.\\d ms for /.test(demo.part('pace').textContent)")
    # The curve of errors is the distance from the true pose.
    shown = np.array(page.run("Array.from(player.charts.errors.curves[0].values)"))
    apart = np.linalg.norm(wanted - np.array(sample["truth"]), axis=-1).mean(-1)
    np.testing.assert_allclose(shown, 1000 * apart, rtol=1e-3, atol=0.1)


def coco_results(tmp_path):
    """COCO results: gaps that are short and long, further persons, pictures without order."""
    rng = np.random.default_rng(0)
    points = person(1, 60, skeleton=COCO_17).keypoints_2d.astype(float)
    entries = []
    for frame in rng.permutation(60):
        if 30 <= frame < 50:
            continue  # a long gap
        rows = np.concatenate([points[frame], np.full((17, 1), 0.8)], axis=1)
        if 10 <= frame < 14:
            rows[9] = 0  # a short gap of the left wrist
        flat = rows.round(3).ravel().tolist()
        entry = {"image_id": int(frame) + 3, "category_id": 1, "keypoints": flat, "score": 0.9}
        entries.append(entry)
        if frame % 7 == 0:
            far = (rows + [40, 20, 0]).ravel().tolist()
            entries.append({**entry, "keypoints": far, "score": 0.4})
    return entries, points


def test_results_of_a_detector(demo, page, tmp_path):
    network = demo()
    entries, _ = coco_results(tmp_path)
    file = tmp_path / "results.json"
    file.write_text(json.dumps(entries))
    give(page, file)
    assert "fill in width and height" in page.run("demo.part('refusal').textContent")
    page.run(
        f"for (const [name, value] of [['width', {SIZE[0]}], ['height', {SIZE[1]}], "
        f"['rate', {FPS}]]) demo.part(name).value = value;"
    )
    give(page, file)
    wait(page)
    alone = [one for one in entries if one["score"] > 0.5]  # the page shows one person
    (tmp_path / "alone.json").write_text(json.dumps(alone))
    wanted, keyframes = by_this_program(tmp_path / "alone.json", network, size=SIZE, fps=FPS)
    agree(in_page(page), wanted)
    assert page.run(KEYFRAMES) == keyframes == [1, 0]  # two stretches have different ones
    notes = page.run("demo.part('notes').textContent")
    further = len(entries) - len(alone)
    assert f"{further} further persons were left out" in notes and "20 frames have no pose" in notes
    assert "hip from the middle of the hips" in notes.replace("pelvis", "hip")


def test_the_json_of_predict_with_two_persons_and_masks(demo, page, tmp_path):
    network = demo()
    # The second one is shorter than a window.
    poses = video(
        masked(person(1, 70, first=4), slice(20, 40)), person(2, 9, name="two", first=30), length=80
    )
    options = WritingOptions(height=None, root=ROOTS[0], focal=None, frames=None)
    [file] = outputs.write(poses, tmp_path / "clip", ["json"], options).paths
    give(page, str(file))
    wait(page)
    wanted = []
    for one in poses.persons:
        space = np.full((len(one.valid), 17, 3), np.nan)
        for part in np.split(np.arange(len(one.valid)), np.flatnonzero(np.diff(one.valid)) + 1):
            if one.valid[part[0]]:
                space[part] = network(one.keypoints_2d[part].round(2), size=poses.size)
        wanted.append((one.first_frame, space, one.keypoints_2d))
    found = in_page(page)
    for (first, space, _), (wanted_first, wanted_space, _) in zip(found, wanted, strict=True):
        assert first == wanted_first
        np.testing.assert_allclose(space, wanted_space, rtol=1e-3, atol=3e-3)  # 0.01 px
    assert page.run("player.scene.fps") == 25 and page.run("player.scene.size") == [1280, 720]


def plain(**changes):
    points = person(1, 5).keypoints_2d.astype(float).tolist()
    content = {"size": SIZE, "fps": FPS, "joints": list(H36M_17.joints), "keypoints_2d": points}
    return json.dumps(content | changes)


REFUSED = {
    "[": "is not JSON",
    "{}": "has no keypoints that this page reads",
    "null": "has no keypoints that this page reads",
    "[]": "has no keypoints that this page reads",
    '[{"keypoints": [1]}]': "without a number in its image_id",
    '[{"image_id": 1, "keypoints": [1, 2, 3]}]': "has 1 joints for a person",
    '[{"image_id": "a/1.jpg", "keypoints": []}, {"image_id": "b/2.jpg", "keypoints": []}]': (
        'has pictures of 2 folders ("a/" and "b/")'
    ),
    plain(size=[0, 5]): "The size of the video is [0,5]: give whole pixels",
    plain(size="big"): 'The size of the video is "big"',
    plain(fps=0): "The rate is 0: give frames per second",
    plain(fps="many"): 'The rate is "many"',
    plain(joints=["a", "b"]): "names 2 joints and has 17 in frame 0",
    plain(joints="h36m_16"): "name each joint once",
    plain(joints=["hip"] * 17): "name each joint once",
    plain(joints=[f"j{n}" for n in range(17)]): "which are neither the network's",
    plain(keypoints_2d=[]): "has nobody in it",
    plain(keypoints_2d=[[["1", "2"]] * 17]): "has no frame with all 17 joints",
    plain(keypoints_2d=[[[0, 0]] * 17]): "has no frame with all 17 joints",
    plain(keypoints_2d=[[[-1, -1]] * 17]): "has no frame with all 17 joints",
    plain(keypoints_2d=[[[None, 2]] * 17] * 3): "has no frame with all 17 joints",
    plain(keypoints_2d=[[[0.5, 0.25]] * 17]): "which are not pixels of a video of 1280 x 720",
    plain(keypoints_2d=[[[5000, 4000]] * 17]): "100 % of its coordinates outside",
    '{"persons": []}': "name each joint once",
    '{"persons": [{}]}': "is damaged",
    '{"persons": 5}': "has no keypoints that this page reads",
}


def test_bad_files_give_a_sentence_and_the_clip_stays(demo, page, tmp_path):
    demo()
    for number, (content, told) in enumerate(REFUSED.items()):
        file = tmp_path / f"{number}.json"
        file.write_text(content)
        give(page, file)
        assert told in page.run("demo.part('refusal').textContent"), content[:80]
        assert page.run("demo.clip === demo.before")
    page.run("demo.part('sample').click()")
    assert page.run("demo.part('refusal').hidden")


def test_the_network_runs_as_the_player_comes_to_a_window(demo, page):
    demo()
    page.run(
        "{ demo.runs = 0; const { run } = demo; "
        "demo.run = (given) => { demo.runs += 1; return run(given); }; }"
    )
    page.run("player.seek(0)")
    pause = "new Promise((done) => setTimeout(done, 120))"
    page.run(pause)
    before = page.run("demo.runs")
    page.run("player.seek(player.scene.frames - 1)")
    page.run(pause)
    assert page.run("demo.runs") == before + 1


def test_a_network_for_pictures_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x.tflite").touch()
    about = SimpleNamespace(kind="pictures")
    monkeypatch.setattr(litert.artifacts, "read_sidecar", lambda path: ({}, about))
    with pytest.raises(UserError, match="is a network for pictures, and the page lifts keypoints"):
        litert.checked(str(tmp_path / "x.tflite"))


def test_samples_fit_other_joints_where_they_can_be_made():
    sample = sample_for(MPII_16)
    assert sample["truth"] is None and sample["file"]["joints"] == list(MPII_16.joints)
    assert np.array(sample["file"]["keypoints_2d"]).shape == (200, 16, 2)
    assert sample_for(COCO_17) is None  # Human3.6M has no ears


def test_mistakes_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(litert, "install", None)  # mistakes are found before anything is installed
    (tmp_path / "x.bin").touch()
    for name, told in (
        ("x.onnx", "the page runs litert, litert_float16, litert_int8_dynamic"),
        ("x.int8.tflite", "the page runs litert"),
        ("x.tflite", "There is no"),
        ("x.bin", "name the .tflite file"),
    ):
        assert build.main(["--checkpoint", str(tmp_path / name)]) == 2
        assert told in capsys.readouterr().err


def test_npm_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(litert, "MODULES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs npm, which is not installed: install Node.js"):
        litert.install(print)
