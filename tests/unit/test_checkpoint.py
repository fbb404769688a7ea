"""Checkpoints: what is kept, what is refused, and that no failure harms what was saved before."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import multihost_utils
from networks import abstract

from kdpose_jax.checkpoint import loading
from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.errors import UserError

OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
META = {
    "config": "model:\n  width: 4\n",
    "method": "supervised",
    "versions": {"jax": jax.__version__},
    "teacher": None,
}


def make_state(seed: int, width: int = 4, ema: bool = False) -> dict:
    key = jax.random.key(seed)
    params = {
        "student": {
            "head": {
                "kernel": jax.random.normal(key, (width, 3)),
                "bias": jnp.full((3,), seed, jnp.float32),
            }
        },
        "projector": {"kernel": jax.random.normal(key, (2, width)).astype(jnp.bfloat16)},
    }
    return {
        "step": jnp.asarray(seed, jnp.int32),
        "params": params,
        "model_state": {},
        "opt_state": OPTIMISER.init(params),
        "ema": jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), params) if ema else None,
    }


def open_checkpoints(
    directory, keep_latest=2, keep_best=1, asynchronous=True, best_is_lowest=True
) -> Checkpoints:
    return Checkpoints(
        directory,
        keep_latest=keep_latest,
        keep_best=keep_best,
        best_metric="mpjpe_mm",
        best_is_lowest=best_is_lowest,
        asynchronous=asynchronous,
    )


def steps_on_disk(directory) -> list[int]:
    return sorted(
        int(entry.name) for entry in pathlib.Path(directory).iterdir() if entry.name.isdigit()
    )


def assert_same(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for leaf, expected in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert leaf.dtype == expected.dtype
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(expected))


@pytest.fixture
def run(tmp_path):
    """A run with two checkpoints: step 1 (best) and step 2."""
    checkpoints = open_checkpoints(tmp_path / "run" / "checkpoints")
    checkpoints.save(1, make_state(1, ema=True), META, {"mpjpe_mm": 40.0})
    checkpoints.save(2, make_state(2, ema=True), META | {"method": "scjd"}, {"mpjpe_mm": 50.0})
    checkpoints.close()
    return tmp_path / "run"


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_state_and_meta_come_back_exactly(tmp_path, asynchronous, ema):
    state = make_state(3, ema=ema)
    checkpoints = open_checkpoints(tmp_path / "checkpoints", asynchronous=asynchronous)
    assert checkpoints.save(3, state, META, None)
    restored, meta = checkpoints.restore(abstract(state))
    assert_same(restored, state)  # optax's named tuples included
    assert meta == META
    checkpoints.close()
    assert sorted(
        entry.name for entry in (tmp_path / "checkpoints" / "3").iterdir() if entry.is_dir()
    ) == ["meta", "state"]


def test_donated_arrays_may_be_deleted_after_save(tmp_path):
    state = make_state(1)
    expected = jax.tree.map(np.asarray, state)
    checkpoints = open_checkpoints(tmp_path)
    description = abstract(state)
    checkpoints.save(1, state, META, None)
    jax.tree.map(lambda leaf: leaf.delete(), state)
    assert_same(checkpoints.restore(description)[0], expected)
    checkpoints.close()


@pytest.mark.parametrize(
    ("best_is_lowest", "kept", "best"),
    [(True, [1, 4, 5, 6], 1), (False, [0, 3, 5, 6], 3)],
)
def test_latest_and_best_are_kept(tmp_path, best_is_lowest, kept, best):
    """Steps without the metric, or where it is not a number, count as latest and never as best."""
    scores = [
        {"mpjpe_mm": 50.0},
        {"mpjpe_mm": 10.0},
        {"loss": 1.0},
        {"mpjpe_mm": 60.0},
        {"mpjpe_mm": 20.0},
        {"mpjpe_mm": np.nan},
        None,
    ]
    options = {"keep_latest": 2, "keep_best": 2, "best_is_lowest": best_is_lowest}
    checkpoints = open_checkpoints(tmp_path, **options)
    for step, metrics in enumerate(scores):
        checkpoints.save(step, make_state(step), META, metrics)
    checkpoints.close()
    assert steps_on_disk(tmp_path) == kept
    assert loading.best_checkpoint(tmp_path) == tmp_path / str(best)
    again = open_checkpoints(tmp_path, **options)
    assert again.latest_step() == 6
    assert again.restore(abstract(make_state(0)))[0]["step"] == 6
    again.save(7, make_state(7), META, None)  # the best found before still counts after a restart
    again.close()
    assert best in steps_on_disk(tmp_path)


def test_run_without_any_metric_has_no_best(tmp_path):
    checkpoints = open_checkpoints(tmp_path, keep_latest=1)
    assert checkpoints.latest_step() is None
    for step in (1, 2, 3):
        checkpoints.save(step, make_state(step), META, None)
    checkpoints.close()
    assert steps_on_disk(tmp_path) == [3]
    with pytest.raises(UserError, match="has a value of 'mpjpe_mm'.*none is the best"):
        loading.best_checkpoint(tmp_path)


def test_existing_step_is_skipped(tmp_path):
    checkpoints = open_checkpoints(tmp_path)
    assert checkpoints.save(1, make_state(1), META, None)
    assert not checkpoints.save(1, make_state(2), META, {"mpjpe_mm": 1.0})
    checkpoints.close()
    again = open_checkpoints(tmp_path)
    assert not again.save(1, make_state(2), META, None)
    assert again.restore(abstract(make_state(1)))[0]["step"] == 1
    again.close()


@pytest.mark.parametrize("asynchronous", [True, False])
def test_saving_asks_no_question_of_the_preemption_service(tmp_path, monkeypatch, asynchronous):
    """The service takes every process to be at the number that it asked with last.

    A step between the loop's loses a SIGTERM.
    """
    asked = []
    monkeypatch.setattr(
        multihost_utils,
        "reached_preemption_sync_point",
        lambda number: asked.append(number) or False,
    )
    checkpoints = open_checkpoints(tmp_path, asynchronous=asynchronous)
    for step in (1, 2):
        assert checkpoints.save(step, make_state(step), META, {"mpjpe_mm": 40.0})
    checkpoints.close()
    assert steps_on_disk(tmp_path) == [1, 2] and asked == []


def test_what_a_kill_left_of_a_deletion_is_removed_on_demand(run):
    """A run that is trained saves nothing any more, and looking alone must change nothing."""
    left = run / "checkpoints" / "deleted" / "1"
    left.mkdir(parents=True)
    (left / "array").write_bytes(b"0")
    checkpoints = open_checkpoints(run / "checkpoints")
    assert checkpoints.latest_step() == 2 and left.exists()
    checkpoints.remove_deleted()
    checkpoints.close()
    assert not left.parent.exists() and steps_on_disk(run / "checkpoints") == [1, 2]


def test_relative_directory_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints = open_checkpoints("run/checkpoints")
    checkpoints.save(1, make_state(1), META, None)
    checkpoints.close()
    assert steps_on_disk(tmp_path / "run" / "checkpoints") == [1]
    assert loading.run_meta("run") == META


def test_looking_changes_nothing(tmp_path):
    """An evaluation may open the folder of a run that is just writing a checkpoint."""
    assert open_checkpoints(tmp_path / "absent").latest_step() is None
    assert not (tmp_path / "absent").exists()
    (tmp_path / "7.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    checkpoints = open_checkpoints(tmp_path)
    assert checkpoints.latest_step() is None
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoints.restore(abstract(make_state(0)))
    checkpoints.close()
    time.sleep(0.2)  # Orbax removes leftovers in the background, within some 10 ms
    assert (tmp_path / "7.orbax-checkpoint-tmp").exists()


def change(state, path, leaf):
    """A copy of a tree of dictionaries with one entry replaced (None: removed)."""
    if not path:
        return leaf
    copy = {**state, path[0]: change(state.get(path[0], {}), path[1:], leaf)}
    return {key: value for key, value in copy.items() if value is not None or key == "ema"}


@pytest.mark.parametrize(
    ("path", "leaf", "message"),
    [
        (("params", "student", "head", "kernel"), ((5, 3), jnp.float32),
         r"float32\[4, 3\] for 'params/student/head/kernel' where this run needs float32\[5, 3\]"),
        (("params", "student", "head", "bias"), ((3,), jnp.bfloat16), r"float32\[3\] for .*/bias' "
                                                                      r"where this run needs "
                                                                      r"bfloat16\[3\]"),
        (("params", "student", "head", "bias"), None, r"float32\[3\] for .*/bias' where this run "
                                                      r"needs nothing"),
        (("params", "student", "neck", "bias"), ((3,), jnp.float32), r"nothing for "
                                                                     r"'params/student/neck/bias'"),
        (("ema",), None, r"for 'ema/projector/kernel' where this run needs nothing"),
        (("opt_state",), None, r"int32\[\] for 'opt_state/1/0/count' where this run needs nothing"),
    ],
)  # fmt: skip
def test_state_of_another_model_is_refused(run, path, leaf, message):
    wanted = abstract(make_state(0, ema=True))
    sharding = wanted["step"].sharding
    described = None if leaf is None else jax.ShapeDtypeStruct(*leaf, sharding=sharding)
    checkpoints = open_checkpoints(run / "checkpoints")
    with pytest.raises(
        UserError, match=rf"step 2 in .*checkpoints has .*{message}.*use the config"
    ):
        checkpoints.restore(change(wanted, path, described))
    assert checkpoints.restore(wanted)[0]["step"] == 2
    with pytest.raises(ValueError, match="'ema/projector/kernel' has no sharding"):
        checkpoints.restore(
            jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), wanted)
        )
    checkpoints.close()


def test_damaged_checkpoint_is_named(run):
    wanted = abstract(make_state(0, ema=True))
    data = max(
        (file for file in (run / "checkpoints" / "2" / "state").rglob("*") if file.is_file()),
        key=lambda f: f.stat().st_size,
    )
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    checkpoints = open_checkpoints(run / "checkpoints")
    with pytest.raises(UserError, match=r"step 2 in .* is damaged.*delete that step's folder"):
        checkpoints.restore(wanted)
    checkpoints.close()
    (run / "checkpoints" / "2").rename(run / "damaged")
    checkpoints = open_checkpoints(run / "checkpoints")
    assert checkpoints.restore(wanted)[0]["step"] == 1
    (run / "checkpoints" / "1" / "meta" / "metadata").write_text('{"run": ')
    with pytest.raises(UserError, match=r"step 1 in .* is damaged"):
        checkpoints.restore(wanted)
    checkpoints.close()
    with pytest.raises(UserError, match=r"step 1 in .* is damaged"):
        loading.run_meta(run / "checkpoints" / "1")
    (run / "checkpoints" / "1" / "metrics" / "metrics").write_text("{")
    with pytest.raises(UserError, match="checkpoint in .* is damaged"):
        open_checkpoints(run / "checkpoints")


def test_nothing_to_keep_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot keep 0 latest"):
        open_checkpoints(tmp_path, keep_latest=0)


@contextlib.contextmanager
def largest_file(size: int):
    """No file of this process can grow beyond `size` bytes.

    A failure of the real system calls, on any machine.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("asynchronous", [False, True])
# Of Orbax's own threads.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_failed_write_is_reported_and_harms_nothing(tmp_path, asynchronous):
    checkpoints = open_checkpoints(tmp_path, keep_latest=1, keep_best=0, asynchronous=asynchronous)
    checkpoints.save(1, make_state(1), META, None)
    checkpoints.wait()
    large = make_state(2, width=200_000)
    with (
        largest_file(2**17),
        pytest.raises(
            UserError, match=r"step 2 could not be written .*too large.*\(latest: step 1\)"
        ),
    ):
        checkpoints.save(2, large, META, None)
        checkpoints.wait()
    assert checkpoints.latest_step() == 1
    assert_same(checkpoints.restore(abstract(make_state(1)))[0], make_state(1))
    assert checkpoints.save(2, large, META, None)  # once there is room, the same step goes through
    checkpoints.close()
    assert steps_on_disk(tmp_path) == [2]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["2"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_failure_in_the_background_is_reported_by_the_next_save_and_by_close(tmp_path):
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, make_state(1), META, None)
    large = make_state(2, width=200_000)
    with largest_file(2**17):
        checkpoints.save(2, large, META, None)
        with pytest.raises(UserError, match="step 2 could not be written"):
            checkpoints.save(3, make_state(3), META, None)
        checkpoints.save(4, large, META, None)
        with pytest.raises(UserError, match="step 4 could not be written"):
            checkpoints.close()
    assert steps_on_disk(tmp_path) == [1]


@pytest.fixture
def small_disk(tmp_path):
    (tmp_path / "disk").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path / "disk"],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    yield tmp_path / "disk"
    subprocess.run(["umount", tmp_path / "disk"], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_full_disk(small_disk):
    checkpoints = open_checkpoints(small_disk / "checkpoints")
    checkpoints.save(1, make_state(1), META, None)
    checkpoints.save(2, make_state(2, width=200_000), META, None)
    with pytest.raises(
        UserError,
        match=r"step 2 could not be written .*the disk is full.*\(latest: step 1\): make room",
    ):
        checkpoints.wait()
    assert_same(checkpoints.restore(abstract(make_state(1)))[0], make_state(1))
    checkpoints.close()


def test_full_disk_reported_by_the_system(tmp_path, monkeypatch):
    """Where no disk can be mounted: the error that Python raises when folders cannot be made."""
    checkpoints = open_checkpoints(tmp_path, asynchronous=False)
    checkpoints.save(1, make_state(1), META, None)

    def full(*unused, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "makedirs", full)
    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(UserError, match=r"step 2 could not be written .*the disk is full"):
        checkpoints.save(2, make_state(2), META, None)
    monkeypatch.undo()
    checkpoints.close()
    assert steps_on_disk(tmp_path) == [1]


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "run").write_text("a file where the folder should be")
    checkpoints = open_checkpoints(tmp_path / "run" / "checkpoints")
    with pytest.raises(
        UserError, match=r"step 1 could not be written to .*run/checkpoints \(.*[Nn]ot a directory"
    ):
        checkpoints.save(1, make_state(1), META, None)
    checkpoints.close()


def test_mistake_of_the_program_is_no_user_error(tmp_path):
    checkpoints = open_checkpoints(tmp_path, asynchronous=False)
    state = make_state(1)
    state["params"]["student"]["head"]["bias"].delete()
    with pytest.raises(Exception, match="deleted") as raised:
        checkpoints.save(1, state, META, None)
    assert not isinstance(raised.value, UserError)
    checkpoints.close()


KILLED_WHILE_SAVING = """
import os, pathlib, signal, sys, threading, time
import jax, jax.numpy as jnp
jax.config.update("jax_platforms", "cpu")
from kdpose_jax.checkpoint.manager import Checkpoints
directory = pathlib.Path(sys.argv[1])
checkpoints = Checkpoints(
    directory, keep_latest=1, keep_best=0, best_metric="mpjpe_mm", best_is_lowest=True,
    asynchronous=True)
def state(seed):
    noise = jax.random.uniform(jax.random.key(seed), (6_000_000,))
    return {"w": jnp.full((6_000_000,), seed, jnp.float32) + noise}
checkpoints.save(1, state(1), {}, None)
checkpoints.wait()
def kill_when_half_written():
    while not list(directory.glob("2.*")):
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=kill_when_half_written).start()
checkpoints.save(2, state(2), {}, None)
checkpoints.wait()
"""


def test_killed_while_saving(tmp_path):
    program = [sys.executable, "-c", textwrap.dedent(KILLED_WHILE_SAVING), str(tmp_path)]
    killed = subprocess.run(
        program,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    leftovers = [entry.name for entry in tmp_path.iterdir() if not entry.name.isdigit()]
    assert leftovers, "the process was not killed in the middle of a save"
    checkpoints = open_checkpoints(tmp_path, keep_latest=2)
    assert checkpoints.latest_step() == 1
    one_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    restored, _ = checkpoints.restore(
        {"w": jax.ShapeDtypeStruct((6_000_000,), jnp.float32, sharding=one_device)}
    )
    assert 1 <= float(restored["w"].min()) and float(restored["w"].max()) < 2
    checkpoints.save(3, {"w": restored["w"][:10]}, {}, None)
    checkpoints.close()
    # The leftovers are gone.
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["1", "3"]


def student_of(state):
    return abstract({"student": state["params"]["student"]})


@pytest.mark.parametrize(
    ("folder", "step"),
    [
        ("", 1), ("latest", 2), ("checkpoints", 1), ("checkpoints/latest", 2),
        ("checkpoints/1", 1), ("checkpoints/2", 2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefer_ema", [False, True])
def test_teacher_is_found_in_any_folder_of_its_run(run, folder, step, prefer_ema):
    variables, meta, found = loading.load_variables(
        loading.explicit(str(run / folder)),
        {"params": student_of(make_state(0))},
        prefer_ema=prefer_ema,
    )
    assert found == step
    assert meta["method"] == {1: "supervised", 2: "scjd"}[step]
    state = make_state(step, ema=True)
    # Adapters stay on the disk.
    assert_same(
        variables["params"], {"student": state["ema" if prefer_ema else "params"]["student"]}
    )


def test_teacher_without_moving_average_gives_its_parameters(tmp_path):
    checkpoints = open_checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, make_state(1), META, None)
    checkpoints.close()
    variables, _, _ = loading.load_variables(
        tmp_path / "checkpoints" / "1",
        {"params": abstract(make_state(0)["params"])},
        prefer_ema=True,
    )
    assert_same(variables["params"], make_state(1)["params"])
    with pytest.raises(UserError, match="has a value of 'mpjpe_mm'.*none is the best") as refused:
        loading.load_variables(
            tmp_path, {"params": abstract(make_state(0)["params"])}, prefer_ema=True
        )
    named = str(refused.value).split("'")[3]  # what the message says works
    assert loading.explicit(named) == str(tmp_path / "checkpoints" / "1")
    wanted = {"params": abstract(make_state(0)["params"])}
    loading.load_variables(loading.explicit(named), wanted, prefer_ema=True)


def test_wrong_teacher_is_refused(run, tmp_path):
    wanted = student_of(make_state(0))
    with pytest.raises(UserError, match="no folder .*absent"):
        loading.load_variables(tmp_path / "absent", {"params": wanted}, prefer_ema=True)
    (tmp_path / "empty").mkdir()
    for find in (loading.best_checkpoint, lambda path: loading.explicit(f"{path}/latest")):
        with pytest.raises(UserError, match="no checkpoint in .*empty"):
            find(tmp_path / "empty")
    with pytest.raises(UserError, match="no folder .*checkpoints/3"):
        loading.best_checkpoint(run / "checkpoints" / "3")
    with pytest.raises(
        UserError,
        match=r"float32\[4, 3\] for 'params/student/head/kernel' where this run needs float32\[8, "
        r"3\]",
    ):
        loading.load_variables(
            run, {"params": student_of(make_state(0, width=8))}, prefer_ema=False
        )
    deeper = change(wanted, ("student", "neck"), wanted["student"]["head"])
    with pytest.raises(UserError, match="nothing for 'ema/student/neck/bias'"):
        loading.load_variables(run, {"params": deeper}, prefer_ema=True)
    shallower = change(wanted, ("student", "head", "bias"), None)
    with pytest.raises(UserError, match="'params/student/head/bias' where this run needs nothing"):
        loading.load_variables(run, {"params": shallower}, prefer_ema=False)


def test_latest_as_the_last_part_of_a_path(run, tmp_path):
    newest = str(run / "checkpoints" / "2")
    for path in (run / "latest", run / "checkpoints" / "latest"):
        assert loading.explicit(str(path)) == newest
    assert loading.explicit(str(run)) == str(run) and loading.explicit("") == ""
    (tmp_path / "latest").mkdir()  # a folder of that name is meant itself
    assert loading.explicit(str(tmp_path / "latest")) == str(tmp_path / "latest")
    shutil.copytree(run, tmp_path / "stopped")
    (tmp_path / "stopped" / "interrupted").mkdir()
    shutil.copytree(run / "checkpoints" / "2", tmp_path / "stopped" / "interrupted" / "5")
    assert loading.explicit(str(tmp_path / "stopped" / "latest")).endswith("stopped/interrupted/5")
    loading.require_step(tmp_path / "stopped" / "interrupted" / "5")
    with pytest.raises(UserError, match="There is no folder .*absent"):
        loading.explicit(str(tmp_path / "absent" / "latest"))


def test_folder_of_several_networks_is_told_by_their_names(run, tmp_path):
    for name in ("student", "baseline", "teacher"):
        (tmp_path / "runs" / "experiment" / name / "checkpoints").mkdir(parents=True)
    home = f"{tmp_path}/runs/experiment"
    with pytest.raises(UserError) as refused:
        loading.require_step(home)
    names = f"name {home}/teacher, {home}/baseline or {home}/student."
    assert str(refused.value) == f"'{home}' is not the folder of one network: {names}"
    shutil.rmtree(f"{home}/teacher")
    shutil.rmtree(f"{home}/baseline")
    for folder in (home, tmp_path / "runs"):  # also the folder of all experiments
        with pytest.raises(UserError, match=f"not the folder of one network: name {home}/student"):
            loading.run_meta(folder)
    shutil.copytree(run / "checkpoints" / "1", tmp_path / "best_model")
    with pytest.raises(UserError, match="best_model' is a step's folder under another name"):
        loading.run_meta(tmp_path / "best_model")


def test_fingerprint_tells_parameters_apart():
    params = {
        "a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)},
        "b": np.zeros(2, np.float32),
    }
    same = {"b": jnp.zeros(2), "a": {"kernel": jnp.arange(6.0).reshape(2, 3)}}
    mark = loading.fingerprint(params)
    assert len(mark) == 16 and int(mark, 16) >= 0
    assert mark == loading.fingerprint(same)
    kernel = params["a"]["kernel"]
    others = [
        params | {"a": {"kernel": kernel + np.float32(1e-6)}},
        params | {"a": {"kernel": kernel.reshape(3, 2)}},
        params | {"a": {"bias": kernel}},
        params | {"b": np.zeros(2, np.int32)},
        params | {"a": {"kernel": kernel.T.copy().T[:, ::-1]}},
    ]
    assert len({mark, *map(loading.fingerprint, others)}) == 6
    assert loading.fingerprint({"a": np.asfortranarray(kernel)}) == loading.fingerprint(
        {"a": kernel}
    )
