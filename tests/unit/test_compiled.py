"""Compiled programs in the work directory."""

import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from jax.experimental.compilation_cache import compilation_cache

from kdpose_jax.folders import WorkFolder
from kdpose_jax.train import compiled

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's home without anything, and JAX without a folder for compiled programs."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "home"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compile_it():
    """Compiles one program as a new process would, and returns whether it came from the folder."""
    seen = []

    def listen(event, **_):
        seen.append(event)

    jax.clear_caches()
    jax.monitoring.register_event_listener(listen)
    try:
        found = jax.jit(lambda x: jnp.cumsum(x * 3))(np.arange(5, dtype=np.float32))
    finally:
        jax.monitoring.unregister_event_listener(listen)
    assert found.tolist() == [0, 3, 9, 18, 30]
    return "/jax/compilation_cache/cache_hits" in seen


def test_a_second_start_compiles_nothing(home, tmp_path):
    folder = WorkFolder(epath.Path(tmp_path / "run"))
    compiled.keep(folder)
    assert not compile_it()
    assert compile_it()
    (place,) = folder.compiled.iterdir()
    assert any(place.iterdir())


def test_a_program_that_was_cut_off_is_compiled_and_written_again(home, tmp_path):
    folder = WorkFolder(epath.Path(tmp_path / "run"))
    compiled.keep(folder)
    compile_it()
    entries = {path: path.read_bytes() for path in folder.compiled.glob("*/*-cache")}
    assert entries and all(map(compiled.is_whole, entries.values()))
    for path, content in entries.items():
        path.write_bytes(content[:-1])
    jax.config.update("jax_compilation_cache_dir", None)
    compiled.keep(folder)
    assert not any(path.exists() for path in entries)
    assert not compile_it() and compile_it()


def test_another_users_programs_are_not_read(home, tmp_path, monkeypatch):
    folder = WorkFolder(epath.Path(tmp_path / "run"))
    compiled.keep(folder)
    compile_it()
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    jax.config.update("jax_compilation_cache_dir", None)
    compiled.keep(folder)
    assert not compile_it()
    assert len(list(folder.compiled.iterdir())) == 2


def test_the_name_depends_on_the_place():
    names = {compiled.name_of(epath.Path(path), b"secret") for path in ("/a", "/b", "/a")}
    assert len(names) == 2


def test_the_secret_is_made_once_and_is_the_users_alone(home):
    secret = compiled.own_secret()
    assert compiled.own_secret() == secret and len(secret) == compiled.SECRET_BYTES
    (path,) = (home / ".local" / "state" / "kdpose_jax").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_bytes() == secret


def test_a_folder_that_the_user_names_stays(home, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    compiled.keep(WorkFolder(epath.Path(tmp_path / "run")))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")


@pytest.mark.parametrize("damage", ["home", "secret"])
def test_without_a_place_for_the_secret_nothing_is_kept(home, tmp_path, damage):
    if damage == "home":
        home.write_text("a file")
    else:
        compiled.own_secret()
        (home / ".local" / "state" / "kdpose_jax" / "secret").write_bytes(b"")
    compiled.keep(WorkFolder(epath.Path(tmp_path / "run")))
    assert jax.config.jax_compilation_cache_dir is None
