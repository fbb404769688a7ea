"""What chooses checkpoints: validation examples, or the test split as published."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from etils import epath
from tiny import get_config

from data_prep import convert, held_out
from kdpose_jax.contracts import Source
from kdpose_jax.data import persons, schema, sequences
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.protocols import coco, mpii, pose3d
from kdpose_jax.evaluate.runner import Chosen
from kdpose_jax.experiment import checks, configs, existing, pipeline, splits, stored_runs, training
from kdpose_jax.report import results
from kdpose_jax.train import sharding
from kdpose_jax.train.preemption import Stop

# Errors at the three evaluations of a run, by the split that is scored. They disagree.
SCORES = {"val": (3.0, 1.0, 2.0), "test": (3.0, 2.0, 1.0)}
BEST = {"val": 1, "test": 2}  # which of them is the lowest


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("motion") / "records")
    settings = {"train_subjects": 2, "val_subjects": 1, "test_subjects": 1, "frames": 30}
    convert.prepare("synthetic", out, lambda _: None, workers=1, **settings)
    return out


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"subjects": ["S8"]}, "the validation subject S8"),
        ({"subjects": ["S7", "S8"]}, "the validation subjects S7, S8"),
        (
            {"rule": held_out.PHOTOGRAPHS_RULE},
            "the validation split (one in 20 training photographs, by a hash of their names)",
        ),
    ],
)
def test_what_chose_is_said(entry, said):
    config = small("validation")
    assert splits.chosen_on(config, {"splits": {"val": entry}}) == said


@pytest.fixture(scope="module")
def older(motion, tmp_path_factory):
    """Records as a version without validation examples made them."""
    out = tmp_path_factory.mktemp("older") / "records"
    out.mkdir()
    for path in epath.Path(motion).iterdir():
        if not path.name.startswith("val."):
            (out / path.name).write_bytes(path.read_bytes())
    metadata = configs.read_json(epath.Path(motion) / schema.METADATA_FILE)
    del metadata["splits"]["val"], metadata["settings"]["val_subjects"]
    for entry in metadata["splits"].values():
        del entry["subjects"]
    schema_file = epath.Path(out) / schema.METADATA_FILE
    schema_file.write_text(json.dumps(metadata))
    return str(out)


def small(selection: str):
    """A network that compiles in a moment, trained for three epochs."""
    config = get_config("lifters", "videopose3d")
    config.data.selection, config.data.frames = selection, 3
    config.student.network.update({"filters": (3,), "width": 4, "evaluated_frames": 9})
    config.student.train.update({"epochs": 3.0, "evaluate_every_epochs": 1.0, "ema_decay": 0.0})
    config.checkpoint.keep_latest = 3
    return config


def open_context(config, records: str, tmp_path, said: list[str]):
    mesh = pipeline.start_devices("")
    run = pipeline.planned_runs(config)[-1]
    context = pipeline.open_context(
        run, records, epath.Path(tmp_path), mesh, said.append, Stop(), training=True
    )
    return run, context


@pytest.mark.parametrize(
    ("selection", "chooses", "words"),
    [
        ("validation", "val", "the validation subject G4"),
        ("published", "test", "the test split, as published"),
    ],
)
def test_the_split_that_chooses_decides_where_the_splits_disagree(
    motion, tmp_path, monkeypatch, selection, chooses, words
):
    subjects = {"G3": "test", "G4": "val"}
    left = {split: list(scores) for split, scores in SCORES.items()}

    def quick(protocol, count):
        (subject,) = {name.split("/")[0] for name in protocol.motion.names}
        scores = left[subjects[subject]]
        return Chosen(protocol.source, np.arange(2)), lambda _: {"mpjpe_mm": scores.pop(0)}

    monkeypatch.setattr(pose3d.Protocol, "quick", quick)
    said: list[str] = []
    run, context = open_context(small(selection), motion, tmp_path, said)
    run.block.train.batch = len(training.open_training(run, context))  # an epoch is one step
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer power
        folder = str(training.train_run(run, context))
    assert not left[chooses] and left["test" if chooses == "val" else "val"]
    example = training.open_training(run, context).gather(np.arange(1))
    everywhere = sharding.replicated(context.mesh)
    taken, *steps = (
        existing.restore(run, path, example, everywhere).fingerprint
        for path in (folder, *(f"{folder}/checkpoints/{step}" for step in (1, 2, 3)))
    )
    assert [step == taken for step in steps] == [number == BEST[chooses] for number in range(3)]
    assert stored_runs.which_checkpoint(folder) == f"the best on {words}"
    lines = results.read_metrics(epath.Path(folder) / "metrics.jsonl")
    logged = [line[f"{chooses}_mpjpe_mm"] for line in lines if f"{chooses}_mpjpe_mm" in line]
    assert logged == list(SCORES[chooses])
    assert any(f"chosen on {words}" in line for line in said)
    assert any(re.search(rf"step 1  {chooses} mpjpe_mm", line) for line in said)


def test_published_trains_on_both_splits(motion, tmp_path):
    counts = {}
    for selection in splits.SELECTIONS:
        _, context = open_context(small(selection), motion, tmp_path, [])
        counts[selection] = {name.split("/")[0] for name in context.training_data.names}
    assert counts == {"validation": {"G1", "G2"}, "published": {"G1", "G2", "G4"}}


def test_two_splits_are_read_as_one(motion):
    both = sequences.read(motion, "train", "val")
    train, val = (sequences.read(motion, split) for split in ("train", "val"))
    assert both.names == train.names + val.names and both.actions == train.actions + val.actions
    for name in ("frames", "keypoints_2d", "pose_3d", "frame_mask"):
        joined = np.concatenate([getattr(train, name), getattr(val, name)])
        np.testing.assert_array_equal(getattr(both, name), joined)
    for sequence in range(len(both.names)):
        assert both.offset[sequence] == both.frames[:sequence].sum()
    with pytest.raises(UserError, match=r"no split 'valid' but \['test', 'train', 'val'\]"):
        sequences.read(motion, "train", "valid")


def test_records_of_an_older_version(older, tmp_path):
    """One sentence with two remedies, of which the second works."""
    with pytest.raises(UserError) as refusal:
        open_context(small("validation"), older, tmp_path, [])
    sentence = str(refusal.value)
    assert f"'{older}' has no split 'val'" in sentence and "convert the raw files again" in sentence
    assert "--config.data.selection=published" in sentence and sentence.count(". ") == 0
    _, context = open_context(small("published"), older, tmp_path, [])
    assert {name.split("/")[0] for name in context.training_data.names} == {"G1", "G2"}


def test_an_older_run_is_read_as_published():
    """It trained on all training subjects, and the test split chose."""
    stored = configs.as_dict(get_config("scjd", "demo"))
    new = dict(stored["data"])
    del stored["data"]["selection"]
    stored["data"] |= {"train_split": "train", "test_split": "test"}
    found = configs.upgraded(stored)
    assert found["data"] == {**new, "selection": "published"}
    assert configs.upgraded(found) == found


def test_an_unknown_selection():
    config = get_config("scjd", "demo")
    config.data.selection = "test"
    with pytest.raises(UserError, match="data.selection is 'test'.*validation"):
        checks.check_values(config)


@pytest.mark.parametrize(
    ("file", "text", "selection"),
    [
        ("scjd", "demo", "validation"),
        ("scjd", "mocap", "validation"),
        ("scjd", "h36m", "validation"),
        ("scjd", "h36m,selection=published", "published"),
        ("scjd", "h36m,recipe=parity", "published"),
        ("scjd", "3dhp,recipe=parity", "published"),
        ("scjd", "3dhp,recipe=parity,selection=validation", "validation"),
        ("baselines", "h36m,recipe=parity", "published"),
        ("lifters", "mixste,data=h36m", "validation"),
        ("lifters", "mixste,data=h36m,selection=published", "published"),
        ("cdkd", "mpii64", "validation"),
        ("cdkd", "coco32,mode=release", "validation"),
        ("cdkd", "coco32,selection=published", "published"),
    ],
)
def test_presets_choose(file, text, selection):
    assert get_config(file, text).data.selection == selection


@pytest.mark.parametrize(
    ("file", "preset"), [("scjd", "3dhp"), ("lifters", "mixste"), ("cdkd", "mpii64")]
)
def test_presets_refuse_other_selections(file, preset):
    with pytest.raises(UserError, match=f"option selection of preset {preset} is 'val'"):
        get_config(file, f"{preset},selection=val")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Layout -> records of generated pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    counts = {"train_pictures": 2, "val_pictures": 3, "test_pictures": 2, "picture_size": 96}
    for layout in ("mpii", "coco"):
        convert.prepare(
            "people", str(folder / layout), lambda _: None, workers=1, layout=layout, **counts
        )
    return folder


def test_pckh_of_persons_without_a_head_box_is_by_their_head_segment(pictures):
    """HRNet's lists have no head boxes of training persons."""
    data = mpii.read(str(pictures / "mpii"), "val")
    raw = persons.read(str(pictures / "mpii"), "val")
    assert (raw.head_size == 0).all()
    top, neck = (raw.skeleton.joints.index(name) for name in ("head_top", "upper_neck"))
    for person in range(len(raw)):
        if raw.visible[person, top] and raw.visible[person, neck]:
            length = np.linalg.norm(raw.joints[person, top] - raw.joints[person, neck])
            assert data.head_size[person] == pytest.approx(length, rel=1e-6)
            np.testing.assert_array_equal(data.visible[person], raw.visible[person])
        else:
            assert not data.visible[person].any()
    hidden = np.array(raw.visible)
    hidden[0, top] = False
    without = mpii.with_head_segments(dataclasses.replace(raw, visible=hidden))
    assert not without.visible[0].any() and (without.head_size > 0).all()
    protocol = mpii.open_protocol(data, views={"image": 32}, flip=False)
    source, score = protocol.quick(0)
    assert isinstance(source, Source)
    assert score(truth_of(source))["pckh"] == 100
    # Scores that are published need the head boxes.
    with pytest.raises(UserError, match="have no head size"):
        mpii.open_protocol(raw, views={"image": 32}, flip=False)


def test_ap_of_validation_pictures_needs_no_detections(pictures):
    """A detector's boxes are of the test pictures alone, and `boxes` is about the table."""
    settings = {"flip": False, "joint_threshold": 0.02, "nms": "hard", "nms_threshold": 0.9}
    data = coco.read(str(pictures / "coco"), "val")
    assert {image["id"] for image in data.annotations["images"]} == set(
        data.ground_truth.image_id.tolist()
    )
    protocol = coco.open_protocol(data, views={"image": 32}, boxes="detections", **settings)
    source, score = protocol.quick(0)
    assert score(truth_of(source))["ap"] == pytest.approx(1)
    with pytest.raises(UserError, match="the records have no detections"):
        test = coco.read(str(pictures / "coco"), "test")
        coco.open_protocol(test, views={"image": 32}, boxes="detections", **settings)


def truth_of(source):
    """The prediction that is the truth."""
    batch = source.gather(np.arange(len(source)))
    return {"joints": batch["joints"], "scores": np.ones_like(batch["joint_weight"])}
