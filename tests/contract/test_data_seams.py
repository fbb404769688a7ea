"""Every converter, reader and protocol, found by itself, keeps its contract of contracts.py.

A reader or a protocol is tested with the first experiment that uses it, on small generated records.
"""

import argparse
import functools
import importlib
import inspect
import json
import pathlib
import re

import jax
import numpy as np
import pytest
from tiny import EXPERIMENTS, example_batch, get_config, shrink

from data_prep import convert
from kdpose_jax import data, skeletons
from kdpose_jax.contracts import Batch, Column, Source
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import protocols
from kdpose_jax.evaluate.runner import Chosen
from kdpose_jax.experiment import modules, pipeline
from kdpose_jax.experiment.run import reads


def modules_with(package, name: str) -> list[str]:
    """The modules of a package that define a function of this name."""
    files = pathlib.Path(package.__path__[0]).glob("*.py")
    return sorted(file.stem for file in files if f"\ndef {name}(" in file.read_text())


READERS, PROTOCOLS = modules_with(data, "open_training"), modules_with(protocols, "open_protocol")
every_converter = pytest.mark.parametrize("name", convert.CONVERTERS)
every_reader = pytest.mark.parametrize("name", READERS)
every_protocol = pytest.mark.parametrize("name", PROTOCOLS)
PICTURES = {"train_pictures": 4, "val_pictures": 4, "test_pictures": 4, "picture_size": 128}
# Kind of records and skeleton -> a converter that needs no files, and its settings.
GENERATED = {
    (schema.SEQUENCES.name, "h36m_17"): (
        "synthetic",
        {"train_subjects": 1, "test_subjects": 1, "frames": 40},
    ),
    (schema.PERSONS.name, "mpii_16"): (
        "people",
        {**PICTURES, "layout": "mpii"},
    ),
    (schema.PERSONS.name, "coco_17"): (
        "people",
        {**PICTURES, "layout": "coco"},
    ),
}
# Batch entry -> letters of its axes, as the page of contracts writes them.
AXES = {
    name: axes.split(", ")
    for name, axes in re.findall(r"^      (\w+): [^`]*?`\[([^\]]*)\]`", Batch.__doc__, re.M)
}


@functools.cache
def run_with(room: str, field: str, name: str):
    """The student's run of the first experiment whose config names a module, at a small size."""
    for file, preset in EXPERIMENTS:
        config = get_config(file, preset)
        if config[room][field] == name:
            return pipeline.planned_runs(shrink(config))[-1]
    raise AssertionError(f"no config in configs/ has {room}.{field} '{name}', so nothing tests it")


@pytest.fixture(scope="module")
def records_of(tmp_path_factory):
    @functools.cache
    def make(kind: str, skeleton: str) -> str:
        converter, settings = GENERATED[kind, skeleton]
        out = str(tmp_path_factory.mktemp("generated") / skeleton)
        convert.prepare(converter, out, lambda _: None, workers=1, **settings)
        return out

    return make


@pytest.fixture
def training(name, records_of):
    """The reader, its data and its training examples."""
    run, reader = run_with("data", "reader", name), modules.reader(name)
    content = reader.read(records_of(reader.KIND.name, run.config.data.skeleton), "train")
    options = {**reads(run, training=True), **run.config.data.training.to_dict()}
    return run, content, reader.open_training(content, seed=run.config.seed, **options)


@pytest.fixture
def opened(name, records_of):
    """The protocol on the test split."""
    config = run_with("eval", "protocol", name).config
    module, kind = modules.protocol(name), modules.reader(config.data.reader).KIND
    module.check_settings(**config.eval.settings)
    content = module.read(records_of(kind.name, config.data.skeleton), "test")
    run = run_with("eval", "protocol", name)
    return module.open_protocol(content, **reads(run, training=False), **config.eval.settings)


def check_batch(batch, count: int, skeleton: str) -> None:
    """Compares keys and axes with the page of contracts; the same letter is the same length."""
    lengths = {"B": count, "J": skeletons.SKELETONS[skeleton].num_joints}
    assert batch
    for key, array in batch.items():
        own = {"B": count} if "image" in key else lengths  # each crop has sides of its own
        assert key in AXES and array.ndim == len(AXES[key]), key
        for letter, length in zip(AXES[key], array.shape, strict=True):
            wanted = int(letter) if letter.isdigit() else own.setdefault(letter, length)
            assert length == wanted, f"{key} has {length} where {letter} is {wanted}"


def perfect(source: Source):
    """The canonical prediction that is the truth; a new task needs its line here."""
    batch = source.gather(np.arange(len(source)))
    if "pose_3d" in batch:
        return batch["pose_3d"]
    return {"joints": batch["joints"], "scores": np.ones_like(batch["joint_weight"])}


def spoiled(prediction):
    """A prediction that is off by more than any protocol forgives."""
    generator = np.random.default_rng(0)
    if isinstance(prediction, dict):
        moved = prediction["joints"] + generator.normal(0, 40, prediction["joints"].shape)
        return prediction | {"joints": moved.astype(np.float32)}
    return prediction + generator.normal(0, 0.5, prediction.shape).astype(np.float32)


def table_of(protocol, predict) -> dict[str, float]:
    """The figures of the table for a function that predicts on a source."""
    record = protocol.full(
        {"plain": predict, "flip": predict},
        lambda function, source=None: function(protocol.source if source is None else source),
    )
    record = json.loads(json.dumps(record))  # plain values
    row = protocol.row(record)
    assert {column.key for column in protocol.columns} <= row.keys()
    breakdown = protocol.breakdown(record)
    assert breakdown and all(isinstance(part, str) for part in breakdown)
    return row


def best(column: Column, shown: str) -> float:
    """What a perfect prediction shows: no error, or all of the joints."""
    if " mm" in column.header:
        return 0.0
    # One of the 31 thresholds of this area is 0, within which no joint lies.
    ceiling = 100 * 30 / 31 if "AUC" in column.header else 100.0
    return float(f"{ceiling:.{len(shown.partition('.')[2])}f}")


def test_some_are_found():
    assert {"sequences", "persons"} <= set(READERS)
    assert {"pose3d", "mpi_inf_3dhp", "mpii", "coco", "pck"} <= set(PROTOCOLS)
    assert AXES.keys() == Batch.__annotations__.keys()


@every_converter
def test_converter(name):
    """Its options are its arguments, and the files that it reads have names."""
    module = convert.CONVERTERS[name]
    assert module.HELP and module.__doc__
    parser = argparse.ArgumentParser()
    module.add_options(parser)
    given = {action.dest for action in parser._actions} - {"help"}
    arguments = inspect.signature(module.convert).parameters
    named = {
        key for key, argument in arguments.items() if argument.kind is not argument.VAR_KEYWORD
    }
    if len(named) == len(arguments):
        assert given | {"out", "workers"} == named
    else:
        assert named <= given | {"out", "workers"}
    assert convert.expected_files(name, {}) and convert.needs_source(name) == ("source" in given)


@every_reader
def test_reader_module(name):
    reader = importlib.import_module(f"kdpose_jax.data.{name}")
    assert reader.KIND in schema.KINDS.values() and reader.__doc__


@every_reader
def test_reader_refuses_other_records(name, records_of):
    reader = modules.reader(name)
    kind, skeleton = next(pair for pair in GENERATED if pair[0] != reader.KIND.name)
    with pytest.raises(UserError):
        reader.read(records_of(kind, skeleton), "train")


@every_reader
def test_training_examples(name, training):
    """The batch has the shapes of the page, and those that the tests of methods assume."""
    run, _, source = training
    assert isinstance(source, Source) and len(source) > 2
    noun, count = source.unit
    assert noun.endswith("s") and count >= 1
    batch = source.gather(np.arange(2), np.zeros(2, int))
    check_batch(batch, 2, run.config.data.skeleton)
    assumed = example_batch(run.config, count=2)
    assert {key: array.shape for key, array in batch.items()} == {
        key: array.shape for key, array in assumed.items()
    }
    assert {key: array.dtype for key, array in batch.items()} == {
        key: array.dtype for key, array in assumed.items()
    }


@every_reader
def test_training_examples_are_a_function_of_number_and_pass(name, training):
    _, _, source = training
    first = source.gather(np.array([0, 1, 2]), np.array([4, 4, 4]))
    again = source.gather(np.array([2, 0]), np.array([4, 4]))
    for key in first:
        np.testing.assert_array_equal(first[key][[2, 0]], again[key], err_msg=key)
    assert any(np.any(first[key][0] != first[key][1]) for key in first)


@every_protocol
def test_protocol_describes_itself(name, opened):
    module = modules.protocol(name)
    assert module.__doc__ and isinstance(opened.source, Source)
    assert opened.columns and all(isinstance(column, Column) for column in opened.columns)
    assert len({column.key for column in opened.columns}) == len(opened.columns)
    noun, count = opened.unit
    assert noun.endswith("s") and count >= 1
    assert re.search(r"\d", opened.test_set) and opened.conditions.endswith(".")
    assert opened.breakdown_title and isinstance(opened.best_is_lowest, bool)
    run = run_with("eval", "protocol", name)
    batch = opened.source.gather(np.arange(2))
    check_batch(batch, 2, run.config.data.skeleton)


@every_protocol
def test_protocol_refuses_unknown_settings(name):
    with pytest.raises(TypeError):
        modules.protocol(name).check_settings(no_such_setting=1)


@every_protocol
def test_truth_scores_best(name, opened):
    """The truth has error 0, AP 1 and all joints right, in the table and while training."""
    row = table_of(opened, perfect)
    scored = [column for column in opened.columns if row[column.key] is not None]
    assert opened.columns[0] in scored
    for column in scored:
        shown = column.form(row[column.key])
        assert float(shown) == best(column, shown), f"{column.header}: {shown}"
    chosen, score = opened.quick(0)
    quick = score(perfect(chosen))
    assert all(isinstance(value, float) for value in quick.values())
    assert quick[opened.best_metric] == pytest.approx(row[opened.best_metric], abs=1e-6)


@every_protocol
def test_other_predictions_score_worse_within_bounds(name, opened):
    truth = table_of(opened, perfect)
    row = table_of(opened, lambda source: spoiled(perfect(source)))
    for column in opened.columns:
        if row[column.key] is None:
            continue
        shown = float(column.form(row[column.key]))
        if " mm" in column.header:
            assert row[column.key] > truth[column.key] + 1, column.header
        else:
            assert 0 <= shown < float(column.form(truth[column.key])), column.header


@every_protocol
def test_examples_make_up_the_first_figure(name, opened):
    """They do so for a prediction that is right in some of them and wrong in others."""
    first = opened.columns[0].key

    def half_spoiled(source):
        truth, wrong = perfect(source), spoiled(perfect(source))
        return jax.tree.map(
            lambda right, off: np.where(right > np.mean(right), right, off), *(truth, wrong)
        )

    examples = opened.example_scores(half_spoiled(opened.source))
    if examples is None:
        assert first == "ap"  # a mean over thresholds, not over persons
        return
    sums, counts, groups = (np.asarray(examples[key]) for key in ("sums", "counts", "groups"))
    means = [sums[groups == one].sum() / counts[groups == one].sum() for one in np.unique(groups)]
    assert len(sums) and (counts > 0).all()
    assert np.mean(means) == pytest.approx(table_of(opened, half_spoiled)[first], rel=1e-9)


@every_protocol
def test_quick_takes_some_examples_and_prefers_the_truth(name, opened):
    chosen, score = opened.quick(3)
    assert isinstance(chosen, Source) and isinstance(chosen, Chosen) and 0 < len(chosen) <= 3
    good, bad = score(perfect(chosen)), score(spoiled(perfect(chosen)))
    assert good.keys() == bad.keys()
    name = opened.best_metric
    assert good[name] < bad[name] if opened.best_is_lowest else good[name] > bad[name]


def test_a_batch_of_other_axes_is_seen():
    good = {"pose_3d": np.zeros((2, 9, 17, 3)), "keypoints_2d": np.zeros((2, 9, 17, 2))}
    check_batch(good, 2, "h36m_17")
    for key, shape in (("pose_3d", (2, 9, 17)), ("pose_3d", (2, 9, 16, 3)), ("poses", (2,))):
        with pytest.raises(AssertionError):
            check_batch({**good, key: np.zeros(shape)}, 2, "h36m_17")
