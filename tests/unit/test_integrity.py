"""Checkpoints whose files have changed on the disk."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdpose_jax.checkpoint import integrity, loading
from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.errors import UserError


def open_checkpoints(directory):
    return Checkpoints(
        directory,
        keep_latest=3,
        keep_best=0,
        best_metric="error",
        best_is_lowest=True,
        asynchronous=True,
    )


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
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state(0)
    )
    try:
        return float(checkpoints.restore(wanted)[0]["params"]["student"]["kernel"][0])
    finally:
        checkpoints.close()


def test_every_file_is_covered(run):
    """A flipped bit, a missing byte or a missing file, except in Orbax's marks of the commit."""
    step = run / "checkpoints" / "3"
    files = [
        path
        for path in sorted(step.rglob("*"))
        if path.is_file() and path.name != "commit_success.txt"
    ]
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
    path = max(
        (path for path in (step_directory / "state").rglob("d/*")),
        key=lambda path: path.stat().st_size,
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damaged_checkpoint_is_named(run):
    flip_data(run / "checkpoints" / "3")
    with pytest.raises(
        UserError,
        match=r"step 3 in .*checkpoints is damaged \(state/.*d/.* is not what was written\)",
    ):
        newest(run)
    one_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        "params": {
            "student": {"kernel": jax.ShapeDtypeStruct((64,), jnp.float32, sharding=one_device)}
        }
    }
    with pytest.raises(UserError, match="step 3 in .* is damaged"):
        loading.load_variables(loading.explicit(f"{run}/latest"), wanted, prefer_ema=False)
    # That one is whole.
    assert loading.load_variables(run, wanted, prefer_ema=False)[2] == 1


def test_damaged_newest_checkpoints_are_set_aside_and_said(run):
    said = []
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert not said and newest(run) == 3
    flip_data(run / "checkpoints" / "3")
    # As Orbax would not even open.
    (run / "checkpoints" / "2" / "metrics" / "metrics").write_text("{")
    before = (run / "checkpoints" / "3" / "state" / "_METADATA").read_bytes()
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert [
        f"the checkpoint of step {step} in" in line for step, line in zip((3, 2), said, strict=True)
    ] == [True, True]
    assert newest(run) == 1
    assert (run / "damaged-checkpoints" / "3" / "state" / "_METADATA").read_bytes() == before
    checkpoints = open_checkpoints(run / "checkpoints")
    checkpoints.save(2, state(2), {}, None)
    checkpoints.close()
    flip_data(run / "checkpoints" / "2")
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert sorted(path.name for path in (run / "damaged-checkpoints").iterdir()) == [
        "2",
        "2.1",
        "3",
    ]
    integrity.set_damaged_aside(run / "absent", said.append)
    assert len(said) == 3


def kernel():
    """What `load_variables` is asked for."""
    one_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    leaf = jax.ShapeDtypeStruct((64,), jnp.float32, sharding=one_device)
    return {"params": {"student": {"kernel": leaf}}}


def without_checksums(step):
    (step / "checksums.json").unlink()


def emptied(step):
    shutil.rmtree(step)
    step.mkdir()


def cut_off(step):
    """As a copy that was stopped leaves it: some folders, a part of one file, no last files."""
    path = max((step / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:10])
    shutil.rmtree(step / "metrics")
    (step / "checksums.json").unlink()


def missing_file(step):
    (step / "state" / "_METADATA").unlink()


def empty_checksums(step):
    (step / "checksums.json").write_text("{}")


def checksums_of_other_files(step):
    (step / "checksums.json").write_text(json.dumps({"../2/checksums.json": "0" * 64}))


NOT_WHOLE = (
    without_checksums, emptied, cut_off, missing_file, empty_checksums, checksums_of_other_files,
)  # fmt: skip


@pytest.mark.parametrize("harm", NOT_WHOLE)
def test_newest_that_is_not_whole_is_set_aside(run, harm):
    harm(run / "checkpoints" / "3")
    said = []
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert len(said) == 1 and "step 3" in said[0] and "the one before is used" in said[0]
    assert newest(run) == 2 and (run / "damaged-checkpoints" / "3").is_dir()


@pytest.mark.parametrize("harm", [without_checksums, emptied, cut_off])
def test_older_that_is_not_whole_is_set_aside_too(run, harm):
    """The best step is chosen among all; arrays of older steps are not read."""
    harm(run / "checkpoints" / "1")
    said = []
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert len(said) == 1 and "step 1" in said[0]
    assert "before" not in said[0].partition("moved to")[2]
    assert loading.best_checkpoint(run).name == "2" and newest(run) == 3


def test_only_checkpoint_that_is_not_whole(run):
    for step in (1, 2):
        shutil.rmtree(run / "checkpoints" / str(step))
    emptied(run / "checkpoints" / "3")
    said = []
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert len(said) == 1 and "there is none before it" in said[0]


ADDED = (
    ".DS_Store", "Thumbs.db", "._checksums.json", "desktop.ini", "eval/figures/a.png", "notes.txt",
)  # fmt: skip


@pytest.mark.parametrize("name", ADDED)
@pytest.mark.parametrize("where", ["", "state", "meta", "metrics"])
def test_added_file_is_no_damage(run, name, where):
    step = run / "checkpoints" / "3"
    path = step / where / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x00\x01 of a file manager")
    (run / "checkpoints" / path.name).write_bytes(b"")
    said = []
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert not said and newest(run) == 3 and path.exists()
    assert loading.explicit(f"{run}/latest") == str(run / "checkpoints" / "3")


OTHER_NAMES = ("3 copy", "3 (1)", "._3", "0003", "٣", "²", "-3", "3.orbax-checkpoint-tmp-0")


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_folders_that_are_not_steps_are_left_alone(run, name):
    (run / "checkpoints" / name).mkdir()
    (run / "checkpoints" / "9").write_text("a file")
    said = []
    integrity.set_damaged_aside(run / "checkpoints", said.append)
    assert not said and integrity.steps_in(run / "checkpoints") == [1, 2, 3]


def test_unwhole_steps_are_passed_over_where_a_network_is_read(run):
    emptied(run / "checkpoints" / "3")
    wanted = kernel()
    assert loading.explicit(f"{run}/latest") == str(run / "checkpoints" / "2")
    assert loading.load_variables(run, wanted, prefer_ema=False)[2] == 1
    (note,) = loading.passed_over(run)
    assert note.startswith("note: step 3 in ") and note.endswith("it is passed over.")
    with pytest.raises(UserError, match="step 3 in .* is damaged .*checksums.json is missing"):
        loading.load_variables(run / "checkpoints" / "3", wanted, prefer_ema=False)
    for step in (1, 2):
        emptied(run / "checkpoints" / str(step))
    with pytest.raises(UserError, match=r"no whole checkpoint in .* \(3 were not written"):
        loading.require_step(run)


def test_scores_that_choose_the_best_are_compared_too(run):
    path = run / "checkpoints" / "1" / "metrics" / "metrics"
    path.write_text(path.read_text().replace("1.0", "9.0"))  # step 2 would be the best
    with pytest.raises(UserError, match="step 1 in .* is damaged .metrics/metrics is not what"):
        loading.require_step(run)


def test_config_of_a_checkpoint_is_compared_before_it_is_used(run):
    path = run / "checkpoints" / "3" / "meta" / "metadata"
    path.write_text(path.read_text().replace("error", "eRror"))
    with pytest.raises(UserError, match="step 3 in .* is damaged .meta/metadata is not what"):
        loading.run_meta(run)


def test_what_is_no_longer_kept_is_never_half_there(tmp_path, monkeypatch):
    """Orbax renames it, and only then is it deleted.

    A kill in between leaves no folder that looks like a checkpoint.
    """
    checkpoints = Checkpoints(
        tmp_path,
        keep_latest=1,
        keep_best=0,
        best_metric="error",
        best_is_lowest=True,
        asynchronous=True,
    )
    for step in (1, 2):
        checkpoints.save(step, state(step), {}, None)
    checkpoints.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "deleted"]
    np.testing.assert_array_equal(
        sorted(path.name for path in (tmp_path / "deleted").iterdir()), ["1"]
    )
    checkpoints.close()
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
