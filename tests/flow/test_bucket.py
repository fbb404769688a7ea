"""Runs and records in a bucket.

The real clients, against a service on this machine that makes mistakes (tests/support/bucket.py).
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import moving_person
import numpy as np
import orbax.checkpoint as ocp
import pytest
from bucket import PERMISSIONS, bucket_service
from launching import TINY, final_params, launch_main
from repository import REPOSITORY

from data_prep import convert
from kdpose_jax import buckets, files
from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.data import schema
from kdpose_jax.data.tfrecords import read_records
from kdpose_jax.errors import UserError
from kdpose_jax.poses.writers import outputs
from kdpose_jax.poses.writers.table import FORMATS, WritingOptions


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The service, to which every bucket path leads while this module's tests run."""
    folder = tmp_path_factory.mktemp("account")
    with (
        pytest.MonkeyPatch.context() as patch,
        bucket_service(folder, seed=1, slow_seconds=0.05) as (service, environment),
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield service


@pytest.fixture
def faulty(service):
    """The service with one request in twelve going wrong."""
    before = service.counts()
    service.set_fault_rate(1 / 12)
    yield service
    service.set_fault_rate(0.0)
    assert sum(service.counts()["faults"].values()) > sum(before["faults"].values())
    assert service.counts()["retries"] > before["retries"]


@pytest.fixture
def without(service):
    """Takes a permission away until the test is over."""
    yield lambda permission: service.allow(set(PERMISSIONS) - {permission})
    service.allow(PERMISSIONS)


def test_converter_writes_the_same_bytes_into_a_bucket(faulty, tmp_path):
    settings = dict(train_subjects=1, test_subjects=1, takes=1, frames=5, workers=1)
    convert.prepare("synthetic", str(tmp_path / "disk"), **settings)
    faulty.make("written")
    assert convert.prepare("synthetic", "gs://written/records", **settings).seconds > 0
    # It is whole, and left alone.
    assert convert.prepare("synthetic", "gs://written/records", **settings).seconds == 0
    found = faulty.save("written", tmp_path / "bucket") / "records"
    expected = {path.name: path.read_bytes() for path in (tmp_path / "disk").iterdir()}
    assert {path.name: path.read_bytes() for path in found.iterdir()} == expected


def test_bucket_is_used_without_a_lock_and_says_so(service):
    service.make("held")
    notes = []
    with files.held("gs://held/run", notes.append):
        assert "gs://held/run cannot be locked" in notes.pop()


def test_poses_are_written_into_a_bucket(service, tmp_path):
    service.make("poses")
    video = moving_person.poses(moving_person.person(moving_person.walk(5)))
    options = WritingOptions(height=1.8, root="floor", focal=None, frames=None)
    for base in ("gs://poses/out/walk", tmp_path / "disk" / "walk"):
        outputs.write(video, base, tuple(FORMATS), options)
    found = service.save("poses", tmp_path / "bucket") / "out"
    expected = {path.name: path.read_bytes() for path in (tmp_path / "disk").iterdir()}
    assert {path.name: path.read_bytes() for path in found.iterdir()} == expected


SAVES = """
import sys
import jax.numpy as jnp
from kdpose_jax.checkpoint.manager import Checkpoints

options = {"best_metric": "x", "best_is_lowest": True, "asynchronous": True}
run = Checkpoints("gs://killed/run", keep_latest=2, keep_best=0, **options)
for step in range(1, 100):
    run.save(step, {"weights": jnp.full((64,), step, jnp.float32)}, {"step": step}, None)
    run.wait()
"""


def test_killed_while_it_saves(service):
    """At whatever request a process dies.

    The steps that count are whole, and the next process goes on from them.
    """
    service.make("killed")
    process = subprocess.Popen(
        [sys.executable, "-c", SAVES],
        cwd=REPOSITORY,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
    )
    service.kill_after(process.pid, 75)  # in the third or fourth save
    assert process.wait(timeout=300) < 0
    names = service.names("killed")
    stored = {int(name.split("/")[1]) for name in names if name.split("/")[1].isdigit()}
    marked = {step for step in stored if f"run/{step}/commit_success.txt" in names}
    options = dict(
        keep_latest=2, keep_best=0, best_metric="x", best_is_lowest=True, asynchronous=False
    )
    run = Checkpoints("gs://killed/run", **options)
    assert run.latest_step() == max(marked)
    everywhere = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {"weights": jax.ShapeDtypeStruct((64,), np.float32, sharding=everywhere)}
    assert run.restore(wanted)[1] == {"step": max(marked)}
    for step in marked:
        with ocp.StandardCheckpointer() as checkpointer:
            state = checkpointer.restore(f"gs://killed/run/{step}/state", wanted)
        np.testing.assert_array_equal(state["weights"], np.full(64, step, np.float32))
    following = max(stored) + 1
    for step in range(max(marked) + 1, following + 1):
        assert run.save(
            step, {"weights": jax.numpy.full(64, step, jax.numpy.float32)}, {"step": step}, None
        )
    run.close()
    assert Checkpoints("gs://killed/run", **options).latest_step() == following


def sentence(arguments) -> str:
    with pytest.raises(UserError) as refused:
        buckets.check_access(*arguments, writes=True)
    message = str(refused.value)
    assert message.endswith(".") and "\n" not in message
    return message


def test_no_such_bucket_and_no_right_to_it(service, without, capsys):
    assert "no bucket 'absent'" in sentence(["gs://absent/run"])
    assert "names no bucket" in sentence(["gs://"])
    service.make("refused")
    without("storage.objects.create")
    assert "lack storage.objects.create:" in sentence(["gs://refused/run"])
    assert launch_main("--config", "configs/scjd.py", *TINY, "--workdir", "gs://refused/run") == 2
    assert capsys.readouterr().err.count("\n") == 1 and not service.names("refused")
    buckets.check_access("gs://refused/records", writes=False)  # to read, these are enough
    with pytest.raises(UserError, match="--source 'gs://refused/raw' is not a folder of a disk"):
        convert.prepare("human36m", "records", source="gs://refused/raw")


def test_no_credentials(service, monkeypatch, tmp_path):
    service.make("closed")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    assert "no credentials for bucket 'closed'" in sentence(["gs://closed/run"])


def test_rights_that_end_while_it_reads(service, records, without):
    service.load("lost", pathlib.Path(records))
    metadata = schema.read_metadata("gs://lost", schema.SEQUENCES)
    assert len(list(read_records("gs://lost", "test", metadata))) == 24
    without("storage.objects.get")
    with pytest.raises(
        UserError, match="'gs://lost' could not be reached .*403.*: check the bucket"
    ):
        list(read_records("gs://lost", "train", metadata))


# Behind the others, because another process may still be making the run that it begins with.
def test_run_of_a_disk_goes_on_in_a_bucket_through_faults(
    finished, records, faulty, tmp_path, capsys
):
    whole, _ = finished
    copy = tmp_path / "copy"
    for name in ("teacher", "student"):
        shutil.copytree(whole / name, copy / "run" / name)
        (copy / "run" / name / "evaluation.json").unlink()
    shutil.rmtree(copy / "run" / "student" / "checkpoints" / "17")  # as if killed after step 15
    shutil.copytree(records, copy / "records")
    faulty.load("resumed", copy)
    arguments = (
        "--config",
        "configs/scjd.py",
        "--config.baseline=False",
        "--config.data.records=gs://resumed/records",
        *TINY,
    )
    assert launch_main(*arguments, "--workdir", "gs://resumed/run") == 0
    assert "student  goes on from step 15 of 17" in capsys.readouterr().out
    found = faulty.save("resumed", tmp_path / "after") / "run"
    for expected, parameters in zip(
        final_params(whole / "student"), final_params(found / "student"), strict=True
    ):
        jax.tree.map(np.testing.assert_array_equal, expected, parameters)
    lines = [
        list(map(json.loads, (run / "student" / "metrics.jsonl").read_text().splitlines()))
        for run in (whole, found)
    ]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    assert [line.get("loss") for line in lines[0]] == [line.get("loss") for line in lines[1]]
    scores = [json.loads((run / "results.json").read_text())["networks"] for run in (whole, found)]
    for name in ("teacher", "student"):
        assert scores[0][name]["scores"] == scores[1][name]["scores"]
    assert (found / "figures" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((found / "student" / "tensorboard").iterdir())) == 2  # of both parts of the run
