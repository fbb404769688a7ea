"""Times what brings examples to the device, and how long the demos' steps wait for it.

A batch counts when all of it lies on the device. With --peers, windows take turns with the
generators of VideoPose3D and MixSTE, and crops with a PyTorch DataLoader over CDKD's JointsDataset:
the same motion and photographs, batches and cores. Motion is random numbers of Human3.6M's size.
Photographs are generated, or those of --pictures.
"""

import argparse
import concurrent.futures
import functools
import os
import pathlib
from typing import Any

import numpy as np

from benchmarks import command, demos, networks
from benchmarks.turns import Case, Contest
from configs import cdkd
from data_prep import coco, mpii
from kdpose_jax.contracts import Source
from kdpose_jax.data import images, persons, sequences
from kdpose_jax.report import results
from kdpose_jax.skeletons import H36M_17

# Human3.6M's training set: frames of a sequence, and sequences.
FRAMES, SEQUENCES = 2599, 600
WINDOW = 243
GENERATORS = ("VideoPose3D", "MixSTE")
# MixSTE's and VideoPose3D's batch of 1024 frames, and that of SCJD's student.
WINDOW_BATCHES = (4, 16)
VIEWS = {"image": 64, "teacher_image": 256}  # pixels
CROP_BATCH = 32
PICTURES = 400  # generated
# A DataLoader starts anew after each epoch. With this number of examples, that does not matter.
EPOCH = 4096
AHEAD = 8  # batches that either side may have ready when a turn begins


def cases(options: argparse.Namespace) -> list[Case | demos.Demo]:
    """Lists the pipelines."""
    listed: list[Case | demos.Demo] = []
    for batch in WINDOW_BATCHES:
        for generator in GENERATORS if options.peers is not None else ("",):
            name = f"windows of {WINDOW} frames, batch {batch}"
            listed.append(
                Case(
                    f"{name}, beside {generator}" if generator else name,
                    functools.partial(window_batches, options.peers, generator, batch),
                )
            )
    listed += [
        Case("windows gathered alone, batch 16", gathered_windows),
        Case("crops of 64 and 256 px, batch 32", functools.partial(crop_batches, options, VIEWS)),
        Case("crops of 64 px, batch 32", functools.partial(crop_batches, options, {"image": 64})),
        Case("photographs decoded alone", functools.partial(decoded_pictures, options)),
        Case("records of motion read", read_motion),
        Case("records of persons read", functools.partial(read_persons, options)),
    ]
    for name, method in (("SCJD", "scjd"), ("CDKD", "cdkd")):
        listed += [
            demos.Demo(f"{name} demo, {stage}: step", method, stage)
            for stage in ("teacher", "student")
        ]
    return listed


def measure(case: Case | demos.Demo, options: argparse.Namespace) -> dict[str, Any]:
    """Measures a row: a pipeline by turns, a demo by watching its loop."""
    if isinstance(case, demos.Demo):
        return demos.watch(case)
    return {**command.timed(case, options), "wait_share": None}


@functools.lru_cache(maxsize=1)
def random_motion() -> sequences.Motion:
    """Draws motion of Human3.6M's size."""
    generator, joints = np.random.default_rng(0), H36M_17.num_joints
    return sequences.Motion(
        skeleton=H36M_17,
        names=("",) * SEQUENCES,
        actions=("",) * SEQUENCES,
        frames=np.full(SEQUENCES, FRAMES),
        offset=np.arange(SEQUENCES) * FRAMES,
        keypoints_2d=generator.standard_normal((FRAMES * SEQUENCES, joints, 2), np.float32),
        pose_3d=generator.standard_normal((FRAMES * SEQUENCES, joints, 3), np.float32),
        frame_mask=np.ones(FRAMES * SEQUENCES, bool),
    )


@functools.lru_cache(maxsize=1)
def window_source() -> Source:
    """Opens the windows of that motion and their mirrored copies, as SCJD's teacher reads them."""
    return sequences.open_training(
        random_motion(), frames=WINDOW, context=(0, 0), seed=0, stride=0, flip=True
    )


def window_bytes(batch: int) -> int:
    """Counts the bytes that a batch of windows reads and writes."""
    return 2 * 4 * batch * WINDOW * H36M_17.num_joints * (2 + 3)


def window_batches(folder: pathlib.Path | None, generator: str, batch: int) -> Contest:
    """Readies batches of windows, beside a generator if one is named."""
    theirs = None
    if folder is not None:
        from benchmarks import peer_batches

        motion = random_motion()
        made = peer_batches.window_batches(
            folder,
            generator,
            np.split(motion.keypoints_2d, SEQUENCES),
            np.split(motion.pose_3d, SEQUENCES),
            length=WINDOW,
            batch=batch,
        )
        theirs = functools.partial(next, made)
    return delivery(
        window_source(),
        batch,
        unit="windows",
        theirs=theirs,
        beside=generator,
        moved=window_bytes(batch),
    )


def delivery(source: Source, batch: int, **others: Any) -> Contest:
    """Readies the batches of a source, with the other fields of a contest."""
    batches, ours = networks.delivered(source, batch)
    return Contest(ours, examples=batch, ahead=AHEAD, close=batches.close, **others)


def gathered_windows() -> Contest:
    """Readies random batches that stay in the host's memory."""
    source, generator, batch = window_source(), np.random.default_rng(0), max(WINDOW_BATCHES)
    return Contest(
        lambda: source.gather(generator.integers(0, len(source), batch)),
        examples=batch,
        unit="windows",
        moved=window_bytes(batch),
    )


@functools.cache
def person_records(pictures: str) -> tuple[str, str]:
    """Converts photographs of persons: a folder in COCO's layout, or generated ones for "".

    Returns:
      The folder of the records, and that of the training photographs.
    """
    out = os.path.join(demos.scratch().name, "persons")
    if pictures:
        demos.converted("coco", out, source=pictures, splits=("train",))
        return out, os.path.join(pictures, coco.LAYOUT["train_images"])
    demos.converted("people", out, train_pictures=PICTURES, val_pictures=1, test_pictures=1)
    return out, os.path.join(f"{out}.raw", mpii.LAYOUT["train_images"])


def crop_batches(options: argparse.Namespace, views: dict[str, int]) -> Contest:
    """Readies batches of augmented crops. The DataLoader always makes both views."""
    records, photographs = person_records(options.pictures)
    data = persons.read(records, "train")
    training = cdkd.get_config("mpii64").data.training.to_dict()
    source = persons.open_training(data, views=views, seed=0, **training)
    theirs = None
    if options.peers is not None and views == VIEWS:
        from benchmarks import peer_batches

        mirror = enumerate(data.skeleton.flip_permutation)
        dataset = peer_batches.Photographs(
            options.peers,
            described_persons(data, photographs) * -(-EPOCH // len(data)),
            VIEWS["image"],
            [(joint, other) for joint, other in mirror if joint < other],
        )
        made = peer_batches.crop_batches(dataset, batch=CROP_BATCH, workers=results.host_cores())
        theirs = functools.partial(next, made)
    return delivery(source, CROP_BATCH, unit="persons", theirs=theirs, beside="DataLoader")


def described_persons(data: persons.Persons, photographs: str) -> list[dict[str, Any]]:
    """Describes the persons as HRNet's data sets do."""
    visible = np.repeat(data.visible[..., None].astype(float), 3, axis=2)
    joints = np.pad(data.joints.astype(float), ((0, 0), (0, 0), (0, 1)))
    return [
        {
            "image": os.path.join(photographs, data.file[number]),
            "center": data.center[number].astype(float),
            "scale": data.scale[number].astype(float),
            "joints_3d": joints[number],
            "joints_3d_vis": visible[number],
        }
        for number in range(len(data))
    ]


def decoded_pictures(options: argparse.Namespace) -> Contest:
    """Readies the decoding of random regions, by as many threads as there are cores."""
    data = persons.read(person_records(options.pictures)[0], "train")
    threads = concurrent.futures.ThreadPoolExecutor(results.host_cores())
    generator = np.random.default_rng(0)

    def decode() -> None:
        chosen = generator.integers(0, len(data), CROP_BATCH)
        for _ in threads.map(images.decode, [data.image[person] for person in chosen]):
            pass

    return Contest(decode, examples=CROP_BATCH, unit="persons", close=threads.shutdown)


def read_motion() -> Contest:
    """Readies the reading of the SCJD demo's training records into memory."""
    records = demos.records("scjd")
    frames = int(sequences.read(records, "train").frames.sum())
    return Contest(lambda: sequences.read(records, "train"), examples=frames, unit="frames")


def read_persons(options: argparse.Namespace) -> Contest:
    """Readies the reading of the persons' training records into memory."""
    records, _ = person_records(options.pictures)
    count = len(persons.read(records, "train"))
    return Contest(lambda: persons.read(records, "train"), examples=count, unit="persons")


def wait_share(row: dict[str, Any]) -> str:
    """Writes the share of the time in which a loop waited; "-" where nothing did."""
    return "-" if row["wait_share"] is None else f"{row['wait_share']:.2%}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the option for photographs."""
    parser.add_argument(
        "--pictures",
        default="",
        metavar="DIR",
        help="photographs in COCO's layout, whose training split is read (default: generated ones)",
    )


COMMAND = command.Command(
    name="pipeline",
    about=__doc__,
    cases=cases,
    columns=lambda options: [
        command.OURS,
        command.RATE,
        command.MEMORY,
        *command.reference_columns(options),
        command.Column("waits for data", wait_share),
    ],
    measure=measure,
    beside_peers=True,
    add_options=add_options,
)

if __name__ == "__main__":
    command.main(COMMAND)
