"""Every mistake on the way through launch.py gets one sentence, exit code 2, and harms nothing."""

import copy
import errno
import json
import logging
import os
import shutil
import sys

import pytest
import torch
from launching import TINY, launch_main
from torch_states import mixste_state

from kdpose_jax import program
from kdpose_jax.data.sequences import read
from kdpose_jax.errors import UserError
from kdpose_jax.files import held

CONFIG = ("--config", "configs/scjd.py")


def refusal(capsys, *arguments: str) -> str:
    """The one line that a refused command prints."""
    capsys.readouterr()
    assert launch_main(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1, message
    return message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*CONFIG, "--config.student.network.widht=3"), "widht"),
        (
            (*CONFIG, "--config.student.network.width=wide"),
            "width is 'wide', and this field takes a whole number",
        ),
        (
            (*CONFIG, "--config.student.network.width=1.5"),
            "width is '1.5', and this field takes a whole number",
        ),
        ((*CONFIG, "lr=3"), "'lr=3' is not a flag: write --config.lr=3"),
        (("eval", "--checkpoint", "x"), "'eval' is not a flag: write --mode eval."),
        (("--mode", "eval", "runs/x"), "'runs/x' is not a flag: write the flag that it belongs to"),
        (("--config", "configs/scjd.py:h63m"), "'h63m' is not a preset"),
        (("--config", "configs/scjd.py:h36m,r=4"), "r of preset h36m"),
        (("--config", "configs/scjd.py:h36m,depth=4"), "'depth=4' is not an option"),
        (("--config", "configs/absent.py"), "configs/absent.py"),
        (("--confg", "configs/scjd.py"), "confg"),
        ((), "--config is missing"),
        (("--mode", "eval"), "--checkpoint"),
        ((*CONFIG, "--checkpoint", "x"), "--mode eval"),
        ((*CONFIG, "--records", "x"), "--config.data.records=DIR"),
        (("--mode", "eval", "--checkpoint", "x", "--config.data.records=y"), "--records DIR"),
        (("--mode", "eval", "--checkpoint", "x"), "no folder"),
        (("--mode", "eval", "--checkpoint", "x/latest"), "no folder"),
        ((*CONFIG, "--config.method=scdj"), "'scdj'"),
        ((*CONFIG, "--config.student.train.batch=0"), "student.train.batch is 0"),
        ((*CONFIG, "--config.student.network.heads=3"), "student.network.heads 3"),
        ((*CONFIG, "--config.student.input.stride=28"), "student.input.stride is 28"),
        ((*CONFIG, "--config.student.input.upsampling=cubic"), "'cubic'"),
        ((*CONFIG, "--config.student.input.upsampling=cross_attn"), "phase_augmentation=False"),
        ((*CONFIG, "--config.student.optim.schedule=cosin"), "'cosin'"),
        ((*CONFIG, "--config.eval.settings.windows=exat"), "'exat'"),
        ((*CONFIG, "--config.eval.latency_runs=0"), "eval.latency_runs is 0"),
        ((*CONFIG, "--config.student.train.epochs=0"), "student.train.epochs is 0"),
        ((*CONFIG, "--config.distill.layer_map=(7,)"), "distill.layer_map is (7,)"),
        ((*CONFIG, "--config.seed=-1"), "seed is -1"),
        ((*CONFIG, f"--config.seed={2**32}"), f"at least 0 and below {2**32}"),
        ((*CONFIG, "--config.distill.attention.kind=l1"), "'l1'"),
        ((*CONFIG, "--config.platform=tpu"), "platform is 'tpu'"),
        ((*CONFIG, "--config.platform=Cpu"), "platform is 'Cpu': use one of cpu, gpu, tpu"),
        (
            (*CONFIG, "--config.teacher.train.epochs=0"),
            "teacher.train.epochs is 0.0: it must be greater than 0.",
        ),
        (
            (*CONFIG, "--config.teacher.optim.learning_rate=-1"),
            "teacher.optim.learning_rate is -1.0: it must be at least 0.",
        ),
        (
            (*CONFIG, "--config.student.optim.weight_decay=nan"),
            "--config.student.optim.weight_decay is nan",
        ),
        (
            (*CONFIG, "--config.student.train.batch_statistics=devices"),
            "student.train.batch_statistics is 'devices': use one of global, device.",
        ),
        (
            (
                *("--config", "configs/cdkd.py:coco64"),
                "--config.student.train.batch_statistics=device",
            ),
            "student.train.batch_statistics is 'device', for which each device needs all "
            "parameters, and student.train.fsdp shares them: use 'global', or set fsdp to False.",
        ),
        ((*CONFIG, "--config.student.network.peak=3"), "its fields are compute, depth"),
        ((*CONFIG, *CONFIG), "--config stands twice"),
        (
            (*CONFIG, "--config.data.converter.settings.seed=-1"),
            "--config.data.converter.settings.seed is '-1'",
        ),
        (
            ("--config", "configs/scjd.py:h36m", "--config.data.source=/nowhere"),
            "error: --config.data.source '/nowhere' is not a folder",
        ),
    ],
)
def test_command_line(capsys, tmp_path, arguments, said):
    assert said in refusal(capsys, *arguments, "--workdir", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_help_lists_the_flags_that_sentences_point_to(capsys):
    assert launch_main("--help") == 0
    listed = capsys.readouterr().out
    flags = ("config", "mode", "workdir", "checkpoint", "records", "distributed")
    predict_flags = ("keypoints", "video", "pictures", "to", "size", "detector_python", "poses")
    for flag in (*flags, *predict_flags):
        assert f"--{flag}:" in listed


def test_missing_files_are_listed_with_the_remedy(capsys, tmp_path):
    message = refusal(
        capsys, "--config", "configs/scjd.py:h36m", "--workdir", str(tmp_path / "run")
    )
    assert "data_2d_<name>_cpn_ft_h36m_dbb.npz" in message and "--config.data.source=DIR" in message
    message = refusal(
        capsys,
        "--config",
        "configs/scjd.py:h36m",
        f"--config.data.source={tmp_path}",
        "--workdir",
        str(tmp_path / "run"),
    )
    assert "data_3d_" in message
    message = refusal(
        capsys,
        *CONFIG,
        f"--config.data.records={tmp_path / 'none'}",
        "--workdir",
        str(tmp_path / "run"),
    )
    assert "none" in message
    # So that the corrected command is not taken for another run.
    assert not (tmp_path / "run" / "config.json").exists()


def test_stride_that_does_not_divide_is_allowed_with_a_warning(capsys, tmp_path):
    arguments = (
        *CONFIG,
        f"--config.data.records={tmp_path / 'none'}",
        "--workdir",
        str(tmp_path / "run"),
    )
    arguments += ("--config.data.frames=243",)
    launch_main(*arguments, "--config.student.input.stride=5")
    expected = "49 keyframes 2 to 242, and the centre frame 121 is not one of them, and phase "
    expected += "augmentation is off."
    assert expected in capsys.readouterr().out
    launch_main(*arguments, "--config.student.input.stride=9")
    assert "warning" not in capsys.readouterr().out


def damaged(records, tmp_path, change) -> str:
    copy = tmp_path / "records"
    shutil.copytree(records, copy)
    change(copy)
    return str(copy)


def flip_a_bit(folder):
    shard = sorted(folder.glob("train.tfrecord-*"))[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def cut_off(folder):
    shard = sorted(folder.glob("train.tfrecord-*"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])


def other_version(folder):
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**metadata, "schema_version": 99}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip_a_bit, ("train.tfrecord-00000", ", record ")),
        (cut_off, ("train.tfrecord-00000", ", record ")),
        (other_version, ("schema version 99",)),
        (lambda folder: (folder / "metadata.json").unlink(), ("metadata.json",)),
        (
            lambda folder: sorted(folder.glob("train.tfrecord-*"))[0].unlink(),
            ("train.tfrecord-00000",),
        ),
    ],
)
def test_damaged_records(records, tmp_path, change, said):
    with pytest.raises(UserError) as refused:
        read(damaged(records, tmp_path, change), "train")
    assert all(part in str(refused.value) for part in said)


def test_damaged_records_through_launch(capsys, records, tmp_path):
    folder = damaged(records, tmp_path, flip_a_bit)
    message = refusal(
        capsys,
        *CONFIG,
        f"--config.data.records={folder}",
        *TINY,
        "--workdir",
        str(tmp_path / "run"),
    )
    assert ", record " in message


def test_checkpoint_of_another_network_or_method(capsys, finished):
    workdir, arguments = finished
    before = sorted(str(path) for path in (workdir / "student").rglob("*"))
    tiny = arguments[: arguments.index("--workdir")] + arguments[arguments.index("--workdir") + 2 :]
    student = ("--mode", "eval", "--checkpoint", str(workdir / "student"))
    assert "student.network.width 8" in refusal(
        capsys, *student, *tiny, "--config.student.network.width=16"
    )
    assert "method scjd" in refusal(capsys, *student, *tiny, "--config.method=supervised")
    assert "There is no folder" in refusal(
        capsys, "--mode", "eval", "--checkpoint", str(workdir / "absent")
    )
    message = refusal(
        capsys,
        *tiny,
        f"--config.teacher.checkpoint={workdir / 'student'}",
        "--workdir",
        str(workdir / "new"),
    )
    assert "embedding is 1.0, and teacher mixste reads keyframes" in message
    assert sorted(str(path) for path in (workdir / "student").rglob("*")) == before


def test_teacher_that_does_not_fit(capsys, finished, tmp_path):
    workdir, arguments = finished
    tiny = arguments[: arguments.index("--workdir")] + ("--workdir", str(tmp_path / "run"))
    message = refusal(
        capsys,
        *tiny,
        *TINY,
        f"--config.teacher.checkpoint={workdir / 'teacher'}",
        "--config.data.frames=27",
    )
    assert "windows of 9 frames, and the student reads windows of 27" in message
    for name, state, said in (
        ("frames", mixste_state(frames=5, joints=17), "windows of 5 frames"),
        ("joints", mixste_state(frames=9, joints=16), "joints 16"),
    ):
        torch.save(state, tmp_path / f"{name}.bin")
        assert said in refusal(
            capsys, *tiny, *TINY, f"--config.teacher.checkpoint={tmp_path / name}.bin"
        )


def test_pytorch_teacher_is_evaluated_and_taught_from(capsys, records, tmp_path):
    weights = tmp_path / "mixste.bin"
    torch.save(
        {
            "model_pos": {
                f"module.{name}": value for name, value in mixste_state(frames=9, joints=17).items()
            }
        },
        weights,
    )
    arguments = (*CONFIG, f"--config.data.records={records}", *TINY)
    assert (
        launch_main(
            *arguments,
            "--mode",
            "eval",
            "--checkpoint",
            str(weights),
            "--workdir",
            str(tmp_path / "eval"),
        )
        == 0
    )
    scored = json.loads((tmp_path / "eval" / "eval" / "results.json").read_text())["networks"][
        "mixste.bin"
    ]
    student = (*arguments, f"--config.teacher.checkpoint={weights}", "--config.baseline=False")
    assert launch_main(*student, "--workdir", str(tmp_path / "run")) == 0
    taught = json.loads((tmp_path / "run" / "results.json").read_text())["networks"]
    assert set(taught) == {"teacher", "student"}
    assert taught["teacher"]["scores"] == scored["scores"]


def test_nan_stops_with_its_step_and_keeps_the_checkpoint(capsys, records, tmp_path):
    arguments = (
        *CONFIG,
        f"--config.data.records={records}",
        *TINY,
        "--workdir",
        str(tmp_path / "run"),
    )
    message = refusal(
        capsys,
        *arguments,
        "--config.teacher.optim.learning_rate=1e38",
        "--config.teacher.optim.clip_norm=0.0",
    )
    assert "is not finite at step" in message


def test_folder_that_cannot_be_made(capsys, records, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = (*CONFIG, f"--config.data.records={records}", *TINY)
    assert "'" + str(tmp_path / "file") in refusal(
        capsys, *arguments, "--workdir", str(tmp_path / "file" / "run")
    )
    assert "a storage that is not known here" in refusal(
        capsys, *arguments, "--workdir", "s3://bucket/run"
    )


def test_batch_statistics_of_a_network_that_has_none(capsys, records, tmp_path):
    message = refusal(
        capsys,
        *CONFIG,
        f"--config.data.records={records}",
        *TINY,
        "--config.teacher.train.batch_statistics=device",
        "--workdir",
        str(tmp_path / "run"),
    )
    assert (
        "teacher.train.batch_statistics is 'device', and mixste has no batch normalisation: set it "
        "to 'global'." in message
    )
    assert not (tmp_path / "run" / "config.json").exists()


def test_second_run_in_the_same_folder(capsys, records, tmp_path):
    arguments = (
        *CONFIG,
        f"--config.data.records={records}",
        *TINY,
        "--workdir",
        str(tmp_path / "run"),
    )
    with held(tmp_path / "run", print):
        assert f"is in use by process {os.getpid()} on " in refusal(capsys, *arguments)
    assert not (tmp_path / "run").exists()


def test_other_data_in_the_same_folder(capsys, finished, tmp_path):
    from data_prep import convert

    workdir, arguments = finished
    other = str(tmp_path / "other")
    convert.prepare(
        "synthetic", other, train_subjects=1, test_subjects=1, takes=1, frames=60, seed=1, workers=1
    )
    (workdir / "results.json").rename(tmp_path / "results.json")  # as if the run had not ended
    try:
        assert "other data" in refusal(capsys, *arguments, f"--config.data.records={other}")
    finally:
        (tmp_path / "results.json").rename(workdir / "results.json")


def test_full_disk(capsys, records, tmp_path, monkeypatch):
    from kdpose_jax import files

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_atomically", full)
    message = refusal(
        capsys,
        *CONFIG,
        f"--config.data.records={records}",
        *TINY,
        "--workdir",
        str(tmp_path / "run"),
    )
    assert "disk is full" in message


def test_what_orbax_logs_of_a_failure_has_no_traceback():
    try:
        raise ValueError("the disk is full")
    except ValueError:
        record = logging.LogRecord(
            "absl", logging.ERROR, "file", 1, "Save failed.", (), sys.exc_info()
        )
    assert "Traceback" in logging.Formatter().format(copy.copy(record))
    assert program.without_traceback(record)
    assert logging.Formatter().format(record) == "Save failed."
