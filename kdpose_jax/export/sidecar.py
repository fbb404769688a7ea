"""Makes the .json beside exported files: everything that a program must know to call them."""

import dataclasses
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

import kdpose_jax
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import cost
from kdpose_jax.experiment import configs, stored_runs, weights
from kdpose_jax.experiment.existing import Trained
from kdpose_jax.experiment.run import Run
from kdpose_jax.export.examples import Examples
from kdpose_jax.folders import WorkFolder
from kdpose_jax.predict.artifacts import SIDECAR, VERSION
from kdpose_jax.predict.description import LIFTER, Description
from kdpose_jax.report import results


def sidecar_of(
    run: Run, checkpoint: str, about: Description, trained: Trained, examples: Examples
) -> dict[str, Any]:
    """Collects what is known of a network.

    Args:
      run: the network's run.
      checkpoint: its folder or its file of weights.
      about: its description.
      trained: its variables, which are counted.
      examples: what its files are checked on.

    Returns:
      Plain values. `artifacts` and `speed` are still empty.
    """
    skeleton = about.layout
    origin = results.fingerprint("float32", {})
    return {
        "kind": SIDECAR,
        "version": VERSION,
        "network": vars(about),
        "joints": list(skeleton.joints),
        "parents": list(skeleton.parents),
        "root": skeleton.root,
        "input": input_of(about),
        "outputs": outputs_of(about),
        "keyframes": keyframe_rule(about),
        "parameters": cost.count_parameters(trained.params),
        "macs_per_example": dataclasses.asdict(macs_of(about, trained)),
        "training": training_of(run, checkpoint, examples),
        "licence": licence_note(run, examples),
        "versions": {"kdpose_jax": kdpose_jax.__version__, "commit": origin["commit"]}
        | origin["versions"],
        "run": {
            "name": run.name,
            "stage": run.stage,
            "method": run.method_name,
            "config": without_paths(run.config),
        },
        "artifacts": {},
        "speed": {},
    }


def macs_of(about: Description, trained: Trained) -> cost.Macs:
    """Counts the multiply-adds of one example."""
    kind = np.float32 if about.kind == LIFTER else np.uint8
    example = {about.input_name: jax.ShapeDtypeStruct((1, *about.input_shape), kind)}
    return cost.count_macs(trained.method.predict, trained.params, trained.model_state, example)


def without_paths(config: ConfigDict) -> dict[str, Any]:
    """Blanks the paths in a config, which nobody else has and which may name their user."""
    values = configs.as_dict(config)
    configs.change_paths(values, lambda path: "")
    return values


def input_of(about: Description) -> dict[str, Any]:
    """Describes the input of exported files, but for StableHLO's videos."""
    words = (
        "RGB from 0 to 255, the square crop of one person; normalisation is inside"
        if about.kind != LIFTER
        else "screen units: x * 2 / width - 1, and y * 2 / width - height / width"
    )
    return {
        "name": about.input_name,
        "shape": ["batch", *about.input_shape],
        "type": "float32",
        "unit": words,
    }


def outputs_of(about: Description) -> list[dict[str, Any]]:
    """Describes the outputs of exported files."""
    joints = about.layout.num_joints
    if about.kind == LIFTER:
        root = about.layout.joints[about.layout.root]
        words = f"metres, relative to the {root}; camera's axes: x right, y down, z away from it"
        shape = ["batch", about.predicted, joints, 3]
        return [{"name": "pose_3d", "shape": shape, "type": "float32", "unit": words}]
    return [
        {
            "name": "joints",
            "shape": ["batch", joints, 2],
            "type": "float32",
            "unit": "pixels of the crop, from 0 at the centre of the first pixel",
        },
        {
            "name": "scores",
            "shape": ["batch", joints],
            "type": "float32",
            "unit": "how certain the network is",
        },
    ]


def keyframe_rule(about: Description) -> str:
    """Says in a sentence which frames a network reads."""
    if about.kind != LIFTER:
        return "The network reads one picture at a time."
    stride, offset = about.keyframe_stride, about.keyframe_offset
    if stride == 1:
        return f"The network reads every frame of its window of {about.window}."
    if about.keyframe_selection == "correlated":
        return (
            f"The network reads one frame in {stride}, which it chooses by itself, and recovers "
            "the others."
        )
    return (
        f"The network reads the frames {offset}, {offset + stride}, {offset + 2 * stride}, ... of "
        f"its window of {about.window}, one in {stride}, and recovers the others."
    )


def training_of(run: Run, checkpoint: str, examples: Examples) -> dict[str, Any]:
    """Says where the network comes from, and which scores its run reported."""
    metadata = examples.metadata
    data: dict[str, Any] = {"name": run.config.data.converter.name}
    if metadata is not None:
        data["name"] = metadata["settings"].get("name", data["name"])
        data |= {"keypoints": metadata["keypoints"], "generated": metadata["generated"]}
        data |= {"fps": metadata["fps"]} if "fps" in metadata else {}
    return {
        "data": data,
        "method": run.method_name,
        "seed": run.config.seed,
        "weights": stored_runs.which_checkpoint(checkpoint),
        "reported": reported_scores(run, checkpoint),
    }


def reported_scores(run: Run, checkpoint: str) -> dict[str, Any] | None:
    """Returns the network's row in its run's results.json; None if there is none."""
    found = results_beside(checkpoint)
    if found is None:
        return None
    record = found["networks"].get(run.name)
    if not isinstance(record, dict) or not isinstance(record.get("table"), dict):
        return None
    return {"scores": record["table"], "conditions": found["fingerprint"].get("conditions")}


def results_beside(checkpoint: str) -> dict[str, Any] | None:
    """Reads the results.json of a network's run; None if it is not there or is damaged."""
    if weights.is_weight_file(checkpoint):
        return None
    path = WorkFolder(epath.Path(stored_runs.run_folder(checkpoint)).parent).results
    try:
        return results.read_results(path)
    except UserError:
        return None


def licence_note(run: Run, examples: Examples) -> str:
    """Says in a sentence what the licence of the training data may mean."""
    name = run.config.data.converter.name
    if examples.metadata is not None and examples.metadata["generated"]:
        return "The network was trained on generated data, which nobody has rights to."
    return (
        f"The network was trained on the data that `{name}` converts. The licence of these data "
        "may restrict what may be done with the network: read it before you pass the files on."
    )
