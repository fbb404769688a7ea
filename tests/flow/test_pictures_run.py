"""A whole CDKD run on hand-made photographs.

What it leaves, and the mistakes that only such a run can meet.
"""

import json

import jax
import numpy as np
import pytest
import torch
from launching import launch_main
from picture_sets import write_mpii
from torch_states import hrnet_state

from data_prep import convert
from kdpose_jax.checkpoint.loading import run_meta
from kdpose_jax.experiment import configs

SIZES = {"width": 4, "stem_width": 4, "blocks": 1, "modules": "(1,)"}
TINY = (
    *(
        f"--config.{stage}.network.{name}={value}"
        for stage in ("teacher", "student")
        for name, value in SIZES.items()
    ),
    *(
        f"--config.{stage}.train.{name}"
        for stage in ("teacher", "student")
        for name in (
            "batch=2",
            "epochs=1.0",
            "log_every_steps=1",
            "save_every_steps=1",
            "evaluate_every_epochs=1.0",
        )
    ),
    "--config.teacher.input.size=64",
    "--config.student.input.size=32",
    "--config.data.split_ratio=2.0",
    "--config.eval.batch=2",
    "--config.eval.latency_runs=1",
    "--config.eval.latency_warmup=1",
    "--config.eval.latency_batches=(1,)",
)


def refusal(capsys, *arguments):
    """The one sentence that a command line is refused with."""
    capsys.readouterr()
    assert launch_main(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    return message


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The work directory of a tiny run and its command line."""
    folder = tmp_path_factory.mktemp("pictures")
    write_mpii(folder / "raw")
    convert.prepare("mpii", str(folder / "records"), source=str(folder / "raw"), workers=1)
    arguments = (
        "--config",
        "configs/cdkd.py",
        f"--config.data.records={folder / 'records'}",
        *TINY,
    )
    assert launch_main(*arguments, "--workdir", str(folder / "run")) == 0
    return folder / "run", arguments


def test_everything_is_left_behind(finished):
    workdir, _ = finished
    networks = json.loads((workdir / "results.json").read_text())["networks"]
    assert set(networks) == {"teacher", "baseline", "student"}
    for record in networks.values():
        assert set(record["scores"]) == {"plain", "flip", "persons", "unseen"} and set(
            record["table"]
        ) == {"pckh", "pckh_0.1"}
        assert record["cost"]["outputs_per_example"] == 1
    assert networks["student"]["cost"]["parameters"] == networks["baseline"]["cost"]["parameters"]
    table = (workdir / "results.md").read_text()
    assert "student with CDKD" in table and "PCKh@0.5" in table and "MACs/person" in table
    assert "Generated" not in table  # these photographs do not claim to be


def test_gradient_report_tells_the_terms_apart(finished):
    """The student's terms pull at it from the first step to the last.

    Runs with a single term have no report.
    """
    workdir, _ = finished
    report = json.loads((workdir / "student" / "gradients.json").read_text())
    assert set(report) == {"start", "end"}
    for norms in report.values():
        assert set(norms) == {"task", "projection", "alignment"} and all(
            value > 0 for value in norms.values()
        )
    for name in ("baseline", "teacher"):
        assert not (workdir / name / "gradients.json").exists()


def test_batch_statistics_are_saved_and_evaluated(finished, capsys):
    """`--mode eval` on 8 devices restores weights and statistics and gives the run's own scores."""
    workdir, _ = finished
    assert set(run_meta(workdir / "student")["teachers"]) == {"teacher"}
    home = workdir.parent / "eval"
    assert (
        launch_main(
            "--mode",
            "eval",
            "--checkpoint",
            str(workdir / "student"),
            "--workdir",
            str(home),
            devices=8,
        )
        == 0
    )
    expected, found = (
        configs.flatten(json.loads(path.read_text())["networks"]["student"]["scores"])
        for path in (workdir / "results.json", home / "eval" / "results.json")
    )
    assert set(expected) == set(found)
    for name, value in expected.items():
        if value is not None:
            np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_teacher_with_other_bins_or_joints(finished, capsys, tmp_path):
    workdir, arguments = finished
    taught = (
        *arguments,
        f"--config.teacher.checkpoint={workdir / 'teacher'}",
        "--workdir",
        str(tmp_path / "run"),
    )
    message = refusal(capsys, *taught, "--config.data.split_ratio=3.0")
    assert "split_ratio 2.0" in message and "data.split_ratio is 3.0" in message
    torch.save(
        hrnet_state(joints=17, modules=(1, 1, 1), head=(128, 128, 256)), tmp_path / "joints.pth"
    )
    other = (
        *arguments,
        f"--config.teacher.checkpoint={tmp_path / 'joints.pth'}",
        "--workdir",
        str(tmp_path / "run"),
    )
    assert "joints 17" in refusal(capsys, *other)
    assert not (tmp_path / "run").exists()


def test_heatmap_baseline_is_one_network(finished, tmp_path):
    """No teacher is trained for it, and none is needed to evaluate it again."""
    _, arguments = finished
    command = [*arguments[2:], "--config.student.network.width=8"]
    assert (
        launch_main(
            "--config",
            "configs/cdkd.py:pictures,size=32,head=heatmap",
            *command,
            "--workdir",
            str(tmp_path / "run"),
        )
        == 0
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir()) == [
        "figures",
        "student",
    ]
    networks = json.loads((tmp_path / "run" / "results.json").read_text())["networks"]
    assert set(networks) == {"student"} and set(networks["student"]["table"]) == {"pck"}
    assert "| student |" in (tmp_path / "run" / "results.md").read_text()


def test_pytorch_network_is_evaluated(finished, tmp_path):
    """A released network is taken for the teacher: its sizes are read off its weights."""
    _, arguments = finished
    state = hrnet_state(width=8, modules=(1, 1, 1), joints=16, head=(128, 128, 256))
    for name in state:
        if name.endswith("running_var"):
            state[name] = state[name].abs() + 1.0
        elif name.endswith(".weight"):
            state[name] = 0.1 * state[name]
    torch.save(state, tmp_path / "simcc.pth")
    command = (
        *arguments,
        "--mode",
        "eval",
        "--checkpoint",
        str(tmp_path / "simcc.pth"),
        "--workdir",
        str(tmp_path / "eval"),
    )
    assert launch_main(*command) == 0
    results = json.loads((tmp_path / "eval" / "eval" / "results.json").read_text())
    assert results["networks"]["simcc.pth"]["loaded"] == "imported from PyTorch"
    assert results["fingerprint"]["config"]["teacher"]["network"]["width"] == 8


def test_pretrained_weights_of_another_width(finished, capsys, tmp_path):
    workdir, arguments = finished
    torch.save(hrnet_state(width=8, modules=(1, 1, 1), head=()), tmp_path / "wide.pth")
    taught = (
        *arguments,
        f"--config.teacher.checkpoint={workdir / 'teacher'}",
        f"--config.student.pretrained={tmp_path / 'wide.pth'}",
    )
    message = refusal(
        capsys, *taught, "--config.baseline=False", "--workdir", str(tmp_path / "run")
    )
    assert "wide.pth" in message and "where the config's network has" in message
    assert not (tmp_path / "run" / "student").exists()


def test_records_of_another_kind(finished, capsys, tmp_path):
    """Pictures are no motion: the other method's config says so."""
    workdir, arguments = finished
    records = next(word for word in arguments if "data.records" in word)
    message = refusal(
        capsys, "--config", "configs/scjd.py", records, "--workdir", str(tmp_path / "run")
    )
    assert "person_images" in message and "pose_sequences" in message
    assert jax.device_count() == 8
