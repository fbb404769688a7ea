"""Calls in worker processes: every result with its number, and one sentence for a dead worker."""

import os

import pytest

from data_prep import parallel
from kdpose_jax.errors import UserError


@pytest.mark.parametrize("count", [0, 1, 2])
def test_every_call_has_its_result(count):
    with parallel.pool(count) as run:
        results = dict(run(divmod, [(7, 2), (9, 4), (5, 5)]))
        assert dict(run(os.getpid, [()]))[0] != os.getpid() or count < 2
    assert results == {0: (3, 1), 1: (2, 1), 2: (1, 0)}


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_is_the_calls_own(count):
    with pytest.raises(ZeroDivisionError), parallel.pool(count) as run:
        dict(run(divmod, [(1, 1), (1, 0)]))


def test_a_worker_that_dies_is_told_in_one_sentence():
    with pytest.raises(UserError, match="A worker process was ended from outside.*--workers.$"):
        with parallel.pool(2) as run:
            dict(run(os._exit, [(9,), (9,)]))


def test_calls_that_have_not_begun_are_dropped_after_an_error(tmp_path):
    names = [str(tmp_path / str(number)) for number in range(2000)]
    with pytest.raises(KeyboardInterrupt), parallel.pool(2) as run:
        for _ in run(os.mkdir, [(name,) for name in names]):
            raise KeyboardInterrupt
    assert 0 < len(list(tmp_path.iterdir())) < len(names)
