"""The notebooks run from the first cell to the last, in a folder that is laid out as a checkout."""

import json
import os
import subprocess
import sys

import pytest
import stored_networks
from repository import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def cells(path, kind):
    """The texts of all cells of a kind."""
    listed = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in listed if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs(path):
    content = json.loads(path.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    for cell in content["cells"]:
        assert cell["cell_type"] == "markdown" or not cell["outputs"]
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    for name in ("launch.py", "configs", "data_prep", "kdpose_jax", "samples", "scripts"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "notebooks").mkdir()
    if path.stem == "lift_a_clip":
        student = tmp_path / "runs" / "scjd_demo" / "student"
        stored_networks.store_preset(student, "scjd", "demo", "student")
    code = "\n\n".join(cells(path, "code"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "notebooks",
        env=os.environ | {"MPLBACKEND": "Agg", "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    last = done.stdout.splitlines()[-1]
    if path.stem == "lift_a_clip":
        assert last.startswith("person 1: ") and last.endswith("mm MPJPE")
    else:
        assert last.endswith(", 17, 3) metres")
        assert "student" in done.stdout and "clara" in done.stdout
