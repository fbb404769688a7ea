"""Maps a motion file's joints to Human3.6M's 17, by tables in JSON.

A table is `{"NAME": {"metres": 0.01, "up": "y", "joints": {"hip": ..., ...}}, ...}`. `metres` is
the length of the file's unit, or 0 if files state it. `up` is the file's axis that points up, "y"
or "z". Each of the 17 joints (`skeletons.H36M_17.joints`) has one of three forms:

- "JOINT": a joint in the file (BVH: an End Site is "<joint>_End"; ASF: the end of the bone with
this name);
- ["JOINT", "JOINT"]: the middle between the two;
- {"joint": "JOINT", "offset": [x, y, z]}: a point fixed to a joint, in the joint's own axes and the
file's unit.

A prefix that all these names have in the file (mixamorig:Hips, Character1_Hips) is dropped. So is
text before a colon (A:Hips, A:B:Spine), unless the rest then occurs twice.
"""

import dataclasses
import os
from typing import Any

import numpy as np

from data_prep.mocap.asf_amc import INCH
from data_prep.mocap.clip import Clip
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.untrusted.documents import load_json

SHIPPED = os.path.join(os.path.dirname(__file__), "skeletons.json")
# Length of a person's leg from hip to ankle, metres. Other lengths mean another unit.
LEGS = (0.45, 1.35)
# Turns the file's axes into x, y on the floor and z up.
UPWARDS = {"y": [[0, 0, 1], [1, 0, 0], [0, 1, 0]], "z": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}
NAMES_SHOWN = 60
FARTHEST = 1e6  # limit for an offset, in any unit
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": INCH}


@dataclasses.dataclass(frozen=True)
class JointMap:
    """Holds a table's entry.

    `joints` has (file's joints to average, offset `[3]` or None) in the order of H36M_17.
    """

    name: str
    metres: float
    up: str
    joints: tuple[tuple[tuple[str, ...], tuple[float, ...] | None], ...]

    @property
    def needed(self) -> set[str]:
        return {name for names, _ in self.joints for name in names}


def read_maps(path: str) -> tuple[JointMap, ...]:
    """Reads a table.

    Raises:
      UserError: the file is absent, or has another layout.
    """
    try:
        table = load_json(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Joint map '{path}' cannot be read as JSON ({error}): data_prep/mocap/skeletons.py "
            f"has its layout."
        ) from error
    entries = table.items() if isinstance(table, dict) else ()
    maps = tuple(
        _parse(name, entry, f"Joint map '{path}', '{name}'")
        for name, entry in entries
        if not isinstance(entry, str)
    )
    if not maps:
        raise UserError(
            f"Joint map '{path}' describes no skeleton: data_prep/mocap/skeletons.py has its "
            f"layout."
        )
    return maps


def _parse(name: str, entry: Any, place: str) -> JointMap:
    """Reads one skeleton in a table."""
    remedy = "data_prep/mocap/skeletons.py has the layout"
    keys = ("metres", "up", "joints")
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise UserError(f"{place} lacks {missing[0]}: {remedy}.")
    metres, up, joints = (entry[key] for key in keys)
    if isinstance(metres, bool) or not isinstance(metres, (int, float)) or not 0 <= metres < 1000:
        raise UserError(
            f"{place}: metres is {metres!r} where a length of the file's unit must be, or 0: "
            f"{remedy}."
        )
    if not isinstance(up, str) or up not in UPWARDS:
        raise UserError(f"{place}: up is {up!r} where 'y' or 'z' must be: {remedy}.")
    if not isinstance(joints, dict) or set(joints) != set(H36M_17.joints):
        different = sorted(set(joints if isinstance(joints, dict) else ()) ^ set(H36M_17.joints))
        raise UserError(
            f"{place}: joints must be {', '.join(H36M_17.joints)}, all and no others "
            f"({different[0]} is not right): {remedy}."
        )
    parsed = tuple(
        _parse_joint(joints[joint], f"{place}, joint '{joint}'", remedy) for joint in H36M_17.joints
    )
    return JointMap(name, float(metres), up, parsed)


def _parse_joint(
    value: Any, place: str, remedy: str
) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
    """Reads a joint's entry, in any of its three forms, as names and offset."""
    offset = None
    if isinstance(value, dict) and set(value) == {"joint", "offset"}:
        value, offset = value["joint"], value["offset"]
        numbers = (
            isinstance(offset, list)
            and len(offset) == 3
            and all(type(one) in (int, float) and abs(one) < FARTHEST for one in offset)
        )
        offset = tuple(map(float, offset)) if numbers else ()
    names = value if isinstance(value, list) and offset is None else [value]
    if not names or not all(isinstance(name, str) and name for name in names) or offset == ():
        raise UserError(
            f"{place} is neither a name, a list of names, nor a joint with an offset of three "
            f"numbers: {remedy}."
        )
    return tuple(names), offset


def choose(path: str, clip: Clip, maps: tuple[JointMap, ...]) -> JointMap:
    """Returns the first map whose joints a file has.

    Raises:
      UserError: no map fits, or the file has the joints more than once. The message names the
        file's joints.
    """
    for one in maps:
        fitting = _columns(clip, one)
        if len(fitting) > 1:
            anchor = min(one.needed)
            twice = [name for name in clip.joints if name.endswith(anchor)]
            raise UserError(
                f"'{path}' has the joints of '{one.name}' more than once "
                f"({', '.join(twice[:NAMES_SHOWN])}): leave one figure in the file."
            )
        if fitting:
            return one
    shown = ", ".join(list(clip.joints)[:NAMES_SHOWN]) + (
        " ..." if len(clip.joints) > NAMES_SHOWN else ""
    )
    raise UserError(
        f"'{path}' has a skeleton that none of {', '.join(one.name for one in maps)} fits, with "
        f"the joints {shown}: say with --map FILE which of them are the 17 (layout: "
        "data_prep/mocap/skeletons.py)."
    )


def to_h36m(path: str, clip: Clip, joint_map: JointMap, metres: float, up: str) -> np.ndarray:
    """Computes a clip's 17 joints.

    Args:
      path: names the file in messages.
      clip: the file's motion.
      joint_map: the map for its skeleton.
      metres: length of the file's unit; 0 for what the file or else the map says.
      up: the file's axis that points up; "" for what the map says.

    Returns:
      `[F, 17, 3]`, metres, z up; NaN in faulty frames.

    Raises:
      UserError: no unit is known, or the legs do not have human length.
    """
    scale = metres or clip.metres or joint_map.metres
    if not scale:
        raise UserError(
            f"Neither '{path}' nor the joint map '{joint_map.name}' says the unit of length: give "
            f"--unit, for example cm."
        )
    columns = _columns(clip, joint_map)[0]
    pose = np.empty((len(clip.positions), H36M_17.num_joints, 3))
    for joint, (names, offset) in enumerate(joint_map.joints):
        pose[:, joint] = np.mean([clip.positions[:, columns[name]] for name in names], axis=0)
        if offset is not None:
            pose[:, joint] += clip.rotations[columns[names[0]]].apply(np.asarray(offset))
    pose = pose @ np.transpose(UPWARDS[up or joint_map.up]) * scale
    bones = [
        np.linalg.norm(pose[:, child] - pose[:, H36M_17.parents[child]], axis=-1)
        for child in (2, 3, 5, 6)
    ]
    whole = np.isfinite(np.sum(bones, axis=0))
    leg = float(np.median(np.sum(bones, axis=0)[whole]) / 2) if whole.any() else LEGS[0]
    if not LEGS[0] <= leg <= LEGS[1]:
        fitting = [
            name for name, length in UNITS.items() if LEGS[0] <= leg / scale * length <= LEGS[1]
        ]
        hint = (
            f" ({' or '.join(fitting)} would make them {leg / scale * UNITS[fitting[0]]:.2g} m)"
            if fitting
            else ""
        )
        raise UserError(
            f"'{path}' has legs of {leg:.3g} m where a unit of {scale:g} m is taken: give the "
            f"file's unit with --unit{hint}."
        )
    return pose


def _columns(clip: Clip, joint_map: JointMap) -> list[dict[str, int]]:
    """Finds the columns of a map's joints in a file, by name.

    There is no result if the file lacks a joint, and there are several if it has them more than
    once. All names follow the same prefix, which may be empty, or each follows a colon.
    """
    needed, anchor = joint_map.needed, min(joint_map.needed)
    prefixes = [name.removesuffix(anchor) for name in clip.joints if name.endswith(anchor)]
    found = [
        {name: clip.joints[prefix + name] for name in needed}
        for prefix in prefixes
        if all(prefix + name in clip.joints for name in needed)
    ]
    if found:
        return found
    bare: dict[str, list[int]] = {}
    for name, column in clip.joints.items():
        bare.setdefault(name.rsplit(":", 1)[-1], []).append(column)
    if not needed <= bare.keys():
        return []
    copies = max(len(bare[name]) for name in needed)
    return [
        {name: bare[name][min(copy, len(bare[name]) - 1)] for name in needed}
        for copy in range(copies)
    ]
