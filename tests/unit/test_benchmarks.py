"""The arithmetic of the benchmarks, and each command at one or two small rows.

Nothing here depends on a time.
"""

import functools
import json
import os
import sys
import types

import jax
import pytest
import tiny
from ml_collections import ConfigDict

from benchmarks import (
    chips,
    command,
    compile,
    convert,
    demos,
    gpu,
    inference,
    kernels,
    machine,
    pipeline,
    step,
    turns,
)
from configs import scjd
from kdpose_jax.errors import UserError
from kdpose_jax.report import results
from kdpose_jax.train import sharding

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the load is read from /proc")


@pytest.fixture
def idle(monkeypatch):
    """Lets turns begin at once, and no one watch the load for longer than a moment."""
    monkeypatch.setattr(machine, "wait_until_idle", lambda: None)
    monkeypatch.setattr(machine, "SAMPLE", 0.0)


def test_a_summary_has_medians_and_the_ratios_of_the_pairs():
    pairs = [turns.Pair(2.0, 3.0), turns.Pair(1.0, 4.0), turns.Pair(4.0, 2.0)]
    assert turns.summary(pairs) == {
        "pairs": 3,
        "ours_s": 2.0,
        "ours_lowest_s": 1.0,
        "ours_highest_s": 4.0,
        "theirs_s": 3.0,
        "ratio": 1.5,  # of 1.5, 4.0 and 0.5
        "ratio_lowest": 0.5,
        "ratio_highest": 4.0,
    }
    alone = turns.summary([turns.Pair(2.0, None), turns.Pair(3.0, None)])
    assert alone["ours_s"] == 2.5
    assert {alone[name] for name in ("theirs_s", "ratio", "ratio_lowest", "ratio_highest")} == {
        None
    }


def test_turns_alternate_and_so_does_who_begins(monkeypatch, idle):
    monkeypatch.setattr(turns, "calls_for", lambda way, ahead, seconds: 2)
    called = []
    contest = turns.Contest(
        ours=lambda: called.append("A"), theirs=lambda: called.append("B"), examples=1, unit="calls"
    )
    taken = turns.take_turns(contest, pairs=3, seconds=0.0)
    assert "".join(called) == "AABB" + "BBAA" + "AABB"
    assert len(taken) == 3


def test_a_pair_keeps_ours_and_theirs_apart_whoever_begins(monkeypatch, idle):
    monkeypatch.setattr(turns, "calls_for", lambda way, ahead, seconds: 1)
    monkeypatch.setattr(turns, "turn", lambda way, calls, ahead: way())
    contest = turns.Contest(ours=lambda: 1.0, theirs=lambda: 3.0, examples=1, unit="calls")
    assert turns.take_turns(contest, pairs=2, seconds=0.0) == [turns.Pair(1.0, 3.0)] * 2


def test_a_turn_is_seconds_per_call_without_the_calls_ahead(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now[0])
    waits = iter([50.0, 50.0, 1.0, 2.0, 3.0])

    def way():
        now[0] += next(waits)

    assert turns.turn(way, calls=3, ahead=2) == 2.0


def test_a_turn_has_as_many_calls_as_fill_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now[0])
    first = iter([30.0])

    def way():
        now[0] += next(first, 0.1)

    assert turns.calls_for(way, ahead=0, seconds=0.95) == 10


def write_process(folder, number, parent, ticks, name="python"):
    """Writes /proc/NUMBER/stat with four counts of ticks."""
    (folder / str(number)).mkdir()
    fields = ["S", parent, *[0] * 9, *ticks, 20, 0]
    line = f"{number} ({name}) {' '.join(map(str, fields))}"
    (folder / str(number) / "stat").write_text(line)


def test_the_load_of_others_leaves_out_this_process_and_what_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "PROCESSES", tmp_path)
    monkeypatch.setattr(machine, "TICKS", 100)
    # user nice system idle iowait irq softirq steal guest guest_nice
    (tmp_path / "stat").write_text("cpu  1000 10 200 9999 77 3 4 5 400 0\ncpu0 1 2 3\n")
    assert machine.busy_seconds() == pytest.approx(12.22)
    own = os.getpid()
    write_process(tmp_path, own, 1, (100, 20, 3, 4))
    write_process(tmp_path, own + 1, own, (10, 0, 0, 0), name="a ) b (c")
    write_process(tmp_path, own + 2, own + 1, (5, 0, 0, 0))
    write_process(tmp_path, own + 3, 1, (7000, 0, 0, 0))
    assert machine.own_seconds() == pytest.approx(1.42)


def test_others_are_the_busy_cores_that_are_not_ours():
    before = machine.Clocks(now=10.0, busy=100.0, own=50.0)
    assert before.others(machine.Clocks(now=14.0, busy=107.0, own=54.0)) == 0.75
    assert before.others(machine.Clocks(now=14.0, busy=103.9, own=54.0)) == 0.0  # by rounding


def test_a_disturbance_is_named_from_a_tenth_of_a_core():
    assert machine.disturbance({"before": 0.1, "during": 0.0, "after": 0.05}) == ""
    load = {"before": 0.0, "during": 1.26, "after": 0.4}
    assert machine.disturbance(load) == "others took 1.3 during, 0.4 after (cores)"


def test_more_threads_than_cores_are_refused():
    cores = len(os.sched_getaffinity(0))
    for count in (0, cores + 1):
        with pytest.raises(UserError, match=f"--threads is {count}: use 1 to {cores}"):
            machine.limit_cores(count)
    assert len(os.sched_getaffinity(0)) == cores


def test_cases_are_chosen_by_an_expression():
    cases = [turns.Case(name, lambda: None) for name in ("step 27/64", "step 81/64", "windows")]
    assert [case.name for case in command.choose(cases, "81|win")] == ["step 81/64", "windows"]
    with pytest.raises(UserError, match="the cases are 'step 27/64', 'step 81/64', 'windows'"):
        command.choose(cases, "steps")
    with pytest.raises(UserError, match=r"--only '\(' is not a regular expression"):
        command.choose(cases, "(")


def test_a_row_has_its_share_of_the_roofline_and_its_load():
    row = {
        "case": "a step",
        "unit": "windows",
        "examples": 8,
        "flops": 6e9,
        "moved_bytes": 4e8,
        "beside": "PyTorch",
        **turns.summary([turns.Pair(0.05, 0.1)]),
        "others": {"during": 0.5},
    }
    command.add_roofline(row, {"gflops": 240.0, "gbytes": 16.0})
    assert (row["per_second"], row["gflops"], row["gbytes"]) == (160.0, 120.0, 8.0)
    columns = [command.OURS, command.RATE, command.COMPUTE, command.MEMORY, *command.COMPARED]
    assert command.table_row(row, columns) == (
        "| a step | 50.00 | 160 windows | 120 (50%) | 8.00 (50%) | PyTorch | 100 | "
        "2.00 (2.00 to 2.00) | others took 0.5 during (cores) |"
    )
    titles, rule = command.table_head([column.title for column in columns])
    assert titles.count("|") == rule.count("|") == command.table_row(row, columns).count("|")


@pytest.fixture
def small(monkeypatch, idle):
    """Shrinks networks, matrices, motion and turns; keeps to one device and to this process."""
    full = scjd.get_config

    def shrunk(text):
        config = tiny.shrink(full(text))
        settings = {"train_subjects": 1, "test_subjects": 1, "frames": 20, "seed": 0}
        config.data.converter.settings = ConfigDict(settings)
        return config

    monkeypatch.setattr(scjd, "get_config", shrunk)
    monkeypatch.setattr(inference, "LIFTERS", ((27, 16, 1),))
    monkeypatch.setattr(command, "SECONDS", 0.01)
    monkeypatch.setattr(machine, "NUMBERS", 2**16)
    monkeypatch.setattr(machine, "SIDE", 64)
    monkeypatch.setattr(demos, "WATCHED", 0.1)
    for name, count in {"FRAMES": 20, "STUDIO_FRAMES": 20, "CLIPS": 2, "CLIP_FRAMES": 100}.items():
        monkeypatch.setattr(convert, name, count)
    few = {"train_pictures": 2, "val_pictures": 1, "test_pictures": 1}
    monkeypatch.setattr(convert, "PICTURES", few)
    monkeypatch.setattr(results, "host_cores", lambda: 1)
    monkeypatch.setattr(sharding, "make_mesh", lambda: tiny.mesh_of(1))


CASES = [
    pytest.param(step, "SCJD demo, student", 1, id="step"),
    pytest.param(inference, "MixSTE 27/16/1", 1, id="inference"),
    pytest.param(pipeline, "records of motion read|SCJD demo, teacher", 2, id="pipeline"),
    pytest.param(convert, "human36m|mpi_inf", 2, id="convert"),
    pytest.param(compile, "scjd:demo teacher", 1, id="compile"),
]


@pytest.mark.parametrize("module, only, count", CASES)
def test_a_command_prints_a_table_and_writes_its_rows(module, only, count, tmp_path, capsys, small):
    out = tmp_path / "new" / "rows.json"
    pairs = ["--pairs", "1"] if module is not compile else []
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer power
        code = module.COMMAND.run(["--only", only, *pairs, "--out", str(out)])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    report = json.loads(out.read_text())
    table = [line for line in printed.out.splitlines() if line.startswith("|")]
    assert len(report["rows"]) == count and len(table) == 2 + count
    assert len({line.count("|") for line in table}) == 1
    assert report["options"]["only"] == only
    assert report["roofline"]["gflops"] > 0 and "commit" in report and report["host_cores"] == 1
    for row, line in zip(report["rows"], table[2:], strict=True):
        assert line.startswith(f"| {row['case']} |")
        assert set(row["others"]) == {"before", "during", "after"}
        if module is compile:
            assert row["first_start_s"] == sum(row[f"{part}_s"] for part in compile.PARTS) > 0
        else:
            assert row["per_second"] == row["examples"] / row["ours_s"] > 0


def test_a_mistake_is_told_in_one_sentence(tmp_path, capsys):
    missing = tmp_path / "missing"
    assert step.COMMAND.run(["--peers", str(missing)]) == 2
    assert capsys.readouterr().err == (
        f"error: --peers '{missing}' is not a folder: clone the references.\n"
    )


def test_a_gpu_s_rows_have_kernels_and_a_share_of_the_peak(tmp_path, capsys, monkeypatch, small):
    out = tmp_path / "gpu.json"
    # A peak that makes the share readable: here the device is not known.
    kind = jax.devices()[0].device_kind
    monkeypatch.setitem(chips.GPUS, kind, chips.Chip(flops=1e9, bandwidth=1.0, memory=1.0))
    arguments = ["--tiny", "--pairs", "1", "--only", "SCJD student", "--out", str(out)]
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer power
        assert gpu.COMMAND.run(arguments) == 0
    printed = capsys.readouterr().out
    report = json.loads(out.read_text())
    (row,) = report["rows"]
    assert report["precision"] == "bfloat16"
    assert row["unit"] == "windows" and row["examples"] == 2 and row["beside"] is None
    assert row["mfu"] == pytest.approx(row["flops"] / row["ours_s"] / 1e9)
    assert f"| {row['mfu']:.1%} |" in printed
    longest = [kernel["ms"] for kernel in row["kernels"]]
    assert len(longest) == gpu.KERNELS and longest == sorted(longest, reverse=True)
    assert all(f"| {kernel['name']} |" in printed for kernel in row["kernels"])
    run = gpu.bfloat16_run("scjd:h36m", "student", tiny=True)
    assert run.config.teacher.network.compute == run.block.network.compute == "bfloat16"


def test_a_gpu_s_step_that_fails_costs_its_row_only(tmp_path, capsys, monkeypatch, small):
    def refuse(*arguments):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nand much more")

    monkeypatch.setattr(gpu, "prepared", functools.lru_cache(refuse))
    out = tmp_path / "gpu.json"
    assert gpu.COMMAND.run(["--tiny", "--only", "SCJD", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert [row["case"] for row in json.loads(out.read_text())["rows"]] == [
        "SCJD teacher",
        "SCJD student",
    ]
    assert "| SCJD student | failed |" in printed
    assert "SCJD student failed: RuntimeError: RESOURCE_EXHAUSTED: Out of memory\n" in printed


def test_a_machine_without_a_profiler_keeps_the_times(monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("CUPTI is not permitted\nat all")

    monkeypatch.setattr(gpu.kernels, "longest", refuse)
    row = {"case": "SCJD student", **gpu.traced(lambda: None)}
    assert row["kernels"] == []
    assert "RuntimeError: CUPTI is not permitted" in next(gpu.below([row]))


def test_without_a_gpu_the_full_sizes_are_refused(capsys):
    assert gpu.COMMAND.run([]) == 2
    assert capsys.readouterr().err == (
        "error: jax found cpu and no GPU: use a Python with requirements.txt and "
        "jax[cuda13]==0.10.2 on a machine with an NVIDIA GPU, or try it with --tiny.\n"
    )


def test_the_reference_takes_turns_eager_and_compiled(tmp_path):
    options = types.SimpleNamespace(tiny=True, peers=tmp_path)
    assert [case.name for case in gpu.cases(options)][:3] == [
        "SCJD teacher, eager",
        "SCJD teacher, compiled",
        "SCJD student",
    ]


def traced(name, *lines):
    """Makes a plane of a trace: its name and its lines, each a name and (event, ns, stats)."""
    made = []
    for line, events in lines:
        listed = [
            types.SimpleNamespace(name=event, duration_ns=ns, stats=stats)
            for event, ns, stats in events
        ]
        made.append(types.SimpleNamespace(name=line, events=listed))
    return types.SimpleNamespace(name=name, lines=made)


def test_kernels_are_those_of_a_gpu_s_streams():
    operation = [("hlo_op", "dot.1")]
    host = traced("/host:CPU", ("python", [("call", 9.0, [])]), ("XLA", [("dot", 8.0, operation)]))
    gpus = traced(
        "/device:GPU:0",
        ("Stream #13(Compute)", [("gemm", 5.0, operation), ("in a graph", 2.0, [])]),
        ("XLA Ops", [("dot.1", 5.0, operation)]),
    )
    both, alone = (types.SimpleNamespace(planes=planes) for planes in ([host, gpus], [host]))
    assert [event.name for event in kernels.events(both, True)] == ["gemm", "in a graph"]
    assert [*kernels.events(alone, True)] == []
    assert [event.name for event in kernels.events(alone, False)] == ["dot"]
