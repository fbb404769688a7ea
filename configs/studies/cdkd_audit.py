"""CDKD's audit: without distillation, as released, as published, our own, and each change.

Each change is tried alone.

  python -m kdpose_jax.study.runner configs/studies/cdkd_audit.py
      demo: generated pictures.
  python -m kdpose_jax.study.runner configs/studies/cdkd_audit.py:pictures,size=32
      --config.data.records=DIR
      Photographs, with narrow networks.
  python -m kdpose_jax.study.runner configs/studies/cdkd_audit.py:mpii32 --config.data.records=DIR
      Or mpii64, coco32, coco64. teacher=RUN takes a teacher that exists.
"""

from configs import blocks, cdkd
from configs.studies.parts import published
from kdpose_jax.study.declare import Of, Row, Run, Study

PCKH = (("pckh", "PCKh@0.5", "{:.1f}"), ("pckh_0.1", "PCKh@0.1", "{:.1f}"))
AP = (("ap", "AP", "{:.4f}"), ("ap_50", "AP50", "{:.4f}"))
COLUMNS = {
    "demo": PCKH,
    "pictures": (("pck", "PCK@0.2", "{:.1f}"),),
    "mpii32": PCKH,
    "mpii64": PCKH,
    "coco32": AP,
    "coco64": AP,
}
SMALL = ("demo", "pictures")  # every mode has Kronecker projectors and low temperatures here
# One change of `plus` made in `paper`, or one slip of the release put back into `paper`.
ALONE = {
    "hat": ("paper, unbiased class alignment", {"distill.alignment.grouping": "hat"}),
    "shift": ("paper, exact flip shift", {"decode.flip_shift": "exact"}),
    "expectation": ("paper, decoded by expectation", {"decode.coordinate": "expectation"}),
    "gaussian": (
        "paper, Gaussian labels",
        {"student.loss.form": "mean_gaussian", "student.loss.smoothing": 0.0},
    ),
    "detached": (
        "paper, maps detached as released",
        {"distill.projection.student_gradient": False},
    ),
    "projectors": (
        "paper, projectors untrained as released",
        {"distill.projection.trained": False},
    ),
    "temperature": (
        "paper, temperature untrained as released",
        {"distill.temperature.trained": False},
    ),
    "reversal": (
        "paper, reversal without its sign as released",
        {"distill.temperature.reversal": (1.0, 0.0)},
    ),
    "target": (
        "paper, no gradient through the target as released",
        {"distill.alignment.target_gradient": False},
    ),
    "projection": ("paper, projectors alone", {"distill.weights.alignment": 0.0}),
    "alignment": ("paper, class alignment alone", {"distill.weights.projection": 0.0}),
}
HIGH = {"range": ("paper, temperatures from 1 to 21", {"distill.temperature.range": 20.0})}
LOW = {"range": ("paper, temperatures from 1 to 4", {"distill.temperature.range": 3.0})}
KRONECKER = {"kron": ("paper, Kronecker projectors", {"distill.projection.kind": "kron"})}


def get_study(text: str = "") -> Study:
    """Builds the study of `configs/studies/cdkd_audit.py[:preset[,size=32][,teacher=RUN]]`."""
    options = {"teacher": "new", **({"size": 32} if text.startswith("pictures") else {})}
    preset, chosen = blocks.parse_preset(text, tuple(COLUMNS), options)
    size = f",size={chosen['size']}" if preset == "pictures" else ""
    teacher = Of("paper", "teacher") if chosen["teacher"] == "new" else chosen["teacher"]
    fields = {"data.records": Of("paper", "data"), "teacher.checkpoint": teacher}

    # There `plus` has 4 bins per pixel, so it cannot share the teacher of `paper`.
    own_teacher = (
        {"teacher.checkpoint": Of("plus", "teacher")} if preset in ("mpii32", "coco32") else {}
    )
    alone = {**ALONE, **(HIGH if preset in SMALL else {**LOW, **KRONECKER})}
    changes = {name: dict(changed) for name, (_, changed) in alone.items()}
    paper = cdkd.get_config(f"{preset},mode=paper{size}")
    changes["gaussian"]["student.loss.sigma"] = 2.0 * paper.data.split_ratio / 3.0  # as in `plus`

    def run(name: str, mode: str, **further: str | float | bool) -> Run:
        return Run(name, f"configs/cdkd.py:{preset},mode={mode}{size}", {**fields, **further})

    return Study(
        name=f"cdkd_audit_{preset}" + (str(chosen["size"]) if size else ""),
        title="CDKD's audit",
        runs=(
            run("paper", "paper"),
            run("release", "release", baseline=False),
            run("plus", "plus", **own_teacher),
            *(run(name, "paper", baseline=False, **changed) for name, changed in changes.items()),
        ),
        rows=(
            Row("teacher", "paper", "teacher", seeds=1),
            Row("student, no distillation", "paper", "baseline"),
            Row("release", "release"),
            Row("paper", "paper"),
            Row("plus without distillation", "plus", "baseline"),
            Row("plus", "plus"),
            *(Row(title, name) for name, (title, _) in alone.items()),
        ),
        columns=COLUMNS[preset],
        unit="person",
        reference="student, no distillation",
        best_is_lowest=False,
        published=() if preset.startswith("coco") else (published.MPII,),
    )
