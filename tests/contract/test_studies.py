"""Every study of configs/studies, on all data that it knows: its runs must be ones that the launcher takes."""

import pathlib

import pytest
from ml_collections import ConfigDict
from tiny import get_config

from kdpose_jax.errors import UserError
from kdpose_jax.experiment import pipeline, settings
from kdpose_jax.report import study as command
from kdpose_jax.report.comparison import Of, Run

STUDIES = sorted(pathlib.Path("configs/studies").glob("[a-z]*.py"))
TEXTS = {"cdkd_audit": ("", "pictures,size=64", "pictures,teacher=T", "mpii32", "mpii64", "coco32", "coco64")}
LIFTING = ("", "mocap", "h36m")


def choices():
    each = {path: TEXTS[path.stem] if path.stem in TEXTS else LIFTING for path in STUDIES}
    return [pytest.param(path, text, id=f"{path.stem}-{text or 'demo'}") for path in STUDIES for text in each[path]]


def config_of(run: Run) -> ConfigDict:
    """What the launcher makes of a run, teachers and records aside."""
    path, _, text = run.config.partition(":")
    config = get_config(pathlib.Path(path).stem, text)
    for name, value in run.fields.items():
        *blocks, field = name.split(".")
        block = config
        for part in blocks:
            block = block[part]
        assert field in block, f"{run.name}: {name}"
        if not isinstance(value, Of):
            block[field] = value  # of another type: a TypeError
    return config


@pytest.mark.parametrize(("path", "text"), choices())
def test_the_launcher_takes_every_run(path, text):
    study = command.load(f"{path}:{text}" if text else str(path))
    study.check()
    assert study.seeds == (0, 1, 2)
    for run in study.runs:
        config = config_of(run)
        settings.check(config)
        runs = pipeline.planned_runs(config)
        pipeline.check_before_data(runs)
        shown = {row.network for row in study.rows if row.run == run.name}
        assert shown and shown <= {one.name for one in runs}, f"{run.name} has no {shown}"


@pytest.mark.parametrize(("path", "text"), choices())
def test_columns_are_those_of_the_protocol(path, text):
    study = command.load(f"{path}:{text}" if text else str(path))
    for run in study.runs:
        config = config_of(run)
        protocol = settings.load("evaluate", config.eval.protocol, "eval.protocol").Protocol
        if isinstance(protocol.columns, tuple):  # others are named after a setting
            assert {key for key, *_ in study.columns} <= {key for key, *_ in protocol.columns}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_bad_options_are_refused(path):
    for text, said in (("moon", "'moon' is no preset"), ("demo,seed=1", "'seed=1' is no option")):
        with pytest.raises(UserError, match=said):
            command.load(f"{path}:{text}")
