"""Writes a data set of records.

It works on shards in parallel, can be restarted, and writes the same bytes for the same input.
"""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from etils import epath

from data_prep import parallel, shards
from kdpose_jax import buckets, files, skeletons
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.files import write_atomically
from kdpose_jax.untrusted.documents import load_json

# Says from what a folder without metadata.json is being made. It is deleted when the data set is
# whole.
UNFINISHED_FILE = "unfinished.json"
# A split has at least this many shards, for as many workers and hosts, and more if a shard would
# exceed about 35 MB.
MIN_SHARDS = 8
PER_SHARD = {schema.SEQUENCES.name: 100_000, schema.PERSONS.name: 500}


@dataclasses.dataclass(frozen=True)
class Recordset:
    """Describes a data set to write.

    Attributes:
      kind: the records' kind.
      skeleton: key in `skeletons.SKELETONS`.
      keypoints: origin of the 2D joints ("gt", "annotations", the detector's name).
      generated: whether the input was generated rather than recorded.
      items: split -> items, one per record, in the records' order; a sequence's item has the
        attributes `subject` and `frames`.
      make_record: item -> record of `schema.features_of`; a top-level function, since workers call
        it.
      rules: split -> which photographs it has, in words; empty for sequences, whose splits name
        their subjects.
      left_out: sentences that say what is not in the data set, and why.
      described: the metadata's entries that `kind.keys` names; the writer fills in "files".
      files: name -> content, for files beside the shards.
    """

    kind: schema.Kind
    skeleton: str
    keypoints: str
    generated: bool
    items: dict[str, list[Any]]
    make_record: Callable[[Any], dict[str, Any]]
    rules: dict[str, str]
    left_out: list[str]
    described: dict[str, Any]
    files: dict[str, bytes]

    def size(self, item: Any) -> int:
        """Returns an item's size in the kind's unit."""
        return item.frames if self.kind is schema.SEQUENCES else 1


@dataclasses.dataclass(frozen=True)
class Summary:
    """Says what is in the folder now.

    It has split -> (records, size in `unit`), split -> its subjects or its rule in words, bytes,
    and the seconds that writing took (zero if nothing was written).
    """

    out: str
    unit: str
    splits: dict[str, tuple[int, int]]
    contents: dict[str, str]
    num_bytes: int
    left_out: list[str]
    notes: list[str]
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class _Shard:
    split: str
    name: str
    items: list[Any]
    size: int


def write_recordset(
    out: str,
    kind: schema.Kind,
    sources: dict[str, str],
    settings: dict[str, Any],
    load: Callable[[], Recordset],
    workers: int,
) -> Summary:
    """Writes `load()` into `out`, or goes on where an earlier run stopped.

    It does nothing if the data set is complete.

    Args:
      out: folder, made if needed; may be in a bucket.
      kind: the records' kind.
      sources: name -> sha256, for every input file.
      settings: everything else that the records depend on, as JSON.
      load: reads the input; called only if there is something to write.
      workers: number of processes; the bytes do not depend on it.

    Returns:
      The summary.

    Raises:
      UserError: `out` holds something else, the disk is full or not writable, or a worker was
        killed.
    """
    started = time.monotonic()
    identity = {
        "kind": kind.name,
        "schema_version": schema.SCHEMA_VERSION,
        "sources": sources,
        "settings": settings,
    }
    if _is_finished(out, identity):
        _remove_leftovers(out)
        return _summary(out, kind, schema.read_metadata(out, kind), 0.0)
    recordset = load()
    with _storage_errors(out), files.held(out, print):
        if _is_finished(out, identity):  # another process finished it meanwhile
            return _summary(out, kind, schema.read_metadata(out, kind), 0.0)
        folder = epath.Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / UNFINISHED_FILE, identity)
        planned = [
            shard
            for split, items in recordset.items.items()
            for shard in _plan_shards(
                split, items, [recordset.size(item) for item in items], PER_SHARD[kind.name]
            )
        ]
        _write_shards(out, planned, recordset, workers)
        for name, content in recordset.files.items():
            write_atomically(folder / name, content)
        metadata = _metadata(out, identity, recordset, planned)
        files.write_json(folder / schema.METADATA_FILE, metadata)
        (folder / UNFINISHED_FILE).unlink()
    return _summary(out, kind, metadata, time.monotonic() - started)


def is_new(out: str) -> bool:
    """Tells whether `out` is yet to be made, or holds only what an unfinished write left.

    Raises:
      UserError: it is a file.
    """
    folder = epath.Path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{out}' is a file and not a folder: give another --out.")
    return not folder.is_dir() or all(files.is_leftover(entry.name) for entry in folder.iterdir())


def _is_finished(out: str, identity: dict[str, Any]) -> bool:
    """Tells whether `out` holds this data set completely.

    Raises:
      UserError: it holds, or is about to hold, anything else.
    """
    if is_new(out):
        return False
    folder = epath.Path(out)
    for name, finished in ((schema.METADATA_FILE, True), (UNFINISHED_FILE, False)):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found = load_json(path)
            different = [key for key in identity if found[key] != identity[key]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"'{path}' is damaged ({type(error).__name__}: {error}): delete '{out}' or give "
                f"another --out."
            ) from error
        if different:
            state = "already holds" if finished else "holds a part of"
            raise UserError(
                f"'{out}' {state} a data set made from other input (differs in "
                f"{', '.join(different)}): give another --out or delete it."
            )
        return finished
    raise UserError(
        f"'{out}' holds other files and no data set, and nothing is written among them: give "
        f"another --out."
    )


def _plan_shards(split: str, items: list[Any], sizes: list[int], per_shard: int) -> list[_Shard]:
    """Cuts the items, in order, into shards of about equal size.

    The cuts depend only on the items.
    """
    ends = np.cumsum(sizes)
    count = min(len(items), max(MIN_SHARDS, math.ceil(ends[-1] / per_shard)))
    cuts = [0]
    for index in range(1, count):
        cut = int(np.searchsorted(ends, ends[-1] * index / count)) + 1
        cuts.append(min(max(cut, cuts[-1] + 1), len(items) - (count - index)))  # no shard is empty
    cuts.append(len(items))
    return [
        _Shard(
            split, schema.shard_name(split, index, count), items[start:end], sum(sizes[start:end])
        )
        for index, (start, end) in enumerate(itertools.pairwise(cuts))
    ]


def _write_shards(out: str, planned: list[_Shard], recordset: Recordset, workers: int) -> None:
    """Writes the shards that are missing, and then tfds's own metadata."""
    num_joints = skeletons.SKELETONS[recordset.skeleton].num_joints
    there = {entry.name for entry in epath.Path(out).iterdir()}
    pending = [shard for shard in planned if shard.name not in there]
    total = sum(shard.size for shard in planned)
    done = total - sum(shard.size for shard in pending)
    kind = recordset.kind
    if done:
        print(
            f"{out}: {len(planned) - len(pending)} of {len(planned)} shards are there from an "
            f"earlier run",
            flush=True,
        )
    calls = [
        (
            str(epath.Path(out) / shard.name),
            shard.items,
            recordset.make_record,
            kind.name,
            num_joints,
        )
        for shard in pending
    ]
    names = [(shard.split, shard.name, len(shard.items)) for shard in planned]
    with (
        parallel.pool(min(workers, len(pending))) as run,
        parallel.progress(total, done, kind.unit, "written") as advance,
    ):
        for number, _ in run(shards.write_shard, calls):
            advance(pending[number].size)
        # In a worker too, so that this process need not import TensorFlow.
        list(run(shards.write_tfds_metadata, [(out, kind.name, num_joints, names)]))


def _metadata(
    out: str, identity: dict[str, Any], recordset: Recordset, planned: list[_Shard]
) -> dict[str, Any]:
    """Makes the content of metadata.json.

    The shards' checksums stand for all input. `sources` does not name photographs.
    """
    splits = {}
    checksums = files.checksums({shard: epath.Path(out) / shard.name for shard in planned})
    for split in recordset.items:
        members = [shard for shard in planned if shard.split == split]
        splits[split] = {
            "records": sum(len(shard.items) for shard in members),
            "shards": {shard.name: len(shard.items) for shard in members},
            "sha256": {shard.name: checksums[shard] for shard in members},
        }
        if recordset.kind is schema.SEQUENCES:
            splits[split]["frames"] = sum(shard.size for shard in members)
            subjects = dict.fromkeys(item.subject for shard in members for item in shard.items)
            splits[split]["subjects"] = list(subjects)
        elif split in recordset.rules:
            splits[split]["rule"] = recordset.rules[split]
    described = {
        field: getattr(recordset, field)
        for field in ("skeleton", "keypoints", "generated", "left_out")
    }
    if "files" in recordset.kind.keys:
        described["files"] = {
            name: hashlib.sha256(content).hexdigest() for name, content in recordset.files.items()
        }
    return identity | described | recordset.described | {"splits": splits}


def _remove_leftovers(out: str) -> None:
    """Deletes the rest that a process leaves if it is killed between its last two lines.

    A folder that is read-only, or that another process holds, stays as it is.
    """
    folder = epath.Path(out)
    names = {entry.name for entry in folder.iterdir()}
    if UNFINISHED_FILE in names or any(map(files.is_leftover, names)):
        with contextlib.suppress(OSError, UserError), files.held(out, lambda _: None):
            (folder / UNFINISHED_FILE).unlink(missing_ok=True)


def _summary(out: str, kind: schema.Kind, metadata: dict[str, Any], seconds: float) -> Summary:
    size = "frames" if kind is schema.SEQUENCES else "records"
    splits = {name: (split["records"], split[size]) for name, split in metadata["splits"].items()}
    num_bytes = sum(entry.stat().length for entry in epath.Path(out).iterdir())
    notes = (
        metadata["notes"] if "notes" in metadata else []
    )  # older metadata of sequences have none
    contents = {name: schema.contents_of(split) for name, split in metadata["splits"].items()}
    return Summary(
        out, kind.unit, splits, contents, num_bytes, metadata["left_out"], notes, seconds
    )


@contextlib.contextmanager
def _storage_errors(out: str) -> Iterator[None]:
    """Turns the storage's errors into one sentence."""
    try:
        with buckets.one_sentence(out):
            yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk is full at '{out}': make room and run the same command again (finished "
                f"shards are kept), or give another --out."
            ) from error
        raise UserError(
            f"'{out}' cannot be written ({error.strerror or error}): give another --out."
        ) from error
