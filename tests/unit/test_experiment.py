"""Small decisions of a run: which folder, which checkpoint, whose config, and evaluations that are made again."""

import json

import jax
import pytest
from etils import epath
from tiny import get_config

from kdpose_jax.errors import UserError
from kdpose_jax.experiment import evaluation, gradients, networks, pipeline, settings
from kdpose_jax.experiment.training import Surroundings
from kdpose_jax.train.stopping import StopSign


@pytest.mark.parametrize(("path", "home"), [
    ("/runs/h36m/student", "/runs/h36m/student"),
    ("/runs/h36m/student/checkpoints", "/runs/h36m/student"),
    ("/runs/h36m/student/checkpoints/200", "/runs/h36m/student"),
    ("/mnt/checkpoints/h36m/student", "/mnt/checkpoints/h36m/student"),
    ("/mnt/checkpoints/h36m/student/checkpoints/7", "/mnt/checkpoints/h36m/student"),
])  # fmt: skip
def test_folder_of_the_run_of_a_checkpoint(path, home):
    assert str(pipeline.run_folder(path)) == home


def test_which_checkpoint_is_said():
    assert networks.which_checkpoint("/runs/student") == "the best on the test split, as in the literature"
    assert networks.which_checkpoint("/runs/student/checkpoints/200") == "of step 200"
    assert networks.which_checkpoint("/x/mixste.bin") == "imported from PyTorch"


def test_config_of_another_version_is_refused(monkeypatch):
    """A run whose config lacks what this version reads is named, with the remedy, where it would be a traceback later."""
    stored = settings.as_dict(get_config("scjd", "demo"))
    monkeypatch.setattr(networks.checkpoint_teacher, "run_meta", lambda path: {"config": stored})
    assert networks.stored_config("/runs/old").task == "lifting"
    del stored["task"], stored["student"]["pretrained"]
    with pytest.raises(UserError, match="'/runs/old' was trained by another version .* lacks task, student.pretrained") as caught:
        networks.stored_config("/runs/old")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["version", "eval", "checkpoint", "old"])
def test_evaluations_are_made_again_when_something_else_is_asked(tmp_path, monkeypatch, change):
    config = get_config("scjd", "demo")
    around = Surroundings(epath.Path(tmp_path), None, None, jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]), print, StopSign())
    made = []
    monkeypatch.setattr(evaluation, "evaluate_network", lambda *arguments: made.append(arguments) or {"number": len(made)})
    once = lambda checkpoint="run": evaluation.evaluate_once(epath.Path(tmp_path / "n"), config, checkpoint, around)  # noqa: E731
    assert once() == once() == {"number": 1}
    path = tmp_path / "n" / "evaluation.json"
    if change == "version":
        monkeypatch.setattr(evaluation, "RECORD_VERSION", evaluation.RECORD_VERSION + 1)
    elif change == "eval":
        config.eval.latency_batches = (1, 2)
    elif change == "old":
        path.write_text(json.dumps({"scores": {}, "cost": {}}))  # as the first version wrote it
    assert once("other" if change == "checkpoint" else "run") == {"number": 2}
    assert json.loads(path.read_text())["record"] == {"number": 2}


def test_gradient_report_is_whole_with_both_moments(tmp_path):
    folder = epath.Path(tmp_path)
    assert not gradients.is_whole(folder)
    gradients.write(folder, "start", {"task": 1.0})
    assert not gradients.is_whole(folder)
    gradients.write(folder, "end", {"task": 0.5})
    assert gradients.is_whole(folder)
    assert json.loads((tmp_path / gradients.FILE).read_text()) == {"start": {"task": 1.0}, "end": {"task": 0.5}}
