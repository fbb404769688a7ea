"""What studies of lifting networks share: data, teacher, columns."""

from typing import Any

from configs import common
from kdpose_jax.report.comparison import Of, Run

DATA = ("demo", "mocap", "h36m")
COLUMNS = (("mpjpe_mm", "MPJPE mm", "{:.2f}"), ("p_mpjpe_mm", "P-MPJPE mm", "{:.2f}"), ("mpjve_mm", "MPJVE mm", "{:.2f}"))
# Of the student: width and depth, smallest first; the config's own is the second.
SIZES = {
    "demo": ((8, 2), (16, 2), (24, 2), (32, 2)),
    "mocap": ((16, 2), (32, 2), (32, 4), (64, 2)),
    "h36m": ((128, 8), (256, 8), (256, 4), (128, 4)),
}
# Of the teacher.
TEACHERS = {"demo": ((16, 2), (32, 2), (48, 2)), "mocap": ((32, 4), (64, 4), (96, 4)), "h36m": ((256, 8), (512, 8))}
WITHOUT = {"distill.weights.embedding": 0.0, "distill.weights.attention": 0.0, "distill.weights.temporal": 0.0}


def parse(text: str) -> tuple[str, str]:
    """Data and teacher, of `mocap,teacher=PATH`."""
    data, chosen = common.parse_preset(text, DATA, {"teacher": "new"})
    return data, chosen["teacher"]


def scjd(data: str) -> str:
    """The config of SCJD on some data."""
    return f"configs/scjd.py:{data}"


def shared(owner: str, teacher: str) -> dict[str, Any]:
    """Records and teacher that one run makes for all; demo's are generated, others' given with --config.data.records or source.

    Args:
      owner: the run that makes them.
      teacher: `new`: made by the owner too; or a run that exists.
    """
    return {"data.records": Of(owner, "data"), "teacher.checkpoint": Of(owner, "teacher") if teacher == "new" else teacher}


def alone(name: str, data: str, fields: dict[str, Any], **further: Any) -> Run:
    """A student trained by SCJD's config, without its twin that learns without distillation."""
    return Run(name, scjd(data), {**fields, "baseline": False, **further})
