"""The writer: same bytes for the same input, restart, other input, full disk."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from data_prep import convert, records, shards, synthetic
from kdpose_jax import files
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError

SETTINGS = dict(
    train_subjects=2, val_subjects=1, test_subjects=1, takes=1, frames=5, noise=0.01, seed=1
)


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "data"
    convert.prepare("synthetic", str(out), workers=1, **SETTINGS)
    return out


def test_two_workers_write_the_same_bytes(whole, tmp_path):
    convert.prepare("synthetic", str(tmp_path / "data"), workers=2, **SETTINGS)
    assert content(tmp_path / "data") == content(whole)


def test_nothing_but_the_data_set_is_left_in_the_folder(whole):
    names = [schema.shard_name(split, index, 8) for split in schema.SPLITS for index in range(8)]
    assert sorted(content(whole)) == sorted(
        names + ["metadata.json", "features.json", "dataset_info.json"]
    )


def test_tfds_opens_the_folder_with_records_in_order(whole):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(whole))
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 48,
        "val": 24,
        "test": 24,
    }
    order = [
        (r["subject"], r["take"], int(r["camera"]))
        for r in builder.as_dataset(split="train").as_numpy_iterator()
    ]
    expected = [
        (view.subject.encode(), view.take.encode(), view.index)
        for view in synthetic._views(["G1", "G2"], 1, 5, 0.01, 1)
    ]
    assert order == expected


def test_the_same_command_again_does_nothing(whole, capsys):
    before = {name: os.stat(whole / name).st_mtime_ns for name in content(whole)}
    summary = convert.prepare("synthetic", str(whole), workers=1, **SETTINGS)
    assert "complete already" in capsys.readouterr().out and summary.splits == {
        "train": (48, 240),
        "val": (24, 120),
        "test": (24, 120),
    }
    assert {name: os.stat(whole / name).st_mtime_ns for name in content(whole)} == before


def test_other_settings_are_refused_and_nothing_is_harmed(whole):
    before = content(whole)
    with pytest.raises(
        UserError,
        match=r"already holds a data set made from other input \(differs in settings\).*another "
        r"--out",
    ):
        convert.prepare("synthetic", str(whole), workers=1, **SETTINGS | {"seed": 2})
    assert content(whole) == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        convert.prepare("synthetic", str(tmp_path), workers=1, **SETTINGS)
    with pytest.raises(UserError, match="is a file"):
        convert.prepare("synthetic", str(tmp_path / "thesis.txt"), workers=1, **SETTINGS)
    assert content(tmp_path) == {"thesis.txt": b"precious"}


def stop_after(monkeypatch, number, error):
    """Lets the writer fail at its shard `number`."""
    write, calls = shards.write_shard, []

    def failing(path, *rest):
        calls.append(path)
        if len(calls) > number:
            raise error
        write(path, *rest)

    monkeypatch.setattr(shards, "write_shard", failing)
    return calls


def test_restart_keeps_finished_shards_and_gives_the_same_bytes(
    whole, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "data"
    with monkeypatch.context() as patch:
        stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            convert.prepare("synthetic", str(out), workers=1, **SETTINGS)
    with pytest.raises(UserError, match="has no metadata.json"):
        schema.read_metadata(str(out), schema.SEQUENCES)
    with pytest.raises(UserError, match="holds a part of a data set made from other input"):
        convert.prepare("synthetic", str(out), workers=1, **SETTINGS | {"frames": 6})
    # What a killed process leaves.
    (out / ".train.tfrecord-00003-of-00008.1.partial").write_bytes(b"half")
    with monkeypatch.context() as patch:
        calls = stop_after(patch, 99, None)
        convert.prepare("synthetic", str(out), workers=1, **SETTINGS)
    assert len(calls) == 21 and "3 of 24 shards are there" in capsys.readouterr().out
    assert content(out) == content(whole)


def test_what_a_kill_left_goes_at_the_next_start(whole, tmp_path):
    """Killed before the first file was whole, and between the metadata and the last line."""
    out = tmp_path / "data"
    out.mkdir()
    (out / ".lock").write_text("{")
    files.partial_name(out / "unfinished.json").write_text("{")
    convert.prepare("synthetic", str(out), workers=1, **SETTINGS)
    assert content(out) == content(whole)
    for name in (records.UNFINISHED_FILE, ".lock", ".metadata.json.12.partial"):
        (out / name).write_text("{")
        convert.prepare("synthetic", str(out), workers=1, **SETTINGS)
        assert content(out) == content(whole), name
    (out / records.UNFINISHED_FILE).write_text("{")
    with files.held(out, print):  # another process, which will delete it itself
        convert.prepare("synthetic", str(out), workers=1, **SETTINGS)
        assert (out / records.UNFINISHED_FILE).exists()


@pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="needs /dev/full, a device that is always full"
)
def test_full_disk_while_writing_a_shard(whole, tmp_path, monkeypatch):
    out = tmp_path / "data"
    with monkeypatch.context() as patch:
        name = files.partial_name
        full = pathlib.Path("/dev/full")
        patch.setattr(
            files,
            "partial_name",
            lambda path: full if "test.tfrecord-00002" in str(path) else name(path),
        )
        patch.setattr(pathlib.Path, "unlink", lambda path: None)  # the device must stay
        with pytest.raises(
            UserError,
            match="The disk is full at '.*data': make room and run the same command again",
        ):
            convert.prepare("synthetic", str(out), workers=1, **SETTINGS)
    assert len(list(out.glob("*.tfrecord-*"))) == 18 and not (out / "metadata.json").exists()
    convert.prepare("synthetic", str(out), workers=1, **SETTINGS)
    assert content(out) == content(whole)


def test_full_disk_while_writing_metadata(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(28, "No space left on device")

        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match="the disk is full"):
            convert.prepare("synthetic", str(tmp_path / "data"), workers=1, **SETTINGS)
    assert not (tmp_path / "data").exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        convert.prepare("synthetic", str(tmp_path / "file" / "data"), workers=1, **SETTINGS)


def test_a_killed_worker_gets_a_sentence(tmp_path):
    with pytest.raises(UserError, match="worker process was ended .* fewer --workers"):
        records.write_recordset(
            str(tmp_path / "data"),
            schema.SEQUENCES,
            {},
            {},
            lambda: recordset([Item(1)] * 3, die),
            workers=2,
        )


@dataclasses.dataclass(frozen=True)
class Item:
    frames: int
    subject: str = "one"


def die(item):
    os._exit(1)


def recordset(items, make_record):
    return records.Recordset(
        schema.SEQUENCES,
        "h36m_17",
        "gt",
        True,
        {"train": items},
        make_record,
        {},
        [],
        {"fps": 50.0},
        {},
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 3, 8, 9, 40])
def test_shards_cut_the_items_in_order_and_none_is_empty(seed, count):
    frames = np.random.default_rng(seed).integers(1, 10 ** (seed + 1), count)
    items = [Item(int(number)) for number in frames]
    planned = records._plan_shards("train", items, frames.tolist(), 100_000)
    assert [item for shard in planned for item in shard.items] == items
    assert all(shard.items for shard in planned) and len(planned) >= min(count, 8)
    assert [shard.name for shard in planned] == [
        schema.shard_name("train", i, len(planned)) for i in range(len(planned))
    ]


def test_many_frames_make_more_shards():
    # Human3.6M's size.
    planned = records._plan_shards("train", [Item(3000)] * 520, [3000] * 520, 100_000)
    assert len(planned) == 16 and max(shard.size for shard in planned) < 105_000


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda metadata: metadata.update(kind="images"), "is of kind 'images'"),
        (
            lambda metadata: metadata.update(schema_version=2),
            "has schema version 2 and this code reads 1",
        ),
        (lambda metadata: metadata.pop("schema_version"), "has schema version None"),
        (lambda metadata: metadata.pop("splits"), "lacks the entries splits"),
        (
            lambda metadata: metadata["splits"]["train"]["shards"].update({"train.tfrecord-9": 1}),
            "lacks 'train.tfrecord-9'",
        ),
    ],
)
def test_metadata_of_something_else(whole, tmp_path, change, sentence):
    for name in content(whole):
        os.link(whole / name, tmp_path / name)
    metadata = json.loads((whole / "metadata.json").read_text())
    change(metadata)
    (tmp_path / "metadata.json").unlink()
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(UserError, match=sentence):
        schema.read_metadata(str(tmp_path), schema.SEQUENCES)


@pytest.mark.parametrize("kind", schema.KINDS.values(), ids=lambda kind: kind.name)
def test_the_command_of_a_message_can_be_run(tmp_path, kind):
    with pytest.raises(UserError) as caught:
        schema.read_metadata(str(tmp_path / "none"), kind)
    words = re.search("`(.*)`", str(caught.value))[1].split()
    assert words[:3] == ["python", "-m", "data_prep.convert"]
    given = convert._parser().parse_args(words[3:])  # exits where a word is wrong
    assert given.out == str(tmp_path / "none") and given.name == kind.converter


def test_metadata_missing_or_damaged(tmp_path):
    with pytest.raises(
        UserError,
        match=r"'.*none' does not exist \(expected there: metadata.json.*python -m "
        r"data_prep.convert",
    ):
        schema.read_metadata(str(tmp_path / "none"), schema.SEQUENCES)
    with pytest.raises(UserError, match=r"has no metadata.json.*python -m data_prep.convert"):
        schema.read_metadata(str(tmp_path), schema.SEQUENCES)
    for text in ('{"kind": ', "[]", '"text"'):
        (tmp_path / "metadata.json").write_text(text)
        with pytest.raises(UserError, match="cannot be read as JSON|is of kind None"):
            schema.read_metadata(str(tmp_path), schema.SEQUENCES)


WORKERS = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from data_prep import parallel
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ends = parallel.end_with_parent
    with ProcessPoolExecutor(1, mp_context=context, initializer=ends) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


def test_workers_of_a_killed_process_end(tmp_path):
    (tmp_path / "program.py").write_text(WORKERS)
    command = [sys.executable, str(tmp_path / "program.py")]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    worker = pathlib.Path("/proc") / parent.stdout.readline().strip()
    assert worker.exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while (
        worker.exists()
        and "State:\tZ" not in (worker / "status").read_text()
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    assert not worker.exists() or "State:\tZ" in (worker / "status").read_text()
