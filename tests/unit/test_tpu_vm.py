"""scripts/tpu_vm.sh with a stand-in for gcloud.

What it would run, and what it does after each exit code.
"""

import os
import subprocess

import pytest
from repository import REPOSITORY

# Notes its arguments; `describe` and `ssh` answer from files of lines, one a call, the last one
# again and again.
STAND_IN = """#!/usr/bin/env bash
echo "$*" | tr '\\n' ' ' >>"$NOTES/calls"; echo >>"$NOTES/calls"
answer() {
  head -n 1 "$NOTES/$1"; if (($(wc -l <"$NOTES/$1") > 1)); then sed -i 1d "$NOTES/$1"; fi
}
case "$4" in
  describe) state=$(answer states); if [[ $state == ABSENT ]]; then exit 1; fi; echo "$state" ;;
  ssh) if [[ "$*" == *launch.py* ]]; then exit "$(answer codes)"; fi ;;
esac
"""


def call(folder, *words, states=("READY",), codes=(0,), **environment):
    """(exit code, output, errors, the commands that gcloud was given)."""
    (folder / "gcloud").write_text(STAND_IN)
    (folder / "gcloud").chmod(0o755)
    (folder / "calls").write_text("")
    for name, lines in (("states", states), ("codes", codes)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    told = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "NOTES": str(folder),
        "SECONDS_BETWEEN": "0",
        "NAME": "pod",
        "ZONE": "z",
    }
    told |= {"REPOSITORY": "https://host/it.git"} | environment
    done = subprocess.run(
        ["bash", str(REPOSITORY / "scripts" / "tpu_vm.sh"), *words],
        env=told,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr, (folder / "calls").read_text().splitlines()


def actions(calls):
    """What was asked of gcloud, `describe` left out: create, delete, install, run."""
    named = {"ssh": lambda line: "run" if "launch.py" in line else "install"}
    words = [(line.split()[3], line) for line in calls]
    return [
        named[word](line) if word in named else word for word, line in words if word != "describe"
    ]


def test_dry_run_calls_nothing(tmp_path):
    code, output, _, calls = call(
        tmp_path,
        "--dry-run",
        "supervise",
        "--",
        "--config",
        "c.py:h36m",
        "--workdir",
        "/mnt/my runs",
        SPOT="1",
    )
    assert code == 0 and calls == []
    create, install, run = output.splitlines()
    assert (
        create.startswith("gcloud compute tpus tpu-vm create pod --accelerator-type v5litepod-16")
        and "--spot" in create
    )
    assert (
        "--worker=all" in install
        and "https://host/it.git" in install
        and "-r requirements-tpu.txt" in install
    )
    assert "--worker=all" in run and "--distributed=on" in run
    # Quoted once for this shell and once for the worker's; a field of the config comes after its
    # file.
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {run}"], capture_output=True, text=True
    ).stdout.splitlines()
    remote = words[words.index("--command") + 1].split("launch.py ")[1]
    seen = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {remote}"], capture_output=True, text=True
    ).stdout.splitlines()
    assert seen == [
        "--distributed=on",
        "--config",
        "c.py:h36m",
        "--workdir",
        "/mnt/my runs",
        "--config.platform=tpu",
    ]


def test_pinned_jax_is_the_one_of_the_requirements():
    pinned = next(
        line
        for line in (REPOSITORY / "requirements.txt").read_text().splitlines()
        if line.startswith("jax==")
    )
    assert (
        f"jax[tpu]=={pinned.removeprefix('jax==')}"
        in (REPOSITORY / "requirements-tpu.txt").read_text()
    )


def test_a_machine_that_was_taken_away_is_made_again(tmp_path):
    states = ("ABSENT", "CREATING", "READY", "PREEMPTED", "ABSENT", "READY")
    code, _, _, calls = call(
        tmp_path, "supervise", "--", "--config", "c.py", states=states, codes=(75, 0)
    )
    assert code == 0
    assert actions(calls) == ["create", "install", "run", "delete", "create", "install", "run"]


@pytest.mark.parametrize(
    ("codes", "end", "runs"), [((2,), 2, 1), ((1, 0), 0, 2), ((1,), 1, 3), ((1, 75, 1, 1, 0), 0, 5)]
)
def test_what_follows_an_exit_code(tmp_path, codes, end, runs):
    """A mistake ends it at once, a preemption never, anything else after three in a row."""
    code, _, errors, calls = call(
        tmp_path, "supervise", "--", "--config", "c.py", codes=codes, FAILURES="3"
    )
    assert (code, actions(calls).count("run")) == (end, runs)
    assert ("3 runs in a row failed" in errors) == (end == 1)


def test_mistakes_of_the_caller(tmp_path):
    code, _, errors, calls = call(tmp_path, "supervise", REPOSITORY="")
    assert code == 2 and calls == [] and errors.startswith("error: REPOSITORY is empty")
    code, _, errors, calls = call(tmp_path, "start")
    assert code == 2 and calls == [] and "create|install|run" in errors


def test_stop_asks_every_worker(tmp_path):
    code, _, _, calls = call(tmp_path, "stop")
    assert code == 0 and "--worker=all" in calls[0] and "pkill -TERM" in calls[0]
