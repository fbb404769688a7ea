"""Brings a small MixSTE into the page in plain JavaScript: mixste.js, and the parameters.

It needs neither npm nor a package of an export. Where Node.js is installed, the network is run by
it and compared with JAX before the page is written.
"""

import json
import pathlib
import shutil
import subprocess
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from browser.ready import Ready, Show, refuse_pictures
from kdpose_jax import files
from kdpose_jax.codecs.keyframes import KeyframeGrid
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import existing, weights
from kdpose_jax.experiment.existing import Trained
from kdpose_jax.experiment.run import Run
from kdpose_jax.export import checking, pipeline
from kdpose_jax.page import document
from kdpose_jax.predict import artifacts, loading
from kdpose_jax.predict.description import LIFTER, Description, describe

HERE = pathlib.Path(__file__).parent
NETWORK = "mixste"
# Parameters up to which it is what a page takes without --runtime. A frame of 17 joints then
# takes up to 1.7 million products, about 3 ms, so that a video is lifted faster than it plays.
SMALL = 100_000
LONGEST_S = 600  # for the check


class Restored(NamedTuple):
    """A run's network.

    Attributes:
      path: the run's folder, or one of its steps.
      run: the run.
      about: the network's description.
      trained: its variables.
      mesh: its device.
    """

    path: str
    run: Run
    about: Description
    trained: Trained
    mesh: jax.sharding.Mesh

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.trained.params))


def is_served(checkpoint: str) -> bool:
    """Tells whether a checkpoint is a run whose network is MixSTE.

    Raises:
      UserError: there is no such checkpoint.
    """
    path = files.absolute_or_empty(checkpoint)
    if artifacts.is_artifact(path) or weights.is_weight_file(path):
        return False
    run, _ = existing.find_run(loading.accessible(path), None)
    return describe(run, "").kind == LIFTER and run.block.network.name == NETWORK


def restore(checkpoint: str, show: Show) -> Restored:
    """Loads the network of a run.

    Raises:
      UserError: there is no such run, or its network is not MixSTE.
    """
    path = files.absolute_or_empty(checkpoint)
    if artifacts.is_artifact(path) or weights.is_weight_file(path):
        raise UserError(
            f"--checkpoint is the file '{checkpoint}', and --runtime plain takes the parameters of "
            "a run: name the run's folder, or use --runtime litert."
        )
    path = loading.accessible(path)
    run, notes = existing.find_run(path, None)
    refuse_pictures(describe(run, ""), checkpoint)
    if run.block.network.name != NETWORK:
        raise UserError(
            f"--runtime plain runs {NETWORK}, and the network of '{checkpoint}' is "
            f"{run.block.network.name}: use --runtime litert."
        )
    for note in notes:
        show(note)
    return Restored(path, run, *loading.restore(run, path))


def ready(network: Restored, show: Show) -> Ready:
    """Makes a network ready for the page, and compares it with JAX.

    Args:
      network: the network.
      show: prints one line.

    Raises:
      UserError: Node.js computes other poses than JAX, or the user made any other mistake.
    """
    found = packed(network)
    check(found, network, show)
    return found


def packed(network: Restored) -> Ready:
    """Packs a network for the page.

    Raises:
      UserError: the run's folder cannot be written.
    """
    sizes, parameters = contents(network)
    name = network.about.name
    return Ready(
        about=network.about,
        place=pipeline.folder_of("", network.path) / f"{name}.html",
        facts=f"{network.parameters:,} parameters, {len(parameters) / 1000:,.0f} kB, float32",
        words="The network runs in plain JavaScript, by mixste.js of kdpose_jax (Apache-2.0).",
        script=script(),
        sizes=sizes,
        bytes={"parameters": parameters},
        allows=(),
    )


def script() -> str:
    """Returns the code of the network."""
    return document.without_comments(document.source(str(HERE / "mixste.js")))


def contents(network: Restored) -> tuple[dict[str, Any], bytes]:
    """Makes what mixste.js takes.

    Returns:
      The `sizes` of its class `MixSTE`, and the bytes of all parameters, float32.
    """
    about, block = network.about, network.run.block
    student = jax.tree.map(np.asarray, network.trained.params["student"])
    sparse = "network" in student
    if sparse:
        student = {**student, **student["network"]}
        del student["network"]
        if block.input.upsampling == "learned":  # the first matrix is that of evaluation
            student["upsampler"] = {"matrix": student["upsampler"]["matrix"][0]}
    named = traverse_util.flatten_dict(student, sep="/")
    grid = KeyframeGrid(about.predicted, about.keyframe_stride, about.keyframe_offset)
    groups = grid.keyframes[:, None]
    if about.keyframe_selection == "correlated":
        groups = grid.groups
    sizes = {
        "frames": about.predicted,
        "joints": about.layout.num_joints,
        "root": about.layout.root,
        "depth": block.network.depth,
        "heads": block.network.heads,
        "groups": [[int(n) for n in group if 0 <= n < grid.frames] for group in groups],
        "upsampling": block.input.upsampling if sparse else "none",
        "ends": block.input.ends if sparse else "hold",
        "parameters": [[name, int(values.size)] for name, values in named.items()],
    }
    values = np.concatenate([values.ravel() for values in named.values()])
    return sizes, values.astype("<f4").tobytes()


def check(found: Ready, network: Restored, show: Show) -> None:
    """Compares the page's network with JAX, where Node.js is installed.

    Raises:
      UserError: they differ by more than rounding.
    """
    node = shutil.which("node")
    if node is None:
        show("note: Node.js is not installed, so the page's network was not compared with JAX")
        return
    about = network.about
    examples = pipeline.examples_of(network.run, about, network.path, "")
    compute = loading.computation(
        network.trained.method.predict, about, network.trained, network.mesh
    )
    wanted = compute(examples.compared)[0]
    poses, milliseconds = run_in_node(node, found, examples.compared)
    apart = float(np.abs(poses - wanted).max())
    if not apart <= checking.CLOSE[LIFTER]:
        raise UserError(
            f"--runtime plain: the page's network strays from JAX by up to {apart:.3g} m on "
            f"{examples.words}: the page was not written, so use --runtime litert."
        )
    show(
        f"checked on {examples.words}: largest difference from JAX {apart:.2g} m, "
        f"{milliseconds:.2f} ms a window in Node.js"
    )


def run_in_node(node: str, found: Ready, windows: np.ndarray) -> tuple[np.ndarray, float]:
    """Runs the page's network by Node.js.

    Args:
      node: the program.
      found: the network.
      windows: `[B, F, J, 2]`, screen units.

    Returns:
      The poses `[B, F, J, 3]`, metres, and the median time of a window in milliseconds.

    Raises:
      UserError: Node.js fails or hangs.
    """
    driver = (HERE / "run_in_node.js").read_text(encoding="utf-8")
    given = {"parts": found.parts, "windows": windows.reshape(len(windows), -1).tolist()}
    try:
        done = subprocess.run(
            [node, "--eval", f"{found.script}\n{driver}"],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=True,
        )
    except subprocess.SubprocessError as error:
        told = " ".join(str(getattr(error, "stderr", None) or error).split())[-300:]
        raise UserError(
            f"--runtime plain: Node.js cannot run the page's network ({told}): install Node.js 20 "
            "or later, or use --runtime litert."
        ) from error
    answer = json.loads(done.stdout)
    shape = (len(windows), found.about.predicted, found.about.layout.num_joints, 3)
    return np.asarray(answer["poses"], np.float32).reshape(shape), answer["milliseconds"]
