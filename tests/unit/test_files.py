"""Small files that are there whole or not at all, and folders that one process at a time writes
into.
"""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from kdpose_jax import files
from kdpose_jax.errors import UserError
from kdpose_jax.files import LOCK_FILE, held, partial_name, tidy, write_atomically

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
    with pytest.raises(
        UserError,
        match=r"could not be written \(the disk is full\): free space or choose another folder, "
        r"then",
    ):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_folder_is_held_by_one_process_until_that_dies(tmp_path):
    folder = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert holder.stdout.readline() == "holds\n"
    with pytest.raises(
        UserError,
        match=rf"run' is in use by process {holder.pid} on {os.uname().nodename} since 20.*: wait "
        rf"until",
    ):
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

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(tmp_path, notes.append):
        assert "cannot be locked (No locks available)" in notes.pop()


KILLED_WHILE_IT_WRITES = """
import os, signal, sys
from kdpose_jax.files import held, write_atomically
with held(sys.argv[1], print):
    os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
    write_atomically(sys.argv[1] + "/data.json", b"{}")
"""


def test_what_a_kill_left_of_a_write_goes_when_the_folder_is_held_again(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", KILLED_WHILE_IT_WRITES, str(tmp_path)]
    killed = subprocess.run(command, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    names = sorted(os.listdir(tmp_path))
    assert len(names) == 2 and names[1] == LOCK_FILE
    assert names[0].startswith(".data.json.") and names[0].endswith(".partial")
    for folder in ("figures", "eval"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ".a.png.99.partial").write_text("")
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "thesis.partial").write_text("a user's own")
    with held(tmp_path, print, below=["figures", "absent"]):
        left = [".hidden", LOCK_FILE, "eval", "figures", "thesis.partial"]
        assert sorted(os.listdir(tmp_path)) == left
        assert not os.listdir(tmp_path / "figures")
        assert os.listdir(tmp_path / "eval")  # of a process that holds that folder


def test_what_a_live_process_writes_stays(tmp_path):
    part = partial_name(tmp_path / "data.json")
    (tmp_path / "results.json").write_text("")
    with held(tmp_path, print):
        part.write_text("")
        with pytest.raises(UserError, match="is in use"):
            with held(tmp_path, print):
                pass
        tidy(tmp_path)
        assert part.exists()
    tidy(tmp_path)
    assert os.listdir(tmp_path) == ["results.json"]


def test_parts_of_dead_writers_go_while_live_ones_write(tmp_path):
    """Several processes share a folder without holding it."""
    for name in (".walk.npz.9-ab.partial", ".run.npz.9-ab.partial", ".walk.npz"):
        (tmp_path / name).write_text("")
    with files.written_whole(tmp_path / "walk.csv") as file:
        file.write(b"x")
        files.remove_dead(tmp_path, "walk")
    assert sorted(os.listdir(tmp_path)) == [".run.npz.9-ab.partial", ".walk.npz", "walk.csv"]


def test_where_nothing_can_be_locked_only_old_parts_go(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for name, age in ((".new.1.partial", 0), (".old.1.partial", 2 * files.SECONDS_UNTIL_DEAD)):
        (tmp_path / name).write_text("")
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    with held(tmp_path, lambda _: None):
        assert sorted(os.listdir(tmp_path)) == [LOCK_FILE, ".new.1.partial"]


def test_two_writers_never_share_a_part(tmp_path):
    """Containers of one machine may have the same process number."""
    assert partial_name(tmp_path / "a") != partial_name(tmp_path / "a")


def test_tidying_changes_nothing_where_nothing_was_left(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "results.json").write_text("{}")
    before = os.stat(tmp_path).st_mtime_ns
    tidy(tmp_path, below=["figures"])
    assert os.stat(tmp_path).st_mtime_ns == before
