"""Recorded motion: BVH, ASF and AMC files, and MPI-INF-3DHP in both layouts."""

import io
import pathlib
import pickle
import zipfile

import numpy as np

from tests.fuzz.archives import PICKLE_WORDS
from tests.fuzz.reader import Reader, on_file
from tests.support.motion_files import ASF_TREE, asf_amc, bvh

FRAMES = 2
NUMBERS = (
    b"1e308",
    b"-1e-320",
    b"nan",
    b"inf",
    b"0",
    b"{\n",
    b"}\n",
    b"\n",
    b"0,5",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
)


def bvh_file(folder: pathlib.Path) -> Reader:
    from data_prep.mocap import reading, skeletons

    maps = skeletons.read_maps(skeletons.SHIPPED)
    text, _ = bvh(seed=0, frames=FRAMES, fps=60, unit=0.0564444)
    words = (
        b"ROOT a",
        b"JOINT a\n{",
        b"End Site\n{",
        b"OFFSET 0 0 0",
        b"CHANNELS 1 Xrotation",
        b"MOTION",
        b"Frames: 1",
        b"Frame Time: 1",
    )
    read = on_file(
        folder / "a.bvh",
        lambda path: reading.read_job(reading.Job(path, "", 0.0, 0.0, "", maps, False)),
    )
    return Reader(read, [text.encode()], (*words, *NUMBERS))


def acclaim(folder: pathlib.Path) -> Reader:
    """An ASF and an AMC file, one behind the other."""
    from data_prep.mocap import asf_amc as reader
    from data_prep.mocap import reading, skeletons

    maps = skeletons.read_maps(skeletons.SHIPPED)
    skeleton, text, _ = asf_amc(seed=0, frames=FRAMES, fps=120)
    border = b"#!OML"
    path = folder / "a.asf"

    def read(motion: str) -> None:
        reader.read(motion, reader.read_skeleton(str(path)))
        reading._skeleton.cache_clear()
        reading.read_job(reading.Job(motion, str(path), 0.0, 0.0, "", maps, False))

    on_motion = on_file(folder / "a.amc", read)

    def on_both(content: bytes) -> None:
        bones, _, motion = content.partition(border)
        path.write_bytes(bones)
        on_motion(motion)

    words = (
        b":units\nlength 1",
        b":bonedata\nbegin\n",
        b":hierarchy\nbegin\n",
        b"\nend\n",
        b"dof rx ry rz\n",
        b"axis 1 2 3 XYZ\n",
        b":DEGREES",
        b":SAMPLES-PER-SECOND 60\n",
        b"\n3\n",
        b"\n-1\n",
    )
    return Reader(
        on_both,
        [(skeleton + text).encode()],
        (*words, *NUMBERS, *(name.encode() for name in ASF_TREE)),
    )


def mpi_matlab5(folder: pathlib.Path) -> Reader:
    import scipy.io

    from data_prep.mpi_inf_3dhp import official

    cells = {name: np.empty((14, 1), object) for name in ("annot2", "univ_annot3")}
    for name, axes in (("annot2", 2), ("univ_annot3", 3)):
        for camera in range(14):
            cells[name][camera, 0] = np.full((1, 28 * axes), 100, np.uint8)
    seeds = []
    for compressed in (False, True):
        file = io.BytesIO()
        scipy.io.savemat(
            file, {**cells, "cameras": np.arange(14, dtype=np.uint8)}, do_compression=compressed
        )
        seeds.append(file.getvalue())
    words = (
        b"annot2",
        b"univ_annot3",
        b"cameras",
        b"\x0e\x00\x00\x00",
        b"\x0f\x00\x00\x00",
        b"\x01\x00\x00\x00",
        b"\x06\x00\x00\x00",
    )
    read = on_file(
        folder / "S1" / "Seq1" / "annot.mat",
        lambda path: list(official.read_training(path, "univ_annot3", [])),
    )
    return Reader(read, seeds, words)


def mpi_hdf5(folder: pathlib.Path) -> Reader:
    import h5py

    from data_prep.mpi_inf_3dhp import official

    seeds = []
    for options in ({}, {"chunks": (1, 1, 9, 2), "compression": "gzip"}):
        content = io.BytesIO()
        with h5py.File(content, "w", userblock_size=512) as file:
            for name, axes in (("annot2", 2), ("univ_annot3", 3)):
                file.create_dataset(
                    name, data=np.full((2, 1, 17, axes), 100.0, np.float32), **options
                )
            for name in ("valid_frame", "activity_annotation"):
                file[name] = np.ones((2, 1))
        seeds.append(content.getvalue())
    words = (
        b"annot2",
        b"univ_annot3",
        b"TREE",
        b"HEAP",
        b"SNOD",
        b"OHDR",
        b"\x89HDF\r\n\x1a\n",
        b"\xff" * 8,
        b"\x01" + bytes(7),
    )
    read = on_file(
        folder / "TS1" / "annot_data.mat",
        lambda path: official.read_test(path, "univ_annot3"),
    )
    return Reader(read, seeds, words)


def mpi_npz(folder: pathlib.Path) -> Reader:
    """P-STMO's pickles, in an npz file that is whole: the first byte says which file it is."""
    from numpy.lib import format as npy_format

    from data_prep.mpi_inf_3dhp import pstmo, release

    header = io.BytesIO()
    npy_format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    path = folder / "data.npz"
    path.parent.mkdir(parents=True, exist_ok=True)

    def read(content: bytes) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.npy", header.getvalue() + content[1:])
        list(
            pstmo.read_test(str(path))
            if content[:1] == b"t"
            else pstmo.read_training(str(path), [])
        )

    view = {"data_2d": np.ones((1, 17, 2), np.uint8), "data_3d": np.full((1, 17, 3), 100, np.uint8)}
    train = {"S1 Seq1": [{str(camera): view for camera in release.CAMERAS}, 25]}
    test = {"TS1": view | {"valid": np.ones(1, np.uint8)}}
    seeds = [
        kind + pickle.dumps(np.array(value, object), protocol)
        for kind, value in ((b"n", train), (b"t", test))
        for protocol in (0, 2, 4)
    ]
    return Reader(read, seeds, PICKLE_WORDS)
