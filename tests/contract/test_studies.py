"""Every study of configs/studies, on all data that it knows.

Its runs must be ones that the launcher takes.
"""

import itertools
import pathlib

import pytest
from ml_collections import ConfigDict
from tiny import get_config

from kdpose_jax.errors import UserError
from kdpose_jax.experiment import checks, configs, modules, pipeline
from kdpose_jax.study import runner as command
from kdpose_jax.study.declare import Run, others_in

STUDIES = sorted(pathlib.Path("configs/studies").glob("[a-z]*.py"))
LIFTING = ("", "mocap", "h36m", "3dhp")
TEXTS = {
    "cdkd_audit": (
        "",
        "pictures,size=64",
        "pictures,teacher=T",
        "mpii32",
        "mpii64",
        "coco32",
        "coco64",
    ),
    "frontier": ("", "gpu", "mocap", "mocap,epochs=0.5,teacher_epochs=2"),
    "lifters": ("", "mocap,epochs=0.5", "mocap,epochs=0.5,teacher=T", "h36m"),
    "sampling": ("", "mocap,teacher=T", "h36m"),
}


def choices():
    each = {path: TEXTS[path.stem] if path.stem in TEXTS else LIFTING for path in STUDIES}
    return [
        pytest.param(path, text, id=f"{path.stem}-{text or 'demo'}")
        for path in STUDIES
        for text in each[path]
    ]


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
        if not others_in(value):
            block[field] = value  # of another type: a TypeError
    found = configs.flatten(config.to_dict())
    for name, value in run.fields.items():  # none of them has changed another
        assert others_in(value) or found[name] == value, f"{run.name}: {name}"
    return config


@pytest.mark.parametrize(("path", "text"), choices())
def test_the_launcher_takes_every_run(path, text):
    study = command.load(f"{path}:{text}" if text else str(path))
    study.check()
    assert study.seeds == (0, 1, 2)
    of_runs = {run.name: config_of(run) for run in study.runs}
    for first, second in itertools.combinations(study.runs, 2):
        teachers = {
            run.fields["teacher.checkpoint"] if "teacher.checkpoint" in run.fields else None
            for run in (first, second)
        }
        same = (
            configs.as_dict(of_runs[first.name]) == configs.as_dict(of_runs[second.name])
            and len(teachers) == 1
        )
        assert not same, f"{first.name} and {second.name} are the same"
    for run in study.runs:
        config = of_runs[run.name]
        checks.check(config)
        runs = pipeline.planned_runs(config)
        pipeline.check_before_data(runs)
        shown = {row.network for row in study.rows if row.run == run.name}
        assert shown and shown <= {one.name for one in runs}, f"{run.name} has no {shown}"


@pytest.mark.parametrize(("path", "text"), choices())
def test_columns_are_those_of_the_protocol(path, text):
    study = command.load(f"{path}:{text}" if text else str(path))
    for run in study.runs:
        config = config_of(run)
        protocol = modules.protocol(config.eval.protocol).Protocol
        # PCK's are named after a setting.
        known = (
            {column.key for column in protocol.columns}
            if isinstance(protocol.columns, tuple)
            else {"pck"}
        )
        assert {key for key, *_ in study.columns} <= known


def test_a_budget_is_one():
    """All networks of the lifting study take the same steps over as many frames, and are chosen and
    timed on as many.
    """
    for text in ("", "mocap", "mocap,epochs=0.5"):
        found = set()
        for run in command.load(f"configs/studies/lifters.py:{text}").runs:
            config = config_of(run)
            network, train, optim = (
                config.student.network,
                config.student.train,
                config.student.optim,
            )
            single = network.name in ("poseformer_v2", "videopose3d")  # frame by frame
            trained = 1 if single else config.data.frames
            evaluated = network.evaluated_frames if network.name == "videopose3d" else trained
            chosen, timed = (
                train.evaluate_examples * evaluated,
                config.eval.latency_batches[-1] * evaluated,
            )
            assert 0.98 <= chosen / 6912 <= 1 and 0.9 <= timed / 432 <= 1
            rates = (
                optim.learning_rate,
                optim.schedule,
                optim.weight_decay,
                optim.warmup_epochs,
                optim.clip_norm,
            )
            found.add(
                (
                    train.batch * trained,
                    train.epochs,
                    train.ema_decay,
                    train.evaluate_every_epochs,
                    config.data.frames,
                    *rates,
                )
            )
            assert config.eval.settings.windows == "exact" and config.eval.settings.flip
        assert len(found) == 1


@pytest.mark.parametrize("frames", [27, 81, 243])
@pytest.mark.parametrize("data", ["demo", "mocap"])
def test_a_batch_is_of_as_many_predicted_frames_for_every_lifter(data, frames):
    predicted = {
        name: get_config("lifters", f"{name},data={data},frames={frames}").student.train.batch
        * (frames if "mixste" in name else 1)
        for name in ("mixste", "mixste_hot", "poseformer_v2", "videopose3d")
    }
    assert len(set(predicted.values())) == 1 and predicted["mixste"] >= frames


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_bad_options_are_refused(path):
    for text, said in (
        ("moon", "'moon' is not a preset"),
        ("demo,seed=1", "'seed=1' is not an option"),
    ):
        with pytest.raises(UserError, match=said):
            command.load(f"{path}:{text}")
