"""SIGTERM and Ctrl-C to processes of their own: what is saved, what is said, and with which exit code they end."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from kdpose_jax.train.preemption import Stop, Stopped

# A long call into C, which no Python handler interrupts, as compiling is.
AT_ONCE = """
import hashlib, sys
from kdpose_jax.train.preemption import watching
with watching() as stop:
    stop.at_once(lambda: open(sys.argv[1], "w").write("saved"))
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
"""
DEFERRED = """
import sys, time
from kdpose_jax.train.preemption import Stopped, watching
try:
    with watching() as stop:
        stop.defer()
        print("ready", flush=True)
        while stop._number is None:  # `requested` without the import of jax
            time.sleep(0.01)
        print("saving", flush=True)
        time.sleep(float(sys.argv[2]))
        open(sys.argv[1], "w").write("saved")
        raise stop.exception()
except Stopped as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(stopped.code)
"""


def start(program, *arguments):
    """A process that has said "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGTERM, 75, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
def test_a_call_into_c_is_left_at_once_when_all_is_saved(tmp_path, number, code, name):
    process = start(AT_ONCE, tmp_path / "state")
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code and (tmp_path / "state").read_text() == "saved"
    assert said == f"stopped by {name}, nothing is lost: run the same command again to go on\n"


def test_second_signal_while_saving_does_no_harm(tmp_path):
    process = start(DEFERRED, tmp_path / "state", 0.5)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 75 and (tmp_path / "state").read_text() == "saved" and said.count("\n") == 1


def test_second_ctrl_c_ends_without_saving(tmp_path):
    process = start(DEFERRED, tmp_path / "state", 60)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and not (tmp_path / "state").exists() and "without saving" in said


def test_request_that_waited_is_obeyed_as_soon_as_everything_can_be_saved():
    stop, saved = Stop(), []
    stop.defer()
    stop.receive(signal.SIGTERM)
    assert stop.requested() and not saved
    with pytest.raises(Stopped) as raised:
        stop.at_once(lambda: saved.append(True))
    assert saved == [True] and raised.value.code == 75
