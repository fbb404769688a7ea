"""The commands of docs/use and of the README are run as they are printed, with small networks.

Commands of this program alone are run. One that trains is checked up to the point where it would
train. What needs a package that is missing here must say so.
"""

import functools
import json
import os
import pathlib
import re
import shlex
import stat
import time

import cv2
import keypoint_files
import numpy as np
import pytest
import stored_networks
from launching import launch_main
from made_input import picture
from repository import REPOSITORY

from kdpose_jax import program
from kdpose_jax.errors import UserError
from kdpose_jax.export.formats import table
from kdpose_jax.keypoints import layouts
from kdpose_jax.keypoints.formats.recognise import FORMATS as READ
from kdpose_jax.poses.writers.table import FORMATS as WRITTEN
from kdpose_jax.predict import command
from kdpose_jax.predict.loading import Network, load_by_flags

DOCUMENTS = ("README.md", *(f"docs/use/{name}.md" for name in ("footage", "teacher", "ship")))
STUDENT = "runs/scjd_demo/student"
EXPORTED = f"{STUDENT}/export/student.stablehlo"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
LAUNCH = ".venv/bin/python launch.py "
USES = ("predict", "export")


def commands(document: str) -> list[list[str]]:
    """The words of every command of this program's that a document has."""
    found = []
    for block in BLOCK.findall((REPOSITORY / document).read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith(LAUNCH):
                found.append(shlex.split(line.removeprefix(LAUNCH), comments=True))
            elif line.startswith("kdpose ") and line.split()[1] in USES:
                _, mode, *words = shlex.split(line, comments=True)
                found.append([f"--mode={mode}", *words])
    return found


def mode_of(words: list[str]) -> str:
    for number, word in enumerate(words):
        if word == "--mode":
            return words[number + 1]
        if word.startswith("--mode="):
            return word.partition("=")[2]
    return "train"


# A command that several documents have is run once, for the last of them.
DISTINCT = {
    tuple(words): f"{pathlib.Path(name).stem} {number} {mode_of(words)}"
    for name in DOCUMENTS
    for number, words in enumerate(commands(name), 1)
}
LISTED = [pytest.param(list(words), id=name) for words, name in DISTINCT.items()]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with all that the documents name: runs, samples, and a user's files."""
    top = tmp_path_factory.mktemp("home")
    stored_networks.store_preset(top / STUDENT, "scjd", "demo", "student")
    stored_networks.store_preset(top / "runs/cdkd_demo/student", "cdkd", "demo", "student")
    for name in ("samples", "configs"):
        (top / name).symlink_to(REPOSITORY / name)
    values = keypoint_files.scene(17, frames=40)
    frames = keypoint_files.mmpose_frames(values)
    keypoint_files.write_json(top / "walk.json", frames)
    (top / "clips").mkdir()
    for name in ("a", "b"):
        keypoint_files.write_json(top / "clips" / f"{name}.json", frames)
    (top / "own.csv").write_text(own_table(values[0]))
    (top / "names.json").write_text('{"KneeL": "left_knee", "KneeR": "right_knee"}')
    (top / "photographs").mkdir()
    for number in (1, 2):
        pixels = picture(60, 80, number)
        assert cv2.imwrite(str(top / "photographs" / f"{number}.png"), pixels)
    boxes = [{"image_id": number, "bbox": [5, 5, 40, 50]} for number in (1, 2)]
    (top / "boxes.json").write_text(json.dumps(boxes))
    write_video(top / "walk.mp4")
    (top / "videos").mkdir()
    write_video(top / "videos" / "a.mp4")
    for name in ("mediapipe", "rtmlib"):
        write_detector(top / "envs" / name / "bin" / "python", top / "walk.json")
    return top


def own_table(values: np.ndarray) -> str:
    """COCO's joints as a csv file whose knees have names of nobody else's."""
    names = [
        {"left_knee": "KneeL", "right_knee": "KneeR"}.get(name, name)
        for name in keypoint_files.COCO_17
    ]
    lines = [",".join(f"{name}_{axis}" for name in names for axis in ("x", "y", "score"))]
    lines += [",".join(map(str, frame.reshape(-1))) for frame in values]
    return "\n".join(lines)


def write_video(path: pathlib.Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, keypoint_files.SIZE)
    width, height = keypoint_files.SIZE
    for number in range(4):
        writer.write(np.full((height, width, 3), 40 * number, np.uint8))
    writer.release()


def write_detector(path: pathlib.Path, keypoints: pathlib.Path) -> None:
    """An interpreter that finds the same keypoints in every video."""
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\ncp {shlex.quote(str(keypoints))} "$4"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def missing_package(words: list[str]) -> str:
    """The sentence on a package that a command's formats need and that is not installed."""
    if mode_of(words) != "export" or "--format" not in words:
        return ""
    for name in words[words.index("--format") + 1].split(","):
        try:
            if name in table.FORMATS:
                table.require_packages(name, to_write=True)
        except UserError as error:
            return str(error)
    return ""


def test_commands_are_found():
    modes = {mode_of(param.values[0]) for param in LISTED}
    assert {"train", "predict", "export", "eval"} <= modes and len(LISTED) > 15


@pytest.mark.parametrize("words", LISTED)
def test_a_documented_command_works(words, home, monkeypatch, capfd):
    monkeypatch.chdir(home)
    if mode_of(words) not in USES or "mixste.bin" in words:
        monkeypatch.setattr(program, "check_source", lambda *_: stop_here())
        monkeypatch.setattr(program, "import_jax", stop_here)
        with pytest.raises(ReachedError):
            launch_main(*words)
        return
    monkeypatch.setattr(command.loading, "load_by_flags", opened)
    if EXPORTED in words and not (home / EXPORTED).exists():
        assert launch_main("--mode=export", f"--checkpoint={STUDENT}") == 0
    started = time.time()
    code, said = launch_main(*words), capfd.readouterr()
    missing = missing_package(words)
    if missing:
        assert code == 2 and missing in said.err
        return
    assert code == 0, said.err
    written = [path for path in home.rglob("*") if path.stat().st_mtime >= started - 1]
    assert written and said.out, said


@functools.cache
def opened(checkpoint: str, config: None) -> tuple[Network, float | None]:
    """Loads a network once for all commands."""
    return load_by_flags(checkpoint, config)


class ReachedError(Exception):
    """The command line was accepted."""


def stop_here():
    raise ReachedError


def test_the_table_of_flags_is_whole():
    """Every flag of `--mode predict` is in the table, and nothing else is."""
    text = (REPOSITORY / "docs/use/footage.md").read_text()
    rows = text.partition("## Flags")[2].partition("\n## ")[0]
    listed = {
        name
        for row in re.findall(r"^\| (`--.*?) \|", rows, re.M)
        for name in re.findall(r"--(\w+)", row)
    }
    module = next(name for name in program.flags.FLAGS.flags_by_module_dict() if "predict" in name)
    known = {flag.name for flag in program.flags.FLAGS.flags_by_module_dict()[module]}
    of_files_of_poses = {"poses", "axes"}  # which `--mode export` reads
    assert listed - {"checkpoint", "out", "format"} == known - of_files_of_poses


def test_the_tables_of_formats_are_whole():
    footage = (REPOSITORY / "docs/use/footage.md").read_text()
    ship = (REPOSITORY / "docs/use/ship.md").read_text()
    for name in (*READ, *WRITTEN, "html"):
        assert f"| `{name}` |" in footage, name
    for name in table.FORMATS:
        assert f"| `{name}` |" in ship, name
    for name in layouts.layouts():
        assert name in footage, name


def test_every_page_is_reached_from_the_readme():
    readme = (REPOSITORY / "README.md").read_text()
    for page in os.listdir(REPOSITORY / "docs" / "use"):
        assert f"docs/use/{page}" in readme, page
