"""Every lifting network under one budget.

Every network predicts every frame equally often, and all are scored on the same frames. MixSTE is
SCJD's teacher.

  python -m kdpose_jax.study.runner configs/studies/lifters.py
      demo: generated motion.
  python -m kdpose_jax.study.runner configs/studies/lifters.py:mocap --config.data.records=DIR
      epochs=0.25 makes a short study. teacher=RUN takes a teacher that exists.
  python -m kdpose_jax.study.runner configs/studies/lifters.py:h36m --config.data.records=DIR
      Each network by its published recipe instead.
"""

from typing import Any

from configs import blocks
from configs.studies.parts import lifting
from kdpose_jax.study.declare import Of, Row, Run, Study

DATA = ("demo", "mocap", "h36m")
TITLES = {
    "mixste": "MixSTE",
    "mixste_hot": "HoT on MixSTE",
    "poseformer_v2": "PoseFormerV2",
    "videopose3d": "VideoPose3D",
}
BUDGET = (
    "One budget: every network predicts every training frame equally often, in batches of as many "
    "frames, with one optimiser and learning rate (windows that are filled up at the ends of "
    "sequences make a few steps more), and is scored on every frame once."
)
# Width of a VideoPose3D with as many multiply-adds per frame as SCJD's student. At the other sizes
# it already has no more.
NARROW = {"mocap": 144}
APART = " The teacher of SCJD's students was trained apart, and may have had more."
RECIPES = (
    "Every network has the optimiser, batch and epochs of its own publication (but VideoPose3D "
    "Adam for AMSGrad), SCJD's students those of configs/scjd.py."
)


def get_study(text: str = "") -> Study:
    """Builds the study of `configs/studies/lifters.py[:data[,epochs=E,teacher=RUN]]`."""
    data, chosen = blocks.parse_preset(text, DATA, {"epochs": 0.0, "teacher": "new"})
    epochs, given = chosen["epochs"], chosen["teacher"] != "new"
    options = f"data={data}" + (f",epochs={epochs:g}" if epochs else "")
    records = {"data.records": Of("mixste", "data")}
    width, depth = lifting.SIZES[data][1]
    teacher = chosen["teacher"] if given else Of("mixste", "student")
    student = {**records, "teacher.checkpoint": teacher, **like_the_others(data, epochs)}
    narrowed = [{"student.network.width": NARROW[data]}] if data in NARROW else []
    small = f"MixSTE, width {width}, depth {depth}"
    return Study(
        name=f"lifters_{data}",
        title="Lifting networks under one budget"
        if data != "h36m"
        else "Lifting networks by their recipes",
        runs=(
            *(Run(name, f"configs/lifters.py:{name},{options}", records) for name in TITLES),
            *(
                Run(
                    "videopose3d_narrow",
                    f"configs/lifters.py:videopose3d,{options}",
                    {**records, **narrow},
                )
                for narrow in narrowed
            ),
            Run(
                "mixste_small",
                f"configs/lifters.py:mixste,{options}",
                {**records, **lifting.size("student", width, depth)},
            ),
            Run("scjd", lifting.scjd(data), student),
            Run(
                "scjd_large",
                lifting.scjd(data),
                {**student, **lifting.size("student", *large(data)), "baseline": False},
            ),
        ),
        rows=(
            *([Row("SCJD's teacher, MixSTE", "scjd", "teacher", seeds=1)] if given else []),
            *(Row(title, name) for name, title in TITLES.items()),
            *(
                Row(f"VideoPose3D, width {narrow['student.network.width']}", "videopose3d_narrow")
                for narrow in narrowed
            ),
            Row(small, "mixste_small"),
            Row(f"{small}, keyframes", "scjd", "baseline"),
            Row(f"{small}, keyframes, SCJD", "scjd"),
            Row("MixSTE, keyframes, SCJD", "scjd_large"),
        ),
        columns=lifting.COLUMNS[data],
        unit="frame",
        reference=f"{small}, keyframes, SCJD",
        published=lifting.PUBLISHED[data],
        fixed=(
            "data.frames",
            "data.training.stride",
            "student.train.accumulate",
            "student.train.batch",
        ),
        note=(BUDGET if data != "h36m" else RECIPES) + (APART if given else ""),
    )


def like_the_others(data: str, epochs: float) -> dict[str, Any]:
    """Sets the fields of configs/scjd.py to what configs/lifters.py has.

    They are the budget, if there is one, and how networks are scored and timed.
    """
    scored: dict[str, Any] = {"eval.settings.windows": "exact"}
    if data == "h36m":
        scored |= {"student.train.evaluate_examples": 27 * 1024 // 243}
    else:
        scored |= {
            "student.train.epochs": epochs or {"demo": 4.0, "mocap": 1.25}[data],
            "student.train.evaluate_examples": 256,
        }
        scored |= {"eval.latency_batches": (1, 16), "eval.latency_runs": 20}
    if data == "h36m" and epochs:
        scored |= {"student.train.epochs": epochs}
    return scored


def large(data: str) -> tuple[int, int]:
    """Returns width and depth of MixSTE in configs/lifters.py."""
    return {"demo": (32, 2), "mocap": (64, 4), "h36m": (512, 8)}[data]
