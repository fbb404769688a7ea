"""Times the converters: raw files to records, into a new folder each time.

The raw files are generated. `people` and `synthetic` make theirs themselves, and their time has
that in it.
"""

import argparse
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import command, demos
from benchmarks.turns import Case, Contest
from data_prep.mpi_inf_3dhp import files, release, views
from kdpose_jax.skeletons import H36M_17
from tests.support import motion_files, videopose3d

SUBJECTS, TEST_SUBJECTS, FRAMES = 3, 1, 500  # of generated motion; six actions and four views each
STUDIO_FRAMES = 2000  # of a sequence of MPI-INF-3DHP
CLIPS, CLIP_FRAMES, CLIP_FPS = 4, 1000, 100.0  # BVH files
PICTURES = {"train_pictures": 200, "val_pictures": 10, "test_pictures": 40}


def cases(options: argparse.Namespace) -> list[Case]:
    """Lists the converters."""
    motion = {
        "train_subjects": SUBJECTS - TEST_SUBJECTS,
        "test_subjects": TEST_SUBJECTS,
        "frames": FRAMES,
    }
    return [
        Case("synthetic", converter("synthetic", None, motion)),
        Case("human36m", converter("human36m", human36m_files, {"keypoints": "generated"})),
        Case("mpi_inf_3dhp", converter("mpi_inf_3dhp", studio_files, {})),
        Case("mocap", converter("mocap", motion_capture_files, {"test_subjects": ("s0",)})),
        Case("people", converter("people", None, PICTURES)),
        *(
            Case(
                f"{name}, {encoding}",
                converter(name, functools.partial(picture_files, name), {"encoding": encoding}),
            )
            for name in ("mpii", "coco")
            for encoding in ("jpeg", "png")
        ),
    ]


def converter(
    name: str, write_raw: Callable[[pathlib.Path], None] | None, settings: dict[str, Any]
) -> Callable[[], Contest]:
    """Makes what readies a conversion.

    Args:
      name: the converter.
      write_raw: writes the raw files into a folder; None if the converter makes its own.
      settings: its settings beside the folders.
    """

    def prepare() -> Contest:
        place = tempfile.TemporaryDirectory(prefix="kdpose_convert_")
        folder, count = pathlib.Path(place.name), iter(range(1_000_000))
        if write_raw is not None:
            write_raw(folder / "raw")
            settings["source"] = str(folder / "raw")

        def run() -> Any:
            out = str(folder / f"records{next(count)}")
            return demos.converted(name, out, **settings)

        made = run()
        persons = made.unit == "persons"
        found = sum(split[0 if persons else 1] for split in made.splits.values())
        return Contest(run, examples=found, unit=made.unit, close=place.cleanup)

    return prepare


def human36m_files(folder: pathlib.Path) -> None:
    """Writes VideoPose3D's files."""
    subjects = tuple(f"S{number}" for number in range(SUBJECTS))
    videopose3d.write_videopose3d_files(
        str(folder), "set", subjects, subjects[:TEST_SUBJECTS], 17, None, 1, FRAMES, 0.01, 0
    )


def studio_files(folder: pathlib.Path) -> None:
    """Writes P-STMO's two files, with motion of random numbers."""
    generator = np.random.default_rng(0)

    def view() -> dict[str, np.ndarray]:
        """Draws a view: pixels and millimetres, in P-STMO's order of joints."""
        shape = (STUDIO_FRAMES, H36M_17.num_joints)
        return {
            "data_2d": generator.uniform(0, views.SIDE, (*shape, 2)),
            "data_3d": generator.normal(0, 400, (*shape, 3)) + 1000,
        }

    train = {"S1 Seq1": [{str(camera): view() for camera in release.CAMERAS}, 25]}
    test = {"TS1": {**view(), "valid": np.ones(STUDIO_FRAMES)}}
    folder.mkdir()
    for split, data in (("train", train), ("test", test)):
        np.savez(folder / files.NPZ_FILES[split], data=np.asarray(data, object))


def motion_capture_files(folder: pathlib.Path) -> None:
    """Writes BVH files, a folder for each subject."""
    for number in range(CLIPS):
        text, _ = motion_files.bvh(number, CLIP_FRAMES, CLIP_FPS, motion_files.CMU_UNIT)
        (folder / f"s{number}").mkdir(parents=True)
        (folder / f"s{number}" / "clip.bvh").write_text(text)


def picture_files(layout: str, folder: pathlib.Path) -> None:
    """Paints photographs, and writes their annotations in a layout."""
    out = str(folder.with_name("painted"))
    demos.converted("people", out, layout=layout, **PICTURES)
    os.rename(f"{out}.raw", folder)


COMMAND = command.Command(
    name="convert",
    about=__doc__,
    cases=cases,
    columns=lambda options: [command.OURS, command.RATE],
    measure=command.timed,
)

if __name__ == "__main__":
    command.main(COMMAND)
