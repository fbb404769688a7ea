"""scripts/gpu_bench.sh with a stand-in for Python: what it starts, and what it leaves out."""

import os
import subprocess

import pytest
from repository import REPOSITORY

# `-c` asks about torch; else it notes its arguments, and takes as long as told.
STAND_IN = """#!/usr/bin/env bash
if [[ $1 == -c ]]; then [[ $TORCH == cuda || ( $TORCH == cpu && $2 != *cuda* ) ]]; exit; fi
echo "started: $*"
exec sleep "$TAKES"
"""


def call(folder, *words, torch, takes="0", peers="peers", limit="60"):
    """Returns the exit code, the output, the errors and the log."""
    (folder / "python").write_text(STAND_IN)
    (folder / "python").chmod(0o755)
    (folder / "peers").mkdir()
    environment = os.environ | {
        "PYTHON": str(folder / "python"),
        "OUT": str(folder / "new" / "out"),
        "PEERS": str(folder / peers),
        "LIMIT": limit,
        "TORCH": torch,
        "TAKES": takes,
    }
    script = str(REPOSITORY / "scripts" / "gpu_bench.sh")
    done = subprocess.run(["bash", script, *words], env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr, (folder / "new/out/gpu.log").read_text()


@pytest.mark.parametrize(
    "words, torch, peers, beside",
    [
        ((), "cuda", "peers", True),
        ((), "cpu", "peers", False),
        (("--tiny",), "cpu", "peers", True),
        (("--tiny",), "none", "peers", False),
        ((), "cuda", "missing", False),
    ],
)
def test_pytorch_is_left_out_where_it_cannot_take_part(tmp_path, words, torch, peers, beside):
    code, output, _, log = call(tmp_path, *words, torch=torch, peers=peers)
    assert code == 0
    (started,) = [line for line in output.splitlines() if line.startswith("started: ")]
    pairs = "1" if words else "5"
    given = f" --peers {tmp_path}/peers" if beside else ""
    assert started == (
        f"started: -u -m benchmarks.gpu --pairs {pairs}{given} --out {tmp_path}/new/out/gpu.json"
        + "".join(f" {word}" for word in words)
    )
    assert log == f"{started}\n"
    assert ("PyTorch is left out: " in output) == (not beside)


def test_a_run_is_stopped_at_its_limit(tmp_path):
    code, _, errors, log = call(tmp_path, torch="none", takes="60", limit="0.5")
    assert code == 124 and log.startswith("started: ")
    assert errors == (
        f"stopped after 0.5 seconds: {tmp_path}/new/out/gpu.json has the rows so far.\n"
    )
