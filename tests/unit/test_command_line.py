"""What is said of a command line that cannot be used.

The word that the user wrote, and a remedy.
"""

import pytest
from ml_collections import ConfigDict

from kdpose_jax import presets
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import command_line

FLAGS = ("config", "workdir", "mode")


def config():
    return ConfigDict(
        {
            "seed": 0,
            "rate": 0.5,
            "keep": True,
            "name": "x",
            "sizes": (1, 64),
            "student": ConfigDict({"width": 16, "depth": 2}),
            "empty": ConfigDict(),
        }
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config.student.widht=3"], "did you mean --config.student.width?"),
        (["--config.studnet.width=3"], "did you mean --config.student.width?"),
        (["--config.student.peak=3"], "'student' has no field 'peak': its fields are depth, width"),
        (["--config.empty.a=3"], "its fields are none here"),
        (["--config.seed.a=3"], "'seed' is one value and has no fields: write --config.seed=VALUE"),
        (["--config.student=3"], "--config.student.depth, --config.student.width"),
        (
            ["--config.seed=1.5"],
            "--config.seed is '1.5', and this field takes a whole number, such as 0",
        ),
        (["--config.seed", "wide"], "--config.seed is 'wide'"),
        (["--config.rate=1e"], "takes a number, such as 0.5"),
        (["--config.keep=maybe"], "takes True or False"),
        (["--config.sizes=(a,)"], "takes a tuple, such as (1, 64)"),
        (["--config.sizes=('1',)"], "takes a tuple"),
        (["--config.seed"], "--config.seed has no value"),
        (["--noconfig.seed"], "--noconfig.seed has no value"),
        (["--seed=3"], "'--seed=3' is not a flag: write --config.seed=3"),
        (["--student.width=3"], "write --config.student.width=3"),
    ],
)
def test_words_that_do_not_fit(words, said):
    with pytest.raises(UserError) as refused:
        command_line.check_words(["launch.py", "--config", "c.py", *words], config(), FLAGS)
    assert said in str(refused.value) and str(refused.value).endswith((".", "?"))


def test_words_that_fit():
    words = [
        "--config.seed=3",
        "--config.rate",
        "1",
        "--config.keep=false",
        "--noconfig.keep",
        "--config.keep",
        "--config.name=a=b",
    ]
    words += [
        "--config.sizes=3",
        "--config.sizes=[1, 2]",
        "--config.student.width=8",
        "--workdir",
        "student",
    ]
    command_line.check_words(["launch.py", "--config=c.py", *words], config(), FLAGS)


def test_fields_without_a_config_or_before_it():
    with pytest.raises(UserError, match="no config is named"):
        command_line.check_words(["launch.py", "--config.seed=3"], None, FLAGS)
    with pytest.raises(UserError, match="--config.seed stands before --config"):
        command_line.check_words(
            ["launch.py", "--config.seed=3", "--config", "c.py"], config(), FLAGS
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), (1.0, float("-inf"))])
def test_numbers_that_are_none(value):
    command_line.check_numbers(config())
    with pytest.raises(UserError, match=r"--config\.student\.rate is -?(nan|inf)"):
        command_line.check_numbers(ConfigDict({"student": ConfigDict({"rate": value})}))


def test_config_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(
        "from ml_collections import ConfigDict\ndef get_config(text=''):\n    return "
        "ConfigDict({'a': text})\n"
    )
    for words in (["--config", "~/mine.py:b,c=1"], ["--config=~/mine.py:b,c=1"]):
        found, named = command_line.with_config(["launch.py", *words])
        assert named == f"{tmp_path}/mine.py:b,c=1" and command_line.load(named).a == "b,c=1"
        assert f"{tmp_path}/mine.py:b,c=1" in found[-1] and "~" not in found[-1]
    found, named = command_line.with_config(["launch.py", "--config", "scjd:h36m,frames=81"])
    assert named == f"{presets.folder()}/scjd.py:h36m,frames=81" == found[-1]
    assert command_line.with_config(["launch.py", "--mode", "eval"]) == (
        ["launch.py", "--mode", "eval"],
        "",
    )
    for words, said in (
        (["--config", "configs/scdj.py"], "did you mean --config configs/scjd.py?"),
        (["--config", "scdj"], "did you mean --config scjd?"),
        (["--config", "configs"], "is a folder"),
        (["--config"], "--config names no file"),
        (["--config", "--mode"], "--config names no file"),
        (["--config=~/mine.py", "--config", "configs/scjd.py"], "--config stands twice"),
        (["--config=~nobody-of-this-name/x.py"], "there is no such user"),
    ):
        with pytest.raises(UserError) as refused:
            command_line.with_config(["launch.py", *words])
        assert said in str(refused.value), words
    monkeypatch.chdir(tmp_path)  # started in another folder
    with pytest.raises(UserError, match="write --config scjd, which works in every folder"):
        command_line.with_config(["launch.py", "--config", "configs/scjd.py"])


def test_every_name_of_a_preset_is_an_experiment():
    assert presets.names() == ["baselines", "cdkd", "lifters", "scjd"]
    assert "frontier" in presets.names("studies")
    for name in presets.names():
        assert command_line.load(f"{presets.folder()}/{name}.py").name.startswith(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\n", "has no function get_config"),
        ("def get_config(:\n", "SyntaxError"),
        ("def get_config():\n    return {}\n", "get_config returns"),
        ("import nothing_of_this_name\n", "ModuleNotFoundError"),
        ("def get_config():\n    return 1 / 0\n", "ZeroDivisionError: division by zero"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, said):
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(UserError) as refused:
        command_line.load(str(tmp_path / "c.py"))
    assert said in str(refused.value) and "\n" not in str(refused.value)
