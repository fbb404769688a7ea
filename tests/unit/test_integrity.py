"""Checkpoints whose files have changed on the disk."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdpose_jax.checkpoint import integrity, teacher
from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.errors import UserError


def open_checkpoints(directory):
    return Checkpoints(directory, keep_latest=3, keep_best=0, best_metric="error", best_is_lowest=True, asynchronous=True)


def state(step):
    return {"params": {"student": {"kernel": jnp.arange(64.0) + step}}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints of steps 1, 2 and 3."""
    run = tmp_path_factory.mktemp("run")
    checkpoints = open_checkpoints(run / "checkpoints")
    for step in (1, 2, 3):
        checkpoints.save(step, state(step), {}, {"error": float(step)})
    checkpoints.close()
    return run


@pytest.fixture
def run(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def newest(run):
    checkpoints = open_checkpoints(run / "checkpoints")
    wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state(0))
    try:
        return float(checkpoints.restore(wanted)[0]["params"]["student"]["kernel"][0])
    finally:
        checkpoints.close()


def test_every_file_is_covered(run):
    """A flipped bit, a missing byte or a missing file anywhere but in Orbax's marks of the commit."""
    step = run / "checkpoints" / "3"
    files = [path for path in sorted(step.rglob("*")) if path.is_file() and path.name != "commit_success.txt"]
    assert len(files) > 8 and integrity.damage(step) is None
    for path in files:
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[0] ^= 16
        for damaged in (bytes(flipped), content[:-1], b""):
            path.write_bytes(damaged)
            assert integrity.damage(step) is not None, (path, len(damaged))
        path.unlink()
        assert path.name == "checksums.json" or integrity.damage(step) is not None, path
        path.write_bytes(content)
    assert integrity.damage(step) is None


def flip_data(step_directory):
    """Flips one bit in the middle of the arrays' bytes."""
    path = max((path for path in (step_directory / "state").rglob("d/*")), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damaged_checkpoint_is_named(run):
    flip_data(run / "checkpoints" / "3")
    with pytest.raises(UserError, match=r"step 3 in .*checkpoints is damaged \(state/.*d/.* is not what was written\)"):
        newest(run)
    one_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {"params": {"student": {"kernel": jax.ShapeDtypeStruct((64,), jnp.float32, sharding=one_device)}}}
    with pytest.raises(UserError, match="step 3 in .* is damaged"):
        teacher.load_variables(run, wanted, which="latest", prefer_ema=False)
    assert teacher.load_variables(run, wanted, which="best", prefer_ema=False)[2] == 1  # that one is whole


def test_damaged_newest_checkpoints_are_set_aside_and_said(run):
    said = []
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert not said and newest(run) == 3
    flip_data(run / "checkpoints" / "3")
    (run / "checkpoints" / "2" / "metrics" / "metrics").write_text("{")  # as Orbax would not even open
    before = (run / "checkpoints" / "3" / "state" / "_METADATA").read_bytes()
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert [f"the checkpoint of step {step} in" in line for step, line in zip((3, 2), said, strict=True)] == [True, True]
    assert newest(run) == 1
    assert (run / "damaged-checkpoints" / "3" / "state" / "_METADATA").read_bytes() == before
    checkpoints = open_checkpoints(run / "checkpoints")
    checkpoints.save(2, state(2), {}, None)
    checkpoints.close()
    flip_data(run / "checkpoints" / "2")
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert sorted(path.name for path in (run / "damaged-checkpoints").iterdir()) == ["2", "2.1", "3"]
    integrity.set_damaged_aside(run / "absent", said.append)
    assert len(said) == 3


def test_checkpoint_without_checksums_is_taken_as_it_is(run):
    """Those of earlier versions have none."""
    (run / "checkpoints" / "3" / "checksums.json").unlink()
    said = []
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert not said and newest(run) == 3


def test_what_is_no_longer_kept_is_never_half_there(tmp_path, monkeypatch):
    """Orbax renames it, and only then is it deleted: a kill in between leaves no folder that looks like a checkpoint."""
    checkpoints = Checkpoints(tmp_path, keep_latest=1, keep_best=0, best_metric="error", best_is_lowest=True, asynchronous=True)
    for step in (1, 2):
        checkpoints.save(step, state(step), {}, None)
    checkpoints.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "deleted"]
    np.testing.assert_array_equal(sorted(path.name for path in (tmp_path / "deleted").iterdir()), ["1"])
    checkpoints.close()
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
