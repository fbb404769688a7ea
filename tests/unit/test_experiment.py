"""Small decisions of a run.

Which folder, which checkpoint, whose config, and evaluations that are made again.
"""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from tiny import get_config, run_on

from data_prep import convert
from kdpose_jax.contracts import Method
from kdpose_jax.data import sequences
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.extremes import Extremes
from kdpose_jax.experiment import (
    configs,
    data,
    evaluation,
    gradients,
    pipeline,
    scoring,
    stored_runs,
)
from kdpose_jax.experiment.run import Context, open_training
from kdpose_jax.folders import RunFolder, WorkFolder
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.train.preemption import Stop
from kdpose_jax.train.state import TrainState


@pytest.mark.parametrize(("path", "home"), [
    ("/runs/h36m/student", "/runs/h36m/student"),
    ("/runs/h36m/student/checkpoints", "/runs/h36m/student"),
    ("/runs/h36m/student/checkpoints/200", "/runs/h36m/student"),
    ("/mnt/checkpoints/h36m/student", "/mnt/checkpoints/h36m/student"),
    ("/mnt/checkpoints/h36m/student/checkpoints/7", "/mnt/checkpoints/h36m/student"),
    ("/runs/h36m/student/interrupted/248", "/runs/h36m/student"),
    ("/runs/h36m/student/interrupted", "/runs/h36m/student"),
    ("/runs/h36m/student/damaged-checkpoints/200", "/runs/h36m/student"),
    ("/runs/seed/7", "/runs/seed/7"),
])  # fmt: skip
def test_folder_of_the_run_of_a_checkpoint(path, home):
    assert str(stored_runs.run_folder(path)) == home


def test_which_checkpoint_is_said(tmp_path, monkeypatch):
    for stored, words in (
        ({"chosen_on": "the validation subject S8"}, "the best on the validation subject S8"),
        ({}, "the best on the test split, as published"),  # of an older version
    ):
        monkeypatch.setattr(stored_runs.loading, "run_meta", lambda path, stored=stored: stored)
        assert stored_runs.which_checkpoint("/runs/student") == words
    assert stored_runs.which_checkpoint("/runs/student/checkpoints/200") == "of step 200"
    (tmp_path / "mixste").write_bytes(b"PK")  # a file is one of weights, whatever it is called
    assert stored_runs.which_checkpoint(str(tmp_path / "mixste")) == "imported from PyTorch"


def test_config_of_another_version_is_refused(monkeypatch):
    """A run whose config lacks what this version reads is named, with the remedy, where it would be
    a traceback later.
    """
    stored = configs.as_dict(get_config("scjd", "demo"))
    monkeypatch.setattr(stored_runs.loading, "run_meta", lambda path: {"config": stored})
    assert stored_runs.run_of_checkpoint("/runs/old").config.task == "lifting"
    del stored["task"], stored["student"]["pretrained"]
    with pytest.raises(
        UserError,
        match="'/runs/old' was trained by another version .* lacks task, student.pretrained",
    ) as caught:
        stored_runs.run_of_checkpoint("/runs/old")
    assert "\n" not in str(caught.value)


def network_in(folder):
    """A network's folder with one checkpoint, as far as paths go."""
    (folder / "checkpoints" / "7" / "state").mkdir(parents=True)
    (folder / "interrupted" / "9" / "state").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("")
    return folder


def test_results_never_go_below_a_step_or_into_a_folder_of_somebody(tmp_path):
    student = network_in(tmp_path / "run" / "student")
    for below in ("", "checkpoints", "checkpoints/7", "interrupted/9", "interrupted"):
        assert str(scoring.place_of_results(str(student / below))) == str(student)
    copied = tmp_path / "home"
    shutil.copytree(student / "checkpoints", copied / "checkpoints")
    shutil.copytree(student / "checkpoints" / "7", copied / "7")
    shutil.copytree(student / "checkpoints", copied / "weights")
    for alone in ("7", "checkpoints", "checkpoints/7", "weights", "weights/7"):
        with pytest.raises(UserError, match=f"{alone}' does not lie in .* with --workdir DIR"):
            scoring.place_of_results(str(copied / alone))
    (student / "metrics.jsonl").unlink()
    assert str(scoring.place_of_results(str(student))) == str(student)  # it has checkpoints


@pytest.fixture
def run_of_demo(tmp_path):
    """(config, folder of a run of it whose records are whole)."""
    config = get_config("scjd", "demo")
    identity = dict.fromkeys(configs.DATA_IDENTITY, "same")
    configs.claim(epath.Path(tmp_path / "run"), config, identity)
    network_in(tmp_path / "run" / "student")
    (tmp_path / "run" / "data").mkdir()
    (tmp_path / "run" / "data" / "metadata.json").write_text("{}")
    return config, tmp_path / "run"


@pytest.fixture
def found(monkeypatch):
    """Function -> where records are read or made: (folder, whether they are made)."""
    metadata = dict.fromkeys(configs.DATA_IDENTITY, "same")
    monkeypatch.setattr(data.schema, "read_metadata", lambda folder, kind: metadata)
    made = []
    monkeypatch.setattr(convert, "prepare", lambda name, out, show, **_: made.append(out))

    def find(config, home, workdir=None):
        made.clear()
        given = None if workdir is None else epath.Path(workdir)
        return data.find_records(config, str(home), epath.Path(home), given, convert, print), bool(
            made
        )

    find.metadata = metadata
    return find


def test_records_of_a_run_are_read_where_they_lie(run_of_demo, found, tmp_path):
    config, run = run_of_demo
    assert found(config, run / "student") == (str(run / "data"), False)
    assert found(config, run / "student", tmp_path / "out") == (str(run / "data"), False)
    moved = run.rename(tmp_path / "moved run")
    assert found(config, moved / "student") == (str(moved / "data"), False)
    found.metadata["sources"] = "others"
    with pytest.raises(UserError, match="holds other data than '.*moved run' was trained"):
        found(config, moved / "student")


def test_records_are_not_made_in_a_folder_of_somebody(run_of_demo, found, tmp_path):
    config, run = run_of_demo
    shutil.copytree(run / "student", tmp_path / "st")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "holiday.jpg").write_text("")
    assert found(config, tmp_path / "st") == (str(tmp_path / "st" / "data"), True)
    out = tmp_path / "out"
    assert found(config, tmp_path / "st", out) == (str(out / "data"), True)
    other = get_config("scjd", "demo")
    other.data.converter.settings.seed = 5  # a network that was copied into another's run
    assert found(other, run / "student") == (str(run / "student" / "data"), True)
    shutil.rmtree(run / "data")
    assert found(config, run / "student") == (str(run / "data"), True)


def test_records_that_moved_are_asked_for_by_a_flag(run_of_demo, found, tmp_path):
    config, run = run_of_demo
    config.data.records = str(tmp_path / "old")
    with pytest.raises(UserError, match="of .*student' are not in '.*old': .* --records DIR"):
        found(config, run / "student")
    config.data.source = str(tmp_path / "raw")
    with pytest.raises(UserError, match="made from '.*raw', which is not .* --records DIR"):
        found(config, run / "student")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metadata.json").write_text("{}")
    # The raw files are not needed.
    assert found(config, run / "student") == (str(tmp_path / "old"), False)


DAMAGED = ("[]", "3", '{"seed": NaN}', '{"seed": Infinity}', '{"se', "\xff", "[" * 100_000)


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_files_of_a_run_get_a_sentence(run_of_demo, content):
    config, run = run_of_demo
    folder, nothing = epath.Path(run), dict.fromkeys(configs.DATA_IDENTITY)
    for name, read in (
        (WorkFolder(folder).config, lambda: configs.refuse_other_run(folder, config)),
        (WorkFolder(folder).data_identity, lambda: configs.holds_other_data(folder, nothing)),
        (RunFolder(folder).gradients, lambda: gradients.is_whole(RunFolder(folder).gradients)),
    ):
        name.write_bytes(content.encode("latin-1"))
        with pytest.raises(UserError, match=f"{name.name}' is damaged .*: use another") as refused:
            read()
        assert "\n" not in str(refused.value)


def test_scores_are_shown_and_kept_before_pictures_are_drawn(tmp_path, monkeypatch):
    """Of an evaluation: whatever happens to the pictures."""
    order = []
    monkeypatch.setattr(scoring.run_page, "tell", lambda *arguments: order.append("table"))
    write = lambda *arguments: order.append("results.json")  # noqa: E731
    monkeypatch.setattr(scoring.results, "write_results", write)

    def draw(*arguments):
        order.append("pictures")
        raise UserError("'a.png' could not be written.")

    monkeypatch.setattr(scoring.run_page, "draw", draw)
    monkeypatch.setattr(scoring, "open_protocol", lambda *arguments: None)
    monkeypatch.setattr(pipeline, "origin_of", lambda *arguments: {})
    monkeypatch.setattr(scoring.results, "fingerprint", lambda *arguments: {})
    with pytest.raises(UserError, match="a.png"):
        run = run_on(get_config("scjd", "demo"))
        folder = WorkFolder(epath.Path(tmp_path))
        context = Context(folder.path, None, None, "", None, None, print, Stop())
        seen = Extremes(H36M_17, "mm", {}, (), ())
        scoring.report_evaluation(folder, run, "student", {}, seen, {}, context)
    assert order == ["table", "results.json", "pictures"]


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """(config, metadata, function that evaluates into a folder of that name and gives the number of
    the evaluation that it shows).
    """
    config = get_config("cdkd", "demo")
    metadata = dict.fromkeys(configs.DATA_IDENTITY, "same")
    context = Context(
        epath.Path(tmp_path),
        None,
        None,
        "",
        None,
        jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]),
        print,
        Stop(),
    )
    made = []
    monkeypatch.setattr(
        evaluation,
        "evaluate_network",
        lambda *arguments: (
            made.append(arguments) or {"number": len(made)},
            Extremes(H36M_17, "mm", {}, (), ()),
        ),
    )

    def evaluate(folder="student", checkpoint="run"):
        place = RunFolder(epath.Path(tmp_path / folder))
        checkpoint = str(tmp_path / checkpoint)
        record = evaluation.evaluate_once(place, run_on(config), checkpoint, metadata, context)
        return record["number"]

    return config, metadata, evaluate


@pytest.mark.parametrize(
    "change", ["version", "eval", "decode", "data", "checkpoint", "old", "damaged"]
)
def test_evaluations_are_made_again_when_something_else_is_asked(
    tmp_path, monkeypatch, evaluated, change
):
    config, metadata, evaluate = evaluated
    assert evaluate() == evaluate() == 1
    path = tmp_path / "student" / "evaluation.json"
    if change == "version":
        monkeypatch.setattr(evaluation, "RECORD_VERSION", evaluation.RECORD_VERSION + 1)
    elif change == "eval":
        config.eval.latency_batches = (1, 2)
    elif change == "decode":
        config.decode.coordinate = "expectation"
    elif change == "data":
        metadata["sources"] = "others"
    elif change == "old":
        path.write_text(json.dumps({"scores": {}, "cost": {}}))  # as the first version wrote it
    elif change == "damaged":
        path.write_text("[")
    assert evaluate(checkpoint="other" if change == "checkpoint" else "run") == 2
    assert json.loads(path.read_text())["record"] == {"number": 2}


def test_a_teacher_that_was_scored_in_its_own_run_is_not_scored_again(evaluated):
    config, _, evaluate = evaluated
    assert evaluate("first/teacher", "first/teacher") == 1
    assert evaluate("second/teacher", "first/teacher") == 1
    config.decode.coordinate = "expectation"
    assert evaluate("third/teacher", "first/teacher") == 2


def test_gradient_report_is_whole_with_both_moments(tmp_path):
    path = RunFolder(epath.Path(tmp_path)).gradients
    assert not gradients.is_whole(path)
    gradients.write(path, "start", {"task": 1.0})
    assert not gradients.is_whole(path)
    gradients.write(path, "end", {"task": 0.5})
    assert gradients.is_whole(path)
    assert json.loads(path.read_text()) == {"start": {"task": 1.0}, "end": {"task": 0.5}}


def test_runs_that_read_the_same_share_their_examples(tmp_path, monkeypatch):
    """Teacher, baseline and student of a lifting experiment read the same windows.

    What is asked for otherwise is opened by itself.
    """
    opened = []
    monkeypatch.setattr(
        sequences, "open_training", lambda motion, **asked: opened.append(asked) or object()
    )
    context = Context(epath.Path(tmp_path), "motion", None, "", None, None, print, Stop())
    config = get_config("scjd", "demo")
    first, *others = (open_training(run, context) for run in pipeline.planned_runs(config))
    assert others == [first, first] and len(opened) == 1
    for key, value in (
        ("seed", 1),
        ("data.frames", 9),
        ("data.training.flip", False),
        ("data.training.stride", 3),
    ):
        changed = configs.copy_of(config)
        changed.update_from_flattened_dict({key: value})
        assert open_training(run_on(changed), context) is not first
        assert opened[-1][key.split(".")[-1]] == value
    assert len(opened) == 5 and open_training(run_on(config), context) is first


def test_norms_of_terms():
    """Of |p|^2 and 3 p.x the gradients 2 p and 3 x.

    A term without the student has none. Two moments share a program.
    """

    def terms(params, model_state, frozen, batch, key, step):
        student, x = params["student"], batch["x"]
        return {
            "task": jnp.sum(student**2),
            "taught": 3.0 * student @ x,
            "adapter": params["adapter"] * frozen,
        }

    def never(*arguments):
        raise AssertionError("terms alone are measured")

    measure = gradients.term_norms(
        Method(init=never, loss=never, predict=never, predict_with_flip=never, terms=terms)
    )
    x, key = jnp.asarray([2.0, 3.0, 6.0]), jax.random.key(0)
    for step, student in enumerate(([1.0, 2.0, 2.0], [0.0, 3.0, 4.0])):
        params = {"student": jnp.asarray(student), "adapter": jnp.asarray(5.0)}
        current = TrainState(jnp.asarray(step, jnp.int32), params, None, None, None)
        norms = measure(current, jnp.asarray(2.0), {"x": x}, key)
        wanted = {"task": 2 * np.linalg.norm(student), "taught": 21.0, "adapter": 0.0}
        assert {name: float(value) for name, value in norms.items()} == pytest.approx(
            wanted, rel=1e-6
        )
    assert measure._cache_size() == 1


@pytest.mark.parametrize(("method", "baseline", "names"), [
    ("scjd", True, ["teacher", "baseline", "student"]),
    ("scjd", False, ["teacher", "student"]),
    ("supervised", True, ["student"]),
])  # fmt: skip
def test_networks_that_are_trained(method, baseline, names):
    config = get_config("scjd", "demo")
    config.method, config.baseline = method, baseline
    runs = pipeline.planned_runs(config)
    assert [run.name for run in runs] == names
    assert runs[-1].title == ("student" if method == "supervised" else "student with SCJD")


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_checkpoints_say_which_block_was_trained(monkeypatch, stage):
    """Those of before version 0.2 had the trained block in the student's place, and say nothing."""
    stored = configs.as_dict(get_config("scjd", "demo"))
    meta = {"config": stored, "stage": stage}
    monkeypatch.setattr(stored_runs.loading, "run_meta", lambda path: meta)
    run = stored_runs.run_of_checkpoint("/runs/demo/net")
    assert (run.stage, run.name) == (stage, "net")
    assert run.method_name == {"teacher": "supervised", "student": "scjd"}[stage]
    assert configs.as_dict(run.block) == stored[stage]
    del meta["stage"]
    stored["method"], stored["student"] = "supervised", stored["teacher"]
    old = stored_runs.run_of_checkpoint("/runs/demo/net")
    assert (old.stage, old.method_name) == ("student", "supervised")
    assert configs.as_dict(old.block) == stored["teacher"]


def test_options_that_are_gone_leave_old_runs_alone():
    """A run that did not use them goes on; one that did is another run."""
    stored = configs.as_dict(get_config("scjd", "demo"))
    old = configs.from_dict(stored).to_dict()
    old["distill"]["cache_teacher_poses"] = False
    old["distill"]["temporal"]["correlation_joints"] = 0
    assert configs.differences(configs.without_unused(old, stored), stored) == []
    old["distill"]["cache_teacher_poses"] = True
    old["distill"]["temporal"]["correlation_joints"] = 4
    changed = configs.differences(configs.without_unused(old, stored), stored)
    assert [line.split(":")[0] for line in changed] == [
        "distill.cache_teacher_poses",
        "distill.temporal.correlation_joints",
    ]


def test_fields_that_may_change_when_a_run_goes_on():
    """How devices share arrays changes no number; what a batch is normalised by changes all."""
    stored = configs.as_dict(get_config("cdkd", "demo"))
    wanted = configs.from_dict(stored).to_dict()
    wanted["student"]["train"] |= {"fsdp": True, "batch_statistics": "device"}
    assert configs.differences(stored, wanted) == [
        "student.train.batch_statistics: global became device"
    ]


def test_configs_of_older_versions_are_brought_up_to_date():
    """The reversal was a name, VideoPose3D had no dense kernels, MixSTE no loop, and batch
    statistics were global.

    The stored one is left as it is.
    """
    stored = {
        "distill": {"temperature": {"reversal": "release", "loops": 210.0}},
        "student": {"network": {"name": "videopose3d", "filters": [3, 3]}},
        "teacher": {"network": {"name": "hrnet"}, "train": {"batch": 4}},
    }
    new = configs.upgraded(stored)
    assert new["distill"]["temperature"] == {"reversal": [1.0, 0.0], "loops": 210.0}
    assert (
        new["student"]["network"]["dense_kernels"] is False
        and new["student"]["network"]["predicted_frames"] == 1
        and "dense_kernels" not in new["teacher"]["network"]
    )
    for name in ("mixste", "mixste_hot"):
        old = {"teacher": {"network": {"name": name}}}
        assert configs.upgraded(old)["teacher"]["network"] == {"name": name, "scan": False}
    assert new["teacher"]["train"] == {"batch": 4, "batch_statistics": "global"}
    assert stored["distill"]["temperature"]["reversal"] == "release"
    assert stored["teacher"]["train"] == {"batch": 4}
    assert configs.upgraded(new) == new
    newer = {"name": "videopose3d", "dense_kernels": True, "predicted_frames": 9}
    assert configs.upgraded({"student": {"network": newer}}) == {"student": {"network": newer}}
    old = {"student": {"network": {"name": "poseformer_v2"}}}
    assert configs.upgraded(old)["student"]["network"]["predicted_frames"] == 1
    for malformed in ({}, {"distill": 3}, {"student": None}, {"student": {"network": []}}, []):
        assert configs.upgraded(malformed) == malformed
