"""Generates people: joints and painted solids from a pose, a build and clothes.

All of it is our own design.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_prep import motion
from data_prep.people.outfits import Outfit, make_outfit
from data_prep.people.painting import UP, Canvas, Material

# The painted parts of a person. A part's label is its index.
PARTS = (
    "head", "neck", "chest", "belly", "pelvis", "baggage",
    "left_upper_arm", "left_forearm", "left_hand", "left_thigh", "left_shank", "left_foot",
    "right_upper_arm", "right_forearm", "right_hand", "right_thigh", "right_shank", "right_foot",
)  # fmt: skip
_TRUNK = {
    "pelvis": ("pelvis", "belly", "left_thigh", "right_thigh"),
    "thorax": ("chest", "neck", "head"),
    "upper_neck": ("neck", "head", "chest"),
    "head_top": ("head",),
    "nose": ("head",),
    "left_eye": ("head",),
    "right_eye": ("head",),
    "left_ear": ("head",),
    "right_ear": ("head",),
}
_LIMBS = {
    "shoulder": ("upper_arm", "chest"),
    "elbow": ("upper_arm", "forearm"),
    "wrist": ("forearm", "hand"),
    "hip": ("thigh", "pelvis"),
    "knee": ("thigh", "shank"),
    "ankle": ("shank", "foot"),
}
# Joint -> the parts under which it lies. It is seen if one of them is seen there.
JOINT_PARTS = _TRUNK | {
    f"{side}_{joint}": tuple(
        f"{side}_{part}" if f"{side}_{part}" in PARTS else part for part in parts
    )
    for side in ("left", "right")
    for joint, parts in _LIMBS.items()
}
# Joint -> the joint in `motion.generate`'s poses (H36M_17) at the same place.
H36M_INDEX = {
    "pelvis": 0,
    "right_hip": 1,
    "right_knee": 2,
    "right_ankle": 3,
    "left_hip": 4,
    "left_knee": 5,
    "left_ankle": 6,
    "thorax": 8,
    "left_shoulder": 11,
    "left_elbow": 12,
    "left_wrist": 13,
    "right_shoulder": 14,
    "right_elbow": 15,
    "right_wrist": 16,
}
# Half axes of the head (left, up, forward), metres, and points on its surface, in half axes.
HEAD = np.asarray([0.076, 0.118, 0.098])
FACE = {
    "nose": (0.0, -0.12, 1.12),
    "left_eye": (0.4, 0.12, 0.88),
    "right_eye": (-0.4, 0.12, 0.88),
    "left_ear": (0.98, -0.05, -0.02),
    "right_ear": (-0.98, -0.05, -0.02),
    "head_top": (0.0, 0.97, 0.0),
}


@dataclasses.dataclass(frozen=True)
class Body:
    """Describes a posed person.

    Attributes:
      joints: name -> `[3]` metres, world, floor at 0.
      frames: "chest", "pelvis", "head" -> `[3, 3]` rows left, up and forward.
      outfit: what the person wears.
    """

    joints: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]
    outfit: Outfit


def make_body(rng: np.random.Generator, place: np.ndarray) -> Body:
    """Makes a random person in a random pose at `place`, `[2]` metres on the floor.

    The person stands, walks or sits.
    """
    action = motion.ACTIONS[rng.choice(list(motion.ACTIONS))]
    if rng.random() < 0.5:  # draws arms of all kinds, not only the action's
        action = dataclasses.replace(
            action,
            raise_arms=rng.uniform(-0.2, 2.4),
            arm_motion=rng.uniform(0.2, 0.9),
            elbow=rng.uniform(0.1, 1.8),
            lean=rng.uniform(-0.1, 0.6),
            trunk_motion=rng.uniform(0.05, 0.3),
        )
    pose = motion.generate(rng, action, motion.body(rng), 2)[0]
    pose[:, :2] += place - pose[0, :2]
    joints = {name: pose[index] for name, index in H36M_INDEX.items()}
    chest = _frame(joints["left_shoulder"] - joints["right_shoulder"], pose[8] - pose[7])
    pelvis = _frame(joints["left_hip"] - joints["right_hip"], pose[7] - pose[0])
    head = _frame(chest[0], pose[10] - pose[9])
    turn, nod = np.clip(rng.normal(0, 0.45), -1.1, 1.1), rng.normal(0, 0.15)
    left = np.cos(turn) * head[0] - np.sin(turn) * head[2]
    forward = np.cross(left, head[1])
    head = _frame(left, np.cos(nod) * head[1] + np.sin(nod) * forward)
    joints["upper_neck"] = pose[8] + 0.095 * (pose[9] - pose[8]) / np.linalg.norm(pose[9] - pose[8])
    middle = joints["upper_neck"] + 0.1 * head[1] + 0.02 * head[2]
    joints |= {name: middle + (np.asarray(point) * HEAD) @ head for name, point in FACE.items()}
    return Body(joints, {"chest": chest, "pelvis": pelvis, "head": head}, make_outfit(rng, HEAD))


def paint_body(canvas: Canvas, body: Body, owner: int) -> None:
    """Paints a person; part p has the label owner * 32 + 1 + p, see `seen_part`."""
    painter = _Painter(canvas, body, owner)
    _paint_trunk(painter)
    _paint_head(painter)
    for side in ("left", "right"):
        _paint_arm(painter, side)
        _paint_leg(painter, side)


def seen_part(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits labels into (owner, index in PARTS); both are -1 if no person is seen."""
    person = label > 0
    return np.where(person, (label - 1) // 32, -1), np.where(person, (label - 1) % 32, -1)


@dataclasses.dataclass(frozen=True)
class _Painter:
    """Paints the solids of one person.

    Attributes:
      canvas: takes them.
      body: the person.
      owner: the person's number on the canvas.
    """

    canvas: Canvas
    body: Body
    owner: int

    def limb(
        self,
        part: str,
        start: np.ndarray,
        end: np.ndarray,
        radii: tuple[float, float],
        frame: str,
        material: Material,
    ) -> None:
        """Paints a capsule: `start` and `end` `[3]`, metres; radii of a body of medium build."""
        self.canvas.capsule(
            start,
            end,
            np.asarray(radii) * self.body.outfit.build,
            self.body.frames[frame][[0, 2]],
            material,
            self._label(part),
            self.owner,
        )

    def lump(
        self,
        part: str,
        center: np.ndarray,
        frame: str,
        sizes: Sequence[float] | np.ndarray,
        material: Material,
        keep: Material | None = None,
    ) -> None:
        """Paints an ellipsoid: `center` `[3]` and half axes left, up and forward, metres."""
        self.canvas.ellipsoid(
            center,
            self.body.frames[frame],
            np.asarray(sizes),
            material,
            self._label(part),
            self.owner,
            keep,
        )

    def _label(self, part: str) -> int:
        return self.owner * 32 + 1 + PARTS.index(part)


def _paint_trunk(painter: _Painter) -> None:
    joints, frames, outfit = painter.body.joints, painter.body.frames, painter.body.outfit
    thorax, pelvis, wide = joints["thorax"], joints["pelvis"], outfit.build
    middle = 0.45 * pelvis + 0.55 * thorax + 0.02 * frames["chest"][2]
    painter.lump(
        "chest",
        thorax - 0.17 * frames["chest"][1],
        "chest",
        (0.165 * wide, 0.2, 0.115 * wide),
        outfit.chest,
    )
    painter.lump(
        "belly",
        middle - 0.03 * frames["chest"][1],
        "chest",
        (0.145 * wide, 0.19, 0.112 * wide),
        outfit.belly,
    )
    painter.lump("pelvis", pelvis, "pelvis", (0.16 * wide, 0.13, 0.118 * wide), outfit.trousers)
    for side in ("left", "right"):  # shoulders slope from the neck
        painter.limb(
            "chest",
            thorax - 0.035 * frames["chest"][1],
            joints[f"{side}_shoulder"],
            (0.07, 0.06),
            "chest",
            outfit.shirt,
        )
        hip, rib = (
            joints[f"{side}_hip"],
            joints[f"{side}_shoulder"] * 0.7 + thorax * 0.3 - 0.16 * frames["chest"][1],
        )
        painter.limb(
            "belly",
            rib,
            hip * 0.6 + pelvis * 0.4 + 0.08 * frames["pelvis"][1],
            (0.082, 0.088),
            "chest",
            outfit.shirt,
        )
    if outfit.baggage is not None:
        place = thorax - 0.2 * frames["chest"][1] - 0.17 * wide * frames["chest"][2]
        painter.lump("baggage", place, "chest", (0.15, 0.22, 0.1), outfit.baggage)


def _paint_head(painter: _Painter) -> None:
    joints, frames, outfit = painter.body.joints, painter.body.frames, painter.body.outfit
    head = frames["head"]
    middle = joints["upper_neck"] + 0.1 * head[1] + 0.02 * head[2]
    painter.limb(
        "neck",
        joints["thorax"] - 0.02 * frames["chest"][1],
        joints["upper_neck"] + 0.03 * head[1],
        (0.055, 0.05),
        "chest",
        outfit.skin,
    )
    painter.lump("head", middle, "head", HEAD, outfit.face)
    painter.lump(
        "head",
        middle + (np.asarray([0, -0.12, 1.0]) * HEAD) @ head,
        "head",
        (0.014, 0.024, 0.02),
        outfit.skin,
    )
    for side in (1, -1):
        painter.lump(
            "head",
            middle + (np.asarray([side, -0.05, -0.02]) * HEAD) @ head,
            "head",
            (0.012, 0.03, 0.02),
            outfit.skin,
        )
    if outfit.hair_style == "bald":
        return
    cover = outfit.shoes if outfit.hair_style == "cap" else outfit.hair
    line = 0.3 if outfit.hair_style == "cap" else 0.55

    def grown(place: np.ndarray) -> np.ndarray:
        return place[..., 1] > np.where(
            place[..., 2] > 0.15, line, np.where(np.abs(place[..., 0]) > 0.7, 0.1, -0.6)
        )

    painter.lump(
        "head", middle + 0.004 * head[1] - 0.006 * head[2], "head", HEAD * 1.09, cover, grown
    )
    if outfit.hair_style == "cap":
        painter.lump(
            "head",
            middle + (np.asarray([0, 0.42, 1.0]) * HEAD) @ head,
            "head",
            (0.07, 0.014, 0.07),
            cover,
        )
    if outfit.hair_style == "long":
        painter.lump(
            "head",
            middle - 0.09 * head[1] - 0.055 * head[2],
            "head",
            (0.088, 0.16, 0.06),
            outfit.hair,
        )


def _paint_arm(painter: _Painter, side: str) -> None:
    joints, outfit = painter.body.joints, painter.body.outfit
    shoulder, elbow, wrist = (joints[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    hand = wrist + 0.1 * (wrist - elbow) / np.linalg.norm(wrist - elbow)
    painter.limb(f"{side}_hand", wrist, hand, (0.034, 0.036), "chest", outfit.skin)
    if outfit.sleeves > 1:
        painter.limb(f"{side}_upper_arm", shoulder, elbow, (0.062, 0.05), "chest", outfit.shirt)
        painter.limb(f"{side}_forearm", elbow, wrist, (0.05, 0.037), "chest", outfit.shirt)
        return
    hem = shoulder + outfit.sleeves * (elbow - shoulder)
    painter.limb(f"{side}_upper_arm", shoulder, hem, (0.062, 0.054), "chest", outfit.shirt)
    painter.limb(f"{side}_upper_arm", hem, elbow, (0.046, 0.04), "chest", outfit.skin)
    painter.limb(f"{side}_forearm", elbow, wrist, (0.041, 0.029), "chest", outfit.skin)


def _paint_leg(painter: _Painter, side: str) -> None:
    joints, frames, outfit = painter.body.joints, painter.body.frames, painter.body.outfit
    hip, knee, ankle = (joints[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
    calf = ankle + 0.66 * (knee - ankle)
    if outfit.legs > 1:
        painter.limb(f"{side}_thigh", hip, knee, (0.097, 0.066), "pelvis", outfit.trousers)
        painter.limb(f"{side}_shank", knee, ankle, (0.066, 0.053), "pelvis", outfit.trousers)
    else:
        hem = hip + outfit.legs * (knee - hip)
        painter.limb(f"{side}_thigh", hip, hem, (0.097, 0.074), "pelvis", outfit.trousers)
        painter.limb(f"{side}_thigh", hem, knee, (0.062, 0.056), "pelvis", outfit.skin)
        painter.limb(f"{side}_shank", knee, calf, (0.055, 0.054), "pelvis", outfit.skin)
        painter.limb(f"{side}_shank", calf, ankle, (0.054, 0.038), "pelvis", outfit.skin)
    # The foot points forward, at a right angle to the shank.
    shank = (ankle - knee) / np.linalg.norm(ankle - knee)
    ahead = frames["pelvis"][2] - (frames["pelvis"][2] @ shank) * shank + 0.15 * shank
    ahead /= np.linalg.norm(ahead)
    heel = ankle + 0.045 * shank - 0.03 * ahead
    painter.limb(f"{side}_foot", heel, heel + 0.17 * ahead, (0.042, 0.034), "pelvis", outfit.shoes)
    painter.limb(f"{side}_foot", ankle, heel, (0.042, 0.042), "pelvis", outfit.shoes)


def _frame(left: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Makes the unit rows left, up, forward; `left` is first made orthogonal to `up`."""
    up = up / np.linalg.norm(up)
    left = left - (left @ up) * up
    left = left / np.linalg.norm(left) if np.linalg.norm(left) > 1e-6 else np.cross(up, UP)
    return np.stack([left, up, np.cross(left, up)])
