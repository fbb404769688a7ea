"""Zip archives of numpy and PyTorch, and MATLAB's files."""

import io
import json
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fuzz.reader import Reader, on_file

PICKLE_WORDS = (
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy._core.multiarray\nscalar\n",
    b"cnumpy._core.numeric\n_frombuffer\n",
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"c_codecs\nencode\n",
    b"ccollections\nOrderedDict\n",
    b"cbuiltins\nbytearray\n",
    b"cbuiltins\nlist\n",
    b"\x8a\x05\x00\x00\x00\x00\x10",
    b"\x85R",
    b"\x86R",
    b"\x87R",
    b"(R",
    b"b.",
    b"X\x02\x00\x00\x00f4",
    b"X\x01\x00\x00\x00O",
    b"\x8e\x00\x00\x00\x00\x10\x00\x00\x00",
    b"J\xff\xff\xff\x7f",
)


def _motion() -> dict[str, dict[str, Any]]:
    return {"S1": {"Walking": np.zeros((1, 17, 3), np.float32)}}


def _detected() -> tuple[dict[str, Any], dict[str, Any]]:
    return {"S1": {"Walking": [np.zeros((1, 17, 2), np.float32)]}}, {"num_joints": np.int64(17)}


def npz(folder: pathlib.Path) -> Reader:
    from data_prep import takes
    from kdpose_jax.errors import UserError

    def read(path: str) -> None:
        try:
            takes.read_positions(path)
        except UserError:
            takes.read_detections(path)

    seeds = []
    detected, metadata = _detected()
    for save in (np.savez, np.savez_compressed):
        for arrays in (
            {"positions_3d": _motion()},
            {"positions_2d": detected, "metadata": metadata},
        ):
            content = io.BytesIO()
            save(content, **arrays)
            seeds.append(content.getvalue())
    return Reader(
        on_file(folder / "data_3d_set.npz", read),
        seeds,
        (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", *PICKLE_WORDS),
    )


def poses_npz(folder: pathlib.Path) -> Reader:
    """Files of poses: a plain one, and all that the program's own have."""
    from kdpose_jax.poses.stored_poses import read_poses

    pose = _motion()["S1"]["Walking"]
    joints = pose.shape[1]
    plain = {"pose_3d": pose, "fps": 25, "joints": [f"j{number}" for number in range(joints)]}
    own = {
        "root_path": np.zeros((len(pose), 3), np.float32),
        "keypoints_2d": pose[..., :2],
        "scores": pose[..., 0],
        "seen": pose[..., 0] > 0,
        "valid": np.ones(len(pose), bool),
        "parents": [-1] + [0] * (joints - 1),
        "root": 0,
        "size": [640, 480],
        "length": len(pose),
        "persons": ["a"],
        "first_frame": [0],
        "frames": [len(pose)],
        "network": "n",
        "fingerprint": "f",
        "keyframe_stride": 1,
        "notes": ["x"],
        "axes": "camera",
    }
    seeds = []
    for arrays in (plain | {"axes": "y_up", "fingerprint": ""}, plain | own):
        content = io.BytesIO()
        np.savez(content, **arrays)
        seeds.append(content.getvalue())
    return Reader(
        on_file(folder / "poses.npz", lambda path: read_poses(path, None, None, None)),
        seeds,
        (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", *PICKLE_WORDS),
    )


def npz_pickle(folder: pathlib.Path) -> Reader:
    """The pickles alone, in an npz file that is whole.

    The first byte says which entry the rest is.
    """
    from numpy.lib import format as npy_format

    from data_prep import takes

    header = io.BytesIO()
    npy_format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    detected, metadata = (pickle.dumps(np.array(value, object), 4) for value in _detected())
    path = folder / "data_3d_set.npz"
    path.parent.mkdir(parents=True, exist_ok=True)

    def read(content: bytes) -> None:
        kind, pickled = content[:1], content[1:]
        entries = {
            b"m": {"positions_2d": detected, "metadata": pickled},
            b"d": {"positions_2d": pickled, "metadata": metadata},
        }
        with zipfile.ZipFile(path, "w") as archive:
            for name, value in (
                entries[kind] if kind in entries else {"positions_3d": pickled}
            ).items():
                archive.writestr(f"{name}.npy", header.getvalue() + value)
        (takes.read_detections if kind in entries else takes.read_positions)(str(path))

    values = {b"p": _motion(), b"d": _detected()[0], b"m": _detected()[1]}
    seeds = [
        kind + pickle.dumps(np.array(value, object), protocol)
        for kind, value in values.items()
        for protocol in (0, 2, 4, 5)
    ]
    seeds += [kind + pickle.dumps(value, 2) for kind, value in values.items()]
    return Reader(read, seeds, PICKLE_WORDS)


def mat(folder: pathlib.Path) -> Reader:
    import scipy.io

    from data_prep import gt_valid

    def read(path: str) -> None:
        gt_valid.read(path, "--head-boxes none")

    names = np.empty((1, 16), object)
    names[0] = [np.array([name]) for name in gt_valid.JOINTS]
    arrays = {
        "dataset_joints": names,
        "jnt_missing": np.zeros((16, 1), np.uint8),
        "pos_gt_src": np.ones((16, 2, 1)),
        "headboxes_src": np.arange(4.0).reshape(2, 2, 1),
    }
    seeds = []
    for compressed in (False, True):
        file = io.BytesIO()
        scipy.io.savemat(file, arrays, do_compression=compressed)
        seeds.append(file.getvalue())
    words = (
        b"pos_gt_src",
        b"jnt_missing",
        b"headboxes_src",
        b"dataset_joints",
        b"\x0e\x00\x00\x00",
        b"\x0f\x00\x00\x00",
        b"\xff\xff\xff\x7f",
    )
    return Reader(on_file(folder / "gt_valid.mat", read), seeds, words)


def _torch_states() -> list[Any]:
    """Checkpoints with few bytes.

    The names are those of MixSTE, so that reading goes beyond the file.
    """
    import torch

    return [
        {
            "model_pos": {
                "Spatial_patch_to_embedding.weight": torch.ones(2, 2),
                "Temporal_pos_embed": torch.ones(1, 3, 2),
            }
        },
        {
            "state_dict": {
                "module.conv1.weight": torch.ones(2, 3, 1, 1, dtype=torch.float16),
                "epoch": torch.tensor(3),
            },
            "epoch": 1,
        },
    ]


def torch(folder: pathlib.Path) -> Reader:
    import torch

    from kdpose_jax.pytorch import importing

    seeds = []
    for state in _torch_states():
        content = io.BytesIO()
        torch.save(state, content)
        seeds.append(content.getvalue())
    read = on_file(folder / "weights.pth", _import_everything(importing))
    return Reader(read, seeds, (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06"))


def torch_legacy(folder: pathlib.Path) -> Reader:
    """Files of before PyTorch 1.6."""
    import torch

    from kdpose_jax.pytorch import importing

    seeds = []
    for state in [
        *_torch_states(),
        {"net": {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2).bfloat16()}, "lr": 0.1},
    ]:
        content = io.BytesIO()
        torch.save(state, content, _use_new_zipfile_serialization=False)
        seeds.append(content.getvalue())
    words = (
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"X\x07\x00\x00\x00storageq",
        b"Q",
        *PICKLE_WORDS,
    )
    return Reader(on_file(folder / "weights", _import_everything(importing)), seeds, words)


def safetensors(folder: pathlib.Path) -> Reader:
    """The header alone matters; half of the seeds hold the names of a network."""
    from kdpose_jax.pytorch import importing

    def file(header: dict[str, Any], size: int) -> bytes:
        encoded = json.dumps(header).encode()
        return struct.pack("<Q", len(encoded)) + encoded + bytes(size)

    seeds = []
    for names, kind, width in (
        (("Spatial_pos_embed", "Temporal_pos_embed"), "F32", 4),
        (("a.transition1.0.0.weight", "b"), "BF16", 2),
    ):
        places = [[0, 6 * width], [6 * width, 12 * width]]
        entries = [{"dtype": kind, "shape": [1, 2, 3], "data_offsets": place} for place in places]
        seeds.append(
            file(
                {"__metadata__": {"format": "pt"}, **dict(zip(names, entries, strict=True))},
                12 * width,
            )
        )
    words = (
        b'"data_offsets":[',
        b'"shape":[',
        b'"dtype":"F16"',
        b'"dtype":"BOOL"',
        b'"__metadata__"',
        b"\xff\xff\xff\xff",
        b"-1",
        b"1e9",
    )
    return Reader(on_file(folder / "weights", _import_everything(importing)), seeds, words)


def _import_everything(importing: Any) -> Callable[[str], None]:
    names = ("mixste", "hrnet", "videopose3d", "mixste_hot", "poseformer_v2")

    def read(path: str) -> None:
        size = pathlib.Path(path).stat().st_size
        load = importing.import_pretrained if size % 2 else importing.import_network
        load(names[size % len(names)], path)

    return read


def torch_pickle(folder: pathlib.Path) -> Reader:
    """The pickle alone, in a checkpoint with four numbers that is whole."""
    import torch

    from kdpose_jax.pytorch import importing

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weights.pth"
    import_everything = _import_everything(importing)

    def read(pickled: bytes) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/byteorder", "little")
            archive.writestr("archive/data/0", bytes(16))
        import_everything(str(path))

    seeds = []
    for state in [
        *_torch_states(),
        {
            "model": {"a": torch.nn.Parameter(torch.ones(2, 2))},
            "rng": np.random.RandomState(0).get_state()[2:],
        },
    ]:
        content = io.BytesIO()
        torch.save(state, content)
        with zipfile.ZipFile(content) as archive:
            seeds.append(archive.read("archive/data.pkl"))
    words = (
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"X\x07\x00\x00\x00storageq",
        b"Q",
        *PICKLE_WORDS,
    )
    return Reader(read, seeds, words)
