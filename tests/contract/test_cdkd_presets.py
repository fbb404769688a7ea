"""The presets of configs/cdkd.py against docs/methods/cdkd.md and pose2d.md, mode by mode."""

import jax
import numpy as np
import pytest
from tiny import first_steps, get_config, prediction_shapes

from kdpose_jax.errors import UserError
from kdpose_jax.experiment import checks, pipeline
from kdpose_jax.experiment.run import build

FULL = ("mpii32", "mpii64", "coco32", "coco64")
# width, side, k, joints (docs/methods/cdkd.md#settings); smoothing, scale factor, rotation,
# half body (docs/methods/pose2d.md#augmentation)
SETS = {
    "mpii32": (32, 32, 2.0, 16, 0.2, 0.25, 30.0, 0.0),
    "mpii64": (32, 64, 3.0, 16, 0.2, 0.25, 30.0, 0.0),
    "coco32": (32, 32, 2.0, 17, 0.1, 0.35, 45.0, 0.3),
    "coco64": (48, 64, 3.0, 17, 0.1, 0.35, 45.0, 0.3),
}
# 0.4 alpha and 0.4 beta B / 128, as beta's term is a sum over the batch
# (docs/methods/cdkd.md#released-weights)
RELEASED = {
    "mpii32": (0.4, 0.04),
    "mpii64": (4e-5, 1e-6),
    "coco32": (0.4, 1e-5),
    "coco64": (0.4, 2.5e-5),
}


@pytest.mark.parametrize("preset", FULL)
def test_full_sizes(preset):
    config = get_config("cdkd", preset)
    data, augmentation = config.data, config.data.training
    found = (
        config.student.network.width,
        config.student.input.size,
        data.split_ratio,
        data.joints,
        config.student.loss.smoothing,
        augmentation.scale_factor,
        augmentation.rotation_factor,
        augmentation.half_body_probability,
    )
    assert found == SETS[preset]
    assert (
        config.teacher.input.size == 256
        and config.teacher.network.to_dict() == config.student.network.to_dict()
    )
    assert (config.teacher.loss.form, config.teacher.loss.smoothing) == (
        {"mpii": "norm", "coco": "sum"}[preset[:4]],
        SETS[preset][4],
    )
    for stage in (config.teacher, config.student):  # docs/methods/cdkd.md#recipe
        assert (stage.train.batch, stage.train.epochs, stage.train.ema_decay) == (128, 210.0, 0.0)
        assert (stage.optim.learning_rate, stage.optim.schedule, stage.optim.weight_decay) == (
            1e-3,
            "steps",
            0.0,
        )
        assert (stage.optim.drop_epochs, stage.optim.drop_factor) == ((170.0, 200.0), 0.1)
    assert (
        config.eval.protocol == {"mpii": "mpii", "coco": "coco"}[preset[:4]]
        and config.eval.settings.flip
    )
    assert (config.decode.flip_shift, config.decode.coordinate, config.decode.score) == (
        "one",
        "argmax",
        "max",
    )


@pytest.mark.parametrize("preset", FULL)
def test_release_has_the_slips(preset):
    """D1 to D4 of docs/methods/cdkd.md#deviations, the released weights and losses."""
    config = get_config("cdkd", f"{preset},mode=release")
    weights, projection, alignment, heat = (
        config.distill[name] for name in ("weights", "projection", "alignment", "temperature")
    )
    assert (weights.projection, weights.alignment) == pytest.approx(RELEASED[preset])
    assert not projection.student_gradient and not projection.trained and projection.kind == "dense"
    assert (
        alignment.reduction == "release"
        and not alignment.target_gradient
        and alignment.grouping == "floor"
    )
    assert (heat.reversal, heat.trained, heat.loops, heat.start, heat.range, heat.initial) == (
        (1.0, 0.0),
        False,
        210.0,
        1.0,
        20.0,
        1.0,
    )
    assert (
        config.student.loss.form == config.teacher.loss.form and config.student.loss.scale == 1000.0
    )
    assert config.name == f"cdkd_{preset}_release"


@pytest.mark.parametrize("preset", FULL)
def test_paper_has_none_of_them(preset):
    distill = get_config("cdkd", preset).distill
    assert (
        distill.projection.student_gradient
        and distill.projection.trained
        and distill.projection.kind == "dense"
    )
    assert (
        distill.alignment.reduction == "mean"
        and distill.alignment.target_gradient
        and distill.alignment.grouping == "floor"
    )
    assert distill.temperature.reversal == (0.0, -1.0) and distill.temperature.trained
    assert get_config("cdkd", f"{preset},mode=paper") == get_config("cdkd", preset)


@pytest.mark.parametrize("preset", FULL)
def test_plus(preset):
    """docs/methods/cdkd.md#modes. The task loss keeps the scale that the weights are chosen for."""
    config = get_config("cdkd", f"{preset},mode=plus")
    assert config.distill.projection.kind == "kron" and config.distill.alignment.grouping == "hat"
    assert config.decode.flip_shift == "exact" and config.decode.coordinate == "expectation"
    assert (config.student.loss.form, config.student.loss.scale) == ("mean_gaussian", 1.0)
    assert config.data.split_ratio == (4.0 if preset.endswith("32") else 3.0)
    assert config.distill.weights == get_config("cdkd", preset).distill.weights


@pytest.mark.parametrize("preset", ["demo", "pictures", *FULL])
@pytest.mark.parametrize("mode", ["paper", "release", "plus"])
def test_every_mode_builds(preset, mode):
    config = get_config("cdkd", f"{preset},mode={mode}")
    checks.check(config)
    for run in pipeline.planned_runs(config):
        build(run, 1000)


@pytest.mark.parametrize(
    "text, shared",
    [("mpii64", True), ("coco64", True), ("coco64,mode=plus", False), ("coco32", False)],
)
def test_devices_share_dense_projectors_of_64_pixels(text, shared):
    """No chip of 16 GB can train them alone (docs/running/compiled.md#memory)."""
    config = get_config("cdkd", text)
    assert config.student.train.fsdp is shared and config.teacher.train.fsdp is False


def test_unknown_mode_is_refused():
    with pytest.raises(
        UserError, match="option mode of preset demo is 'papers': use one of paper, release, plus"
    ):
        get_config("cdkd", "demo,mode=papers")


@pytest.mark.parametrize("preset", ["pictures", *FULL])
def test_heatmap_baseline(preset):
    """HRNet's own head on the same crops and schedule (spec appendix B.

    1 cell at 8x8 and 16x16): one network, no teacher.
    """
    config, simdr = get_config("cdkd", f"{preset},head=heatmap"), get_config("cdkd", preset)
    checks.check(config)
    (run,) = pipeline.planned_runs(config)
    assert (run.name, run.config.method, config.name) == (
        "student",
        "supervised",
        f"cdkd_{preset}_heatmap",
    )
    assert (config.student.network.head, config.student.loss.sigma, config.student.loss.scale) == (
        "heatmap",
        1.0,
        1.0,
    )
    assert config.decode.coordinate == "argmax"
    simdr.student.train.fsdp = False  # it has no projectors that devices would share
    for block in ("optim", "train", "input"):
        assert config.student[block] == simdr.student[block]
    same = {**config.student.network.to_dict(), "head": "simdr"}
    assert same == simdr.student.network.to_dict() and config.data == simdr.data
    if preset.startswith("coco"):
        assert (config.eval.settings.joint_threshold, simdr.eval.settings.joint_threshold) == (
            0.2,
            0.02,
        )
        config.eval.settings.joint_threshold = 0.02
    assert config.eval == simdr.eval
    method = build(run, 1000).method
    assert method.teachers == ()


def test_heatmap_baseline_is_trained():
    started = first_steps("cdkd", "pictures,size=32,head=heatmap", "student")
    before, after = (jax.tree.leaves(one.params) for one in started.states[:2])
    assert all((old != new).any() for old, new in zip(before, after, strict=True))
    assert all(np.isfinite(metrics["heatmap_error"][0]) for metrics in started.metrics)
    assert jax.tree.map(np.shape, started.prediction) == prediction_shapes(
        started.run.config, started.batch
    )
    assert np.asarray(started.prediction["joints"]).max() < 32


@pytest.mark.parametrize(
    "text",
    ["mpii32,mode=plus", "coco64,mode=release", "pictures,mode=plus", "mpii64,teacher=/runs/t"],
)
def test_heatmap_baseline_has_nothing_of_cdkd(text):
    name = text.split(",")[1].split("=")[0]
    with pytest.raises(
        UserError,
        match=f"option {name} of preset .* with head=heatmap is .*: use one of (paper|new)",
    ):
        get_config("cdkd", f"{text},head=heatmap")
    with pytest.raises(
        UserError, match="option head of preset mpii64 is 'dense': use one of simdr, heatmap"
    ):
        get_config("cdkd", "mpii64,head=dense")
