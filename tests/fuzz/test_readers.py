"""What `make fuzz` does for hours, for seconds.

Files that are accepted, changed in a place or two, are refused in a sentence or read.
"""

import contextlib
import functools
import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repository import REPOSITORY

from kdpose_jax.errors import UserError
from tests.fuzz import documents, run
from tests.fuzz.readers import READERS

# The same examples every time; those of longer runs are found by `make fuzz`.
QUICK = settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
# TensorFlow, and a config file that is executed every time.
SLOW_TO_OPEN = ("override", "tfrecord", "record")
# Their seeds are checkpoints of no network, to be small.
NOT_ACCEPTED = ("torch", "torch_pickle", "torch_legacy", "safetensors")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3)
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Opens a reader by its name, once."""
    return functools.cache(lambda name: READERS[name].open(tmp_path_factory.mktemp(name) / "files"))


def require_sentence(reader, content: bytes) -> None:
    """Reads; anything but a UserError of one line fails."""
    try:
        reader.read(content)
    except UserError as error:
        assert str(error).isprintable() and str(error)


every_reader = pytest.mark.parametrize(
    "name", [name for name in READERS if name not in SLOW_TO_OPEN]
)


@every_reader
def test_seeds_are_accepted(opened, name):
    reader = opened(name)
    for seed in reader.seeds:
        with pytest.raises(UserError) if name in NOT_ACCEPTED else contextlib.nullcontext():
            reader.read(seed)


@every_reader
def test_changed_bytes(opened, name):
    reader = opened(name)

    @QUICK
    @given(
        seed=st.sampled_from(reader.seeds),
        changes=st.lists(
            st.tuples(
                st.floats(0, 1), st.binary(max_size=8) | st.sampled_from((b"", *reader.words))
            ),
            max_size=4,
        ),
        kept=st.just(1.0) | st.floats(0, 1),
    )
    def check(seed, changes, kept):
        content = bytearray(seed)
        for place, part in changes:
            start = int(place * len(content))
            content[start : start + len(part)] = part
        require_sentence(reader, bytes(content[: round(kept * len(content))]))

    check()


def places(value, path=()):
    """The path of every value in a document."""
    yield path
    for key in (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    ):
        yield from places(value[key], (*path, key))


def replaced(document, path, value):
    """The document with another value at a path."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = replaced(document[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize(
    "name",
    [name for name, target in READERS.items() if target.open.__module__ == documents.__name__],
)
def test_changed_values(opened, name):
    reader = opened(name)
    accepted = [
        (lines, json.loads(lines[0])) for lines in (seed.split(b"\n") for seed in reader.seeds)
    ]

    @QUICK
    @given(st.data())
    def check(data):
        lines, document = data.draw(st.sampled_from(accepted))
        for _ in range(data.draw(st.integers(1, 2))):
            document = replaced(
                document, data.draw(st.sampled_from(list(places(document)))), data.draw(values)
            )
        require_sentence(reader, b"\n".join([json.dumps(document).encode(), *lines[1:]]))

    check()


OPENS_ALL = """
import pathlib, sys
from tests.fuzz.readers import READERS
for name in sys.argv[2:]:
    READERS[name].open(pathlib.Path(sys.argv[1]) / name)
"""


def test_readers_open_outside_pytest(tmp_path):
    """As `make fuzz` starts them, without what pytest puts on Python's path."""
    names = [name for name in READERS if name not in SLOW_TO_OPEN]
    for name in names:
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", OPENS_ALL, str(tmp_path), *names],
        cwd=REPOSITORY,
        env=run.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
