"""Studies.

What is run, in which order, what a stop or a mistake leaves, and the table, with a launcher that
takes no time.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import matplotlib.image
import numpy as np
import pytest
from repository import REPOSITORY

from kdpose_jax.errors import UserError
from kdpose_jax.study import runner as command
from kdpose_jax.study.declare import Comparison, Of, Published, Row, Run, Study, with_spread

# Scores 100 - 10 x gain + seed, logs its command line, and does what the field `behave` says.
LAUNCHER = """
import json, os, pathlib, signal, sys, time
words = dict(word.lstrip("-").split("=", 1) for word in sys.argv if word.startswith("--config."))
workdir = pathlib.Path(sys.argv[sys.argv.index("--workdir") + 1])
with open({calls!r}, "a") as calls:
    calls.write(json.dumps([*workdir.parts[-2:], words]) + "\\n")
with open({cores!r}, "a") as cores:
    cores.write(json.dumps(sorted(os.sched_getaffinity(0))) + "\\n")
behave = words.get("config.behave", "")
if behave == "mistake":
    print("error: behave is 'mistake': do not.")
    sys.exit(2)
if behave == "crash":
    sys.exit("Traceback")
workdir.mkdir(parents=True, exist_ok=True)
(workdir / "config.json").write_text("")
if behave == "diverge" and workdir.parts[-2:] == ("taught", "seed_4"):
    print("error: the loss is nan.")
    sys.exit(2)
if behave == "meet":  # ends when a second one runs
    deadline = time.monotonic() + 30
    while len(open({calls!r}).readlines()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
if behave == "wait":
    def leave(*_):
        print("saved")
        sys.exit(75)
    signal.signal(signal.SIGTERM, leave)
    print("waiting", flush=True)
    time.sleep(60)
gain, seed = float(words.get("config.gain", 0)), int(words["config.seed"])
cost = {{"parameters": 2000, "macs_linear_per_output": 10.0, "macs_total_per_output": 12.0 + gain,
         "outputs_per_example": 27, "outputs_per_second_batch1": 5.0,
         "outputs_per_second_batch16": 1234.0}}
training = {{"steps": 9, "seen": 1000 * (seed - 3), "unit": "frames", "core_hours": seed / 8}}
examples = {{"sums": [95 - 10 * gain + seed, 105 - 9.5 * gain + seed], "counts": [1, 1],
            "groups": [0, 0]}}
record = {{"table": {{"error": 100 - 10 * gain + seed, "other": None}}, "cost": cost,
          "examples": examples,
          "training": training, "loaded": "the best on the validation subject S8"}}
fingerprint = {{"commit": "abc", "uncommitted_changes": False, "device_count": 1,
               "device_kind": "none", "host_cores": 1, "versions": {{"jax": "1"}},
               "conditions": "Scores: made up.",
               "data": {{"generated": False, "settings": {{"name": "tests"}}}},
               "train_examples": 3, "test_examples": 2}}
networks = {{"teacher": record, "student": record}}
document = {{"schema_version": 1, "fingerprint": fingerprint, "networks": networks}}
(workdir / "results.json").write_text(json.dumps(document))
"""
STUDY = """
from kdpose_jax.study.declare import Of, Published, Row, Run, Study
def get_study(text):
    shared = {"teacher": Of("plain", "teacher")}
    return Study(
        name="tiny", title="Tiny", unit="frame", reference="without", seeds=(4, 5),
        fixed=("batch",),
        runs=(
            Run("plain", "configs/x.py:a", shared),
            Run("taught", "configs/x.py", {**shared, "gain": 3, "list": (1, 2)}),
        ),
        rows=(
            Row("teacher", "plain", "teacher", seeds=1),
            Row("without", "plain"),
            Row("with", "taught"),
        ),
        columns=(("error", "error mm", "{:.1f}"), ("other", "other", "{:.1f}")),
        published=(
            Published(
                "elsewhere", ("method", "error mm", "source"), (("Theirs", "1.0", "a paper"),)
            ),
        ),
    )
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository with a launcher that takes no time, and a study."""
    (tmp_path / "launch.py").write_text(
        textwrap.dedent(LAUNCHER).format(
            calls=str(tmp_path / "calls"), cores=str(tmp_path / "cores")
        )
    )
    (tmp_path / "study.py").write_text(STUDY)
    monkeypatch.setattr(command, "LAUNCHER", (sys.executable, str(tmp_path / "launch.py")))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def calls(place):
    path = place / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def start(*words):
    return command.main(["study.py", "--out", "out", *words])


def test_runs_come_in_order_and_share_what_the_first_makes(place):
    assert start() == 0
    teacher = str(place / "out" / "plain" / "seed_4" / "teacher")
    listing = {"config.gain": "3", "config.list": "(1, 2)"}
    assert calls(place) == [
        ["plain", "seed_4", {"config.seed": "4"}],
        ["taught", "seed_4", {"config.seed": "4", "config.teacher": teacher, **listing}],
        ["plain", "seed_5", {"config.seed": "5", "config.teacher": teacher}],
        ["taught", "seed_5", {"config.seed": "5", "config.teacher": teacher, **listing}],
    ]
    note = json.loads((place / "out" / "plain" / "seed_4.json").read_text())
    assert note["command"] == ["--config", "configs/x.py:a", "--config.seed=4"]


def test_the_table_has_means_spreads_and_paired_differences(place, capsys):
    assert start() == 0
    text = (place / "out" / "study.md").read_text()
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if "|" in line
    }
    # Seeds 4 and 5: 104 and 105, 74 and 75; their sample deviation is 1 / sqrt 2.
    assert rows["teacher"][:5] == ["1", "104.0", "-", "+0.0", "+0.0 to +0.0"]
    assert rows["without"][:5] == ["2", "104.5 ± 0.7", "-", "-", "-"]
    assert rows["with"] == [
        "2",
        "74.5 ± 0.7",
        "-",
        "-30.0 ± 0.0",
        "-30.0 to -28.5",  # a quarter of the draws has one of the two examples twice
        "2.000 k",
        "10.00",
        "15.00",
        "1,234 (432)",
        "1.500 k",  # 1000 and 2000
        "0.56",  # 4 / 8 and 5 / 8
    ]
    assert "Not finished" not in text and "Scores: made up." in text and "commit abc" in text
    assert "Checkpoint of each network: the best on the validation subject S8." in text
    assert text.index("| Theirs") > text.index("## Published figures") > text.index("| with")
    document = json.loads((place / "out" / "study.json").read_text())
    assert document["rows"][2]["scores"]["error"] == {"4": 74.0, "5": 75.0} and document["rows"][2][
        "against_reference"
    ] == [-30.0, -30.0]
    assert document["published_elsewhere"][0]["rows"] == [["Theirs", "1.0", "a paper"]]
    assert matplotlib.image.imread(place / "out" / "study.png").std() > 0
    assert "74.5 ± 0.7" in capsys.readouterr().out


def test_a_row_may_have_a_reference_of_its_own(place):
    own = STUDY.replace('Row("without", "plain")', 'Row("without", "plain", against="with")')
    (place / "study.py").write_text(own)
    assert start() == 0
    text = (place / "out" / "study.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| without "))
    assert [cell.strip() for cell in row.split("|")[5:7]] == ["+30.0 ± 0.0", "+28.5 to +30.0"]
    assert "Rows with a reference of their own: without: with." in text


def shipped(costs_and_errors, seeds=(0,), **further):
    """What a study with these networks recommends, of which seed 0 is done; None for an error that
    is not there yet.
    """
    names = [chr(ord("a") + index) for index in range(len(costs_and_errors))]
    study = Study(
        name="n",
        title="t",
        runs=tuple(Run(name, "x.py") for name in names),
        rows=tuple(Row(name.upper(), name) for name in names),
        columns=(("e", "E mm", "{:.1f}"),),
        unit="frame",
        reference="A",
        seeds=seeds,
        **further,
    )
    cost = {"parameters": 1, "macs_linear_per_output": 1.0, "outputs_per_example": 1}
    cost |= {"outputs_per_second_batch1": 1.0}
    documents = {
        (name, 0): {
            "networks": {
                "student": {"table": {"e": error}, "cost": {**cost, "macs_total_per_output": macs}}
            }
        }
        for name, (macs, error) in zip(names, costs_and_errors, strict=True)
        if error is not None
    }
    return [entry.title for entry in Comparison(study, documents).frontier()]


def test_a_network_is_recommended_if_none_as_cheap_is_better():
    networks = [(4e6, 50.0), (2e5, 70.0), (1e6, 71.0), (2e5, 69.0), (7e5, 60.0), (1e4, None)]
    assert shipped(networks) == ["D", "E", "A"]
    # Of a score that is better when it is higher.
    assert shipped(networks, best_is_lowest=False) == ["B", "C"]
    assert shipped([(1e6, None), (2e6, None)]) == []
    assert shipped(networks, seeds=(0, 1)) == []  # a mean of one seed says little


def test_a_run_may_take_several_others(place):
    study = command.load("study.py")
    mean = Run("mean", "configs/x.py", {"teachers": (Of("plain", "a"), Of("taught", "b"))})
    study = Study(**{**vars(study), "runs": (*study.runs, mean)})
    study.check()
    job = command.job(study, mean, 5, place, {})
    assert job.needs == (("plain", 4), ("taught", 4))
    paths = (str(place / "plain" / "seed_4" / "a"), str(place / "taught" / "seed_4" / "b"))
    assert job.command[-1] == f"--config.teachers={paths}"


def test_what_is_done_is_not_done_again_and_seeds_can_be_added(place):
    assert start("--seeds", "4") == 0
    assert "| without |     1 |" in (place / "out" / "study.md").read_text()
    before = calls(place)
    assert len(before) == 2
    assert start() == 0
    assert [one[:2] for one in calls(place)[2:]] == [["plain", "seed_5"], ["taught", "seed_5"]]
    assert start() == 0 and len(calls(place)) == 4


def test_only_some_runs_bring_what_they_need(place):
    assert start("--only", "taught") == 0
    assert sorted(one[:2] for one in calls(place)) == [
        ["plain", "seed_4"],
        ["taught", "seed_4"],
        ["taught", "seed_5"],
    ]
    assert "**Not finished**: without (1 of 2)." in (place / "out" / "study.md").read_text()


def test_a_run_that_others_need_has_no_more_seeds_than_are_shown(place):
    once = STUDY.replace('Row("without", "plain")', 'Row("without", "plain", seeds=1)')
    (place / "study.py").write_text(once)
    assert start() == 0
    assert [one[:2] for one in calls(place)] == [
        ["plain", "seed_4"],
        ["taught", "seed_4"],
        ["taught", "seed_5"],
    ]
    assert "Not finished" not in (place / "out" / "study.md").read_text()


def test_fields_of_the_user_go_to_every_run_and_before_what_all_runs_have(place):
    assert start("--config.epochs=1", "--config.teacher=/given") == 0
    for run, seed, words in calls(place):
        own = {"config.gain": "3", "config.list": "(1, 2)"} if run == "taught" else {}
        assert words == {
            "config.seed": seed[-1],
            "config.epochs": "1",
            "config.teacher": "/given",
            **own,
        }


@pytest.mark.parametrize("field", ["gain", "seed", "baseline", "batch"])
def test_what_a_study_varies_is_not_the_user_s_to_set(place, capsys, field):
    assert start(f"--config.{field}=1") == 2
    assert f"--config.{field} is not the same in all runs of 'tiny'" in capsys.readouterr().err
    assert not calls(place)


def test_other_commands_in_the_same_folder_are_refused(place, capsys):
    assert start() == 0
    before = calls(place)
    assert start("--config.epochs=1") == 2
    assert (
        "holds plain, seed 4 of another command (--config.epochs=1): use another --out"
        in capsys.readouterr().err
    )
    assert calls(place) == before
    (place / "out" / "plain" / "seed_4.json").write_text("{")
    assert start() == 2
    assert "seed_4.json' is damaged" in capsys.readouterr().err


def test_a_mistake_stops_all_and_a_crash_only_its_own(place, capsys):
    assert start("--config.behave=mistake") == 2
    assert len(calls(place)) == 1
    error = capsys.readouterr().err
    assert (
        "plain, seed 4 ended with code 2: error: behave is 'mistake': do not. (all of it: " in error
    )
    assert start() == 0  # the command that was refused leaves nothing in the way
    done = len(calls(place))
    assert (
        command.main(["study.py", "--out", "other", "--only", "plain", "--config.behave=crash"])
        == 1
    )
    assert len(calls(place)) == done + 1  # the second seed needs the teacher of the first


def test_a_run_that_fails_after_others_succeeded_fails_alone_and_is_tried_again(place, capsys):
    assert start("--config.behave=diverge") == 1
    assert sorted(one[:2] for one in calls(place)) == [
        ["plain", "seed_4"],
        ["plain", "seed_5"],
        ["taught", "seed_4"],
        ["taught", "seed_5"],
    ]
    assert "taught, seed 4 ended with code 2: error: the loss is nan." in capsys.readouterr().err
    assert "**Not finished**: with (1 of 2)." in (place / "out" / "study.md").read_text()
    assert start("--config.behave=diverge") == 1
    assert calls(place)[4:] and all(one[:2] == ["taught", "seed_4"] for one in calls(place)[4:])


def test_damaged_results_are_found_before_anything_runs(place, capsys):
    assert start("--seeds", "4") == 0
    (place / "out" / "taught" / "seed_4" / "results.json").write_text("{")
    before = calls(place)
    assert start() == 2
    assert "results.json is not valid JSON" in capsys.readouterr().err and calls(place) == before


def test_a_stop_is_passed_on_and_the_same_command_goes_on(place):
    script = "import sys; from kdpose_jax.study import runner; "
    script += "runner.LAUNCHER = (sys.executable, 'launch.py'); sys.exit(runner.main(sys.argv[1:]))"
    words = [sys.executable, "-c", script, "study.py", "--out", "out", "--config.behave=wait"]
    process = subprocess.Popen(
        words,
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )
    log = place / "out" / "plain" / "seed_4.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and "waiting" in log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 75 and "run the same command again" in error
    assert log.read_text() == "waiting\nsaved\n"
    (place / "launch.py").write_text((place / "launch.py").read_text().replace('"wait"', '"never"'))
    assert start("--config.behave=wait") == 0


def test_two_at_a_time_share_the_cores(place):
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        assert start("--jobs", "2") == 2
        return
    # With a teacher from elsewhere nothing waits for anything.
    assert (
        start("--jobs", "2", "--seeds", "4", "--config.teacher=/given", "--config.behave=meet") == 0
    )
    assert len(calls(place)) == 2
    parts = [set(json.loads(line)) for line in (place / "cores").read_text().splitlines()]
    assert not parts[0] & parts[1] and len(parts[0]) == len(parts[1]) == len(mine) // 2
    assert sorted(os.sched_getaffinity(0)) == mine


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.py"], "There is no study 'nothing.py': use one of"),
        (["launch.py"], "'launch.py' declares no study"),
        (["notes.md"], "'notes.md' is no study (invalid syntax"),
        (["study.py", "--seeds", "5"], "--seeds begins with 5: begin with 4"),
        (
            ["study.py", "--out", "gs://bucket/x"],
            "--out is 'gs://bucket/x': use a folder of a disk",
        ),
        (["study.py", "--out", "launch.py"], "launch.py' cannot be used: File exists"),
        (["study.py", "--confg.x=1"], "'--confg.x=1' is not an option"),
        (
            ["study.py", "--only", "other"],
            "--only names 'other', which is no run of 'tiny': use some of plain, taught",
        ),
        (["study.py", "--jobs", "0"], "--jobs is 0"),
        (["study.py", "--seeds", "4,4"], "has the seed 4 twice"),
    ],
)
def test_mistakes_are_told_in_a_sentence(place, capsys, words, said):
    (place / "launch.py").write_text("")
    (place / "notes.md").write_text("# A page\n\nof text.\n")
    assert command.main([*words[:1], "--out", "out", *words[1:]]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (place / "out").exists()


def test_a_column_that_the_protocol_lacks_is_named(place):
    study = command.load("study.py")
    study = Study(**{**vars(study), "columns": (("pck", "PCK", "{:.1f}"),)})
    record = {"table": {"error": 1.0}, "cost": {}}
    with pytest.raises(
        UserError, match="shows 'pck', and plain is scored by error: use one of these"
    ):
        Comparison(study, {("plain", 4): {"networks": {"teacher": record, "student": record}}})


def test_a_network_that_a_run_lacks_is_named(place):
    record = {"table": {"error": 1.0}, "cost": {}}
    with pytest.raises(
        UserError, match="shows 'teacher' of the run 'plain', which has baseline: use one of these"
    ):
        Comparison(command.load("study.py"), {("plain", 4): {"networks": {"baseline": record}}})


def test_names_that_do_not_fit_are_refused():
    parts = {
        "name": "n",
        "title": "t",
        "unit": "frame",
        "columns": (("e", "e", "{}"),),
        "seeds": (0,),
    }
    run, row = Run("a", "x.py"), Row("A", "a")
    Study(
        runs=(run,), rows=(row,), reference="A", published=(Published("p", ("s",), ()),), **parts
    ).check()
    for changed, said in [
        (
            {"rows": (row, Row("B", "b"))},
            "the row 'B' names the run 'b', which is none: use one of a",
        ),
        (
            {"runs": (run, Run("c", "x.py", {"f": Of("d", "data")}))},
            "the run 'c' names the run 'd'",
        ),
        ({"runs": (run, run)}, "has the run a twice"),
        ({"rows": ()}, "has no row"),
        ({"reference": "B"}, "is compared with 'B', which is not a row"),
        ({"rows": (row, Row("B", "a", against="C"))}, "is compared with 'C', which is not a row"),
    ]:
        with pytest.raises(UserError, match=said):
            Study(**{"runs": (run,), "rows": (row,), "reference": "A", **parts, **changed}).check()


def test_spread_is_the_sample_s():
    values = [82.36, 83.24, 81.87]
    assert with_spread(values, "{:.2f}") == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
    assert with_spread(values[:1], "{:+.1f}") == "+82.4" and with_spread([], "{:.2f}") == "-"
