"""Pages of poses in a headless browser: they draw what they hold, and answer keys and pointers."""

import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest
from moving import masked, person, picture_video, video

from kdpose_jax.page.poses_page import write_poses_page

CALM = {"prefers_reduced_motion": "reduce", "prefers_color_scheme": "light"}
FRAMES = 40
LEFT_WRIST, RIGHT_WRIST = 13, 16


@pytest.fixture(autouse=True)
def nothing_went_wrong(page):
    yield
    assert page.said == []
    assert [one for one in page.requests if not one.startswith(("file:", "data:", "blob:"))] == []


def opened(page, tmp_path, poses, *, width=1280, features=CALM, **overlays):
    path = tmp_path / "page.html"
    write_poses_page(path, poses, title="a walk", **overlays)
    page.media(**features)
    page.open(path, width=width)
    return page


def walk(**changes):
    return video(dataclasses.replace(person(0, FRAMES), **changes), length=FRAMES)


def text_of(page, selector):
    return page.run(
        f"document.querySelector({selector!r}).textContent.replace(/\\s+/g, ' ').trim()"
    )


def pick(page, name, value):
    """Chooses from a list."""
    page.run(
        f"{{ const list = player.part('{name}'); list.value = '{value}'; "
        "list.dispatchEvent(new Event('change')); }"
    )


def box_of(page, name):
    """Left, top, width and height of an element in the window, CSS pixels."""
    return page.run(
        "(({left, top, width, height}) => [left, top, width, height])"
        f"(document.querySelector('.{name}').getBoundingClientRect())"
    )


def pixel(page, canvas, spot):
    """The colour that a canvas has at a spot in CSS pixels: red, green, blue, alpha."""
    x, y = spot[:2]
    return page.run(
        "{ const copy = document.createElement('canvas').getContext('2d', "
        "{ willReadFrequently: true }); "
        f"copy.drawImage(document.querySelector('.{canvas}'), {-round(x)}, {-round(y)}); "
        "Array.from(copy.getImageData(0, 0, 1, 1).data); }"
    )


def colour(page, name):
    """One of the style's colours, as a canvas writes it."""
    text = page.run(f"player.look.{name}").lstrip("#")
    text = text if len(text) == 6 else "".join(2 * one for one in text)
    return [*bytes.fromhex(text), 255]


def spots_in_space(pose, box, view, height):
    """Where joints belong on the canvas: rotation matrices and a pinhole, for one person."""
    width, high = box
    grounded = pose - [0, pose[:, 1].max(), 0] + [0, height / 2, 0]
    yaw, pitch = view["yaw"], view["pitch"]
    turn = np.array(
        [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
    )
    tilt = np.array(
        [[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]]
    )
    x, y, z = (tilt @ turn @ grounded.T).astype(float)
    away = max(5, 3 * height)
    focal = view["zoom"] * min(high / (1.35 * height), width / (1.2 * height)) * away
    return np.stack([width / 2 + focal * x / (away + z), high / 2 + focal * y / (away + z)], -1)


@pytest.mark.parametrize("frame", [0, 17, FRAMES - 1])
def test_scrubbing_moves_the_joints_to_the_right_pixels(page, tmp_path, frame):
    poses = walk()
    opened(page, tmp_path, poses)
    page.run(
        "{ const slider = document.querySelector('.slider'); "
        f"slider.value = {frame}; slider.dispatchEvent(new Event('input')); }}"
    )
    assert text_of(page, ".now") == f"frame {frame}, {frame / 25:.2f} s"
    box = page.run("[player.part('space').clientWidth, player.part('space').clientHeight]")
    view, height = page.run("player.view"), page.run("player.height")
    spans = np.ptp(poses.persons[0].pose_3d[..., 1], axis=1)
    assert height == pytest.approx(np.sort(spans)[round(0.95 * (FRAMES - 1))], abs=0.002)
    wanted = spots_in_space(poses.persons[0].pose_3d[frame], box, view, height)
    drawn = np.array(page.run("player.spots.space"))[:, :2]
    np.testing.assert_allclose(drawn, wanted, atol=0.5)
    # The wrists are ends, which no other bone need cover; one of three joints may be hidden.
    hits = [
        pixel(page, "space", wanted[joint]) == colour(page, side)
        for joint, side in ((LEFT_WRIST, "left"), (RIGHT_WRIST, "right"), (6, "left"))
    ]
    assert sum(hits) >= 2


def test_the_picture_is_to_scale(page, tmp_path):
    poses = walk()
    opened(page, tmp_path, poses)
    page.run("player.seek(11)")
    drawn = np.array(page.run("player.spots.picture"))
    given = poses.persons[0].keypoints_2d[11]
    # One scale and one shift for all joints and both axes.
    design = np.concatenate(
        [
            np.stack([given[:, 0], np.ones(17), np.zeros(17)], 1),
            np.stack([given[:, 1], np.zeros(17), np.ones(17)], 1),
        ]
    )
    target = np.concatenate([drawn[:, 0], drawn[:, 1]])
    solved, residual, *_ = np.linalg.lstsq(design, target, rcond=None)
    assert solved[0] > 0.3 and np.sqrt(residual[0] / len(target)) < 0.1
    page.run("document.querySelector('.whole').click()")
    whole = np.array(page.run("player.spots.picture"))
    width, high = page.run(
        "[player.part('picture').clientWidth, player.part('picture').clientHeight]"
    )
    scale = min(width / (1.06 * 1280), high / (1.06 * 720))
    np.testing.assert_allclose(
        whole, [width / 2, high / 2] + (given - [640, 360]) * scale, atol=0.1
    )


def test_keys(page, tmp_path):
    opened(page, tmp_path, walk())
    frames = []
    for key in (
        "End",
        "ArrowRight",
        "ArrowLeft",
        "ArrowLeft",
        "Home",
        "ArrowRight",
        "ArrowLeft",
        "ArrowLeft",
    ):
        page.key(key)
        frames.append(page.run("player.frame"))
    assert frames == [39, 39, 38, 37, 0, 1, 0, 0]
    zooms = []
    for key in ("+", "=", "-"):
        page.key(key)
        zooms.append(page.run("player.view.zoom"))
    assert zooms == pytest.approx([1.2, 1.44, 1.2])
    before = page.run("player.view")
    for key in ("ArrowRight", "ArrowUp"):
        page.key(key, shift=True)
    after = page.run("player.view")
    assert [after[name] - before[name] for name in ("yaw", "pitch")] == pytest.approx([0.1, 0.1])
    assert page.run("player.frame") == 0
    page.key(" ")
    assert page.run("player.playing") and text_of(page, ".play") == "Pause"
    page.key(" ")
    assert not page.run("player.playing")


def test_controls_keep_their_own_keys(page, tmp_path):
    opened(page, tmp_path, walk())
    page.run("document.querySelector('.slider').focus()")
    page.key("ArrowRight")
    assert page.run("player.frame") == 1  # once, by the slider itself
    page.run("document.querySelector('.play').focus()")
    page.order(
        "Input.dispatchKeyEvent",
        type="keyDown",
        key=" ",
        code="Space",
        text=" ",
        windowsVirtualKeyCode=32,
    )
    page.order(
        "Input.dispatchKeyEvent", type="keyUp", key=" ", code="Space", windowsVirtualKeyCode=32
    )
    assert page.run("player.playing")  # once, by the button itself
    page.run("player.play(false); document.querySelector('.speed').focus()")
    page.key("End")
    assert page.run("player.frame") < 39


def test_it_plays_at_its_speed_unless_the_user_wants_little_motion(page, tmp_path):
    opened(page, tmp_path, walk())
    assert not page.run("player.playing")
    opened(
        page,
        tmp_path,
        video(person(0, 3000), length=3000),
        features={"prefers_reduced_motion": "no-preference"},
    )
    assert page.run("player.playing")
    measured = "new Promise((done) => { const from = [player.position, performance.now()];"
    measured += "setTimeout(() => requestAnimationFrame((now) => done((player.position - from[0]) /"
    measured += "(performance.now() - from[1]) * 1000)), 600); })"
    assert page.run(measured) == pytest.approx(25, rel=0.2)
    pick(page, "speed", 2)
    assert page.run(measured) == pytest.approx(50, rel=0.2)


def test_dragging_turns_and_curves_scrub(page, tmp_path):
    opened(page, tmp_path, walk())
    before = page.run("player.view")
    left, top, width, height = box_of(page, "space")
    x, y = left + width / 2, top + height / 2
    page.mouse("mousePressed", x, y)
    page.mouse("mouseMoved", x + 50, y + 20)
    page.mouse("mouseReleased", x + 50, y + 20, held=False)
    after = page.run("player.view")
    assert [after[name] - before[name] for name in ("yaw", "pitch")] == pytest.approx([0.5, 0.2])
    page.mouse("mouseMoved", x + 90, y, held=False)
    assert page.run("player.view") == after
    page.run("document.querySelector('.angles').scrollIntoView()")
    left, top, width, _ = box_of(page, "angles")
    page.mouse("mousePressed", left + 46 + (width - 4 - 46) * 20 / 39, top + 40)
    assert page.run("player.frame") == 20


def angle(first, middle, last):
    one, other = first - middle, last - middle
    return np.degrees(np.arccos(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))


def test_curves_show_angles_and_errors(page, tmp_path):
    one, other = person(0, FRAMES), masked(person(1, FRAMES), slice(5, 8))
    opened(
        page,
        tmp_path,
        video(one, length=FRAMES),
        truth=video(other, length=FRAMES),
        teacher=video(person(2, FRAMES), length=FRAMES),
    )
    page.run("player.seek(12)")
    curves = page.run(
        "player.charts.angles.curves.map((one) => ({...one, values: Array.from(one.values)}))"
    )
    assert [(curve["name"], curve["colour"]) for curve in curves[:2]] == [
        ("left", "left"),
        ("right", "right"),
    ]
    for curve, joints in ((curves[0], (4, 5, 6)), (curves[1], (1, 2, 3))):
        wanted = [angle(*pose[list(joints)].astype(float)) for pose in one.pose_3d]
        np.testing.assert_allclose(curve["values"], wanted, atol=0.5)
    number = "(value) => Number.isFinite(value) ? value : null"
    errors = page.run(
        f"player.charts.errors.curves.map(({{values}}) => Array.from(values, {number}))"
    )
    _, truth = errors
    assert truth[5:8] == [None] * 3
    distance = 1000 * np.linalg.norm(one.pose_3d - other.pose_3d, axis=-1).mean(-1)
    np.testing.assert_allclose(truth[8:], distance[8:], atol=1)
    assert text_of(page, ".of-errors .values").endswith(f"truth {truth[12]:.0f} mm")
    page.run("document.querySelector('.only-truth input').click()")
    assert len(page.run("player.charts.errors.curves.map((one) => one.name)")) == 1


def test_ticks_begin_at_the_first_keyframe(page, tmp_path):
    shown = dataclasses.replace(video(person(0, FRAMES), length=FRAMES), keyframe_offset=4)
    opened(page, tmp_path, shown)
    left, right = 46, page.run("document.querySelector('.ticks').clientWidth") - 4
    across = [left + (right - left) * frame / (FRAMES - 1) for frame in range(FRAMES)]
    inked = [pixel(page, "ticks", (x, 8))[3] > 0 for x in across]
    assert [frame for frame in range(FRAMES) if inked[frame]] == list(range(4, FRAMES, 9))


def test_gaps_keyframes_and_low_scores(page, tmp_path):
    one = masked(person(0, FRAMES), slice(10, 20))
    one.scores[25, LEFT_WRIST] = 0.05
    one.seen[26, LEFT_WRIST] = False
    opened(page, tmp_path, video(one, length=FRAMES))
    assert page.run("player.gaps") == [10 <= frame < 20 for frame in range(FRAMES)]
    left, right = 46, page.run("document.querySelector('.ticks').clientWidth") - 4
    across = [left + (right - left) * frame / (FRAMES - 1) for frame in range(FRAMES)]
    # A bar over the gap, and a tick of half the height at frames 0, 9, 18, ...
    alphas = [pixel(page, "ticks", (x, 1))[3] for x in across]
    assert [alpha > 0 for alpha in alphas] == [10 <= frame < 20 for frame in range(FRAMES)]
    inked = [pixel(page, "ticks", (x, 8))[3] > 0 for x in across]
    assert [frame for frame in range(FRAMES) if inked[frame]] == [0, 9, *range(10, 20), 27, 36]
    page.run("player.seek(12)")
    assert page.run("player.spots.space.every((spot) => spot === null)")
    strengths = page.run(
        "[24, 25, 26].map((frame) => styleOf(player.scene, player.person, frame, 3, 1))"
    )
    assert [one["strength"][LEFT_WRIST] for one in strengths] == pytest.approx(
        [1, 0.3, 1], abs=0.01
    )
    assert [one["hollow"][LEFT_WRIST] for one in strengths] == [False, False, True]


def test_persons_are_chosen(page, tmp_path):
    names = ["</script ><script>window.broken = 1</script ><b>anna</b>", "ben"]
    persons = [
        person(0, 30, name=names[0]),
        person(1, 20, name=names[1], first=10, centre=(200, 300)),
    ]
    opened(page, tmp_path, video(*persons, length=30))
    assert (
        page.run("Array.from(document.querySelector('.person').options, (one) => one.text)")
        == names
    )
    assert page.run("window.broken === undefined && document.querySelector('b') === null")
    pick(page, "person", 1)
    page.run("player.seek(5)")
    assert page.run("player.spots.space.every((spot) => spot === null)")
    page.run("player.seek(15)")
    beside = np.array(page.run("player.spots.space"))[0]
    page.run("document.querySelector('.others').click()")
    alone = np.array(page.run("player.spots.space"))[0]
    assert beside[0] < alone[0] - 20  # ben is left in the picture, so he stands left in space
    assert page.run("document.querySelector('.beside').hidden")


def test_downloads_hold_the_poses(page, tmp_path):
    one = masked(person(0, 12, name='an,"na', first=3), slice(4, 6))
    truth = person(1, 12, first=3)
    opened(page, tmp_path, video(one, length=15, notes=("so",)), truth=video(truth, length=15))
    rows = list(csv.DictReader(io.StringIO(page.run("csvOf(player.scene)"))))
    assert len(rows) == 12 * 17
    document = json.loads(page.run("jsonOf(player.scene, player.clip.about)"))
    (written,) = document["persons"]
    assert document["notes"] == ["so"] and written["frames"] == list(range(3, 15))
    for number, row in enumerate(rows):
        frame, joint = divmod(number, 17)
        assert (int(row["frame"]), row["person"]) == (frame + 3, 'an,"na')
        assert row["joint"] == document["joints"][joint]
        for values, keys in (
            (one.pose_3d[frame, joint], ("x_m", "y_m", "z_m")),
            (truth.pose_3d[frame, joint], ("truth_x_m", "truth_y_m", "truth_z_m")),
        ):
            found = [float(row[key] or "nan") for key in keys]
            np.testing.assert_allclose(found, values, atol=0.00056)
        assert bool(int(row["seen"])) == one.seen[frame, joint]
        in_json = written["pose_3d_m"][frame][joint]
        assert (
            [str(value) for value in in_json] == ["None"] * 3
            if frame in (4, 5)
            else in_json == pytest.approx(one.pose_3d[frame, joint], abs=0.00056)
        )
    page.run("document.querySelector('.csv').click()")


def test_a_network_of_pictures_has_no_space(page, tmp_path):
    opened(page, tmp_path, picture_video())
    assert page.run("document.querySelector('.space').offsetParent === null")
    assert page.run("player.charts.angles.curves.length") == 2


def test_dark_print_and_narrow(page, tmp_path):
    opened(page, tmp_path, walk(), features={**CALM, "prefers_color_scheme": "dark"})
    dark = page.run("getComputedStyle(document.body).backgroundColor")
    assert dark == "rgb(20, 21, 24)" and page.run("player.look.left") == "#58b0f0"
    page.run(
        "window.printed = []; addEventListener('beforeprint', () => printed.push(player.look.left))"
    )
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF") and len(pdf) > 10_000
    assert page.run("printed") == ["#0b6fb8"]  # paper is white
    assert page.run("player.look.left") == "#58b0f0"
    page.media("print", **CALM)
    assert page.run("document.querySelector('.slider').offsetParent === null")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert [box_of(page, name)[3] for name in ("space", "angles", "ticks")] == [240, 100, 12]
    for width in (375, 1600):
        opened(page, tmp_path, walk(), width=width)
        assert page.run("document.documentElement.scrollWidth") <= width


def test_controls_have_names(page, tmp_path):
    one = person(0, 20)
    opened(page, tmp_path, video(one, person(1, 20), length=20), truth=video(one, one, length=20))
    page.run("document.querySelector('details').open = true") if page.run(
        "!!document.querySelector('details')"
    ) else None
    tree = page.order("Accessibility.getFullAXTree")["nodes"]
    wanted = ("button", "slider", "combobox", "checkbox", "image", "img")
    nameless = [
        node
        for node in tree
        if node.get("role", {}).get("value") in wanted and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    assert (
        page.run("document.querySelector('.slider').getAttribute('aria-valuetext')")
        == "frame 0, 0.00 s"
    )
