"""Writes the model card: what an exported network is, and how to call it in ten lines."""

from collections.abc import Mapping
from typing import Any

from kdpose_jax.export import checking
from kdpose_jax.export.formats import table
from kdpose_jax.predict.description import LIFTER, Description

INSTALLS = {
    "stablehlo": "pip install jax flatbuffers",
    "saved_model": "pip install tensorflow",
    "onnx": "pip install onnxruntime",
    "litert": "pip install ai-edge-litert",
}


def card_of(about: Description, sidecar: Mapping[str, Any]) -> str:
    """Makes the text of a card.

    Args:
      about: the network's description.
      sidecar: what the .json has.
    """
    kind = "lifts 2D keypoints to 3D poses"
    if about.kind != LIFTER:
        kind = f"finds joints in crops of {about.side} x {about.side} pixels"
    training, versions = sidecar["training"], sidecar["versions"]
    parts = [
        f"# {about.name}",
        f"A network that {kind}: {sidecar['parameters']:,} parameters, fingerprint "
        f"`{about.fingerprint}`. Written by kdpose_jax {versions['kdpose_jax']} with jax "
        f"{versions['jax']}.",
        "## Files",
        files_table(about, sidecar),
        sidecar["speed"].get("words", ""),
        "## Input and output",
        *(value_line(value) for value in (sidecar["input"], *sidecar["outputs"])),
        sidecar["keyframes"],
        window_words(about),
        f"Joints of `{about.skeleton}`, each with its number and its parent's:",
        ", ".join(
            f"{number} {name} ({parent})"
            for number, (name, parent) in enumerate(
                zip(sidecar["joints"], sidecar["parents"], strict=True)
            )
        )
        + ".",
        "## Training",
        training_words(training),
        sidecar["licence"],
        "## How to call it",
        "With this program, any of the files and any length of video:",
        code(with_this_program(about, next(iter(sidecar["artifacts"])))),
    ]
    shown = set()
    for file, entry in sidecar["artifacts"].items():
        module = table.FORMATS[entry["format"]].module
        if module not in shown:
            shown.add(module)
            parts += [f"Without it, `{file}` (`{INSTALLS[module]}`):"]
            parts.append(code(CALLS[module](about, file)))
    return "\n\n".join(part for part in parts if part) + "\n"


def code(lines: list[str]) -> str:
    """Puts lines of Python into a block."""
    return "\n".join(["```python", *lines, "```"])


def value_line(value: Mapping[str, Any]) -> str:
    """Describes one input or output."""
    shape = ", ".join(map(str, value["shape"]))
    return f"- `{value['name']}` `[{shape}]` {value['type']}: {value['unit']}."


def files_table(about: Description, sidecar: Mapping[str, Any]) -> str:
    """Makes the table of files, with what was measured on each."""
    metric = sidecar["speed"].get("metric")
    head = ["file", "format", "kB", "largest difference", "ms"]
    rows = []
    for file, entry in sidecar["artifacts"].items():
        row = [f"`{file}`", table.FORMATS[entry["format"]].words, f"{entry['bytes'] / 1000:,.0f}"]
        apart = checking.distance(entry["largest_difference"], about)
        row += [apart, f"{entry['milliseconds']:.2f}"]
        rows.append([*row, *([number(entry["score"])] if metric else [])])
    for name in ("network", "teacher"):
        if name in sidecar["speed"]:
            entry = sidecar["speed"][name]
            row = [f"the {name} itself", "JAX, float32", "", "", f"{entry['milliseconds']:.2f}"]
            rows.append([*row, *([number(entry["score"])] if metric else [])])
    head += [metric] if metric else []
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None) -> str:
    """Writes a score."""
    return "" if value is None else f"{value:.4g}"


def window_words(about: Description) -> str:
    """Says how a video becomes windows."""
    if about.kind != LIFTER:
        return ""
    if about.before + about.after:
        return (
            f"A call predicts {about.predicted} frame(s) and also reads {about.before} before and "
            f"{about.after} after them. At the ends of a video the first and the last frame are "
            "repeated."
        )
    return (
        f"A call predicts all {about.window} frames of a window. Windows of a video lie end to "
        "end, and the last one ends with the video. A shorter video repeats its last frame. The "
        "StableHLO file does so by itself."
    )


def training_words(training: Mapping[str, Any]) -> str:
    """Says where the network comes from, with the scores that its run reported."""
    data = training["data"]
    words = f"Method `{training['method']}`, seed {training['seed']}, data `{data['name']}`"
    if "keypoints" in data:
        words += f" (2D keypoints: {data['keypoints']})"
    words += f". Checkpoint: {training['weights']}."
    if training["reported"] is None:
        return words
    scores = ", ".join(
        f"{name} {value:.4g}"
        for name, value in training["reported"]["scores"].items()
        if isinstance(value, int | float)
    )
    generated = " Generated data: these numbers say nothing about any real data set."
    return (
        f"{words} Its run reported: {scores}. {training['reported']['conditions'] or ''}"
        f"{generated if data.get('generated') else ''}"
    )


def with_this_program(about: Description, file: str) -> list[str]:
    """Lines that call a file through `kdpose_jax.load`."""
    lines = ["import kdpose_jax", f'network = kdpose_jax.load("{file}")']
    if about.kind == LIFTER:
        joints = about.layout.num_joints
        return [
            *lines,
            f"pose_3d = network(keypoints_2d, size=(1920, 1080))  # [frames, {joints}, 2] pixels",
        ]
    return [*lines, "joints, scores = network(picture, boxes=boxes)  # uint8 RGB; x, y, w, h"]


def _prepared(about: Description) -> list[str]:
    """Lines that make the input."""
    if about.kind == LIFTER:
        return [
            "import numpy as np",
            f"# pixels: [{about.window}, {about.layout.num_joints}, 2], of a video of this size",
            "width, height = 1920, 1080",
            "points = (pixels / width * 2 - [1, height / width])[None].astype(np.float32)",
        ]
    return ["import numpy as np", "points = crop[None].astype(np.float32)  # RGB, 0 to 255"]


def _stablehlo(about: Description, file: str) -> list[str]:
    lines = _prepared(about)
    if about.kind == LIFTER:
        lines[1] = f"# pixels: [frames, {about.layout.num_joints}, 2], of a video of this size"
        if about.before + about.after:
            pad = f"[(0, 0), ({about.before}, {about.after}), (0, 0), (0, 0)]"
            lines.append(f'points = np.pad(points, {pad}, mode="edge")')
    return [
        "from jax import export",
        *lines,
        f'call = export.deserialize(bytearray(open("{file}", "rb").read())).call',
        f"outputs = call({about.input_name}=points)  # {', '.join(about.output_names)}",
    ]


def _onnx(about: Description, file: str) -> list[str]:
    return [
        "import onnxruntime",
        *_prepared(about),
        f'session = onnxruntime.InferenceSession("{file}")',
        f"{', '.join(about.output_names)}{',' if len(about.output_names) == 1 else ''} = "
        f'session.run(None, {{"{about.input_name}": points}})',
    ]


def _litert(about: Description, file: str) -> list[str]:
    return [
        "from ai_edge_litert.interpreter import Interpreter",
        *_prepared(about),
        f'runner = Interpreter("{file}").get_signature_runner("serving_default")',
        f"outputs = runner({about.input_name}=points)  # {', '.join(about.output_names)}",
    ]


def _saved_model(about: Description, file: str) -> list[str]:
    return [
        "import tensorflow as tf",
        *_prepared(about),
        f'call = tf.saved_model.load("{file}").signatures["serving_default"]',
        f"outputs = call({about.input_name}=tf.constant(points))"
        f"  # {', '.join(about.output_names)}",
    ]


CALLS = {
    "stablehlo": _stablehlo,
    "onnx": _onnx,
    "litert": _litert,
    "saved_model": _saved_model,
}
