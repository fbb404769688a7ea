"""SIGTERM and Ctrl-C to processes of their own.

What is saved, what is said, and with which exit code they end.
"""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from kdpose_jax.errors import EXIT_CODES
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


# The suite itself may run where hang-ups are ignored, which started processes inherit.
HEARS = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"


def start(program, *arguments):
    """A process that has said "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEARS + textwrap.dedent(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [
        (signal.SIGTERM, 75, "SIGTERM"),
        (signal.SIGINT, 130, "Ctrl-C"),
        (signal.SIGHUP, 75, "SIGHUP (the terminal was closed)"),
    ],
)
def test_a_call_into_c_is_left_at_once_when_all_is_saved(tmp_path, number, code, name):
    process = start(AT_ONCE, tmp_path / "state")
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code and (tmp_path / "state").read_text() == "saved"
    assert said == f"stopped by {name}, nothing is lost: run the same command again to go on\n"


WORKERS = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
from data_prep import parallel
from kdpose_jax.train.preemption import watching
if __name__ == "__main__":
    with watching("all is kept"):
        context = multiprocessing.get_context("spawn")
        ends = parallel.end_with_parent
        with ProcessPoolExecutor(2, mp_context=context, initializer=ends) as pool:
            calls = [pool.submit(time.sleep, 60) for _ in range(4)]
            time.sleep(float(sys.argv[1]))
            print("ready", flush=True)
            calls[0].result()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("delay", [0.0, 3.0])  # while the workers start, and while they work
def test_workers_say_nothing_and_nothing_is_leaked(tmp_path, number, delay):
    """As a terminal's Ctrl-C does, the signal goes to all processes of the group."""
    (tmp_path / "pool.py").write_text(HEARS + WORKERS)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "pool.py"), str(delay)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=20)  # until the last process that has the pipe has ended
    assert said.count("\n") == 1 and said.endswith(
        ", all is kept: run the same command again to go on\n"
    ), said
    assert process.returncode == EXIT_CODES[number]


def test_a_process_without_stderr_ends_too(tmp_path):
    """As a service that has closed it. Its number may belong to any other file then."""
    words = [sys.executable, "-c", AT_ONCE, str(tmp_path / "state")]
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    try:
        assert process.wait(timeout=20) == 75
    finally:
        process.kill()
    assert (tmp_path / "state").read_text() == "saved"


MAKES = """
import multiprocessing, sys, time
from kdpose_jax.train.preemption import watching
with watching(), open(sys.argv[1], "w", buffering=1) as names:
    context, made = multiprocessing.get_context("spawn"), []
    print("ready", flush=True)
    while True:
        made.append(context.Lock())
        print(made[-1]._semlock.name, file=names)
        time.sleep(1e-4)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="semaphores are files on Linux alone")
def test_what_was_just_being_made_is_removed_without_a_word(tmp_path):
    process = start(MAKES, tmp_path / "names")
    time.sleep(0.3)
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert said == "stopped by SIGTERM, nothing is lost: run the same command again to go on\n"
    names = (tmp_path / "names").read_text().splitlines()
    files = [pathlib.Path(f"/dev/shm/sem.{name.removeprefix('/')}") for name in names]
    assert len(files) > 10
    deadline = time.monotonic() + 20
    while left := [file for file in files if file.exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_closed_terminal_that_nohup_has_ignored(tmp_path):
    program = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + textwrap.dedent(
        DEFERRED
    )
    process = start(program, tmp_path / "state", 0)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 75 and "stopped by SIGTERM" in said


def test_second_signal_while_saving_does_no_harm(tmp_path):
    process = start(DEFERRED, tmp_path / "state", 0.5)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert (
        process.returncode == 75
        and (tmp_path / "state").read_text() == "saved"
        and said.count("\n") == 1
    )


def test_second_ctrl_c_ends_without_saving(tmp_path):
    process = start(DEFERRED, tmp_path / "state", 60)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (
        process.returncode == 130 and not (tmp_path / "state").exists() and "without saving" in said
    )


def test_request_that_waited_is_obeyed_as_soon_as_everything_can_be_saved():
    stop, saved = Stop(), []
    stop.defer()
    stop.receive(signal.SIGTERM)
    assert stop.requested() and not saved
    with pytest.raises(Stopped) as raised:
        stop.at_once(lambda: saved.append(True))
    assert saved == [True] and raised.value.code == 75
