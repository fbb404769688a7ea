"""Files of weights by their content.

Those of before PyTorch 1.6, safetensors, and networks somewhere inside a file.
"""

import collections
import io
import json
import pickle
import re
import struct

import ml_dtypes
import numpy as np
import pytest
import torch
from torch_states import hrnet_state, mixste_state, videopose3d_state

from kdpose_jax.errors import UserError
from kdpose_jax.pytorch import importing, weight_file

BASE = torch.arange(24.0)
TENSORS = {
    "single": torch.tensor([[1.5, -2.0], [3.0, 0.25]]),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "bfloat16": torch.tensor([0.1, 3.0], dtype=torch.bfloat16),
    "long": torch.tensor(2**40),
    "empty": torch.zeros(0, 4),
    "first of a storage": BASE[:6].reshape(2, 3),
    "part of it": BASE.reshape(2, 3, 4)[1, ::2, 1:3],
    "transposed": BASE.reshape(4, 6).T,
    "parameter": torch.nn.Parameter(torch.ones(3)),
}


def save_old(value, path, protocol=2):
    """As PyTorch saved until version 1.5; the file is read back where a test asks for its bytes."""
    torch.save(value, path, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_old_format_is_read_exactly(tmp_path, protocol):
    loaded = weight_file.read_torch_file(
        save_old({"a": TENSORS, "epoch": 3}, tmp_path / "published", protocol)
    )
    assert loaded["epoch"] == 3 and loaded["a"].keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        ours, wanted = loaded["a"][name], tensor.detach()
        expected = wanted.float().numpy() if wanted.dtype == torch.bfloat16 else wanted.numpy()
        assert ours.dtype == (
            ml_dtypes.bfloat16 if wanted.dtype == torch.bfloat16 else expected.dtype
        ), name
        assert ours.shape == expected.shape and np.array_equal(
            ours.astype(expected.dtype), expected
        ), name
    assert np.shares_memory(loaded["a"]["first of a storage"], loaded["a"]["transposed"])


def test_published_network_in_the_old_format(tmp_path):
    """As VideoPose3D's checkpoint of 2018.

    The network beside an optimiser's state, a generator's and plain numbers.
    """
    state = videopose3d_state()
    weight = torch.nn.Parameter(
        torch.ones(4, 6, 3)
    )  # of the shape of expand_conv.weight, and no weight
    optimizer = torch.optim.Adam([weight], amsgrad=True)
    weight.sum().backward()
    optimizer.step()
    whole = {
        "epoch": 80,
        "lr": np.float64(1e-3),
        "random_state": np.random.RandomState(3),
        "optimizer": optimizer.state_dict(),
        "model_pos": state,
        "model_traj": None,
    }
    imported = importing.import_network(
        "videopose3d", save_old(whole, tmp_path / "pretrained_h36m_cpn.bin")
    )
    kernel = state["expand_conv.weight"].numpy().transpose(2, 1, 0)
    assert (
        np.array_equal(imported["params"]["expand"]["conv"]["kernel"], kernel)
        and imported["notes"] == ()
    )


def test_old_files_cut_anywhere_are_refused(tmp_path):
    data = save_old(
        {"model": mixste_state(frames=2, joints=2, width=2, depth=1)}, tmp_path / "w"
    ).read_bytes()
    for length in {0, 5, 14, 30, 200, *np.linspace(300, len(data) - 1, 60, dtype=int).tolist()}:
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(UserError, match="cut") as caught:
            importing.import_network("mixste", tmp_path / "cut")
        assert str(caught.value).isprintable()


def old_file(
    *, magic=0x1950A86A20F9469CFC6C, version=1001, little=True, objects=b"}.", keys=(), storages=b""
) -> bytes:
    """A file of the old format, with anything in its parts."""
    machine = {
        "protocol_version": 1001,
        "little_endian": little,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    parts = [pickle.dumps(part, protocol=2) for part in (magic, version, machine)]
    return b"".join([*parts, objects, pickle.dumps(list(keys), protocol=2), storages])


def pickled_tensor(*identity, size=(4,), stride=(1,)) -> bytes:
    """The pickle of `{"a": tensor}` whose storage has this persistent id."""

    class Storage:
        pass

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (
                Storage(),
                0,
                size,
                stride,
                False,
                collections.OrderedDict(),
            )

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return identity if isinstance(value, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"a": Tensor()})
    return buffer.getvalue()


FOUR = ("storage", torch.FloatStorage, "0", "cpu", 4, None)
VALUES = struct.pack("<q4f", 4, 1, 2, 3, 4)


def test_a_made_up_old_file_is_read(tmp_path):
    """Guards the tests below: the files made there are right but for what they change."""
    (tmp_path / "w").write_bytes(
        old_file(objects=pickled_tensor(*FOUR), keys=["0"], storages=VALUES)
    )
    assert weight_file.read_torch_file(tmp_path / "w")["a"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1002}, "a version of PyTorch's format that is not known"),
        ({"little": False}, "another byte order"),
        ({"little": "yes"}, "description of its machine"),
        (
            {"objects": pickled_tensor(*FOUR[:4], 10**12, None)},
            "of 1000000000000 float32 values, which it is too small for",
        ),
        ({"objects": pickled_tensor(*FOUR[:4], -1, None)}, "not a storage"),
        ({"objects": pickled_tensor(*FOUR[:5], ("1", 0, 2))}, "parts of others.*torch.save"),
        (
            {"objects": pickled_tensor("module", torch.FloatStorage, "model.py", "class")},
            "a whole network with its program",
        ),
        ({"objects": pickled_tensor(*FOUR, size=(5,))}, r"size \[5\]"),
        (
            {"objects": pickled_tensor(*FOUR, size=(10**6, 10**6), stride=(0, 0))},
            r"size \[1000000, 1000000\]",
        ),
        ({"keys": ["1"]}, "1 storages for tensors in 1"),
        ({"keys": ["0", "0"]}, "2 storages for tensors in 1"),
        ({"keys": [7]}, "a list of storages that is not one"),
        ({"storages": struct.pack("<q", 2**60) + bytes(16)}, "another size than its tensors say"),
        ({"storages": struct.pack("<q", -4) + bytes(16)}, "another size"),
        ({"storages": VALUES[:-1]}, "ends in storage '0'"),
        ({"objects": b"cposix\nsystem\n(Vtrue\ntR."}, "could run code.*state_dict"),
        ({"objects": b"\x80\x02Nr\xff\x00\x00\x00."}, "memo index 255 in its first 3 bytes"),
        ({"objects": b"\x80\x02B\xff\xff\xff\x7f" + bytes(8)}, "damaged"),
    ],
)
def test_old_files_that_claim_much(tmp_path, changes, message):
    parts = {"objects": pickled_tensor(*FOUR), "keys": ["0"], "storages": VALUES} | changes
    (tmp_path / "w").write_bytes(old_file(**parts))
    with pytest.raises(UserError, match=message) as caught:
        weight_file.read_torch_file(tmp_path / "w")
    assert str(caught.value).isprintable()


def safetensors(header, values=b"", length=None) -> bytes:
    """A file of safetensors, with anything in its header."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + values


def saved(state) -> bytes:
    """A state as safetensors, written down here by the format's own page."""
    kinds = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
    header, values = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in state.items():
        raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        place = [len(values), len(values) + len(raw)]
        header[name] = {
            "dtype": kinds[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": place,
        }
        values += raw
    return safetensors(header, values)


def test_safetensors_are_read_exactly(tmp_path):
    (tmp_path / "w").write_bytes(saved(TENSORS))
    loaded = weight_file.read_torch_file(tmp_path / "w")
    for name, tensor in TENSORS.items():
        expected = tensor.detach().float().numpy()
        assert loaded[name].shape == expected.shape and np.array_equal(
            loaded[name].astype(np.float32), expected
        ), name
    assert loaded["bfloat16"].dtype == ml_dtypes.bfloat16 and loaded["half"].dtype == np.float16
    assert loaded["long"] == 2**40


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_safetensors_is_said(tmp_path, dtype):
    state = {name: value.to(dtype) for name, value in mixste_state().items()}
    (tmp_path / "w").write_bytes(saved(state))
    imported = importing.import_network("mixste", tmp_path / "w")
    kind = str(dtype).removeprefix("torch.")
    assert imported["notes"] == (
        f"{len(state)} of its {len(state)} tensors are {kind}, and are computed with in float32",
    )
    assert np.array_equal(imported["params"]["head"]["bias"], state["head.1.bias"].float().numpy())


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (safetensors({"a": ONE}, bytes(7)), "outside its 7 bytes"),
        (safetensors({"a": ONE}, bytes(9)), "1 bytes behind its tensors"),
        (safetensors({"a": ONE, "b": ONE}, bytes(8)), "overlapping tensors"),
        (safetensors({"a": ONE | {"data_offsets": [8, 16]}}, bytes(16)), "a gap at byte 8"),
        (safetensors({"a": ONE | {"shape": [3]}}, bytes(8)), r"shape \[3\] in 8 bytes"),
        (safetensors({"a": ONE | {"shape": [2**40, 2**40]}}, bytes(8)), "in 8 bytes"),
        (safetensors({"a": ONE | {"shape": [-2]}}, bytes(8)), "outside"),
        (safetensors({"a": ONE | {"shape": [1] * 40}}, bytes(8)), "outside"),
        (safetensors({"a": ONE | {"data_offsets": [True, 8]}}, bytes(8)), "outside"),
        (safetensors({"a": ONE | {"data_offsets": [8, 0]}}, bytes(8)), "outside"),
        (
            safetensors({"a": ONE | {"dtype": "F8_E4M3"}}, bytes(8)),
            "in type 'F8_E4M3', which is not read: save it as F32",
        ),
        (safetensors({"a": 3}, bytes(8)), "no type, shape and place of 'a'"),
        (safetensors(b"{" + b'"a":{' * 20_000, bytes(8)), "not JSON"),
        (safetensors(b"{]"), "not JSON"),
        (safetensors({"a": ONE}, bytes(8), length=2**62), "not a file of weights"),
    ],
)
def test_safetensors_that_claim_much(tmp_path, content, message):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        weight_file.read_torch_file(tmp_path / "w")
    assert str(caught.value).isprintable()


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


STATE = videopose3d_state()
OTHER = {name: value + 1 for name, value in STATE.items()}


@pytest.mark.parametrize(
    ("held", "notes"),
    [
        ({"net": STATE, "epoch": 3}, ()),
        ({"a": {"b": [{"c": prefixed("module.", STATE)}]}}, ()),
        ({"state_dict": prefixed("model._orig_mod.", STATE), "hyper_parameters": {"width": 4}}, ()),
        (
            {
                "state_dict": STATE,
                "best_state_dict": {name: value.clone() for name, value in STATE.items()},
            },
            (),
        ),
        ({"model": "videopose3d", "weights": STATE, "optimizer": {"state": OTHER}}, ()),
        ({"model": STATE, "o": {"state": prefixed("x.", OTHER), "param_groups": []}}, ()),
        (
            {
                "state_dict": prefixed("lifter.", STATE)
                | {"loss.weight": torch.ones(3), "mpjpe.total": torch.ones(())}
            },
            (r"2 entries outside 'lifter.' are left out \('loss.weight', 'mpjpe.total'\)",),
        ),
        (
            {
                "model_pos": STATE,
                "model_traj": {name: value for name, value in STATE.items() if "layers" not in name}
                | {"shrink.weight": torch.ones(3, 4, 1), "shrink.bias": torch.ones(3)},
            },
            (r"'model_traj' \(\d+ tensors\) left out, not being a VideoPose3D network",),
        ),
        (STATE | {"epoch": 3}, (r"1 entries, which are not tensors are left out \('epoch'\)",)),
    ],
)
def test_the_one_network_of_a_file_is_found(tmp_path, held, notes):
    torch.save(held, tmp_path / "w")
    imported = importing.import_network("videopose3d", tmp_path / "w")
    assert np.array_equal(imported["params"]["shrink"]["bias"], STATE["shrink.bias"].numpy())
    assert len(imported["notes"]) == len(notes)
    for said, note in zip(notes, imported["notes"], strict=True):
        assert re.search(said, note), note


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (
            {"state_dict": STATE, "state_dict_ema": OTHER},
            r"'state_dict' \(\d+ tensors\), "
            r"'state_dict_ema' \(\d+ tensors\): save",
        ),
        (
            {"state_dict": prefixed("student.", STATE) | prefixed("teacher.", OTHER)},
            r"'state_dict "
            r"student\.\*' .*'state_dict teacher\.\*'",
        ),
        (
            {"state_dict": prefixed("model.", mixste_state())},
            r"no tensor 'expand_conv.weight'.* "
            r"in 'state_dict' \('model.Spatial",
        ),
        ({"optimizer": {"state": STATE}}, "no network state"),
        (
            {
                "model": prefixed(
                    "model.", {name: STATE[name] for name in STATE if name != "shrink.bias"}
                )
            },
            r"lacks \['shrink.bias'\].*under 'model.'",
        ),
        ([], "no network state.* but a list"),
    ],
)
def test_several_networks_or_none(tmp_path, held, message):
    torch.save(held, tmp_path / "w")
    with pytest.raises(UserError, match=message) as caught:
        importing.import_network("videopose3d", tmp_path / "w")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("head", ["head.", "keypoint_head."])
def test_mmpose_keeps_backbone_and_head_apart(tmp_path, head):
    state = hrnet_state(head=())
    parts = {
        (head if name.startswith("final_layer") else "backbone.") + name: value
        for name, value in state.items()
    }
    torch.save({"meta": {"epoch": 210}, "state_dict": parts}, tmp_path / "w")
    imported = importing.import_network("hrnet", tmp_path / "w")
    assert np.array_equal(
        imported["params"]["final_layer"]["bias"], state["final_layer.bias"].numpy()
    )
    assert imported["sizes"]["head"] == "heatmap" and imported["notes"] == ()


def test_dictionaries_within_each_other_are_walked_once(tmp_path):
    """A hundred levels that each refer twice to the next have 2^100 paths."""
    held = {"w": STATE}
    for _ in range(100):
        held = {"a": held, "b": held}
    torch.save(held, tmp_path / "w")
    assert importing.import_network("videopose3d", tmp_path / "w")["sizes"]["width"] == 4
