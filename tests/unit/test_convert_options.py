"""The converters' command line.

Ranges of numbers, `~`, and the same mistakes in the words of launch.py's fields.
"""

import os
import signal
import subprocess
import sys
import time

import pytest
from ml_collections import ConfigDict

from data_prep import convert
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import data


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("human36m", "--fps", "0"), "--fps is '0': give a number of at least 1 and at most 1000"),
        (("human36m", "--fps", "-5"), "--fps is '-5'"),
        (("human36m", "--fps", "nan"), "--fps is 'nan'"),
        (("human36m", "--fps", "1e999"), "--fps is '1e999'"),
        (("mocap", "--fps", "0"), "--fps has '0'"),
        (("mocap", "--noise", "nan"), "--noise is 'nan': give a number of at least 0 and below 1"),
        (("mocap", "--noise", "1"), "--noise is '1'"),
        (("mocap", "--seed", "-1"), "--seed is '-1'"),
        (("synthetic", "--frames", "0"), "--frames is '0': give a whole number of at least 1"),
        (("synthetic", "--seed", "1.5"), "--seed is '1.5'"),
        (("people", "--train-pictures", "-1"), "--train-pictures is '-1'"),
        (("synthetic", "--workers", "0"), "--workers is '0'"),
        (("coco", "--workers", "-1"), "--workers is '-1'"),
        (("mpii", "--workers", "two"), "--workers is 'two'"),
        (("synthetic", "--wrokers", "2"), "unrecognized arguments: --wrokers 2"),
        (("synthetc",), "There is no converter 'synthetc': use human36m, mpi_inf_3dhp"),
    ],
)
def test_numbers_out_of_range(capsys, tmp_path, words, said):
    where = (
        "--out",
        str(tmp_path / "out"),
        *(("--source", str(tmp_path)) if words[0] in ("human36m", "mocap", "coco", "mpii") else ()),
    )
    assert convert.main([*words, *where]) == 2
    message = capsys.readouterr().err
    assert said in message and message.startswith("error: ") and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_large_seed_is_taken_as_it_is():
    assert convert.check("synthetic", {"out": "x", "seed": 2**60 + 1})["seed"] == 2**60 + 1
    with pytest.raises(UserError, match=r"--seed is '1\.5'"):
        convert.check("synthetic", {"out": "x", "seed": 1.5})


def test_home_is_filled_in(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "raw").mkdir()
    found = convert.check(
        "mpii",
        {
            "source": "~/raw",
            "out": "~/out",
            "train_images": "~/pictures",
            "head_boxes": "boxes.mat",
        },
    )
    assert found["source"] == f"{tmp_path}/raw" and found["out"] == f"{tmp_path}/out"
    assert found["train_images"] == f"{tmp_path}/pictures" and found["head_boxes"] == "boxes.mat"
    assert (
        convert.check(
            "human36m", {"source": "~/raw", "out": "gs://b/~x", "cameras_file": "~/c.json"}
        )["out"]
        == "gs://b/~x"
    )
    with pytest.raises(UserError, match="there is no such user"):
        convert.check("synthetic", {"out": "~nobody-of-this-name/out"})


def config(source="", records="", **settings):
    block = {"reader": "sequences", "records": records, "source": source}
    return ConfigDict(
        {"name": "c", "data": {**block, "converter": {"name": "mocap", "settings": settings}}}
    )


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("--source '/a' is not a folder.", "--config.data.source '/a' is not a folder."),
        ("give another --out.", "give another --workdir."),
        (
            "'x' (see --map) and --up y: set --skip-unreadable.",
            "'x' (see --config.data.converter.settings.map_file) and "
            "--config.data.converter.settings.up y: set "
            "--config.data.converter.settings.skip_unreadable=True.",
        ),
        ("'/a/--up' is wrong.", "'/a/--up' is wrong."),
        (
            "run `python -m data_prep.convert mocap --source DIR`.",
            "run `python -m data_prep.convert mocap --source DIR`.",
        ),
        ("use --config.data.frames.", "use --config.data.frames."),
        (
            "with fewer --workers.",
            "with fewer --workers (--workers belongs to `python -m data_prep.convert mocap`, whose "
            "records --config.data.records=DIR takes).",
        ),
    ],
)
def test_options_become_fields(sentence, said):
    assert (
        data.in_fields(
            sentence, "mocap", config(up="", map_file="", skip_unreadable=False), convert
        )
        == said
    )


def test_out_is_the_field_that_the_user_set():
    said = data.in_fields("give another --out.", "mocap", config(source="a", records="b"), convert)
    assert said == "give another --config.data.records."


def test_source_and_settings_are_asked_for_first(tmp_path):
    with pytest.raises(
        UserError, match=r"^--config\.data\.source '/nowhere/at-all' is not a folder"
    ):
        data.check_source(config(source="/nowhere/at-all"), convert)
    with pytest.raises(UserError, match=r"^--config\.data\.converter\.settings\.seed is '-3'"):
        data.check_source(config(source=str(tmp_path), seed=-3), convert)
    with pytest.raises(UserError, match=r"--config\.data\.source=DIR"):
        data.check_source(config(), convert)
    data.check_source(config(source=str(tmp_path), seed=3), convert)
    data.check_source(config(records="gs://bucket/records"), convert)


def test_ctrl_c_is_one_sentence_and_the_same_command_goes_on(tmp_path):
    words = [
        sys.executable,
        "-m",
        "data_prep.convert",
        "synthetic",
        "--out",
        str(tmp_path / "out"),
        "--frames",
        "300",
        "--workers",
        "2",
    ]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not (tmp_path / "out" / "unfinished.json").exists() and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (
        said
        == f"stopped by Ctrl-C, what is finished in '{tmp_path / 'out'}' is kept: run the same "
        f"command again to go on\n"
    )
    assert (
        convert.prepare("synthetic", str(tmp_path / "out"), print, frames=300, workers=1).seconds
        > 0
    )
