"""Weights of PyTorch files.

Read exactly, without running their code, or refused in one sentence.
"""

import collections
import io
import os
import pickle
import re
import sys
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from networks import shapes_of
from torch_states import mixste_state

from kdpose_jax.errors import UserError
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.pytorch import importing, weight_file

SIZES = {"frames": 5, "joints": 3, "width": 8, "depth": 2, "mlp_ratio": 2.0}


def import_mixste(path):
    network = importing.import_network("mixste", path)
    return network["params"], network["sizes"]


def assert_is_state(params, state):
    assert np.array_equal(
        params["joint_embedding"]["kernel"], state["Spatial_patch_to_embedding.weight"].numpy().T
    )
    assert np.array_equal(params["temporal_position"], state["Temporal_pos_embed"].numpy())
    assert np.array_equal(
        params["temporal_block_1"]["attention"]["qkv"]["kernel"],
        state["TTEblocks.1.attn.qkv.weight"].numpy().T,
    )
    assert np.array_equal(
        params["spatial_block_0"]["mlp_out"]["bias"], state["STEblocks.0.mlp.fc2.bias"].numpy()
    )
    assert np.array_equal(params["head_norm"]["scale"], state["head.0.weight"].numpy())


def rewrite(source, target, change):
    """Copies a zip archive.

    `change(name, data)` gives the new data of an entry, None to leave it out.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


def with_pickle(source, target, pickled: bytes):
    return rewrite(
        source, target, lambda name, data: pickled if name.endswith("/data.pkl") else data
    )


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "mixste.bin"
    torch.save({"model_pos": mixste_state()}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("key", ["model_pos", "model", "state_dict", None])
def test_mixste_is_read_wherever_its_state_is(tmp_path, prefix, key):
    state = mixste_state()
    saved = collections.OrderedDict((prefix + name, value) for name, value in state.items())
    torch.save(saved if key is None else {"epoch": 3, key: saved}, tmp_path / "w.bin")
    params, sizes = import_mixste(tmp_path / "w.bin")
    assert sizes == SIZES
    assert_is_state(params, state)


def test_mixste_params_are_the_tree_of_our_network(checkpoint):
    params, sizes = import_mixste(checkpoint)
    network = MixSTE(heads=2, drop_path=0.0, **sizes)
    keypoints_2d = jnp.zeros((1, sizes["frames"], sizes["joints"], 2))
    expected = shapes_of(network, keypoints_2d)["params"]
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), dict(expected))


def test_checkpoint_of_a_training_run_is_read(tmp_path):
    """As MixSTE's run.py writes it.

    Optimiser, numpy generator and numpy scalars beside the data-parallel network.
    """
    state = mixste_state()
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.AdamW([weight], lr=1e-3, amsgrad=True)
    weight.sum().backward()
    optimizer.step()
    random_state = np.random.RandomState(1234)
    torch.save(
        {
            "epoch": 7,
            "lr": np.float64(4e-5),
            "random_state": random_state,
            "optimizer": optimizer.state_dict(),
            "model_pos": {
                f"module.{name}": torch.nn.Parameter(value) for name, value in state.items()
            },
            "history": np.arange(4.0),
        },
        tmp_path / "w.bin",
    )
    params, sizes = import_mixste(tmp_path / "w.bin")
    assert sizes == SIZES
    assert_is_state(params, state)
    # numpy 1 calls the package of its internals `core`, numpy 2 `_core`: a file may come from
    # either.
    names = [b"numpy._core.", b"numpy.core."]
    pickled = zipfile.ZipFile(tmp_path / "w.bin").read("w/data.pkl")
    written = names[0] if names[0] in pickled else names[1]
    assert written in pickled
    names.remove(written)
    path = with_pickle(
        tmp_path / "w.bin", tmp_path / "other.bin", pickled.replace(written, names[0])
    )
    assert_is_state(import_mixste(path)[0], state)


def test_weights_of_half_precision_become_float32(tmp_path):
    state = mixste_state()
    torch.save({name: value.bfloat16() for name, value in state.items()}, tmp_path / "w.bin")
    params, _ = import_mixste(tmp_path / "w.bin")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    assert_is_state(params, {name: value.bfloat16().float() for name, value in state.items()})


TENSORS = {
    "double": torch.arange(6, dtype=torch.float64).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "long": torch.tensor(2**40),
    "int": torch.tensor([-5], dtype=torch.int32),
    "short": torch.tensor([-5], dtype=torch.int16),
    "char": torch.tensor([-5], dtype=torch.int8),
    "byte": torch.tensor([250], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "complex": torch.tensor([1 + 2j]),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "slice": torch.arange(24.0).reshape(2, 3, 4)[1, ::2, 1:3],
    "empty": torch.zeros(0, 4),
    "parameter": torch.nn.Parameter(torch.ones(3)),
}


@pytest.mark.parametrize("big_endian", [False, True])
def test_every_dtype_and_layout_is_read_exactly(tmp_path, big_endian):
    torch.save(
        TENSORS | {"bfloat16": torch.tensor([0.1, 3.0], dtype=torch.bfloat16)}, tmp_path / "t.pt"
    )
    path = tmp_path / "t.pt"
    if big_endian:
        if sys.byteorder == "big":
            pytest.skip("this machine is big-endian itself")
        widths = {
            str(key): tensor.element_size()
            for key, tensor in enumerate([*TENSORS.values(), torch.zeros(1).bfloat16()])
        }

        def swap(name, data):
            if name.endswith("byteorder"):
                return b"big"
            key = name.split("/")[-1]
            width = widths[key] if "/data/" in name else 1
            if "/data/" in name and key == str(list(TENSORS).index("complex")):
                width //= 2  # a complex value is swapped part by part
            return np.frombuffer(data, np.uint8).reshape(-1, width)[:, ::-1].tobytes()

        path = rewrite(path, tmp_path / "big.pt", swap)
    loaded = weight_file.read_torch_file(path)
    for name, tensor in TENSORS.items():
        expected = tensor.detach().numpy()
        assert loaded[name].dtype == expected.dtype, name
        assert np.array_equal(loaded[name], expected), name
    assert loaded["bfloat16"].dtype == ml_dtypes.bfloat16
    assert np.array_equal(loaded["bfloat16"].astype(np.float32), np.float32([0.10009765625, 3.0]))


class Command:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_foreign_code_is_not_run(tmp_path):
    torch.save(
        {"model_pos": mixste_state(), "extra": Command(tmp_path / "ran")}, tmp_path / "evil.bin"
    )
    with pytest.raises(UserError, match=r"(posix|nt)\.system.*could run code"):
        import_mixste(tmp_path / "evil.bin")
    assert not (tmp_path / "ran").exists()


def test_truncated_files_are_refused(checkpoint, tmp_path):
    data = checkpoint.read_bytes()
    for length in (0, 3, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.bin").write_bytes(data[:length])
        with pytest.raises(UserError, match="cut.bin"):
            import_mixste(tmp_path / "cut.bin")


def test_flipped_byte_of_a_weight_is_noticed(checkpoint, tmp_path):
    data = bytearray(checkpoint.read_bytes())
    weight = mixste_state()["TTEblocks.1.attn.proj.weight"].numpy().tobytes()
    data[data.index(weight) + 5] ^= 1
    (tmp_path / "flipped.bin").write_bytes(data)
    with pytest.raises(UserError, match=r"flipped.bin is (truncated or )?damaged"):
        import_mixste(tmp_path / "flipped.bin")


def test_other_formats_are_refused_with_the_remedy(tmp_path):
    for content, said in (
        (b"no weights", r"is not a file of weights \(it begins with 'no weights'\)"),
        (b"\x00\x01\x02\x03", r"it begins with the bytes 00 01 02 03"),
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "begins like a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b'{"task": "lifting"}', "begins like JSON text.*the folder of a run"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip"),
        (pickle.dumps({"a": 1}, protocol=4), "a pickle that torch.save did not write"),
        (b"a".ljust(257, b"\0") + b"ustar\x0000" + bytes(300), "a tar archive"),
    ):
        (tmp_path / "other.bin").write_bytes(content)
        with pytest.raises(UserError, match=said) as caught:
            import_mixste(tmp_path / "other.bin")
        assert str(caught.value).isprintable()
    with pytest.raises(UserError, match="is a folder"):
        import_mixste(tmp_path)
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"an archive of numpy arrays.*safetensors.numpy.save_file"):
        import_mixste(tmp_path / "arrays.npz")
    with pytest.raises(UserError, match="no file"):
        import_mixste(tmp_path / "absent.bin")
    torch.save([1, 2], tmp_path / "list.bin")
    with pytest.raises(UserError, match="no network state"):
        import_mixste(tmp_path / "list.bin")
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.bin")
    with pytest.raises(UserError, match="no network state.* a dictionary of 'model'"):
        import_mixste(tmp_path / "numbers.bin")


@pytest.mark.parametrize(
    ("name", "replacement", "message"),
    [
        ("Temporal_norm.bias", None, r"lacks \['Temporal_norm.bias'\]"),
        ("STEblocks.1.attn.qkv.bias", None, r"lacks \['STEblocks.1.attn.qkv.bias'\]"),
        ("Spatial_pos_embed", None, "no tensor 'Spatial_pos_embed'"),
        (
            "STEblocks.0.attn.gate",
            torch.zeros(3),
            r"beyond a MixSTE network, \['STEblocks.0.attn.gate'\]",
        ),
        ("STEblocks.2.norm1.bias", torch.zeros(8), "lacks .*STEblocks.2"),
        (
            "TTEblocks.0.mlp.fc1.weight",
            torch.zeros(24, 8),
            r"'TTEblocks.0.mlp.fc1.weight' has shape \[24, 8\] .* \[16, 8\]",
        ),
        ("head.1.weight", torch.zeros(3, 9), r"'head.1.weight' has shape \[3, 9\] .* \[3, 8\]"),
        (
            "Temporal_pos_embed",
            torch.zeros(5, 8),
            r"'Temporal_pos_embed' has shape \[5, 8\] where 3 axes",
        ),
        ("head.1.bias", torch.zeros(3, dtype=torch.int32), "'head.1.bias' holds int32"),
        ("head.1.bias", torch.full((3,), torch.nan), "not finite"),
    ],
)
def test_another_network_is_refused_by_the_first_difference(tmp_path, name, replacement, message):
    state = {key: value for key, value in mixste_state().items() if key != name}
    if replacement is not None:
        state[name] = replacement
    torch.save({"model_pos": state}, tmp_path / "w.bin")
    with pytest.raises(UserError, match=f"w.bin.*{message}"):
        import_mixste(tmp_path / "w.bin")


def made_up_tensor(storage, offset, size, stride):
    """The pickle of `{"a": tensor}`, with any claim."""

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (
                storage,
                offset,
                size,
                stride,
                False,
                collections.OrderedDict(),
            )

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.identity if isinstance(value, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"a": Tensor()})
    return buffer.getvalue()


class Storage:
    def __init__(self, *identity):
        self.identity = identity


FOUR_FLOATS = Storage("storage", torch.FloatStorage, "0", "cpu", 4)


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (
            made_up_tensor(
                Storage("storage", torch.FloatStorage, "0", "cpu", 25 * 10**9), 0, (1,), (1,)
            ),
            "of 25000000000 float32",
        ),
        (
            made_up_tensor(Storage("storage", torch.DoubleStorage, "0", "cpu", 4), 0, (4,), (1,)),
            "of 4 float64",
        ),
        (
            made_up_tensor(Storage("storage", torch.FloatStorage, "9", "cpu", 4), 0, (4,), (1,)),
            "storage '9' is missing",
        ),
        (
            made_up_tensor(
                Storage("storage", torch.FloatStorage, "../data.pkl", "cpu", 4), 0, (4,), (1,)
            ),
            "is missing",
        ),
        (
            made_up_tensor(Storage("module", torch.FloatStorage, "0", "cpu", 4), 0, (4,), (1,)),
            "not a storage",
        ),
        (
            made_up_tensor(
                Storage("storage", collections.OrderedDict, "0", "cpu", 4), 0, (4,), (1,)
            ),
            "not a storage",
        ),
        (made_up_tensor(FOUR_FLOATS, 0, (10**6, 10**6), (0, 0)), r"size \[1000000, 1000000\]"),
        (made_up_tensor(FOUR_FLOATS, 0, (8,), (0,)), r"size \[8\]"),
        (made_up_tensor(FOUR_FLOATS, 2, (4,), (1,)), r"size \[4\]"),
        (made_up_tensor(FOUR_FLOATS, 0, (2, 2), (3, 1)), r"stride \[3, 1\]"),
        (made_up_tensor(FOUR_FLOATS, 3, (4,), (-1,)), "without a proper"),
        (made_up_tensor(FOUR_FLOATS, -1, (4,), (1,)), "without a proper"),
        (made_up_tensor(FOUR_FLOATS, 0, (2.0,), (1,)), "without a proper"),
        (made_up_tensor(FOUR_FLOATS, 0, (1,) * 40, (1,) * 40), "without a proper"),
        (made_up_tensor("no storage", 0, (1,), (1,)), "without a proper"),
    ],
)
def test_claims_beyond_the_file_are_refused(tmp_path, pickled, message):
    torch.save({"a": torch.arange(4.0)}, tmp_path / "honest.pt")
    path = with_pickle(tmp_path / "honest.pt", tmp_path / "made_up.pt", pickled)
    with pytest.raises(UserError, match=f"made_up.pt.*{message}"):
        weight_file.read_torch_file(path)


def test_honest_claims_of_the_same_pickles_are_read(tmp_path):
    """Guards the test above: the pickles made there are right but for their claims."""
    torch.save({"a": torch.arange(4.0)}, tmp_path / "honest.pt")
    path = with_pickle(
        tmp_path / "honest.pt", tmp_path / "same.pt", made_up_tensor(FOUR_FLOATS, 1, (3,), (1,))
    )
    assert weight_file.read_torch_file(path)["a"].tolist() == [1, 2, 3]


def test_compressed_entries_are_refused(tmp_path):
    """An archive that unpacks to more than its own size fills the memory."""
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(10**6))
    with pytest.raises(UserError, match="compressed"):
        weight_file.read_torch_file(tmp_path / "bomb.pt")


def test_unknown_byte_order_is_refused(checkpoint, tmp_path):
    path = rewrite(
        checkpoint,
        tmp_path / "w.bin",
        lambda name, data: b"middle" if name.endswith("byteorder") else data,
    )
    with pytest.raises(UserError, match="byte order 'middle'"):
        weight_file.read_torch_file(path)


@pytest.mark.parametrize(
    "name",
    [
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
        "numpy ndarray",
        "collections OrderedDict",
    ],
)
def test_pickle_cannot_alter_what_it_names(checkpoint, tmp_path, name):
    """The BUILD opcode on a global would set attributes of our own functions and classes."""
    module, attribute = name.encode().split()
    state = pickle.dumps((None, {"__call__": 1, "dtype": 2, "__init__": 3}), protocol=2)[2:-1]
    path = with_pickle(
        checkpoint,
        tmp_path / "w.bin",
        b"\x80\x02c" + module + b"\n" + attribute + b"\n" + state + b"b.",
    )
    with pytest.raises(UserError, match=re.escape("w.bin is damaged")):
        weight_file.read_torch_file(path)
    assert import_mixste(checkpoint)[1] == SIZES
