"""Small files that are there whole or not at all, and folders that one process at a time writes into."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from kdpose_jax.errors import UserError
from kdpose_jax.files import LOCK_FILE, held, write_atomically

HOLDER = """
import sys, time
from kdpose_jax.files import held
with held(sys.argv[1], print):
    print("holds", flush=True)
    time.sleep(60)
"""


def test_file_is_whole_or_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"could not be written \(the disk is full\): free space or choose another folder, then"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_folder_is_held_by_one_process_until_that_dies(tmp_path):
    folder = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True, env=environment)
    assert holder.stdout.readline() == "holds\n"
    with pytest.raises(UserError, match=rf"run' is in use by process {holder.pid} on {os.uname().nodename} since 20.*: wait until"):
        with held(folder, print):
            pass
    assert (folder / LOCK_FILE).exists()  # the refused one has taken nothing away
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with held(folder, print):
        assert (folder / LOCK_FILE).exists()
        (folder / "result").write_text("")
    assert os.listdir(folder) == ["result"]


def test_refused_command_leaves_no_folder(tmp_path):
    with held(tmp_path / "run", print):
        pass
    assert not (tmp_path / "run").exists()


def test_places_that_cannot_be_locked_are_used_with_a_note(tmp_path, monkeypatch):
    notes = []
    with held("gs://bucket/run", notes.append):
        assert "gs://bucket/run cannot be locked" in notes.pop()

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(tmp_path, notes.append):
        assert "cannot be locked (No locks available)" in notes.pop()
