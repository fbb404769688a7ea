"""Writes BVH and ASF/AMC files for known skeletons, and computes their joints.

The tests have forward kinematics of their own, by rotation vectors.
"""

import numpy as np
from scipy.spatial.transform import Rotation

AXES = {"X": [1.0, 0.0, 0.0], "Y": [0.0, 1.0, 0.0], "Z": [0.0, 0.0, 1.0]}
# Parent, and offset in metres, y up, facing z. The names are those in CMU's motion as BVH.
BVH_TREE = {
    "Hips": (None, (0, 0, 0)),
    "LeftUpLeg": ("Hips", (0.1, -0.08, 0.02)),
    "LeftLeg": ("LeftUpLeg", (0.02, -0.41, 0)),
    "LeftFoot": ("LeftLeg", (0, -0.4, 0.01)),
    "RightUpLeg": ("Hips", (-0.1, -0.08, 0.02)),
    "RightLeg": ("RightUpLeg", (-0.02, -0.41, 0)),
    "RightFoot": ("RightLeg", (0, -0.4, 0)),
    "Spine": ("Hips", (0, 0.11, -0.01)),
    "Neck": ("Spine", (0, 0.23, 0)),
    "Neck1": ("Neck", (0, 0.09, 0)),
    "Head": ("Neck1", (0, 0.09, 0)),
    "LeftArm": ("Neck", (0.18, -0.03, 0)),
    "LeftForeArm": ("LeftArm", (0.27, 0, 0)),
    "LeftHand": ("LeftForeArm", (0.24, 0.01, 0)),
    "RightArm": ("Neck", (-0.18, -0.03, 0)),
    "RightForeArm": ("RightArm", (-0.27, 0, 0)),
    "RightHand": ("RightForeArm", (-0.24, 0, 0.01)),
}
# End Sites, and joints whose channels are not the usual three.
ENDS = {
    "Head": (0, 0.1, 0.02),
    "LeftFoot": (0, -0.05, 0.12),
    "RightFoot": (0, -0.05, 0.12),
    "LeftHand": (0.1, 0, 0),
}
BVH_CHANNELS = {
    "Hips": "Xposition Yposition Zposition Zrotation Yrotation Xrotation",
    "LeftLeg": "Xrotation",
    "RightLeg": "Yrotation Xrotation",
    "Neck": "Xposition Yposition Zposition Xrotation Yrotation Zrotation",
}
USUAL = "Zrotation Xrotation Yrotation"
CMU_UNIT = 0.0254 / 0.45
# Parent, direction and length in metres (end relative to the parent's end), axis in degrees,
# degrees of freedom. The names are those in CMU's ASF files.
ASF_TREE = {
    "lhipjoint": ("root", (0.1, -0.08, 0.02), (0, 0, 0), ""),
    "lfemur": ("lhipjoint", (0.15, -0.38, 0), (0, 0, 20), "rx ry rz"),
    "ltibia": ("lfemur", (0.13, -0.38, 0), (0, 0, 20), "rx"),
    "rhipjoint": ("root", (-0.1, -0.08, 0.02), (0, 0, 0), ""),
    "rfemur": ("rhipjoint", (-0.15, -0.38, 0), (0, 0, -20), "rx ry rz"),
    "rtibia": ("rfemur", (-0.13, -0.38, 0), (0, 0, -20), "rx"),
    "lowerback": ("root", (0, 0.11, -0.01), (4, 1, 2), "rx ry rz"),
    "thorax": ("lowerback", (0, 0.23, 0), (0, 0, 0), "rx ry rz"),
    "lowerneck": ("thorax", (0, 0.09, 0), (0, 0, 0), "rx ry rz"),
    "upperneck": ("lowerneck", (0, 0.09, 0), (0, 0, 0), "rx rz"),
    "head": ("upperneck", (0, 0.1, 0.02), (0, 0, 0), ""),
    "lclavicle": ("thorax", (0.18, 0.03, 0), (0, 0, 0), "ry rz"),
    "lhumerus": ("lclavicle", (0.27, 0, 0), (180, 30, 90), "rx ry rz"),
    "lradius": ("lhumerus", (0.19, 0, 0), (180, 30, 90), "rx"),
    "lwrist": ("lradius", (0.09, 0, 0), (180, 30, 90), "ry"),
    "rclavicle": ("thorax", (-0.18, 0.03, 0), (0, 0, 0), "ry rz"),
    "rhumerus": ("rclavicle", (-0.27, 0, 0), (180, -30, -90), "rx ry rz"),
    "rradius": ("rhumerus", (-0.19, 0, 0), (180, -30, -90), "rx"),
    "rwrist": ("rradius", (-0.09, 0, 0), (180, -30, -90), "ry"),
}


def swing(rng: np.random.Generator, frames: int, seconds: float) -> np.ndarray:
    """Makes a smooth angle in degrees, `[F]`."""
    time = np.linspace(0, seconds, frames)
    return rng.normal(0, 15) + 25 * np.sin(
        2 * np.pi * rng.uniform(0.2, 0.7) * time + rng.uniform(0, 6)
    )


def about(axis: str, degrees: float) -> np.ndarray:
    """Makes a rotation matrix about x, y or z."""
    return Rotation.from_rotvec(np.radians(degrees) * np.asarray(AXES[axis.upper()])).as_matrix()


def bvh(seed: int, frames: int, fps: float, unit: float) -> tuple[str, dict[str, np.ndarray]]:
    """Makes a BVH file's text, and its joints' positions in metres `[F, 3]`.

    Its lengths are in units of `unit` metres.
    """
    rng = np.random.default_rng(seed)
    channels = {
        name: (BVH_CHANNELS[name] if name in BVH_CHANNELS else USUAL).split() for name in BVH_TREE
    }
    values = {
        name: np.stack([swing(rng, frames, frames / fps) for _ in channels[name]], axis=1)
        for name in BVH_TREE
    }
    values["Hips"][:, :3] = (np.asarray([0.3, 0.9, -0.2]) + 0.01 * values["Hips"][:, :3]) / unit
    values["Neck"][:, :3] = (
        np.asarray(BVH_TREE["Neck"][1]) / unit + 0.001 * values["Neck"][:, :3] / unit
    )
    order: list[str] = []

    def joint(name: str, indent: str) -> str:
        order.append(name)
        children = [child for child, (parent, _) in BVH_TREE.items() if parent == name]
        kind = "ROOT" if BVH_TREE[name][0] is None else "JOINT"
        offset = " ".join(f"{value / unit:.7f}" for value in BVH_TREE[name][1])
        text = f"{indent}{kind} {name}\n{indent}{{\n{indent}\tOFFSET {offset}\n"
        text += f"{indent}\tCHANNELS {len(channels[name])} {' '.join(channels[name])}\n"
        text += "".join(joint(child, indent + "\t") for child in children)
        if name in ENDS:
            offset = " ".join(f"{value / unit:.7f}" for value in ENDS[name])
            text += f"{indent}\tEnd Site\n{indent}\t{{\n{indent}\t\tOFFSET {offset}\n{indent}\t}}\n"
        return text + f"{indent}}}\n"

    text = (
        "HIERARCHY\n" + joint("Hips", "") + f"MOTION\nFrames: {frames}\nFrame Time: {1 / fps:.7f}\n"
    )
    for frame in range(frames):
        text += " ".join(f"{value:.7f}" for name in order for value in values[name][frame]) + "\n"
    places = {
        name: np.empty((frames, 3)) for name in [*BVH_TREE, *(f"{name}_End" for name in ENDS)]
    }
    for frame in range(frames):
        world: dict[str, np.ndarray] = {}
        for name, (parent, offset) in BVH_TREE.items():
            own = np.eye(4)
            own[:3, 3] = offset
            for channel, value in zip(channels[name], values[name][frame], strict=True):
                if channel.endswith("position"):
                    own["XYZ".index(channel[0]), 3] = value * unit
                else:
                    own[:3, :3] = own[:3, :3] @ about(channel[0], value)
            world[name] = own if parent is None else world[parent] @ own
            places[name][frame] = world[name][:3, 3]
        for name, offset in ENDS.items():
            places[f"{name}_End"][frame] = (world[name] @ [*offset, 1])[:3]
    return text, places


def asf_amc(seed: int, frames: int, fps: float) -> tuple[str, str, dict[str, np.ndarray]]:
    """Makes an ASF and an AMC text in CMU's units, and the bones' ends in metres `[F, 3]`."""
    rng = np.random.default_rng(seed)
    text = "# made up\n:version 1.10\n:name made_up\n:units\n  mass 1.0\n  length 0.45\n"
    text += "  angle deg\n:documentation\n  none\n:root\n"
    text += "   order TX TY TZ RX RY RZ\n   axis XYZ\n   position 0 0 0\n"
    text += "   orientation 0 0 0\n:bonedata\n"
    for number, (name, (_, offset, axis, dof)) in enumerate(ASF_TREE.items(), 1):
        length = np.linalg.norm(offset)
        direction = " ".join(f"{value / length:.9f}" for value in offset)
        text += f"  begin\n     id {number}\n     name {name}\n     direction {direction}\n"
        text += f"     length {length / CMU_UNIT:.8f}\n     axis {' '.join(map(str, axis))}  XYZ\n"
        if dof:
            limits = "\n            ".join("(-180.0 180.0)" for _ in dof.split())
            text += f"    dof {dof}\n    limits {limits}\n"
        text += "  end\n"
    text += ":hierarchy\n  begin\n"
    for parent in ["root", *ASF_TREE]:
        children = [name for name, (above, *_) in ASF_TREE.items() if above == parent]
        text += f"    {parent} {' '.join(children)}\n" if children else ""
    text += "  end\n"
    moving = {name: len(dof.split()) for name, (*_, dof) in ASF_TREE.items() if dof}
    values = {
        name: np.stack([swing(rng, frames, frames / fps) for _ in range(count)], axis=1)
        for name, count in moving.items()
    }
    root = np.stack([swing(rng, frames, frames / fps) for _ in range(6)], axis=1)
    root[:, :3] = (np.asarray([0.1, 0.95, 0.2]) + 0.01 * root[:, :3]) / CMU_UNIT
    motion = "#!OML:ASF made_up.ASF\n:FULLY-SPECIFIED\n:DEGREES\n"
    places = {name: np.empty((frames, 3)) for name in ["root", *ASF_TREE]}
    for frame in range(frames):
        motion += f"{frame + 1}\nroot {' '.join(f'{value:.7f}' for value in root[frame])}\n"
        motion += "".join(
            f"{name} {' '.join(f'{value:.7f}' for value in rows[frame])}\n"
            for name, rows in values.items()
        )
        turn = {
            "root": about("z", root[frame, 5])
            @ about("y", root[frame, 4])
            @ about("x", root[frame, 3])
        }
        places["root"][frame] = root[frame, :3] * CMU_UNIT
        for name, (parent, offset, axis, dof) in ASF_TREE.items():
            axes = about("z", axis[2]) @ about("y", axis[1]) @ about("x", axis[0])
            own = np.eye(3)
            for letter, value in zip(dof.split(), values[name][frame] if dof else (), strict=True):
                own = about(letter[1], value) @ own
            turn[name] = turn[parent] @ axes @ own @ axes.T
            places[name][frame] = places[parent][frame] + turn[name] @ np.asarray(offset, float)
    return text, motion, places
