"""Files that take memory, end the process or run code if they are believed.

Each is refused in one sentence, within the stated bounds.
"""

import io
import json
import pathlib
import pickle
import struct
import tracemalloc
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
from etils import epath
from numpy.lib import format as npy_format

from configs import cdkd, scjd
from data_prep import cameras, json_values, takes
from kdpose_jax.checkpoint import loading, stored
from kdpose_jax.data import schema, tfrecords
from kdpose_jax.errors import LONGEST, UserError
from kdpose_jax.evaluate.metrics import coco_ap
from kdpose_jax.experiment import configs, stored_runs
from kdpose_jax.pytorch import weight_file
from kdpose_jax.report import results
from kdpose_jax.untrusted import bounds, hdf5, matlab, pictures

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
FLOATS = b"cnumpy\ndtype\n(Vf4\nI00\nI01\ntR"
LENGTH = 10**11


@pytest.fixture(autouse=True)
def little_memory():
    """No test of this file may hold more than 32 MiB at once, which a claim of its files would."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * bounds.MIB


def npz(path: pathlib.Path, pickled: bytes) -> str:
    header = io.BytesIO()
    npy_format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("positions_3d.npy", header.getvalue() + pickled)
    return str(path)


def torch_archive(path: pathlib.Path, pickled: bytes) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(16))
    return str(path)


PICKLES = {
    "array without bytes": (
        RECONSTRUCT + b"(Nt" + b"R(I1\n(I%d\nt" % LENGTH + FLOATS + b"I00\nC\x00tb.",
        "with 0 bytes",
    ),
    "array made by its class": (b"cnumpy\nndarray\n(I%d\ntR." % LENGTH, "does not hold subjects"),
    "array of a record type": (
        b"cnumpy\ndtype\n(VV%d\nI00\nI01\ntR." % LENGTH,
        "an array of type V10000",
    ),
    "scalar of many bytes": (
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(VU99999999\nI00\nI01\ntRC\x00tR.",
        "with 0 bytes",
    ),
    "bytes by their number": (
        b"cbuiltins\nbytearray\n(I%d\ntR." % LENGTH,
        "'builtins.bytearray'.* could run code",
    ),
    "fields behind the end": (FLOATS + b"(I3\nV<\nN(Va\nt}I99\nI8\nI1\ntb.", "compound type"),
    "memo": (b"\x80\x02Nr\xff\xff\xff\x7f.", "memo index"),
    # The hash of a key recurses until the stack overflows, or takes 2^60 steps.
    "nested key": (b"})" + b"\x85" * 700_000 + b"Ns.", "a tuple of more than 10,000 values"),
    "doubled key": (b"})" + b"2\x86" * 60 + b"Ns.", "a tuple of more than 10,000 values"),
    "empty stack": (b"\x85.", "nothing on the stack"),
    "big whole number as a name": (pickle.dumps({10**5000: {}}, 2), "does not hold subjects"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_that_claim_much(tmp_path, name):
    pickled, said = PICKLES[name]
    with pytest.raises(UserError, match=said):
        takes.read_positions(npz(tmp_path / "a.npz", pickled))


@pytest.mark.parametrize("name", ["memo", "nested key", "doubled key", "empty stack"])
def test_pytorch_pickles_that_claim_much(tmp_path, name):
    pickled, said = PICKLES[name]
    with pytest.raises(UserError, match=said):
        weight_file.read_torch_file(torch_archive(tmp_path / "a.pth", pickled))


def test_many_objects_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "OPCODES", 1000)
    with pytest.raises(UserError, match="more than 1,000 opcodes"):
        takes.read_positions(npz(tmp_path / "a.npz", b"(" + b"}" * 1000 + b"l."))


def test_a_number_of_joints_that_is_none(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        positions_2d={"S1": {"a": [np.zeros((1, 17, 2))]}},
        metadata={"num_joints": np.arange(3)},
    )
    with pytest.raises(UserError, match="has None joints"):
        takes.read_detections(str(tmp_path / "a.npz"))


def test_copies_of_one_dictionary_are_counted(tmp_path):
    pairs = b"(" + b"(I1\nI2\nl" * 50 + b"lp1\n0"
    copies = pairs + b"(" + b"ccollections\nOrderedDict\n(g1\ntR" * 300 + b"l."
    with pytest.raises(UserError, match="claim more than|again and again"):
        takes.read_positions(npz(tmp_path / "a.npz", copies))
    with pytest.raises(UserError, match="claim more than|again and again"):
        weight_file.read_torch_file(torch_archive(tmp_path / "a.pth", copies))


def test_arrays_that_share_their_bytes_are_counted(tmp_path):
    content = b"B" + struct.pack("<I", 40_000) + bytes(40_000) + b"q\x01"
    # Numpy copies what it has to swap.
    swapped = b"cnumpy\ndtype\n(Vf4\nI00\nI01\ntR(I3\nV>\nNNNI-1\nI-1\nI0\ntb"
    one = RECONSTRUCT + b"(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I10000\nt" + swapped + b"I00\nh\x01tb"
    with pytest.raises(UserError, match="claim more than the file has"):
        takes.read_positions(npz(tmp_path / "a.npz", b"(" + content + one * 100 + b"l."))


def test_an_archive_that_unpacks_to_much_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "UNPACKED", 1000)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("positions_3d.npy", bytes(10**7))
    with pytest.raises(
        UserError,
        match=rf"claims 10,000,000 bytes, and at most {1000 + 100 * path.stat().st_size:,} are "
        rf"unpacked",
    ):
        takes.read_positions(str(path))


def test_a_directory_that_lies(tmp_path):
    for path in (npz(tmp_path / "a.npz", b"}."), torch_archive(tmp_path / "a.pth", b"}.")):
        whole = bytearray(pathlib.Path(path).read_bytes())
        start = whole.index(b"PK\x01\x02") + 24  # the unpacked size of its first entry
        whole[start : start + 4] = struct.pack("<I", 2**32 - 2)
        pathlib.Path(path).write_bytes(whole)
        with pytest.raises(UserError):
            (takes.read_positions if path.endswith("npz") else weight_file.read_torch_file)(path)


def test_an_archive_whose_names_are_no_text(tmp_path):
    path = pathlib.Path(npz(tmp_path / "a.npz", b"}."))
    whole = path.read_bytes().replace(b"positions", b"\xab" * 9)
    directory = whole.index(b"PK\x01\x02")
    path.write_bytes(whole[: directory + 9] + b"\x08" + whole[directory + 10 :])  # names in UTF-8
    with pytest.raises(UserError, match="not a whole npz file"):
        takes.read_positions(str(path))


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def variable(name: str, shape: tuple[int, ...], kind: int, content: bytes) -> bytes:
    parts = (
        element(6, struct.pack("<II", kind, 0))
        + element(5, struct.pack(f"<{len(shape)}i", *shape))
        + element(1, name.encode())
    )
    return element(14, parts + content)


def mat(path: pathlib.Path, content: bytes) -> str:
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + content)
    return str(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files_are_read_as_scipy_reads_them(tmp_path, compressed):
    names = np.empty((1, 2), object)
    names[0] = [np.array(["rank"]), np.array(["rkne"])]
    kinds = {
        f"a{index}": (np.arange(24).reshape(2, 3, 4) * 5 - 20).astype(kind)
        for index, kind in enumerate("bBhHiIlLfd")
    }
    content = {
        **kinds,
        "dataset_joints": names,
        "bool": np.eye(3) > 0,
        "empty": np.zeros((0, 3)),
        "unwanted": {"a": 1},
    }
    scipy.io.savemat(tmp_path / "a.mat", content, do_compression=compressed)
    read = matlab.load_matlab(
        tmp_path / "a.mat", (*kinds, "bool", "empty", "dataset_joints", "absent")
    )
    expected = scipy.io.loadmat(tmp_path / "a.mat")
    assert read.pop("dataset_joints") == ["rank", "rkne"]
    assert set(read) == {*kinds, "bool", "empty"}
    for name, value in read.items():
        np.testing.assert_array_equal(value, expected[name], strict=name != "bool")


MATLAB = {
    "size": variable("x", (2**31 - 1, 2**31 - 1), 6, element(9, bytes(8))),
    "cell": variable("x", (2**20, 2**20), 1, b""),
    "text": variable("x", (2**30, 4), 4, element(16, b"abcd")),
    "sparse": variable("x", (2**30, 2**30), 5, element(5, bytes(4)) * 3),
    "negative": variable("x", (-1, -1), 6, element(9, bytes(8))),
    "length": struct.pack("<II", 14, 2**32 - 1) + bytes(64),
    "short": struct.pack("<HH", 14, 9) + bytes(12),
    "compressed": element(15, b"x\x9cgarbage"),
    "nested": element(14, element(14, element(14, b""))),
    "flags": element(14, element(6, bytes(8)) + element(5, b"") + element(1, b"x")),
}


@pytest.mark.parametrize("name", MATLAB)
def test_matlab_files_that_claim_much(tmp_path, name):
    with pytest.raises(ValueError):
        matlab.load_matlab(mat(tmp_path / "a.mat", MATLAB[name]), ("x",))


def test_a_matlab_file_that_unpacks_to_much(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MATLAB", 100_000)
    compressed = zlib.compress(bytes(10**7))
    path = mat(tmp_path / "a.mat", struct.pack("<II", 15, len(compressed)) + compressed)
    tracemalloc.reset_peak()
    with pytest.raises(ValueError, match="variables of more than the 100,000 bytes"):
        matlab.load_matlab(path, ("x",))
    assert tracemalloc.get_traced_memory()[1] < 10**6


def test_a_small_matlab_file_may_not_unpack_to_much(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "UNPACKED", 1000)
    compressed = zlib.compress(bytes(10**7))
    path = mat(tmp_path / "a.mat", struct.pack("<II", 15, len(compressed)) + compressed)
    with pytest.raises(
        ValueError, match=f"more than the {1000 + 100 * pathlib.Path(path).stat().st_size:,} bytes"
    ):
        matlab.load_matlab(path, ("x",))


def test_hdf5_arrays_are_read(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(1, 2, 3), "b": np.arange(5, dtype=np.uint8)}
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file.create_dataset("a", data=arrays["a"], chunks=(1, 2, 2), compression="gzip")
        file["b"], file["unwanted"] = arrays["b"], "text"
    read = hdf5.load_hdf5(tmp_path / "a.mat", ("a", "b", "absent"))
    assert set(read) == set(arrays)
    for name, value in read.items():
        np.testing.assert_array_equal(value, arrays[name], strict=True)


HDF5 = {
    "size": lambda file: file.create_dataset("x", (10**6, 10**6)),
    "chunk": lambda file: file.create_dataset("x", (1,), maxshape=(None,), chunks=(10**9,)),
    "text": lambda file: file.create_dataset("x", data="text"),
    "group": lambda file: file.create_group("x"),
    "another file": lambda file: file.create_dataset("x", (4,), "u1", external=[("other", 0, 4)]),
    "link": lambda file: file.__setitem__("x", h5py.ExternalLink("other", "y")),
    "path": lambda file: file.__setitem__("x", h5py.SoftLink("/y")),
    "virtual": lambda file: file.create_virtual_dataset("x", _virtual()),
}


def _virtual() -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("other", "y", (4,))
    return layout


@pytest.mark.parametrize("name", HDF5)
def test_hdf5_files_that_claim_much_or_lead_elsewhere(tmp_path, monkeypatch, name):
    with h5py.File(tmp_path / "other", "w") as file:
        file["y"] = np.zeros(4, np.uint8)
    with h5py.File(tmp_path / "a.mat", "w") as file:
        HDF5[name](file)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="in the file itself|bytes"):
        hdf5.load_hdf5("a.mat", ("x",))


DEEP = "[" * 100_000


def test_deeply_nested_json(tmp_path):
    path = tmp_path / "metadata.json"
    path.write_text(DEEP)
    step = tmp_path / "3"
    for item in (stored.STATE, stored.META):
        (step / item).mkdir(parents=True)
    (step / stored.META / "metadata").write_text(DEEP)
    for read in (
        lambda: json_values.read_json(str(path), "--test-annotations"),
        lambda: cameras.read_cameras(str(path)),
        lambda: configs.read_json(path),
        lambda: schema.read_metadata(str(tmp_path), schema.SEQUENCES),
        lambda: coco_ap.read_annotations(str(path)),
        lambda: results.read_results(path),
        lambda: stored_runs.run_of_checkpoint(str(step)),
    ):
        with pytest.raises(UserError, match="JSON|damaged"):
            read()
    path.write_text(f"{DEEP}\n" + '{"step": 1}')
    with pytest.raises(UserError, match="line 1"):
        results.read_metrics(path)


def test_a_json_file_beyond_the_bound_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "JSON", 9)
    (tmp_path / "a.json").write_text('"12345678"')
    with pytest.raises(UserError, match="10 bytes, and at most 9 are read"):
        json_values.read_json(str(tmp_path / "a.json"), "--test-annotations")


def test_metrics_whose_steps_cannot_be_ordered(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": "1"}\n{"step": 2}\n')
    with pytest.raises(UserError, match="line 1"):
        results.read_metrics(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize(
    "meta",
    [
        {"run": {}, "ranking": {}}, {"run": {}, "ranking": {"metric": "a", "lowest": True}},
        {"run": {"config": 3}, "ranking": {"metric": "a", "lowest": True}},
        {"run": {"config": {".": None}}, "ranking": {"metric": "a", "lowest": True}},
    ],
)  # fmt: skip
def test_a_checkpoint_that_lacks_its_meta(tmp_path, meta):
    step = tmp_path / "3"
    for item in (stored.STATE, stored.META):
        (step / item).mkdir(parents=True)
    (step / stored.META / "metadata").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="damaged|holds no config"):
        stored_runs.run_of_checkpoint(str(step))
    with pytest.raises(UserError, match="damaged|No checkpoint"):
        loading._best_step(tmp_path, [3])


def test_a_config_of_a_run_that_is_no_object(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        configs.refuse_other_run(tmp_path, scjd.get_config())


@pytest.mark.parametrize(
    "changed",
    [
        {"skeleton": "h36m_99"},
        {"skeleton": []},
        {"splits": []},
        {"splits": {"train": {}}},
        {"left_out": [3]},
        {"fps": "50"},
        {"splits": {"train": {"records": 1, "frames": 1, "shards": {"../other": 1}}}},
        {"splits": {"train": {"records": 1, "frames": 1, "shards": {"a": 1.5}}}},
        {"activities": {"S1": [1, 2]}},
        {"activities": {"S1": [[1, -2]]}},
        {"activities": [[1, 2]]},
    ],
)
def test_metadata_with_other_types(tmp_path, changed):
    whole = {
        "kind": "pose_sequences",
        "schema_version": 1,
        "skeleton": "h36m_17",
        "keypoints": "gt",
        "generated": True,
        "splits": {},
        "sources": {},
        "settings": {},
        "left_out": [],
        "fps": 50,
    }
    (tmp_path / "metadata.json").write_text(json.dumps(whole))
    assert schema.read_metadata(str(tmp_path), schema.SEQUENCES) == whole
    (tmp_path / "metadata.json").write_text(json.dumps({**whole, **changed}))
    with pytest.raises(UserError, match=f"entries '{next(iter(changed))}|entries 'shards"):
        schema.read_metadata(str(tmp_path), schema.SEQUENCES)


@pytest.mark.parametrize("length", [2**38, 2**63, 2**64 - 16])
def test_a_record_longer_than_its_shard(tmp_path, length):
    """TensorFlow asks for the memory before it reads, and ends the process if there is none."""
    # Checksums that are right, where TensorFlow went on.
    masked = {2**38: b"\xf59]}", 2**63: b"abcd", 2**64 - 16: b"\xe2\xca\xb66"}[length]
    (tmp_path / "shard").write_bytes(struct.pack("<Q", length) + masked + b"abc")
    with pytest.raises(
        UserError, match="shard', record 0, is damaged: cut off, or longer than the file"
    ):
        next(tfrecords._check_lengths(epath.Path(tmp_path) / "shard"))


def chunk(name: bytes, content: bytes, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return size.to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


def png(width: int, height: int, data: bytes) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + data
    )


def jpeg(width: int, height: int) -> bytes:
    return (
        b"\xff\xd8\xff\xc0\x00\x11\x08"
        + struct.pack(">HH", height, width)
        + b"\x03\x01\x11\x00\x02\x11\x01\x03\x11\x01\xff\xda\x00\x02"
    )


IMAGE = chunk(b"IDAT", zlib.compress((b"\0" + bytes(48)) * 16)) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore:Invalid APNG")
@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        (jpeg(65535, 65535), (65535, 65535)),
        (png(30_000, 30_000, IMAGE), (30_000, 30_000)),
        # OpenCV takes the half gigabyte.
        (png(16, 16, chunk(b"IDAT", b"abc", length=2**29)), (16, 16)),
        (png(16, 16, b"\x29\x00\x00\x70IDAT"), (16, 16)),  # likewise, and the file ends there
        (png(16, 16, chunk(b"acTL", bytes(8)) + IMAGE), (16, 16)),
        (png(16, 16, IMAGE), (16, 17)),
        (b"", (16, 16)),
    ],
)
def test_pictures_that_claim_much(encoded, said):
    assert not pictures.is_decodable(encoded, said)


def test_a_picture_as_it_should_be():
    assert pictures.is_decodable(np.frombuffer(png(16, 16, IMAGE), np.uint8), (16, 16))


def test_a_sentence_stays_one_line():
    error = UserError(f"'a\nb\x1b[31m\ud800{'x' * 99_999}' is no name: repair it.")
    assert str(error).startswith(r"'a\nb\x1b[31m\ud800xxx") and str(error).endswith(
        "xxx' is no name: repair it."
    )
    assert str(error).isprintable() and len(str(error)) < LONGEST + 100
    assert str(UserError("Größe 3 × 4: gut.")) == "Größe 3 × 4: gut."


@pytest.mark.parametrize("text", ["mpii64\x1e", "mpii64 ,mode=paper", " coco32"])
def test_blanks_around_a_preset(text):
    assert cdkd.get_config(text).name == f"cdkd_{text.split(',')[0].strip()}"
