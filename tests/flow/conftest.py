"""Generated records and one finished run, shared by the flow tests."""

import pytest
from launching import TINY, launch_main

from data_prep import convert


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
    """The work directory of an undisturbed tiny run."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    arguments = (
        "--config",
        "configs/scjd.py",
        f"--config.data.records={records}",
        "--workdir",
        str(workdir),
        *TINY,
    )
    assert launch_main(*arguments) == 0
    return workdir, arguments
