"""The compiler for TPUs, which needs no TPU, and the benchmark around it."""

import importlib.util
import json
import subprocess
import sys

import jax
import pytest
import tiny
from repository import REPOSITORY

from benchmarks import networks, tpu_compile

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install -r requirements-tpu.txt",
)
# A row as the child process prints it.
ROW = {
    "examples": 1, "compile_s": 60.0, "memory": 2**31, "estimate": 2**31, "flops": 1e12,
    "moved": 33e9, "roofline_s": 0.04, "peak_share": 0.11, "cycles": {"attention": 3, "MLP": 1},
    "collectives": {"all-reduce": [1, 1000]},
}  # fmt: skip


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """Stands in for the compiler; returns the cases that it was asked for, and the options."""
    asked = []
    monkeypatch.setattr(tpu_compile, "in_a_process", lambda case: asked.append(case) or ROW)
    monkeypatch.setattr(tpu_compile, "fingerprint", lambda: "this code")
    monkeypatch.setattr(tpu_compile.importlib.util, "find_spec", lambda name: name)
    return asked, ["--only", "h36m teacher", "--out", str(tmp_path / "rows.jsonl")]


def test_a_repeated_command_keeps_whole_rows_of_the_same_code(compiler, tmp_path, monkeypatch):
    asked, options = compiler
    assert tpu_compile.main(options) == 0
    assert [case.name for case in asked] == [
        "scjd:h36m teacher, float32, v5e:2x4",
        "scjd:h36m teacher, bfloat16, v5e:2x4",
    ]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text()[:-30])  # killed while it wrote
    assert tpu_compile.main(options) == 0
    assert [case.compute for case in asked[2:]] == ["bfloat16"]
    monkeypatch.setattr(tpu_compile, "fingerprint", lambda: "other code")
    assert tpu_compile.main(options) == 0
    assert len(asked) == 5


def test_a_step_that_does_not_compile_is_a_row(compiler, capsys, monkeypatch):
    error = {"error": "RESOURCE_EXHAUSTED: 20.51G exceeds available HBM"}
    monkeypatch.setattr(tpu_compile, "in_a_process", lambda case: error)
    assert tpu_compile.main(compiler[1]) == 1
    assert "RESOURCE_EXHAUSTED" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, told",
    [
        (["--topologies", "v7:2x4"], "--topologies has 'v7:2x4': use one of v5e, v6e."),
        (["--only", "h37m"], "--only 'h37m' is found in no case"),
    ],
)
def test_refusals(compiler, capsys, words, told):
    assert tpu_compile.main(words) == 2
    assert told in capsys.readouterr().err


def test_a_case_names_a_run():
    case = tpu_compile.Case("cdkd:coco64", "student", "kron", "bfloat16", "v5e:2x4", 0)
    run = tpu_compile.run_of(case)
    assert (run.name, run.config.distill.projection.kind) == ("student", "kron")
    assert run.config.teacher.network.compute == run.config.student.network.compute == "bfloat16"
    assert tpu_compile.share_of(run, 4, 0) == run.block.train.batch // 4
    assert tpu_compile.share_of(run, 1000, 0) == 1
    assert tpu_compile.share_of(run, 4, 7) == 7


def test_a_row_has_what_its_table_shows(monkeypatch):
    """A small step for eight CPU devices, whose compiler estimates no cycles."""
    run = tiny.run_of("scjd", "demo", "teacher")
    monkeypatch.setattr(tpu_compile, "mesh_of", lambda topology: tiny.mesh_of(8))
    monkeypatch.setattr(tpu_compile, "run_of", lambda case: run)
    # libtpu may not be installed.
    monkeypatch.setattr(tpu_compile.importlib.metadata, "version", lambda name: "1.0")
    case = tpu_compile.Case("scjd:demo", "teacher", "", "float32", "v5e:2x4", 3)
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer power
        row = tpu_compile.compiled(case)
        estimate = networks.estimated_memory(run, 8, 3)
    assert row["examples"] == 3 and row["estimate"] == estimate.total
    # State, gradients and batch.
    assert row["memory"] > estimate.parameters + estimate.gradients + estimate.optimizer
    assert row["collectives"]["all-reduce"][1] >= estimate.gradients
    assert row["roofline_s"] == max(row["flops"] / 197e12, row["moved"] / 819e9) > 0
    line = tpu_compile.table([{"name": case.name, **vars(case), **row}]).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert len(cells) == len(tpu_compile.COLUMNS)
    assert cells[:2] == ["scjd:demo teacher, float32, v5e:2x4", "3"]
    assert cells[-3:-1] == ["-", ""] and "all-reduce" in cells[-1]


@needs_libtpu
@pytest.mark.slow
def test_small_step_compiles_for_v5e():
    """SCJD's teacher with one pair of blocks: HBM, exchange and cycles are those of its size."""
    code = (
        "import json; from configs import scjd; from benchmarks import hlo, networks, tpu_compile\n"
        "config = scjd.get_config('h36m,frames=27'); network = config.teacher.network\n"
        "network.depth, network.width = 1, 128\n"
        "run, mesh = networks.run_of(config, 'teacher'), tpu_compile.mesh_of('v5e:2x4')\n"
        "step = networks.traced_step(run, mesh, 1).lower().compile()\n"
        "program, held = hlo.parse(step.as_text()), step.memory_analysis()\n"
        "print(json.dumps([mesh.size, held.argument_size_in_bytes, program.collectives(),\n"
        "    program.cycles_by_kind(), networks.estimated_memory(run, 8, 1).parameters]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**tpu_compile.os.environ, **tpu_compile.WITHOUT_A_TPU},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    chips, arguments, exchanges, cycles, parameters = json.loads(done.stdout.splitlines()[-1])
    assert chips == 8
    # Parameters and two moments of Adam, with some padding, and the batch.
    assert 3 * parameters < arguments < 3.2 * parameters
    # The gradient is summed over the chips, and nothing else but a few numbers.
    assert set(exchanges) == {"all-reduce"}
    assert parameters <= exchanges["all-reduce"][1] < 1.05 * parameters
    assert {"spatial attention", "temporal attention", "MLP", "norm", "optimiser"} <= set(cycles)
