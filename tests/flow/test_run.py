"""A whole run.

What it leaves, that it is done when it is done, and that a killed one ends up the same.
"""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from launching import final_params, launch_main
from repository import REPOSITORY

from kdpose_jax.checkpoint.loading import run_meta
from kdpose_jax.experiment import configs, stored_runs

NETWORKS = ("teacher", "baseline", "student")


def test_everything_is_left_behind(finished):
    workdir, _ = finished
    results = json.loads((workdir / "results.json").read_text())
    assert set(results["networks"]) == set(NETWORKS)
    table = (workdir / "results.md").read_text()
    assert "student with SCJD" in table and "Generated motion" in table
    # The generated subjects are G1 to train on, G2 to test on and G3 to choose on.
    chose = "the best on the validation subject G3"
    assert f"Checkpoint of each network: {chose}." in table
    page = (workdir / "results.html").read_text()
    assert chose in page and "validation MPJPE mm" in page
    assert {network["loaded"] for network in results["networks"].values()} == {chose}
    assert results["fingerprint"]["chosen_on"] == chose.removeprefix("the best on ")
    for figure in ("training", "score_against_cost", "breakdown"):
        assert (workdir / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    for name in NETWORKS:
        scores = results["networks"][name]["scores"]
        for flip in ("plain", "flip"):
            # 24 test sequences of 60 frames: 7 windows of 9 in `compat`, every frame once in
            # `exact`.
            assert scores[flip]["compat"]["frames"] == 24 * 7 * 9
            assert scores[flip]["exact"]["frames"] == 24 * 60
        lines = [
            json.loads(line) for line in (workdir / name / "metrics.jsonl").read_text().splitlines()
        ]
        steps = [line["step"] for line in lines if "loss" in line]
        assert steps == sorted(set(steps)) and "data_wait_seconds" in lines[0]
        assert any("val_mpjpe_mm" in line for line in lines)
        assert not any("test_mpjpe_mm" in line for line in lines)
        assert any((workdir / name / "tensorboard").iterdir())


def test_student_checkpoint_holds_no_teacher(finished):
    workdir, _ = finished
    plain, averaged = final_params(workdir / "student")
    assert set(plain) == set(averaged) == {"student", "projectors"}
    meta = run_meta(workdir / "student")
    assert set(meta["teachers"]) == {"teacher"} and len(meta["teachers"]["teacher"]) == 16


def test_the_same_command_again_is_done_at_once(finished, capsys):
    _, arguments = finished
    start = time.perf_counter()
    assert launch_main(*arguments) == 0
    assert "done already" in capsys.readouterr().out
    assert time.perf_counter() - start < 20


def test_a_deleted_table_is_made_again(finished):
    def cells():  # without the measured speeds, the first table's last column
        return [line.split("|")[:9] for line in table.read_text().splitlines()]

    workdir, arguments = finished
    table = workdir / "results.md"
    before = cells()
    steps = {path: path.stat().st_mtime_ns for path in workdir.glob("*/checkpoints/*")}
    table.unlink()
    assert launch_main(*arguments) == 0
    assert cells() == before
    assert {path: path.stat().st_mtime_ns for path in workdir.glob("*/checkpoints/*")} == steps


def test_another_config_in_the_same_folder_is_refused(finished, capsys):
    _, arguments = finished
    assert launch_main(*arguments, "--config.student.network.width=16") == 2
    message = capsys.readouterr().err
    assert "student.network.width: 8 became 16" in message and message.count("\n") == 1


def test_killed_and_stopped_run_ends_with_the_same_parameters(finished, tmp_path):
    whole, arguments = finished
    killed = tmp_path / "killed"
    arguments = [word if word != str(whole) else str(killed) for word in arguments]
    command = [sys.executable, "launch.py", *arguments]
    # Killed in the teacher, told to stop in the student: a checkpoint is there, and the run is in
    # the middle of things.
    disturbances = (("teacher", signal.SIGKILL, -signal.SIGKILL), ("student", signal.SIGTERM, 75))
    for run, number, code in disturbances:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 600
        while not (killed / run / "checkpoints" / "5").exists() and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.02)
        assert (killed / run / "checkpoints" / "5").exists()
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == code, said
    assert said.endswith(
        "stopped by SIGTERM, nothing is lost: run the same command again to go on\n"
    )
    # Told to stop behind its last step, the student has nothing that is not in its last checkpoint.
    assert (killed / "student" / "interrupted").exists() or (
        killed / "student" / "checkpoints" / "17"
    ).exists()
    # As a kill between the last save and the end leaves it.
    deletion = killed / "teacher" / "checkpoints" / "deleted" / "5"
    deletion.mkdir(parents=True)
    assert launch_main(*arguments) == 0
    assert not deletion.parent.exists() and not (killed / "student" / "interrupted").exists()
    for run in NETWORKS:
        for expected, found in zip(
            final_params(whole / run), final_params(killed / run), strict=True
        ):
            jax.tree.map(np.testing.assert_array_equal, expected, found)
        expected, found = (
            [
                line
                for line in map(
                    json.loads, (folder / run / "metrics.jsonl").read_text().splitlines()
                )
            ]
            for folder in (whole, killed)
        )
        assert [line["step"] for line in expected] == [line["step"] for line in found]
        assert [line["loss"] for line in expected if "loss" in line] == [
            line["loss"] for line in found if "loss" in line
        ]


@pytest.mark.parametrize("devices", [1, 8])
def test_evaluation_repeats_on_any_number_of_devices(finished, devices):
    workdir, _ = finished
    home = workdir.parent / f"eval{devices}"
    arguments = ("--mode", "eval", "--checkpoint", str(workdir / "student"), "--workdir", str(home))
    assert launch_main(*arguments, devices=devices) == 0
    expected = json.loads((workdir / "results.json").read_text())["networks"]["student"]["scores"]
    found = json.loads((home / "eval" / "results.json").read_text())["networks"]["student"][
        "scores"
    ]
    expected, found = configs.flatten(expected), configs.flatten(found)
    assert set(expected) == set(found)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_builder_reads_the_config_it_stored(finished):
    workdir, _ = finished
    run = stored_runs.run_of_checkpoint(str(workdir / "student"))
    method = run.method.build(run.config.lock(), run.stage)
    assert method.teachers[0].checkpoint == str(workdir / "teacher")
    teacher = stored_runs.run_of_checkpoint(str(workdir / "teacher"))
    assert (teacher.stage, teacher.method_name) == ("teacher", "supervised")
