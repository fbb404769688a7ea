"""Two connected processes.

A small run against numpy, with SIGTERM to one of them; and launch.py, stopped and gone on with
alone.
"""

import json
import pathlib
import signal
import time

import jax
import linear_run
import numpy as np
import pytest
from launching import TINY, launch_main
from networks import abstract
from pod import run_pod
from tiny import mesh_of

from data_prep import convert
from kdpose_jax.data import order

PROCESSES = 2


@pytest.fixture(scope="module")
def pod(tmp_path_factory):
    """The folder of the linear run and what each of its processes saw."""
    folder = tmp_path_factory.mktemp("line")
    found = run_pod((str(pathlib.Path(linear_run.__file__)), str(folder)), PROCESSES)
    assert [code for code, _, _ in found] == [0] * PROCESSES, found
    return folder, [json.loads(output.splitlines()[-1]) for _, output, _ in found]


def descent(steps):
    """(losses, weights) of so many steps of gradient descent on the run's batches, in float64."""
    line, weights, losses = linear_run.Line(), np.zeros(3), []
    for step in range(steps):
        examples, _ = order.batch_examples(
            linear_run.SEED, step, linear_run.BATCH, linear_run.EXAMPLES
        )
        x, y = line.x[examples].astype(np.float64), line.y[examples].astype(np.float64)
        error = x @ weights - y
        losses.append(np.square(error).mean())
        weights = weights - linear_run.RATE * 2 * x.T @ error / linear_run.BATCH
    return losses, weights


def test_a_signal_to_one_stops_all_at_the_same_step(pod):
    folder, seen = pod
    step = seen[0]["step"]
    assert linear_run.SIGNAL_AT <= step < linear_run.STEPS
    for process in seen:
        assert process["step"] == step and process["obeys"] is True
        assert (
            process["stopped"]
            == "stopped by SIGTERM, nothing is lost: run the same command again to go on"
        )
    assert [
        int(path.name) for path in (folder / "interrupted").iterdir() if path.name.isdigit()
    ] == [step]


def test_losses_are_those_of_gradient_descent(pod):
    folder, seen = pod
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses, _ = descent(seen[0]["step"])
    # One process alone writes; the line of the step at which all stopped is written by the run that
    # goes on.
    assert [line["step"] for line in lines] == list(range(1, len(losses)))
    np.testing.assert_allclose([line["loss"] for line in lines], losses[:-1], rtol=1e-6)


def test_every_process_reads_its_part_of_a_batch(pod):
    _, seen = pod
    for step, parts in enumerate(zip(*(process["read"] for process in seen), strict=False)):
        examples, _ = order.batch_examples(
            linear_run.SEED, step, linear_run.BATCH, linear_run.EXAMPLES
        )
        assert [len(part) for part in parts] == [linear_run.BATCH // PROCESSES] * PROCESSES
        assert sum(parts, []) == examples.tolist()


def test_every_example_is_predicted_once(pod):
    """11 examples in batches of 4 on 2 processes.

    Each reads half of them, and all have every prediction.
    """
    _, seen = pod
    _, weights = descent(seen[0]["step"])
    for process in seen:
        assert sum(map(len, process["tested"])) == 12 / PROCESSES
        np.testing.assert_allclose(
            process["predicted"], linear_run.Line().x @ weights, rtol=1e-5, atol=1e-6
        )


def test_processes_agree(pod):
    _, seen = pod
    # Process 0 was first, though the other was there before.
    assert [process["order"] for process in seen] == [[], ["was-0"]]
    for process in seen:
        assert process["all_say"] == [True, False] and process["first_says"] is True
        assert process["first_text"] == "text of 0"


def test_the_run_goes_on_with_other_devices(pod):
    """What two processes saved is restored by one process, onto eight devices."""
    folder, seen = pod
    with jax.numpy_dtype_promotion("standard"):
        fresh, _, _ = linear_run.new_state(mesh_of(4))
    checkpoints = linear_run.open_checkpoints(folder / "interrupted")
    restored, _ = checkpoints.restore(vars(abstract(fresh)))
    checkpoints.close()
    assert int(restored["step"]) == seen[0]["step"]
    np.testing.assert_allclose(
        restored["params"]["student"], descent(seen[0]["step"])[1], rtol=1e-5
    )
    assert len(restored["params"]["student"].sharding.device_set) == 4


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("data") / "records")
    convert.prepare(
        "synthetic", out, train_subjects=1, test_subjects=1, takes=1, frames=60, workers=1
    )
    return out


def command(records, workdir):
    """Words behind launch.py of a tiny run that logs every step of the teacher."""
    return (
        "--config=configs/scjd.py",
        f"--config.data.records={records}",
        f"--workdir={workdir}",
        *TINY,
        "--config.baseline=False",
        "--config.teacher.train.log_every_steps=1",
    )


def signal_to_one(log, number):
    """What sends the signal to process 1 when two steps are logged."""

    def send(processes):
        while not log.exists() or log.read_text().count("\n") < 2:
            assert all(process.poll() is None for process in processes), (
                "the run ended before the signal"
            )
            time.sleep(0.02)
        processes[1].send_signal(number)

    return send


def test_a_lost_process_ends_the_other_with_a_sentence(records, tmp_path):
    arguments, log = (
        command(records, tmp_path / "run"),
        tmp_path / "run" / "teacher" / "metrics.jsonl",
    )
    (code, _, errors), (killed, _, _) = run_pod(
        ("launch.py", *arguments), PROCESSES, signal_to_one(log, signal.SIGKILL)
    )
    assert (code, killed) == (1, -signal.SIGKILL), errors
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert (
        len(said) == 1
        and said[0].startswith("error: Another process of this run is gone (")
        and "Traceback" not in errors
    )


def test_launch_stops_and_goes_on_with_fewer_processes(records, tmp_path, capsys):
    workdir = tmp_path / "run"
    arguments, log = command(records, workdir), workdir / "teacher" / "metrics.jsonl"
    found = run_pod(("launch.py", *arguments), PROCESSES, signal_to_one(log, signal.SIGTERM))
    assert [code for code, _, _ in found] == [75, 75], found
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines() if "loss" in line]
    saved = max(
        int(path.name)
        for path in (workdir / "teacher" / "interrupted").iterdir()
        if path.name.isdigit()
    )
    assert steps == list(range(1, saved))
    assert all("stopped by SIGTERM, nothing is lost" in errors for _, _, errors in found)
    # Process 0 alone speaks.
    assert not [line for line in found[1][1].splitlines() if not line.startswith("[Gloo]")]
    assert launch_main(*arguments) == 0
    assert f"goes on from step {saved} of 17" in capsys.readouterr().out
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 18))
    assert set(json.loads((workdir / "results.json").read_text())["networks"]) == {
        "teacher",
        "student",
    }
