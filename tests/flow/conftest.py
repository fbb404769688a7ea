"""Generated records and one finished run, shared by the flow tests."""

import json
import os
import time

import pytest
from etils import epath
from launching import TINY, launch_main

from data_prep import convert
from kdpose_jax.files import write_atomically


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> str:
    """A tiny generated data set."""
    out = str(tmp_path_factory.mktemp("data") / "records")
    convert.prepare(
        "synthetic", out, train_subjects=1, test_subjects=1, takes=1, frames=60, workers=1
    )
    return out


@pytest.fixture(scope="session")
def finished(records, tmp_path_factory):
    """The work directory of an undisturbed tiny run, and the words that make it.

    One process of the suite makes it for all.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    workdir, words = place / "whole", place / "words.json"
    try:
        place.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 600
        while not words.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        arguments = tuple(json.loads(words.read_text()))
        assert arguments, "the other process could not make the run"
        return workdir, arguments
    arguments = (
        "--config",
        "configs/scjd.py",
        f"--config.data.records={records}",
        "--workdir",
        str(workdir),
        *TINY,
    )
    code = None
    try:
        code = launch_main(*arguments)
    finally:
        write_atomically(epath.Path(words), json.dumps(arguments if code == 0 else ()).encode())
    assert code == 0
    return workdir, arguments
