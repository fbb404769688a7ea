"""Holds what studies of lifting networks share: data, teacher and columns."""

from typing import Any

from configs import blocks
from configs.studies.parts import published
from kdpose_jax.study.declare import Of, Published, Run

DATA = ("demo", "mocap", "h36m", "3dhp")
HUMAN36M_COLUMNS = (
    ("mpjpe_mm", "MPJPE mm", "{:.2f}"),
    ("p_mpjpe_mm", "P-MPJPE mm", "{:.2f}"),
    ("mpjve_mm", "MPJVE mm", "{:.2f}"),
)
COLUMNS = dict.fromkeys(DATA, HUMAN36M_COLUMNS)
COLUMNS["3dhp"] = (
    ("mpjpe_mm", "MPJPE mm", "{:.2f}"),
    ("pck", "PCK", "{:.2f}"),
    ("auc", "AUC", "{:.2f}"),
)
PUBLISHED: dict[str, tuple[Published, ...]] = {
    **dict.fromkeys(DATA, (published.HUMAN36M,)),
    "3dhp": (published.THREE_DHP,),
}
# Width and depth of the student. The second pair is the config's own.
FULL_SIZES = ((128, 8), (256, 8), (256, 4), (128, 4))
SIZES = {
    "demo": ((8, 2), (16, 2), (24, 2)),
    "mocap": ((16, 2), (32, 2), (32, 4), (64, 2)),
    "h36m": FULL_SIZES,
    "3dhp": FULL_SIZES,
}
# Width and depth of the teacher.
FULL_TEACHERS = ((256, 8), (512, 8))
TEACHERS = {
    "demo": ((16, 2), (32, 2), (48, 2)),
    "mocap": ((32, 4), (64, 4), (96, 4)),
    "h36m": FULL_TEACHERS,
    "3dhp": FULL_TEACHERS,
}


def parse(text: str, allowed: tuple[str, ...] = DATA) -> tuple[str, str]:
    """Splits `mocap,teacher=PATH` into data and teacher."""
    data, chosen = blocks.parse_preset(text, allowed, {"teacher": "new"})
    return data, chosen["teacher"]


def scjd(data: str) -> str:
    """Names the config of SCJD on some data."""
    return f"configs/scjd.py:{data}"


def size(block: str, width: int, depth: int) -> dict[str, int]:
    """Sets the fields of a network's size. `block` is teacher or student."""
    return {f"{block}.network.width": width, f"{block}.network.depth": depth}


def shared(owner: str, teacher: str) -> dict[str, Any]:
    """Sets the fields by which all runs share the records and the teacher of one run.

    The records of demo are generated. Others are given with --config.data.records or source.

    Args:
      owner: names the run that makes them.
      teacher: `new` if the owner makes the teacher too, or the path of a run that exists.
    """
    return {
        "data.records": Of(owner, "data"),
        "teacher.checkpoint": Of(owner, "teacher") if teacher == "new" else teacher,
    }


def alone(name: str, data: str, fields: dict[str, Any], **further: Any) -> Run:
    """Declares a student of SCJD's config, without the baseline run beside it."""
    return Run(name, scjd(data), {**fields, "baseline": False, **further})
