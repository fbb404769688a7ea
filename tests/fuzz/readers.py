"""Every reader of users' files, and what one input may cost it.

What a reader imports is imported when it is opened.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from tests.fuzz import archives, documents, keypoints, motion, records, texts
from tests.fuzz.reader import Reader


class Target(NamedTuple):
    """A reader to be opened.

    Attributes:
      open: folder for the file that it reads -> the reader.
      length: of the longest input, bytes.
      memory: MiB that one input may take, by kdpose_jax/untrusted/bounds.py.
      share: of the time.
    """

    open: Callable[[pathlib.Path], Reader]
    length: int
    memory: int
    share: float


READERS = {
    "npz": Target(archives.npz, length=4096, memory=256, share=1),
    "poses_npz": Target(archives.poses_npz, length=8192, memory=256, share=1),
    "npz_pickle": Target(archives.npz_pickle, length=2048, memory=256, share=2),
    "mat": Target(archives.mat, length=8192, memory=256, share=3),
    "torch": Target(archives.torch, length=8192, memory=256, share=1),
    "torch_pickle": Target(archives.torch_pickle, length=2048, memory=256, share=2),
    "torch_legacy": Target(archives.torch_legacy, length=4096, memory=256, share=2),
    "safetensors": Target(archives.safetensors, length=2048, memory=256, share=1.5),
    "mpii_annotations": Target(documents.mpii_annotations, length=4096, memory=256, share=1.5),
    "coco_annotations": Target(documents.coco_annotations, length=4096, memory=256, share=1.5),
    "coco_evaluation": Target(documents.coco_evaluation, length=4096, memory=256, share=2),
    "detections": Target(documents.detections, length=2048, memory=256, share=1.5),
    "cameras": Target(documents.cameras, length=2048, memory=256, share=1.5),
    "converter_json": Target(documents.converter_json, length=2048, memory=256, share=1),
    "metadata": Target(documents.metadata, length=4096, memory=256, share=2),
    "config_json": Target(documents.config_json, length=2048, memory=256, share=1),
    "results_json": Target(documents.results_json, length=2048, memory=256, share=1.5),
    "checkpoint_json": Target(documents.checkpoint_json, length=2048, memory=256, share=1),
    "bvh": Target(motion.bvh_file, length=8192, memory=256, share=2),
    "acclaim": Target(motion.acclaim, length=16384, memory=256, share=2),
    "joint_map": Target(documents.joint_map, length=4096, memory=256, share=1),
    "mpi_matlab5": Target(motion.mpi_matlab5, length=16384, memory=256, share=1.5),
    "mpi_hdf5": Target(motion.mpi_hdf5, length=16384, memory=256, share=3),
    "mpi_npz": Target(motion.mpi_npz, length=4096, memory=256, share=2),
    "keypoints_json": Target(documents.keypoints_json, length=8192, memory=256, share=3),
    "keypoints_npz": Target(keypoints.keypoints_npz, length=8192, memory=256, share=2),
    "keypoints_text": Target(keypoints.keypoints_text, length=4096, memory=256, share=2),
    "preset": Target(texts.preset, length=256, memory=256, share=4),
    "override": Target(texts.override, length=256, memory=256, share=1),
    "tfrecord": Target(records.tfrecord, length=2048, memory=256, share=1),
    "record": Target(records.record, length=2048, memory=256, share=2),
    "photograph": Target(records.photograph, length=4096, memory=1200, share=1.5),
    "picture": Target(records.picture, length=4096, memory=256, share=2),
}
