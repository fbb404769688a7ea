"""Every folder of kdpose_jax/methods with a method.py, found by itself, keeps the contract of
methods/api.py.
"""

import dataclasses
import functools
import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import (
    RUNS,
    first_steps,
    run_of,
    shrink,
)

from kdpose_jax import methods
from kdpose_jax.contracts import Group, Method, Teacher
from kdpose_jax.experiment import pipeline
from kdpose_jax.experiment.run import build
from kdpose_jax.methods.loss_terms import as_metrics

METHODS = sorted(path.parent.name for path in pathlib.Path(methods.__path__[0]).glob("*/method.py"))
every_method = pytest.mark.parametrize("name", METHODS)


@functools.cache
def run_with(name):
    """The first run of any experiment that trains with a method, with its distillation where it has
    any: its key in `RUNS`.
    """
    for wanted in ("student", "teacher", "baseline"):
        for file, preset, run in (parameter.values for parameter in RUNS):
            if run == wanted and run_of(file, preset, run).config.method == name:
                return file, preset, run
    raise AssertionError(f"no config in configs/ uses method '{name}', so nothing tests it")


@pytest.fixture
def started(name):
    return first_steps(*run_with(name))


@functools.cache
def compiled_loss(name):
    started = first_steps(*run_with(name))
    return jax.jit(started.method.loss)


def arguments(started, key=1, step=3):
    first = jax.tree.map(jnp.asarray, (started.states[0].params, started.states[0].model_state))
    return *first, started.frozen, started.batch, jax.random.key(key), jnp.asarray(step, jnp.int32)


def test_some_methods_are_found():
    assert {"supervised", "scjd", "cdkd"} <= set(METHODS)


@every_method
def test_module(name):
    """A builder, what its batches hold, and one line that says what the method is."""
    package, module = (
        importlib.import_module(f"kdpose_jax.methods.{name}{part}") for part in ("", ".method")
    )
    assert (
        callable(module.build)
        and callable(module.reads)
        and module.TASKS
        and module.__doc__
        and package.__doc__
    )


@every_method
def test_record(name, started):
    method = started.method
    assert isinstance(method, Method)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.loss = None
    assert all(isinstance(teacher, Teacher) for teacher in method.teachers)
    assert all(isinstance(note, str) and note.endswith(".") for note in method.notes)
    paths = [
        jax.tree_util.keystr(where, simple=True, separator="/")
        for where, _ in jax.tree.leaves_with_path(started.states[0].params)
    ]
    for group in method.groups:
        assert isinstance(group, Group) and any(re.search(group.pattern, path) for path in paths), (
            group.pattern
        )


@every_method
def test_variables(name, started):
    """Parameters are float32 and have a `student`; init is a function of the key alone."""
    params = started.states[0].params
    assert "student" in params
    assert {leaf.dtype for leaf in jax.tree.leaves((params, started.frozen))} == {
        np.dtype(np.float32)
    }
    init = jax.jit(started.method.init)
    first, again, other = (
        init(jax.random.key(seed), started.batch)
        for seed in (started.run.config.seed, started.run.config.seed, 7)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jax.tree.map(np.testing.assert_array_equal, first[0], params)
    changed = [
        np.any(one != two)
        for one, two in zip(jax.tree.leaves(first[0]), jax.tree.leaves(other[0]), strict=True)
    ]
    assert any(changed)


@every_method
def test_loss_is_pure_and_counts(name, started):
    """Called twice it gives the same.

    Another key gives another loss only through randomness; metrics are (sum, count).
    """
    loss = compiled_loss(name)
    value, (metrics, model_state) = loss(*arguments(started))
    again, _ = loss(*arguments(started))
    assert (
        value.shape == () and value.dtype == jnp.float32 and np.isfinite(value) and value == again
    )
    assert jax.tree.structure(model_state) == jax.tree.structure(started.states[0].model_state)
    examples = len(jax.tree.leaves(started.batch)[0])
    for total, count in metrics.values():
        assert total.shape == count.shape == () and count == examples
    np.testing.assert_allclose(metrics["loss"][0] / metrics["loss"][1], value, rtol=1e-6)


@every_method
def test_loss_is_a_mean_over_examples(name):
    """Without stochastic depth, the loss and every metric of a batch are the means of those of its
    examples.

    Where examples meet in batch statistics, a batch taken twice has the statistics, and so the
    means, of the batch.
    """
    run = run_of(*run_with(name))
    config = shrink(run.config, {"drop_path": 0.0})
    method = build(dataclasses.replace(run, config=config), 64).method
    started = first_steps(*run_with(name))
    params, model_state, frozen, batch, key, step = arguments(started)
    loss = jax.jit(method.loss)
    value, (metrics, _) = loss(params, model_state, frozen, batch, key, step)
    if model_state:
        twice = jax.tree.map(lambda array: jnp.concatenate([array, array]), batch)
        again, (doubled, _) = loss(params, model_state, frozen, twice, key, step)
        np.testing.assert_allclose(again, value, rtol=1e-5)
        # A small term is as exact as the loss that it is added to; CDKD's alignment is 250 times a
        # difference of logarithms.
        for entry, (total, count) in metrics.items():
            mean = doubled[entry][0] / doubled[entry][1]
            np.testing.assert_allclose(
                mean, total / count, rtol=1e-4, atol=1e-5 * max(1.0, value), err_msg=entry
            )
        other = jax.tree.map(lambda array: jnp.concatenate([array, array[:1]]), batch)
        assert abs(loss(params, model_state, frozen, other, key, step)[0] - value) > 1e-4 * value
        return
    alone = []
    for example in range(len(jax.tree.leaves(batch)[0])):
        copies = {entry: jnp.stack([array[example]] * len(array)) for entry, array in batch.items()}
        alone.append(loss(params, model_state, frozen, copies, key, step))
    np.testing.assert_allclose(value, np.mean([own for own, _ in alone]), rtol=1e-5)
    for entry, (total, count) in metrics.items():
        means = [own[entry][0] / own[entry][1] for _, (own, _) in alone]
        np.testing.assert_allclose(
            total / count, np.mean(means), rtol=1e-4, atol=1e-6, err_msg=entry
        )
    assert np.ptp([own for own, _ in alone]) > 1e-4 * value, (
        "the examples are alike: the test shows nothing"
    )


@every_method
def test_no_gradient_reaches_a_teacher(name, started):
    if not started.method.teachers:
        assert started.frozen == {}
        return
    params, model_state, frozen, *rest = arguments(started)
    gradient = jax.jit(
        jax.grad(lambda frozen: started.method.loss(params, model_state, frozen, *rest)[0])
    )(frozen)
    assert jax.tree.leaves(gradient)
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(gradient))
    noisy = jax.tree.map(lambda leaf: leaf * 1.1 + 0.01, frozen)
    loss = compiled_loss(name)
    assert loss(*arguments(started))[0] != loss(params, model_state, noisy, *rest)[0], (
        "the teacher is not used at all"
    )


@every_method
def test_prediction_is_the_students_alone(name, started):
    """No adapter and no teacher is read, and the same input gives the same prediction."""
    last = started.states[2]
    params = {"student": last.evaluated_params["student"]}
    predict = jax.jit(started.method.predict)
    jax.tree.map(
        np.testing.assert_array_equal,
        predict(params, last.model_state, started.batch),
        started.prediction,
    )


@every_method
def test_terms_add_up_to_the_loss(name, started):
    """Where a method tells its terms apart, they are what the loss consists of."""
    if started.method.terms is None:
        assert len(started.run.config.distill.weights) == 0 or not started.method.teachers
        return
    terms = jax.jit(started.method.terms)(*arguments(started))
    assert set(terms) == {
        "task",
        *(name for name, weight in started.run.config.distill.weights.items() if weight),
    }
    np.testing.assert_allclose(
        sum(terms.values()), compiled_loss(name)(*arguments(started))[0], rtol=1e-6
    )


@every_method
def test_prediction_with_flip_does_not_tell_left_from_right(name, started):
    """The same tree of shapes as the plain prediction, and another one."""
    last = started.states[2]
    params = {"student": last.evaluated_params["student"]}
    flipped = jax.jit(started.method.predict_with_flip)(params, last.model_state, started.batch)
    assert jax.tree.map(np.shape, flipped) == jax.tree.map(np.shape, started.prediction)
    differs = [
        np.any(one != two)
        for one, two in zip(
            jax.tree.leaves(flipped), jax.tree.leaves(started.prediction), strict=True
        )
    ]
    assert any(differs)


@every_method
def test_average_follows_the_parameters(name, started):
    """The average after two steps, by the formula of train/step.py.

    Without one the parameters are evaluated.
    """
    decay = started.run.block.train.ema_decay
    states = started.states
    if decay == 0:
        assert states[2].ema is None and states[2].evaluated_params is states[2].params
        return
    mean = states[0].params
    jax.tree.map(np.testing.assert_array_equal, states[0].ema, mean)
    for taken in (1, 2):
        share = min(decay, taken / (taken + 10))
        mean = jax.tree.map(
            lambda old, new, share=share: share * old + (1 - share) * new,
            mean,
            states[taken].params,
        )
        jax.tree.map(
            lambda ours, wanted: np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-7),
            states[taken].ema,
            mean,
        )
    assert states[2].evaluated_params is states[2].ema


def test_metrics_are_sums():
    metrics = as_metrics({"one": jnp.asarray([1.0, 2.0, 6.0])})
    assert [float(value) for value in metrics["one"]] == [9.0, 3.0]


def test_shrinking_leaves_the_weights():
    file, preset, _ = run_with("scjd")
    run = pipeline.planned_runs(
        shrink(importlib.import_module(f"configs.{file}").get_config(preset))
    )[-1]
    assert run.config.teacher.network.width == 2 * run.config.student.network.width == 16
    assert run.config.distill.weights.embedding > 0
