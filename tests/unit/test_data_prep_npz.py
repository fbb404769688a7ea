"""The npz reader.

Old and new pickles are read, everything else is refused in one sentence and runs nothing.
"""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy_format

from data_prep import npz
from kdpose_jax.errors import UserError

POSITIONS = {
    "S1": {
        "Walking": np.arange(24, dtype=np.float32).reshape(2, 4, 3),
        "Eating": np.ones((1, 4, 3), np.float32),
    }
}


def write_npz(path, pickled: bytes, key="positions_3d", compression=zipfile.ZIP_DEFLATED) -> str:
    """An npz whose one member is an object array with this pickle."""
    header = io.BytesIO()
    npy_format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{key}.npy", header.getvalue() + pickled)
    return str(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_reads_what_numpy_1_and_2_write(tmp_path, protocol, core):
    pickled = pickle.dumps(np.array(POSITIONS, dtype=object), protocol)
    # From protocol 4 on the length of the name stands before it.
    if protocol < 4 or core == b"numpy._core":
        pickled = pickled.replace(b"numpy._core", core)
    (read,) = npz.read_pickled_npz(write_npz(tmp_path / "a.npz", pickled), ("positions_3d",))
    assert list(read["S1"]) == ["Walking", "Eating"]
    np.testing.assert_array_equal(read["S1"]["Walking"], POSITIONS["S1"]["Walking"])


def test_reads_what_python_2_wrote(tmp_path):
    # Has bytes above 127, which Python 2 pickled as a string.
    values = np.asarray([-1.5, 3.25], "<f4")
    binary = b"T" + len(values.tobytes()).to_bytes(4, "little") + values.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\n"
        b"tcnumpy\ndtype\n(S'f4'\nI0\nI1\ntR"
        b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n" + binary + b"tb"
    )
    (read,) = npz.read_pickled_npz(
        write_npz(tmp_path / "a.npz", b"(dS'S1'\n" + array + b"s."), ("positions_3d",)
    )
    np.testing.assert_array_equal(read["S1"], values)


def test_reads_nested_object_arrays_and_several_keys(tmp_path):
    ragged = np.empty(2, object)
    ragged[:] = [np.zeros((2, 3)), np.ones((1, 3))]
    np.savez_compressed(
        tmp_path / "a.npz",
        positions_2d={"S1": {"x": ragged}},
        metadata={"num_joints": np.int64(17)},
    )
    read, metadata = npz.read_pickled_npz(str(tmp_path / "a.npz"), ("positions_2d", "metadata"))
    np.testing.assert_array_equal(read["S1"]["x"][1], np.ones((1, 3)))
    assert metadata["num_joints"] == 17


class Evil:
    def __init__(self, path):
        self.command = f"touch {path}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize(
    "wrap", [lambda evil: {"S1": evil}, lambda evil: np.array([evil, None], object)]
)
def test_foreign_code_is_named_and_not_run(tmp_path, wrap):
    path = write_npz(tmp_path / "a.npz", pickle.dumps(wrap(Evil(tmp_path / "ran")), 2))
    with pytest.raises(UserError, match=r"a\.npz.*positions_3d.*system.*not loaded"):
        npz.read_pickled_npz(path, ("positions_3d",))
    assert not (tmp_path / "ran").exists()


def test_codecs_encode_takes_no_other_codec(tmp_path):
    pickled = b"c_codecs\nencode\n(Vabc\nVrot13\ntR."
    with pytest.raises(UserError, match="damaged"):
        npz.read_pickled_npz(write_npz(tmp_path / "a.npz", pickled), ("positions_3d",))


def test_missing_key_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", positions_3d=POSITIONS)
    with pytest.raises(UserError, match=r"lacks the key 'metadata' \(it holds positions_3d\)"):
        npz.read_pickled_npz(str(tmp_path / "a.npz"), ("positions_3d", "metadata"))


def test_a_plain_array_is_no_dictionary(tmp_path):
    np.savez(tmp_path / "a.npz", positions_3d=np.zeros((2, 17, 3)))
    with pytest.raises(UserError, match=r"float64 array of shape \(2, 17, 3\)"):
        npz.read_pickled_npz(str(tmp_path / "a.npz"), ("positions_3d",))


@pytest.mark.parametrize("content", [b"", b"not a zip at all", b"PK\x03\x04" + bytes(100)])
def test_not_a_zip(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match="not a whole npz file"):
        npz.read_pickled_npz(str(tmp_path / "a.npz"), ("positions_3d",))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_flipped_byte_and_every_cut_is_found(tmp_path, compression):
    # Longer than any buffer.
    long = {"S1": {"Walking": np.random.default_rng(0).random((4000, 4, 3))}}
    path = write_npz(
        tmp_path / "a.npz", pickle.dumps(np.array(long, object), 4), compression=compression
    )
    whole = (tmp_path / "a.npz").read_bytes()
    name = len("positions_3d.npy")
    # The member's bytes; the directory repeats its header.
    content = range(30 + name, whole.index(b"PK\x01\x02"))
    for position in list(content)[:: max(1, len(content) // 40)]:
        flipped = bytearray(whole)
        flipped[position] ^= 0x10
        (tmp_path / "a.npz").write_bytes(flipped)
        with pytest.raises(UserError):
            npz.read_pickled_npz(path, ("positions_3d",))
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole npz file"):
        npz.read_pickled_npz(path, ("positions_3d",))
