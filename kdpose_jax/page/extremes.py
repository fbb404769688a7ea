"""Packs a network's best and worst test examples, and shows them on the page of a run."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from etils import epath

from kdpose_jax.codecs.poses import denormalize_screen
from kdpose_jax.evaluate.extremes import Clip, Crop, Extremes
from kdpose_jax.page.document import text
from kdpose_jax.page.encoding import encode
from kdpose_jax.poses.predicted import Poses, PosesOfPerson
from kdpose_jax.skeletons import SKELETONS, Skeleton
from kdpose_jax.untrusted.documents import load_json

# Test sequences are in screen units, without their pictures' sizes.
_NOMINAL = (1000, 1000)
_JPEG_QUALITY = 85
_SHOWN_PX = 160  # side of a crop on the page
LEGEND = """<ul class="legend">
  <li class="left">left</li>
  <li class="right">right</li>
  <li class="middle">middle</li>
  <li class="truth">labelled</li>
</ul>"""

LICENCE = """<p class="facts">Whoever publishes this page publishes these test photographs, and the
licence of their data set (COCO, MPII) must allow it; results.md has the scores without them.</p>"""


def pack(extremes: Extremes, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Writes examples as plain values, which are kept beside the scores.

    Args:
      extremes: the examples.
      metadata: the data set's metadata. That of motion has `fps`.
    """

    def packed(example: Clip | Crop) -> dict[str, Any]:
        if isinstance(example, Clip):
            return _clip(example, extremes.skeleton, float(metadata["fps"]))
        return _crop(example)

    return {
        "skeleton": extremes.skeleton.name,
        "unit": extremes.unit,
        "by_joint": dict(extremes.by_joint),
        "worst": [packed(example) for example in extremes.worst],
        "best": [packed(example) for example in extremes.best],
    }


def read(path: epath.Path) -> dict[str, Any] | None:
    """Reads what `pack` made. A file that is not there, or is damaged, has no examples: None."""
    if not path.exists():
        return None
    try:
        packed = load_json(path)
        whole = packed["skeleton"] in SKELETONS and all(
            isinstance(one["error"], float) and ("scene" in one or "jpeg" in one)
            for one in [*packed["worst"], *packed["best"]]
        )
    except (ValueError, KeyError, TypeError):
        return None
    return packed if whole else None


def _clip(clip: Clip, skeleton: Skeleton, fps: float) -> dict[str, Any]:
    motion = clip.motion
    true = np.where(motion.counts[:, None, None], motion.target, np.nan).astype(np.float32)
    person = PosesOfPerson(
        name=motion.name,
        first_frame=0,
        pose_3d=motion.predicted.astype(np.float32),
        keypoints_2d=np.asarray(denormalize_screen(motion.keypoints_2d, *_NOMINAL), np.float32),
        scores=np.ones(motion.keypoints_2d.shape[:2], np.float32),
        seen=np.ones(motion.keypoints_2d.shape[:2], bool),
        valid=np.ones(len(motion.counts), bool),
    )
    poses = Poses(
        persons=(person,),
        joints=skeleton.joints,
        parents=skeleton.parents,
        root=skeleton.root,
        fps=fps,
        size=_NOMINAL,
        length=len(motion.counts),
        network="",
        fingerprint="",
        keyframe_stride=1,
        keyframe_offset=0,
        notes=(),
    )
    truth = dataclasses.replace(poses, persons=(dataclasses.replace(person, pose_3d=true),))
    scene, _ = encode(poses, {"truth": truth}, stride=1)
    parts = (motion.action, motion.name, f"from frame {clip.first_frame}")
    name = ", ".join(part for part in parts if part)
    return {"name": name, "error": clip.error, "scene": {**scene, "nominal": True}}


def _crop(crop: Crop) -> dict[str, Any]:
    written, data = cv2.imencode(
        ".jpg",
        np.ascontiguousarray(crop.picture[..., ::-1]),
        [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
    )
    assert written, "a crop of uint8 RGB can be written"
    return {
        "name": crop.name,
        "error": crop.error,
        "side": len(crop.picture),
        "jpeg": base64.b64encode(data.tobytes()).decode("ascii"),
        "predicted": np.round(crop.predicted, 2).tolist(),
        "target": [
            None if np.isnan(point).any() else np.round(point, 2).tolist() for point in crop.target
        ],
    }


def clips_in(packed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the clips of packed examples as `player.js` reads them; none for pictures."""
    examples = [*packed["worst"], *packed["best"]]
    return [
        {"name": one["name"], "about": {"clip": one["name"], "mpjpe_mm": one["error"]}, **one}
        for one in examples
        if "scene" in one
    ]


def buttons(packed: Mapping[str, Any], first: int) -> str:
    """Lists clips as buttons with a still, which open them in the player.

    Args:
      packed: the examples, as `pack` made them.
      first: number of their first clip among those of the page.
    """
    groups, number = [], first
    for heading, examples in (("Worst", packed["worst"]), ("Best", packed["best"])):
        items = []
        for example in examples:
            items.append(
                f'<li><button class="clip" type="button" data-clip="{number}">'
                f'<canvas aria-hidden="true"></canvas>'
                f"<span>{text(example['name'])}</span>"
                f"<b>{example['error']:.1f} {text(packed['unit'])}</b></button></li>"
            )
            number += 1
        groups.append(f'<h3>{heading}</h3>\n<ul class="clips">\n' + "\n".join(items) + "\n</ul>")
    return "\n".join(groups)


def pictures(packed: Mapping[str, Any]) -> str:
    """Shows crops with the joints that the network found, and thinner, the labelled ones."""
    skeleton = SKELETONS[packed["skeleton"]]
    groups = []
    for heading, examples in (("Worst", packed["worst"]), ("Best", packed["best"])):
        figures = [_figure(example, skeleton, packed["unit"]) for example in examples]
        groups.append(
            f'<h3>{heading}</h3>\n<div class="crops">\n' + "\n".join(figures) + "\n</div>"
        )
    return "\n".join(groups)


def _figure(example: Mapping[str, Any], skeleton: Skeleton, unit: str) -> str:
    side = int(example["side"])
    # Pixels are counted from the centre of the first one.
    drawn = _bones(example["target"], skeleton, side, "of-truth")
    drawn += _bones(example["predicted"], skeleton, side, "")
    about = f"{text(example['name'])}, <b>{example['error']:.1f} {text(unit)}</b>"
    return (
        f'<figure><svg viewBox="-0.5 -0.5 {side} {side}" role="img" '
        f'aria-label="{text(example["name"])}"><image x="-0.5" y="-0.5" width="{side}" '
        f'height="{side}" href="data:image/jpeg;base64,{text(example["jpeg"])}"/>{drawn}</svg>'
        f"<figcaption>{about}</figcaption></figure>"
    )


def _bones(
    joints: Sequence[Sequence[float] | None], skeleton: Skeleton, side: int, kind: str
) -> str:
    width = side / _SHOWN_PX * (1.2 if kind else 2.4)
    lines = []
    for parent, child in skeleton.bones:
        start, end = joints[parent], joints[child]
        if start is None or end is None:
            continue
        colour = kind or f"of-{_side(skeleton.joints[child])}"
        lines.append(
            f'<line class="{colour}" stroke-width="{width:.3g}" x1="{start[0]:.2f}" '
            f'y1="{start[1]:.2f}" x2="{end[0]:.2f}" y2="{end[1]:.2f}"/>'
        )
    return "".join(lines)


def _side(joint: str) -> str:
    side = joint.partition("_")[0]
    return side if side in ("left", "right") else "middle"
