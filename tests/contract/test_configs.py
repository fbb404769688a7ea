"""Every config in configs/, found by itself.

Its presets build, lock, survive JSON, and take their first steps.
"""

import dataclasses
import inspect
import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from tiny import (
    EXPERIMENTS,
    NO_FIRST_GRADIENT,
    NOT_AT_ONCE,
    RUNS,
    example_batch,
    first_steps,
    get_config,
    prediction_shapes,
)

from configs import blocks, scjd
from data_prep import convert
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.cost import count_macs, count_parameters
from kdpose_jax.experiment import checks, configs, modules, pipeline
from kdpose_jax.experiment.run import build, reads
from kdpose_jax.tasks.sparse_lifting import keyframe_grid

experiments = pytest.mark.parametrize(("file", "preset"), EXPERIMENTS)
runs = pytest.mark.parametrize(("file", "preset", "name"), RUNS)


def one_sentence(error: UserError) -> bool:
    text = str(error)
    return "\n" not in text and text.endswith(".") and ". " not in text


@experiments
def test_is_checked_locked_and_written(file, preset):
    config = get_config(file, preset)
    checks.check(config)
    for run in pipeline.planned_runs(config):
        locked = build(run, 1000).run.config
        assert locked.is_locked
        with pytest.raises((AttributeError, KeyError)):
            locked.student.no_such_field = 1
        values = configs.as_dict(locked)
        back = configs.from_dict(json.loads(json.dumps(values)))
        assert configs.flatten(back.to_dict()) == configs.flatten(locked.to_dict())
        assert configs.differences(values, configs.as_dict(back)) == []


@experiments
def test_every_field_can_be_given_on_the_command_line(file, preset):
    """ml_collections takes a field's type from its value.

    None or a list could not be overridden, a tuple can.
    """
    allowed = (bool, int, float, str, tuple)
    bad = {
        name: value
        for name, value in configs.flatten(get_config(file, preset).to_dict()).items()
        if not isinstance(value, allowed)
    }
    assert not bad


@pytest.mark.parametrize(("file", "text"), [*EXPERIMENTS, ("scjd", "mocap,files=motion")])
def test_converter_has_the_settings(file, text):
    converter = get_config(file, text).data.converter
    settings_given = {
        name: value for name, value in converter.settings.items() if value not in ("", ())
    }
    assert convert.expected_files(converter.name, settings_given)


@experiments
def test_default_preset_is_the_first(file, preset):
    first = next(name for other, name in EXPERIMENTS if other == file)
    assert configs.as_dict(get_config(file, "")) == configs.as_dict(get_config(file, first))
    assert get_config(file, preset).name == f"{file}_{preset}"


@experiments
@pytest.mark.parametrize("leftover", ["nothing", "nothing=1", "frames", "=", ""])
def test_leftovers_behind_the_colon_are_refused(file, preset, leftover):
    with pytest.raises(UserError, match="is not an option of preset") as caught:
        get_config(file, f"{preset},{leftover}")
    assert one_sentence(caught.value)


def test_parse_preset():
    presets, options = ("small", "large"), {"frames": 243, "student": "S-B", "rate": 0.5}
    assert blocks.parse_preset("", presets, {}) == ("small", {})
    assert blocks.parse_preset("large", presets, options) == ("large", options)
    chosen = blocks.parse_preset("large, frames=81 ,student=S-S", presets, options)
    assert chosen == ("large", {"frames": 81, "student": "S-S", "rate": 0.5})
    assert options["frames"] == 243
    for text, message in (
        ("huge", "'huge' is not a preset of this config: use one of small, large."),
        (
            "large,frame=81",
            "'frame=81' is not an option of preset 'large': the options are frames=243, "
            "student=S-B, rate=0.5.",
        ),
        (
            "large,frames",
            "'frames' is not an option of preset 'large': the options are frames=243, "
            "student=S-B, rate=0.5.",
        ),
        (
            "large,frames=8.1",
            "'frames=8.1' of preset 'large' must be a whole number: write, for example, "
            "frames=243.",
        ),
        (
            "large,rate=x",
            "'rate=x' of preset 'large' must be a number: write, for example, rate=0.5.",
        ),
    ):
        with pytest.raises(UserError) as caught:
            blocks.parse_preset(text, presets, options)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    "text",
    [
        "h36m,frames=242",
        "h36m,student=S-L",
        "h36m,r=4",
        "h36m,recipe=best",
        "3dhp,r=5",
        "3dhp,pose=annot2",
    ],
)
def test_values_that_a_full_size_preset_has_not_are_refused(text):
    with pytest.raises(
        UserError, match=f"option .* of preset {text.split(',')[0]} is .*: use one of"
    ) as caught:
        get_config("scjd", text)
    assert "\n" not in str(caught.value)


def size_of(text: str, teacher: bool = False):
    """Parameters and multiply-adds of a full-size network, by shapes alone."""
    runs = pipeline.planned_runs(get_config("scjd", text))
    built = build(runs[0] if teacher else runs[-1], 1000)
    method, config = built.method, built.run.config
    joints, frames = config.data.joints, config.data.frames
    batch = {
        "keypoints_2d": jax.ShapeDtypeStruct((1, frames, joints, 2), np.float32),
        "pose_3d": jax.ShapeDtypeStruct((1, frames, joints, 3), np.float32),
    }
    params, model_state, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    student = {"student": params["student"]}
    return (
        count_parameters(student),
        count_macs(method.predict, student, model_state, batch),
        frames,
    )


@pytest.mark.parametrize(
    ("frames", "parameters", "gflops", "with_attention"),
    [
        (243, "33.78", "277.25", "294.8"),
        (81, "33.70", "92.42", "94.6"),
        (27, "33.67", "30.81", "31.1"),
    ],
)
def test_teacher_sizes(frames, parameters, gflops, with_attention):
    """docs/methods/lifting.md#cost, to its printed digits."""
    count, macs, _ = size_of(f"h36m,frames={frames}", teacher=True)
    assert frames != 243 or count == 33_783_811
    assert f"{count / 1e6:.2f}" == parameters
    assert f"{2 * macs.linear / 1e9:.2f}" == gflops
    assert f"{2 * macs.total / 1e9:.1f}" == with_attention
    assert f"{2 * macs.linear / frames / 1e6:.1f}" == "1140.9"


@pytest.mark.parametrize(
    ("text", "parameters", "gflops", "per_frame"),
    [
        ("student=S-B", "8.46", "23.1", "95.1"),
        ("student=S-M", "4.24", "11.6", "47.6"),
        ("student=S-S", "2.13", "5.78", "23.8"),
        ("student=S-XS", "1.07", "2.89", "11.9"),
        ("student=S-B,r=9", "8.45", "7.70", "31.7"),
        ("student=S-B,frames=27", "8.44", "2.57", "95.1"),
        ("student=S-S,frames=27", "2.12", "0.642", "23.8"),
    ],
)
def test_student_sizes(text, parameters, gflops, per_frame):
    """docs/methods/scjd.md#student, to its printed digits."""
    count, macs, frames = size_of(f"h36m,{text}")
    assert f"{count / 1e6:.2f}" == parameters
    assert f"{2 * macs.linear / 1e9:.{len(gflops.split('.')[1])}f}" == gflops
    assert f"{2 * macs.linear / frames / 1e6:.1f}" == per_frame


def test_recipes_of_human36m():
    """The released recipe and the recommended one: docs/methods/scjd.md#schedule."""
    parity, recommended = (
        get_config("scjd", f"h36m,recipe={name}") for name in ("parity", "recommended")
    )
    for config in (parity, recommended):
        assert (
            config.teacher.optim.learning_rate,
            config.teacher.optim.weight_decay,
            config.teacher.train.batch,
        ) == (4e-5, 0.1, 4)
        assert (config.teacher.optim.schedule, config.teacher.optim.decay_per_epoch) == (
            "epoch_decay",
            0.99,
        )
        assert (config.student.loss.smoothness, config.student.loss.velocity) == (0.5, 2.0)
        assert config.distill.weights.to_dict() == {
            "embedding": 1.0,
            "attention": 30.0,
            "temporal": 0.3,
        }
    student = parity.student
    assert (
        student.optim.learning_rate,
        student.optim.weight_decay,
        student.optim.warmup_epochs,
    ) == (4e-5, 0.1, 0.0)
    assert (student.train.batch, student.train.epochs, student.network.drop_path) == (4, 120.0, 0.1)
    student = recommended.student
    assert (
        student.optim.learning_rate,
        student.optim.weight_decay,
        student.optim.warmup_epochs,
    ) == (2e-4, 0.05, 2.0)
    assert (student.train.batch, student.train.ema_decay, student.input.phase_augmentation) == (
        16,
        0.999,
        True,
    )
    assert keyframe_grid(get_config("scjd", "h36m,r=9"), "student").has_equal_phases
    assert not keyframe_grid(get_config("scjd", "h36m,r=5"), "student").has_equal_phases
    assert get_config("scjd", "h36m,frames=27").teacher.train.batch == 37
    assert get_config("scjd", "h36m,teacher=/runs/t").teacher.checkpoint == "/runs/t"


def test_preset_of_mpi_inf_3dhp():
    """81 frames, every third, whose centre is a keyframe and is what is scored.

    See docs/methods/lifting.md#mpi-inf-3dhp-protocol.
    """
    config = get_config("scjd", "3dhp")
    assert (config.data.frames, config.student.input.stride, config.student.input.offset) == (
        81,
        3,
        -1,
    )
    assert ((81 - 1) // 2 - (3 - 1) // 2) % 3 == 0
    assert config.eval.protocol == "mpi_inf_3dhp" and config.eval.settings.to_dict() == {
        "flip": True
    }
    assert config.data.converter.settings.pose_source == "univ_annot3"
    assert (
        config.teacher.train.batch,
        config.teacher.train.epochs,
        config.teacher.network.width,
    ) == (12, 160.0, 512)
    assert get_config("scjd", "3dhp,pose=annot3").data.converter.settings.pose_source == "annot3"


@pytest.mark.parametrize(("key", "value", "message"), [
    ("method", "scjdd", "method is 'scjdd'"),
    ("teacher.method", "scjdd", "teacher.method is 'scjdd'"),
    ("teacher.method", "scjd", "teacher.method is 'scjd', which has a teacher itself"),
    ("teacher.method", "cdkd", "teacher.method is 'cdkd', which has a teacher itself"),
    ("task", "pose2d", "task is 'pose2d', and method 'scjd' trains lifting"),
    ("eval.protocol", "none", "eval.protocol is 'none'"),
    ("eval.protocol", "cost", "eval.protocol is 'cost', and there is no "
                              "kdpose_jax/evaluate/protocols/cost"),
    ("eval.protocol", "mpii", "eval.protocol is 'mpii', whose settings are flip, and "
                              "eval.settings has flip, keyframe_offset"),
    ("data.reader", "none", "data.reader is 'none'"),
    ("data.reader", "windows", "data.reader is 'windows', and kdpose_jax/data/windows is not a "
                               "reader"),
    ("student.train.evaluate_examples", -5, "student.train.evaluate_examples is -5"),
    ("teacher.optim.warmup_epochs", -1.0, "teacher.optim.warmup_epochs is -1"),
    ("student.train.batch", 0, "student.train.batch is 0"),
    ("teacher.train.epochs", -1.0, "teacher.train.epochs is -1"),
    ("student.train.epochs", float("nan"), "student.train.epochs is nan"),
    ("student.train.epochs", float("inf"), "student.train.epochs is inf"),
    ("student.train.ema_decay", 1.0, "student.train.ema_decay is 1.0"),
    ("eval.batch", 0, "eval.batch is 0"),
    ("eval.latency_batches", (), "name at least one number of examples"),
])  # fmt: skip
def test_values_refused_before_anything_starts(key, value, message):
    config = scjd.get_config("demo")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message) as caught:
        checks.check(config)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(("key", "value", "message"), [
    ("data.skeleton", "foo", "data.skeleton is 'foo': use one of h36m_17"),
    ("data.joints", 16, "data.joints is 16 and skeleton h36m_17 has 17"),
    ("student.network.name", "resnet", "student.network.name is 'resnet'"),
    ("student.network.mlp_ratio", 0.0, "student.network.mlp_ratio is 0"),
    ("teacher.network.name", "resnet", "teacher.network.name is 'resnet'"),
    ("teacher.network.mlp_ratio", 0.0, "teacher.network.mlp_ratio is 0"),
    ("teacher.network.heads", 3, "teacher.network.width 32 is not a multiple of"),
    ("teacher.network.depth", 0, "teacher.network has depth 0"),
    ("teacher.network.drop_path", 2.0, "teacher.network.drop_path is 2"),
    ("teacher.network.joint_position_std", -1.0, "teacher.network.joint_position_std is -1"),
    ("teacher.network.compute", "int8", "teacher.network.compute is 'int8'"),
    ("student.network.joint_position_std", -1.0, "student.network.joint_position_std is -1"),
    ("distill.embedding.reach", -2, "distill.embedding.reach is -2"),
    ("distill.embedding.temperature", 0.0, "distill.embedding.temperature is 0"),
    ("distill.decay_fraction", 3.0, "distill.decay_fraction is 3"),
    ("distill.warmup_epochs", -1.0, "distill.warmup_epochs is -1"),
])  # fmt: skip
def test_options_refused_before_data_is_read(key, value, message):
    config = scjd.get_config("demo")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message) as caught:
        pipeline.check_before_data(pipeline.planned_runs(config))
    assert one_sentence(caught.value)


def test_configs_of_the_three_runs():
    config = scjd.get_config("demo")
    runs = pipeline.planned_runs(config)
    assert [run.stage for run in runs] == ["teacher", "student", "student"]
    assert [run.method_name for run in runs] == [
        config.teacher.method,
        config.method,
        config.method,
    ]
    assert runs[0].block.to_dict() == config.teacher.to_dict()
    assert runs[2].block.to_dict() == config.student.to_dict()
    _, baseline, student = (run.config for run in runs)
    assert set(baseline.distill.weights.values()) == {0.0}
    changed = configs.differences(configs.as_dict(student), configs.as_dict(baseline))
    assert sorted(line.split(":")[0] for line in changed) == [
        f"distill.weights.{name}" for name in sorted(config.distill.weights)
    ]
    assert configs.as_dict(config) == configs.as_dict(scjd.get_config("demo")), (
        "deriving configs changes the original"
    )


@runs
def test_first_steps_are_finite(file, preset, name):
    started = first_steps(file, preset, name)
    assert [int(one.step) for one in started.states] == [0, 1, 2]
    for metrics in started.metrics:
        assert "loss" in metrics and "gradient_norm" in metrics
        for total, count in metrics.values():
            assert np.isfinite(total) and count >= 1 and total.shape == count.shape == ()
    assert started.metrics[0]["loss"][0] != started.metrics[1]["loss"][0]


@runs
def test_everything_declared_is_trained(file, preset, name):
    started = first_steps(file, preset, name)
    before, after = (jax.tree.leaves_with_path(one.params) for one in started.states[:2])
    gradients = jax.tree.leaves(started.gradients)
    assert len(before) == len(gradients)
    for (where, old), (_, new), gradient in zip(before, after, gradients, strict=True):
        path = jax.tree_util.keystr(where, simple=True, separator="/")
        if path.startswith(NOT_AT_ONCE):
            assert gradient == 0 and old == new
            continue
        if path.endswith(NO_FIRST_GRADIENT):
            assert np.abs(gradient).max() < 1e-6, f"{path} has a gradient"
            continue
        assert np.abs(gradient).max() > 0, f"{path} has no gradient"
        assert (old != new).any(), f"{path} does not change"


@runs
def test_second_step_is_not_compiled_again(file, preset, name):
    assert first_steps(file, preset, name).traces == (1, 1)


@runs
def test_prediction(file, preset, name):
    started = first_steps(file, preset, name)
    assert jax.tree.map(np.shape, started.prediction) == prediction_shapes(
        started.run.config, started.batch
    )
    for array in jax.tree.leaves(started.prediction):
        assert array.dtype == np.float32 and np.isfinite(array).all()


@runs
def test_teachers_stay_as_they_are(file, preset, name):
    """They are given back untouched (not donated), and are no part of what is saved."""
    started = first_steps(file, preset, name)
    assert {teacher.name for teacher in started.method.teachers} == set(started.frozen)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(started.frozen))
    saved = {field.name for field in dataclasses.fields(started.states[0])}
    assert "frozen" not in saved and "student" in started.states[0].params


@pytest.mark.parametrize(
    ("file", "preset"), [case for case in EXPERIMENTS if get_config(*case).baseline]
)
def test_without_weights_it_is_the_task(file, preset):
    """The baseline needs no teacher, and its loss is the task's part of the student's, from the
    same parameters.
    """
    baseline, student = (first_steps(file, preset, name) for name in ("baseline", "student"))
    assert baseline.method.teachers == () and baseline.frozen == {}
    assert set(baseline.states[0].params) == {"student"} <= set(student.states[0].params)
    # Regression to the teacher's poses, the default of the baselines, is the one lesson without
    # adapters.
    assert (set(student.states[0].params) == {"student"}) == (file == "baselines")
    jax.tree.map(
        np.testing.assert_array_equal,
        baseline.states[0].params["student"],
        student.states[0].params["student"],
    )
    loss, task = baseline.metrics[0]["loss"], student.metrics[0]["task"]
    np.testing.assert_allclose(loss[0] / loss[1], task[0] / task[1], rtol=1e-6)
    assert student.metrics[0]["loss"][0] > 1.01 * task[0], "the distillation terms weigh nothing"


@runs
def test_reader_and_protocol_take_what_the_method_reads(file, preset, name):
    """Nobody else calls them, so that an argument that one of them lacks would be met by a user."""
    run = {run.name: run for run in pipeline.planned_runs(get_config(file, preset))}[name]
    protocol = modules.protocol(run.config.eval.protocol)
    signature = inspect.signature(protocol.open_protocol)
    signature.bind("data", **reads(run, training=False), **run.config.eval.settings)
    assert set(reads(run, training=True)) == set(reads(run, training=False))


def test_example_batches_are_of_the_configs_size():
    config = ConfigDict(scjd.get_config("demo").to_dict())
    assert example_batch(config)["pose_3d"].shape == (2, 27, 17, 3)
