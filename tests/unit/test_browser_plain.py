"""The page's network in plain JavaScript, run by Node.js, beside JAX."""

import json
import math
import shutil
import subprocess

import numpy as np
import pytest
import stored_networks
from tiny import get_config, run_of, run_on, shrink

from browser import build, plain
from browser.sample import sample_for
from kdpose_jax.codecs.poses import normalize_screen
from kdpose_jax.errors import UserError
from kdpose_jax.export.examples import at_random
from kdpose_jax.predict.loading import computation
from kdpose_jax.skeletons import MPII_16

METRES = 1e-5
NODE = shutil.which("node")
with_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
# Sizes that nothing fits by accident. A stride of 4 reads 3 of 11 frames.
NETWORK = {"width": 10, "heads": 5, "mlp_ratio": 1.5}
FRAMES = 11
# Name -> the fields of `student.input` that differ from the demo's.
SPARSE = {
    "linear_pose": {"stride": 4, "offset": 2, "ends": "extrapolate"},
    "linear_feat": {"stride": 4, "upsampling": "linear_feat"},
    "learned": {"stride": 4, "upsampling": "learned", "phase_augmentation": True},
    "cross_attn": {"stride": 4, "upsampling": "cross_attn"},
    "correlated": {"stride": 4, "selection": "correlated"},
    "one keyframe": {"stride": 11},
}


def odd(file, preset, frames):
    config = shrink(get_config(file, preset), {"frames": frames})
    config.student.network.update(NETWORK)
    return config


def sparse(name):
    changes = {"phase_augmentation": False} | SPARSE[name]
    config = odd("scjd", "demo", 12 if changes["phase_augmentation"] else FRAMES)
    config.student.input.update(changes)
    return run_on(config)


def dense():
    config = odd("lifters", "mixste", FRAMES)
    config.data.update({"skeleton": MPII_16.name, "joints": MPII_16.num_joints})
    return run_on(config)


RUNS = {"dense": dense} | {name: lambda name=name: sparse(name) for name in SPARSE}


def ignore(line):
    """Shows nothing."""


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A tiny student's run, which is small enough for plain JavaScript."""
    folder = tmp_path_factory.mktemp("plain") / "student"
    return stored_networks.store_preset(folder, "scjd", "demo", "student")


def by_jax(network, windows):
    """Poses of windows `[B, F, J, 2]` in screen units, by the network that was trained."""
    _, _, about, trained, mesh = network
    return computation(trained.method.predict, about, trained, mesh)(windows)[0]


@with_node
@pytest.mark.parametrize("name", RUNS)
def test_the_sample_is_lifted_as_by_jax(name, tmp_path):
    checkpoint = stored_networks.store(tmp_path / "network", RUNS[name]())
    network = plain.restore(checkpoint, ignore)
    clip, length = sample_for(network.about.layout)["file"], network.about.predicted
    points = normalize_screen(np.array(clip["keypoints_2d"], np.float32), *clip["size"])
    windows = points[: len(points) // length * length].reshape(-1, length, *points.shape[1:])
    wanted = by_jax(network, windows)
    poses, milliseconds = plain.run_in_node(NODE, plain.packed(network), windows)
    np.testing.assert_allclose(poses, wanted, rtol=0, atol=METRES)
    assert np.ptp(wanted, axis=0).max() > 100 * METRES  # the pose moves
    assert milliseconds > 0


@with_node
def test_large_logits(student):
    """A softmax takes logits whose exponentials overflow."""
    network = plain.restore(student, ignore)
    params = network.trained.params
    for kind in ("spatial", "temporal"):
        qkv = params["student"]["network"][f"{kind}_block_0"]["attention"]["qkv"]
        # All logits grow about alike.
        qkv["bias"] += np.repeat(np.float32([60, 60, 0]), len(qkv["bias"]) // 3)
    windows = at_random(network.about).compared[:4]
    poses, _ = plain.run_in_node(NODE, plain.packed(network), windows)
    wanted = by_jax(network, windows)
    assert np.isfinite(wanted).all()
    # Logits of 60 * 60 * 4 / 2 have steps of 5e-4 in float32, which JAX keeps them in.
    np.testing.assert_allclose(poses, wanted, rtol=0, atol=1e-2)


@with_node
def test_the_error_function():
    places = np.linspace(-8, 8, 20_001).tolist()
    code = f"{plain.script()}\nconsole.log(JSON.stringify({places}.map(erf)));"
    done = subprocess.run([NODE, "-"], input=code, capture_output=True, text=True, check=True)
    wanted = [math.erf(one) for one in places]
    np.testing.assert_allclose(json.loads(done.stdout), wanted, rtol=0, atol=2e-9)


@with_node
@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("mean /= width", "mean /= width + 1", "strays from JAX by up to .* not written"),
        (
            "const runtime",
            "throw new Error('too old'); const runtime",
            "cannot run the page's network .*: install Node.js 20",
        ),
    ],
)
def test_a_wrong_network_is_not_written(right, wrong, told, student, tmp_path, monkeypatch):
    code = plain.script()
    changed = code.replace(right, wrong)
    assert changed != code
    monkeypatch.setattr(plain, "script", lambda: changed)
    page = tmp_path / "page.html"
    with pytest.raises(UserError, match=told):
        build.build(student, "plain", str(page), ignore)
    assert not page.exists()


def test_a_page_without_node_says_that_nothing_was_compared(student, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = []
    page = build.build(student, "plain", "", lines.append)
    assert page.name == "student.html" and page.parent.name == "export"
    assert any("Node.js is not installed" in line for line in lines)
    written = page.read_text()
    assert "wasm" not in written.lower().replace("wasm-", "") and "script-src 'sha256-" in written


@pytest.mark.parametrize(
    ("most", "runtime"), [(plain.SMALL, "plain"), (10, "litert")], ids=["small", "large"]
)
def test_the_size_decides_about_the_runtime(most, runtime, student, monkeypatch):
    monkeypatch.setattr(plain, "SMALL", most)
    for name in build.RUNTIMES:
        monkeypatch.setattr(getattr(build, name), "ready", lambda *_, name=name: name)
    lines = []
    assert build.made_ready(student, "", lines.append) == runtime
    assert f"runtime: {runtime}, as " in lines[0] and f" {most:,} (" in lines[0]
    assert build.made_ready(student, "plain", ignore) == "plain"
    assert build.made_ready(student, "litert", ignore) == "litert"
    assert build.made_ready("somewhere/student.tflite", "", ignore) == "litert"


def test_networks_that_plain_javascript_does_not_run(tmp_path, monkeypatch, capsys):
    videopose, pictures = (
        stored_networks.store(tmp_path / file, run_of(file, preset, "student"))
        for file, preset in (("lifters", "videopose3d"), ("cdkd", "demo"))
    )
    for checkpoint, told in (
        (videopose, "runs mixste, and the network of"),
        (pictures, "is a network for pictures, and the page lifts keypoints: name a lifter"),
        (str(tmp_path / "x.tflite"), "name the run's folder, or use --runtime litert"),
        (str(tmp_path / "nothing"), "nothing"),
    ):
        assert build.main(["--checkpoint", checkpoint, "--runtime", "plain"]) == 2
        assert told in capsys.readouterr().err
    monkeypatch.setattr(build.litert, "ready", lambda *_: "litert")
    assert build.made_ready(videopose, "", ignore) == "litert"
